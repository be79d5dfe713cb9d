"""EnTranNAS (Yang et al., 2021) on CIFAR-10: engine and transit cells.

  python -m jnas.main --config=configs/entrannas.py:dst \
      --config.data.path=cifar-10-python.tar.gz

:7ops (the default) is the standard space, :12ops the extended one, :dst learns
the topology by sparsification. Expected after retraining: 2.53 +- 0.06 %,
2.22 +- 0.05 % and 2.48 +- 0.08 % test error. :engines=all, half, last or first
are :7ops and the rows of the paper's table 1; :dst=0.2, 0.1 or 0.05 takes the
lambdas of its table 4, but not its setting: configs/imagenet_search.py:dst has
that. tau always ends at the paper's 0.099. :quick, :quick_dst and others search
digits.
"""

from jnas import config as config_lib

ARGUMENTS = "7ops 12ops dst dst=0.2 dst=0.1 dst=0.05".split()
ARGUMENTS += [f"engines={which}" for which in "all half last first".split()]
ARGUMENTS += ("quick", *(f"quick_{name}" for name in ARGUMENTS[2:]))


def get_config(argument="7ops"):
  config = config_lib.base()
  name, _, value = argument.removeprefix("quick_").partition("=")
  config.algo.update(name="dst" if name == "dst" else "entrannas", tau=5.0)
  config.algo.sparsity = float(value or 0.1) if name == "dst" else 0.1
  config.space.sharing = True
  config.space.engines = value if name == "engines" else "first"
  if argument.startswith("quick"):
    config.space.update(name="s2", cells=5, width=8, nodes=2)
    config.train.update(length="12 epochs", batch=32)
    config.arch.lr = 0.02  # a few hundred steps must do
    return config
  ops = "s1_12" if argument == "12ops" else "s1_7"
  config.space.update(name=ops, bottleneck=4)
  config.train.update(length="50 epochs", batch=512)
  config.weights.update(lr=0.2, lr_end=0.0)
  config.arch.lr = 6e-4
  config.data.update(name="cifar10", crop_pad=4, flip=True)
  return config
