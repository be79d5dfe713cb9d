"""Separable convolutions as dense ones.

There is nothing between the depthwise and the pointwise half, so together they
are one convolution with the kernel dw[i, j, c] * pw[d, c]. It costs k^2 C D
multiplications a pixel instead of k^2 C + C D, and is right where those are
cheap.
"""

import jax
import jax.numpy as jnp

from jnas.ops import plain

Array = jax.Array


def separable(
  x: Array, window: Array, point: Array, stride: int = 1, dilation: int = 1
) -> Array:
  """The depthwise, then pointwise convolution of each edge.

  Args:
    x: [T, N, H, W, C], or [1, N, H, W, C] where all edges read the same.
    window: [T, k, k, C], the depthwise kernels.
    point: [T, D, C], the pointwise kernels.
    stride: of both axes.
    dilation: of both axes.

  Returns:
    [T, N, ceil(H / stride), ceil(W / stride), D].
  """
  if x.shape[0] == 1:
    y = plain.convolution(x[0], merge(window, point), stride, dilation)
    y = y.reshape(*y.shape[:3], *point.shape[:2])
    return jnp.moveaxis(y, 3, 0)
  kernels = [
    merge(window[t : t + 1], point[t : t + 1]) for t in range(len(window))
  ]
  return jnp.stack(
    [
      plain.convolution(each, kernel, stride, dilation)
      for each, kernel in zip(x, kernels, strict=True)
    ]
  )


def merge(window: Array, point: Array) -> Array:
  """The dense kernel of T depthwise-pointwise pairs that read one input.

  Args:
    window: [T, k, k, C].
    point: [T, D, C].

  Returns:
    [k, k, C, T * D] with entries window[t, i, j, c] * point[t, d, c].
  """
  t, k, _, c = window.shape
  dense = jnp.einsum("tijc,tdc->ijctd", window, point)
  return dense.reshape(k, k, c, t * point.shape[1])
