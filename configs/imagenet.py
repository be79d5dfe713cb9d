"""Trains a derived network on ImageNet (ILSVRC2012), as its paper does.

  python -m jnas.main --config=configs/imagenet.py:pdarts \
      --config.data.path=ILSVRC2012 --config.retrain.genotype=runs/pdarts

The folder has train/CLASS/IMAGE and val/CLASS/IMAGE. The default, :darts, is
DARTS's recipe: 26.7 % test error of DARTS_V2, 4,718,752 parameters without the
auxiliary head. :pdarts 24.4 %, :pcdarts 24.2 %, :entrannas 23.8 to 24.8 %,
:amended 24.3 %, :gold_nas 24.0 % (width 44 to 48), :gdas 27.5 % of GDAS_F1. The
width of the mobile setting is what `jnas cost GENOTYPE --image-size=224
--max-macs=600e6` finds. :quick trains a small network on digits in a minute.
"""

from jnas import config as config_lib

# P-DARTS's, and of those that follow it; warm-up as in the published code.
LINEAR = {"train.batch": 1024, "weights.lr": 0.5, "weights.schedule": "linear"}
LINEAR |= {"weights.warmup": "5 epochs", "space.auxiliary_norm": True}
PCDARTS = {"retrain.genotype": "PC_DARTS_image", "space.auxiliary_norm": False}
RECIPES = {"darts": {}, "pdarts": LINEAR | {"retrain.genotype": "PDARTS"}}
RECIPES |= dict.fromkeys(("amended", "entrannas", "gold_nas"), LINEAR)
RECIPES |= {"pcdarts": LINEAR | PCDARTS}
RECIPES["gdas"] = {"retrain.genotype": "GDAS_F1", "space.width": 52}
QUICK = {"train.length": "10 epochs", "train.batch": 32, "data.name": "digits"}
RECIPES["quick"] = QUICK | {"space.cells": 3, "space.width": 16}
ARGUMENTS = tuple(RECIPES)


def get_config(argument="darts"):
  config = config_lib.base()
  config.task, config.retrain.genotype = "retrain", "DARTS_V2"
  config.space.update(cells=14, width=48, stem="imagenet", auxiliary_norm=False)
  config.train.update(length="250 epochs", batch=128, auxiliary=0.4)
  config.train.label_smoothing = 0.1
  config.weights.update(lr=0.1, schedule="exponential", lr_end=0.0, decay=3e-5)
  config.data.update(name="imagenet", crop_area=0.08, flip=True)
  config.data.update(colour_jitter=0.4, hue_jitter=0.2)
  config.update_from_flattened_dict(RECIPES[argument])
  return config
