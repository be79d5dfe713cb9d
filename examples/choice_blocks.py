"""A chain of choice blocks as a search space of one's own, outside of jnas.

  python -m jnas.main --config=configs/darts.py:quick \
      --config.space.name=examples.choice_blocks:choice_blocks \
      --config.space.cells=4 --config.space.width=8

The space of ProxylessNAS (Cai et al. 2019, section 4.1) in small: each block of
a chain chooses the kernel and the expansion of a mobile inverted bottleneck
(MBConv), or is left out where it can be. Blocks at one and two thirds of the
depth halve the resolution and double the channels.
"""

from collections.abc import Callable
import functools
import itertools

from flax import linen as nn
import jax
import jax.numpy as jnp

from jnas.spaces.norm import BatchNorm
from jnas.spaces.space import Execution, Size, Space
from jnas.spaces.spec import Cell, Spec, reductions

MBCONVS = {
  f"mbconv{e}_{k}x{k}": (e, k) for e, k in itertools.product((3, 6), (3, 5))
}
OPERATORS = ("skip_connect", *MBCONVS)


def spec(size: Size) -> Spec:
  """One cell, the chain: block i is the edge from node i to node i + 1."""
  edges = tuple((i, i + 1) for i in range(size.cells))
  kept = [
    tuple(MBCONVS) if i in reductions(size.cells) else OPERATORS
    for i in range(size.cells)
  ]
  chain = Cell(OPERATORS, edges, tuple(kept), (size.cells,), inputs=1, degree=1)
  return Spec((("chain", chain),), (), size.width, size.classes)


class MBConv(nn.Module):
  """1 x 1 to more channels, depthwise k x k, 1 x 1 back."""

  channels: int
  expansion: int
  kernel: int
  stride: int
  norm: Callable[[], nn.Module]

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    wide = self.expansion * x.shape[-1]
    depthwise = dict(strides=self.stride, feature_group_count=wide)
    size = (self.kernel, self.kernel)
    for features, shape, more in ((wide, (1, 1), {}), (wide, size, depthwise)):
      x = nn.Conv(features, shape, use_bias=False, **more)(x)
      x = nn.relu6(self.norm()(x))
    x = nn.Conv(self.channels, (1, 1), use_bias=False)(x)
    return self.norm()(x)


class Chain(nn.Module):
  """The network, for the search and of what is derived."""

  spec: Spec
  how: Execution

  @nn.compact
  def __call__(self, x, edge_weights=None, drop=None, *, train):
    cell, how = self.spec.cell("chain"), self.how
    norm = functools.partial(
      BatchNorm, train, self.spec.affine, how.axis, how.backend
    )
    width = self.spec.width
    x = norm()(nn.Conv(width, (3, 3), use_bias=False)(x))
    for i, kept in enumerate(cell.kept):
      stride = 2 if i in reductions(len(cell.kept)) else 1
      width *= stride
      total = 0
      for op in kept:
        if op == "skip_connect":
          y = x
        else:
          y = MBConv(width, *MBCONVS[op], stride, norm)(x)
          y = y + x if stride == 1 else y
        if edge_weights is not None:
          y = y * edge_weights["chain"][i, cell.ops.index(op)]
        total = total + y
      x = total
    pooled = nn.relu6(x).mean((1, 2)).astype(jnp.float32)
    return nn.Dense(self.spec.classes)(pooled), None


choice_blocks = Space(OPERATORS, spec, Chain)
