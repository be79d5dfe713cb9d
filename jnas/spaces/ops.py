"""Operators on feature maps, as functions of features and parameters.

Convolutions here have no grouped form. Between the depthwise and the pointwise
half of a separable convolution there is nothing, so the pair is one dense
convolution with the kernel dw[i, j, c] * pw[c, d] (`merge`): exact, and on
every backend faster at search widths than a grouped convolution.

Paddings are explicit and symmetric, as PyTorch's: JAX's "SAME" is asymmetric
for a stride of two on an even size.
"""

from collections.abc import Sequence
import dataclasses

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Separable:
  """ReLU, depthwise k x k, pointwise, normalisation; `repeats` times.

  With two repeats this is DARTS's sep_conv, with one and a dilation of two its
  dil_conv. The stride is that of the first repeat.
  """

  size: int
  dilation: int = 1
  repeats: int = 1


@dataclasses.dataclass(frozen=True)
class Factorized:
  """ReLU, convolution 1 x k, convolution k x 1, normalisation."""

  size: int


CONVOLUTIONS: dict[str, Separable | Factorized] = {
  "sep_conv_3x3": Separable(3, repeats=2),
  "sep_conv_5x5": Separable(5, repeats=2),
  "sep_conv_7x7": Separable(7, repeats=2),
  "dil_conv_3x3": Separable(3, dilation=2),
  "dil_conv_5x5": Separable(5, dilation=2),
  "conv_3x1_1x3": Factorized(3),
  "conv_7x1_1x7": Factorized(7),
}


def fan_in_uniform(fan_in: int) -> jax.nn.initializers.Initializer:
  """An initializer drawing from U(-1/sqrt(fan_in), 1/sqrt(fan_in)).

  PyTorch's default for convolutions since 1.0, so that of the field's code.
  """

  def init(key: Array, shape: Sequence[int], dtype=jnp.float32) -> Array:
    bound = fan_in**-0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return init


def merge(depthwise: Array, pointwise: Array) -> Array:
  """The dense kernel of T depthwise-pointwise pairs that read one input.

  Args:
    depthwise: [T, k, k, C].
    pointwise: [T, C, D].

  Returns:
    [k, k, C, T * D] with entries dw[t, i, j, c] * pw[t, c, d].
  """
  t, k, _, c = depthwise.shape
  dense = jnp.einsum("tijc,tcd->ijctd", depthwise, pointwise)
  return dense.reshape(k, k, c, t * pointwise.shape[-1])


def conv(
  x: Array,
  kernel: Array,
  stride: int | tuple[int, int] = 1,
  dilation: int = 1,
) -> Array:
  """The convolution of x with a kernel of odd size, padded to keep H and W.

  Args:
    x: [N, H, W, C].
    kernel: [kh, kw, C, D]; cast to the type of x.
    stride: of both axes, or one each.
    dilation: of both axes.

  Returns:
    [N, ceil(H / stride), ceil(W / stride), D].
  """
  pads = [(dilation * (k - 1) // 2,) * 2 for k in kernel.shape[:2]]
  strides = (stride, stride) if isinstance(stride, int) else stride
  return lax.conv_general_dilated(
    x,
    kernel.astype(x.dtype),
    strides,
    pads,
    rhs_dilation=(dilation, dilation),
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )


def _windows(x: Array, axis: int, fill: float, stride: int) -> list[Array]:
  """The three shifted views of a window of three, padded by one."""
  pads = [(0, 0)] * x.ndim
  pads[axis] = (1, 1)
  size = x.shape[axis]
  padded = jnp.pad(x, pads, constant_values=fill)
  return [
    lax.slice_in_dim(padded, i, i + size, stride, axis) for i in range(3)
  ]


def max_pool(x: Array, stride: int = 1) -> Array:
  """The maximum over 3 x 3 windows, padded with -inf.

  Pairwise maxima of shifted views: the gradient of `lax.reduce_window` is 20
  times slower on CPU.

  Args:
    x: [N, H, W, C].
    stride: of both axes.
  """
  for axis in (1, 2):
    a, b, c = _windows(x, axis, -jnp.inf, stride)
    x = jnp.maximum(jnp.maximum(a, b), c)
  return x


def avg_pool(x: Array, stride: int = 1) -> Array:
  """The mean over 3 x 3 windows of the pixels that exist.

  PyTorch's `count_include_pad=False`: at borders the divisor is the number of
  real pixels.

  Args:
    x: [N, H, W, C].
    stride: of both axes.
  """
  for axis in (1, 2):
    size = x.shape[axis]
    centre = np.arange(0, size, stride)
    count = 3 - (centre == 0) - (centre == size - 1)
    shape = [1] * x.ndim
    shape[axis] = len(centre)
    inverse = jnp.asarray((1 / count).reshape(shape), x.dtype)
    a, b, c = _windows(x, axis, 0.0, stride)
    x = (a + b + c) * inverse
  return x


def halve(x: Array, kernel: Array) -> Array:
  """The factorized reduction: two 1 x 1 convolutions of stride two.

  One reads the even pixels, the other the odd ones; together they see every
  fourth pixel twice as densely as one strided convolution. An odd size is
  padded by one (AutoDL's reading; DARTS's code fails there).

  Args:
    x: [N, H, W, C].
    kernel: [2, T, C, D]; the half for even pixels, then that for odd ones.

  Returns:
    [N, ceil(H/2), ceil(W/2), T * 2 * D]; for each t the even half first.
  """
  h, w = x.shape[1:3]
  x = jnp.pad(x, ((0, 0), (0, h % 2 and 1), (0, w % 2 and 1), (0, 0)))
  kernel = kernel.astype(x.dtype)
  even = jnp.einsum("nhwc,tcd->nhwtd", x[:, ::2, ::2], kernel[0])
  odd = jnp.einsum("nhwc,tcd->nhwtd", x[:, 1::2, 1::2], kernel[1])
  both = jnp.concatenate((even, odd), axis=-1)
  return both.reshape(*both.shape[:3], -1)
