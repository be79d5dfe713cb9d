"""Trains a derived network from scratch, as DARTS does on CIFAR-10.

  python -m jnas.main --config=configs/retrain.py \
      --config.data.path=cifar-10-python.tar.gz \
      --config.retrain.genotype=runs/amended_darts

The genotype is a run, a file, text, or a published cell; DARTS_V2 by default.
Expected for it: 2.76 +- 0.09 % test error, 3,349,342 parameters without the
auxiliary head. :quick trains a small network on digits in a minute.
"""

from jnas import config as config_lib

ARGUMENTS = ("cifar10", "quick")


def get_config(argument="cifar10"):
  config = config_lib.base()
  config.task = "retrain"
  config.retrain.genotype = "DARTS_V2"
  config.weights.lr_end = 0.0
  if argument == "quick":
    config.space.update(cells=3, width=8)
    config.train.update(length="10 epochs", batch=32)
    config.data.cutout = 2
    return config
  config.space.update(cells=20, width=36)
  config.train.update(length="600 epochs", batch=96)
  config.train.update(drop_path=0.2, auxiliary=0.4)
  config.data.update(name="cifar10", crop_pad=4, flip=True, cutout=16)
  return config
