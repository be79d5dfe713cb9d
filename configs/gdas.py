"""GDAS (Dong & Yang, 2019) on CIFAR-10: one sampled sub-graph a step.

  python -m jnas.main --config=configs/gdas.py:frc \
      --config.data.path=cifar-10-python.tar.gz

:frc fixes the reduction cell. The paper runs four seeds and takes the cell with
the best validation accuracy: configs/compare.py:gdas does that. Expected after
retraining: 2.93 % test error, 2.82 % with :frc. :quick searches digits.
"""

from jnas import config as config_lib

ARGUMENTS = ("cifar10", "frc", "quick")


def get_config(argument="cifar10"):
  config = config_lib.base()
  config.algo.update(name="gdas", tau=10.0, tau_end=1.0)
  if argument == "quick":
    config.space.update(name="s3", cells=3, width=8, nodes=2)
    config.train.update(length="10 epochs", batch=32)
    config.arch.lr = 0.02  # a few hundred steps must do
    return config
  config.space.fixed_reduction = argument == "frc"
  config.train.update(length="240 epochs", batch=64)
  config.data.update(name="cifar10", crop_pad=4, flip=True)
  return config
