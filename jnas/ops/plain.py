"""What operators compute, said with jax.lax alone.

These are the definitions: one edge, one operator, as the papers have them. The
forms that are fast on some devices (`jnas.ops.backend`) give the same values
and the same first and second derivatives.

Features are [N, H, W, C]. Paddings are explicit and symmetric, as PyTorch's:
JAX's "SAME" is asymmetric for a stride of two on an even size. So an output has
`strided(H, W)` pixels.
"""

from collections.abc import Callable, Mapping, Sequence

import jax
from jax import lax
import jax.numpy as jnp

Array = jax.Array
# The parameters of one operator on one edge, by name.
Params = Mapping[str, Array]
# (features, i) -> the same after the operator's i-th normalisation, i = 1, ...
Norm = Callable[[Array, int], Array]

EPSILON = 1e-5


def strided(size: Sequence[int], stride: int) -> tuple[int, int]:
  """H and W after a stride: rounded up.

  >>> strided((9, 8), 2)
  (5, 4)
  """
  return -(-size[0] // stride), -(-size[1] // stride)


# Operators: (x, parameters, norm, stride) -> y.


def skip(x: Array, p: Params, norm: Norm, stride: int) -> Array:
  """The identity; with a stride of two, ReLU, factorized reduction, norm."""
  if stride == 1:
    return x
  return norm(factorized_reduction(jax.nn.relu(x), p["halves"]), 1)


def separable_convolution(
  x: Array,
  p: Params,
  norm: Norm,
  stride: int,
  *,
  dilation: int = 1,
  repeats: int = 1,
) -> Array:
  """`repeats` times ReLU, depthwise convolution, 1 x 1 convolution, norm.

  DARTS's sep_conv has two repeats, of which the first has the stride; its
  dil_conv has one, and a dilation of two.
  """
  for i in range(1, repeats + 1):
    x = separable(
      jax.nn.relu(x),
      p[f"depthwise{i}"],
      p[f"pointwise{i}"],
      stride if i == 1 else 1,
      dilation,
    )
    x = norm(x, i)
  return x


def factorized_convolution(
  x: Array, p: Params, norm: Norm, stride: int
) -> Array:
  """ReLU, convolution 1 x k, convolution k x 1, norm."""
  x = convolution(jax.nn.relu(x), p["row"], (1, stride))
  return norm(convolution(x, p["column"], (stride, 1)), 1)


def full_convolution(x: Array, p: Params, norm: Norm, stride: int) -> Array:
  """ReLU, convolution k x k, norm."""
  x = convolution(jax.nn.relu(x), p["kernel"], stride)
  if "shift" in p:
    x = x + p["shift"].astype(x.dtype)[None, None, None]
  return norm(x, 1)


# What operators are made of.


def convolution(
  x: Array,
  kernel: Array,
  stride: int | tuple[int, int] = 1,
  dilation: int = 1,
  groups: int = 1,
) -> Array:
  """The convolution with a kernel of odd size, padded to keep H and W.

  Args:
    x: [N, H, W, C].
    kernel: [kh, kw, C / groups, D]; cast to the type of x.
    stride: of both axes, or one each.
    dilation: of both axes.
    groups: of channels.

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
    feature_group_count=groups,
  )


def depthwise(
  x: Array, kernel: Array, stride: int = 1, dilation: int = 1
) -> Array:
  """The convolution of each channel with a kernel of its own, [k, k, C]."""
  return convolution(
    x, kernel[:, :, None], stride, dilation, groups=x.shape[-1]
  )


def pointwise(x: Array, kernel: Array) -> Array:
  """The 1 x 1 convolution with a kernel [D, C]."""
  return jnp.einsum("nhwc,dc->nhwd", x, kernel.astype(x.dtype))


def separable(
  x: Array, window: Array, point: Array, stride: int = 1, dilation: int = 1
) -> Array:
  """The depthwise convolution [k, k, C], then the 1 x 1 convolution [D, C]."""
  return pointwise(depthwise(x, window, stride, dilation), point)


def factorized_reduction(x: Array, halves: Array) -> Array:
  """Two 1 x 1 convolutions of stride two, side by side.

  One reads the even pixels, the other the odd ones; together they see every
  fourth pixel twice as densely as one strided convolution. An odd size is
  padded by one (AutoDL's reading; DARTS's code fails there).

  Args:
    x: [N, H, W, C].
    halves: [2, D, C]; the kernel for even pixels, then that for odd ones.

  Returns:
    [N, ceil(H / 2), ceil(W / 2), 2 * D].
  """
  parts = [pointwise(y, halves[i]) for i, y in enumerate(half_pixels(x))]
  return jnp.concatenate(parts, -1)


def half_pixels(x: Array) -> list[Array]:
  """The even and the odd pixels of [N, H, W, C], padded to even sizes."""
  x = jnp.pad(x, ((0, 0), *((0, n % 2) for n in x.shape[1:3]), (0, 0)))
  return [x[:, i::2, i::2] for i in range(2)]


def max_pool(x: Array, stride: int = 1) -> Array:
  """The maximum over 3 x 3 windows, padded with -inf.

  Where several pixels of a window are its maximum, the first of them (by row,
  then by column) has the gradient: the rule of `lax.reduce_window` and of
  PyTorch, which every form keeps.

  Args:
    x: [N, H, W, C].
    stride: of both axes.
  """
  return lax.reduce_window(x, -jnp.inf, lax.max, *_windows(stride))


def avg_pool(x: Array, stride: int = 1) -> Array:
  """The mean over 3 x 3 windows of the pixels that exist.

  PyTorch's `count_include_pad=False`: at borders the divisor is the number of
  real pixels.

  Args:
    x: [N, H, W, C].
    stride: of both axes.
  """
  ones = jnp.ones((1, *x.shape[1:3], 1), x.dtype)
  total, count = (
    lax.reduce_window(y, 0.0, lax.add, *_windows(stride)) for y in (x, ones)
  )
  return total / count


def _windows(stride: int) -> tuple[tuple, tuple, tuple]:
  pads = ((0, 0), (1, 1), (1, 1), (0, 0))
  return (1, 3, 3, 1), (1, stride, stride, 1), pads


def batch_norm(
  x: Array,
  moments: tuple[Array, Array] | None = None,
  scale: Array | None = None,
  bias: Array | None = None,
) -> Array:
  """Batch normalisation of each channel.

  Args:
    x: [N, H, W, C].
    moments: (mean, variance) to use, [C] each; those of x if None.
    scale: [C], or None for one.
    bias: [C], or None for zero.
  """
  mean, var = moments if moments else (x.mean((0, 1, 2)), x.var((0, 1, 2)))
  y = (x - mean[None, None, None]) * lax.rsqrt(var + EPSILON)[None, None, None]
  y = y if scale is None else y * scale[None, None, None]
  return y if bias is None else y + bias[None, None, None]
