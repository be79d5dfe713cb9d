"""Batch normalisation as two sums forward and two sums backward.

A normalisation is y = a x + b with a, b from the first two moments of x, and
whatever multiplies y afterwards (an architecture weight, say) goes into a and
b. The map (a, b) -> a x + b and the map g -> (sum g x, sum g) are each other's
transpose; both are one pass over the features, and with them the gradients of
scale, bias, moments and architecture weights come from the same two sums.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from flax import linen as nn
import jax
from jax import lax
from jax.interpreters import ad
import jax.numpy as jnp
import numpy as np

from jnas.spaces import depthwise, primitives

Array = jax.Array

MOMENTUM = 0.9
EPSILON = 1e-5


class Moments(NamedTuple):
  """Mean and variance over examples and pixels, [T, C] each."""

  mean: Array
  var: Array


def coefficients(
  stacks: Sequence[Array],
  running: Moments,
  scale: Array | None = None,
  bias: Array | None = None,
  *,
  train: bool,
  axis: str | None = None,
) -> tuple[list[Array], Moments]:
  """How to normalise several stacks of features, and their running moments.

  As in PyTorch, features are normalised with the variance of their n values
  and the running variance moves towards n / (n - 1) times that, the unbiased
  one; n counts those of all replicas where moments are shared.

  Args:
    stacks: arrays [T, N, H, W, C], T of each its own.
    running: of all stacks, one after the other: [sum T, C].
    scale: [sum T, C], or None for one.
    bias: [sum T, C], or None for zero.
    train: whether to normalise with the moments of these features and move
      the running ones towards them, or to normalise with the running ones.
    axis: mesh axis over which the moments are shared, or None.

  Returns:
    For each stack the [2, T, C] that `affine` takes, and the running moments.
  """
  mean, var = running
  sizes = [x.shape[0] for x in stacks]
  if train:
    counts = [np.prod(x.shape[1:4]) for x in stacks]
    means = jnp.concatenate(
      [moments(x) / n for x, n in zip(stacks, counts, strict=True)], 1
    )
    n = np.repeat(counts, sizes)[:, None]
    if axis is not None:
      means = lax.pmean(means, axis)
      n = n * lax.axis_size(axis)
    mean = means[1]
    var = jax.nn.relu(means[0] - mean * mean)
    unbiased = var * jnp.asarray(n / np.maximum(n - 1, 1), var.dtype)
    running = Moments(
      *(
        (MOMENTUM * old + (1 - MOMENTUM) * new).astype(old.dtype)
        for old, new in zip(running, (mean, unbiased), strict=True)
      )
    )
  a = lax.rsqrt(var + EPSILON)
  a = a if scale is None else a * scale
  b = -a * mean
  b = b if bias is None else b + bias
  return lax.split(jnp.stack([a, b]), sizes, axis=1), running


class BatchNorm(nn.Module):
  """Batch normalisation of [N, H, W, C] with learnable scale and bias.

  Attributes:
    train: whether to use (and record) the moments of this batch.
    scaled: whether there are a scale and a bias.
    axis: mesh axis over which moments are shared, or None.
  """

  train: bool
  scaled: bool = True
  axis: str | None = None

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """The normalised features, [N, H, W, C]."""
    shape = x.shape[-1:]
    mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
    var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
    scale = bias = None
    if self.scaled:
      scale = self.param("scale", nn.initializers.ones, shape)[None]
      bias = self.param("bias", nn.initializers.zeros, shape)[None]
    (p,), now = coefficients(
      [x[None]],
      Moments(mean.value[None], var.value[None]),
      scale,
      bias,
      train=self.train,
      axis=self.axis,
    )
    if self.train and not self.is_initializing():
      mean.value, var.value = now.mean[0], now.var[0]
    return affine(x[None], p)[0]


def affine(x: Array, p: Array) -> Array:
  """p[0] * x + p[1], for each edge and channel.

  Args:
    x: [T, N, H, W, C], or [1, N, H, W, C] where all edges read the same.
    p: [2, T, C], float32 or better.

  Returns:
    [T, N, H, W, C] of the type of x.
  """
  return _affine.bind(x, p)


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
  apart=lambda: False,
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
  return depthwise.depthwise(dx, p[0][:, None, None, :])


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
