"""Batch normalisation as an affine map of features.

A normalisation is y = a x + b with a, b from the first two moments of x, and
whatever multiplies y afterwards (an architecture weight, say) goes into a and
b: so a weight and its gradient cost no pass over the features.
"""

from collections.abc import Sequence
from typing import NamedTuple

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from jnas.ops import backend as backend_lib
from jnas.ops.backend import Backend
from jnas.ops.plain import EPSILON

Array = jax.Array

MOMENTUM = 0.9


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
  backend: Backend = backend_lib.CPU,
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
    backend: how it is computed.

  Returns:
    For each stack the [2, T, C] that `Backend.affine` takes, and the running
    moments.
  """
  mean, var = running
  sizes = [x.shape[0] for x in stacks]
  if train:
    counts = [np.prod(x.shape[1:4]) for x in stacks]
    means = jnp.concatenate(
      [
        backend.moments(x) / n for x, n in zip(stacks, counts, strict=True)
      ],
      1,
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
    backend: how it is computed.
  """

  train: bool
  scaled: bool = True
  axis: str | None = None
  backend: Backend = backend_lib.CPU

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
      backend=self.backend,
    )
    if self.train and not self.is_initializing():
      mean.value, var.value = now.mean[0], now.var[0]
    return self.backend.affine(x[None], p)[0]
