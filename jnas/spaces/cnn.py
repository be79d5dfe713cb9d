"""Image networks: a stem, a stack of cells, an auxiliary head, a classifier."""

from collections.abc import Mapping, Sequence
import functools
import math
from typing import Any

import chex
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jnas.ops import backend as backend_lib
from jnas.ops import table
from jnas.ops.backend import Backend
from jnas.ops.plain import convolution, half_pixels
from jnas.spaces import blocks, dilation
from jnas.spaces.blocks import FixedReduction, Residual
from jnas.spaces.cells import SearchCell
from jnas.spaces.norm import BatchNorm
from jnas.spaces.shared import SharedCell
from jnas.spaces.spec import Block, Cell, Layer, Spec

Array = jax.Array


class Network(nn.Module):
  """The network that a spec describes, for search and for evaluation.

  A derived network is the same graph with fewer operators: its spec keeps one
  operator on an edge and its normalisations have a scale.

  Attributes:
    spec: what to build.
    dtype: type of the features; parameters and batch statistics stay float32
      (or what they were initialised in).
    axis: mesh axis over which batch statistics are shared, or None for
      statistics of each replica's own examples.
    remat: whether to recompute each cell in the backward pass.
    loop: whether equal edges of a cell are one loop (`SearchCell`), and so are
      equal cells that follow each other, unless the backend has `slow_loops`.
    skip_zero_ops: whether loops leave out operators whose weight is zero
      (`SearchCell`); in transit cells they always do.
    frozen: (name, operators of each edge) of transit cells whose sub-graph is
      known: nothing else of them is computed, and weights are not read.
    backend: how operators are computed (`jnas.ops.backend.of`).
    output_stride: of features that it gives in place of logits, or 0. The
      reductions that would make them coarser keep their resolution, and what
      follows is dilated (`jnas.spaces.dilation`); parameters are the same.
  """

  spec: Spec
  dtype: Any = None
  axis: str | None = None
  remat: bool = False
  loop: bool = False
  skip_zero_ops: bool = False
  frozen: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...] = ()
  backend: Backend = backend_lib.CPU
  output_stride: int = 0

  @nn.compact
  def __call__(
    self,
    x: Array,
    edge_weights: Mapping[str, Array] | None = None,
    drop: Sequence[Array] | None = None,
    *,
    train: bool,
  ) -> tuple[Array, Array | None]:
    """Logits [N, K], and those of the auxiliary head or None.

    With an output stride s the first of them are features of the last cell,
    [N, ceil(H / s), ceil(W / s), C], or finer where the network is.

    Args:
      x: [N, H, W, channels], normalised images.
      edge_weights: for each searched cell, weights [E, O]; None where every
        kept operator counts once.
      drop: for each layer, factors [N, E, O] of dropout (`drop_factors`),
        or None.
      train: whether normalisations use (and update) the statistics of this
        batch or the running ones. The auxiliary head exists in training only.
    """
    spec = self.spec
    chex.assert_rank(x, 4)
    for name, cell in spec.searched if edge_weights is not None else ():
      chex.assert_shape(edge_weights[name], cell.shape)
    norm = functools.partial(
      BatchNorm, train=train, axis=self.axis, backend=self.backend
    )
    if self.dtype is not None:
      x = x.astype(self.dtype)
    remat = nn.remat if self.remat else lambda module: module

    s1 = x
    for i, (channels, stride) in enumerate(spec.stem_convolutions):
      s0, name = s1, f"stem{i or ''}"
      c = s0.shape[-1]
      init = table.fan_in_uniform(9 * c)
      kernel = self.param(name, init, (3, 3, c, channels))
      s1 = convolution(jax.nn.relu(s0) if i else s0, kernel, stride)
      s1 = norm(name=f"{name}_norm")(s1)
    s0 = s0 if spec.imagenet else s1
    width, halved, auxiliary = spec.width, spec.imagenet, None
    stride = math.prod(stride for _, stride in spec.stem_convolutions)
    sizes = []  # of features before each reduction that keeps them
    done = 0
    for i, layer in enumerate(spec.layers):
      if i < done:
        continue
      width *= 2 if layer.reduction else 1
      if layer.reduction and self.output_stride:
        if 2 * stride > self.output_stride:
          sizes.append(s1.shape[1:3])
          s0 = dilation.phases(s0, 2 if halved else 1)
          s1 = dilation.phases(s1)
        else:
          stride *= 2
      own = None if drop is None else _tiled(drop[i], 4 ** len(sizes))
      cell = spec.cell(layer.cell)
      shared = dict(channels=width, halve_first=halved, name=f"cell{i}")
      if isinstance(cell, Block):
        cell_norm = functools.partial(norm, scaled=spec.affine)
        if cell is Block.RESIDUAL:
          block = remat(Residual)(channels=width, norm=norm, name=f"cell{i}")
          s0, s1 = s1, block(s1)
        else:
          block = remat(FixedReduction)(
            norm=cell_norm, backend=self.backend, **shared
          )
          s0, s1 = s1, block(s0, s1, own)
      else:
        active = dict(self.frozen).get(layer.cell)
        weights = None
        if edge_weights is not None and active is None:
          weights = edge_weights[layer.cell]
        shared |= dict(
          cell=cell,
          reduction=layer.reduction,
          train=train,
          affine=spec.affine,
          pool_norm=spec.pool_norm,
          axis=self.axis,
          loop=self.loop,
          skip_zero_ops=self.skip_zero_ops or cell.transit,
          active=active,
          backend=self.backend,
        )
        if spec.sharing:
          form = remat(SharedCell)
          shared |= dict(bottleneck=spec.bottleneck)
        else:
          form = remat(SearchCell)
          shared |= dict(partial=spec.partial)
        alike = self._alike(i)
        read = max(s0.shape[-1] * (2 if halved else 1), s1.shape[-1])
        if len(alike) > 1 and read <= width * len(cell.concat):
          each = (
            None if weights is None else [
              edge_weights[spec.layers[j].cell] for j in alike
            ],
            None if own is None else [
              _tiled(drop[j], 4 ** len(sizes)) for j in alike
            ],
          )
          shared |= dict(name=None, parent=None)
          s0, s1 = self._in_a_loop(form(**shared), alike, s0, s1, each)
          i = alike[-1]
          done = i + 1
        else:
          s0, s1 = s1, form(**shared)(s0, s1, weights, own)
      halved = layer.reduction
      if spec.auxiliary and i == spec.auxiliary_layer:
        if train or self.is_initializing():
          head = Auxiliary(
            spec.classes,
            norm,
            stride=2 if spec.imagenet else 3,
            last_norm=spec.auxiliary_norm,
            name="auxiliary",
          )
          auxiliary = head(s1)
    if spec.head_norm:
      s1 = jax.nn.relu(norm(name="head_norm")(s1))
    if self.output_stride:
      for size in reversed(sizes):
        s1 = dilation.interleaved(s1, size)
      return s1, None
    pooled = s1.mean((1, 2))
    return Dense(spec.classes, name="classifier")(pooled), auxiliary

  def _alike(self, first: int) -> list[int]:
    """The layers from one on that are the same cell, at one resolution.

    The auxiliary head is after the last of them, if it is after any. Alone the
    first one, where cells are not computed in a loop.
    """
    spec, found = self.spec, [first]
    loops = self.loop and not self.backend.slow_loops
    if not loops or self.is_initializing() or spec.layers[first].reduction:
      return found

    def kind(layer: Layer) -> tuple[Any, ...]:
      active = dict(self.frozen).get(layer.cell)
      return layer.reduction, spec.cell(layer.cell), active

    for i in range(first + 1, len(spec.layers)):
      headed = spec.auxiliary and i - 1 == spec.auxiliary_layer
      if headed or kind(spec.layers[i]) != kind(spec.layers[first]):
        break
      found.append(i)
    return found

  def _in_a_loop(
    self,
    module: nn.Module,
    layers: Sequence[int],
    s0: Array,
    s1: Array,
    each: tuple[Any, ...],
  ) -> tuple[Array, Array]:
    """The outputs of the last two of some cells, by one loop over them.

    All read features of one shape: what the first ones read, of fewer channels
    or of twice the resolution, is given that shape, and kernels theirs.

    Args:
      module: the first of the cells, not bound.
      layers: theirs.
      s0: output of the cell before the previous one.
      s1: output of the previous cell.
      each: weights and factors of drop path, lists over the cells, or None.
    """
    cell, names = module.cell, [f"cell{i}" for i in layers]
    channels = module.channels * len(cell.concat)
    if cell.inputs == 1:
      s0 = s1
    elif module.halve_first:
      s0 = jnp.concatenate(half_pixels(s0), -1)
      module = module.clone(halve_first=False)
    variables = [
      {kind: own[name] for kind, own in self.variables.items() if name in own}
      for name in names
    ]
    variables = [
      own | {"params": blocks.widened(own.get("params", {}), channels)}
      for own in variables
    ]
    stack = functools.partial(jax.tree.map, lambda *leaves: jnp.stack(leaves))
    each = [None if values is None else jnp.stack(values) for values in each]

    def body(states, given):
      variables, weights, drop = given
      y, updated = module.apply(
        variables, *states, weights, drop, mutable=["batch_stats"]
      )
      return (states[1], y), updated

    states = tuple(blocks.pad_channels(s, channels) for s in (s0, s1))
    states, updated = jax.lax.scan(body, states, (stack(*variables), *each))
    if self.is_mutable_collection("batch_stats"):
      for i, name in enumerate(names):
        own = jax.tree.map(lambda leaf, i=i: leaf[i], updated["batch_stats"])
        self.put_variable("batch_stats", name, own)
    return states


