"""AutoAugment's policy for CIFAR-10 (Cubuk et al. 2019, 1805.09501, Table 7).

An image is a float32 array [H, W, C] of whole numbers 0 .. 255, with one
channel or three. An operation is a pure function (image, argument) -> image
that computes what Pillow computes for uint8, truncations included; its
argument is a scalar in the unit that the operation names.

Where the paper and the programs in use differ:

* Enhancement takes 1 +- 0.9 i / 9 with a random sign, as most programs do; the
  paper's range 0.1 .. 1.9 has no sign.
* Indices i = 0 .. 9 spread each range evenly and include both ends. The
  authors' program divides by 10, so that 9 falls short of the end.
* Translation goes up to 150 / 331 of the side, the paper's range of 150 pixels
  on ImageNet's 331. That is 14.5 pixels of 32; the authors' program takes 10.
* Shear, translation and rotation take the nearest pixel, as in the authors'
  program, and fill with grey 128, where that program fills with the data
  set's mean. Shear keeps the upper left corner in place, as in all of them.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jax import Array, lax
import jax.numpy as jnp
import numpy as np

Operation = Callable[[Array, Array], Array]

# Sub-policies of two (operation, probability, index of magnitude) each.
# Operations without a magnitude have an index in the paper, too.
POLICY = (
  (("Invert", 0.1, 7), ("Contrast", 0.2, 6)),
  (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
  (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
  (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
  (("AutoContrast", 0.5, 8), ("Equalize", 0.9, 2)),
  (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
  (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
  (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
  (("Equalize", 0.6, 5), ("Equalize", 0.5, 1)),
  (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
  (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
  (("Equalize", 0.3, 7), ("AutoContrast", 0.4, 8)),
  (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
  (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
  (("Solarize", 0.5, 2), ("Invert", 0.0, 3)),
  (("Equalize", 0.2, 0), ("AutoContrast", 0.6, 0)),
  (("Equalize", 0.2, 8), ("Equalize", 0.6, 4)),
  (("Color", 0.9, 9), ("Equalize", 0.6, 6)),
  (("AutoContrast", 0.8, 4), ("Solarize", 0.2, 8)),
  (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
  (("Solarize", 0.4, 5), ("AutoContrast", 0.9, 3)),
  (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
  (("AutoContrast", 0.9, 2), ("Solarize", 0.8, 3)),
  (("Equalize", 0.8, 8), ("Invert", 0.1, 3)),
  (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, 1)),
)

# Ends of the range of each magnitude, at index 0 and at index 9.
RANGES = {
  "ShearX": (0.0, 0.3),  # pixels along x for one along y
  "ShearY": (0.0, 0.3),  # pixels along y for one along x
  "TranslateX": (0.0, 150 / 331),  # share of the width
  "TranslateY": (0.0, 150 / 331),  # share of the height
  "Rotate": (0.0, 30.0),  # degrees
  "Color": (0.0, 0.9),  # added to or taken from the factor 1
  "Contrast": (0.0, 0.9),
  "Sharpness": (0.0, 0.9),
  "Brightness": (0.0, 0.9),
  "Posterize": (8.0, 4.0),  # bits, a whole number
  "Solarize": (256.0, 0.0),  # grey level
  "AutoContrast": (0.0, 0.0),
  "Equalize": (0.0, 0.0),
  "Invert": (0.0, 0.0),
}
SIGNED = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
ENHANCING = ("Color", "Contrast", "Sharpness", "Brightness")
FILL = 128  # grey level of what comes from outside the image

# Folded into a key, so that it can have served other draws already.
_STREAM = 0xA070


def argument(name: str, index: int, sign: int) -> float:
  """What operation `name` takes at magnitude `index`, 0 .. 9.

  `sign`, 1 or -1, counts for the operations that have one.

  >>> argument("Rotate", 3, -1), argument("Posterize", 7, 1)
  (-10.0, 5.0)
  >>> round(argument("Color", 9, -1), 6), argument("Solarize", 0, -1)
  (0.1, 256.0)
  """
  first, last = RANGES[name]
  value = first + (last - first) * index / 9
  if name in SIGNED:
    return sign * value
  if name in ENHANCING:
    return 1 + sign * value
  return float(round(value)) if name == "Posterize" else value


def affine(x: Array, *coefficients: Array | float) -> Array:
  """x [H, W, C], moved: output (x, y) is input (a x + b y + c, d x + e y + f).

  The six coefficients map centres of pixels, in pixels. Takes the pixel that
  the point lies in, FILL outside. Points have 16 binary places, as in Pillow,
  which leaves room for sides up to 10 000 pixels.
  """
  a, b, c, d, e, f = (jnp.asarray(v, jnp.float32) for v in coefficients)

  def fixed(value: Array) -> Array:
    return jnp.floor(value * 65536 + 0.5).astype(jnp.int32)

  height, width, _ = x.shape
  across, down = jnp.arange(width)[None], jnp.arange(height)[:, None]

  def source(right: Array, below: Array, start: Array) -> Array:
    first = fixed(start + right * 0.5 + below * 0.5)
    return (fixed(right) * across + fixed(below) * down + first) >> 16

  column, row = source(a, b, c), source(d, e, f)
  inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
  moved = x[jnp.clip(row, 0, height - 1), jnp.clip(column, 0, width - 1)]
  return jnp.where(inside[..., None], moved, jnp.float32(FILL))


def shear_x(x: Array, slope: Array) -> Array:
  """x, with row y moved to the left by `slope` * y pixels."""
  return affine(x, 1, slope, 0, 0, 1, 0)


def shear_y(x: Array, slope: Array) -> Array:
  """x, with column x moved up by `slope` * x pixels."""
  return affine(x, 1, 0, 0, slope, 1, 0)


def translate_x(x: Array, share: Array) -> Array:
  """x, moved to the left by `share` of its width."""
  return affine(x, 1, 0, share * x.shape[1], 0, 1, 0)


def translate_y(x: Array, share: Array) -> Array:
  """x, moved up by `share` of its height."""
  return affine(x, 1, 0, 0, 0, 1, share * x.shape[0])


def rotate(x: Array, degrees: Array) -> Array:
  """x, turned counter-clockwise about its centre."""
  angle = -jnp.deg2rad(jnp.asarray(degrees, jnp.float32))
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  cy, cx = x.shape[0] / 2, x.shape[1] / 2
  return affine(
    x,
    *(cos, sin, cx - cx * cos - cy * sin),
    *(-sin, cos, cy + cx * sin - cy * cos),
  )


def luminance(x: Array) -> Array:
  """The grey levels of x [H, W, C], of shape [H, W, 1]: ITU-R 601-2."""
  if x.shape[-1] == 1:
    return x
  r, g, b = (x[..., i : i + 1].astype(jnp.int32) for i in range(3))
  grey = (19595 * r + 38470 * g + 7471 * b + 32768) >> 16
  return grey.astype(jnp.float32)


def blend(degenerate: Array, x: Array, factor: Array) -> Array:
  """degenerate + factor * (x - degenerate), cut down to a whole 0 .. 255.

  The thousandth is for levels that are whole numbers but for float32, which
  rounds otherwise in one program than in another.
  """
  mixed = degenerate + factor * (x - degenerate)
  return jnp.clip(jnp.floor(mixed + 1e-3), 0, 255)


def color(x: Array, factor: Array) -> Array:
  """x, its distance from grey multiplied; of one channel x itself."""
  return blend(jnp.broadcast_to(luminance(x), x.shape), x, factor)


def contrast(x: Array, factor: Array) -> Array:
  """x, its distance from the mean luminance multiplied."""
  grey = luminance(x).astype(jnp.int32)
  mean = (2 * grey.sum() + grey.size) // (2 * grey.size)
  return blend(mean.astype(jnp.float32), x, factor)


def brightness(x: Array, factor: Array) -> Array:
  """x, multiplied."""
  return blend(jnp.float32(0), x, factor)


def sharpness(x: Array, factor: Array) -> Array:
  """x, its distance from a smoothed image multiplied; the border stays.

  The smoothed image is a mean over 3 x 3 pixels with weight 5 in the middle.
  """
  height, width, _ = x.shape
  padded = jnp.pad(x, ((1, 1), (1, 1), (0, 0)))
  total = 4 * x + sum(
    padded[i : i + height, j : j + width] for i in range(3) for j in range(3)
  )
  inner = np.zeros((height, width, 1), bool)
  inner[1:-1, 1:-1] = True
  smooth = jnp.where(inner, jnp.floor(total / 13 + 0.5), x)
  return blend(smooth, x, factor)


def posterize(x: Array, bits: Array) -> Array:
  """x, with all but the highest `bits` of 8 bits cleared."""
  drop = 8 - jnp.asarray(bits).astype(jnp.int32)
  return ((x.astype(jnp.int32) >> drop) << drop).astype(jnp.float32)


def solarize(x: Array, threshold: Array) -> Array:
  """x, with the levels from `threshold` on inverted."""
  return jnp.where(x < threshold, x, 255 - x)


def invert(x: Array, _: Array) -> Array:
  """x, inverted."""
  return 255 - x


def auto_contrast(x: Array, _: Array) -> Array:
  """x, each channel stretched to 0 .. 255; a channel of one level stays.

  In whole numbers. Pillow's floats end at 254 for some pairs of extremes.
  """
  levels = x.astype(jnp.int32)
  low, high = levels.min((0, 1)), levels.max((0, 1))
  low, high = low[None, None], high[None, None]
  stretched = (levels - low) * 255 // jnp.maximum(high - low, 1)
  return jnp.where(high > low, stretched, levels).astype(jnp.float32)


def equalize(x: Array, _: Array) -> Array:
  """x, with levels of each channel spread by their cumulative histogram."""

  def channel(levels: Array) -> Array:
    count = jnp.zeros(256, jnp.int32).at[levels].add(1)
    step = (levels.size - count[levels.max()]) // 255
    before = jnp.cumsum(count) - count
    table = (before + step // 2) // jnp.maximum(step, 1)
    table = jnp.where(step > 0, jnp.minimum(table, 255), jnp.arange(256))
    return table[levels]

  levels = x.astype(jnp.int32)
  equal = [channel(levels[..., i]) for i in range(x.shape[-1])]
  return jnp.stack(equal, -1).astype(jnp.float32)


OPERATIONS: dict[str, Operation] = {
  "ShearX": shear_x,
  "ShearY": shear_y,
  "TranslateX": translate_x,
  "TranslateY": translate_y,
  "Rotate": rotate,
  "Color": color,
  "Contrast": contrast,
  "Sharpness": sharpness,
  "Brightness": brightness,
  "Posterize": posterize,
  "Solarize": solarize,
  "AutoContrast": auto_contrast,
  "Equalize": equalize,
  "Invert": invert,
}
_NAMES = tuple(OPERATIONS)
_BRANCHES = (lambda x, _: x, *OPERATIONS.values())

# Of each sub-policy and its two operations: branch, probability, and the
# argument if negative and if not.
_OPERATION = np.array([[1 + _NAMES.index(n) for n, *_ in s] for s in POLICY])
_PROBABILITY = np.array([[p for _, p, _ in s] for s in POLICY], np.float32)
_ARGUMENT = np.array(
  [
    [[argument(n, i, sign) for n, _, i in s] for s in POLICY]
    for sign in (-1, 1)
  ],
  np.float32,
)


class Draw(NamedTuple):
  """Random choices for one image.

  Attributes:
    policy: the sub-policy, 0 .. 24.
    applied: [2] bool, which of its operations take place.
    negative: [2] bool, sign of their arguments, used or not.
  """

  policy: Array
  applied: Array
  negative: Array


def draw(key: Array) -> Draw:
  """The choices of one typed key, all of them drawn whichever are used."""
  bits = jax.random.bits(jax.random.fold_in(key, _STREAM), (5,), jnp.uint32)
  policy = (bits[0] % len(POLICY)).astype(jnp.int32)
  uniform = (bits[1:3] >> 8).astype(jnp.float32) * 2.0**-24
  applied = uniform < jnp.asarray(_PROBABILITY)[policy]
  return Draw(policy, applied, bits[3:5] >> 31 == 1)


def transform(x: Array, choice: Draw) -> Array:
  """x [H, W, C] after the two operations of a choice."""
  index = jnp.where(choice.applied, jnp.asarray(_OPERATION)[choice.policy], 0)
  value = jnp.where(
    choice.negative, *jnp.asarray(_ARGUMENT)[:, choice.policy]
  )

  def operate(x: Array, one: tuple[Array, Array]) -> tuple[Array, None]:
    return lax.switch(one[0], _BRANCHES, x, one[1]), None

  # A loop, though of two rounds: it compiles one set of branches, and keeps
  # XLA from computing the first operation anew for each branch of the second.
  return lax.scan(operate, x, (index, value))[0]


def apply(key: Array, x: Array) -> Array:
  """One image after a sub-policy drawn from `key`.

  Args:
    key: a typed key.
    x: [H, W, C] of whole numbers 0 .. 255, C = 1 or 3, of any type.

  Returns:
    float32 [H, W, C] of whole numbers 0 .. 255.

  Raises:
    ValueError: x has another shape.
  """
  if x.ndim != 3 or x.shape[-1] not in (1, 3):
    raise ValueError(
      "AutoAugment expects images [H, W, C] with 1 or 3 channels; got shape "
      f"{x.shape}"
    )
  return transform(x.astype(jnp.float32), draw(key))


def apply_batch(keys: Array, x: Array) -> Array:
  """`apply` on images [N, H, W, C], with one key each.

  On CPU one after the other, so that only the operations that were drawn are
  computed: 10 us an image of CIFAR, against 400 us for all operations on all
  images. Other devices do the latter, at once.
  """
  return lax.platform_dependent(
    keys,
    x,
    cpu=lambda keys, x: lax.map(lambda pair: apply(*pair), (keys, x)),
    default=jax.vmap(apply),
  )
