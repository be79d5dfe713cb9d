"""Cells: directed acyclic graphs of nodes."""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
from typing import NamedTuple

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from jnas.ops import backend as backend_lib
from jnas.ops import table
from jnas.ops.backend import Backend
from jnas.ops.plain import strided
from jnas.spaces import mixed
from jnas.spaces.blocks import Preprocess
from jnas.spaces.norm import BatchNorm
from jnas.spaces.spec import Cell

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Segment:
  """Edges of one stride, ordered by source, that are computed in one go.

  Attributes:
    edges: their rows in the weights.
    stride: of all of them.
    form: "source", all edges of one source together; "loop", edges that are
      equal but for their weights, one after the other by one loop; "choice", a
      loop over any edges that has a branch for each operator, so that it is
      computed on some edges only.
  """

  edges: tuple[int, ...]
  stride: int
  form: str


@functools.cache
def segments(
  cell: Cell,
  reduction: bool,
  loop: bool,
  skip_zero_ops: bool = False,
  uneven: bool = False,
) -> tuple[Segment, ...]:
  """The edges with an operator, by source: each after those it depends on.

  Args:
    cell: the graph.
    reduction: whether edges from the inputs have a stride of two.
    loop: whether loops may be used.
    skip_zero_ops: whether loops leave out operators whose weight is zero.
    uneven: whether edges that keep different operators may be a loop, too.
  """
  order = sorted(
    (e for e, kept in enumerate(cell.kept) if kept),
    key=lambda e: cell.edges[e],
  )
  if not reduction:
    parts = [(1, order)]
  else:
    inner = [e for e in order if cell.edges[e][0] >= cell.inputs]
    parts = [(2, order[: len(order) - len(inner)]), (1, inner)]
  found = []
  for stride, edges in parts:
    kept = [cell.kept[e] for e in edges]
    if not loop or len(edges) < 2:
      form = "source"
    elif skip_zero_ops:
      form = "choice"
    elif len(set(kept)) == 1:
      form = "loop"
    else:
      form = "choice" if uneven and _repeats(kept, stride) else "source"
    by_source = {}
    for e in edges:
      source = cell.edges[e][0] if form == "source" else None
      by_source.setdefault(source, []).append(e)
    found += [Segment(tuple(e), stride, form) for e in by_source.values()]
  return tuple(found)


def _repeats(kept: Sequence[tuple[str, ...]], stride: int) -> bool:
  """Whether an operator that learns something is on more than one edge."""
  ops = [op for own in kept for op in own]
  return any(
    ops.count(op) > 1 and table.get(op).parameters(2, stride) for op in set(ops)
  )


class OpArrays(NamedTuple):
  """What an operator keeps on the edges of a cell, an array over them each.

  Attributes:
    edges: that its rows are for, by source and then by target.
    learnt: its parameters on one edge, by name.
    stats: its running moments on one edge, by name.
  """

  edges: tuple[int, ...]
  learnt: Mapping[str, table.Parameter]
  stats: Mapping[str, table.Parameter]


def op_arrays(
  cell: Cell, channels: int, reduction: bool, *, affine: bool, pool_norm: bool
) -> dict[str, OpArrays]:
  """What the operators of a cell keep, where they keep something.

  Args:
    cell: the graph.
    channels: that operators see.
    reduction: whether edges from the inputs have a stride of two.
    affine: whether normalisations after convolutions have a scale and a bias.
    pool_norm: whether a normalisation follows each pool.
  """
  found: dict[str, OpArrays] = {}
  for part in segments(cell, reduction, False):
    for e in part.edges:
      for op in cell.kept[e]:
        learnt, stats = table.arrays(
          op, channels, part.stride, affine=affine, pool_norm=pool_norm
        )
        if learnt or stats:
          edges = found[op].edges if op in found else ()
          found[op] = OpArrays((*edges, e), learnt, stats)
  return found


