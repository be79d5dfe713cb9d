"""How batches come to the devices: from these themselves, or from files."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import ml_collections
import numpy as np

from jnas.data import decoding, device, stream
from jnas.data.files import Files, FileSplit
from jnas.runtime import parallel
from jnas.training import batches
from jnas.training.batches import Feed

Split = device.Split | FileSplit
_AHEAD = 2  # pieces of a batch that each decoding process may be ahead


def place(mesh: Mesh, *pairs: Any) -> tuple[Split, ...]:
  """(images, labels) pairs as splits: on every device, or files as they are."""
  return tuple(
    FileSplit(x, y)
    if isinstance(x, Files)
    else parallel.replicate(device.split(x, y), mesh)
    for x, y in pairs
  )


def feed(
  config: ml_collections.ConfigDict,
  mesh: Mesh,
  splits: Sequence[Split],
  stop: int,
  names: Sequence[str] = ("train", "valid"),
  one_level: bool = False,
) -> Feed:
  """The feed of a run.

  Args:
    config: with the seed, the batch and what is known of crops.
    mesh: the devices.
    splits: one for each stream.
    stop: the step at which the run ends.
    names: of the streams.
    one_level: whether steps read the first stream alone. It then stands for the
      second: nothing is decoded for nobody.
  """
  if not isinstance(splits[0], FileSplit):
    return batches.resident(*splits)
  batch = config.train.batch
  parallel.local_batch(batch, mesh)  # tells a batch that cannot be divided
  streams = [
    stream.Batches(
      split,
      batch=batch,
      rows=rows(batch, mesh),
      seed=config.seed,
      name=name,
      least=config.data.crop_area,
      ahead=ahead(split.files.workers, batch),
    )
    for split, name in zip(splits, names, strict=False)
  ]
  if not one_level:
    return batches.streamed(mesh, stop, *streams)
  found = batches.streamed(mesh, stop, streams[0])
  return Feed(
    lambda step, count: found.fetch(step, count) * len(splits),
    found.specs * len(splits),
  )


def ahead(workers: int, batch: int) -> int:
  """Batches that may be decoded before they are asked for: at least two."""
  pieces = _AHEAD * decoding.pool(workers).count
  return max(2, -(-pieces * stream.PIECE // batch))


def rows(batch: int, mesh: Mesh) -> slice:
  """The examples of a batch that this process's devices compute."""
  processes = sorted({each.process_index for each in mesh.devices.flat})
  share = batch // len(processes)
  start = processes.index(jax.process_index()) * share
  return slice(start, start + share)


def evaluated(
  split: FileSplit, index: np.ndarray, present: np.ndarray, mesh: Mesh
) -> Iterator[tuple[device.Split, jax.Array, jax.Array, float]]:
  """Batches of files for an evaluation, as `eval_step` takes them.

  Args:
    split: the files.
    index: [K, batch], which examples.
    present: [K, batch], ones where they count.
    mesh: the devices.

  Yields:
    Images and labels, each device's own; their places on it; whether they
    count, which those that cannot be read do not; and how many of them do.
  """
  sharding = NamedSharding(mesh, PartitionSpec(parallel.AXIS))
  own = rows(index.shape[1], mesh)
  local = parallel.local_batch(index.shape[1], mesh)
  at = np.arange(own.stop - own.start, dtype=np.int32) % local
  replies = stream.in_order(
    split, index[:, own], ahead(split.files.workers, index.shape[1])
  )
  for i, reply in enumerate(replies):
    here = present[i, own].copy()
    for row, why in reply.failed:
      split.unreadable(int(index[i, own][row]), why)
      here[row] = 0
    arrays = (reply.images, split.labels[index[i, own]], at, here)
    x, y, at_global, counts = (
      jax.make_array_from_process_local_data(sharding, a) for a in arrays
    )
    missing = present[i, own].sum() - here.sum()
    if jax.process_count() > 1:
      from jax.experimental import multihost_utils

      missing = multihost_utils.process_allgather(missing).sum()
    found = present[i].sum() - missing
    flat = device.Split(x.reshape(len(y), -1), y, x.shape[1:])
    yield flat, at_global, counts, float(found)


def corrupt(
  splits: Sequence[Split], step: int, per_epoch: int
) -> tuple[tuple[str, dict[str, Any]], ...]:
  """The record of files that could not be read since the last one.

  Args:
    splits: of the run.
    step: steps done.
    per_epoch: steps of an epoch.
  """
  found: dict[str, str] = {}
  for split in splits:
    if isinstance(split, FileSplit):
      found |= split.failed
      split.failed.clear()
  if not found:
    return ()
  record = {"step": step, "epoch": step / per_epoch, "count": len(found)}
  return (("corrupt.jsonl", record | {"files": dict(sorted(found.items()))}),)
