"""What a search is given: data, devices, clock, stages."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import ml_collections
import numpy as np

from jnas.algorithms import base
from jnas.algorithms.stages import Stage, Stages
from jnas.data import benchmark, device, sources
from jnas.data.files import FileSplit
from jnas.data.fingerprint import fingerprint
from jnas.ops import backend
from jnas.runs import build, feeds, latency, recipe
from jnas.runtime import hosts, parallel


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
    fingerprint: of the data.
    latency: measured milliseconds of operators (`jnas.runs.latency`), or None.
  """

  config: ml_collections.ConfigDict
  data: sources.ImageData
  mesh: Mesh
  splits: tuple[device.Split, device.Split]
  clock: build.Clock
  stages: Stages
  table: benchmark.Table | None
  fingerprint: str
  latency: Mapping[str, float] | None = None

  @property
  def files(self) -> dict[str, Any]:
    """What of it a run keeps, by file name."""
    return {} if self.latency is None else {latency.FILE: dict(self.latency)}


def read(
  config: ml_collections.ConfigDict,
  data: sources.ImageData | None = None,
  devices: Sequence[jax.Device] | None = None,
  place: Callable[..., Any] = feeds.place,
  workdir: str | os.PathLike[str] | None = None,
  measure: bool = True,
) -> tuple[Problem, ...]:
  """The data, the devices and the stages of a config, for each of its seeds.

  Several seeds are for one program: the images are on the devices once, and a
  seed's splits say which are its own.

  Args:
    config: of task "search".
    data: if they are not those that the config names.
    devices: if they are not all.
    place: how data get there, as `feeds.place`.
    workdir: of the run, where one before has kept what it measured.
    measure: whether operators may be timed; not where devices are described.

  Raises:
    ValueError: there are several seeds, and several processes or data that are
      not kept on the devices.
  """
  if config.seeds > 1 and hosts.several():
    raise ValueError(
      "seeds: expected one process, got several; give each seeds of its own"
    )
  data = data or build.load(config)
  if config.seeds == 1:
    mesh = parallel.mesh(devices) if devices else parallel.mesh()
    parts = _parts(config, data)
    own = place(mesh, *((data.train_x[p], data.train_y[p]) for p in parts))
    return (_read(config, data, mesh, own, workdir, measure),)
  mesh = parallel.seeds_mesh(config.seeds, devices)
  (images,) = place(mesh, (data.train_x, data.train_y))
  if isinstance(images, FileSplit):
    raise ValueError(
      "seeds: expected images that are kept on the devices, got those of "
      f"{config.data.name!r}, which are read while training and so for one "
      "seed at a time; set it to 1"
    )
  first, *rest = (
    alone(config, seed)
    for seed in range(config.seed, config.seed + config.seeds)
  )

  def splits(own: ml_collections.ConfigDict) -> tuple[device.Split, ...]:
    return tuple(
      images
      if isinstance(part, slice)
      else dataclasses.replace(images, rows=jnp.asarray(part, jnp.int32))
      for part in _parts(own, data)
    )

  problem = _read(first, data, mesh, splits(first), workdir, measure)
  return problem, *(
    problem._replace(config=own, splits=splits(own)) for own in rest
  )


def alone(
  config: ml_collections.ConfigDict, seed: int
) -> ml_collections.ConfigDict:
  """The configuration of one of the seeds, as a run of that seed has it."""
  copy = ml_collections.ConfigDict(config.to_dict())
  copy.update(seed=seed, seeds=1)
  return copy.lock()


def _parts(
  config: ml_collections.ConfigDict, data: sources.ImageData
) -> tuple[np.ndarray | slice, np.ndarray | slice]:
  """Which training images train the weights, and which alpha."""
  if config.data.share < 1:
    return sources.split(data.train_y, config.data.share, config.seed)
  return slice(None), slice(None)


def _read(
  config: ml_collections.ConfigDict,
  data: sources.ImageData,
  mesh: Mesh,
  splits: tuple[feeds.Split, feeds.Split],
  workdir: str | os.PathLike[str] | None,
  measure: bool,
) -> Problem:
  """That of one seed, of splits that are on the devices."""
  # One level sees training images alone; two take turns.
  for seen in splits[:1] if recipe.one_level(config) else splits:
    device.steps_per_epoch(len(seen), config.train.batch)  # tells what is small
  # As in the field's code an epoch is one of the weights' images: alpha's, of
  # which PC-DARTS has a quarter of them on ImageNet, come again within it.
  clock = build.clock(config, len(splits[0]))
  spec = recipe.spec(config, len(data.classes))
  table = benchmark.load(config.space.table) if config.space.table else None
  if table:
    table.best(config.space.column)  # tells a wrong name before the search
  own = backend.of(parallel.platform(mesh))
  stages = recipe.stages(config, spec, clock, data.train_x.shape[1:3], own)
  measured = None
  if measure and recipe.options(config, clock).get("latency"):
    size = data.train_x.shape[1:3]
    measured = latency.table(spec, size, config.train.batch, own, workdir)
  return Problem(
    *(config, data, mesh, splits, clock, stages, table),
    fingerprint(*data),
    measured,
  )


def algorithm(problem: Problem, stage: Stage) -> base.Algorithm:
  """The algorithm of one stage."""
  size, costs = problem.data.train_x.shape[1:3], None
  if problem.latency is not None:
    costs = latency.costs(problem.stages.first.spec, size, problem.latency)
  return recipe.algorithm(
    problem.config,
    stage,
    stage_clock(problem, stage),
    size,
    backend.of(parallel.platform(problem.mesh)),
    costs,
  )


def stage_clock(problem: Problem, stage: Stage) -> build.Clock:
  """The clock of one stage; that of the run, where stages go on."""
  if not problem.stages.restarts:
    return problem.clock
  return build.Clock(problem.clock.per_epoch, stage.stop - stage.start)


def origin(problem: Problem, stage: Stage) -> int:
  """The step at which the schedules of a stage begin."""
  return stage.start if problem.stages.restarts else 0
