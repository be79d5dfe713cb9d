"""Whole cells against cells computed edge by edge, in float64."""

import functools

import jax
import jax.numpy as jnp
from made_up_cells import (
  DUPLICATE,
  POOLS,
  build,
  discrete,
  drawn,
  full,
  normal,
  states,
  varied,
)
import numpy as np
import plain_cells
import pytest

from jnas.genotype import ZOO
from jnas.ops import plain, table
from jnas.spaces.blocks import FixedReduction, ungroup
from jnas.spaces.norm import BatchNorm
from jnas.spaces.spec import S1, S3


def compare(module, cell, *, weighted, dropped, order=0):
  """Values, and derivatives by both inputs and the edge weights."""
  s0, s1 = states(module.halve_first)
  weights = normal(*cell.shape, seed=2) if weighted else None
  drop = normal(2, *cell.shape, seed=3) if dropped else None
  params = drawn(module, s0, s1, None, None)

  def together(params, s0, s1, weights):
    variables = {"params": params}
    return module.apply(
      variables, s0, s1, weights, drop, mutable="batch_stats"
    )[0]

  def apart(params, s0, s1, weights):
    return plain_cells.cell_output(
      cell, params, s0, s1, weights, drop,
      reduction=module.reduction,
      halve_first=module.halve_first,
      pool_norm=module.pool_norm,
    )

  @jax.jit
  def both(*args):
    results = []
    for function in (together, apart):
      if order:
        bound = functools.partial(function, args[0])
        y, pull = jax.vjp(bound, *args[1:])
        results.append((y, pull(normal(*y.shape, seed=4))))
      else:
        results.append((function(*args), None))
    return results

  got, expected = both(params, s0, s1, weights)
  size = 2 if module.reduction else 4
  assert got[0].shape == (2, size, size, 4 * len(cell.concat))
  assert got[0].dtype == jnp.float64

  def close(x, y):
    np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-10)

  close(got[0], expected[0])
  if order:
    # Sums of many terms that cancel: relative to the largest of each array.
    def near(x, y):
      np.testing.assert_allclose(x, y, rtol=0, atol=1e-10 * abs(y).max())

    jax.tree.map(near, got[1], expected[1])


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("reduction", [False, True])
def test_the_cell_of_s1_is_darts_cell(reduction, loop, x64):
  cell = full(S1, 2)
  module = build(
    cell, reduction=reduction, halve_first=not reduction, loop=loop
  )
  compare(module, cell, weighted=True, dropped=reduction)


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize(
  "names,nodes,reduction", [(S3, 1, True), (POOLS, 2, False)]
)
def test_and_so_are_its_derivatives(names, nodes, reduction, loop, x64):
  cell = full(names, nodes)
  module = build(cell, reduction=reduction, halve_first=reduction, loop=loop)
  compare(module, cell, weighted=True, dropped=not reduction, order=1)


@pytest.mark.parametrize("loop", [False, True])
def test_the_cell_of_s3_with_four_nodes(loop, x64):
  cell = full(S3, 4)
  module = build(cell, reduction=False, halve_first=False, loop=loop)
  compare(module, cell, weighted=True, dropped=True)


@pytest.mark.parametrize("weighted", [False, True])
def test_edges_that_have_lost_different_operators(weighted, x64):
  cell = varied(3)
  module = build(cell, reduction=weighted, halve_first=False)
  compare(module, cell, weighted=weighted, dropped=True)


@pytest.mark.parametrize("reduction", [False, True])
def test_a_derived_cell_with_two_edges_between_the_same_nodes(reduction, x64):
  module = build(
    DUPLICATE, reduction=reduction, halve_first=False, affine=True
  )
  compare(module, DUPLICATE, weighted=False, dropped=True)


def test_published_cells(x64):
  genotype = ZOO["DARTS_V2"]
  cell = discrete(genotype.reduce, genotype.reduce_concat)
  module = build(cell, reduction=True, halve_first=True, affine=True)
  compare(module, cell, weighted=False, dropped=False)


