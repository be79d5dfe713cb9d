"""What a run on text is given: the text, its windows, devices, clock."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh, PartitionSpec
import ml_collections
import numpy as np

from jnas import config as config_lib
from jnas.data import text, windows
from jnas.data.fingerprint import fingerprint
from jnas.runs import build
from jnas.runtime import parallel
from jnas.training import language
from jnas.training.batches import Feed

# Columns are divided over devices as images are, rows are not.
_COLUMNS = PartitionSpec(None, parallel.AXIS)


class Problem(NamedTuple):
  """What a run on text is given.

  Attributes:
    config: of space.name "rnn".
    data: the text.
    mesh: the devices.
    columns: of training and, in a search, of what alpha is learnt on.
    drawn: the windows of training.
    valid: the validation text, as it is evaluated.
    clock: of the run.
    fingerprint: of the text.
    place: (array, mesh, spec) -> the array on its devices.
  """

  config: ml_collections.ConfigDict
  data: text.TextData
  mesh: Mesh
  columns: tuple[np.ndarray, ...]
  drawn: windows.Windows
  valid: language.Split
  clock: build.Clock
  fingerprint: str
  place: Callable[[np.ndarray, Mesh, PartitionSpec], Any] = parallel.place


def load(config: ml_collections.ConfigDict) -> text.TextData:
  """The text of a config.

  Raises:
    ValueError, FileNotFoundError: it cannot be had; the message names fields.
  """
  path, level = config.data.path, config.language.level
  try:
    return text.load(path, level, config.data.limit)
  except (ValueError, FileNotFoundError) as error:
    raise type(error)(
      f"data.path={path!r}, language.level={level!r}: {error}"
    ) from error


def read(
  config: ml_collections.ConfigDict,
  devices: Sequence[jax.Device] | None = None,
  place: Callable[[np.ndarray, Mesh, PartitionSpec], Any] = parallel.place,
  data: text.TextData | None = None,
) -> Problem:
  """The text of a config, its windows, and the devices.

  Args:
    config: of space.name "rnn".
    devices: if they are not all.
    place: (array, mesh, spec) -> the array on its devices.
    data: if it is not that which the config names.
  """
  own, batch = config.language, config.train.batch
  mesh = parallel.mesh(devices) if devices else parallel.mesh()
  parallel.local_batch(batch, mesh)  # tells a batch that cannot be divided
  data = data or load(config)
  parts = [data.train, data.valid][: 1 + (config.task == "search")]
  columns = tuple(windows.columns(part, batch) for part in parts)
  valid = language.split(
    data.valid, data.characters[1], own.eval_batch, own.bptt
  )
  drawn = windows.Windows(len(columns[0]), own.bptt, deviation=own.deviation)
  total = config_lib.duration(config.train.length, drawn.per_epoch)
  found = fingerprint(data.train, data.valid, data.test)
  clock = build.Clock(drawn.per_epoch, total)
  return Problem(
    config, data, mesh, columns, drawn, valid, clock, found, place
  )


def feed(problem: Problem) -> Feed:
  """The columns, each on the device that computes it."""
  placed = tuple(
    problem.place(
      windows.padded(part, problem.drawn.longest), problem.mesh, _COLUMNS
    )
    for part in problem.columns
  )
  return Feed(lambda step, count: placed, (_COLUMNS,) * len(placed))
