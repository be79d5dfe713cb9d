"""DARTS (Liu et al., 2019) on CIFAR-10: the baseline, and how it collapses.

  python -m jnas.main --config=configs/darts.py:second \
      --config.data.path=cifar-10-python.tar.gz

:first (the default) leaves the second-order term out, :second unrolls one step
of the weights. Expected after retraining: 3.00 +- 0.14 % and 2.76 +- 0.09 %
test error, from the best of four searches of 50 epochs; searched for 200
epochs both end in skip connections. :one_level has no held-out images but
AutoAugment (Bi et al., 2020, GOLD-NAS, appendix A.2): 2.80 +- 0.06 %, 3.54 %
without AutoAugment. :quick and :quick_second search digits.
"""

from jnas import config as config_lib

ARGUMENTS = ("first", "second", "one_level", "quick", "quick_second")


def get_config(argument="first"):
  config = config_lib.base()
  config.algo.name = "darts"
  if argument.endswith("second"):
    config.algo.hypergrad = "unrolled"
  if argument.startswith("quick"):
    config.space.update(name="s3", cells=3, width=8, nodes=2)
    config.train.update(length="6 epochs", batch=32)
    return config
  config.train.update(length="50 epochs", batch=64)
  config.data.update(name="cifar10", crop_pad=4, flip=True)
  if argument == "one_level":
    config.algo.one_level = True
    config.data.update(share=1.0, autoaugment=True)
  return config
