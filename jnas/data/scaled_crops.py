"""Random scale, crop and mirror of an image and its classes, on the device.

Both are moved by the same numbers, which follow from one key an example.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp

from jnas.data import augment
from jnas.data.segmentation import IGNORED


class Window(NamedTuple):
  """What is seen of one image.

  Attributes:
    scale: by which it grows.
    top, left: of the crop, whole pixels of the image that has grown.
    mirrored: whether left and right are exchanged.
  """

  scale: Array
  top: Array
  left: Array
  mirrored: Array


def draw(
  key: Array, size: Array, crop: int, scales: tuple[float, float], flip: bool
) -> Window:
  """A scale that is uniform between both, then any place for the crop.

  Where the image that has grown is smaller than the crop it stays in its
  corner, and the rest is empty.

  Args:
    key: one typed key.
    size: [2], height and width of the image.
    crop: side of the crop.
    scales: the least and the largest.
    flip: whether to mirror half of the images.
  """
  uniform = jax.random.uniform(key, (4,))
  least, most = scales
  scale = least + (most - least) * uniform[0]
  room = jnp.maximum(jnp.round(size * scale) - crop, 0)
  top, left = jnp.floor(uniform[1:3] * (room + 1))
  return Window(scale, top, left, (uniform[3] < 0.5) & flip)


def view(
  x: Array, labels: Array, size: Array, window: Window, crop: int
) -> tuple[Array, Array]:
  """The crop of an image, bilinear, and that of its classes, the nearest.

  Pixels are squares. Outside of the image there are zeros, and IGNORED.

  Args:
    x: [H, W, C] floats.
    labels: [H, W].
    size: [2], what of H and W is the image.
    window: what is seen.
    crop: side of the result.

  Returns:
    [crop, crop, C] and [crop, crop].
  """
  mixes, nearest, inside = [], [], []
  for axis, start in enumerate((window.top, window.left)):
    at = (start + jnp.arange(crop) + 0.5) / window.scale
    within = at < size[axis]
    centre = jnp.clip(at - 0.5, 0, size[axis] - 1)
    old = jnp.arange(x.shape[axis])[None]
    mix = jnp.maximum(0, 1 - abs(centre[:, None] - old))
    mixes.append(jnp.where(within[:, None], mix, 0).astype(x.dtype))
    nearest.append(jnp.clip(jnp.floor(at), 0, size[axis] - 1).astype(jnp.int32))
    inside.append(within)
  image = jnp.einsum("ih,hwc->iwc", mixes[0], x)
  image = jnp.einsum("jw,iwc->ijc", mixes[1], image)
  seen = labels[nearest[0][:, None], nearest[1][None]]
  seen = jnp.where(inside[0][:, None] & inside[1][None], seen, IGNORED)
  return tuple(
    jnp.where(window.mirrored, part[:, ::-1], part) for part in (image, seen)
  )


def scaled_crops(
  keys: Array,
  x: Array,
  sizes: Array,
  mean: Sequence[float],
  std: Sequence[float],
  *,
  crop: int,
  scales: tuple[float, float],
  flip: bool,
) -> tuple[Array, Array]:
  """Random views of a batch, normalised, and the classes of their pixels.

  Args:
    keys: [N] typed keys, one an example.
    x: uint8 [N, H, W, 4], colours and class numbers.
    sizes: [N, 2], height and width of each image.
    mean, std: by colour, on the scale 0 .. 1.
    crop, scales, flip: as of `draw`.

  Returns:
    [N, crop, crop, 3] and [N, crop, crop].
  """

  def one(key, x, labels, size):
    window = draw(key, size, crop, scales, flip)
    return view(x, labels, size, window, crop)

  colours = augment.normalise(x[..., :3], mean, std)
  return jax.vmap(one)(keys, colours, x[..., 3], sizes)
