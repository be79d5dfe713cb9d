"""Trains a derived network from scratch, as its paper does.

  python -m jnas.main --config=configs/retrain.py:pdarts \
      --config.data.path=cifar-10-python.tar.gz \
      --config.retrain.genotype=runs/pdarts

The genotype is a run, a file, text or a published cell. The default, :cifar10,
is DARTS's recipe: 2.76 +- 0.09 % test error of DARTS_V2, 3,349,342 parameters
without auxiliary head. So are :amended, :entrannas and :gdas. :pdarts 2.50 %,
:pdarts_large 2.25 %; with _cifar100 17.20 and 15.27 % (15.92 and 14.64 % if
searched there); :cifar100 is DARTS's with that decay. :pcdarts 2.57 +- 0.07 %.
:gold_nas 2.99 to 2.53 %. :quick trains on digits in a minute.
"""

from jnas import config as config_lib

PCDARTS = {"retrain.genotype": "PC_DARTS_cifar", "train.drop_path": 0.3}
PDARTS = PCDARTS | {"retrain.genotype": "PDARTS", "train.batch": 128}
CIFAR100 = {"data.name": "cifar100", "weights.decay": 5e-4}
QUICK = {"data.cutout": 2, "space.cells": 3, "space.width": 8}
QUICK |= {"train.length": "10 epochs", "train.batch": 32}
RECIPES = dict.fromkeys(("cifar10", "amended", "entrannas"), {})
RECIPES |= {"pdarts": PDARTS, "pdarts_large": PDARTS | {"space.width": 64}}
RECIPES |= {f"{k}_cifar100": v | CIFAR100 for k, v in [*RECIPES.items()][3:]}
RECIPES |= {"pcdarts": PCDARTS, "gold_nas": {"space.cells": 14}, "quick": QUICK}
RECIPES |= {"gdas": {"retrain.genotype": "GDAS_V1"}, "cifar100": CIFAR100}
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