def test_initial_weights_have_the_bounds_of_the_published_code(monkeypatch):
  # PyTorch since 1.0: the fan-in of a depthwise convolution is one window.
  seen = {}

  def spy(fan_in):
    def init(key, shape, dtype=jnp.float32):
      del key
      seen[shape] = fan_in
      return jnp.zeros(shape, dtype)

    return init

  monkeypatch.setattr(table, "fan_in_uniform", spy)
  names = ("sep_conv_5x5", "skip_connect", "conv_7x1_1x7")
  cell = full(names, 2)
  module = build(cell, reduction=True, halve_first=True)
  jax.eval_shape(module.init, jax.random.key(0), *states(True), None, None)
  # Five edges, of which four have a stride.
  assert seen == {
    (2, 2, 6): 6,
    (4, 5): 5,
    (5, 5, 5, 4): 25,
    (5, 4, 4): 4,
    (4, 2, 2, 4): 4,
    (5, 1, 7, 4, 4): 28,
    (5, 7, 1, 4, 4): 28,
  }


def test_remat_changes_nothing_but_the_order_of_computing(x64):
  cell = full(S3, 1)
  shared = dict(reduction=False, halve_first=False)
  s0, s1 = states(False)
  weights = normal(*cell.shape, seed=2)
  params = drawn(build(cell, **shared), s0, s1, None, None)

  def loss(params, weights, remat):
    module = build(cell, remat=remat, **shared)
    y, stats = module.apply(
      {"params": params}, s0, s1, weights, None, mutable="batch_stats"
    )
    return jnp.sum(jnp.sin(y)), stats

  def both(params, weights):
    return [
      jax.value_and_grad(
        functools.partial(loss, remat=remat), (0, 1), has_aux=True
      )(params, weights)
      for remat in (False, True)
    ]

  got, expected = jax.jit(both)(params, weights)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-11, atol=1e-11),
    got,
    expected,
  )
  for remat in (False, True):
    gradient = jax.grad(functools.partial(loss, remat=remat), has_aux=True)
    text = str(jax.make_jaxpr(gradient)(params, weights))
    assert ("remat" in text or "checkpoint" in text) == remat


@pytest.mark.parametrize("dropped", [False, True])
def test_the_fixed_reduction_cell_has_convolutions_in_eight_groups(
  dropped, x64
):
  halve_first = not dropped
  module = FixedReduction(
    8, halve_first, functools.partial(BatchNorm, train=True)
  )
  s0, s1 = states(halve_first)
  params = drawn(module, s0, s1, None)
  drop = normal(2, 4, 1, seed=3) if dropped else None

  @jax.jit
  def both(params):
    variables = {"params": params}
    got = module.apply(variables, s0, s1, drop, mutable="batch_stats")[0]
    return got, plain_cells.fixed_reduction(
      params, s0, s1, drop, halve_first
    )

  got, expected = both(params)
  assert got.shape == (2, 2, 2, 32)
  np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)


def test_the_fixed_reduction_cell_says_which_widths_it_takes():
  module = FixedReduction(
    100, False, functools.partial(BatchNorm, train=True)
  )
  x = jnp.zeros((1, 4, 4, 8))
  with pytest.raises(ValueError, match="divisible by 8, but a cell has 100"):
    jax.eval_shape(module.init, jax.random.key(0), x, x, None)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_an_ungrouped_kernel_convolves_as_the_grouped_one(groups, x64):
  x, kernel = normal(2, 4, 5, 8), normal(1, 3, 8 // groups, 12, seed=1)

  @jax.jit
  def both(x):
    dense = ungroup(kernel, groups)
    return (
      plain.convolution(x, dense),
      plain.convolution(x, kernel, groups=groups),
    )

  np.testing.assert_allclose(*both(x), rtol=1e-12, atol=1e-12)
  assert ungroup(kernel, groups).shape == (1, 3, 8, 12)
