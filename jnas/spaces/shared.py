"""Cells whose edges share features: an operator reads a node once.

EnTranNAS (Yang et al. 2021, section 2.3): an operator has one set of weights
for each node that it reads, not for each edge, so that

  x_j = sum_{i < j} sum_k weight_k^{(i, j)} o_k(w_k^{(i)}, x_i),

and o_k(w_k^{(i)}, x_i) is computed once for all nodes j. With a bottleneck
(section 2.5) operators work on fewer channels: a 1 x 1 convolution goes before
those that read a node, and another after the sum that makes a node. Each has a
normalisation; the paper says nothing of that.
"""

from collections.abc import Sequence
import dataclasses
import functools

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from jnas.ops import backend as backend_lib
from jnas.ops import table
from jnas.ops.backend import Backend
from jnas.ops.plain import strided
from jnas.spaces import mixed, norm
from jnas.spaces.blocks import Preprocess
from jnas.spaces.cells import OpArrays, check, first_values
from jnas.spaces.spec import Cell

Array = jax.Array
# By operator (or bottleneck) and name.
Arrays = dict[str, dict[str, Array]]


class SharedCell(nn.Module):
  """A cell of shared features.

  What an operator learns is one array over the nodes that it reads.

  Attributes:
    cell: the graph.
    channels: C, of every node.
    reduction: whether edges from the inputs have a stride of two.
    halve_first: whether the first input has twice the second's resolution.
    train: whether normalisations use the moments of this batch.
    affine: whether normalisations of operators have a scale and a bias.
    pool_norm: whether a normalisation follows each pool.
    axis: mesh axis over which moments are shared, or None.
    loop: whether nodes are read one after the other by a loop, which forgets
      what it computed and does so again for the gradient.
    bottleneck: operators work on C / bottleneck channels.
    skip_zero_ops: whether operators that no node gives a weight are not
      computed, where there are loops.
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
  bottleneck: int = 1
  skip_zero_ops: bool = False
  active: tuple[tuple[str, ...], ...] | None = None
  backend: Backend = backend_lib.CPU

  @nn.compact
  def __call__(
    self, s0: Array, s1: Array, weights: Array | None, drop: None = None
  ) -> Array:
    """The concatenated nodes: [N, H', W', C * len(concat)].

    Args:
      s0: output of the cell before the previous one.
      s1: output of the previous cell.
      weights: [E, O], or None where every operator counts once.
      drop: as other cells have it, and not used: there is none here.
    """
    del drop
    kept = self.active or self.cell.kept
    check(dataclasses.replace(self.cell, kept=kept))
    batch_norm = functools.partial(
      norm.BatchNorm,
      train=self.train,
      scaled=self.affine,
      axis=self.axis,
      backend=self.backend,
    )
    enter = functools.partial(
      Preprocess, self.channels, norm=batch_norm, backend=self.backend
    )
    nodes = [
      enter(halve=halve, name=f"input{i}")(s)
      for i, (s, halve) in enumerate(((s0, self.halve_first), (s1, False)))
    ]
    nodes += [None] * (self.cell.nodes - len(nodes))
    owners, arrays = self._arrays()
    moments = {op: _moments(own) for op, own in arrays.items()}

    def record(now: dict[str, tuple[np.ndarray, dict[str, Array]]]) -> None:
      for op, (rows, values) in now.items():
        for name, value in values.items():
          moments[op][name] = moments[op][name].at[rows].set(value)

    sums: list[Array | None] = [None] * self.cell.nodes
    sources = [i for i in range(len(nodes)) if self._operators(i)]
    for inner in (False, True):
      group = [s for s in sources if (s >= self.cell.inputs) == inner]
      by_loop = self._by_loop(group) and weights is not None
      read = self._read_by_loop if by_loop else self._read_each
      nodes, sums, now = read(group, nodes, sums, owners, arrays, weights)
      record(now)
    for j in range(self.cell.inputs, self.cell.nodes):
      if nodes[j] is None and sums[j] is not None:
        nodes[j], now = self._widened(j, sums[j], owners, arrays)
        record(now)
    if self.train and not self.is_initializing():
      for op, values in moments.items():
        if values:
          self.put_variable("batch_stats", op, values)
    return jnp.concatenate([nodes[i] for i in self.cell.concat], -1)

  def _stride(self, source: int) -> int:
    return 2 if self.reduction and source < self.cell.inputs else 1

  def _operators(self, source: int) -> tuple[str, ...]:
    """What has parameters for reading a node, in the order of the space."""
    present = {
      op
      for (i, _), kept in zip(self.cell.edges, self.cell.kept, strict=True)
      for op in kept
      if i == source
    }
    return tuple(op for op in self.cell.ops if op in present)

  def _arrays(self) -> tuple[dict[str, tuple[int, ...]], Arrays]:
    """For each operator the nodes that its rows are for; and the arrays."""
    kept: dict[str, OpArrays] = {}
    wide, narrow = self.channels, self.channels // self.bottleneck

    def own(node: int, name: str, found: tuple) -> None:
      if any(found):
        nodes = kept[name].edges if name in kept else ()
        kept[name] = OpArrays((*nodes, node), *found)

    for source in range(self.cell.nodes):
      for op in self._operators(source):
        found = table.arrays(
          op,
          narrow,
          self._stride(source),
          affine=self.affine,
          pool_norm=self.pool_norm,
        )
        own(source, op, found)
      if self.bottleneck > 1:
        if self._operators(source):
          own(source, "narrow", _projection(wide, narrow))
        if source >= self.cell.inputs:
          own(source, "widen", _projection(narrow, wide))
    arrays = {}
    for op, each in kept.items():
      rows = len(each.edges)
      arrays[op] = {}
      if each.learnt:
        arrays[op] |= self.param(op, first_values, each.learnt, rows)
      if each.stats:
        arrays[op] |= self.variable(
          "batch_stats", op, first_values, None, each.stats, rows
        ).value
    return {op: each.edges for op, each in kept.items()}, arrays

  def _by_loop(self, group: Sequence[int]) -> bool:
    """Whether these nodes are read by one loop."""
    present = {self._operators(source) for source in group}
    return (
      self.loop
      and self.active is None
      and len(group) > 1
      and len(present) == 1
    )

  def _mixed_ops(
    self, kept: Sequence[tuple[str, ...]], stride: int
  ) -> mixed.MixedOps:
    return mixed.MixedOps(
      names=self.cell.ops,
      kept=tuple(kept),
      stride=stride,
      train=self.train,
      axis=self.axis,
      shared=True,
      backend=self.backend,
    )

  def _read_each(self, group, nodes, sums, owners, arrays, weights):
    """Adds what is read of nodes to the sums, node by node."""
    nodes, sums = list(nodes), list(sums)
    moments: dict[str, tuple[list[int], list[dict[str, Array]]]] = {}

    def note(op: str, row: int, values: dict[str, Array]) -> None:
      rows, each = moments.setdefault(op, ([], []))
      rows.append(row)
      each.append(values)

    for source in group:
      if nodes[source] is None:
        nodes[source], now = self._widened(
          source, sums[source], owners, arrays
        )
        for op, ((row,), values) in now.items():
          note(op, row, {name: value[0] for name, value in values.items()})
      rows = {op: own.index(source) for op, own in owners.items()
              if source in own}
      own = {
        op: {name: value[row] for name, value in arrays[op].items()}
        for op, row in rows.items()
      }
      x, now = self._projected("narrow", nodes[source], own)
      kept = self.active or self.cell.kept
      edges = [
        e for e, (i, _) in enumerate(self.cell.edges) if i == source and kept[e]
      ]
      outputs = []
      if edges:
        ops = self._mixed_ops([kept[e] for e in edges], self._stride(source))
        outputs, more = ops(
          x,
          jax.tree.map(lambda leaf: leaf[None], own),
          None if weights is None else mixed.select_rows(weights, tuple(edges)),
        )
        now |= jax.tree.map(lambda value: value[0], more)
      for op, values in now.items():
        note(op, rows[op], values)
      for e, y in zip(edges, outputs, strict=True):
        target = self.cell.edges[e][1]
        sums[target] = y if sums[target] is None else sums[target] + y
    return nodes, sums, {
      op: (np.asarray(rows), jax.tree.map(lambda *v: jnp.stack(v), *values))
      for op, (rows, values) in moments.items()
    }

  def _read_by_loop(self, group, nodes, sums, owners, arrays, weights):
    """The same for nodes that the same operators read, by one loop."""
    first, inner = self.cell.inputs, group[0] >= self.cell.inputs
    stride, present = self._stride(group[0]), self._operators(group[0])
    targets = range(first, self.cell.nodes)
    # [S, T, O]: of an edge that is not there, a row of zeros.
    place = {edge: e for e, edge in enumerate(self.cell.edges)}
    none = len(self.cell.edges)
    index = [[place.get((i, j), none) for j in targets] for i in group]
    padded = jnp.concatenate([weights, jnp.zeros_like(weights[:1])])
    mixes = padded[np.asarray(index)]
    where = {
      op: np.asarray([own.index(i) for i in group])
      for op, own in owners.items()
      if set(group) <= set(own)
    }
    stacks = {
      op: {name: value[rows] for name, value in arrays[op].items()}
      for op, rows in where.items()
    }

    def features(x: Array, own: Arrays, mix: Array):
      """Weighted sums for all targets [T, N, H', W', c], and moments."""
      x, moments = self._projected("narrow", x, own)
      own = jax.tree.map(lambda leaf: leaf[None], own)
      if not self.skip_zero_ops:
        ops = self._mixed_ops((present,) * len(targets), stride)
        outputs, now = ops(x, own, mix)
        moments |= jax.tree.map(lambda value: value[0], now)
        return jnp.stack(outputs), moments
      shape = len(x), *strided(x.shape[1:3], stride), x.shape[3]
      found = []
      for op in present:
        arrays = {op: own[op]} if op in own else {}
        rest = {name: _moments(values) for name, values in arrays.items()}
        rest = {name: values for name, values in rest.items() if values}

        def compute(op=op, arrays=arrays):
          (y,), now = self._mixed_ops(((op,),), stride)(x, arrays)
          return y, now

        y, now = lax.cond(
          (mix[:, self.cell.ops.index(op)] != 0).any(),
          compute,
          lambda rest=rest: (jnp.zeros(shape, x.dtype), rest),
        )
        found.append(y)
        moments |= jax.tree.map(lambda value: value[0], now)
      columns = np.asarray([self.cell.ops.index(op) for op in present])
      mix = mix[:, columns].astype(x.dtype)
      return jnp.einsum("tk,k...->t...", mix, jnp.stack(found)), moments

    def body(total, turn):
      i, x, own, mix = turn
      now = {}
      if inner:
        x = lax.dynamic_index_in_dim(total, i, keepdims=False)
        x, now = self._projected("widen", x, own)
      outputs, moments = checkpointed(x, own, mix)
      return total + outputs, (x if inner else None, moments | now)

    checkpointed = jax.checkpoint(
      features, prevent_cse=False, policy=self.backend.saved
    )
    if inner:
      known, given = [sums[j] for j in targets], None
    else:
      known, given = [None] * len(targets), jnp.stack([nodes[i] for i in group])
    like = next((s for s in known if s is not None), None)
    if like is None:
      size = strided(given.shape[2:4], stride)
      c = self.channels // self.bottleneck
      like = jnp.zeros((given.shape[1], *size, c), given.dtype)
    total = jnp.stack([jnp.zeros_like(like) if s is None else s for s in known])
    order = jnp.asarray([i - first for i in group])
    total, (read, moments) = lax.scan(
      body, total, (order, given, stacks, mixes)
    )
    nodes, sums = list(nodes), list(sums)
    for row, i in enumerate(group if inner else ()):
      nodes[i] = read[row]
    for j, value in zip(targets, mixed.unstack(total), strict=True):
      sums[j] = value
    return nodes, sums, {op: (where[op], v) for op, v in moments.items()}

  def _widened(self, node, x, owners, arrays):
    """A node's features from the sum of what enters it, and moments."""
    if self.bottleneck == 1:
      return x, {}
    row = owners["widen"].index(node)
    own = {"widen": {n: a[row] for n, a in arrays["widen"].items()}}
    y, now = self._projected("widen", x, own)
    return y, {
      op: (np.asarray([row]), {n: v[None] for n, v in values.items()})
      for op, values in now.items()
    }

  def _projected(
    self, name: str, x: Array, arrays: Arrays
  ) -> tuple[Array, Arrays]:
    """A bottleneck's 1 x 1 convolution and normalisation, and its moments."""
    if self.bottleneck == 1:
      return x, {}
    own = arrays[name]
    y = self.backend.pointwise(x[None], own["kernel"][None])
    (p,), now = norm.coefficients(
      [y],
      norm.Moments(own["mean1"][None], own["var1"][None]),
      train=self.train,
      axis=self.axis,
      backend=self.backend,
    )
    moments = {"mean1": now.mean[0], "var1": now.var[0]}
    return self.backend.affine(y, p)[0], {name: moments}


def _moments(own: dict[str, Array]) -> dict[str, Array]:
  return {name: value for name, value in own.items() if table.is_moment(name)}


def _projection(c: int, d: int) -> tuple[dict[str, table.Parameter], ...]:
  """What a 1 x 1 convolution from c to d channels and its norm keep."""
  zeros, ones = jax.nn.initializers.zeros, jax.nn.initializers.ones
  return {
    "kernel": table.Parameter((d, c), table.fan_in_uniform(c))
  }, {
    "mean1": table.Parameter((d,), zeros),
    "var1": table.Parameter((d,), ones),
  }
