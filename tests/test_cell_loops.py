"""Equal edges in one loop against all edges of a source at once."""


import equations
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
import pytest

from jnas.ops.backend import ACCELERATOR, CPU, PLAIN
from jnas.spaces.cells import Segment, segments
from jnas.spaces.spec import S1, S3, Cell

SEP = "sep_conv_3x3"
# All edges alike, two of them between the same two nodes.
ALIKE = discrete([(SEP, 1), (SEP, 1), (SEP, 0), (SEP, 2)], (2, 3))


def first_alike(outer, inner):
  """A DARTS cell of two nodes whose edges from its inputs keep `outer`."""
  cell = full(S1, 2)
  kept = [outer if source < 2 else inner for source, _ in cell.edges]
  return Cell(S1, cell.edges, tuple(kept), cell.concat)


def run(cell, loop, s0, s1, weights, drop, **options):
  """A function of parameters and weights: the output, and the moments."""
  module = build(cell, loop=loop, **options)

  def apply(params, weights):
    return module.apply(
      {"params": params}, s0, s1, weights, drop, mutable="batch_stats"
    )

  return apply


def everything(apply, params, weights, order=2):
  """Output, moments, gradients, and the gradients' derivative."""

  def loss(params, weights):
    y, stats = apply(params, weights)
    return jnp.sum(normal(*y.shape, seed=4) * jnp.sin(y)), (y, stats)

  args = (params, weights) if weights is not None else (params,)
  number = tuple(range(len(args)))
  tangents = jax.tree.map(lambda a: jnp.cos(3 * a), args)

  def gradient(*args):
    return jax.grad(loss, number, has_aux=True)(
      args[0], *(args[1:] or (None,))
    )

  if order == 1:
    return gradient(*args)
  (gradients, extra), (product, _) = jax.jvp(gradient, args, tangents)
  return {"values": extra, "gradients": gradients, "product": product}


# Options by which two forms of a cell differ.
LOOPS = {"loop": True}, {"loop": False}
DEVICES = (
  {"loop": True, "backend": ACCELERATOR}, {"loop": False, "backend": PLAIN}
)


def both(forms, cell, inputs, params, weights, drop, order=2, **options):
  """`everything` of two forms of a cell, from one program."""

  @jax.jit
  def found(params, weights):
    applied = [
      run(cell, s0=inputs[0], s1=inputs[1], weights=weights, drop=drop,
          **options, **form)
      for form in forms
    ]
    return [everything(apply, params, weights, order) for apply in applied]

  return found(params, weights)


def near(path, x, y):
  assert x.dtype == y.dtype
  np.testing.assert_allclose(
    x, y, rtol=0, atol=1e-10 * max(1.0, float(abs(y).max())),
    err_msg=jax.tree_util.keystr(path),
  )


@pytest.mark.parametrize(
  "cell,reduction,weighted,dropped",
  [
    (full(S3, 2), False, True, True),
    (full(POOLS, 2), True, True, True),
    (ALIKE, False, False, True),
    (ALIKE, True, False, False),
  ],
)
def test_a_loop_changes_nothing_but_the_order_of_computing(
  cell, reduction, weighted, dropped, x64
):
  s0, s1 = states(False)
  weights = normal(*cell.shape, seed=2) if weighted else None
  drop = normal(2, *cell.shape, seed=3) if dropped else None
  options = dict(
    reduction=reduction, halve_first=False, affine=cell is ALIKE
  )
  trees = [
    drawn(build(cell, loop=loop, **options), s0, s1, None, None)
    for loop in (False, True)
  ]
  jax.tree.map(np.testing.assert_array_equal, *trees)

  got, expected = both(
    LOOPS, cell, (s0, s1), trees[0], weights, drop, **options
  )
  stats = jax.tree.leaves(expected["values"][1])
  assert stats and all(np.isfinite(leaf).all() for leaf in stats)
  assert any(
    abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(expected["product"])
  )
  jax.tree_util.tree_map_with_path(near, got, expected)


def test_the_loop_of_accelerators_is_the_plain_definition(x64):
  cell = full(("max_pool_3x3", SEP), 1)
  s0, s1 = states(False)
  weights = normal(*cell.shape, seed=2)
  options = dict(reduction=True, halve_first=False)
  params = drawn(build(cell, **options), s0, s1, None, None)

  got, expected = both(
    DEVICES, cell, (s0, s1), params, weights, None, **options
  )
  assert all(
    abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(expected["gradients"])
  )
  jax.tree_util.tree_map_with_path(near, got, expected)


# Two edges keep SEP, none the same operators as another.
UNEVEN = Cell(
  ("none", "max_pool_3x3", "skip_connect", SEP),
  ((0, 2), (1, 2), (0, 3), (2, 3)),
  ((SEP,), (SEP, "skip_connect"), ("max_pool_3x3",), ("skip_connect", SEP)),
  (2, 3),
)


@pytest.mark.slow
@pytest.mark.parametrize("reduction", [False, True])
def test_a_choice_of_operators_in_a_loop_is_the_plain_definition(
  reduction, x64
):
  cell, (s0, s1) = UNEVEN, states(False)
  # A weight of zero has a gradient as any other.
  weights = normal(*cell.shape, seed=2).at[0].set(0.0)
  drop = normal(2, *cell.shape, seed=3)
  options = dict(reduction=reduction, halve_first=False)
  params = drawn(build(cell, **options), s0, s1, None, None)

  got, expected = both(
    DEVICES, cell, (s0, s1), params, weights, drop, **options
  )
  kept = np.array([[op in own for op in cell.ops] for own in cell.kept])
  by_weight = np.asarray(expected["gradients"][1])
  assert (abs(by_weight[kept]) > 1e-3).all() and not by_weight[~kept].any()
  jax.tree_util.tree_map_with_path(near, got, expected)


