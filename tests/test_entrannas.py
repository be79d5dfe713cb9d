"""EnTranNAS and EnTranNAS-DST against Yang et al. 2021, in plain loops."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas import relax
from jnas.algorithms import base
from jnas.algorithms.entrannas import annealed, dst, entrannas
from jnas.spaces import spec as spec_lib
from jnas.spaces.spec import S1, S3

MAX, SKIP, SEP = "max_pool_3x3", "skip_connect", "sep_conv_3x3"
SPEC = spec_lib.supernet(
  (MAX, SKIP, SEP), cells=8, width=4, classes=2, nodes=3, engines="first"
)
CELL = SPEC.cell("normal")
TARGETS = tuple(target for _, target in CELL.edges)
MIXED_UP = (4, 2, 3, 2, 3, 4, 3)  # of edges in no order
RNG = np.random.default_rng(0)


def by_tau(make, spec=SPEC, **options):
  """The algorithm whose step is the temperature itself."""
  return make(spec, temperature=lambda step: step, **options)


def equation_5(alpha, tau):
  p = np.zeros_like(alpha)
  for e, row in enumerate(alpha):
    for k, value in enumerate(row):
      p[e, k] = np.exp(value / tau) / sum(np.exp(v / tau) for v in row)
  return p


def equations_7_to_9(p, beta, targets):
  """q^ as the paper has it; and how far the nearest kink is."""
  q, found, kinks = np.zeros_like(p), np.zeros_like(p), []
  for j, b in zip(sorted(set(targets)), beta, strict=True):
    into = [e for e, target in enumerate(targets) if target == j]
    each = sorted(p[e, k] for e in into for k in range(p.shape[1]))
    kinks.append(each[-1] - each[-2])
    t = 1 / (1 + np.exp(-b))
    for e in into:
      for k in range(p.shape[1]):
        over = p[e, k] / each[-1] - t
        q[e, k] = over if over > 0 else 0
        kinks.append(abs(over))
  for e in range(len(p)):
    for k in range(p.shape[1]):
      if any(q[e]):
        found[e, k] = q[e, k] / sum(q[e])
  return found, min(kinks)


def draw(seed, targets=TARGETS):
  rng = np.random.default_rng(seed)
  alpha = 0.7 * rng.normal(size=(len(targets), 3))
  return alpha, rng.normal(size=len(set(targets))) - 1


def quotients(function, x, step=1e-6):
  """Central differences by each entry of x."""
  found = np.zeros_like(x)
  for at in np.ndindex(x.shape):
    away = np.zeros_like(x)
    away[at] = step
    found[at] = (function(x + away) - function(x - away)) / (2 * step)
  return found


# Weights.


@pytest.mark.parametrize("tau", [5.0, 0.5, 0.1])
def test_engines_have_the_softmax_of_equation_5(tau, x64):
  arch = {name: jnp.asarray(draw(i)[0]) for i, name in enumerate(
    ("normal", "reduce")
  )}
  algorithm = by_tau(entrannas)
  mixture = algorithm.mixture(arch, tau)
  assert set(mixture) == {"normal", "reduce"}
  for name, got in mixture.items():
    expected = equation_5(np.asarray(arch[name]), tau)
    np.testing.assert_allclose(got, expected, rtol=1e-12)
  relaxed = algorithm.relax(arch, jax.random.key(0), tau)
  jax.tree.map(np.testing.assert_array_equal, relaxed, mixture)


@pytest.mark.parametrize("targets", [TARGETS, MIXED_UP], ids=str)
def test_sparse_weights_are_equations_7_to_9(targets, x64):
  zeros, rows = [], []
  for seed in range(8):
    alpha, beta = draw(seed, targets)
    p, beta = equation_5(alpha, 0.7), beta + seed % 4
    got = relax.dst_sparsify(jnp.asarray(p), jnp.asarray(beta), targets)
    expected, _ = equations_7_to_9(p, beta, targets)
    np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-14)
    np.testing.assert_array_equal(np.asarray(got) == 0, expected == 0)
    zeros.append((expected == 0).mean())
    rows.append(sum(not row.any() for row in expected))
  # There are weights of zero, and whole edges of them.
  assert 0.2 < np.mean(zeros) < 0.8 and sum(rows) > 3


@pytest.mark.parametrize("targets", [TARGETS, MIXED_UP], ids=str)
def test_gradients_through_them_are_differences(targets, x64):
  probe = RNG.normal(size=(len(targets), 3))

  @jax.jit
  @functools.partial(jax.grad, argnums=(0, 1))
  def gradients(alpha, beta):
    p = relax.softmax(alpha, temperature=0.7)
    return jnp.sum(probe * jnp.sin(relax.dst_sparsify(p, beta, targets)))

  def value(alpha, beta):
    found, _ = equations_7_to_9(equation_5(alpha, 0.7), beta, targets)
    return np.sum(probe * np.sin(found))

  tried = 0
  for seed in range(20):
    alpha, beta = draw(seed, targets)
    if equations_7_to_9(equation_5(alpha, 0.7), beta, targets)[1] < 1e-3:
      continue
    tried += 1
    by_alpha, by_beta = gradients(jnp.asarray(alpha), jnp.asarray(beta))
    expected = quotients(lambda a, beta=beta: value(a, beta), alpha)
    assert abs(expected).max() > 1e-2
    np.testing.assert_allclose(by_alpha, expected, rtol=1e-6, atol=1e-7)
    expected = quotients(lambda b, alpha=alpha: value(alpha, b), beta)
    assert abs(expected).max() > 1e-2
    np.testing.assert_allclose(by_beta, expected, rtol=1e-6, atol=1e-7)
  assert tried > 3


def test_dst_weighs_each_cell_by_its_own_thresholds(x64):
  algorithm = by_tau(dst)
  arch = algorithm.init(jax.random.key(0), 1.0)
  assert {name: a.shape for name, a in arch.items()} == {
    **{"normal": (9, 3), "reduce": (9, 3)},
    **{"normal_thresholds": (3,), "reduce_thresholds": (3,)},
  }
  for name in ("normal", "reduce"):
    # Every threshold is one half at first.
    np.testing.assert_array_equal(arch[f"{name}_thresholds"], np.zeros(3))
    arch[f"{name}_thresholds"] = jnp.asarray(RNG.normal(size=3))
  for name, got in algorithm.relax(arch, None, 0.7).items():
    expected, _ = equations_7_to_9(
      equation_5(np.asarray(arch[name]), 0.7),
      np.asarray(arch[f"{name}_thresholds"]),
      TARGETS,
    )
    np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-14)


def test_the_regulariser_is_equation_11_summed_over_cells(x64):
  algorithm = dst(SPEC, strength=0.3)
  arch = algorithm.init(jax.random.key(0), 1.0)
  betas = {name: 2 * RNG.normal(size=3) for name in ("normal", "reduce")}
  arch |= {f"{n}_thresholds": jnp.asarray(b) for n, b in betas.items()}
  value, slope = jax.value_and_grad(algorithm.penalty)(arch, {})
  expected = 0.0
  for beta in betas.values():
    for b in beta:
      expected += 0.3 / 3 * -np.log(1 / (1 + np.exp(-b)))
  assert float(value) == pytest.approx(expected, rel=1e-12)
  for name, beta in betas.items():
    # d(-log t) / d beta = t - 1: it raises all thresholds.
    by_beta = -0.3 / 3 * (1 - 1 / (1 + np.exp(-beta)))
    np.testing.assert_allclose(slope[f"{name}_thresholds"], by_beta, rtol=1e-12)
    np.testing.assert_array_equal(slope[name], np.zeros((9, 3)))
  arch["normal_thresholds"] = jnp.asarray([-800.0, 0.0, 800.0])
  value, slope = jax.value_and_grad(algorithm.penalty)(arch, {})
  assert np.isfinite(value) and value > 79
  np.testing.assert_allclose(
    slope["normal_thresholds"], [-0.1, -0.05, 0], rtol=1e-12, atol=1e-300
  )


# What survives.


@functools.cache
def outcome():
  """(arch, tau, probe) -> weights, gradient, derivation: float32, compiled."""
  algorithm = by_tau(dst)

  @jax.jit
  def each(arch, tau, probe):
    def loss(arch):
      weights = algorithm.mixture(arch, tau)
      return sum(jnp.sum(probe * jnp.sin(w)) for w in weights.values()), weights

    (_, weights), slope = jax.value_and_grad(loss, has_aux=True)(arch)
    return weights, slope, algorithm.derivation(arch, tau)

  return algorithm, each


@pytest.mark.parametrize("tau", [5.0, 0.1, 0.01])
@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 50.0])
def test_no_node_dies_whatever_the_logits_and_thresholds(tau, scale):
  algorithm, each = outcome()
  rng = np.random.default_rng(int(100 * tau + scale))
  for level in (None, 40.0, -40.0, 17.0, 500.0, -500.0):
    alpha, beta = scale * rng.normal(size=(2, 9, 3)), 6 * rng.normal(size=3)
    if level is not None:
      beta = np.array([level, -level, level])
    arch = {
      "normal": alpha[0], "reduce": alpha[1],
      "normal_thresholds": beta, "reduce_thresholds": np.full(3, beta[0]),
    }
    arch = {name: jnp.asarray(a, jnp.float32) for name, a in arch.items()}
    probe = jnp.asarray(rng.normal(size=(9, 3)), jnp.float32)
    weights, slope, chosen = jax.device_get(each(arch, tau, probe))
    assert all(np.isfinite(a).all() for a in jax.tree.leaves((weights, slope)))
    for name, w in weights.items():
      assert w.dtype == np.float32 and (w >= 0).all()
      for node in (2, 3, 4):
        assert (w[np.array(TARGETS) == node] > 0).any()
      sums = w.sum(-1)
      ones = sums != 0
      np.testing.assert_allclose(sums[ones], 1, rtol=1e-5)
      # Equation 10: the transit cells have what is not zero, and no more.
      np.testing.assert_array_equal(chosen[name], w > 0)
      found = base.connections(CELL, w)
      assert [len(pairs) > 0 for pairs in found] == [True] * 3
    genotype = algorithm.derive(weights)
    for name, mask in base.indicator(SPEC, genotype).items():
      engine = name.removesuffix("_transit")
      np.testing.assert_array_equal(mask, weights[engine] > 0)


def test_the_largest_alone_is_left_by_the_highest_threshold():
  algorithm, each = outcome()
  arch = algorithm.init(jax.random.key(3), 1.0)
  arch |= {f"{n}_thresholds": jnp.full(3, 40.0) for n in ("normal", "reduce")}
  weights, _, _ = jax.device_get(each(arch, 1.0, jnp.ones((9, 3))))
  for name, w in weights.items():
    p = equation_5(np.asarray(arch[name], np.float64), 1.0)
    for node in (2, 3, 4):
      own = np.where((np.array(TARGETS) == node)[:, None], p, 0)
      expected = own == own.max()
      rows = np.array(TARGETS) == node
      np.testing.assert_array_equal(w[rows], expected[rows])


@pytest.mark.parametrize(
  "ops", [S1, S3, (MAX, SKIP, SEP)], ids=["s1", "s3", "without none"]
)
@pytest.mark.parametrize("nodes", [1, 2, 4])
def test_the_strongest_within_a_program_are_those_of_the_host(ops, nodes):
  spec = spec_lib.supernet(
    ops, cells=8, width=4, classes=2, nodes=nodes, engines="first"
  )
  cell = spec.cell("normal")
  compiled = jax.jit(lambda weights: base.strongest_mask(cell, weights))
  rng = np.random.default_rng(nodes)
  for turn in range(30):
    weights = rng.random(cell.shape).astype(np.float32)
    if turn % 3:  # ties, of operators and of edges
      weights = rng.integers(1, 2 + turn % 5, cell.shape) / np.float32(8)
    mask = np.asarray(compiled(jnp.asarray(weights)))
    genotype = base.genotype_of(spec, {"normal": weights, "reduce": weights})
    marked = base.indicator(spec, genotype)
    assert set(marked) == {name for name, _ in spec.cells}
    np.testing.assert_array_equal(mask, marked["normal"])
    np.testing.assert_array_equal(mask, marked["reduce_transit"])
    assert mask.sum() == 2 * nodes
    assert "none" not in ops or not mask[:, ops.index("none")].any()


def test_the_strongest_are_among_what_is_kept_and_in_a_given_order():
  kept = ((SEP,), (MAX,), *CELL.kept[2:])
  cell = dataclasses.replace(CELL, kept=kept)
  weights = np.full((9, 3), 0.5)
  mask = np.asarray(base.strongest_mask(cell, jnp.asarray(weights)))
  np.testing.assert_array_equal(mask[:2], [[0, 0, 1], [1, 0, 0]])
  order = jnp.asarray([0, 0, 1, 3, 2, 9, 8, 7, 6.0])
  for inputs in (1, 2, 3):
    own = dataclasses.replace(CELL, degree=inputs)
    mask = base.strongest_mask(own, jnp.asarray(weights), order)
    rows = [[0, 1], [3, 4, 2], [5, 6, 7]]
    used = sorted(e for own in rows for e in own[:inputs])
    assert np.flatnonzero(np.asarray(mask).sum(-1)).tolist() == used


def test_the_temperature_falls_by_a_ratio_an_epoch_and_rests_at_its_end():
  tau = annealed(5.0, 0.923, epochs=50, steps_per_epoch=4)
  for e in (0, 1, 2, 20, 49):
    for step in (4 * e, 4 * e + 3):
      assert float(tau(step)) == pytest.approx(5 * 0.923**e, rel=1e-5)
  # The last evaluation comes after the last step, and has its temperature.
  for step in (200, 1000):
    assert float(tau(step)) == pytest.approx(5 * 0.923**49, rel=1e-5)
  assert float(jax.jit(tau)(jnp.int32(9))) == pytest.approx(5 * 0.923**2)
  # An epoch that is cut short is one, too.
  tau = annealed(5.0, 0.923, epochs=2.5, steps_per_epoch=4)
  for step in (8, 9, 10):
    assert float(tau(step)) == pytest.approx(5 * 0.923**2, rel=1e-6)
  tau = annealed(5.0, 0.923, epochs=0.5, steps_per_epoch=4)
  assert float(tau(2)) == 5.0


@pytest.mark.parametrize("epochs", (12, 100, 2.5))
def test_a_run_of_any_length_ends_at_the_papers_temperature(epochs):
  tau = annealed(5.0, 0.923, epochs=epochs, steps_per_epoch=4, of=50)
  assert float(tau(0)) == float(tau(3)) == 5.0
  last = math.ceil(epochs) - 1
  for step in (4 * last, 4 * last + 3):
    assert float(tau(step)) == pytest.approx(5 * 0.923**49, rel=1e-5)
  assert float(tau(4)) == pytest.approx(5 * 0.923 ** (49 / last), rel=1e-5)


def test_the_paper_s_own_length_is_the_paper_s_schedule():
  of, own = (
    annealed(5.0, 0.923, epochs=50, steps_per_epoch=4, of=n) for n in (50, 0)
  )
  assert [float(of(4 * e)) for e in range(50)] == [
    float(own(4 * e)) for e in range(50)
  ]
  short = annealed(5.0, 0.923, epochs=0.5, steps_per_epoch=4, of=50)
  assert float(short(2)) == 5.0
