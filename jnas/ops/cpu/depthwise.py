"""Depthwise convolutions of T edges, and all of their derivatives.

Everything here is one trilinear form,

  F(x, k, g) = sum k[t,i,j,c] x[t,n,s*h+d*i-p,s*w+d*j-p,c] g[t,n,h,w,c],

with stride s, dilation d, padding p. Its three parts (`trilinear`) are shifted
multiply-adds that compile to one loop each, where a grouped convolution on CPU
is some fifty times slower and the derivatives of slices are slow and many.

A window of one pixel makes them the product with a factor for each channel.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp

from jnas.ops.cpu import kernel_gradients, primitives, trilinear
from jnas.ops.plain import strided

Array = jax.Array


class Geometry(NamedTuple):
  """What is static in a convolution.

  Attributes:
    shape: of the features, [T or 1, N, H, W, C].
    size: k of the window, odd.
    stride: of both axes.
    dilation: of both axes.
    halo: of the padding.
  """

  shape: tuple[int, ...]
  size: int
  stride: int = 1
  dilation: int = 1
  halo: int = 0

  @property
  def image(self) -> tuple[int, ...]:
    """H and W of the features."""
    return self.shape[2:4]

  @property
  def reach(self) -> int:
    """Pixels from the middle of the window to its border."""
    return reach(self.size, self.dilation)


def depthwise(
  x: Array,
  kernel: Array,
  stride: int = 1,
  dilation: int = 1,
  halo: int = 0,
) -> Array:
  """The depthwise convolution of each edge, padded to keep H and W.

  Args:
    x: [T, N, H, W, C], or [1, N, H, W, C] where all edges read the same.
    kernel: [T, k, k, C], k odd, of the type of x or better. One of more than a
      pixel is taken for a parameter (`kernel_gradients`).
    stride: of both axes.
    dilation: of both axes.
    halo: pixels of padding, where that is more than the window needs.
      Convolutions of one x with one halo pad it once.

  Returns:
    [T, N, ceil(H / stride), ceil(W / stride), C] of the type of x.
  """
  size = kernel.shape[1]
  # A factor for each channel need not be a parameter.
  flags = kernel_gradients.flags() if size > 1 else ()
  halo = max(halo, reach(size, dilation)) if size > 1 else 0
  geometry = Geometry(x.shape, size, stride, dilation, halo)
  return _form.forward.bind(x, kernel, *flags, geometry=geometry)


def products(x: Array, g: Array) -> Array:
  """The sums of x * g over examples and pixels: [T, C], float32 or better.

  Args:
    x: [T, N, H, W, C] or [1, N, H, W, C].
    g: [T, N, H, W, C].
  """
  return _form.kernel.bind(x, g, geometry=Geometry(x.shape, 1))[:, 0, 0]


def reach(size: int, dilation: int = 1) -> int:
  """Pixels from the middle of a window to its border."""
  return dilation * (size - 1) // 2


def padded(
  x: Array,
  halo: int,
  like: Sequence[int],
  stride: int = 1,
  fill: float = 0,
) -> Array:
  """x with its pixels a stride apart on H x W pixels, and a halo around.

  Args:
    x: [T, N, H', W', C].
    halo: in pixels.
    like: H and W.
    stride: of both axes.
    fill: of what is between and around.

  Returns:
    [T, N, H + 2 * halo, W + 2 * halo, C].
  """
  if not halo and stride == 1:
    return x
  none = (0, 0, 0)
  pads = [
    (halo, halo + full - stride * (size - 1) - 1, stride - 1)
    for size, full in zip(x.shape[2:4], like, strict=True)
  ]
  return lax.pad(x, jnp.asarray(fill, x.dtype), [none, none, *pads, none])


def views(
  x: Array,
  size: int,
  out: tuple[int, int],
  stride: int = 1,
  dilation: int = 1,
  *,
  halo: int,
) -> list[Array]:
  """For each pixel of the window, row by row, what the outputs see there.

  At (i, j) the output (h, w) sees the pixel (stride * h + dilation * i - p,
  stride * w + dilation * j - p), p = dilation * (size - 1) / 2.

  Args:
    x: [T, N, H, W, C] with that halo around.
    size: of the window, odd.
    out: H' and W' of the outputs.
    stride: of both axes.
    dilation: of both axes.
    halo: of x.

  Returns:
    size^2 arrays [T, N, H', W', C].
  """
  corner = halo - reach(size, dilation)
  offsets = [corner + dilation * i for i in range(size)]
  span = [stride * (o - 1) + 1 for o in out]
  return [
    lax.slice(
      x,
      (0, 0, i, j, 0),
      (*x.shape[:2], i + span[0], j + span[1], x.shape[4]),
      (1, 1, stride, stride, 1),
    )
    for i in offsets
    for j in offsets
  ]


def _weighted(seen: list[Array], kernel: Array) -> Array:
  """sum_i kernel[:, i] * seen[i] in the type of what is seen."""
  taps = kernel.reshape(kernel.shape[0], -1, 1, 1, 1, kernel.shape[3])
  terms = [taps[:, i] * view for i, view in enumerate(seen)]
  return sum(terms[1:], start=terms[0]).astype(seen[0].dtype)


def _forward_rule(x: Array, kernel: Array, *, geometry: Geometry) -> Array:
  _, size, stride, dilation, halo = geometry
  out = strided(geometry.image, stride)
  seen = views(x, size, out, stride, dilation, halo=halo)
  return _weighted(seen, kernel)


def _back_rule(g: Array, kernel: Array, *, geometry: Geometry) -> Array:
  seen = views(
    g,
    geometry.size,
    geometry.image,
    dilation=geometry.dilation,
    halo=geometry.reach,
  )
  y = _weighted(seen[::-1], kernel)
  if geometry.shape[0] < y.shape[0]:
    # Written out: a reduction over T would keep the loop from vectorising.
    y = sum(y[t : t + 1] for t in range(y.shape[0]))
  return y


def _kernel_rule(x: Array, g: Array, *, geometry: Geometry) -> Array:
  _, size, stride, dilation, halo = geometry
  seen = views(x, size, g.shape[2:4], stride, dilation, halo=halo)
  kind = jnp.promote_types(x.dtype, jnp.float32)
  g = g.astype(kind)
  sums = primitives.sums([view.astype(kind) * g for view in seen])
  return jnp.stack(sums, 1).reshape(g.shape[0], size, size, g.shape[4])


def _features_padded(x: Array, other: Array, *, geometry: Geometry):
  return padded(x, geometry.halo, geometry.image), other


def _gradients_padded(g: Array, kernel: Array, *, geometry: Geometry):
  # Each is read by one convolution alone: no wider than that needs it.
  return padded(g, geometry.reach, geometry.image, geometry.stride), kernel


def _forward_shape(x: Any, kernel: Any, *, geometry: Geometry):
  out = strided(geometry.image, geometry.stride)
  shape = geometry.shape
  return (kernel.shape[0], shape[1], *out, shape[4]), x.dtype


def _back_shape(g: Any, kernel: Any, *, geometry: Geometry):
  del kernel
  return geometry.shape, g.dtype


def _kernel_shape(x: Any, g: Any, *, geometry: Geometry):
  kind = jnp.promote_types(x.dtype, jnp.float32)
  size = geometry.size
  return (g.shape[0], size, size, g.shape[4]), kind


def _has_window(*, geometry: Geometry) -> bool:
  """Whether it is more than a factor, which costs nothing in others' loops."""
  return geometry.size > 1


_form = trilinear.form(
  "depthwise",
  trilinear.Part(_forward_rule, _forward_shape, _features_padded, _has_window),
  trilinear.Part(_back_rule, _back_shape, _gradients_padded, _has_window),
  trilinear.Part(_kernel_rule, _kernel_shape, _features_padded),
)
