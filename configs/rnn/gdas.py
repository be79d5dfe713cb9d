"""GDAS (Dong & Yang, 2019) on Penn Treebank: section 4.3.

  python -m jnas.main --config=configs/rnn/gdas.py --config.data.path=ptb

One activation is drawn on each edge, the same for all times of a window. The
temperature falls as on images; the paper does not say it of text. It names
Adam for the weights, with a learning rate of 20: SGD is meant, as in its code.
Expected after configs/rnn/retrain.py:gdas_ptb: test perplexity 57.5. :quick
searches the help texts of Python, by character.
"""

from jnas import config as config_lib

ARGUMENTS = ("ptb", "quick")


def get_config(argument="ptb"):
  config = config_lib.base()
  config.algo.update(name="gdas", tau=10.0, tau_end=1.0)
  config.data.name = "text"
  config.space.update(name="rnn", nodes=8, width=300)
  config.weights.update(lr=20.0, clip=0.25, decay=5e-7)
  config.arch.update(lr=3e-3, b1=0.9)
  config.train.update(length="200 epochs", batch=128)
  if argument == "quick":
    config.space.update(nodes=4, width=64)
    config.train.update(length="600 steps", batch=32)
    config.language.update(level="character", bptt=25, x=0.2, output=0.2)
    config.weights.lr = 5.0
    config.arch.lr = 0.02  # a few hundred steps must do
    config.log.update(evaluate="200 steps", save="200 steps")
  return config
