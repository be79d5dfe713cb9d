"""Depthwise convolutions of T edges, and all of their derivatives.

Everything here is one trilinear form,

  F(x, k, g) = sum k[t,i,j,c] x[t,n,s*h+d*i-p,s*w+d*j-p,c] g[t,n,h,w,c],

with stride s, dilation d, padding p. Its three partial derivatives are the
convolution (with respect to g), what carries a gradient back to the features
(x), and the gradient of the kernel (k). Each is bilinear and its derivatives
are the other two, so that differentiation of any order and mode ends in three
functions, and each of them can be fast: shifted multiply-adds that compile to
one loop, where a grouped convolution on CPU is some fifty times slower and the
derivatives of slices are slow and many.

A window of one pixel makes them the product with a factor for each channel.
"""

from typing import Any

import jax
from jax import lax
from jax.interpreters import ad
import jax.numpy as jnp

from jnas.spaces import primitives

Array = jax.Array


def depthwise(
  x: Array, kernel: Array, stride: int = 1, dilation: int = 1
) -> Array:
  """The depthwise convolution of each edge, padded to keep H and W.

  Args:
    x: [T, N, H, W, C], or [1, N, H, W, C] where all edges read the same.
    kernel: [T, k, k, C], k odd, of the type of x or better.
    stride: of both axes.
    dilation: of both axes.

  Returns:
    [T, N, ceil(H / stride), ceil(W / stride), C] of the type of x.
  """
  return _forward.bind(x, kernel, stride=stride, dilation=dilation)


def products(x: Array, g: Array) -> Array:
  """The sums of x * g over examples and pixels: [T, C], float32 or better.

  Args:
    x: [T, N, H, W, C] or [1, N, H, W, C].
    g: [T, N, H, W, C].
  """
  return _kernel.bind(x, g, size=1, stride=1, dilation=1)[:, 0, 0]


def views(
  x: Array,
  size: int,
  out: tuple[int, int],
  stride: int = 1,
  dilation: int = 1,
  fill: float = 0,
) -> list[Array]:
  """For each pixel of the window, row by row, what the outputs see there.

  At (i, j) the output (h, w) sees the input (stride * h + dilation * i - p,
  stride * w + dilation * j - p), p = dilation * (size - 1) / 2.

  Args:
    x: [T, N, H, W, C].
    size: of the window, odd.
    out: H' and W' of the outputs.
    stride: of both axes.
    dilation: of both axes.
    fill: what is seen outside.

  Returns:
    size^2 arrays [T, N, H', W', C].
  """
  reach = dilation * (size - 1) + 1
  before = reach // 2
  span = [stride * (o - 1) + 1 for o in out]
  pads = [
    (before, s + reach - 1 - full - before, 0)
    for full, s in zip(x.shape[2:4], span, strict=True)
  ]
  none = (0, 0, 0)
  padded = lax.pad(x, jnp.asarray(fill, x.dtype), [none, none, *pads, none])
  seen = []
  for i in range(0, reach, dilation):
    for j in range(0, reach, dilation):
      stop = (*x.shape[:2], i + span[0], j + span[1], x.shape[4])
      seen.append(
        lax.slice(padded, (0, 0, i, j, 0), stop, (1, 1, stride, stride, 1))
      )
  return seen


def spread(x: Array, stride: int, fill: float = 0) -> Array:
  """x with `stride - 1` fillings between its pixels."""
  if stride == 1:
    return x
  gap, none = (0, 0, stride - 1), (0, 0, 0)
  return lax.pad(
    x, jnp.asarray(fill, x.dtype), [none, none, gap, gap, none]
  )


def strided(size: tuple[int, ...], stride: int) -> tuple[int, int]:
  """H and W after a stride: rounded up."""
  return -(-size[0] // stride), -(-size[1] // stride)


def _weighted(seen: list[Array], kernel: Array) -> Array:
  """sum_i kernel[:, i] * seen[i] in the type of what is seen."""
  taps = kernel.reshape(kernel.shape[0], -1, 1, 1, 1, kernel.shape[3])
  terms = [taps[:, i] * view for i, view in enumerate(seen)]
  return sum(terms[1:], start=terms[0]).astype(seen[0].dtype)


def _forward_rule(
  x: Array, kernel: Array, *, stride: int, dilation: int
) -> Array:
  out = strided(x.shape[2:4], stride)
  return _weighted(views(x, kernel.shape[1], out, stride, dilation), kernel)


def _back_rule(
  g: Array, kernel: Array, *, shape: tuple[int, ...], stride: int, dilation: int
) -> Array:
  g = spread(g, stride)
  seen = views(g, kernel.shape[1], shape[2:4], 1, dilation)
  y = _weighted(seen[::-1], kernel)
  if shape[0] < y.shape[0]:
    # Written out: a reduction over T would keep the loop from vectorising.
    y = sum(y[t : t + 1] for t in range(y.shape[0]))
  return y


def _kernel_rule(
  x: Array, g: Array, *, size: int, stride: int, dilation: int
) -> Array:
  seen = views(x, size, g.shape[2:4], stride, dilation)
  kind = jnp.promote_types(x.dtype, jnp.float32)
  g = g.astype(kind)
  sums = primitives.sums([view.astype(kind) * g for view in seen], (1, 2, 3))
  return jnp.stack(sums, 1).reshape(g.shape[0], size, size, g.shape[4])


def _forward_shape(x: Any, kernel: Any, *, stride: int, dilation: int):
  del dilation
  out = strided(x.shape[2:4], stride)
  return (kernel.shape[0], x.shape[1], *out, x.shape[4]), x.dtype


def _back_shape(g: Any, kernel: Any, *, shape: tuple[int, ...], **_: int):
  del kernel
  return shape, g.dtype


def _kernel_shape(x: Any, g: Any, *, size: int, **_: int):
  kind = jnp.promote_types(x.dtype, jnp.float32)
  return (g.shape[0], size, size, g.shape[4]), kind


_forward = primitives.primitive("depthwise", _forward_rule, _forward_shape)
_back = primitives.primitive("depthwise_back", _back_rule, _back_shape)
_kernel = primitives.primitive("depthwise_kernel", _kernel_rule, _kernel_shape)


ad.defbilinear(
  _forward,
  lambda g, x, k, **p: _back.bind(g, k, shape=x.aval.shape, **p),
  lambda g, x, k, **p: _kernel.bind(x, g, size=k.aval.shape[1], **p),
)
ad.defbilinear(
  _back,
  lambda x, g, k, shape, **p: _forward.bind(x, k, **p),
  lambda x, g, k, shape, **p: _kernel.bind(x, g, size=k.aval.shape[1], **p),
)
ad.defbilinear(
  _kernel,
  lambda k, x, g, size, **p: _back.bind(g, k, shape=x.aval.shape, **p),
  lambda k, x, g, size, **p: _forward.bind(x, k, **p),
)
