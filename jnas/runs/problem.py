"""What a search is given: data, devices, clock, stages."""

from typing import NamedTuple

from jax.sharding import Mesh
import ml_collections

from jnas.data import benchmark, device, sources
from jnas.runs import build, recipe
from jnas.runtime import parallel
from jnas.training.controller import Controller, Stage


class Problem(NamedTuple):
  """What does not change from stage to stage.

  Attributes:
    config: of task "search".
    data: the data set.
    mesh: the devices.
    splits: (train, valid) on them.
    clock: of the whole run.
    stages: decides what is searched.
    table: true accuracies, or None.
  """

  config: ml_collections.ConfigDict
  data: sources.ImageData
  mesh: Mesh
  splits: tuple[device.Split, device.Split]
  clock: build.Clock
  stages: Controller
  table: benchmark.Table | None


def read(config: ml_collections.ConfigDict) -> Problem:
  """The data, the devices and the stages of a config."""
  data = build.load(config)
  mesh = parallel.mesh()
  first, second = sources.split(data.train_y, config.data.share, config.seed)
  splits = build.on_devices(
    mesh,
    *((data.train_x[part], data.train_y[part]) for part in (first, second)),
  )
  clock = build.clock(config, min(len(split.x) for split in splits))
  spec = recipe.spec(config, len(data.classes))
  table = benchmark.load(config.space.table) if config.space.table else None
  if table:
    table.best(config.space.column)  # tells a wrong name before the search
  stages = recipe.stages(config, spec, clock.total)
  return Problem(config, data, mesh, splits, clock, stages, table)


def stage_clock(problem: Problem, stage: Stage) -> build.Clock:
  """The clock of one stage."""
  return build.Clock(problem.clock.per_epoch, stage.stop - stage.start)
