"""Expected costs under edge weights, and their derivatives."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas.spaces import cost, expected
from jnas.spaces import spec as spec_lib
from jnas.spaces.spec import S1, S2, TRANSIT, Cell

SIZE = (9, 12)
TINY = dict(cells=3, width=8, classes=7, nodes=1)
SPECS = {
  "darts": spec_lib.supernet(S1, **TINY | {"nodes": 3}),
  "partial": spec_lib.supernet(S1, partial=4, **TINY),
  "own": spec_lib.supernet(S2, shared=False, **TINY | {"nodes": 2}),
  "fixed": spec_lib.supernet(S2, fixed_reduction=True, **TINY),
  "stages": spec_lib.nas_bench_201(cells=1, width=8, classes=7),
  "sharing": spec_lib.supernet(
    S2, sharing=True, bottleneck=2, **TINY | {"nodes": 2}
  ),
  "transit": spec_lib.supernet(
    S1, sharing=True, engines="first", **TINY | {"cells": 6, "nodes": 2}
  ),
}


def drawn(spec, seed=0):
  """Weights as of a softmax."""
  rng = np.random.default_rng(seed)
  return {
    name: jnp.asarray(rng.dirichlet(np.ones(cell.shape[1]), cell.shape[0]))
    for name, cell in spec.searched
  }


def chosen(spec, columns):
  """The network with one operator an edge, by cell and edge."""

  def left(name, cell):
    own = columns.get(name.removesuffix(TRANSIT))
    if not isinstance(cell, Cell):
      return cell
    ops = [cell.ops[o] for o in own]
    kept = tuple(() if op == "none" else (op,) for op in ops)
    return dataclasses.replace(cell, kept=kept)

  cells = tuple((name, left(name, cell)) for name, cell in spec.cells)
  return dataclasses.replace(spec, cells=cells)


@pytest.mark.parametrize("name", SPECS)
def test_of_a_discrete_network_it_is_the_count(name, x64):
  spec = SPECS[name]
  columns = {
    name: np.asarray(w).argmax(-1) for name, w in drawn(spec, 1).items()
  }
  weights = {
    name: jnp.eye(spec.cell(name).shape[1])[own]
    for name, own in columns.items()
  }
  found = jax.jit(lambda w: expected.expected_macs(spec, SIZE, w))(weights)
  assert float(found) == cost.network_flops(chosen(spec, columns), SIZE)


@pytest.mark.parametrize("name", ["own", "sharing"])
def test_it_is_the_mean_over_discrete_networks(name, x64):
  spec = SPECS[name]
  weights = drawn(spec)
  rest = list(weights)[1:]
  weights |= {n: jnp.zeros_like(weights[n]).at[:, 1].set(1) for n in rest}
  first = np.asarray(weights[name := list(weights)[0]])
  columns = {n: [1] * len(weights[n]) for n in rest}
  mean = 0.0
  for own in itertools.product(range(first.shape[1]), repeat=len(first)):
    probability = first[np.arange(len(first)), own].prod()
    network = chosen(spec, columns | {name: own})
    mean += probability * cost.network_flops(network, SIZE)
  found = float(expected.expected_macs(spec, SIZE, weights))
  assert found == pytest.approx(mean, rel=1e-12)
  assert found < cost.network_flops(spec, SIZE)


@pytest.mark.parametrize("name", SPECS)
def test_its_gradient(name, x64):
  spec = SPECS[name]
  weights = drawn(spec)

  def macs(weights):
    return expected.expected_macs(spec, SIZE, weights) / 1e4

  macs = jax.jit(macs)
  slopes = jax.jit(jax.grad(macs))(weights)
  rng = np.random.default_rng(2)
  for cell, w in weights.items():
    assert slopes[cell].dtype == jnp.float64
    for _ in range(4):
      index = tuple(rng.integers(w.shape))
      # A polynomial of low degree in each weight: the step may be large.
      above, below = (
        float(macs(weights | {cell: w.at[index].add(step)}))
        for step in (1e-3, -1e-3)
      )
      difference = (above - below) / 2e-3
      np.testing.assert_allclose(slopes[cell][index], difference, rtol=1e-7)
  if not spec.sharing:  # it is linear, with the costs that GOLD-NAS has
    for cell, flops in cost.edge_flops(spec, SIZE).items():
      np.testing.assert_allclose(slopes[cell], flops / 1e4, rtol=1e-12)


def test_what_is_not_kept_costs_nothing():
  spec = SPECS["own"]
  name, cell = spec.searched[0]
  kept = (S2[:1], *cell.kept[1:])
  cells = ((name, dataclasses.replace(cell, kept=kept)), *spec.cells[1:])
  spec = dataclasses.replace(spec, cells=cells)
  macs = jax.jit(lambda w: expected.expected_macs(spec, SIZE, w))
  slopes = jax.grad(macs)(drawn(spec))
  assert slopes[name][0].tolist() == [0, 0]
  assert slopes[name][1, 1] > 0


# GOLD-NAS's penalties.

# Weights of four edges; of the masked ones nothing may be seen. The third edge
# keeps one operator, the last none.
WEIGHTS = np.array(
  [[0.9, 0.2, 0.5], [0.05, 0.6, 0.3], [0.7, 0.4, 0.1], [0.3, 0.2, 0.8]]
)
KEPT = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]])
FLOPS = np.array(
  [[0.0, 7.0, 3.0], [2.0, 9.0, 5.0], [4.0, 6.0, 1.0], [8.0, 2.0, 2.0]]
)

def plain(weights, flops, kept):
  """Equation 5, edge by edge."""
  total = 0.0
  for w, f, k in zip(weights, flops, kept, strict=True):
    w, f = w[k > 0], f[k > 0]
    if len(w):
      total += (np.log(1 + w / w.mean()) * f).sum()
  return total


@pytest.mark.parametrize("kept", [None, KEPT], ids=["all", "some"])
def test_expected_flops_are_equation_5(kept, x64):
  every = np.ones_like(KEPT) if kept is None else kept
  got = expected.expected_flops(jnp.asarray(WEIGHTS), FLOPS, kept)
  assert got.shape == () and got.dtype == jnp.float64
  np.testing.assert_allclose(got, plain(WEIGHTS, FLOPS, every), rtol=1e-14)
  got = expected.uniform_flops(jnp.asarray(WEIGHTS), kept, 4.0)
  same = plain(WEIGHTS, np.full((4, 3), 4.0), every)
  np.testing.assert_allclose(got, same, rtol=1e-14)
  one = expected.uniform_flops(jnp.asarray(WEIGHTS), kept)
  np.testing.assert_allclose(4 * one, same, rtol=1e-14)


@pytest.mark.parametrize("kept", [None, KEPT], ids=["all", "some"])
def test_gradient_of_expected_flops(kept, x64):
  every = np.ones_like(KEPT) if kept is None else kept
  weights = jnp.asarray(WEIGHTS)
  got = jax.jit(jax.grad(expected.expected_flops))(weights, FLOPS, kept)
  differences = np.zeros_like(WEIGHTS)
  for index in np.ndindex(WEIGHTS.shape):
    step = np.zeros_like(WEIGHTS)
    step[index] = 1e-6
    above, below = (
      plain(WEIGHTS + sign * step, FLOPS, every) for sign in (1, -1)
    )
    differences[index] = (above - below) / 2e-6
  np.testing.assert_allclose(got, differences, atol=2e-8)
  assert abs(differences).max() > 1
  # The formula of the docstring.
  formula = np.zeros_like(WEIGHTS)
  for e, k in enumerate(every > 0):
    if k.any():
      mean = WEIGHTS[e, k].mean()
      r, f = WEIGHTS[e, k] / mean, FLOPS[e, k]
      formula[e, k] = (f / (1 + r) - (f * r / (1 + r)).mean()) / mean
  np.testing.assert_allclose(got, formula, atol=1e-13)


def test_gradient_where_the_mean_is_a_constant(x64):
  loss = functools.partial(expected.expected_flops, through_mean=False)
  value, got = jax.value_and_grad(loss)(jnp.asarray(WEIGHTS), FLOPS, KEPT)
  np.testing.assert_allclose(value, plain(WEIGHTS, FLOPS, KEPT), rtol=1e-14)
  count = np.maximum(KEPT.sum(-1, keepdims=True), 1)
  mean = (WEIGHTS * KEPT).sum(-1, keepdims=True) / count
  np.testing.assert_allclose(got, KEPT * FLOPS / (mean + WEIGHTS), rtol=1e-13)
  assert (np.asarray(got)[(KEPT * FLOPS) > 0] > 0).all()


@pytest.mark.parametrize("beyond", [0.0, 1e30, np.inf, np.nan])
def test_what_is_not_kept_has_no_part(beyond, x64):
  weights = jnp.asarray(np.where(KEPT > 0, WEIGHTS, beyond))
  flops = np.where(KEPT > 0, FLOPS, beyond)
  both = jax.value_and_grad(expected.expected_flops)
  got, gradient = both(weights, flops, KEPT)
  np.testing.assert_allclose(got, plain(WEIGHTS, FLOPS, KEPT), rtol=1e-14)
  assert np.isfinite(gradient).all()
  np.testing.assert_array_equal(np.asarray(gradient)[KEPT == 0], 0)
  assert abs(gradient).max() > 1


@pytest.mark.parametrize("through_mean", [True, False])
def test_weights_of_zero_have_finite_gradients(through_mean):
  loss = functools.partial(expected.expected_flops, through_mean=through_mean)
  value, gradient = jax.value_and_grad(loss)(jnp.zeros((4, 3)), FLOPS, KEPT)
  assert value == 0 and value.dtype == jnp.float32
  assert np.isfinite(gradient).all()
  tiny = jnp.array([[1e-30, 2e-30]])
  value = loss(tiny, np.ones((1, 2)))
  np.testing.assert_allclose(value, np.log(5 / 3) + np.log(7 / 3), rtol=1e-6)


@pytest.mark.parametrize("others", [(0.5,), (0.1, 0.9), (0.01, 0.4, 0.7)])
def test_the_term_of_one_operator_grows_ever_slower(others, x64):
  """Claims (i) and (iii) of the paper, of an operator's own term."""
  flops = np.zeros((1, len(others) + 1))
  flops[0, 0] = 5.0

  def own(w):
    weights = jnp.concatenate([w[None], jnp.asarray(others)])
    return expected.expected_flops(weights[None], flops)

  w = jnp.linspace(0.01, 1.0, 40)
  slope = jax.vmap(jax.grad(own))(w)
  assert (slope > 0).all()
  assert (jnp.diff(slope) < 0).all()
  # The mean leaves 1 - r / n of the gradient of the logarithm alone.
  n = len(others) + 1
  mean = (w + sum(others)) / n
  np.testing.assert_allclose(
    slope, 5 / (mean + w) * (1 - w / mean / n), rtol=1e-12
  )


