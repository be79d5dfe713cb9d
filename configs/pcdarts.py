"""PC-DARTS (Xu et al., 2020) on CIFAR-10: partial channels, edge normalisation.

  python -m jnas.main --config=configs/pcdarts.py \
      --config.data.path=cifar-10-python.tar.gz

A quarter of the channels goes through the operators, so batches can be large
and the search takes a third of DARTS's time. Expected after retraining with
drop path 0.3: 2.57 +- 0.07 % test error. :quick searches digits.
"""

from jnas import config as config_lib

ARGUMENTS = ("cifar10", "quick")


def get_config(argument="cifar10"):
  config = config_lib.base()
  config.algo.name = "pcdarts"
  config.space.partial = 4
  if argument == "quick":
    config.space.update(name="s3", cells=3, width=8, nodes=2)
    config.train.update(length="8 epochs", batch=32)
    config.algo.warmup = "2 epochs"
    config.arch.lr = 0.01  # a few hundred steps must do
    return config
  config.train.update(length="50 epochs", batch=256)
  config.algo.warmup = "15 epochs"
  config.weights.update(lr=0.1, lr_end=0.0)
  config.arch.lr = 6e-4
  config.data.update(name="cifar10", crop_pad=4, flip=True)
  return config