def first_values(
  key: Array | None, parameters: Mapping[str, table.Parameter], rows: int
) -> dict[str, Array]:
  """First values of arrays by name, with an axis of rows before each.

  Args:
    key: typed key; None for what is not random.
    parameters: by name.
    rows: how many there are of each.
  """
  keys = [key] * len(parameters)
  if key is not None:
    keys = jax.random.split(key, len(parameters))
  return {
    name: own.init(each, (rows, *own.shape), jnp.float32)
    for each, (name, own) in zip(keys, parameters.items(), strict=True)
  }


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
      edges at once, and the only one that a TPU's compiler is done with soon.
      Edges that keep different operators are one, too, where they have weights,
      unless the backend has `slow_loops`.
    partial: K of partial channels.
    skip_zero_ops: whether operators whose weight is zero are not computed,
      where there are loops (GDAS, section 3.2; masked and transit operators).
      Such a weight then gets no gradient.
    active: the operators that are computed, for each edge; all of them count
      once. The rest keeps its parameters and moments. None for all that the
      cell keeps, with weights.
    backend: how operators are computed.
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
  partial: int = 1
  skip_zero_ops: bool = False
  active: tuple[tuple[str, ...], ...] | None = None
  backend: Backend = backend_lib.CPU

  @property
  def computed(self) -> Cell:
    """The graph of what is computed."""
    return dataclasses.replace(self.cell, kept=self.active or self.cell.kept)

  @nn.compact
  def __call__(
    self, s0: Array, s1: Array, weights: Array | None, drop: Array | None
  ) -> Array:
    """The concatenated nodes: [N, H', W', C * len(concat)].

    Args:
      s0: output of the cell before the previous one; not used by a cell of
        one input.
      s1: output of the previous cell.
      weights: [E, O], or None where every kept operator counts once. In a
        cell of one input there may be another column, [E, O + 1]: scalars that
        are added to what the edges give (NAS-Bench-201's GDAS).
      drop: [N, E, O] factors of drop path, or None.
    """
    cell = self.computed
    check(cell)
    norm = functools.partial(
      BatchNorm,
      train=self.train,
      scaled=self.affine,
      axis=self.axis,
      backend=self.backend,
    )
    states: list[Array | None] = [None] * self.cell.nodes
    if self.cell.inputs == 1:
      states[0] = s1
      if weights is not None and weights.shape[1] > len(cell.ops):
        weights, scalars = weights[:, :-1], weights[:, -1].astype(s1.dtype)
        for e, (_, target) in enumerate(cell.edges):
          own = 0 if states[target] is None else states[target]
          states[target] = jnp.broadcast_to(own + scalars[e], s1.shape)
    else:
      enter = functools.partial(
        Preprocess, self.channels, norm=norm, backend=self.backend
      )
      states[0] = enter(halve=self.halve_first, name="input0")(s0)
      states[1] = enter(halve=False, name="input1")(s1)
    # What passes by the operators does so whatever they weigh.
    whole = weights is not None and self.partial == 1
    parts = segments(
      cell,
      self.reduction,
      self.loop,
      self.skip_zero_ops and whole,
      # Derived cells have few convolutions, and are trained for long: written
      # out they are some three times as fast on a TPU.
      uneven=whole and not self.backend.slow_loops,
    )
    edges, arrays = self._arrays()
    moments = {
      op: {n: v for n, v in own.items() if table.is_moment(n)}
      for op, own in arrays.items()
    }
    for part in parts:
      own, users = {}, {}
      for op, values in arrays.items():
        users[op] = [
          e for e in part.edges if e in edges[op] and op in cell.kept[e]
        ]
        if users[op]:
          # In a loop over unequal edges one that lacks an operator is given
          # another's arrays, and does not use them.
          rows = tuple(
            edges[op].index(e) if e in users[op] else 0
            for e in (part.edges if part.form == "choice" else users[op])
          )
          own[op] = {n: mixed.select_rows(v, rows) for n, v in values.items()}
      compute = {
        "source": self._by_source,
        "loop": self._looped,
        "choice": self._choosing,
      }
      states, now = compute[part.form](
        part,
        states,
        own,
        None if weights is None else mixed.select_rows(weights, part.edges),
        None if drop is None else drop[:, part.edges],
      )
      for op, values in now.items():
        at = np.asarray([edges[op].index(e) for e in users[op]])
        if part.form == "choice":
          seen = tuple(part.edges.index(e) for e in users[op])
          values = {n: mixed.select_rows(v, seen) for n, v in values.items()}
        for name, value in values.items():
          moments[op][name] = moments[op][name].at[at].set(value)
    if self.train and not self.is_initializing():
      for op, values in moments.items():
        if values:
          self.put_variable("batch_stats", op, values)
    return jnp.concatenate([states[i] for i in self.cell.concat], -1)

  def _arrays(
    self,
  ) -> tuple[dict[str, tuple[int, ...]], dict[str, dict[str, Array]]]:
    """For each operator that keeps arrays the edges of their rows; and them."""
    kept = op_arrays(
      self.cell,
      self.channels // self.partial,
      self.reduction,
      affine=self.affine,
      pool_norm=self.pool_norm,
    )
    arrays = {}
    for op, own in kept.items():
      rows = len(own.edges)
      arrays[op] = {}
      if own.learnt:
        arrays[op] |= self.param(op, first_values, own.learnt, rows)
      if own.stats:
        arrays[op] |= self.variable(
          "batch_stats", op, first_values, None, own.stats, rows
        ).value
    return {op: own.edges for op, own in kept.items()}, arrays

  def _mixed_ops(
    self,
    part: Segment,
    edges: tuple[int, ...],
    kept: tuple[tuple[str, ...], ...] | None = None,
  ) -> mixed.MixedOps:
    return mixed.MixedOps(
      names=self.cell.ops,
      kept=kept or tuple(self.computed.kept[e] for e in edges),
      stride=part.stride,
      train=self.train,
      axis=self.axis,
      partial=self.partial,
      backend=self.backend,
    )

  def _by_source(self, part, states, arrays, weights, drop):
    """The states after the edges of one source, and their moments."""
    (source,) = {self.cell.edges[e][0] for e in part.edges}
    outputs, moments = self._mixed_ops(part, part.edges)(
      states[source], arrays, weights, drop
    )
    states = list(states)
    for e, y in zip(part.edges, outputs, strict=True):
      target = self.cell.edges[e][1]
      states[target] = y if states[target] is None else states[target] + y
    return states, moments

  def _looped(self, part, states, arrays, weights, drop):
    """The same for equal edges of any sources, one after the other."""
    ops = self._mixed_ops(part, part.edges[:1])
    own = functools.partial(_on_one_edge, ops)
    drop = None if drop is None else jnp.moveaxis(drop, 1, 0)
    return self._scanned(part, states, own, (arrays, weights, drop))

  def _choosing(self, part, states, arrays, weights, drop):
    """The same for any edges, each with the operators that it keeps.

    Without those whose weight is zero, where they are to be skipped.
    """
    present = [
      op
      for op in self.cell.ops
      if any(op in self.computed.kept[e] for e in part.edges)
    ]
    kept = [[op in self.computed.kept[e] for op in present] for e in part.edges]
    used = jnp.asarray(kept)
    if self.skip_zero_ops:
      columns = np.asarray([self.cell.ops.index(op) for op in present])
      used = used & (weights[:, columns] != 0)

    def one(x, arrays, weights, used, drop):
      shape = len(x), *strided(x.shape[1:3], part.stride), x.shape[3]
      total, moments = jnp.zeros(shape, x.dtype), {}
      for i, op in enumerate(present):
        ops = self._mixed_ops(part, part.edges[:1], ((op,),))
        own = {op: arrays[op]} if op in arrays else {}
        # The moments of what is not computed stay as they are.
        rest = {
          op: {n: v for n, v in values.items() if table.is_moment(n)}
          for op, values in own.items()
        }
        rest = {op: values for op, values in rest.items() if values}

        def compute(y, ops=ops, own=own):
          z, now = _on_one_edge(ops, x, own, weights, drop)
          return y + z, now

        if not self.backend.slow_loops:
          # The branch that is not taken has to give what the other one keeps
          # for its gradient, as zeros: so that is the features alone.
          compute = jax.checkpoint(compute, prevent_cse=False)
        total, now = lax.cond(
          used[i], compute, lambda y, rest=rest: (y, rest), total
        )
        moments |= now
      return total, moments

    drop = None if drop is None else jnp.moveaxis(drop, 1, 0)
    return self._scanned(part, states, one, (arrays, weights, used, drop))

  def _scanned(self, part, states, one, each):
    """The states after a loop over edges, and the moments of each.

    Args:
      part: the segment.
      states: of the nodes.
      one: (features, ...) -> (features, moments), of one edge.
      each: what it takes beside the features, stacked over the edges.
    """
    # The loop carries the nodes it writes, in a reduction cell all but the
    # inputs; edges with a stride read those, all others what is carried.
    strides = part.stride == 2
    first = self.cell.inputs if self.reduction else 0
    inputs = jnp.stack(states[: self.cell.inputs]) if strides else None
    known = [s for s in states[first:] if s is not None]
    like = states[0][:, ::2, ::2] if strides else known[0]
    carry = jnp.stack(
      [jnp.zeros_like(like) if s is None else s for s in states[first:]]
    )
    ends = np.asarray([self.cell.edges[e] for e in part.edges])
    sources = ends[:, 0] - (0 if strides else first)
    targets = ends[:, 1] - first
    backend = self.backend
    one = jax.checkpoint(one, prevent_cse=False, policy=backend.saved)

    def body(stacks, turn):
      (read, written), ((source, target), rest) = stacks, turn
      if strides:
        x, read = backend.take_row(read, source)
      else:
        x, written = backend.take_row(written, source)
      y, moments = one(x, *rest)
      y = backend.fusion_barrier(y)
      return (read, backend.add_row(written, target, y)), moments

    where = jnp.asarray(sources), jnp.asarray(targets)
    (_, carry), moments = lax.scan(body, (inputs, carry), (where, each))
    reached = {int(target) for target in ends[:, 1]}
    reached |= {i for i, s in enumerate(states) if s is not None}
    found = list(states[:first]) + mixed.unstack(carry)
    return [y if i in reached else None for i, y in enumerate(found)], moments


def _on_one_edge(ops, x, arrays, weights, drop):
  """What mixed operations of one edge give, without the axis of edges."""
  (y,), moments = ops(
    x,
    jax.tree.map(lambda leaf: leaf[None], arrays),
    None if weights is None else weights[None],
    None if drop is None else drop[:, None],
  )
  return y, jax.tree.map(lambda value: value[0], moments)


def check(cell: Cell) -> None:
  """Raises ValueError where a node that is used has no operator into it."""
  live = [e for e, kept in enumerate(cell.kept) if kept]
  fed = set(range(cell.inputs)) | {cell.edges[e][1] for e in live}
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
