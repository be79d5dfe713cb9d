"""Mixed operations: all operators on the edges that leave one node, together.

Every edge that leaves a node reads the same features. So the pools and the
identity are computed once for all of them, an operator's convolutions are one
stack [T, N, H, W, C] over the edges, and one normalisation serves all
operators. The architecture weights go into the coefficients of the
normalisations, so that their gradient costs nothing more.
"""

from collections.abc import Mapping
import dataclasses
import functools
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp

from jnas.ops import backend as backend_lib
from jnas.ops import table
from jnas.ops.backend import Backend
from jnas.ops.plain import strided
from jnas.spaces import norm

Array = jax.Array
# By operator and name, what it learns and its running moments: [T', ...] each.
Arrays = Mapping[str, Mapping[str, Array]]
Moments = dict[str, dict[str, Array]]


class Term(NamedTuple):
  """An operator's features before what scales and shifts them.

  Attributes:
    op: the operator.
    features: [T', N, H', W', C] for the T' edges that keep it, or
      [1, N, H', W', C] where they are the same for all.
    scales: [2, T' or 1, C] for `Backend.affine`, or None where the features are
      the operator's output.
  """

  op: str
  features: Array
  scales: Array | None


@dataclasses.dataclass(frozen=True)
class MixedOps:
  """The weighted features of T edges that leave one node.

  Attributes:
    names: the O operators of the space, in the order of the weights' columns.
    kept: for each of the T edges, the operators that are computed.
    stride: 1, or 2 in a reduction cell's edges from its inputs.
    train: whether normalisations use the moments of this batch.
    axis: mesh axis over which moments are shared, or None.
    partial: K; operators see the first C / K channels. The others pass by
      them, in a stride of two through a maximum pool, and count as much as all
      the weights of their edge together, that of `none` included.
    shared: whether the edges share what an operator learns, and so its
      features.
    backend: how operators are computed.
  """

  names: tuple[str, ...]
  kept: tuple[tuple[str, ...], ...]
  stride: int
  train: bool
  axis: str | None = None
  partial: int = 1
  shared: bool = False
  backend: Backend = backend_lib.CPU

  def __call__(
    self,
    x: Array,
    arrays: Arrays,
    weights: Array | None = None,
    drop: Array | None = None,
  ) -> tuple[list[Array], Moments]:
    """For each edge the sum over its operators of weight * operator(x).

    Args:
      x: [N, H, W, C].
      arrays: of each operator what `table.arrays` names, for the T' edges that
        keep it: [T', ...]; [1, ...] where they share it.
      weights: [T, O], or None where every kept operator counts once.
      drop: [N, T, O] factors of drop path, or None.

    Returns:
      T arrays [N, H', W', C], and the running moments.
    """
    seen = x.shape[-1] // self.partial
    mixed, moments = self._mixed(x[..., :seen], arrays, weights, drop)
    if self.partial == 1:
      return mixed, moments
    rest = x[..., seen:]
    if self.stride == 2:
      rest = halve_max(rest)
    factors = jnp.ones(len(mixed)) if weights is None else weights.sum(-1)
    factors = factors.astype(x.dtype)
    joined = [
      jnp.concatenate([y, factors[t] * rest], -1) for t, y in enumerate(mixed)
    ]
    return [shuffle(y, self.partial) for y in joined], moments

  def _mixed(
    self,
    x: Array,
    arrays: Arrays,
    weights: Array | None,
    drop: Array | None,
  ) -> tuple[list[Array], Moments]:
    """`__call__` on the channels that the operators see."""
    edges = len(self.kept)
    terms, moments = self._terms(x, arrays)
    whole, pieces = None, [[] for _ in range(edges)]
    for op, features, scales in terms:
      where, column = self.where(op), self.names.index(op)
      if weights is not None:
        own = select_rows(weights[:, column], where)
        y = self._weighted(features, scales, own)
      else:
        y = features
        y = y if scales is None else self.backend.affine(y, scales)
      if drop is not None:
        factor = drop[:, where, column].T[:, :, None, None, None]
        y = y * factor.astype(x.dtype)
      if len(y) == len(where) == edges:
        whole = y if whole is None else whole + y
      else:
        each = unstack(y)
        for i, t in enumerate(where):
          pieces[t].append(each[min(i, len(each) - 1)])
    if whole is not None:
      for piece, y in zip(pieces, unstack(whole), strict=True):
        piece.append(y)
    return [sum(p[1:], start=p[0]) for p in pieces], moments

  def where(self, op: str) -> tuple[int, ...]:
    """The edges that keep an operator."""
    return tuple(t for t, kept in enumerate(self.kept) if op in kept)

  def _weighted(
    self, x: Array, scales: Array | None, weights: Array
  ) -> Array:
    """weights [T] times what the scales make of [T or 1, N, H, W, C]."""
    factors = jnp.broadcast_to(weights[:, None], (len(weights), x.shape[-1]))
    if scales is None:
      return self.backend.scale(x, factors)
    # Computed once here, not for each pixel in the loop that adds the terms.
    scales = self.backend.fusion_barrier(scales * factors[None])
    return self.backend.affine(x, scales)

  def _terms(self, x: Array, arrays: Arrays) -> tuple[list[Term], Moments]:
    """Every operator that is kept, and the running moments."""
    rows = {op: table.get(op) for op in self.names if self.where(op)}
    terms: list[Term] = []
    moments: Moments = {}

    def normalise(i: int, outputs: list[tuple[str, Array]]) -> list[Term]:
      new, now = self._normalised(i, outputs, arrays)
      for op, own in now.items():
        moments.setdefault(op, {}).update(own)
      return new

    for op, row in rows.items():
      if row.form is None:
        features, now = self._defined(op, x, arrays.get(op, {}))
        terms.append(Term(op, features, None))
        moments |= {op: now} if now else {}
    pooled = [
      (op, getattr(self.backend, row.form)(x, self.stride)[None])
      for op, row in rows.items()
      if row.form in ("max_pool", "avg_pool")
    ]
    if pooled and "mean1" in arrays.get(pooled[0][0], {}):
      terms += normalise(1, pooled)
    else:
      terms += [Term(op, y, None) for op, y in pooled]
    if "skip_connect" in rows and self.stride == 1:
      terms.append(Term("skip_connect", x[None], None))

    first = self._first_stages(jax.nn.relu(x), rows, arrays)
    normalised = normalise(1, first)
    twice = [op for op, own in arrays.items() if "depthwise2" in own]
    terms += [term for term in normalised if term.op not in twice]
    seconds = []
    for op, y, scales in normalised:
      if op in twice:
        kernels = _separable_kernels(rows[op], arrays[op], 2)
        y = jax.nn.relu(self.backend.affine(y, scales))
        seconds.append((op, self.backend.separable(y, [kernels])[0]))
    return terms + normalise(2, seconds), moments

  def _defined(
    self, op: str, x: Array, own: Mapping[str, Array]
  ) -> tuple[Array, dict[str, Array]]:
    """An operator by its definition: [T' or 1, N, H', W', C], and moments."""
    count = len(next(iter(own.values()))) if own else 1
    features, moments = [], []
    for t in range(count):
      edge, now = {name: value[t] for name, value in own.items()}, {}

      def normalise(y: Array, i: int, edge=edge, now=now) -> Array:
        if f"mean{i}" not in edge:  # of a pool, in evaluation
          return y
        known = {n: edge[f"{n}{i}"][None] for n in ("mean", "var")}
        scales = [edge.get(f"{n}{i}") for n in ("scale", "bias")]
        (p,), running = norm.coefficients(
          [y[None]],
          norm.Moments(**known),
          *(None if s is None else s[None] for s in scales),
          train=self.train,
          axis=self.axis,
          backend=self.backend,
        )
        now |= {f"{n}{i}": v[0] for n, v in running._asdict().items()}
        return self.backend.affine(y[None], p)[0]

      features.append(table.get(op).define(x, edge, normalise, self.stride))
      moments.append(now)
    return jnp.stack(features), jax.tree.map(lambda *v: jnp.stack(v), *moments)

  def _first_stages(
    self, x: Array, rows: Mapping[str, table.Operator], arrays: Arrays
  ) -> list[tuple[str, Array]]:
    """Convolutions of [N, H, W, C], up to the first normalisation of each."""
    separable = [
      op for op, row in rows.items() if isinstance(row.form, table.Separable)
    ]
    kernels = [
      _separable_kernels(rows[op], arrays[op], 1) for op in separable
    ]
    found = {}
    if kernels:
      stacks = self.backend.separable(x[None], kernels, self.stride)
      found = dict(zip(separable, stacks, strict=True))
    for op, row in rows.items():
      if row.form == "full":
        found[op] = self._full(x, **arrays[op])
      elif row.form == "factorized":
        found[op] = self._factorized(x, **arrays[op])
    outputs = [(op, found[op]) for op in rows if op in found]
    if "skip_connect" in rows and self.stride == 2:
      halves = arrays["skip_connect"]["halves"]
      y = self.backend.factorized_reduction(x, halves)
      outputs.append(("skip_connect", y))
    return outputs

  def _full(
    self, x: Array, kernel: Array, shift: Array | None = None, **_: Array
  ) -> Array:
    """Convolutions k x k of [N, H, W, C]: [T', N, H', W', D]."""
    t, k, _, c, d = kernel.shape
    wide = jnp.moveaxis(kernel, 0, 3).reshape(k, k, c, t * d)
    y = self.backend.convolution(x, wide, self.stride)
    size = strided(x.shape[1:3], self.stride)
    y = jnp.moveaxis(y.reshape(len(x), *size, t, d), 3, 0)
    if shift is not None:
      y = y + shift[:, None, None, None].astype(y.dtype)
    return y

  def _factorized(
    self, x: Array, row: Array, column: Array, **_: Array
  ) -> Array:
    """Convolutions 1 x k and k x 1 of [N, H, W, C]: [T', N, H', W', C]."""
    convolution = self.backend.convolution
    return jnp.stack(
      [
        convolution(
          convolution(x, across, (1, self.stride)), down, (self.stride, 1)
        )
        for across, down in zip(row, column, strict=True)
      ]
    )

  def _normalised(
    self, i: int, outputs: list[tuple[str, Array]], arrays: Arrays
  ) -> tuple[list[Term], Moments]:
    """Terms by one normalisation of all outputs, and its running moments."""
    if not outputs:
      return [], {}
    names = [op for op, _ in outputs]
    stacks = [y for _, y in outputs]

    def joined(kind: str) -> Array:
      # What is shared by edges has their moments as often; one is enough.
      return jnp.concatenate(
        [arrays[op][f"{kind}{i}"][: len(y)] for op, y in outputs]
      )

    scaled = f"scale{i}" in arrays[names[0]]
    scales, running = norm.coefficients(
      stacks,
      norm.Moments(joined("mean"), joined("var")),
      joined("scale") if scaled else None,
      joined("bias") if scaled else None,
      train=self.train,
      axis=self.axis,
      backend=self.backend,
    )
    terms = [
      Term(op, y, p) for (op, y), p in zip(outputs, scales, strict=True)
    ]
    moments: Moments = {op: {} for op in names}
    for kind, value in running._asdict().items():
      parts = lax.split(value, [len(y) for y in stacks])
      for op, part in zip(names, parts, strict=True):
        shape = (1 if self.shared else len(self.where(op)), part.shape[1])
        moments[op][f"{kind}{i}"] = jnp.broadcast_to(part, shape)
    return terms, moments


