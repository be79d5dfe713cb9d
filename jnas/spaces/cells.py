"""Cells: directed acyclic graphs of nodes, and the fixed reduction cell."""

from collections.abc import Callable
import dataclasses
import functools

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from jnas.spaces import mixed, ops, pools
from jnas.spaces.norm import BatchNorm
from jnas.spaces.pointwise import pointwise
from jnas.spaces.primitives import materialise
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
      kernel = self.param("kernel", init, (2, d // 2, c))
      x = ops.halve(x, kernel[None])[0]
    else:
      kernel = self.param("kernel", init, (d, c))
      x = pointwise(x[None], kernel[None])[0]
    return self.norm(name="norm")(x)


@dataclasses.dataclass(frozen=True)
class Segment:
  """Edges of one stride, ordered by source, that are computed in one go.

  Attributes:
    edges: their rows in the weights.
    stride: of all of them.
    loop: whether they are equal but for their weights, and one loop does all.
  """

  edges: tuple[int, ...]
  stride: int
  loop: bool


@functools.cache
def segments(cell: Cell, reduction: bool, loop: bool) -> tuple[Segment, ...]:
  """The edges with an operator, by source: each after those it depends on.

  Args:
    cell: the graph.
    reduction: whether edges from the two inputs have a stride of two.
    loop: whether equal edges are computed by one loop.
  """
  order = sorted(
    (e for e, kept in enumerate(cell.kept) if kept),
    key=lambda e: cell.edges[e],
  )
  if not reduction:
    parts = [(1, order)]
  else:
    inner = [e for e in order if cell.edges[e][0] >= 2]
    parts = [(2, order[: len(order) - len(inner)]), (1, inner)]
  found = []
  for stride, edges in parts:
    same = loop and len({cell.kept[e] for e in edges}) == 1 and len(edges) > 1
    by_source = {}
    for e in edges:
      by_source.setdefault(None if same else cell.edges[e][0], []).append(e)
    found += [Segment(tuple(e), stride, same) for e in by_source.values()]
  return tuple(found)


class SearchCell(nn.Module):
  """A cell computed source by source, or edge by edge in a loop.

  What an operator learns is one array over the edges that keep it, ordered by
  source and then by target.

  Attributes:
    cell: the graph.
    channels: C, of every node.
    reduction: whether edges from the inputs have a stride of two.
    halve_first: whether the first input has twice the second's resolution.
    train: whether normalisations use the moments of this batch.
    affine: whether normalisations have a scale and a bias.
    pool_norm: whether a normalisation follows each pool.
    axis: mesh axis over which moments are shared, or None.
    loop: whether equal edges are computed one after the other by one loop,
      which forgets what it computed and does so again for the gradient. That
      is a small program in little memory, as fast on CPU as all of a source's
      edges at once.
  """

  cell: Cell
  channels: int
  reduction: bool
  halve_first: bool
  train: bool
  affine: bool
  pool_norm: bool
  axis: str | None
  loop: bool

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
    check(self.cell)
    norm = functools.partial(
      BatchNorm, train=self.train, scaled=self.affine, axis=self.axis
    )
    states: list[Array | None] = [None] * self.cell.nodes
    states[0] = Preprocess(
      self.channels, self.halve_first, norm, name="input0"
    )(s0)
    states[1] = Preprocess(self.channels, False, norm, name="input1")(s1)
    parts = segments(self.cell, self.reduction, self.loop)
    owners, leaves = self._leaves(parts)
    moments: dict[str, list[Array]] = {}
    for part in parts:
      own = {
        name: mixed.rows(leaf, _positions(part.edges, owners[name]))
        for name, leaf in leaves.items()
        if set(part.edges) & set(owners[name])
      }
      compute = self._looped if part.loop else self._fanned
      states, now = compute(
        part,
        states,
        own,
        None if weights is None else mixed.rows(weights, part.edges),
        None if drop is None else drop[:, part.edges],
      )
      for name, value in now.items():
        moments.setdefault(name, []).append(value)
    if self.train and not self.is_initializing():
      for name, values in moments.items():
        self.put_variable("batch_stats", name, jnp.concatenate(values))
    return jnp.concatenate([states[i] for i in self.cell.concat], -1)

  def _leaves(
    self, parts: tuple[Segment, ...]
  ) -> tuple[dict[str, tuple[int, ...]], dict[str, Array]]:
    """For each array that operators keep, its edges; and the arrays."""
    owners: dict[str, list[int]] = {}
    kinds: dict[str, mixed.Leaf] = {}
    for part in parts:
      for e in part.edges:
        for op in self.cell.kept[e]:
          found = mixed.leaves(
            op,
            self.channels,
            part.stride,
            affine=self.affine,
            pool_norm=self.pool_norm,
          )
          for name, leaf in found.items():
            owners.setdefault(name, []).append(e)
            kinds[name] = leaf
    arrays = {}
    for name, leaf in kinds.items():
      shape = (len(owners[name]), *leaf.shape)
      if leaf.learnt:
        arrays[name] = self.param(name, leaf.init, shape)
      else:
        arrays[name] = self.variable(
          "batch_stats", name, leaf.init, None, shape, jnp.float32
        ).value
    return {name: tuple(edges) for name, edges in owners.items()}, arrays

  def _fan(self, part: Segment, edges: tuple[int, ...]) -> mixed.Fan:
    return mixed.Fan(
      names=self.cell.ops,
      kept=tuple(self.cell.kept[e] for e in edges),
      stride=part.stride,
      train=self.train,
      axis=self.axis,
    )

  def _fanned(self, part, states, leaves, weights, drop):
    """The states after the edges of one source, and their moments."""
    (source,) = {self.cell.edges[e][0] for e in part.edges}
    outputs, moments = self._fan(part, part.edges)(
      states[source], leaves, weights, drop
    )
    states = list(states)
    for e, y in zip(part.edges, outputs, strict=True):
      target = self.cell.edges[e][1]
      states[target] = y if states[target] is None else states[target] + y
    return states, moments

  def _looped(self, part, states, leaves, weights, drop):
    """The same for equal edges of any sources, one after the other."""
    fan = self._fan(part, part.edges[:1])
    # The loop carries the nodes it writes, in a reduction cell all but the
    # inputs; edges with a stride read those, all others what is carried.
    first, strided = 2 if self.reduction else 0, part.stride == 2
    inputs = jnp.stack(states[:2]) if strided else None
    known = [s for s in states[first:] if s is not None]
    like = states[0][:, ::2, ::2] if strided else known[0]
    carry = jnp.stack(
      [jnp.zeros_like(like) if s is None else s for s in states[first:]]
    )
    ends = np.asarray([self.cell.edges[e] for e in part.edges])
    sources = ends[:, 0] - (0 if strided else first)
    targets = ends[:, 1] - first

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def one(x, leaves, weights, drop):
      leaves = {name: leaf[None] for name, leaf in leaves.items()}
      (y,), moments = fan(
        x,
        leaves,
        None if weights is None else weights[None],
        None if drop is None else drop[:, None],
      )
      return y, {name: value[0] for name, value in moments.items()}

    def body(carry, each):
      (source, target), *rest = each
      read = inputs if strided else carry
      x = lax.dynamic_index_in_dim(read, source, keepdims=False)
      y, moments = one(x, *rest)
      y = materialise(y)
      y = y + lax.dynamic_index_in_dim(carry, target, keepdims=False)
      return lax.dynamic_update_index_in_dim(carry, y, target, 0), moments

    each = (
      (jnp.asarray(sources), jnp.asarray(targets)),
      leaves,
      weights,
      None if drop is None else jnp.moveaxis(drop, 1, 0),
    )
    carry, moments = lax.scan(body, carry, each)
    reached = {int(target) for target in ends[:, 1]}
    reached |= {i for i, s in enumerate(states) if s is not None}
    found = list(states[:first]) + mixed.unstack(carry)
    return [y if i in reached else None for i, y in enumerate(found)], moments


def _positions(
  edges: tuple[int, ...], owners: tuple[int, ...]
) -> tuple[int, ...]:
  return tuple(owners.index(e) for e in edges if e in owners)


def check(cell: Cell) -> None:
  """Raises ValueError where a node that is used has no operator into it."""
  live = [e for e, kept in enumerate(cell.kept) if kept]
  fed = {0, 1} | {cell.edges[e][1] for e in live}
  starved = sorted({cell.edges[e][0] for e in live} - fed)
  if starved:
    raise ValueError(
      f"node {starved[0]} of a cell has no operator on any edge that enters it "
      f"(edges {cell.edges}, kept {cell.kept}); keep one, or none that leaves "
      "the node"
    )
  missing = [i for i in cell.concat if i not in fed]
  if missing:
    raise ValueError(
      f"nodes {missing} are part of a cell's output but have no operator on "
      f"any edge that enters them (edges {cell.edges}, kept {cell.kept})"
    )


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
      branches.append(self.norm(name=f"pool{i}")(pools.max_pool(x, 2)))
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
