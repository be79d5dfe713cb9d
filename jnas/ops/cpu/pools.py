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

from jnas.ops.cpu import depthwise, primitives
from jnas.ops.plain import strided

Array = jax.Array


def avg_pool(x: Array, stride: int = 1) -> Array:
  """`plain.avg_pool`, as a depthwise convolution with ones."""
  inverses = []
  for size in x.shape[1:3]:
    centre = np.arange(0, size, stride)
    inverses.append(1 / (3 - (centre == 0) - (centre == size - 1)))
  ones = jnp.ones((1, 3, 3, x.shape[-1]), x.dtype)
  total = depthwise.depthwise(x[None], ones, stride)[0]
  inverse = jnp.asarray(np.multiply.outer(*inverses), x.dtype)
  return total * inverse[None, :, :, None]


def max_pool(x: Array, stride: int = 1) -> Array:
  """`plain.max_pool`: of equal pixels the first has the gradient."""
  return _maximum.bind(x, stride=stride)


def _views(x: Array, out: Any, stride: int, fill: float) -> list[Array]:
  padded = depthwise.padded(x[None], 1, x.shape[1:3], fill=fill)
  return _seen(padded, out, stride)


def _seen(x: Array, out: Any, stride: int = 1) -> list[Array]:
  views = depthwise.views(x, 3, tuple(out), stride, halo=1)
  return [view[0] for view in views]


def _maximum_rule(x: Array, *, stride: int) -> Array:
  out = strided(x.shape[1:3], stride)
  return functools.reduce(jnp.maximum, _views(x, out, stride, -np.inf))


def _winner_rule(x: Array, *, stride: int) -> Array:
  """For each window the bit of the first of its nine pixels that is maximal.

  From x alone: a maximum that was computed elsewhere may, after a fusion of
  its own, differ from x in the last place, and then no pixel is it.
  """
  seen = _views(x, strided(x.shape[1:3], stride), stride, -np.inf)
  y = functools.reduce(jnp.maximum, seen)
  bits = sum(
    (view == y).astype(jnp.uint16) << i for i, view in enumerate(seen)
  )
  return bits & (~bits + 1)  # the lowest that is set


def _gather_rule(dx: Array, winner: Array, *, stride: int) -> Array:
  """For each window dx at its winner."""
  seen = _views(dx, winner.shape[1:3], stride, 0)
  return _chosen(seen, [winner] * 9)


def _scatter_rule(
  g: Array, winner: Array, *, size: tuple[int, int], stride: int
) -> Array:
  """The transpose: for each pixel the sum over the windows that it wins.

  Args:
    g: [N, H', W', C].
    winner: [N, H', W', C].
    size: H and W of the features.
    stride: of both axes.
  """
  seen, winners = (
    _seen(depthwise.padded(z[None], 1, size, stride), size)
    for z in (g, winner)
  )
  # What is first in a pixel's neighbourhood has the pixel last in its window.
  return _chosen(seen[::-1], winners[::-1])


def _chosen(values: list[Array], winners: list[Array]) -> Array:
  """The sum of those values whose bit is the winner's."""
  zero = jnp.zeros_like(values[0])
  return sum(
    jax.lax.select(winner == 1 << i, value, zero)
    for i, (value, winner) in enumerate(zip(values, winners, strict=True))
  )


def _pooled(x: Any, stride: int) -> tuple[int, ...]:
  return x.shape[0], *strided(x.shape[1:3], stride), x.shape[3]


_maximum = primitives.primitive(
  "max_pool",
  _maximum_rule,
  lambda x, stride: (_pooled(x, stride), x.dtype),
)
_winner = primitives.primitive(
  "max_pool_winner",
  _winner_rule,
  lambda x, stride: (_pooled(x, stride), jnp.uint16),
)
_gather = primitives.primitive(
  "max_pool_gather",
  _gather_rule,
  lambda dx, winner, **_: (winner.shape, dx.dtype),
)
_scatter = primitives.primitive(
  "max_pool_scatter",
  _scatter_rule,
  lambda g, winner, size, stride: (
    (g.shape[0], *size, g.shape[3]), g.dtype
  ),
)
ad.defjvp(_winner, None)
ad.defjvp(
  _maximum,
  lambda dx, x, **p: _gather.bind(dx, _winner.bind(x, **p), **p),
)
# Both are linear, and each other's transpose; which pixel wins does not change
# with x, almost everywhere.
ad.defjvp(
  _gather, lambda dx, _, winner, **p: _gather.bind(dx, winner, **p), None
)
ad.defjvp(
  _scatter, lambda dg, _, winner, **p: _scatter.bind(dg, winner, **p), None
)
ad.primitive_transposes[_gather] = lambda g, dx, winner, stride: (
  _scatter.bind(g, winner, size=tuple(dx.aval.shape[1:3]), stride=stride),
  None,
)
ad.primitive_transposes[_scatter] = lambda dx, g, winner, size, stride: (
  _gather.bind(dx, winner, stride=stride),
  None,
)
