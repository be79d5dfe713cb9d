"""All operators on the edges that leave one node, computed together.

Every edge that leaves a node reads the same features. So the pools and the
identity are computed once per node, the first convolutions of all edges are
one convolution per operator, and one normalisation serves all of them: five
groups a cell instead of fourteen edges, with identical results and a program
several times smaller.
"""

from collections.abc import Callable
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from jnas.spaces import ops

Array = jax.Array


class Fan(nn.Module):
  """The weighted features of T edges that leave one node.

  Attributes:
    names: the O operators of the space, in the order of the weights' columns.
    kept: for each of the T edges, the operators that are computed.
    channels: C, of the features and of every output.
    stride: 1, or 2 in a reduction cell's edges from its inputs.
    norm: makes a normalisation; called with `name`.
    pool_norm: whether a normalisation follows each pooling. It never has a
      learnable scale.
  """

  names: tuple[str, ...]
  kept: tuple[tuple[str, ...], ...]
  channels: int
  stride: int
  norm: Callable[..., nn.Module]
  pool_norm: bool

  @nn.compact
  def __call__(
    self, x: Array, weights: Array | None, drop: Array | None
  ) -> list[Array]:
    """For each edge, the sum over its operators of weight * operator(x).

    Args:
      x: [N, H, W, C].
      weights: [T, O], or None where every kept operator counts once.
      drop: [N, T, O] factors of drop path, or None. The identity of stride
        one is never dropped.

    Returns:
      T arrays [N, H', W', C].
    """
    edges = len(self.kept)
    whole, pieces = None, [[] for _ in range(edges)]
    for op, feature in self._features(x):
      where = self._where(op)
      exempt = op == "skip_connect" and self.stride == 1
      factor = self._factor(
        op, where, weights, None if exempt else drop, x.dtype
      )
      if factor is not None:
        feature = feature * factor
      if len(where) == edges and feature.shape[3] == edges:
        whole = feature if whole is None else whole + feature
      else:
        for i, t in enumerate(where):
          pieces[t].append(feature[..., min(i, feature.shape[3] - 1), :])
    if whole is not None:
      for t in range(edges):
        pieces[t].append(whole[..., t, :])
    return [sum(p[1:], start=p[0]) for p in pieces]

  def _where(self, op: str) -> tuple[int, ...]:
    """The edges that keep an operator."""
    return tuple(t for t, kept in enumerate(self.kept) if op in kept)

  def _factor(
    self,
    op: str,
    where: tuple[int, ...],
    weights: Array | None,
    drop: Array | None,
    dtype: Any,
  ) -> Array | None:
    """What an operator's features are multiplied by: [N or 1, 1, 1, T', 1]."""
    column = self.names.index(op)
    factor = None
    if weights is not None:
      factor = weights[None, where, column]
    if drop is not None:
      dropped = drop[:, where, column]
      factor = dropped if factor is None else factor * dropped
    if factor is not None:
      factor = factor[:, None, None, :, None].astype(dtype)
    return factor

  def _features(self, x: Array) -> list[tuple[str, Array]]:
    """(operator, [N, H', W', T' or 1, C]) for each operator that is kept."""
    c, stride = self.channels, self.stride
    present = [op for op in self.names if self._where(op)]
    features = []
    for op, pool in (
      ("max_pool_3x3", ops.max_pool),
      ("avg_pool_3x3", ops.avg_pool),
    ):
      if op in present:
        pooled = pool(x, stride)
        if self.pool_norm:
          pooled = self.norm(name=op, use_scale=False, use_bias=False)(pooled)
        features.append((op, pooled[..., None, :]))
    if "skip_connect" in present and stride == 1:
      features.append(("skip_connect", x[..., None, :]))

    active = jax.nn.relu(x)
    first = [op for op in present if op in ops.CONVOLUTIONS]
    outputs = [(op, self._first(op, active)) for op in first]
    if "skip_connect" in present and stride == 2:
      t = len(self._where("skip_connect"))
      kernel = self.param(
        "skip_connect", ops.fan_in_uniform(c), (2, t, c, c // 2)
      )
      outputs.append(("skip_connect", ops.halve(active, kernel)))
    outputs = self._normalised("norm1", outputs)

    twice = [op for op in first if _repeats(op) == 2]
    features += [(op, y) for op, y in outputs if op not in twice]
    outputs = [
      (op, self._second(op, jax.nn.relu(y))) for op, y in outputs if op in twice
    ]
    return features + self._normalised("norm2", outputs)

  def _normalised(
    self, name: str, outputs: list[tuple[str, Array]]
  ) -> list[tuple[str, Array]]:
    """The outputs after one normalisation of all of them, as [..., T', C]."""
    if not outputs:
      return []
    joined = [y for _, y in outputs]
    y = jnp.concatenate(joined, -1) if len(joined) > 1 else joined[0]
    y = self.norm(name=name)(y)
    y = y.reshape(*y.shape[:3], -1, self.channels)
    result, start = [], 0
    for op, _ in outputs:
      stop = start + len(self._where(op))
      result.append((op, y[..., start:stop, :]))
      start = stop
    return result

  def _pair(self, op: str, size: int, repeat: int) -> tuple[Array, Array]:
    t, c = len(self._where(op)), self.channels
    depthwise = self.param(
      f"{op}_dw{repeat}", ops.fan_in_uniform(size**2), (t, size, size, c)
    )
    pointwise = self.param(
      f"{op}_pw{repeat}", ops.fan_in_uniform(c), (t, c, c)
    )
    return depthwise, pointwise

  def _first(self, op: str, x: Array) -> Array:
    """An operator's first convolutions: [N, H', W', T' * C]."""
    form, c = ops.CONVOLUTIONS[op], self.channels
    if isinstance(form, ops.Separable):
      kernel = ops.merge(*self._pair(op, form.size, 1))
      return ops.conv(x, kernel, self.stride, form.dilation)
    t, k = len(self._where(op)), form.size
    init = ops.fan_in_uniform(c * k)
    row = self.param(f"{op}_row", init, (t, 1, k, c, c))
    column = self.param(f"{op}_column", init, (t, k, 1, c, c))
    return jnp.concatenate(
      [
        ops.conv(ops.conv(x, row[i], (1, self.stride)), column[i],
                 (self.stride, 1))
        for i in range(t)
      ],
      -1,
    )

  def _second(self, op: str, x: Array) -> Array:
    """An operator's second convolutions, x as [N, H, W, T', C]."""
    depthwise, pointwise = self._pair(op, ops.CONVOLUTIONS[op].size, 2)
    outputs = []
    for i in range(x.shape[3]):
      kernel = ops.merge(depthwise[i, None], pointwise[i, None])
      outputs.append(ops.conv(x[..., i, :], kernel))
    return jnp.concatenate(outputs, -1)


def _repeats(op: str) -> int:
  form = ops.CONVOLUTIONS[op]
  return form.repeats if isinstance(form, ops.Separable) else 1
