"""Programs: search, retrain, and the report on what came out."""

from jnas import config
from jnas.algorithms import registry as algorithms
from jnas.spaces import registry as spaces

config.declare(
  config.Kind(algorithms.METHODS, algorithms.find),
  config.Kind(spaces.SPACES, spaces.find),
)
