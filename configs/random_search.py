"""Random search with shared weights (Li & Talwalkar, 2019): the baseline.

  python -m jnas.main --config=configs/random_search.py \
      --config.data.path=cifar-10-python.tar.gz

The budget, data and network of configs/darts.py. Expected: DARTS reports 3.29 %
test error of random cells, Amended DARTS's table 1 the same. :quick searches
digits.
"""

from jnas import config as config_lib

ARGUMENTS = ("cifar10", "quick")


def get_config(argument="cifar10"):
  config = config_lib.base()
  config.algo.update(name="random", candidates=20)
  if argument == "quick":
    config.space.update(name="s3", cells=3, width=8, nodes=2)
    config.train.update(length="8 epochs", batch=32)
    config.algo.candidates = 10
    return config
  config.train.update(length="50 epochs", batch=64)
  config.data.update(name="cifar10", crop_pad=4, flip=True)
  return config
