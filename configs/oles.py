"""OLES (Jiang et al., 2023) on CIFAR-10: operators stop before they overfit.

  python -m jnas.main --config=configs/oles.py \
      --config.data.path=cifar-10-python.tar.gz

Data, budget and network of configs/darts.py; each operator's weights stop where
the gradients of both losses by them disagree. Expected after retraining: 2.30 %
test error, of the best search. :quick searches digits with a lower threshold:
with the paper's nearly all operators stop after 20 steps there.
"""

from jnas import config as config_lib

ARGUMENTS = ("cifar10", "quick")


def get_config(argument="cifar10"):
  config = config_lib.base()
  config.algo.name = "oles"
  if argument == "quick":
    config.space.update(name="s3", cells=3, width=8, nodes=2)
    config.train.update(length="6 epochs", batch=32)
    config.arch.lr = 0.01  # a few hundred steps must do
    config.algo.threshold = 0.05
    return config
  config.train.update(length="50 epochs", batch=64)
  config.data.update(name="cifar10", crop_pad=4, flip=True)
  return config
