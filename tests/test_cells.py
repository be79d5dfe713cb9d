"""Whole cells against cells computed edge by edge, in float64."""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import plain_cells
import pytest

from jnas.genotype import ZOO, Genotype
from jnas.spaces import spec as spec_lib
from jnas.spaces.cells import FixedReduction, SearchCell, ungroup
from jnas.spaces.spec import S1, S3, Cell

POOLS = ("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect")
EVERY = tuple(op for op in S1 if op != "none")


def normal(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def norm(affine):
  return functools.partial(
    nn.BatchNorm,
    use_running_average=False,
    momentum=0.9,
    epsilon=1e-5,
    use_scale=affine,
    use_bias=affine,
  )


def full(names, nodes):
  kept = tuple(op for op in names if op != "none")
  edges = spec_lib.darts_edges(nodes)
  return Cell(names, edges, (kept,) * len(edges), tuple(range(2, nodes + 2)))


def varied(nodes):
  """A DARTS cell of which each edge has lost other operators, one all."""
  edges = spec_lib.darts_edges(nodes)
  rng = np.random.default_rng(3)
  kept = [
    tuple(op for op in EVERY if rng.random() < 0.4) or ("skip_connect",)
    for _ in edges
  ]
  kept[1] = ()
  return Cell(S1, edges, tuple(kept), tuple(range(2, nodes + 2)))


def discrete(pairs, concat):
  genotype = Genotype(pairs, concat, pairs, concat)
  spec = spec_lib.derived(genotype, cells=3, width=4, classes=2)
  return spec.cell("normal")


DUPLICATE = discrete(
  [
    ("sep_conv_3x3", 1),
    ("dil_conv_3x3", 1),
    ("skip_connect", 0),
    ("skip_connect", 0),
    ("max_pool_3x3", 3),
    ("conv_7x1_1x7", 0),
  ],
  (2, 4),
)


def build(cell, *, reduction, halve_first, affine=False, remat=False):
  kind = nn.remat(SearchCell) if remat else SearchCell
  return kind(
    cell=cell,
    channels=4,
    reduction=reduction,
    halve_first=halve_first,
    norm=norm(affine),
    pool_norm=not affine,
  )


def states(halve_first, channels=(6, 5)):
  size = 8 if halve_first else 4
  s0 = normal(2, size, size, channels[0])
  return s0, normal(2, 4, 4, channels[1], seed=1)


def drawn(module, *args):
  """Parameters from a generator, which compiles nothing."""
  rng = np.random.default_rng(5)
  tree = jax.eval_shape(module.init, jax.random.key(0), *args)["params"]
  return jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape)), tree)


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


@pytest.mark.parametrize("reduction", [False, True])
def test_the_cell_of_s1_is_darts_cell(reduction, x64):
  cell = full(S1, 2)
  module = build(cell, reduction=reduction, halve_first=not reduction)
  compare(module, cell, weighted=True, dropped=reduction)


@pytest.mark.parametrize(
  "names,nodes,reduction", [(S3, 1, True), (POOLS, 2, False)]
)
def test_and_so_are_its_derivatives(names, nodes, reduction, x64):
  cell = full(names, nodes)
  module = build(cell, reduction=reduction, halve_first=reduction)
  compare(module, cell, weighted=True, dropped=not reduction, order=1)


def test_the_cell_of_s3_with_four_nodes(x64):
  cell = full(S3, 4)
  module = build(cell, reduction=False, halve_first=False)
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
  module = FixedReduction(8, halve_first, norm(affine=True))
  s0, s1 = states(halve_first)
  params = drawn(module, s0, s1, None, None)
  drop = normal(2, 4, 1, seed=3) if dropped else None

  @jax.jit
  def both(params):
    variables = {"params": params}
    got = module.apply(variables, s0, s1, None, drop, mutable="batch_stats")[0]
    return got, plain_cells.fixed_reduction(
      params, s0, s1, drop, halve_first
    )

  got, expected = both(params)
  assert got.shape == (2, 2, 2, 32)
  np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)


def test_the_fixed_reduction_cell_says_which_widths_it_takes():
  module = FixedReduction(100, False, norm(affine=True))
  x = jnp.zeros((1, 4, 4, 8))
  with pytest.raises(ValueError, match="divisible by 8, but a cell has 100"):
    jax.eval_shape(module.init, jax.random.key(0), x, x, None, None)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_an_ungrouped_kernel_convolves_as_the_grouped_one(groups, x64):
  x, kernel = normal(2, 4, 5, 8), normal(1, 3, 8 // groups, 12, seed=1)

  @jax.jit
  def both(x):
    dense = ungroup(kernel, groups)
    return (
      plain_cells.convolution(x, dense, 1, (0, 1)),
      plain_cells.convolution(x, kernel, 1, (0, 1), groups=groups),
    )

  np.testing.assert_allclose(*both(x), rtol=1e-12, atol=1e-12)
  assert ungroup(kernel, groups).shape == (1, 3, 8, 12)
