"""Which program carries out a config: by what its space is trained on.

Each is a module with what is asked here. Those that run several of them, such
as a comparison, are not among them.
"""

import pathlib
from types import ModuleType
from typing import Any, NamedTuple

import ml_collections

from jnas.genotype import AnyGenotype
from jnas.runs import build, language, recipe, retrain, search, seeds


class _Programs(NamedTuple):
  """Modules: `run` of two, of a config and a workdir; `load`, of a config."""

  search: ModuleType
  retrain: ModuleType
  data: ModuleType


# By `Space.data`.
_PROGRAMS = {
  "images": _Programs(search, retrain, build),
  "text": _Programs(language, language, language),
}


def _of(config: ml_collections.ConfigDict) -> _Programs:
  return _PROGRAMS[recipe.space(config).data]


def run(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> dict[str, Any]:
  """Searches or retrains; returns what result.json holds.

  Args:
    config: of task "search" or "retrain".
    workdir: where everything is written.

  Raises:
    ValueError, SystemExit: as the program's own `run`.
  """
  if config.seeds > 1:
    return seeds.run(config, workdir)
  return getattr(_of(config), config.task).run(config, workdir)


def load(config: ml_collections.ConfigDict) -> Any:
  """The data of a config.

  Raises:
    ValueError, FileNotFoundError: they cannot be had.
  """
  return _of(config).data.load(config)


def size(
  config: ml_collections.ConfigDict, genotype: AnyGenotype
) -> dict[str, float]:
  """Millions of parameters and, if known, multiply-adds of what it trains.

  Args:
    config: of task "retrain"; its data are read.
    genotype: of the network.
  """
  return _of(config).retrain.size(config, genotype)
