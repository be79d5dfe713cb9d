"""Random pruning on CIFAR-10: the baseline of GOLD-NAS (Bi et al., 2020, B.4).

  python -m jnas.main --config=configs/random_pruning.py \
      --config.data.path=cifar-10-python.tar.gz

24 networks of the space of configs/gold_nas.py under a budget of FLOPs, each
trained for 100 epochs, the best for 600. Expected: 3.31 +- 0.50 % test error
with 368 +- 73 M multiply-adds and 2.30 +- 0.49 M parameters; 4 GPU-days.
random.jsonl has all networks. :quick takes three on digits, in a minute or two.

Few random prunings are valid when they reach a small budget: of this space 47 %
at 500 M multiply-adds, 3.4 % at 400, 0.3 % at 360. So it is 400 here; the paper
does not say its own.
"""

from jnas import config as config_lib

ARGUMENTS = ("cifar10", "quick")


def get_config(argument="cifar10"):
  config = config_lib.base()
  config.task = "random_pruning"
  config.space.update(name="s2", cells=14, width=36, shared=False)
  config.data.share = 0.9  # the rest of the training images choose the best
  config.weights.lr_end = 0.0
  if argument == "quick":
    config.space.update(cells=4, width=8, nodes=2)
    config.gold.update(flops_min=0.25, candidates=3, trial="4 epochs")
    config.train.update(length="10 epochs", batch=32)
    return config
  config.gold.update(flops_min=400.0, trial="100 epochs")
  config.train.update(length="600 epochs", batch=96)
  config.train.update(drop_path=0.2, auxiliary=0.4)
  config.data.update(name="cifar10", crop_pad=4, flip=True, cutout=16)
  return config
