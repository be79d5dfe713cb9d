"""Convolutions on feature maps, as functions of features and parameters.

A separable convolution is computed in one of two ways (`separable`), never as
a grouped convolution: on CPU as shifted multiply-adds and a matrix product; on
accelerators, since there is nothing between its depthwise and its pointwise
half, as one dense convolution with the kernel dw[i, j, c] * pw[d, c].

Paddings are explicit and symmetric, as PyTorch's: JAX's "SAME" is asymmetric
for a stride of two on an even size.
"""

from collections.abc import Sequence
import dataclasses

import jax
from jax import lax
import jax.numpy as jnp

from jnas.spaces.depthwise import depthwise, reach
from jnas.spaces.pointwise import pointwise

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


@dataclasses.dataclass(frozen=True)
class Plain:
  """ReLU, convolution k x k, normalisation.

  In search networks of NAS-Bench-201 the convolution has a bias, as in the
  published supernet; a normalisation takes it away again.
  """

  size: int
  shift: bool = False


CONVOLUTIONS: dict[str, Separable | Factorized | Plain] = {
  "sep_conv_3x3": Separable(3, repeats=2),
  "sep_conv_5x5": Separable(5, repeats=2),
  "sep_conv_7x7": Separable(7, repeats=2),
  "dil_conv_3x3": Separable(3, dilation=2),
  "dil_conv_5x5": Separable(5, dilation=2),
  "conv_3x1_1x3": Factorized(3),
  "conv_5x1_1x5": Factorized(5),
  "conv_7x1_1x7": Factorized(7),
  "conv_1x1": Plain(1),
  "conv_3x3": Plain(3),
  "nor_conv_1x1": Plain(1, shift=True),
  "nor_conv_3x3": Plain(3, shift=True),
}


def margin(op: str) -> int:
  """The padding that an operator's first depthwise convolution needs."""
  form = CONVOLUTIONS[op]
  depthwise = isinstance(form, Separable)
  return reach(form.size, form.dilation) if depthwise else 0


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
    pointwise: [T, D, C].

  Returns:
    [k, k, C, T * D] with entries dw[t, i, j, c] * pw[t, d, c].
  """
  t, k, _, c = depthwise.shape
  dense = jnp.einsum("tijc,tdc->ijctd", depthwise, pointwise)
  return dense.reshape(k, k, c, t * pointwise.shape[1])


def separable(
  x: Array,
  window: Array,
  point: Array,
  stride: int = 1,
  dilation: int = 1,
  *,
  margin: int = 0,
  dense: bool | None = None,
) -> Array:
  """The depthwise, then pointwise convolution of each edge.

  Args:
    x: [T, N, H, W, C], or [1, N, H, W, C] where all edges read the same.
    window: [T, k, k, C], the depthwise kernels.
    point: [T, D, C], the pointwise kernels.
    stride: of both axes.
    dilation: of both axes.
    margin: see `depthwise`.
    dense: whether each pair is one dense convolution. It costs k^2 C D
      multiplications a pixel instead of k^2 C + C D, and is right where those
      are cheap: default everywhere but on CPU.

  Returns:
    [T, N, ceil(H / stride), ceil(W / stride), D].
  """
  if dense is None:
    dense = jax.default_backend() != "cpu"
  if not dense:
    y = depthwise(x, window, stride, dilation, margin)
    return pointwise(y, point)
  if x.shape[0] == 1:
    y = conv(x[0], merge(window, point), stride, dilation)
    y = y.reshape(*y.shape[:3], *point.shape[:2])
    return jnp.moveaxis(y, 3, 0)
  kernels = [
    merge(window[t : t + 1], point[t : t + 1]) for t in range(len(window))
  ]
  return jnp.stack(
    [
      conv(each, kernel, stride, dilation)
      for each, kernel in zip(x, kernels, strict=True)
    ]
  )


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


def dense(
  x: Array,
  kernel: Array,
  stride: int | tuple[int, int] = 1,
  *,
  patches: bool | None = None,
) -> Array:
  """`conv` without dilation, for operators of cells.

  Args:
    x: [N, H, W, C].
    kernel: [kh, kw, C, D].
    stride: of both axes, or one each.
    patches: whether it is one product of matrices, of every pixel's window and
      the kernel: default on CPU, where XLA computes convolutions some ten times
      slower inside a loop, but not matrix products.
  """
  if patches is None:
    patches = jax.default_backend() == "cpu"
  if not patches:
    return conv(x, kernel, stride)
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


def halve(x: Array, kernel: Array) -> Array:
  """The factorized reduction: two 1 x 1 convolutions of stride two.

  One reads the even pixels, the other the odd ones; together they see every
  fourth pixel twice as densely as one strided convolution. An odd size is
  padded by one (AutoDL's reading; DARTS's code fails there).

  Args:
    x: [N, H, W, C].
    kernel: [T, 2, D, C]; the half for even pixels, then that for odd ones.

  Returns:
    [T, N, ceil(H/2), ceil(W/2), 2 * D], the even half first.
  """
  h, w = x.shape[1:3]
  t, _, d, c = kernel.shape
  x = jnp.pad(x, ((0, 0), (0, h % 2 and 1), (0, w % 2 and 1), (0, 0)))
  halves = []
  for i in range(2):
    flat = kernel[:, i].reshape(1, t * d, c)
    y = pointwise(x[None, :, i::2, i::2], flat)[0]
    halves.append(jnp.moveaxis(y.reshape(*y.shape[:3], t, d), 3, 0))
  return jnp.concatenate(halves, axis=-1)


def shuffle(x: Array, groups: int) -> Array:
  """x with the channels of its groups in turn: ShuffleNet's shuffle.

  Args:
    x: [..., C], the groups one after the other.
    groups: K, a divisor of C.

  >>> [int(i) for i in shuffle(jnp.arange(8), 4)]
  [0, 2, 4, 6, 1, 3, 5, 7]
  """
  split = x.reshape(*x.shape[:-1], groups, -1)
  return jnp.swapaxes(split, -1, -2).reshape(x.shape)
