"""Cells: directed acyclic graphs of nodes, and the fixed reduction cell."""

from collections.abc import Callable
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from jnas.spaces import ops
from jnas.spaces.mixed import Fan
from jnas.spaces.spec import Cell

Array = jax.Array


class Preprocess(nn.Module):
  """ReLU, a 1 x 1 convolution to C channels, normalisation.

  Where the input has twice the resolution of the cell it is the factorized
  reduction instead.
  """

  channels: int
  halve: bool
  norm: Callable[..., nn.Module]

  @nn.compact
  def __call__(self, x: Array) -> Array:
    c, d = x.shape[-1], self.channels
    init = ops.fan_in_uniform(c)
    x = jax.nn.relu(x)
    if self.halve:
      x = ops.halve(x, self.param("kernel", init, (2, 1, c, d // 2)))
    else:
      x = ops.conv(x, self.param("kernel", init, (1, 1, c, d)))
    return self.norm(name="norm")(x)


class SearchCell(nn.Module):
  """A cell computed node by node, each node's outgoing edges together."""

  cell: Cell
  channels: int
  reduction: bool
  halve_first: bool
  norm: Callable[..., nn.Module]
  pool_norm: bool

  @nn.compact
  def __call__(
    self, s0: Array, s1: Array, weights: Array | None, drop: Array | None
  ) -> Array:
    """The concatenated nodes: [N, H', W', C * len(concat)].

    Args:
      s0: output of the cell before the previous one.
      s1: output of the previous cell.
      weights: [E, O], or None where every kept operator counts once.
      drop: [N, E, O] factors of drop path, or None.
    """
    cell, c = self.cell, self.channels
    states: list[Any] = [None] * cell.nodes
    states[0] = Preprocess(c, self.halve_first, self.norm, name="input0")(s0)
    states[1] = Preprocess(c, False, self.norm, name="input1")(s1)
    for source in range(cell.nodes - 1):
      rows = [e for e, (j, _) in enumerate(cell.edges) if j == source]
      rows = [e for e in rows if cell.kept[e]]
      if not rows:
        continue
      if states[source] is None:
        raise ValueError(
          f"node {source} of a cell has no operator on any edge that enters it "
          f"(edges {cell.edges}, kept {cell.kept}); keep one, or none that "
          "leaves the node"
        )
      index = jnp.asarray(rows)
      fan = Fan(
        names=cell.ops,
        kept=tuple(cell.kept[e] for e in rows),
        channels=c,
        stride=2 if self.reduction and source < 2 else 1,
        norm=self.norm,
        pool_norm=self.pool_norm,
        name=f"node{source}",
      )
      outputs = fan(
        states[source],
        None if weights is None else weights[index],
        None if drop is None else drop[:, index],
      )
      for row, y in zip(rows, outputs, strict=True):
        target = cell.edges[row][1]
        states[target] = y if states[target] is None else states[target] + y
    missing = [i for i in cell.concat if states[i] is None]
    if missing:
      raise ValueError(
        f"nodes {missing} are part of a cell's output but have no operator on "
        f"any edge that enters them (edges {cell.edges}, kept {cell.kept})"
      )
    return jnp.concatenate([states[i] for i in cell.concat], -1)


class FixedReduction(nn.Module):
  """GDAS's fixed reduction cell (Dong & Yang 2019, section 3.3).

  Facts the paper leaves out are those of its published code: each input goes
  through ReLU, convolutions 1 x 3 and 3 x 1 in eight groups, normalisation,
  ReLU, 1 x 1, normalisation; and through a 3 x 3 maximum pool of stride two
  and a normalisation. Both normalisations after pools stay in evaluation.
  """

  channels: int
  halve_first: bool
  norm: Callable[..., nn.Module]

  @nn.compact
  def __call__(
    self, s0: Array, s1: Array, weights: None, drop: Array | None
  ) -> Array:
    """The four branches concatenated: [N, H / 2, W / 2, 4 C].

    Args:
      s0: output of the cell before the previous one.
      s1: output of the previous cell.
      weights: always None; nothing here is searched.
      drop: [N, 4, 1] factors of drop path, or None.
    """
    c = self.channels
    if c % 8:
      raise ValueError(
        f"the fixed reduction cell has convolutions in 8 groups, so its "
        f"channels must be divisible by 8, but a cell has {c}; choose a width "
        f"divisible by 8 after one doubling (36, 40 or 52, say)"
      )
    inputs = (
      Preprocess(c, self.halve_first, self.norm, name="input0")(s0),
      Preprocess(c, False, self.norm, name="input1")(s1),
    )
    branches = [self._convolved(f"conv{i}", x) for i, x in enumerate(inputs)]
    for i, x in enumerate(inputs):
      branches.append(self.norm(name=f"pool{i}")(ops.max_pool(x, 2)))
    if drop is not None:
      factors = drop[:, :, 0].astype(s0.dtype)
      branches = [
        x * factors[:, i, None, None, None] for i, x in enumerate(branches)
      ]
    return jnp.concatenate(branches, -1)

  def _convolved(self, name: str, x: Array) -> Array:
    c = self.channels
    init = ops.fan_in_uniform(3 * c // 8)
    row = self.param(f"{name}_row", init, (1, 3, c // 8, c))
    column = self.param(f"{name}_column", init, (3, 1, c // 8, c))
    point = self.param(f"{name}_point", ops.fan_in_uniform(c), (1, 1, c, c))
    x = ops.conv(jax.nn.relu(x), ungroup(row, 8), (1, 2))
    x = ops.conv(x, ungroup(column, 8), (2, 1))
    x = jax.nn.relu(self.norm(name=f"{name}_norm0")(x))
    return self.norm(name=f"{name}_norm1")(ops.conv(x, point))


def ungroup(kernel: Array, groups: int) -> Array:
  """The dense kernel of a grouped convolution: zero between the groups.

  Args:
    kernel: [kh, kw, C / groups, D].
    groups: number of groups.

  Returns:
    [kh, kw, C, D].
  """
  kh, kw, c, d = kernel.shape
  split = kernel.reshape(kh, kw, c, groups, d // groups)
  eye = jnp.eye(groups, dtype=kernel.dtype)
  dense = jnp.einsum("hwcgd,kg->hwkcgd", split, eye)
  return dense.reshape(kh, kw, groups * c, d)
