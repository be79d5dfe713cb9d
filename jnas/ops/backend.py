"""How the parts of operators are computed, for the devices of a program.

A program is built for devices, of a mesh or of a topology that is not there:
`of(platform)` chooses once, and the choice is passed down. `PLAIN` is the
definition itself, on T edges at once; the others are equal to it and fast.
Only this file imports `ops.cpu` and `ops.accelerator`.

T edges that leave one node are a leading axis: features are [T, N, H, W, C], or
[1, N, H, W, C] where all edges read the same, kernels [T, ...].
"""

from collections.abc import Callable, Sequence
import contextlib
import dataclasses
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp

from jnas.ops import plain
from jnas.ops.accelerator import separable as dense
from jnas.ops.cpu import affine as cpu_affine
from jnas.ops.cpu import convolution as cpu_convolution
from jnas.ops.cpu import depthwise as cpu_depthwise
from jnas.ops.cpu import kernel_gradients, pointwise, pools, primitives, rows

Array = jax.Array


class Separable(NamedTuple):
  """The kernels of a separable convolution, of T edges.

  Attributes:
    window: [T, k, k, C], depthwise.
    point: [T, D, C], pointwise.
    dilation: of the depthwise one.
  """

  window: Array
  point: Array
  dilation: int = 1


@dataclasses.dataclass(frozen=True)
class Backend:
  """One way of computing what operators are made of.

  Attributes:
    name: of the backend.
    separable: (x, several kernels `Separable`, stride) -> one stack of
      features [T, N, H', W', D] each. All read the same x.
    pointwise: (x, kernels [T, D, C]) -> [T, N, H, W, D].
    convolution: (x [N, H, W, C], kernel, stride): `plain.convolution`.
    max_pool: (x [N, H, W, C], stride): `plain.max_pool`.
    avg_pool: (x [N, H, W, C], stride): `plain.avg_pool`.
    affine: (x, p [2, T, C]) -> p[0] * x + p[1], of the type of x.
    scale: (x, factors [T, C]) -> factors * x, of the type of x.
    moments: x -> [2, T, C], the sums of x^2 and of x over examples and pixels
      in float32 or better.
    fusion_barrier: x -> x, computed before what uses it.
    take_row: (stack [R, ...], i) -> row i, and the stack to be used from here
      on in its place.
    add_row: (stack, i, y) -> the stack with y added to row i.
    saved: the policy of `jax.checkpoint` for loops over edges: what is small
      and dear is kept.
    kernel_gradients_only_where: flag -> a context. What is traced inside may
      leave out the gradients of kernels where the flag is false.
    loops: whether what is equal (edges of a cell, both levels of a step) is
      one loop: less to compile.
    slow_loops: whether loops cost time: convolutions that are not the backend's
      own, as those of blocks, are slow in one. Otherwise cells are a loop, too,
      and so are edges that keep different operators.
  """

  name: str
  separable: Callable[..., list[Array]]
  pointwise: Callable[[Array, Array], Array]
  convolution: Callable[..., Array]
  max_pool: Callable[..., Array]
  avg_pool: Callable[..., Array]
  affine: Callable[[Array, Array], Array]
  scale: Callable[[Array, Array], Array]
  moments: Callable[[Array], Array]
  fusion_barrier: Callable[[Array], Array]
  take_row: Callable[[Array, Array], tuple[Array, Array]]
  add_row: Callable[[Array, Array, Array], Array]
  saved: Callable[..., bool] | None
  kernel_gradients_only_where: Callable[
    [Array], contextlib.AbstractContextManager[Any]
  ]
  loops: bool
  slow_loops: bool

  def __repr__(self) -> str:
    return f"Backend({self.name!r})"

  def factorized_reduction(self, x: Array, halves: Array) -> Array:
    """`plain.factorized_reduction` of one x for T edges.

    Args:
      x: [N, H, W, C].
      halves: [T, 2, D, C].

    Returns:
      [T, N, ceil(H / 2), ceil(W / 2), 2 * D].
    """
    t, _, d, c = halves.shape
    x = jnp.pad(x, ((0, 0), *((0, n % 2) for n in x.shape[1:3]), (0, 0)))
    parts = []
    for i in range(2):
      flat = halves[:, i].reshape(1, t * d, c)
      y = self.pointwise(x[None, :, i::2, i::2], flat)[0]
      parts.append(jnp.moveaxis(y.reshape(*y.shape[:3], t, d), 3, 0))
    return jnp.concatenate(parts, axis=-1)