def test_the_sum_over_an_edge_does_not_grow_with_every_weight(x64):
  weights = jnp.asarray(WEIGHTS)
  gradient = jax.grad(expected.expected_flops)(weights, FLOPS)
  # Scaling an edge's weights changes nothing.
  scaled = weights * jnp.array([[0.1], [1.0], [3.0], [0.7]])
  np.testing.assert_allclose(
    expected.expected_flops(scaled, FLOPS),
    expected.expected_flops(weights, FLOPS),
    rtol=1e-14,
  )
  np.testing.assert_allclose((gradient * weights).sum(-1), 0, atol=1e-13)
  assert (gradient.min(-1) < -0.1).all() and (gradient.max(-1) > 0.1).all()
  # A convolution beside an identity: it falls, the identity rises.
  slope = jax.grad(expected.expected_flops)
  free = slope(weights[:, :2], np.array([[0, 5.0]] * 4))
  assert (free[:, 0] < 0).all() and (free[:, 1] > 0).all()
  # Two that cost the same: the weaker falls, the stronger rises; at equal
  # weights neither does.
  same = jax.grad(expected.uniform_flops)(jnp.array([[0.3, 0.7], [0.4, 0.4]]))
  assert same[0, 0] > 0.1 and same[0, 1] < -0.1
  np.testing.assert_allclose(same[1], 0, atol=1e-15)


def test_the_last_operator_of_an_edge_has_no_gradient(x64):
  def loss(w, **options):
    flops, kept = np.array([[0.0, 9.0]]), np.array([[0, 1]])
    return expected.expected_flops(w, flops, kept, **options)

  for w in (0.01, 0.4, 1.0):
    weights = jnp.array([[0.5, w]])
    np.testing.assert_allclose(loss(weights), 9 * np.log(2), rtol=1e-14)
    np.testing.assert_allclose(jax.grad(loss)(weights), 0, atol=1e-12)
    fixed = jax.grad(loss)(weights, through_mean=False)
    np.testing.assert_allclose(fixed, [[0, 9 / (2 * w)]], rtol=1e-14)


def test_unequal_shapes_are_told():
  with pytest.raises(ValueError, match=r"flops .*\(4, 3\).*\(3, 4\)"):
    expected.expected_flops(jnp.asarray(WEIGHTS), FLOPS.T)
  with pytest.raises(ValueError, match=r"kept .*\(4, 3\).*\(4,\)"):
    expected.expected_flops(jnp.asarray(WEIGHTS), FLOPS, KEPT[:, 0])
