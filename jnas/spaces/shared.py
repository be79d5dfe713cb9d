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

from jnas.spaces import mixed, norm, ops
from jnas.spaces.blocks import Preprocess
from jnas.spaces.cells import check
from jnas.spaces.depthwise import strided
from jnas.spaces.pointwise import pointwise
from jnas.spaces.spec import Cell

Array = jax.Array
Arrays = dict[str, Array]


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
    gated: whether operators that no node gives a weight are not computed,
      where there are loops.
    active: the operators that are computed, for each edge; all of them count
      once. The rest keeps its parameters and moments. None for all that the
      cell keeps, with weights.
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
  gated: bool = False
  active: tuple[tuple[str, ...], ...] | None = None

  @nn.compact
  def __call__(self, s0: Array, s1: Array, weights: Array | None) -> Array:
    """The concatenated nodes: [N, H', W', C * len(concat)].

    Args:
      s0: output of the cell before the previous one.
      s1: output of the previous cell.
      weights: [E, O], or None where every operator counts once.
    """
    kept = self.active or self.cell.kept
    check(dataclasses.replace(self.cell, kept=kept))
    batch_norm = functools.partial(
      norm.BatchNorm, train=self.train, scaled=self.affine, axis=self.axis
    )
    nodes = [
      Preprocess(self.channels, halve, batch_norm, name=f"input{i}")(s)
      for i, (s, halve) in enumerate(((s0, self.halve_first), (s1, False)))
    ]
    nodes += [None] * (self.cell.nodes - len(nodes))
    owners, arrays = self._arrays()
    moments = {n: a for n, a in arrays.items() if mixed.is_moment(n)}
    sums: list[Array | None] = [None] * self.cell.nodes
    sources = [i for i in range(len(nodes)) if self._operators(i)]
    for inner in (False, True):
      group = [s for s in sources if (s >= self.cell.inputs) == inner]
      by_loop = self._by_loop(group) and weights is not None
      read = self._read_by_loop if by_loop else self._read_each
      nodes, sums, now = read(group, nodes, sums, owners, arrays, weights)
      for name, (rows, values) in now.items():
        moments[name] = moments[name].at[rows].set(values)
    for j in range(self.cell.inputs, self.cell.nodes):
      if nodes[j] is None and sums[j] is not None:
        nodes[j], now = self._widened(j, sums[j], owners, arrays)
        for name, (rows, values) in now.items():
          moments[name] = moments[name].at[rows].set(values)
    if self.train and not self.is_initializing():
      for name, value in moments.items():
        self.put_variable("batch_stats", name, value)
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

  def _arrays(self) -> tuple[dict[str, list[int]], Arrays]:
    """For each array the nodes that its rows are for; and the arrays."""
    owners: dict[str, list[int]] = {}
    kinds: dict[str, mixed.Leaf] = {}
    wide, narrow = self.channels, self.channels // self.bottleneck

    def own(node: int, found: dict[str, mixed.Leaf]) -> None:
      for name, leaf in found.items():
        owners.setdefault(name, []).append(node)
        kinds[name] = leaf

    for source in range(self.cell.nodes):
      for op in self._operators(source):
        own(
          source,
          mixed.leaves(
            op,
            narrow,
            self._stride(source),
            affine=self.affine,
            pool_norm=self.pool_norm,
          ),
        )
      if self.bottleneck > 1:
        if self._operators(source):
          own(source, _projection("narrow", wide, narrow))
        if source >= self.cell.inputs:
          own(source, _projection("widen", narrow, wide))
    arrays = {}
    for name, leaf in kinds.items():
      shape = (len(owners[name]), *leaf.shape)
      if leaf.learnt:
        arrays[name] = self.param(name, leaf.init, shape)
      else:
        arrays[name] = self.variable(
          "batch_stats", name, leaf.init, None, shape, jnp.float32
        ).value
    return owners, arrays

  def _by_loop(self, group: Sequence[int]) -> bool:
    """Whether these nodes are read by one loop."""
    present = {self._operators(source) for source in group}
    return (
      self.loop
      and self.active is None
      and len(group) > 1
      and len(present) == 1
    )

  def _fan(self, kept: Sequence[tuple[str, ...]], stride: int) -> mixed.Fan:
    return mixed.Fan(
      names=self.cell.ops,
      kept=tuple(kept),
      stride=stride,
      train=self.train,
      axis=self.axis,
      shared=True,
    )

  def _read_each(self, group, nodes, sums, owners, arrays, weights):
    """Adds what is read of nodes to the sums, node by node."""
    nodes, sums = list(nodes), list(sums)
    moments: dict[str, tuple[list[int], list[Array]]] = {}

    def note(name: str, row: int, value: Array) -> None:
      rows, values = moments.setdefault(name, ([], []))
      rows.append(row)
      values.append(value)

    for source in group:
      if nodes[source] is None:
        nodes[source], now = self._widened(
          source, sums[source], owners, arrays
        )
        for name, ((row,), value) in now.items():
          note(name, row, value[0])
      rows = {
        name: own.index(source) for name, own in owners.items() if source in own
      }
      leaves = {name: arrays[name][row] for name, row in rows.items()}
      x, now = self._narrowed(nodes[source], leaves)
      kept = self.active or self.cell.kept
      edges = [
        e for e, (i, _) in enumerate(self.cell.edges) if i == source and kept[e]
      ]
      outputs = []
      if edges:
        fan = self._fan([kept[e] for e in edges], self._stride(source))
        outputs, more = fan(
          x,
          {name: leaf[None] for name, leaf in leaves.items()},
          None if weights is None else mixed.rows(weights, tuple(edges)),
        )
        now |= {name: value[0] for name, value in more.items()}
      for name, value in now.items():
        note(name, rows[name], value)
      for e, y in zip(edges, outputs, strict=True):
        target = self.cell.edges[e][1]
        sums[target] = y if sums[target] is None else sums[target] + y
    return nodes, sums, {
      name: (np.asarray(rows), jnp.stack(values))
      for name, (rows, values) in moments.items()
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
    table = padded[np.asarray(index)]
    mine = {n: own for n, own in owners.items() if set(group) <= set(own)}
    where = {n: np.asarray([own.index(i) for i in group]) for n, own in
             mine.items()}
    leaves = {name: arrays[name][rows] for name, rows in where.items()}

    def features(x: Array, leaves: Arrays, table: Array):
      """Weighted sums for all targets [T, N, H', W', c], and moments."""
      x, moments = self._narrowed(x, leaves)
      if not self.gated:
        each = {name: leaf[None] for name, leaf in leaves.items()}
        fan = self._fan((present,) * len(targets), stride)
        outputs, now = fan(x, each, table)
        moments |= {name: value[0] for name, value in now.items()}
        return jnp.stack(outputs), moments
      shape = len(x), *strided(x.shape[1:3], stride), x.shape[3]
      found = []
      for op in present:
        own = {n: v[None] for n, v in leaves.items() if n.startswith(f"{op}_")}
        rest = {n: v for n, v in own.items() if mixed.is_moment(n)}

        def compute(op=op, own=own):
          (y,), now = self._fan(((op,),), stride)(x, own)
          return y, now

        y, now = lax.cond(
          (table[:, self.cell.ops.index(op)] != 0).any(),
          compute,
          lambda rest=rest: (jnp.zeros(shape, x.dtype), rest),
        )
        found.append(y)
        moments |= {name: value[0] for name, value in now.items()}
      columns = np.asarray([self.cell.ops.index(op) for op in present])
      mix = table[:, columns].astype(x.dtype)
      return jnp.einsum("tk,k...->t...", mix, jnp.stack(found)), moments

    def body(total, turn):
      i, x, leaves, table = turn
      now = {}
      if inner:
        x = lax.dynamic_index_in_dim(total, i, keepdims=False)
        x, now = self._projected("widen", x, leaves)
      outputs, moments = checkpointed(x, leaves, table)
      return total + outputs, (x if inner else None, moments | now)

    checkpointed = jax.checkpoint(
      features, prevent_cse=False, policy=norm.keep_sums
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
      body, total, (order, given, leaves, table)
    )
    nodes, sums = list(nodes), list(sums)
    for row, i in enumerate(group if inner else ()):
      nodes[i] = read[row]
    for j, value in zip(targets, mixed.unstack(total), strict=True):
      sums[j] = value
    return nodes, sums, {n: (where[n], v) for n, v in moments.items()}

  def _widened(self, node, x, owners, arrays):
    """A node's features from the sum of what enters it, and moments."""
    if self.bottleneck == 1:
      return x, {}
    row = owners["widen_kernel"].index(node)
    leaves = {n: a[row] for n, a in arrays.items() if n.startswith("widen")}
    y, now = self._projected("widen", x, leaves)
    return y, {n: (np.asarray([row]), v[None]) for n, v in now.items()}

  def _narrowed(self, x: Array, leaves: Arrays) -> tuple[Array, Arrays]:
    return self._projected("narrow", x, leaves)

  def _projected(
    self, name: str, x: Array, leaves: Arrays
  ) -> tuple[Array, Arrays]:
    """A bottleneck's 1 x 1 convolution and normalisation, and its moments."""
    if self.bottleneck == 1:
      return x, {}
    y = pointwise(x[None], leaves[f"{name}_kernel"][None])
    (p,), now = norm.coefficients(
      [y],
      norm.Moments(*(leaves[f"{name}_{k}"][None] for k in ("mean", "var"))),
      train=self.train,
      axis=self.axis,
    )
    moments = {f"{name}_mean": now.mean[0], f"{name}_var": now.var[0]}
    return norm.affine(y, p)[0], moments


def _projection(name: str, c: int, d: int) -> dict[str, mixed.Leaf]:
  """What a 1 x 1 convolution from c to d channels and its norm keep."""
  zeros, ones = jax.nn.initializers.zeros, jax.nn.initializers.ones
  return {
    f"{name}_kernel": mixed.Leaf((d, c), ops.fan_in_uniform(c), True),
    f"{name}_mean": mixed.Leaf((d,), zeros, False),
    f"{name}_var": mixed.Leaf((d,), ones, False),
  }
