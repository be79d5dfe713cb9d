"""Programs: search, retrain, and the report on what came out."""

from jnas import config
from jnas.algorithms import registry

config.declare(registry.METHODS, registry.find)
