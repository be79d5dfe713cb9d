"""EnTranNAS (Yang et al., 2021) on CIFAR-10: engine and transit cells.

  python -m jnas.main --config=configs/entrannas.py:dst \
      --config.data.path=cifar-10-python.tar.gz

:7ops (the default) is the standard space, :12ops the extended one, :dst learns
the topology by sparsification. Expected after retraining: 2.53 +- 0.06 %,
2.22 +- 0.05 % and 2.48 +- 0.08 % test error. --config.space.engines=all, half
or last are the other rows of the paper's table 1. :quick and :quick_dst search
digits. The paper gives DST's lambda for ImageNet (0.2, 0.1, 0.05); its video of
a search has 0.1.
"""

from jnas import config as config_lib

ARGUMENTS = ("7ops", "12ops", "dst", "quick", "quick_dst")


def get_config(argument="7ops"):
  config = config_lib.base()
  config.algo.update(name="entrannas", tau=5.0, tau_ratio=0.923)
  if argument.endswith("dst"):
    config.algo.update(name="dst", sparsity=0.1)
  config.space.update(engines="first", sharing=True)
  if argument.startswith("quick"):
    config.space.update(name="s2", cells=5, width=8, nodes=2)
    config.train.update(length="12 epochs", batch=32)
    config.arch.lr = 0.02  # a few hundred steps must do
    return config
  config.space.update(
    name="s1_12" if argument == "12ops" else "s1_7", bottleneck=4
  )
  config.train.update(length="50 epochs", batch=512)
  config.weights.update(lr=0.2, lr_end=0.0)
  config.arch.lr = 6e-4
  config.data.update(name="cifar10", crop_pad=4, flip=True)
  return config
