"""Random resized crops, as Inception's and torchvision's: on device and host.

A window of a random share of the image's area and of a random shape is resized
to the size that the network sees (Szegedy et al. 2015, 1409.4842, section 6).
"""

import math
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

TRIES = 10  # windows that are drawn; the first that fits is taken
_RATIOS = 3 / 4, 4 / 3  # of width to height


class Window(NamedTuple):
  """A part of an image, in whole pixels: numbers, or arrays of one shape."""
  top: Any
  left: Any
  height: Any
  width: Any


def window(
    uniform: Any, height: int, width: int, least: float, xp: ModuleType = np,
) -> Window:
  """Returns the window that these random numbers choose.

  Its area is a share of the image's that is uniform in [least, 1), its ratio of
  width to height is log-uniform in [3/4, 4/3), its place uniform. Where none of
  ten fits, it is the largest in the middle whose ratio is allowed.

  Args:
    uniform: [TRIES, 4] numbers in [0, 1).
    height, width: of the image.
    least: the least share of its area.
    xp: numpy, or jax.numpy in a program.

  >>> window(np.full((TRIES, 4), 0.5), 32, 32, 0.5)
  Window(top=2, left=2, height=28, width=28)
  """
  low, high = _RATIOS
  area = height * width * (least + (1 - least) * uniform[:, 0])
  ratio = xp.exp(math.log(low) + uniform[:, 1] * math.log(high / low))
  w, h = xp.round(xp.sqrt(area * ratio)), xp.round(xp.sqrt(area / ratio))
  fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
  top = xp.floor(uniform[:, 2] * (height - h + 1))
  left = xp.floor(uniform[:, 3] * (width - w + 1))
  own_w = min(width, round(height * high))
  own_h = min(height, round(width / low))
  middle = (height - own_h) // 2, (width - own_w) // 2, own_h, own_w
  first = xp.argmax(fits)
  found = [
      xp.where(fits.any(), drawn[first], own).astype(np.int32)
      for drawn, own in zip((top, left, h, w), middle, strict=True)]
  return Window(*(map(int, found) if xp is np else found))
