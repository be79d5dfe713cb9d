"""Where batches come from: a function of the step's number, always."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np

from jnas.data import augment, device
from jnas.data import stream as stream_lib
from jnas.runtime import keys, parallel
from jnas.training import losses

Array = jax.Array


class Fetched(NamedTuple):
  """What a feed has brought of a stream for some steps.

  Attributes:
    x: [steps, N, H, W, C], images as they are.
    y: [steps, N], class numbers.
    first: int32 scalar, the first of these steps.
  """

  x: Array
  y: Array
  first: Array


# (what a feed has fetched of a stream, its name, step)
# -> this replica's share of a batch; inside the program
Draw = Callable[[Any, str, Array], losses.Batch]


class Feed(NamedTuple):
  """Brings batches, and keeps nothing: any step can be asked for.

  Attributes:
    fetch: (step, count) -> what the program is given for so many steps from
      `step` on, arrays on the devices: a tree for each stream. It is called
      once a dispatch, while the devices still compute the one before.
    specs: how each of these is split over the devices.
  """

  fetch: Callable[[int, int], tuple[Any, ...]]
  specs: tuple[Any, ...]


def resident(*splits: device.Split) -> Feed:
  """Data that are on every device: batches are drawn inside the program."""
  return Feed(lambda step, count: splits, (PartitionSpec(),) * len(splits))


def streamed(
  mesh: Mesh,
  stop: int,
  *streams: stream_lib.Batches,
) -> Feed:
  """Data that no device holds: the host brings the batches of some steps.

  Args:
    mesh: the devices.
    stop: the step at which a run ends.
    *streams: bring this process's rows of a batch.
  """
  split = PartitionSpec(None, parallel.AXIS)
  sharding = NamedSharding(mesh, split)

  def fetch(step: int, count: int) -> tuple[Fetched, ...]:
    found = []
    for own in streams:
      parts = [own.fetch(step + i, stop) for i in range(count)]
      x, y = (
        jax.make_array_from_process_local_data(sharding, np.stack(arrays))
        for arrays in zip(*parts, strict=True)
      )
      found.append(Fetched(x, y, parallel.replicate(np.int32(step), mesh)))
    return tuple(found)

  specs = Fetched(split, split, PartitionSpec())
  return Feed(fetch, (specs,) * len(streams))


def image_draw(
  *,
  seed: int,
  batch: int,
  local: int,
  offset: Callable[[int], Array],
  mean: tuple[float, ...],
  std: tuple[float, ...],
  pad: int = 0,
  flip: bool = False,
  cutout: int = 0,
  autoaugment: bool = False,
  area: float = 0.0,
  colours: float = 0.0,
  hue: float = 0.0,
  dtype: Any = jnp.float32,
) -> Draw:
  """Images of a split, augmented: (split, stream, step) -> Batch.

  The split is on the device, or what a feed has fetched of it.

  Args:
    seed: of all streams.
    batch: examples of a step over all replicas.
    local: examples of this replica.
    offset: local -> position of the first of them in the batch.
    mean: of each channel, for the normalisation.
    std: of each channel.
    pad: of the random crop; 0 for none.
    flip: whether to mirror half of the images.
    cutout: side of the erased square; 0 for none.
    autoaugment: whether to apply AutoAugment's CIFAR-10 policy.
    area: least share of the image in a random resized crop; 0 for none.
    colours: strength of the colour jitter, 0 for none.
    hue: likewise, of its hue.
    dtype: of the images.
  """

  def draw(
    split: device.Split | Fetched, name: str, step: Array
  ) -> losses.Batch:
    start = offset(local)
    if isinstance(split, Fetched):
      at = step - split.first
      x, y = (lax.dynamic_index_in_dim(a, at, 0, False) for a in split[:2])
    else:
      order = device.indices(
        keys.stream(seed, f"{name}/order"), step, len(split), batch
      )
      x, y = device.take(split, lax.dynamic_slice(order, (start,), (local,)))
    positions = start + jnp.arange(local)
    noise = keys.stream(seed, f"{name}/augment", step)
    x = augment.augment(
      keys.per_example(noise, positions),
      x,
      mean,
      std,
      pad=pad,
      flip=flip,
      cutout=cutout,
      autoaugment=autoaugment,
      area=area,
      colours=colours,
      hue=hue,
      dtype=dtype,
    )
    paths = keys.stream(seed, f"{name}/paths", step)
    return losses.Batch(x, y, keys.per_example(paths, positions))

  return draw
