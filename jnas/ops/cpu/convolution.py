"""Convolutions as products of matrices.

XLA on CPU computes convolutions some ten times slower inside a loop, but not
matrix products.
"""

import jax
from jax import lax
import jax.numpy as jnp

from jnas.ops.cpu.pointwise import pointwise

Array = jax.Array


def convolution(
  x: Array, kernel: Array, stride: int | tuple[int, int] = 1
) -> Array:
  """`plain.convolution` as one product, of every pixel's window and the kernel.

  Args:
    x: [N, H, W, C].
    kernel: [kh, kw, C, D].
    stride: of both axes, or one each.
  """
  (kh, kw, c, d), (n, h, w, _) = kernel.shape, x.shape
  sh, sw = (stride, stride) if isinstance(stride, int) else stride
  pads = ((0, 0), (kh // 2, kh // 2), (kw // 2, kw // 2), (0, 0))
  padded = jnp.pad(x, pads)
  # The last row and column of windows' corners, one after them.
  bottom, right = (-(-h // sh) - 1) * sh + 1, (-(-w // sw) - 1) * sw + 1
  steps = (1, sh, sw, 1)
  windows = [
    lax.slice(padded, (0, i, j, 0), (n, i + bottom, j + right, c), steps)
    for i in range(kh)
    for j in range(kw)
  ]
  flat = kernel.reshape(1, kh * kw * c, d)
  return pointwise(
    jnp.concatenate(windows, -1)[None], jnp.swapaxes(flat, 1, 2)
  )[0]
