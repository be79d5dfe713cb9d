"""Partial channels against a plain computation of them, in float64.

PC-DARTS's published code: the first C / K channels go through the operators,
the rest passes by them (through a 2 x 2 maximum in a stride of two), both are
joined and shuffled, and the whole counts as much as its edge.
"""

import functools

import jax
import jax.numpy as jnp
from made_up_cells import drawn, full, normal, states
import numpy as np
import plain_cells
import pytest

from jnas import relax
from jnas.ops import table
from jnas.spaces import mixed
from jnas.spaces.cells import SearchCell
from jnas.spaces.mixed import MixedOps
from jnas.spaces.spec import Cell

NAMES = ("none", "max_pool_3x3", "skip_connect", "dil_conv_3x3")
POOLS = NAMES[:3]
C = 8


def order(parts):
  """The channel that stands at each place after the shuffle."""
  return [j * (C // parts) + i for i in range(C // parts) for j in range(parts)]


def halved_maximum(x):
  """[N, ceil(H / 2), ceil(W / 2), C]; what is outside counts as -inf."""
  pads = ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0))
  x = jnp.pad(x, pads, constant_values=-jnp.inf)
  views = [x[:, i::2, j::2] for i in range(2) for j in range(2)]
  # The gradient of a maximum compares what may have been computed twice.
  return functools.reduce(lambda y, z: jnp.where(y >= z, y, z), views)