def of(platform: str) -> Backend:
  """The backend for devices of a platform: "cpu", "gpu", "tpu" or another."""
  return CPU if platform == "cpu" else ACCELERATOR


def _each_edge(function: Callable[..., Array]) -> Callable[..., Array]:
  """A function of one edge's features and kernels, on T edges."""

  def on_edges(x: Array, *kernels: Array) -> Array:
    if len(x) < len(kernels[0]):
      x = jnp.broadcast_to(x, (len(kernels[0]), *x.shape[1:]))
    return jax.vmap(function)(x, *kernels)

  return on_edges


def _separable(
  x: Array, kernels: Sequence[Separable], stride: int = 1
) -> list[Array]:
  return [
    _each_edge(
      lambda x, window, point, dilation=each.dilation: plain.separable(
        x, window, point, stride, dilation
      )
    )(x, each.window, each.point)
    for each in kernels
  ]


def _scaled(x: Array, a: Array, b: Array | None = None) -> Array:
  y = a[:, None, None, None] * x
  return (y if b is None else y + b[:, None, None, None]).astype(x.dtype)


def _moments(x: Array) -> Array:
  x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
  return jnp.stack([(x * x).sum((1, 2, 3)), x.sum((1, 2, 3))])


PLAIN = Backend(
  name="plain",
  separable=_separable,
  pointwise=_each_edge(plain.pointwise),
  convolution=plain.convolution,
  max_pool=plain.max_pool,
  avg_pool=plain.avg_pool,
  affine=lambda x, p: _scaled(x, p[0], p[1]),
  scale=_scaled,
  moments=_moments,
  fusion_barrier=lambda x: x,
  take_row=lambda stack, i: (
    lax.dynamic_index_in_dim(stack, i, keepdims=False), stack
  ),
  add_row=lambda stack, i, y: stack.at[i].add(y),
  saved=None,
  kernel_gradients_only_where=lambda flag: contextlib.nullcontext(),
  loops=False,
  slow_loops=False,
)


def _dense_separable(
  x: Array, kernels: Sequence[Separable], stride: int = 1
) -> list[Array]:
  return [
    dense.separable(x, each.window, each.point, stride, each.dilation)
    for each in kernels
  ]


ACCELERATOR = dataclasses.replace(
  PLAIN, name="accelerator", separable=_dense_separable, loops=True
)


def _cpu_separable(
  x: Array, kernels: Sequence[Separable], stride: int = 1
) -> list[Array]:
  # With one halo for all of them what they read is padded once.
  halo = max(
    cpu_depthwise.reach(each.window.shape[1], each.dilation)
    for each in kernels
  )
  return [
    pointwise.pointwise(
      cpu_depthwise.depthwise(x, each.window, stride, each.dilation, halo),
      each.point,
    )
    for each in kernels
  ]


CPU = Backend(
  name="cpu",
  separable=_cpu_separable,
  pointwise=pointwise.pointwise,
  convolution=cpu_convolution.convolution,
  max_pool=pools.max_pool,
  avg_pool=pools.avg_pool,
  affine=cpu_affine.affine,
  scale=cpu_affine.scale,
  moments=cpu_affine.moments,
  fusion_barrier=primitives.fusion_barrier,
  take_row=rows.take,
  add_row=rows.add,
  saved=cpu_affine.keep_sums,
  kernel_gradients_only_where=kernel_gradients.only_where,
  loops=True,
  slow_loops=True,
)
