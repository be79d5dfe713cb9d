"""One operator an edge, or different ones on each, against all of them."""

import functools

import equations
import jax
import jax.numpy as jnp
from made_up_cells import drawn as made_up
from made_up_cells import normal, states
import numpy as np
import plain_cells
import pytest

from jnas import relax
from jnas.ops import backend, plain
from jnas.spaces import cnn
from jnas.spaces import spec as spec_lib
from jnas.spaces.cells import SearchCell
from jnas.spaces.spec import Cell

MAX, AVG, SKIP = "max_pool_3x3", "avg_pool_3x3", "skip_connect"
SEP, DIL = "sep_conv_3x3", "dil_conv_3x3"
NAMES = ("none", MAX, SKIP, SEP)
EDGES = spec_lib.darts_edges(2)
# P-DARTS after a stage: every edge has lost other operators.
UNEVEN = Cell(
  ("none", MAX, AVG, SKIP, DIL),
  EDGES,
  ((MAX, SKIP), (AVG,), (SKIP, DIL), (AVG, MAX), (DIL, SKIP)),
  (2, 3),
)
# GDAS: everything is there, and one operator of an edge is drawn.
EVEN = Cell(NAMES, EDGES, (NAMES[1:],) * 5, (2, 3))
MOMENTS = ("mean", "var")


def build(cell, reduction, **options):
  given = dict(
    cell=cell, channels=4, reduction=reduction, halve_first=False, train=True,
    affine=False, pool_norm=True, axis=None, loop=False,
  )
  return SearchCell(**given | options)


def variables_of(cell, reduction, **options):
  """Parameters and moments, both from a generator; variances above zero."""
  module = build(cell, reduction, **options)
  s0, s1 = states(False)
  params = made_up(module, s0, s1, None, None)
  shapes = jax.eval_shape(
    module.init, jax.random.key(0), s0, s1, None, None
  )["batch_stats"]
  rng = np.random.default_rng(7)

  def draw(path, leaf):
    value = rng.normal(size=leaf.shape)
    if any(part.key.startswith((MAX, AVG)) for part in path):
      value[:] = value[:1]  # what edges share has the same moments on each
    name = path[-1].key
    return jnp.asarray(np.abs(value) + 0.5 if "var" in name else value)

  return params, jax.tree_util.tree_map_with_path(draw, shapes)


def run(module, params, stats, weights, drop):
  """The output, and the running moments of its operators."""
  s0, s1 = states(False)
  y, now = module.apply(
    {"params": params, "batch_stats": stats},
    s0, s1, weights, drop, mutable="batch_stats",
  )
  return y, {
    name: value for name, value in now["batch_stats"].items()
    if not name.startswith("input")
  }


def reference(cell, reduction, train, params, stats, weights, drop):
  """The same edge by edge, one operator after the other."""
  s0, s1 = states(False)
  nodes = [
    plain_cells.batch_norm(
      plain.pointwise(jax.nn.relu(s), params[name]["kernel"]),
      running=None if train else [stats[name]["norm"][k] for k in MOMENTS],
    )
    for name, s in (("input0", s0), ("input1", s1))
  ]
  now = {
    op: {name: list(rows) for name, rows in own.items()}
    for op, own in stats.items()
    if not op.startswith("input")
  }
  arrays = {op: params.get(op, {}) | own for op, own in stats.items()}
  for e, (source, target) in enumerate(cell.edges):
    for op in cell.kept[e]:
      seen, row = {}, plain_cells.place(cell, op, e)
      y = plain_cells.operator(
        op, nodes[source], arrays, row,
        2 if reduction and source < 2 else 1, True, train=train, seen=seen,
      )
      y *= weights[e, cell.ops.index(op)]
      y *= drop[:, e, cell.ops.index(op)][:, None, None, None]
      nodes += [0.0] * (target + 1 - len(nodes))
      nodes[target] += y
      for name, value in seen.get(op, {}).items():
        now[op][name][row] = 0.9 * now[op][name][row] + 0.1 * value
  now = jax.tree.map(jnp.stack, now, is_leaf=lambda x: isinstance(x, list))
  return jnp.concatenate(nodes[2:], -1), now


