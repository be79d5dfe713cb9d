"""Scaling and shifting of features, and their moments, one pass each.

The map (a, b) -> a x + b and the map g -> (sum g x, sum g) are each other's
transpose; both are one pass over the features, and with them the gradients of
scale, bias, moments and architecture weights come from the same two sums.
"""

from typing import Any

import jax
from jax.interpreters import ad
import jax.numpy as jnp

from jnas.ops.cpu import depthwise, primitives

Array = jax.Array


def affine(x: Array, p: Array) -> Array:
  """p[0] * x + p[1], for each edge and channel.

  Args:
    x: [T, N, H, W, C], or [1, N, H, W, C] where all edges read the same.
    p: [2, T, C], float32 or better.

  Returns:
    [T, N, H, W, C] of the type of x.
  """
  return _affine.bind(x, p)


def scale(x: Array, factors: Array) -> Array:
  """factors * x, for each edge and channel.

  Args:
    x: [T, N, H, W, C], or [1, N, H, W, C] where all edges read the same.
    factors: [T, C].
  """
  return depthwise.depthwise(x, factors[:, None, None])


def moments(x: Array) -> Array:
  """[2, T, C]: the sums of x^2 and of x over examples and pixels.

  Args:
    x: [T, N, H, W, C].
  """
  return _moments.bind(x)


def keep_sums(primitive: Any, *_: Any, **__: Any) -> bool:
  """A policy of `jax.checkpoint`: sums are small, so they are kept."""
  return primitive in (_moments, _sums)


def _affine_rule(x: Array, p: Array) -> Array:
  a, b = p[:, :, None, None, None, :]
  return (a * x + b).astype(x.dtype)


def _sums_rule(x: Array, g: Array, total: Array) -> Array:
  kind = jnp.promote_types(x.dtype, jnp.float32)
  x, g = x.astype(kind), g.astype(kind)
  return jnp.stack([(x * g).sum((1, 2, 3)), total])


def _with_total(x: Array, g: Array) -> tuple[Array, Array, Array]:
  """The sum of g is one for all normalisations whose outputs are added."""
  kind = jnp.promote_types(x.dtype, jnp.float32)
  return x, g, g.astype(kind).sum((1, 2, 3))


_affine = primitives.primitive(
  "affine",
  _affine_rule,
  lambda x, p: ((p.shape[1], *x.shape[1:]), x.dtype),
  no_inline=lambda: False,
)
_sums = primitives.primitive(
  "affine_sums",
  _sums_rule,
  lambda x, g: (
    (2, g.shape[0], g.shape[4]), jnp.promote_types(x.dtype, jnp.float32)
  ),
  before=_with_total,
)
_moments = primitives.primitive(
  "moments",
  lambda x: _sums_rule(*_with_total(x, x)),
  lambda x: (
    (2, x.shape[0], x.shape[4]), jnp.promote_types(x.dtype, jnp.float32)
  ),
)


def _moments_jvp(dx: Array, x: Array) -> Array:
  factors = jnp.asarray([2, 1]).reshape(2, 1, 1)
  return _sums.bind(x, dx) * factors


def _affine_jvp(dx: Array, x: Array, p: Array) -> Array:
  del x
  return scale(dx, p[0])


def _sums_jvp(dx: Array, x: Array, g: Array) -> Array:
  del x
  first = depthwise.products(dx, g)
  return jnp.stack([first, jnp.zeros_like(first)])


def _linear(other: Any):
  """The transpose, in the second argument, of one map is the other."""
  return lambda ct, x, _: (None, other.bind(x, ct))


ad.defjvp(_moments, _moments_jvp)
ad.defjvp(_affine, _affine_jvp, lambda dp, x, p: _affine.bind(x, dp))
ad.defjvp(_sums, _sums_jvp, lambda dg, x, g: _sums.bind(x, dg))
ad.primitive_transposes[_affine] = _linear(_sums)
ad.primitive_transposes[_sums] = _linear(_affine)
