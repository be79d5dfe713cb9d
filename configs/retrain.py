"""Trains a derived network from scratch, as its paper does.

  python -m jnas.main --config=configs/retrain.py:pdarts \
      --config.data.path=cifar-10-python.tar.gz \
      --config.retrain.genotype=runs/pdarts

The genotype is a run, a file, text or a published cell. The default, :cifar10,
is DARTS's recipe, most papers': 2.76 +- 0.09 % test error of DARTS_V2, with
3,349,342 parameters without the auxiliary head. :pdarts 2.50 %, :pdarts_large
2.25 %; with _cifar100 17.20 and 15.27 %, or 15.92 and 14.64 % if searched
there. :pcdarts 2.57 +- 0.07 %. :gold_nas 2.99 to 2.53 % for what
configs/gold_nas.py finds. :quick trains a small network on digits in a minute.
"""

from jnas import config as config_lib

PDARTS = {"retrain.genotype": "PDARTS", "train.batch": 128}
PDARTS |= {"train.drop_path": 0.3}
CIFAR100 = PDARTS | {"data.name": "cifar100", "weights.decay": 5e-4}
PCDARTS = {"retrain.genotype": "PC_DARTS_cifar", "train.drop_path": 0.3}
QUICK = {"data.cutout": 2, "space.cells": 3, "space.width": 8}
QUICK |= {"train.length": "10 epochs", "train.batch": 32}
RECIPES = {"cifar10": {}, "pdarts": PDARTS, "pdarts_cifar100": CIFAR100}
RECIPES |= {"pcdarts": PCDARTS, "gold_nas": {"space.cells": 14}, "quick": QUICK}
RECIPES["pdarts_large"] = PDARTS | {"space.width": 64}
RECIPES["pdarts_large_cifar100"] = CIFAR100 | {"space.width": 64}
ARGUMENTS = tuple(RECIPES)


def get_config(argument="cifar10"):
  config = config_lib.base()
  config.task, config.retrain.genotype = "retrain", "DARTS_V2"
  config.weights.lr_end = 0.0
  if argument != "quick":
    config.space.update(cells=20, width=36)
    config.train.update(length="600 epochs", batch=96)
    config.train.update(drop_path=0.2, auxiliary=0.4)
    config.data.update(name="cifar10", crop_pad=4, flip=True, cutout=16)
  config.update_from_flattened_dict(RECIPES[argument])
  return config