def close(path, x, y):
  assert x.dtype == y.dtype == jnp.float64
  np.testing.assert_allclose(
    x, y, rtol=0, atol=1e-10 * max(1.0, float(abs(y).max())),
    err_msg=jax.tree_util.keystr(path),
  )


# Different operators on every edge.


@pytest.mark.parametrize("reduction", [False, True])
def test_edges_that_keep_different_operators_one_by_one(reduction, x64):
  module = build(UNEVEN, reduction, loop=True)
  params, stats = variables_of(UNEVEN, reduction)
  drop = 1 + 0.5 * normal(2, *UNEVEN.shape, seed=3)

  def together(params, weights):
    return run(module, params, stats, weights, drop)

  def apart(params, weights):
    return reference(UNEVEN, reduction, True, params, stats, weights, drop)

  def all_of(function, *args):
    def loss(*args):
      y, now = function(*args)
      return jnp.sum(normal(*y.shape, seed=4) * jnp.sin(y)), (y, now)

    gradient = jax.grad(loss, (0, 1), has_aux=True)
    if reduction:
      first, values = gradient(*args)
      return {"values": values, "first": first, "second": None}
    tangents = jax.tree.map(lambda a: jnp.cos(3 * a), args)
    (first, values), (second, _) = jax.jvp(gradient, args, tangents)
    return {"values": values, "first": first, "second": second}

  @jax.jit
  def both(*args):
    return [all_of(function, *args) for function in (together, apart)]

  got, expected = both(params, normal(*UNEVEN.shape, seed=2))
  # What an edge does not keep has no part: the columns of its weights.
  kept = np.array([[op in k for op in UNEVEN.ops] for k in UNEVEN.kept])
  assert not np.asarray(got["first"][1])[~kept].any()
  assert (abs(np.asarray(expected["first"][1])[kept]) > 1e-4).all()
  for leaf in jax.tree.leaves((expected["first"], expected["second"])):
    assert abs(leaf).max() > 1e-5
  # The moments of every edge have moved.
  for op, own in expected["values"][1].items():
    for name, value in own.items():
      assert abs(value - stats[op][name]).max(-1).min() > 1e-3, (op, name)
  jax.tree_util.tree_map_with_path(close, got, expected)


def test_evaluation_reads_the_moments_of_its_own_edge_and_operator(x64):
  module = build(UNEVEN, True, loop=True, train=False)
  params, stats = variables_of(UNEVEN, True)
  weights, drop = normal(*UNEVEN.shape, seed=2), jnp.ones((2, *UNEVEN.shape))

  @jax.jit
  def both(params):
    args = params, stats, weights, drop
    return run(module, *args)[0], reference(UNEVEN, True, False, *args)[0]

  got, expected = both(params)
  assert abs(expected).max() > 1e-2
  close((), got, expected)


# One operator drawn on every edge.


DRAWS = {
  "mixed": (SEP, MAX, "none", SKIP, SEP),
  "an empty node": ("none", "none", SEP, MAX, SKIP),
  "nothing": ("none",) * 5,
}


def logits_of(draw):
  """Logits with which nothing but these operators is drawn."""
  column = [NAMES.index(op) for op in DRAWS[draw]]
  # Near enough that the soft probabilities of the others count.
  return normal(5, 4, seed=6) * 0.1 + 4.0 * jnp.eye(4)[jnp.asarray(column)]


def gdas_weights(logits):
  """As `jnas.algorithms.gdas` computes them."""
  h = relax.gumbel_hard(logits, None, jax.random.key(1), 4.0)
  return h * jax.lax.stop_gradient(h)


@functools.cache
def both_ways(reduction):
  """A program of logits and drop: a loop's and a dense cell's results."""
  modules = (
    build(EVEN, reduction, loop=True, skip_zero_ops=True),
    build(EVEN, reduction),
  )
  params, stats = variables_of(EVEN, reduction)

  def loss(module, params, logits, drop):
    y, now = run(module, params, stats, gdas_weights(logits), drop)
    return jnp.sum(normal(*y.shape, seed=4) * jnp.sin(y)), (y, now)

  @jax.jit
  def program(*args):
    return gdas_weights(args[0]), [
      jax.grad(functools.partial(loss, module), (0, 1), has_aux=True)(
        params, *args
      )
      for module in modules
    ]

  return program, stats


