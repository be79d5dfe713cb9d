"""DARTS-PT (Wang et al., 2021) on CIFAR-10: operators chosen by perturbation.

  python -m jnas.main --config=configs/darts_pt.py \
      --config.data.path=cifar-10-python.tar.gz

The search of configs/darts.py without none, as in the published code; at its
end each edge keeps the operator without which the supernet loses most held-out
accuracy. The paper trains on between decisions and reports 2.61 +- 0.08 % test
error after retraining; here the weights stay. :quick searches digits.
"""

from jnas import config as config_lib

ARGUMENTS = ("cifar10", "quick")


def get_config(argument="cifar10"):
  config = config_lib.base()
  config.algo.name = "darts_pt"
  if argument == "quick":
    config.space.update(name="s3", cells=3, width=8, nodes=2)
    config.train.update(length="6 epochs", batch=32)
    return config
  config.space.name = "s1_7"
  config.train.update(length="50 epochs", batch=64)
  config.data.update(name="cifar10", crop_pad=4, flip=True)
  return config
