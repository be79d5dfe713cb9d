"""Amended DARTS (Bi et al., 2020) on Penn Treebank: section 3.3.

  python -m jnas.main --config=configs/rnn/amended.py --config.data.path=ptb

DARTS's search (configs/rnn/darts.py) with the amended hypergradient, and with
the weight decay and the dropout of the training that follows. The paper goes on
until the cell does not change. Expected after configs/rnn/retrain.py: test
perplexity 54.8. :quick searches the help texts of Python, by character.
"""

from jnas import config as config_lib

ARGUMENTS = ("ptb", "quick")


def get_config(argument="ptb"):
  config = config_lib.base()
  config.algo.update(name="amended", hypergrad="amended", eta=0.1)
  config.data.name = "text"
  config.space.update(name="rnn", nodes=8, width=300)
  config.weights.update(lr=20.0, clip=0.25, decay=8e-7)
  config.arch.update(lr=3e-3, b1=0.9)
  config.train.update(length="200 epochs", batch=256)
  config.language.words = 0.1
  if argument == "quick":
    config.space.update(nodes=4, width=64)
    config.train.update(length="300 steps", batch=32)
    config.language.update(level="character", bptt=25, words=0.0)
    config.language.update(x=0.2, output=0.2)
    config.weights.lr = 5.0
    config.arch.lr = 0.01  # a few hundred steps must do
    config.log.update(evaluate="100 steps", save="100 steps")
  return config
