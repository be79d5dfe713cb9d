"""DARTS (Liu et al., 2019) on Penn Treebank: the search of a recurrent cell.

  python -m jnas.main --config=configs/rnn/darts.py:second \
      --config.data.path=ptb

The path is a folder of train.txt, valid.txt and test.txt. :first (the default)
leaves the second-order term out, :second unrolls a step of the weights.
Expected after training (configs/rnn/retrain.py): test perplexity 57.6 and
55.7, of the best of four searches. :quick and :quick_second search the help
texts of Python, by character.
"""

from jnas import config as config_lib

ARGUMENTS = ("first", "second", "quick", "quick_second")


def get_config(argument="first"):
  config = config_lib.base()
  config.data.name = "text"
  config.space.update(name="rnn", nodes=8, width=300)
  config.weights.update(lr=20.0, clip=0.25, decay=5e-7)
  config.arch.update(lr=3e-3, b1=0.9)
  config.train.update(length="50 epochs", batch=256)
  if argument.endswith("second"):
    config.algo.hypergrad = "unrolled"
  if argument.startswith("quick"):
    config.space.update(nodes=4, width=64)
    config.train.update(length="600 steps", batch=32)
    config.language.update(level="character", bptt=25, x=0.2, output=0.2)
    config.weights.lr = 5.0
    config.arch.lr = 0.01  # a few hundred steps must do
    config.log.update(evaluate="200 steps", save="200 steps")
  return config