def _separable_kernels(
  row: table.Operator, own: Mapping[str, Array], i: int
) -> backend_lib.Separable:
  dilation = row.form.dilation
  return backend_lib.Separable(
    own[f"depthwise{i}"], own[f"pointwise{i}"], dilation
  )


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


def halve_max(x: Array) -> Array:
  """The maximum over 2 x 2 pixels: [N, ceil(H / 2), ceil(W / 2), C].

  Args:
    x: [N, H, W, C]; an odd size is padded with -inf. Of equal pixels the first
      has the gradient.
  """
  pads = ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0))
  x = jnp.pad(x, pads, constant_values=-jnp.inf)
  views = [x[:, i::2, j::2] for i in range(2) for j in range(2)]
  # Not a maximum: its gradient compares x with a maximum that may have been
  # computed from another rounding of x, and is NaN where none is equal.
  return functools.reduce(lambda y, z: jnp.where(y >= z, y, z), views)


def select_rows(x: Array, where: tuple[int, ...]) -> Array:
  """x at those rows; a slice where they follow each other."""
  start, stop = where[0], where[0] + len(where)
  if where == tuple(range(start, stop)):
    return lax.slice_in_dim(x, start, stop)
  return x[jnp.asarray(where)]


def unstack(stack: Array) -> list[Array]:
  """The parts of a stack along its first axis, without that axis."""
  return [y[0] for y in lax.split(stack, (1,) * len(stack), 0)]
