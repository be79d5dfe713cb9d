"""Trains a recurrent cell as a language model, as DARTS and GDAS do.

  python -m jnas.main --config=configs/rnn/retrain.py:ptb \
      --config.data.path=ptb --config.retrain.genotype=runs/rnn_darts

The genotype is a run, a file, text, or a published cell: DARTS_V1, DARTS_V2
(the default), GDAS, ENAS. :ptb is DARTS's training on Penn Treebank, expected
58.1 and 55.7 (validation and test perplexity, 22,960,000 parameters) of
DARTS_V2; :wt2 that on WikiText-2, 71.2 and 69.6. :gdas_ptb and :gdas_wt2 are
as long as GDAS's. :quick trains on the help texts of Python, by character.
"""

from jnas import config as config_lib

ARGUMENTS = ("ptb", "wt2", "gdas_ptb", "gdas_wt2", "quick")
EPOCHS = {"ptb": 8000, "wt2": 8000, "gdas_ptb": 2000, "gdas_wt2": 3000}


def get_config(argument="ptb"):
  config = config_lib.base()
  config.task = "retrain"
  config.retrain.genotype = "DARTS_V2"
  config.data.name = "text"
  config.space.update(name="rnn", width=850)
  config.weights.update(lr=20.0, clip=0.25, decay=8e-7)
  config.language.update(deviation=5.0, words=0.1)
  if argument == "quick":
    config.space.width = 128
    config.train.update(length="6 epochs", batch=32)
    config.language.update(level="character", bptt=35, test_batch=10)
    config.language.update(words=0.0, x=0.1, output=0.1, hidden=0.1)
    config.weights.lr = 5.0
    return config
  config.train.update(length=f"{EPOCHS[argument]} epochs", batch=64)
  if argument.endswith("wt2"):
    config.space.width = 700
    config.weights.decay = 5e-7
    config.language.hidden = 0.15
  return config
