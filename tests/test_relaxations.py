"""Draws, edge weights and schedules against their formulas, in numpy."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas import relax
from jnas.algorithms import edges as edges_lib
from jnas.algorithms import pcdarts, pdarts
from jnas.algorithms import random as random_search
from jnas.algorithms.gdas import gdas, linear_temperature
from jnas.spaces import spec as spec_lib
from jnas.spaces.spec import S1, S3

RNG = np.random.default_rng(0)
LOGITS = 1.5 * RNG.normal(size=(5, 4))
MASK = np.array(
  [[1, 1, 1, 1], [1, 0, 1, 1], [0, 1, 0, 1], [0, 0, 0, 1], [1, 1, 0, 0]]
)
MASKS = pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
CELLS = ("normal", "reduce")
SPEC = spec_lib.supernet(S3, cells=3, width=4, classes=2, nodes=2)


def probabilities(scores, mask=None):
  powers = np.exp(np.asarray(scores))
  powers = powers if mask is None else powers * mask
  return powers / powers.sum(-1, keepdims=True)


def noise(key, shape):
  return np.asarray(jax.random.gumbel(key, shape, jnp.float64))


def soft(logits, mask, g, tau):
  """Equation 7 of GDAS: what stands for the draw in the gradient."""
  likely = np.log(probabilities(logits, mask).clip(1e-300))
  return probabilities((likely + g) / tau, mask)


def pulled_back(logits, mask, g, tau, cotangent):
  """The gradient of sum(cotangent * soft) by the logits, row by row.

  (diag(p) - p p') / tau for the softmax of temperature tau, and before it
  I - 1 s' for the log-softmax.
  """
  rows, s = [], probabilities(logits, mask)
  for e, p in enumerate(soft(logits, mask, g, tau)):
    outer = (np.diag(p) - np.outer(p, p)) / tau
    inner = np.eye(len(p)) - np.outer(np.ones(len(p)), s[e])
    rows.append(inner.T @ outer @ cotangent[e])
  return np.array(rows)


@MASKS
@pytest.mark.parametrize("tau", [0.1, 10.0])
def test_a_draw_is_one_hot_at_the_largest_of_logits_and_noise(mask, tau, x64):
  @jax.jit
  def drawn(key):
    g = jax.random.gumbel(key, LOGITS.shape, jnp.float64)
    return relax.gumbel_hard(jnp.asarray(LOGITS), mask, key, tau), g

  seen = set()
  for seed in range(20):
    got, g = drawn(jax.random.key(seed))
    assert got.dtype == np.float64
    scores = np.log(probabilities(LOGITS)) + np.asarray(g)
    if mask is not None:
      scores[mask == 0] = -np.inf
    # Exactly: no rounding error may remain of what carries the gradient.
    np.testing.assert_array_equal(got, np.eye(4)[scores.argmax(-1)])
    seen.add(tuple(scores.argmax(-1)))
  assert len(seen) > 5


@MASKS
@pytest.mark.parametrize("tau", [0.3, 1.0, 5.0])
def test_its_gradient_is_that_of_the_soft_probabilities(mask, tau, x64):
  key = jax.random.key(3)
  g, probe = noise(key, LOGITS.shape), RNG.normal(size=LOGITS.shape)

  @jax.jit
  @jax.grad
  def gradient(logits):
    return jnp.sum(relax.gumbel_hard(logits, mask, key, tau) * probe)

  got = np.asarray(gradient(jnp.asarray(LOGITS)))
  expected = pulled_back(LOGITS, mask, g, tau, probe)
  assert abs(expected).max() > 1e-2
  np.testing.assert_allclose(got, expected, rtol=0, atol=1e-13)
  if mask is not None:
    np.testing.assert_array_equal(got[mask == 0], 0)

  def value(logits):
    return np.sum(soft(logits, mask, g, tau) * probe)

  step = 1e-5
  for at in ((0, 1), (1, 2), (2, 3), (4, 0)):
    away = np.zeros_like(LOGITS)
    away[at] = step
    quotient = (value(LOGITS + away) - value(LOGITS - away)) / (2 * step)
    assert got[at] == pytest.approx(quotient, abs=1e-8)


def test_a_masked_logit_has_no_part_in_a_draw_whatever_it_is(x64):
  key, probe = jax.random.key(3), RNG.normal(size=LOGITS.shape)

  @jax.jit
  @functools.partial(jax.grad, has_aux=True)
  def both(logits):
    h = relax.gumbel_hard(logits, MASK, key, 2.0)
    return jnp.sum(h * probe), h

  calm = both(jnp.asarray(LOGITS))
  for beyond in (1e4, 1e300, -1e300):
    odd = jnp.asarray(np.where(MASK > 0, LOGITS, beyond))
    got = both(odd)
    np.testing.assert_allclose(got[0], calm[0], rtol=0, atol=1e-13)
    np.testing.assert_array_equal(got[1], calm[1])


@MASKS
def test_draws_are_as_frequent_as_the_softmax_says_at_any_temperature(
  mask, x64
):
  count = 4000
  keys = jax.random.split(jax.random.key(1), count)

  @jax.jit
  def draws(tau):
    return jax.vmap(
      lambda key: relax.gumbel_hard(jnp.asarray(LOGITS), mask, key, tau)
    )(keys)

  cold, warm = draws(0.05), draws(20.0)
  np.testing.assert_array_equal(cold, warm)
  assert set(np.unique(warm)) == {0, 1}
  p = probabilities(LOGITS, mask)
  sigma = np.sqrt(p * (1 - p) / count)
  assert (abs(np.asarray(cold).mean(0) - p) <= 4 * sigma + 1e-12).all()


@MASKS
def test_without_a_key_the_likeliest_operators_are_drawn(mask, x64):
  got = relax.gumbel_hard(jnp.asarray(LOGITS), mask)
  among = LOGITS if mask is None else np.where(mask > 0, LOGITS, -np.inf)
  np.testing.assert_array_equal(got, np.eye(4)[among.argmax(-1)])


def test_only_the_drawn_operator_of_gdas_gets_a_gradient(x64):
  step = 7
  algorithm = gdas(SPEC, temperature=lambda step: 1.0 + step / 4)
  arch = {name: jnp.asarray(RNG.normal(size=(5, 3))) for name in CELLS}
  features = {
    name: jnp.asarray(RNG.normal(size=(5, 3, 3))) for name in CELLS
  }
  key = jax.random.key(6)

  @jax.jit
  @functools.partial(jax.grad, argnums=(0, 1), has_aux=True)
  def gradients(arch, features):
    weights = algorithm.relax(arch, key, step)
    mixed = {
      name: jnp.einsum("eo,eof->ef", weights[name], f)
      for name, f in features.items()
    }
    return sum(jnp.sum(jnp.sin(y)) for y in mixed.values()), weights

  (of_arch, of_features), weights = gradients(arch, features)
  draws = []
  for i, name in enumerate(CELLS):
    logits, f = np.asarray(arch[name]), np.asarray(features[name])
    g = noise(jax.random.fold_in(key, i), logits.shape)
    hot = (np.log(probabilities(logits)) + g).argmax(-1)
    draws.append(tuple(hot))
    np.testing.assert_array_equal(weights[name], np.eye(3)[hot])
    # Features of the operators that were not drawn are as good as not there.
    rows = np.arange(len(hot))
    through = np.zeros_like(f)
    through[rows, hot] = np.cos(f[rows, hot])
    np.testing.assert_allclose(of_features[name], through, rtol=0, atol=1e-13)
    cotangent = (through * f).sum(-1)
    expected = pulled_back(logits, None, g, 1 + step / 4, cotangent)
    assert abs(expected).max() > 1e-2
    np.testing.assert_allclose(of_arch[name], expected, rtol=0, atol=1e-13)
  assert draws[0] != draws[1]
  again = algorithm.relax(arch, key, 0)
  jax.tree.map(np.testing.assert_array_equal, again, weights)


def test_undrawn_operators_of_gdas_may_count_as_scalars(x64):
  # The code for NAS-Bench-201: sum(w * op(x) if drawn else w).
  algorithm = gdas(SPEC, undrawn=True)
  arch = {name: jnp.asarray(RNG.normal(size=(5, 3))) for name in CELLS}
  features = jnp.asarray(RNG.normal(size=(5, 3, 4)))
  key, name = jax.random.key(6), CELLS[0]

  @jax.jit
  @functools.partial(jax.grad, has_aux=True)
  def gradient(arch):
    weights = algorithm.relax(arch, key, 7)[name]
    y = jnp.einsum("eo,eof->ef", weights[:, :-1], features) + weights[:, -1:]
    return jnp.sum(jnp.sin(y)), weights

  of_arch, weights = gradient(arch)
  logits = np.asarray(arch[name])
  g = noise(jax.random.fold_in(key, 0), logits.shape)
  hot = np.eye(3)[(np.log(probabilities(logits)) + g).argmax(-1)]
  np.testing.assert_array_equal(weights, np.c_[hot, np.zeros(5)])
  y = np.einsum("eo,eof->ef", hot, features)
  cotangent = np.einsum("ef,eof->eo", np.cos(y), features) * hot
  cotangent += np.cos(y).sum(-1)[:, None] * (1 - hot)
  expected = pulled_back(logits, None, g, 10.0, cotangent)
  np.testing.assert_allclose(of_arch[name], expected, rtol=0, atol=1e-13)


def test_gdas_derives_from_the_softmax_and_draws_what_is_kept():
  cell = SPEC.cell("normal")
  kept = (("skip_connect",),) + cell.kept[1:]
  pruned = dataclasses.replace(cell, kept=kept, without_none=(0,))
  cells = (("normal", pruned), ("reduce", cell))
  spec = dataclasses.replace(SPEC, cells=cells)
  algorithm = gdas(spec)
  arch = algorithm.init(jax.random.key(0), 1.0)
  draw = jax.jit(lambda key: algorithm.relax(arch, key, 0))
  for seed in range(10):
    weights = draw(jax.random.key(seed))
    assert weights["normal"][0].tolist() == [0, 1, 0]
  mixture = algorithm.mixture(arch)
  expected = probabilities(arch["reduce"])
  np.testing.assert_allclose(mixture["reduce"], expected, atol=1e-6)
  assert mixture["normal"][0].tolist() == [0, 1, 0]
  assert algorithm.samples_paths


def test_the_temperature_falls_by_epochs_and_rests_at_its_end():
  tau = linear_temperature(10.0, 1.0, epochs=250, steps_per_epoch=3)
  assert [float(tau(step)) for step in (0, 1, 2)] == [10, 10, 10]
  for e in (1, 100, 248):
    expected = 10 - 9 * e / 249
    for step in (3 * e, 3 * e + 2):
      assert float(tau(step)) == pytest.approx(expected, rel=1e-6)
  for step in (3 * 249, 3 * 249 + 2, 3 * 250, 3000):
    assert float(tau(step)) == pytest.approx(1.0, rel=1e-6)
  assert float(jax.jit(tau)(jnp.int32(3))) == pytest.approx(10 - 9 / 249)


# Weights of edges.


def edge_weights(beta, targets):
  found = []
  for e, target in enumerate(targets):
    into = [i for i, t in enumerate(targets) if t == target]
    found.append(np.exp(beta[e]) / np.exp(beta[np.array(into)]).sum())
  return np.array(found)


@pytest.mark.parametrize(
  "targets", [(2, 2, 3, 3, 3, 4, 4, 4, 4), (4, 2, 3, 2, 3, 4, 3)], ids=str
)
def test_edge_norm_is_a_softmax_over_the_edges_into_one_node(targets, x64):
  beta = 2 * np.random.default_rng(5).normal(size=len(targets))
  got = relax.edge_norm(jnp.asarray(beta), targets)
  expected = edge_weights(beta, targets)
  np.testing.assert_allclose(got, expected, rtol=1e-13)
  # A beta moves the edges into its own node and no other.
  jacobian = jax.jit(jax.jacobian(lambda b: relax.edge_norm(b, targets)))
  slope = np.asarray(jacobian(jnp.asarray(beta)))
  for e, f in itertools.product(range(len(targets)), repeat=2):
    same = targets[e] == targets[f]
    wanted = expected[e] * ((e == f) - expected[f]) if same else 0.0
    assert slope[e, f] == pytest.approx(wanted, abs=1e-13)


def test_edges_of_equal_betas_share_their_node_evenly():
  targets = [target for _, target in spec_lib.darts_edges(4)]
  for level in (0.0, 300.0, -300.0):
    got = relax.edge_norm(jnp.full(14, level), targets)
    expected = [1 / 2] * 2 + [1 / 3] * 3 + [1 / 4] * 4 + [1 / 5] * 5
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_pcdarts_mixes_by_both_softmaxes(x64):
  algorithm = pcdarts.pcdarts(SPEC)
  arch = algorithm.init(jax.random.key(0), 1.0)
  assert {name: a.shape for name, a in arch.items()} == {
    **{"normal": (5, 3), "reduce": (5, 3)},
    **{"normal_edges": (5,), "reduce_edges": (5,)},
  }
  mixture = algorithm.mixture(arch)
  assert set(mixture) == {"normal", "reduce"}
  for name, got in mixture.items():
    beta = edge_weights(np.asarray(arch[f"{name}_edges"]), (2, 2, 3, 3, 3))
    expected = beta[:, None] * probabilities(arch[name])
    np.testing.assert_allclose(got, expected, rtol=1e-13)
  relaxed = algorithm.relax(arch, jax.random.key(0), 3)
  jax.tree.map(np.testing.assert_array_equal, relaxed, mixture)


def test_a_node_of_pairs_is_the_sum_of_equation_16(x64):
  cell = spec_lib.supernet(S3, cells=3, width=4, classes=2).cell("normal")
  rng, targets = np.random.default_rng(7), [t for _, t in cell.edges]
  pairs, groups = edges_lib.pairs(cell), []
  for into in (range(2), range(2, 5), range(5, 9), range(9, 14)):
    groups.append([(a, b) for a in into for b in into if a < b])
  assert list(pairs) == sum(groups, [])
  beta, y = 2 * rng.normal(size=20), rng.normal(size=(14, 7))
  got = np.asarray(relax.edge_pairs(jnp.asarray(beta), pairs, targets))
  at = 0
  for node, group in enumerate(groups, 2):
    own = beta[at : at + len(group)]
    share = np.exp(own) / np.exp(own).sum()
    expected = sum(
      s * (y[a] + y[b]) for s, (a, b) in zip(share, group, strict=True)
    )
    mixed = sum(got[e] * y[e] for e, t in enumerate(targets) if t == node)
    np.testing.assert_allclose(mixed, expected, rtol=1e-12)
    at += len(group)
  even = relax.edge_pairs(jnp.zeros(20), pairs, targets)
  by_node = [1.0] * 2 + [2 / 3] * 3 + [2 / 4] * 4 + [2 / 5] * 5
  np.testing.assert_allclose(even, by_node, rtol=1e-12)


def test_the_first_stage_of_amended_darts_weighs_operators_by_pairs(x64):
  algorithm = edges_lib.edge_search(SPEC)
  arch = algorithm.init(jax.random.key(0), 1.0)
  assert {name: a.shape for name, a in arch.items()} == {
    **{"normal": (5, 3), "reduce": (5, 3)},
    **{"normal_edges": (4,), "reduce_edges": (4,)},
  }
  for name, got in algorithm.mixture(arch).items():
    share = probabilities(arch[f"{name}_edges"][1:])
    one, two, three = share  # (2, 3), (2, 4), (3, 4)
    edges = np.array([1, 1, one + two, one + three, two + three])
    expected = edges[:, None] * probabilities(arch[name])
    np.testing.assert_allclose(got, expected, rtol=1e-12)


# Random search.


def test_random_cells_have_two_edges_a_node_and_are_uniform():
  cell = SPEC.cell("normal")
  count, targets = 4800, np.array([t for _, t in cell.edges])
  keys = jax.random.split(jax.random.key(2), count)
  drawn = jax.jit(jax.vmap(lambda key: random_search.draw(cell, key)))(keys)
  drawn = np.asarray(drawn)
  assert set(np.unique(drawn)) == {0.0, 1.0}
  on = drawn.sum(-1)
  assert on.max() == 1 and drawn[..., S3.index("none")].max() == 0
  for node in (2, 3):
    assert (on[:, targets == node].sum(-1) == 2).all()
  # Three pairs of edges into the second node, two operators on each of the
  # four edges.
  flat = drawn.reshape(count, -1)
  cells, counts = np.unique(flat, axis=0, return_counts=True)
  assert len(cells) == 3 * 2**4
  p = 1 / len(cells)
  assert abs(counts - count * p).max() <= 4 * np.sqrt(count * p * (1 - p))


def test_random_cells_have_none_of_what_an_edge_has_lost():
  full = spec_lib.supernet(S1, cells=3, width=4, classes=2, nodes=2)
  kept = (S1[2:4], S1[4:5], S1[1:3], S1[5:8], S1[3:4])
  cell = dataclasses.replace(full.cell("normal"), kept=kept)
  keys = jax.random.split(jax.random.key(3), 400)
  drawn = jax.vmap(lambda key: random_search.draw(cell, key))(keys)
  used = np.asarray(drawn).sum(0) > 0
  assert [
    tuple(op for o, op in enumerate(S1) if row[o]) for row in used
  ] == list(kept)


def test_random_cells_of_nas_bench_201_have_six_edges_and_may_have_none():
  spec = spec_lib.nas_bench_201(cells=1, width=4, classes=2)
  count = 4000
  keys = jax.random.split(jax.random.key(4), count)
  draw = jax.vmap(lambda key: random_search.draw(spec.cell("cell"), key))
  drawn = np.asarray(jax.jit(draw)(keys))
  np.testing.assert_array_equal(drawn.sum(-1), np.ones((count, 6)))
  op = drawn.argmax(-1)
  for first, second in itertools.combinations(range(6), 2):
    # Each edge is uniform, and any two of them are independent.
    counts = np.bincount(5 * op[:, first] + op[:, second], minlength=25)
    sigma = np.sqrt(count * (1 / 25) * (24 / 25))
    assert abs(counts - count / 25).max() <= 4 * sigma


def test_random_search_draws_anew_with_a_key_and_rests_without():
  algorithm = random_search.random(SPEC)
  arch = algorithm.init(jax.random.key(0), 1.0)
  jax.tree.map(
    np.testing.assert_array_equal, algorithm.relax(arch, None, 3), arch
  )
  other = algorithm.relax(arch, jax.random.key(1), 3)
  assert any((other[name] != arch[name]).any() for name in arch)
  assert (other["normal"] != other["reduce"]).any()
  # What is derived is the cell that was drawn.
  weights = jax.device_get(arch)
  pairs = algorithm.derive(weights).normal
  for i, (op, source) in enumerate(pairs):
    e = SPEC.cell("normal").edges.index((source, 2 + i // 2))
    assert weights["normal"][e, S3.index(op)] == 1


# P-DARTS.


def test_the_skip_rate_of_pdarts_is_that_of_its_published_code():
  shared = dict(epochs=25, warmup=10, steps_per_epoch=4)
  rate = pdarts.skip_rate(1.0, **shared)
  known = {0: 0.96, 9: 0.60, 10: 1.0, 15: 0.3679, 24: 0.0608}
  for e, expected in known.items():
    for step in (4 * e, 4 * e + 3):
      assert float(rate(step)) == pytest.approx(expected, abs=5e-5)
  for e in range(25):
    exact = (24 - e) / 25 if e < 10 else np.exp(-0.2 * (e - 10))
    scaled = pdarts.skip_rate(0.4, **shared)(4 * e + 1)
    assert float(scaled) == pytest.approx(0.4 * exact, rel=1e-6)
