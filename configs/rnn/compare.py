"""Which search finds the better recurrent cell, on Penn Treebank?

  python -m jnas.main --config=configs/rnn/compare.py \
      --config.data.path=ptb --config.compare.retrain="100 %"

Four seeds of each, as DARTS and GDAS choose among; with compare.retrain each
cell is trained by configs/rnn/retrain.py:ptb. Expected: mean and deviation of
validation perplexity, the chosen cells; days on a GPU. :quick compares DARTS
with random search on the help texts of Python, and trains each cell briefly.
"""

from jnas import config as config_lib

ARGUMENTS = ("ptb", "quick")
_SEARCHES = ("darts.py:first", "darts.py:second", "amended.py", "gdas.py",
             "random.py")


def get_config(argument="ptb"):
  config = config_lib.base()
  config.task = "compare"
  own, seeds = _SEARCHES, 4
  if argument == "quick":
    own, seeds = ("darts.py:quick", "random.py:quick"), 2
    config.compare.retrain = "25 %"
  config.compare.configs = tuple(f"configs/rnn/{name}" for name in own)
  config.compare.recipe = f"configs/rnn/retrain.py:{argument}"
  config.compare.seeds = seeds
  return config