def test_accelerators_compute_unequal_edges_in_one_loop():
  def forms(cell, reduction):
    return [
      (part.edges, part.form)
      for part in segments(cell, reduction, True, uneven=True)
    ]

  assert forms(UNEVEN, False) == [((0, 2, 1, 3), "choice")]
  assert forms(UNEVEN, True) == [((0, 2, 1), "choice"), ((3,), "source")]
  # Nothing would be shared by the rounds of a loop.
  assert {form for _, form in forms(DUPLICATE, False)} == {"source"}
  s0, s1 = states(False)

  def counts(backend, weights):
    options = dict(reduction=False, halve_first=False, backend=backend)
    params = drawn(build(UNEVEN, **options), s0, s1, None, None)
    found = equations.counted(
      run(UNEVEN, True, s0, s1, weights, None, **options), params, weights
    )
    names = "scan", "cond", "conv_general_dilated"
    return tuple(equations.of(found, *names).values())

  weights = jnp.ones(UNEVEN.shape)
  assert counts(ACCELERATOR, weights) == (1, 3, 2)
  # Without weights it is a derived cell, which is written out.
  assert counts(ACCELERATOR, None) == (0, 0, 6)
  assert counts(CPU, weights)[:2] == (0, 0)


def test_evaluation_in_a_loop_reads_the_moments_of_each_edge(x64):
  cell = full((*POOLS, SEP), 2)
  s0, s1 = states(False)
  weights = normal(*cell.shape, seed=2)
  options = dict(reduction=True, halve_first=False)
  params = drawn(build(cell, **options), s0, s1, None, None)

  @jax.jit
  def evaluated(params):
    _, stats = run(cell, True, s0, s1, weights, None, **options)(
      params, weights
    )
    variables = {"params": params, **stats}
    return [
      build(cell, loop=loop, train=False, **options).apply(
        variables, s0 * 2 + 1, s1, weights, None
      )
      for loop in (True, False)
    ]

  got, expected = evaluated(params)
  assert abs(expected).max() > 1e-3
  np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)


def test_equal_edges_of_one_stride_are_one_segment():
  # Rows (0, 2), (1, 2), (0, 3), (1, 3), (2, 3); by source, then by target.
  cell = full(S3, 2)
  assert segments(cell, False, True) == (Segment((0, 2, 1, 3, 4), 1, "loop"),)
  assert segments(cell, True, True) == (
    Segment((0, 2, 1, 3), 2, "loop"),
    Segment((4,), 1, "source"),
  )
  assert segments(cell, True, False) == (
    Segment((0, 2), 2, "source"),
    Segment((1, 3), 2, "source"),
    Segment((4,), 1, "source"),
  )
  # Two edges between the same nodes stay in the order of their rows.
  assert segments(ALIKE, False, True) == (Segment((2, 0, 1, 3), 1, "loop"),)


@pytest.mark.parametrize("cell", [varied(3), DUPLICATE])
def test_edges_that_keep_different_operators_are_no_loop(cell):
  for reduction in (False, True):
    parts = segments(cell, reduction, True)
    assert parts == segments(cell, reduction, False)
    rows = sorted(e for part in parts for e in part.edges)
    assert rows == [e for e, kept in enumerate(cell.kept) if kept]


@pytest.mark.parametrize("outer_loop", [False, True])
def test_one_stride_can_be_a_loop_and_the_other_not(outer_loop, x64):
  pools = ("max_pool_3x3", "skip_connect")
  edges = ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3), (2, 4), (3, 4))
  kept = [pools] * 7
  kept[1 if not outer_loop else 5] = ("avg_pool_3x3",)
  cell = Cell(S1, edges, tuple(kept), (2, 3, 4))
  parts = segments(cell, True, True)
  assert {(part.stride, part.form) for part in parts} == {
    (2, "loop" if outer_loop else "source"),
    (1, "source" if outer_loop else "loop"),
  }
  s0, s1 = states(False)
  weights = normal(*cell.shape, seed=2)
  options = dict(reduction=True, halve_first=False)
  params = drawn(build(cell, **options), s0, s1, None, None)

  pair = both(LOOPS, cell, (s0, s1), params, weights, None, 1, **options)
  jax.tree_util.tree_map_with_path(near, *pair)


def test_the_program_of_a_loop_is_small_and_forgets_what_it_computed():
  cell = full(("none", "skip_connect", SEP), 4)
  s0, s1 = (s.astype(jnp.float32) for s in states(False))
  options = dict(reduction=False, halve_first=False)
  params = drawn(build(cell, **options), s0, s1, None, None)
  params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
  weights = jnp.ones(cell.shape)
  sizes, found = {}, {}
  for loop in (False, True):
    apply = run(cell, loop, s0, s1, weights, None, **options)

    def loss(params, weights, apply=apply):
      return apply(params, weights)[0].sum()

    gradient = jax.grad(loss, (0, 1))
    text = jax.jit(gradient).lower(params, weights).as_text()
    sizes[loop] = len(text.splitlines())
    found[loop] = equations.counted(gradient, params, weights)
  assert sizes[True] < 0.6 * sizes[False]
  # Two stages an edge, and the weighting of the identity; the stages once
  # again for the gradient.
  assert found[False]["scan"] == 0
  assert found[True]["scan"] == 2
  assert found[True]["depthwise"] == 3 + 2
  assert found[False]["depthwise"] == 5 * 3
  assert found[True]["remat2"] + found[True]["checkpoint"] > 0
