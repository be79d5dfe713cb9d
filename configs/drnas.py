"""DrNAS (Chen et al., 2021) on CIFAR-10: weights drawn from a Dirichlet.

  python -m jnas.main --config=configs/drnas.py \
      --config.data.path=cifar-10-python.tar.gz

Data, budget and network of configs/darts.py, without the paper's progressive
scheme, with which it reports 2.46 % test error after retraining; the penalty
takes the place of the decay of alpha. :quick searches digits.
"""

from jnas import config as config_lib

ARGUMENTS = ("cifar10", "quick")


def get_config(argument="cifar10"):
  config = config_lib.base()
  config.algo.name = "drnas"
  config.arch.decay = 0.0
  if argument == "quick":
    config.space.update(name="s3", cells=3, width=8, nodes=2)
    config.train.update(length="8 epochs", batch=32)
    config.arch.lr = 0.01  # a few hundred steps must do
    return config
  config.train.update(length="50 epochs", batch=64)
  config.arch.lr = 6e-4
  config.data.update(name="cifar10", crop_pad=4, flip=True)
  return config
