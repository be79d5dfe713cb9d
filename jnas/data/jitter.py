"""Colour jitter: brightness, contrast, saturation and hue, in random order.

As torchvision's ColorJitter, with which DARTS trains on ImageNet, and with its
numbers: (0.4, 0.4, 0.4) and hue 0.2. Images are floats in 0 .. 1.
"""

import jax
from jax import Array, lax
import jax.numpy as jnp


def brightness(x: Array, factor: Array) -> Array:
  """Returns x [H, W, C] blended with black."""
  return _blend(x, 0.0, factor)


def contrast(x: Array, factor: Array) -> Array:
  """Returns x [H, W, C] blended with the mean of its luminance."""
  return _blend(x, _luminance(x).mean(), factor)


def saturation(x: Array, factor: Array) -> Array:
  """Returns x [H, W, C] blended with its luminance."""
  return _blend(x, _luminance(x), factor)


def hue(x: Array, turn: Array) -> Array:
  """Returns x [H, W, 3] with all hues turned by a share of the circle.

  Value and saturation (of HSV) stay. With chroma c = max - min, and k the place
  on the circle in sixths, a channel is max - c max(0, min(k, 4 - k, 1)).
  """
  if x.shape[-1] == 1:
    return x
  r, g, b = jnp.moveaxis(x, -1, 0)
  value, chroma = x.max(-1), x.max(-1) - x.min(-1)
  safe = jnp.where(chroma > 0, chroma, 1)
  sixths = jnp.where(
      value == r, (g - b) / safe,
      jnp.where(value == g, 2 + (b - r) / safe, 4 + (r - g) / safe))

  def channel(place: int) -> Array:
    k = (place + sixths + 6 * turn) % 6
    return value - chroma * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)

  return jnp.stack([channel(place) for place in (5, 3, 1)], -1)


def apply(key: Array, x: Array, strength: float, turn: float) -> Array:
  """Returns an image after all four, in an order of their own.

  Args:
    key: typed key.
    x: [H, W, C], floats in 0 .. 1; C is 1 or 3.
    strength: factors of the first three are uniform in 1 +- strength.
    turn: that of the hue is uniform in +- turn.
  """
  order, factors = jax.random.split(jax.random.fold_in(key, 2))
  order = jnp.argsort(jax.random.uniform(order, (4,)))
  drawn = jax.random.uniform(factors, (4,), x.dtype, -1, 1)
  factors = jnp.array([1, 1, 1, 0], x.dtype) + drawn * jnp.array(
      [strength, strength, strength, turn], x.dtype)
  for i in range(4):
    which = order[i]
    x = lax.switch(
        which, (brightness, contrast, saturation, hue), x, factors[which])
  return x


def _luminance(x: Array) -> Array:
  if x.shape[-1] == 1:
    return x
  r, g, b = jnp.split(x, 3, -1)  # no product, which some devices would round
  return 0.299 * r + 0.587 * g + 0.114 * b


def _blend(x: Array, other: Array | float, factor: Array) -> Array:
  return jnp.clip(factor * x + (1 - factor) * other, 0, 1)