class Auxiliary(nn.Module):
  """The auxiliary head of DARTS.

  On CIFAR it is made for 8 x 8 features, where a 5 x 5 mean pool of stride
  three leaves 2 x 2 and a 2 x 2 convolution one pixel; on ImageNet for 7 x 7
  and a stride of two. Smaller features are not pooled; whatever pixels are left
  after the convolution are averaged.

  Attributes:
    classes: number of classes.
    norm: makes a normalisation.
    stride: of the pool.
    last_norm: whether a normalisation follows the second convolution.
  """

  classes: int
  norm: Any
  stride: int = 3
  last_norm: bool = True

  @nn.compact
  def __call__(self, x: Array) -> Array:
    x = jax.nn.relu(x)
    if min(x.shape[1:3]) >= 5 + self.stride:
      x = nn.avg_pool(x, (5, 5), (self.stride, self.stride))
    c = x.shape[-1]
    point = self.param("point", table.fan_in_uniform(c), (1, 1, c, 128))
    x = jax.nn.relu(self.norm(name="norm0")(convolution(x, point)))
    pad = [(0, max(0, 2 - size)) for size in x.shape[1:3]]
    x = jnp.pad(x, ((0, 0), *pad, (0, 0)))
    square = self.param(
      "square", table.fan_in_uniform(4 * 128), (2, 2, 128, 768)
    )
    x = jax.lax.conv_general_dilated(
      x,
      square.astype(x.dtype),
      (1, 1),
      "VALID",
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    x = self.norm(name="norm1")(x) if self.last_norm else x
    x = jax.nn.relu(x).mean((1, 2))
    return Dense(self.classes, name="classifier")(x)


class Dense(nn.Module):
  """A linear layer to logits, computed in float32 or better."""

  features: int

  @nn.compact
  def __call__(self, x: Array) -> Array:
    init = table.fan_in_uniform(x.shape[-1])
    kernel = self.param("kernel", init, (x.shape[-1], self.features))
    bias = self.param("bias", init, (self.features,))
    return x.astype(kernel.dtype) @ kernel + bias[None]


def drop_factors(
  keys: Array,
  spec: Spec,
  *,
  path: Array | None = None,
  skip: Array | None = None,
) -> list[Array]:
  """Factors of dropout for every layer, edge, operator and example.

  An operator's output on one example is zero with a certain probability, and
  is otherwise divided by what remains of one. For drop path (Larsson et al.
  2017; one draw per example and path, as in the DARTS code) it is the same
  for all operators but the identity, which is never dropped. P-DARTS drops
  the identity alone (section 3.2; "operation-level": its published code drops
  single elements).

  Args:
    keys: [N], one key an example, so that the draw does not depend on how a
      batch is divided over devices.
    spec: the network.
    path: scalar in [0, 1), the rate of all but identities; None for none.
    skip: scalar in [0, 1), the rate of identities; None for none.

  Returns:
    For each layer an array [N, E, O] ([N, 4, 1] for the fixed reduction cell).
  """
  identities = [_identities(spec, layer) for layer in spec.layers]
  flat = np.concatenate([part.ravel() for part in identities])
  zero = jnp.zeros(())
  rate = jnp.where(
    flat, zero if skip is None else skip, zero if path is None else path
  )

  def draw(key: Array) -> Array:
    return jax.random.bernoulli(key, 1 - rate) / (1 - rate)

  drawn, factors, start = jax.vmap(draw)(keys), [], 0
  for part in identities:
    factors.append(
      drawn[:, start : start + part.size].reshape(-1, *part.shape)
    )
    start += part.size
  return factors


def _identities(spec: Spec, layer: Layer) -> np.ndarray:
  """Whether an operator of an edge is the identity: [E, O]."""
  cell = spec.cell(layer.cell)
  if not isinstance(cell, Cell):
    shape = (4, 1) if cell is Block.FIXED_REDUCTION else (0, 1)
    return np.zeros(shape, bool)
  skip = np.asarray([op == "skip_connect" for op in cell.ops])
  plain = [
    not layer.reduction or source >= cell.inputs for source, _ in cell.edges
  ]
  return np.asarray(plain)[:, None] & skip


def _tiled(drop: Array, times: int) -> Array:
  """Factors [times * N, E, O] of as many parts of a batch."""
  return drop if times == 1 else jnp.tile(drop, (times, 1, 1))


def has_blocks(spec: Spec) -> bool:
  """Whether there are blocks, whose convolutions are XLA's own.

  A backend with `slow_loops` computes those slowly inside a loop.
  """
  return any(isinstance(cell, Block) for _, cell in spec.cells)


def count(params: Any, *, auxiliary: bool = False) -> int:
  """The number of parameters of a network.

  Args:
    params: the "params" collection.
    auxiliary: whether the auxiliary head counts; the field leaves it out.
  """
  kept = {k: v for k, v in params.items() if auxiliary or k != "auxiliary"}
  return sum(leaf.size for leaf in jax.tree.leaves(kept))
