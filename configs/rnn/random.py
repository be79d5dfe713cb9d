"""Random search with shared weights on Penn Treebank: the baseline.

  python -m jnas.main --config=configs/rnn/random.py --config.data.path=ptb

The budget, text and network of configs/rnn/darts.py. Expected after
configs/rnn/retrain.py: DARTS reports a test perplexity of 59.4 of random
cells. :quick searches the help texts of Python, by character.
"""

from jnas import config as config_lib

ARGUMENTS = ("ptb", "quick")


def get_config(argument="ptb"):
  config = config_lib.base()
  config.algo.update(name="random", candidates=20)
  config.data.name = "text"
  config.space.update(name="rnn", nodes=8, width=300)
  config.weights.update(lr=20.0, clip=0.25, decay=5e-7)
  config.train.update(length="50 epochs", batch=256)
  if argument == "quick":
    config.space.update(nodes=4, width=64)
    config.train.update(length="600 steps", batch=32)
    config.language.update(level="character", bptt=25, x=0.2, output=0.2)
    config.weights.lr = 5.0
    config.algo.candidates = 5
    config.log.update(evaluate="200 steps", save="200 steps")
  return config
