"""Searches on ImageNet, on the subsets and with the settings of the papers.

  python -m jnas.main --config=configs/imagenet_search.py:pcdarts \
      --config.data.path=ILSVRC2012

Weights see 10 % and alpha 2.5 % of each class in :pcdarts (24.2 % test error
after configs/imagenet.py). 100 classes are :entrannas (24.3 %), :dst (23.8 %,
the best of five) and :gold_nas (24.0 %, the largest network of its Pareto set
below 600 M multiply-adds, widths 44 to 48). :quick is PC-DARTS on digits.
"""

from jnas import config as config_lib

ARGUMENTS = ("pcdarts", "entrannas", "dst", "gold_nas", "quick")
PCDARTS = {"algo.name": "pcdarts", "space.partial": 2, "data.classes": 0}
PCDARTS |= {"data.portion": 0.125, "data.share": 0.8}
PCDARTS |= {"algo.warmup": "35 epochs", "weights.warmup": "5 epochs"}
QUICK = PCDARTS | {"algo.warmup": "2 epochs", "weights.warmup": "1 epochs"}
QUICK |= {"data.name": "digits", "data.portion": 1.0, "train.batch": 32}
QUICK |= {"space.cells": 3, "train.length": "8 epochs"}
TRANSIT = {"space.bottleneck": 4, "space.sharing": True, "space.name": "s1_7"}
TRANSIT |= {"algo.name": "entrannas", "space.engines": "first", "algo.tau": 5.0}
DST = TRANSIT | {"algo.name": "dst", "algo.tau": 1.0, "algo.tau_ratio": 0.9}
GOLD = {"algo.name": "goldnas", "gold.flops_min": 500.0, "space.name": "s2"}
GOLD |= {"space.cells": 14, "space.width": 44, "train.length": "1000 epochs"}
GOLD |= {"space.shared": False, "data.share": 1.0, "arch.optimizer": "sgd"}
GOLD |= {"arch.lr": 1.0, "arch.decay": 0.0, "arch.init": 0.0, "train.batch": 96}
GOLD |= {"weights.lr": 0.01, "weights.lr_end": 0.01, "gold.mu": 0.0}
SETTINGS = (PCDARTS, TRANSIT, DST | {"algo.sparsity": 0.2}, GOLD, QUICK)


def get_config(argument="pcdarts"):
  config = config_lib.base()
  config.data.update(name="imagenet", crop_area=0.08, flip=True, classes=100)
  config.data.update(colour_jitter=0.4, hue_jitter=0.2)
  config.space.stem, config.arch.lr = "imagenet", 6e-3
  config.train.update(length="50 epochs", batch=1024)
  config.weights.update(lr=0.5, lr_end=0.0)
  config.update_from_flattened_dict(SETTINGS[ARGUMENTS.index(argument)])
  return config
