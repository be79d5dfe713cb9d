"""EnTranNAS (Yang et al., 2021) on CIFAR-10: engine and transit cells.

  python -m jnas.main --config=configs/entrannas.py:dst \
      --config.data.path=cifar-10-python.tar.gz

:7ops (the default) is the standard space, :12ops the extended one, :dst learns
the topology by sparsification. Expected after retraining: 2.53 +- 0.06 %,
2.22 +- 0.05 % and 2.48 +- 0.08 % test error. :engines=all, half, last or first
are :7ops and the rows of the paper's table 1; :dst=0.2, 0.1 or 0.05 sets the
lambda of its table 4, on ImageNet. :quick, :quick_dst and others search digits.
"""

from jnas import config as config_lib

ARGUMENTS = ("7ops", "12ops", "dst", "dst=0.2", "dst=0.1", "dst=0.05")
ARGUMENTS += ("engines=all", "engines=half", "engines=last", "engines=first")
ARGUMENTS += ("quick", *(f"quick_{name}" for name in ARGUMENTS[2:]))


def get_config(argument="7ops"):
  config = config_lib.base()
  config.algo.update(name="entrannas", tau=5.0, tau_ratio=0.923)
  name, _, value = argument.removeprefix("quick_").partition("=")
  if name == "dst":
    config.algo.update(name="dst", sparsity=float(value or 0.1))
  engines = value if name == "engines" else "first"
  config.space.update(engines=engines, sharing=True)
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