@pytest.mark.parametrize("reduction", [False, True])
@pytest.mark.parametrize("draw", DRAWS)
def test_a_drawn_operator_alone_is_the_dense_sum_of_the_same_weights(
  draw, reduction, x64
):
  program, stats = both_ways(reduction)
  drop = 1 + 0.5 * normal(2, *EVEN.shape, seed=3)
  weights, (got, expected) = program(logits_of(draw), drop)
  hot = [NAMES.index(op) for op in DRAWS[draw]]
  np.testing.assert_array_equal(weights, np.eye(4)[np.array(hot)])
  (gradients, (y, now)), (wanted, (z, dense)) = got, expected
  close((), y, z)
  jax.tree_util.tree_map_with_path(close, gradients, wanted)
  for leaf in jax.tree.leaves((gradients, now)):
    assert np.isfinite(leaf).all()
  if draw == "nothing":
    for leaf in (y, *jax.tree.leaves(gradients)):
      np.testing.assert_array_equal(leaf, jnp.zeros_like(leaf))
  else:
    assert abs(z).max() > 1e-2
    assert abs(wanted[1]).max() > 1e-3  # logits have a gradient
  # Rows of leaves are edges by source and then by target. The edge between
  # the nodes of a reduction cell stands alone and is computed as ever.
  order = sorted(range(5), key=lambda e: EDGES[e])
  moved = 0
  names = [(op, n) for op, own in stats.items() for n in own]
  for op, name in [each for each in names if "input" not in each[0]]:
    for row, (old, new, same) in enumerate(
      zip(stats[op][name], now[op][name], dense[op][name], strict=True)
    ):
      e = order[row]
      if DRAWS[draw][e] == op or (reduction and e == 4):
        np.testing.assert_allclose(new, same, rtol=0, atol=1e-12)
        assert abs(new - old).max() > 1e-3
        moved += 1
      else:
        np.testing.assert_array_equal(new, old)
  assert (moved > 0) == (draw != "nothing" or reduction)


@pytest.mark.parametrize("form", [backend.CPU, backend.ACCELERATOR])
def test_an_operator_that_is_not_drawn_is_not_computed(form):
  params, stats = jax.tree.map(
    lambda leaf: leaf.astype(jnp.float32), variables_of(EVEN, False)
  )
  weights = jnp.asarray(np.eye(4)[[1, 2, 1, 2, 2]], jnp.float32)
  module = build(EVEN, False, loop=True, skip_zero_ops=True, backend=form)
  outputs = jax.jit(lambda params: run(module, params, stats, weights, None)[0])
  odd = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), params[SEP])
  np.testing.assert_array_equal(outputs(params | {SEP: odd}), outputs(params))


@pytest.mark.parametrize("reduction", [False, True])
def test_the_rest_of_partial_channels_passes_by_whatever_is_drawn(
  reduction, x64
):
  params, stats = variables_of(EVEN, reduction, partial=2)
  weights = jnp.asarray(np.eye(4)[[1, 0, 0, 2, 0]])

  @jax.jit
  def outputs(params):
    return [
      run(
        build(EVEN, reduction, partial=2, **options),
        params, stats, weights, None,
      )[0]
      for options in ({"loop": True, "skip_zero_ops": True}, {})
    ]

  got, expected = outputs(params)
  close((), got, expected)


def test_a_network_of_draws_has_a_choice_in_its_loops():
  spec = spec_lib.supernet(NAMES, cells=3, width=4, classes=2, nodes=2)
  x, found = jnp.zeros((2, 8, 8, 3)), {}
  weights = {name: jnp.ones(cell.shape) for name, cell in spec.searched}
  for loop, skip in ((True, True), (True, False), (False, True)):
    network = cnn.Network(spec, loop=loop, skip_zero_ops=skip)
    init = functools.partial(network.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), x, weights)
    apply = functools.partial(network.apply, train=True, mutable="batch_stats")
    counts = equations.counted(apply, variables, x, weights)
    found[loop, skip] = counts["scan"], counts["cond"]
  # A loop a cell, of three operators; the edge between the nodes of a reduction
  # cell has none.
  assert found == {
    (True, True): (3, 9), (True, False): (3, 0), (False, True): (0, 0)
  }
