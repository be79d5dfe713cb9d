"""Trains the Pareto sets of GOLD-NAS (Bi et al., 2020) under one budget.

  python -m jnas.main --config=configs/pareto.py \
      --config.data.path=cifar-10-python.tar.gz

The report draws test accuracy against multiply-adds and parameters (figure 1)
and lambda and cost against epochs (figure 4), and has three networks that are
pruned at random beside them. pareto.searches are folders of searches, or config
files, which are searched first: configs/gold_nas.py:mu=0 and :mu=1. Expected,
with six networks of each, trained three times: 2.99 % test error with 245 M
multiply-adds to 2.53 % with 546 M; on a V100 10 hours a search and 0.3 to 1.2
days a training. It goes on where it was stopped. :quick prunes digits and
trains what it records and two at random, in some minutes.
"""

from jnas import config as config_lib

ARGUMENTS = ("cifar10", "quick")


def get_config(argument="cifar10"):
  config = config_lib.base()
  config.task, config.weights.lr_end = "pareto", 0.0
  if argument == "quick":
    fast = "gold.lambda0=0.05 gold.t0=0 gold.rebuild=0.9 train.length=20epochs"
    config.pareto.searches = (f"configs/gold_nas.py:quick {fast}",)
    config.pareto.update(most=4, random=2)
    config.train.update(length="5 epochs", batch=32)
    return config
  files = ("configs/gold_nas.py:mu=0", "configs/gold_nas.py:mu=1")
  config.pareto.searches = files
  config.train.update(length="600 epochs", batch=96)
  config.train.update(drop_path=0.2, auxiliary=0.4)
  config.retrain.seeds = 3  # each is trained three times, section 4.2
  config.data.update(name="cifar10", crop_pad=4, flip=True, cutout=16)
  return config
