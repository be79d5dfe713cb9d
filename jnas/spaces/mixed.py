"""All operators on edges that leave one node, computed together.

Every edge that leaves a node reads the same features. So the pools and the
identity are computed once for all of them, an operator's convolutions are one
stack [T, N, H, W, C] over the edges, and one normalisation serves all
operators. The architecture weights go into the coefficients of the
normalisations, so that their gradient costs nothing more.
"""

from collections.abc import Callable, Mapping
import dataclasses
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp

from jnas.spaces import norm, ops, pools
from jnas.spaces.depthwise import depthwise, strided
from jnas.spaces.primitives import materialise

Array = jax.Array
Leaves = Mapping[str, Array]
POOLS = {"max_pool_3x3": pools.max_pool, "avg_pool_3x3": pools.avg_pool}


class Leaf(NamedTuple):
  """An array that an operator keeps for each edge.

  Attributes:
    shape: of one edge's part.
    init: gives it from a key.
    learnt: whether it is a parameter; otherwise it is a running moment.
  """

  shape: tuple[int, ...]
  init: Callable[..., Array]
  learnt: bool


def leaves(
  op: str, channels: int, stride: int, *, affine: bool, pool_norm: bool
) -> dict[str, Leaf]:
  """Names and shapes of what an operator keeps for each of its edges.

  Args:
    op: an operator.
    channels: C.
    stride: of the edges.
    affine: whether normalisations after convolutions have a scale and a bias.
    pool_norm: whether a normalisation follows each pool. It never has a scale.
  """
  c, found = channels, {}

  def weight(name: str, shape: tuple[int, ...], fan_in: int) -> None:
    found[f"{op}_{name}"] = Leaf(shape, ops.fan_in_uniform(fan_in), True)

  def normalised(repeat: int, scaled: bool) -> None:
    zeros, ones = jax.nn.initializers.zeros, jax.nn.initializers.ones
    found[f"{op}_mean{repeat}"] = Leaf((c,), zeros, False)
    found[f"{op}_var{repeat}"] = Leaf((c,), ones, False)
    if scaled:
      found[f"{op}_scale{repeat}"] = Leaf((c,), ones, True)
      found[f"{op}_bias{repeat}"] = Leaf((c,), zeros, True)

  form = ops.CONVOLUTIONS.get(op)
  if isinstance(form, ops.Separable):
    k = form.size
    for repeat in range(1, form.repeats + 1):
      weight(f"dw{repeat}", (k, k, c), k * k)
      weight(f"pw{repeat}", (c, c), c)
      normalised(repeat, affine)
  elif isinstance(form, ops.Factorized):
    weight("row", (1, form.size, c, c), c * form.size)
    weight("column", (form.size, 1, c, c), c * form.size)
    normalised(1, affine)
  elif isinstance(form, ops.Plain):
    fan_in = c * form.size**2
    weight("kernel", (form.size, form.size, c, c), fan_in)
    if form.shift and not affine:
      weight("shift", (c,), fan_in)
    normalised(1, affine)
  elif op == "skip_connect" and stride == 2:
    weight("halves", (2, c // 2, c), c)
    normalised(1, affine)
  elif op in POOLS and pool_norm:
    normalised(1, False)
  return found


def is_moment(name: str) -> bool:
  """Whether what `leaves` names so is a running moment."""
  return name.rstrip("12").endswith(("_mean", "_var"))


class Term(NamedTuple):
  """An operator's features before what scales and shifts them.

  Attributes:
    op: the operator.
    features: [T', N, H', W', C] for the T' edges that keep it, or
      [1, N, H', W', C] where they are the same for all.
    scales: [2, T' or 1, C] for `norm.affine`, or None where the features are
      the operator's output.
  """

  op: str
  features: Array
  scales: Array | None


@dataclasses.dataclass(frozen=True)
class Fan:
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
  """

  names: tuple[str, ...]
  kept: tuple[tuple[str, ...], ...]
  stride: int
  train: bool
  axis: str | None = None
  partial: int = 1
  shared: bool = False

  def __call__(
    self,
    x: Array,
    leaves: Leaves,
    weights: Array | None = None,
    drop: Array | None = None,
  ) -> tuple[list[Array], dict[str, Array]]:
    """For each edge the sum over its operators of weight * operator(x).

    Args:
      x: [N, H, W, C].
      leaves: what `leaves` names, for the T' edges that keep an operator:
        [T', ...]; [1, ...] where they share it.
      weights: [T, O], or None where every kept operator counts once.
      drop: [N, T, O] factors of drop path, or None.

    Returns:
      T arrays [N, H', W', C], and the running moments by name.
    """
    seen = x.shape[-1] // self.partial
    mixed, moments = self._mixed(x[..., :seen], leaves, weights, drop)
    if self.partial == 1:
      return mixed, moments
    rest = x[..., seen:]
    if self.stride == 2:
      rest = pools.halve_max(rest)
    factors = jnp.ones(len(mixed)) if weights is None else weights.sum(-1)
    factors = factors.astype(x.dtype)
    joined = [
      jnp.concatenate([y, factors[t] * rest], -1) for t, y in enumerate(mixed)
    ]
    return [ops.shuffle(y, self.partial) for y in joined], moments

  def _mixed(
    self,
    x: Array,
    leaves: Leaves,
    weights: Array | None,
    drop: Array | None,
  ) -> tuple[list[Array], dict[str, Array]]:
    """`__call__` on the channels that the operators see."""
    edges = len(self.kept)
    terms, moments = self._terms(x, leaves)
    whole, pieces = None, [[] for _ in range(edges)]
    for op, features, scales in terms:
      where, column = self.where(op), self.names.index(op)
      if weights is not None:
        y = _weighted(features, scales, rows(weights[:, column], where))
      else:
        y = features if scales is None else norm.affine(features, scales)
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

  def _terms(
    self, x: Array, leaves: Leaves
  ) -> tuple[list[Term], dict[str, Array]]:
    """Every operator that is kept, and the running moments by name."""
    present = [op for op in self.names if self.where(op)]
    found, moments = [], {}

    def normalise(repeat: int, outputs: list[tuple[str, Array]]) -> list[Term]:
      new, now = self._normalised(repeat, outputs, leaves)
      moments.update(now)
      return new

    pooled = [
      (op, POOLS[op](x, self.stride)[None]) for op in present if op in POOLS
    ]
    if pooled and f"{pooled[0][0]}_mean1" in leaves:
      found += normalise(1, pooled)
    else:
      found += [Term(op, y, None) for op, y in pooled]
    if "skip_connect" in present and self.stride == 1:
      found.append(Term("skip_connect", x[None], None))

    active = jax.nn.relu(x)
    first = [op for op in present if op in ops.CONVOLUTIONS]
    margin = max((ops.margin(op) for op in first), default=0)
    outputs = [(op, self._first(op, active, leaves, margin)) for op in first]
    if "skip_connect" in present and self.stride == 2:
      outputs.append(
        ("skip_connect", ops.halve(active, leaves["skip_connect_halves"]))
      )
    terms = normalise(1, outputs)

    twice = [op for op in first if f"{op}_dw2" in leaves]
    found += [term for term in terms if term.op not in twice]
    seconds = [
      (
        op,
        ops.separable(
          jax.nn.relu(norm.affine(y, scales)),
          leaves[f"{op}_dw2"],
          leaves[f"{op}_pw2"],
        ),
      )
      for op, y, scales in terms
      if op in twice
    ]
    return found + normalise(2, seconds), moments

  def _first(self, op: str, x: Array, leaves: Leaves, margin: int) -> Array:
    """An operator's first convolutions of [N, H, W, C]: [T', N, H', W', C]."""
    form = ops.CONVOLUTIONS[op]
    if isinstance(form, ops.Separable):
      window, point = leaves[f"{op}_dw1"], leaves[f"{op}_pw1"]
      return ops.separable(
        x[None], window, point, self.stride, form.dilation, margin=margin
      )
    if isinstance(form, ops.Plain):
      kernel = leaves[f"{op}_kernel"]
      t, k, _, c, d = kernel.shape
      wide = jnp.moveaxis(kernel, 0, 3).reshape(k, k, c, t * d)
      y = ops.dense(x, wide, self.stride).reshape(*self._out(x), t, d)
      y = jnp.moveaxis(y, 3, 0)
      if (shift := leaves.get(f"{op}_shift")) is not None:
        y = y + shift[:, None, None, None].astype(y.dtype)
      return y
    return jnp.stack(
      [
        ops.dense(
          ops.dense(x, row, (1, self.stride)), column, (self.stride, 1)
        )
        for row, column in zip(
          leaves[f"{op}_row"], leaves[f"{op}_column"], strict=True
        )
      ]
    )

  def _out(self, x: Array) -> tuple[int, ...]:
    return x.shape[0], *strided(x.shape[1:3], self.stride)

  def _normalised(
    self, repeat: int, outputs: list[tuple[str, Array]], leaves: Leaves
  ) -> tuple[list[Term], dict[str, Array]]:
    """Terms by one normalisation of all outputs, and its running moments."""
    if not outputs:
      return [], {}
    names = [op for op, _ in outputs]
    stacks = [y for _, y in outputs]

    def joined(kind: str) -> Array:
      # What is shared by edges has their moments as often; one is enough.
      return jnp.concatenate(
        [leaves[f"{op}_{kind}{repeat}"][: len(y)] for op, y in outputs]
      )

    scaled = f"{names[0]}_scale{repeat}" in leaves
    scales, running = norm.coefficients(
      stacks,
      norm.Moments(joined("mean"), joined("var")),
      joined("scale") if scaled else None,
      joined("bias") if scaled else None,
      train=self.train,
      axis=self.axis,
    )
    terms = [
      Term(op, y, p) for (op, y), p in zip(outputs, scales, strict=True)
    ]
    moments = {}
    for kind, value in running._asdict().items():
      parts = lax.split(value, [len(y) for y in stacks])
      for op, part in zip(names, parts, strict=True):
        shape = (1 if self.shared else len(self.where(op)), part.shape[1])
        moments[f"{op}_{kind}{repeat}"] = jnp.broadcast_to(part, shape)
    return terms, moments


def _weighted(x: Array, scales: Array | None, weights: Array) -> Array:
  """weights [T] times what the scales make of [T or 1, N, H, W, C]."""
  factors = jnp.broadcast_to(weights[:, None], (len(weights), x.shape[-1]))
  if scales is None:
    return depthwise(x, factors[:, None, None])
  # Computed once here, not for each pixel in the loop that adds the terms.
  return norm.affine(x, materialise(scales * factors[None]))


def rows(x: Array, where: tuple[int, ...]) -> Array:
  """x at those rows; a slice where they follow each other."""
  start, stop = where[0], where[0] + len(where)
  if where == tuple(range(start, stop)):
    return lax.slice_in_dim(x, start, stop)
  return x[jnp.asarray(where)]


def unstack(stack: Array) -> list[Array]:
  """The parts of a stack along its first axis, without that axis."""
  return [y[0] for y in lax.split(stack, (1,) * len(stack), 0)]