def plain_edge(op_outputs, x, beta, parts, stride):
  """One edge; `op_outputs` is the mixture of alpha alone."""
  rest = x[..., C // parts :]
  rest = rest if stride == 1 else halved_maximum(rest)
  joined = jnp.concatenate([op_outputs, rest], -1)
  return beta * joined[..., np.array(order(parts))]


def plain_fan(module, leaves, x, alpha, beta):
  """Edge by edge, alpha [T, O] and beta [T] apart."""
  outputs = []
  for t, kept in enumerate(module.kept):
    y = 0.0
    for op in kept:
      z = plain_cells.operator(
        op, x[..., : C // module.partial], leaves,
        module.where(op).index(t), module.stride, True,
      )
      y = y + alpha[t, module.names.index(op)] * z
    outputs.append(plain_edge(y, x, beta[t], module.partial, module.stride))
  return outputs


def leaves_of(module):
  """What the operators keep, from a generator: learnt, and moments."""
  rng, found = np.random.default_rng(5), ({}, {})
  for op in module.names[1:]:
    learnt, stats = table.arrays(
      op, C // module.partial, module.stride, affine=False, pool_norm=True
    )
    rows = len(module.where(op))
    found[0][op] = {
      name: jnp.asarray(rng.normal(size=(rows, *own.shape)))
      for name, own in learnt.items()
    }
    found[1][op] = {
      name: jnp.ones((rows, *own.shape)) for name, own in stats.items()
    }
  return found


def joined(learnt, stats):
  return {op: learnt[op] | stats[op] for op in stats}


def close(path, x, y):
  assert x.dtype == y.dtype == jnp.float64
  np.testing.assert_allclose(
    x, y, rtol=0, atol=1e-11 * max(1.0, float(abs(y).max())),
    err_msg=jax.tree_util.keystr(path),
  )


def softmax(alpha):
  powers = jnp.exp(alpha)
  return powers / powers.sum(-1, keepdims=True)


def test_the_shuffle_takes_a_channel_of_each_group_in_turn():
  assert order(4) == [0, 2, 4, 6, 1, 3, 5, 7]
  for parts in (2, 4):
    got = mixed.shuffle(jnp.arange(8), parts)
    assert got.tolist() == order(parts)
  # All other axes stay as they are.
  x = normal(2, 3, 5, 8)
  np.testing.assert_array_equal(mixed.shuffle(x, 4), x[..., np.array(order(4))])


@pytest.mark.parametrize("height,width", [(4, 6), (5, 4), (3, 5), (1, 1)])
def test_what_passes_by_in_a_stride_is_the_maximum_of_four(height, width, x64):
  x = normal(2, height, width, 3) - 5  # a pad of zeros would win
  got, expected = mixed.halve_max(x), halved_maximum(x)
  assert got.shape == (2, (height + 1) // 2, (width + 1) // 2, 3)
  np.testing.assert_array_equal(got, expected)


def test_the_gradient_of_that_maximum_survives_being_computed_twice():
  # XLA computes the scaled features once for the maximum and once more for
  # its gradient, and may round otherwise.
  x, a = normal(2, 4, 4, 6).astype(jnp.float32), jnp.linspace(-1, 1.4, 6)

  def loss(halve, a):
    y = halve(1.1 * x * a[None, None, None] + 0.3 * a[None, None, None])
    return jnp.sum(jnp.sin(y))

  @jax.jit
  def both(a):
    halves = mixed.halve_max, halved_maximum
    return [jax.grad(functools.partial(loss, f))(a) for f in halves]

  np.testing.assert_allclose(*both(a), rtol=1e-4)


@pytest.mark.parametrize(
  "parts,stride,size",
  [(2, 1, (3, 4)), (2, 2, (4, 6)), (4, 2, (5, 3))],
)
def test_operators_see_the_first_channels_and_the_rest_passes_by(
  parts, stride, size, x64
):
  module = MixedOps(NAMES, (NAMES[1:],) * 2, stride, True, partial=parts)
  learnt, stats = leaves_of(module)
  point = learnt["dil_conv_3x3"]["pointwise1"]
  assert point.shape == (2, C // parts, C // parts)

  def outputs(name, learnt, x, alpha, beta):
    if name == "together":
      weights = softmax(alpha) * beta[:, None]
      return module(x, joined(learnt, stats), weights)[0]
    return plain_fan(module, learnt, x, softmax(alpha), beta)

  def loss(name, *args):
    found = outputs(name, *args)
    probe = normal(*jnp.shape(found[0]), seed=4)
    return sum(jnp.sum(probe * jnp.sin(y + t)) for t, y in enumerate(found))

  @jax.jit
  def both(*args):
    return [
      (
        outputs(name, *args),
        jax.grad(functools.partial(loss, name), (0, 1, 2, 3))(*args),
      )
      for name in ("together", "apart")
    ]

  alpha, beta = normal(2, len(NAMES), seed=1), jnp.asarray([0.7, 0.2])
  got, expected = both(learnt, normal(2, *size, C), alpha, beta)
  assert all(
    abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(expected[1][1:])
  )
  jax.tree_util.tree_map_with_path(close, got, expected)


def test_without_weights_what_passes_by_counts_once(x64):
  module = MixedOps(NAMES, (NAMES[1:],), 1, True, partial=4)
  learnt, stats = leaves_of(module)
  x, ones = normal(2, 4, 4, C), jnp.ones((1, len(NAMES)))

  @jax.jit
  def both(x):
    (y,), _ = module(x, joined(learnt, stats))
    return y, *plain_fan(module, learnt, x, ones, jnp.ones(1))

  got, expected = both(x)
  np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


def test_dropout_is_for_operators_and_not_for_what_passes_by(x64):
  module = MixedOps(NAMES, (NAMES[1:],), 1, True, partial=4)
  learnt, stats = leaves_of(module)
  x, weights = normal(2, 4, 4, C), normal(1, len(NAMES), seed=1)
  drop = jnp.zeros((2, 1, len(NAMES)))
  arrays = joined(learnt, stats)
  got = jax.jit(lambda x: module(x, arrays, weights, drop)[0][0])(x)
  nothing = jnp.zeros((2, 4, 4, C // 4))
  expected = plain_edge(nothing, x, weights.sum(), 4, 1)
  # The identity of stride one is no exception here: its factor is given.
  np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


# Whole cells.


def build(cell, parts, reduction, loop):
  return SearchCell(
    cell=cell, channels=C, reduction=reduction, halve_first=False, train=True,
    affine=False, pool_norm=True, axis=None, loop=loop, partial=parts,
  )


def plain_cell(cell, params, s0, s1, alpha, beta, parts, reduction):
  nodes = [
    plain_cells.preprocess(s0, params["input0"], False),
    plain_cells.preprocess(s1, params["input1"], False),
  ]
  for target in range(2, cell.nodes):
    total = 0.0
    for e, (source, t) in enumerate(cell.edges):
      if t != target:
        continue
      x, stride = nodes[source], 2 if reduction and source < 2 else 1
      y = sum(
        alpha[e, cell.ops.index(op)]
        * plain_cells.operator(
          op, x[..., : C // parts], params, plain_cells.place(cell, op, e),
          stride, True,
        )
        for op in cell.kept[e]
      )
      total = total + plain_edge(y, x, beta[e], parts, stride)
    nodes.append(total)
  return jnp.concatenate(nodes[2:], -1)


def uneven():
  """A cell whose edges keep different operators."""
  kept = ("max_pool_3x3", "dil_conv_3x3"), ("skip_connect", "max_pool_3x3")
  return Cell(NAMES, ((0, 2), (1, 2)), kept, (2,))


@pytest.mark.parametrize(
  "cell,parts,reduction",
  [(full(POOLS, 2), 4, False), (full(NAMES, 1), 2, True), (uneven(), 4, True)],
  ids=["normal", "reduce", "uneven"],
)
def test_a_cell_with_and_without_a_loop_is_that_of_pcdarts(
  cell, parts, reduction, x64
):
  s0, s1 = states(False)
  alpha, beta = normal(*cell.shape, seed=2), normal(len(cell.edges), seed=3)
  targets = [target for _, target in cell.edges]
  params = drawn(build(cell, parts, reduction, True), s0, s1, None, None)
  jax.tree.map(
    np.testing.assert_array_equal,
    params,
    drawn(build(cell, parts, reduction, False), s0, s1, None, None),
  )

  def loss(loop, params, alpha, beta):
    if loop is None:
      # PC-DARTS's edge normalisation, node by node.
      share = jnp.concatenate([softmax(beta[:2]), softmax(beta[2:])])
      y = plain_cell(
        cell, params, s0, s1, softmax(alpha), share, parts, reduction
      )
    else:
      weights = relax.softmax(alpha)
      weights *= relax.edge_norm(beta, targets)[:, None]
      y, _ = build(cell, parts, reduction, loop).apply(
        {"params": params}, s0, s1, weights, None, mutable="batch_stats"
      )
    return jnp.sum(normal(*y.shape, seed=4) * jnp.sin(y)), y

  @jax.jit
  def all_of_them(*args):
    return [
      jax.grad(functools.partial(loss, loop), (0, 1, 2), has_aux=True)(*args)
      for loop in (True, False, None)
    ]

  looped, fanned, expected = all_of_them(params, alpha, beta)
  assert all(abs(g).max() > 1e-4 for g in jax.tree.leaves(expected[0]))
  for got in (looped, fanned):
    jax.tree_util.tree_map_with_path(close, got, expected)
