"""Amended DARTS (Bi et al., 2020): the search of section 3.1 on CIFAR-10.

  python -m jnas.main --config=configs/amended_darts.py \
      --config.data.path=cifar-10-python.tar.gz

The default is :s1. Expected: no skip-connect collapse; after retraining
2.71 +- 0.09 % test error (table 1) with pruned edges. :s3 searches among none,
skip and sep 3x3: 2.64 to 2.76 % (table 6). :quick searches digits in minutes.
"""

from jnas import config as config_lib

ARGUMENTS = ("s1", "s3", "quick")


def get_config(argument="s1"):
  config = config_lib.base()
  config.algo.name = "amended"
  config.algo.hypergrad = "amended"
  config.algo.eta = 0.1  # appendix C.1
  config.arch.init = 0.0  # "all operators are assigned equal weights"
  if argument == "quick":
    config.space.update(name="s3", cells=3, width=8, nodes=2)
    config.train.update(length="8 epochs", batch=32)
    config.data.cutout = 2
    config.arch.lr = 0.01  # a few hundred steps must do
    return config
  config.space.name = argument
  config.train.update(length="100 epochs", batch=96)
  config.data.update(name="cifar10", crop_pad=4, flip=True)
  # As in retraining, section 2.4: the paper's hyper-parameter consistency.
  config.data.cutout = 16
  config.train.update(drop_path=0.2, auxiliary=0.4)
  return config
