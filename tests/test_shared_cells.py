"""Cells whose edges share features, against the sum that they stand for."""

import functools

import jax
import jax.numpy as jnp
from made_up_cells import normal, states
import numpy as np
import plain_cells
import pytest

from jnas.ops import plain
from jnas.spaces import cnn
from jnas.spaces import spec as spec_lib
from jnas.spaces.shared import SharedCell
from jnas.spaces.spec import Cell

MAX, SKIP, SEP = "max_pool_3x3", "skip_connect", "sep_conv_3x3"
NAMES = ("none", MAX, SKIP, SEP)
EDGES = spec_lib.darts_edges(3)
CELL = Cell(NAMES, EDGES, (NAMES[1:],) * 9, (2, 3, 4))
# Of each edge what a derivation might choose.
CHOSEN = ((SEP,), (), (SKIP,), (), (MAX, SEP), (), (), (SEP,), (SKIP,))


def build(reduction, **options):
  given = dict(
    cell=CELL, channels=4, reduction=reduction, halve_first=False, train=True,
    affine=False, pool_norm=True, axis=None, loop=False,
  )
  return SharedCell(**given | options)


def variables(module):
  s0, s1 = states(False)
  shapes = jax.eval_shape(module.init, jax.random.key(0), s0, s1, None)
  rng = np.random.default_rng(5)

  def draw(path, leaf):
    value = jnp.asarray(rng.normal(size=leaf.shape))
    return jnp.abs(value) + 0.5 if "var" in path[-1].key else value

  return jax.tree_util.tree_map_with_path(draw, shapes)


def run(module, found, weights):
  s0, s1 = states(False)
  y, now = module.apply(found, s0, s1, weights, mutable="batch_stats")
  return y, now["batch_stats"]


def indicator(chosen):
  return jnp.asarray([[float(op in k) for op in NAMES] for k in chosen])


def reference(found, reduction, bottleneck, weights):
  """Equation 6, one edge and operator after the other."""
  params, s0s1 = found["params"], states(False)

  def project(name, row, x):
    y = plain.pointwise(x, params[name]["kernel"][row])
    return plain_cells.batch_norm(y)

  nodes = [
    plain_cells.batch_norm(
      plain.pointwise(
        jax.nn.relu(s), params[f"input{i}"]["kernel"]
      )
    )
    for i, s in enumerate(s0s1)
  ]
  for target in range(2, 5):
    total = 0.0
    for e, (source, to) in enumerate(EDGES):
      if to != target:
        continue
      x = nodes[source]
      if bottleneck > 1:
        x = project("narrow", source, x)
      for o, op in enumerate(NAMES[1:], 1):
        y = plain_cells.operator(
          op, x, params, source, 2 if reduction and source < 2 else 1, True
        )
        total = total + weights[e, o] * y
    if bottleneck > 1:
      total = project("widen", target - 2, total)
    nodes.append(total)
  return jnp.concatenate(nodes[2:], -1)


def close(x, y):
  assert x.dtype == y.dtype == jnp.float64
  np.testing.assert_allclose(x, y, rtol=0, atol=1e-10 * max(1, abs(y).max()))


@pytest.mark.parametrize("reduction,bottleneck", [(False, 2), (True, 1)])
def test_shared_features_are_equation_6(reduction, bottleneck, x64):
  found = variables(build(reduction, bottleneck=bottleneck))
  weights = normal(*CELL.shape, seed=4)

  def outputs(found, weights):
    each = build(reduction, bottleneck=bottleneck)
    loop = build(reduction, bottleneck=bottleneck, loop=True)
    return (
      run(each, found, weights),
      run(loop, found, weights),
      reference(found, reduction, bottleneck, weights),
    )

  each, loop, expected = jax.jit(outputs)(found, weights)
  close(each[0], expected)
  close(loop[0], expected)
  jax.tree.map(close, each[1], loop[1])


@pytest.mark.parametrize("reduction,bottleneck", [(False, 2), (True, 1)])
def test_a_transit_cell_with_choices_frozen_or_dense_is_one(
  reduction, bottleneck, x64
):
  found = variables(build(reduction, bottleneck=bottleneck))
  weights, noise = indicator(CHOSEN), normal(2, 8, 8, 12, seed=9)

  def outcome(params, **options):
    module = build(reduction, bottleneck=bottleneck, **options)
    y, now = run(module, found | {"params": params}, options.pop("w", weights))
    return (y * noise[:, : y.shape[1], : y.shape[2]]).sum(), (y, now)

  @jax.jit
  def gradients(params):
    each = {}
    for name, options in {
      "dense": {},
      "skip": {"loop": True, "skip_zero_ops": True},
      "frozen": {"active": CHOSEN},
    }.items():
      f = functools.partial(outcome, **options)
      each[name] = jax.value_and_grad(f, has_aux=True)(params)
    return each

  found_by = gradients(found["params"])
  ((_, (y, now)), slope) = found_by["dense"]
  for name in ("skip", "frozen"):
    (_, (other, moved)), other_slope = found_by[name]
    close(other, y)
    jax.tree.map(close, other_slope, slope)
    # What is not computed keeps its moments.
    for op in {MAX, SKIP, SEP} & moved.keys():
      for key, value in moved[op].items():
        old = found["batch_stats"][op][key]
        for row in range(len(old)):
          kept = np.array_equal(value[row], old[row])
          assert kept or np.allclose(value[row], now[op][key][row], atol=1e-12)
  skipped, frozen = (found_by[name][0][1][1] for name in ("skip", "frozen"))
  jax.tree.map(close, skipped, frozen)


def test_what_is_not_used_is_not_computed():
  module = build(False, loop=True, skip_zero_ops=True)
  found = jax.tree.map(lambda x: x.astype(jnp.float32), variables(module))
  weights = indicator(tuple((SKIP,) if k else () for k in CHOSEN))
  y, _ = run(module, found, weights)
  params = found["params"]
  nans = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), params[SEP])
  odd = params | {SEP: nans}
  again, _ = run(module, found | {"params": odd}, weights)
  np.testing.assert_array_equal(y, again)


def test_sharing_has_weights_for_each_node_that_is_read():
  spec = spec_lib.supernet(
    spec_lib.S1, cells=8, width=16, classes=10, engines="first", sharing=True
  )
  shapes = jax.eval_shape(
    functools.partial(cnn.Network(spec).init, train=False),
    jax.random.key(0), jnp.zeros((1, 32, 32, 3)),
  )
  cell = shapes["params"]["cell0"]
  # (n - 1) K: five nodes are read, |E| K would be fourteen (section 2.3).
  assert cell["sep_conv_3x3"]["depthwise1"].shape == (5, 3, 3, 16)
  assert [layer.cell for layer in spec.layers] == [
    "normal", "normal_transit", "reduce", *["normal_transit"] * 2,
    "reduce_transit", *["normal_transit"] * 2,
  ]
  assert [name for name, _ in spec.searched] == ["normal", "reduce"]


@pytest.mark.parametrize(
  "engines,count", [("all", 8), ("half", 4), ("first", 2), ("last", 2)]
)
def test_the_settings_of_table_1(engines, count):
  spec = spec_lib.supernet(
    spec_lib.S2, cells=8, width=4, classes=2, engines=engines
  )
  own = [i for i, layer in enumerate(spec.layers)
         if not layer.cell.endswith("_transit")]
  assert len(own) == count
  if engines == "last":
    assert own == [5, 7]
  assert spec_lib.from_json(spec_lib.to_json(spec)) == spec
