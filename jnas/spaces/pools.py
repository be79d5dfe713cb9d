"""The 3 x 3 pools, with gradients in one pass over the features.

XLA's own gradient of a maximum over windows is some twenty times slower on
CPU than the maxima of shifted views are.
"""

import functools
from typing import Any

import jax
from jax.interpreters import ad
import jax.numpy as jnp
import numpy as np

from jnas.spaces import depthwise, primitives

Array = jax.Array


def avg_pool(x: Array, stride: int = 1) -> Array:
  """The mean over 3 x 3 windows of the pixels that exist.

  PyTorch's `count_include_pad=False`: at borders the divisor is the number of
  real pixels.

  Args:
    x: [N, H, W, C].
    stride: of both axes.

  Returns:
    [N, ceil(H / stride), ceil(W / stride), C].
  """
  inverses = []
  for size in x.shape[1:3]:
    centre = np.arange(0, size, stride)
    inverses.append(1 / (3 - (centre == 0) - (centre == size - 1)))
  ones = jnp.ones((1, 3, 3, x.shape[-1]), x.dtype)
  total = depthwise.depthwise(x[None], ones, stride)[0]
  inverse = jnp.asarray(np.multiply.outer(*inverses), x.dtype)
  return total * inverse[None, :, :, None]


def max_pool(x: Array, stride: int = 1) -> Array:
  """The maximum over 3 x 3 windows, padded with -inf.

  Where several pixels of a window are its maximum they share its gradient.

  Args:
    x: [N, H, W, C].
    stride: of both axes.

  Returns:
    [N, ceil(H / stride), ceil(W / stride), C].
  """
  return _maximum.bind(x, stride=stride)


def _views(x: Array, out: Any, stride: int, fill: float) -> list[Array]:
  padded = depthwise.padded(x[None], 1, x.shape[1:3], fill=fill)
  return _seen(padded, out, stride)


def _seen(x: Array, out: Any, stride: int = 1) -> list[Array]:
  views = depthwise.views(x, 3, tuple(out), stride, margin=1)
  return [view[0] for view in views]


def _maximum_rule(x: Array, *, stride: int) -> Array:
  out = depthwise.strided(x.shape[1:3], stride)
  return functools.reduce(jnp.maximum, _views(x, out, stride, -np.inf))


def _winners_rule(x: Array, *, stride: int) -> Array:
  """For each window the bits of the pixels that are its maximum.

  From x alone: a maximum that was computed elsewhere may, after a fusion of
  its own, differ from x in the last place, and then no pixel is it.
  """
  seen = _views(x, depthwise.strided(x.shape[1:3], stride), stride, -np.inf)
  y = functools.reduce(jnp.maximum, seen)
  return sum((view == y).astype(jnp.uint16) << i for i, view in enumerate(seen))


def _gather_rule(dx: Array, mask: Array, *, stride: int) -> Array:
  """For each window the mean of dx over its maxima."""
  return _chosen(_views(dx, mask.shape[1:3], stride, 0), [mask] * 9) / _count(
    mask, dx.dtype
  )


def _scatter_rule(
  g: Array, mask: Array, *, size: tuple[int, int], stride: int
) -> Array:
  """The transpose: for each pixel the shares of the windows it is a maximum of.

  Args:
    g: [N, H', W', C].
    mask: [N, H', W', C].
    size: H and W of the features.
    stride: of both axes.
  """
  share, mask = (
    _seen(depthwise.padded(z[None], 1, size, stride), size)
    for z in (g / _count(mask, g.dtype), mask)
  )
  # What is first in a pixel's neighbourhood has the pixel last in its window.
  return _chosen(share[::-1], mask[::-1])


def _chosen(values: list[Array], masks: list[Array]) -> Array:
  """The sum of each value where its bit is set."""
  zero = jnp.zeros_like(values[0])
  return sum(
    jax.lax.select((mask >> i) & 1 == 1, value, zero)
    for i, (value, mask) in enumerate(zip(values, masks, strict=True))
  )


def _count(mask: Array, dtype: Any) -> Array:
  return jax.lax.population_count(mask).astype(dtype)


def _pooled(x: Any, stride: int) -> tuple[int, ...]:
  return x.shape[0], *depthwise.strided(x.shape[1:3], stride), x.shape[3]


_maximum = primitives.primitive(
  "max_pool",
  _maximum_rule,
  lambda x, stride: (_pooled(x, stride), x.dtype),
)
_winners = primitives.primitive(
  "max_pool_winners",
  _winners_rule,
  lambda x, stride: (_pooled(x, stride), jnp.uint16),
)
_gather = primitives.primitive(
  "max_pool_gather", _gather_rule, lambda dx, mask, **_: (mask.shape, dx.dtype)
)
_scatter = primitives.primitive(
  "max_pool_scatter",
  _scatter_rule,
  lambda g, mask, size, stride: (
    (g.shape[0], *size, g.shape[3]), g.dtype
  ),
)
ad.defjvp(_winners, None)
ad.defjvp(
  _maximum,
  lambda dx, x, **p: _gather.bind(dx, _winners.bind(x, **p), **p),
)
# Both are linear, and each other's transpose; which pixel wins does not change
# with x, almost everywhere.
ad.defjvp(_gather, lambda dx, _, mask, **p: _gather.bind(dx, mask, **p), None)
ad.defjvp(_scatter, lambda dg, _, mask, **p: _scatter.bind(dg, mask, **p), None)
ad.primitive_transposes[_gather] = lambda g, dx, mask, stride: (
  _scatter.bind(g, mask, size=tuple(dx.aval.shape[1:3]), stride=stride),
  None,
)
ad.primitive_transposes[_scatter] = lambda dx, g, mask, size, stride: (
  _gather.bind(dx, mask, stride=stride),
  None,
)


def halve_max(x: Array) -> Array:
  """The maximum over 2 x 2 pixels: [N, ceil(H / 2), ceil(W / 2), C].

  Args:
    x: [N, H, W, C]; an odd size is padded with -inf. Of equal pixels the first
      has the gradient.
  """
  pads = ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0))
  x = jnp.pad(x, pads, constant_values=-jnp.inf)
  views = [x[:, i::2, j::2] for i in range(2) for j in range(2)]
  # Not a maximum: its gradient compares x with a maximum that may have been
  # computed from another rounding of x, and is NaN where none is equal.
  return functools.reduce(lambda y, z: jnp.where(y >= z, y, z), views)
