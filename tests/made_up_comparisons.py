"""Config files with a tiny search in them, and comparisons of such."""

from jnas import config as config_lib

TINY = '''
from jnas import config as config_lib

ARGUMENTS = ("one", "two")

def get_config(argument="one"):
  config = config_lib.base()
  config.space.update(name="s3", cells=3, width=4, nodes=1)
  config.data.limit = 160
  config.train.update(length="2 epochs", batch=16)
  config.log.progress = False
  config.weights.lr = 0.05 if argument == "one" else 0.1
  {more}
  return config
'''

# What makes a recipe of it: `more` of `write_config`.
RECIPE = "config.task, config.retrain.genotype = 'retrain', 'DARTS_V2'; "
RECIPE += "config.data.limit = 0; config.space.update(cells=5, width=2)"


def write_config(folder, name="tiny", more=""):
  path = folder / f"{name}.py"
  path.write_text(TINY.replace("{more}", more))
  return path


def comparison(*specs, seeds=2, seed=0, **fields):
  config = config_lib.base()
  config.task = "compare"
  config.seed = seed
  config.compare.update(configs=tuple(map(str, specs)), seeds=seeds)
  config.update_from_flattened_dict(fields)
  config_lib.validate(config)
  return config
