"""DARTS-, DrNAS and SNAS against the equations of their papers."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas import relax
from jnas.algorithms import base, darts_minus, drnas, snas
from jnas.algorithms.darts import darts
from jnas.spaces import spec as spec_lib
from jnas.spaces.spec import S3

SPEC = spec_lib.supernet(S3, cells=3, width=4, classes=2, nodes=2)
SKIP = S3.index("skip_connect")
RNG = np.random.default_rng(0)


def logits():
  return {
    name: jnp.asarray(RNG.normal(size=cell.shape))
    for name, cell in SPEC.searched
  }


def softmax(x):
  e = np.exp(x - x.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


# DARTS-.


def at(step):
  """The state of a search as far as edge weights are of it."""
  return types.SimpleNamespace(step=step, derivation=None)


def test_skip_connections_weigh_beta_more_and_are_derived_without_it(x64):
  arch = logits()
  algorithm = darts_minus.darts_minus(SPEC, beta=lambda step: 0.25 * step)
  key = jax.random.key(0)
  for name, w in algorithm.relax(arch, key, 3).items():
    expected = softmax(np.asarray(arch[name]))
    np.testing.assert_allclose(
      algorithm.mixture(arch, 3)[name], expected, rtol=1e-12
    )
    expected[:, SKIP] += 0.75
    np.testing.assert_allclose(w, expected, rtol=1e-12)
    # An evaluation after the third step is of what that was trained with.
    expected[:, SKIP] -= 0.25
    evaluated, begun = (
      base.edge_weights(algorithm, arch, None, at(step))[name]
      for step in (3, 0)
    )
    np.testing.assert_allclose(evaluated, expected, rtol=1e-12)
    assert (begun < 1).all()
  weights = jax.device_get(algorithm.mixture(arch))
  assert algorithm.derive(weights) == darts(SPEC).derive(weights)


def test_beta_falls_to_nothing_after_the_last_epoch():
  beta = darts_minus.decayed(1.0, epochs=5, steps_per_epoch=3)
  found = [float(beta(3 * e)) for e in range(7)]
  assert found == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0, 0])
  assert float(beta(2)) == 1.0
  short = darts_minus.decayed(1.0, epochs=0.5, steps_per_epoch=3)
  assert float(short(1)) == 1.0


# DrNAS.


def test_draws_have_the_moments_of_a_dirichlet_and_their_slopes(x64):
  beta = jnp.asarray([[0.7, 1.5, 3.0], [2.0, 0.4, 1.0]])
  keys = jax.random.split(jax.random.key(0), 20_000)

  def mean(beta, power=1):
    draws = jax.vmap(lambda key: drnas.draw(key, beta))(keys)
    return (draws**power).mean(0)

  total = beta.sum(-1, keepdims=True)
  expected = beta / total
  np.testing.assert_allclose(mean(beta), expected, atol=0.01)
  second = expected * (beta + 1) / (total + 1)
  np.testing.assert_allclose(mean(beta, 2), second, atol=0.01)
  # The slope of a mean is the mean of the pathwise slopes.
  slope = jax.jacobian(lambda b: mean(b)[0])(beta)[:, 0]
  exact = jax.jacobian(lambda b: (b / b.sum(-1, keepdims=True))[0])(beta)[:, 0]
  assert abs(exact).min() > 0.02
  np.testing.assert_allclose(slope, exact, atol=0.01)


def test_drnas_mixes_by_draws_and_derives_from_their_mean(x64):
  arch, algorithm = logits(), drnas.drnas(SPEC, anchor=0.5)
  beta = {
    name: np.where(a > 0, a + 1, np.exp(a))  # elu + 1
    for name, a in arch.items()
  }
  key = jax.random.key(3)
  drawn = algorithm.relax(arch, key, 0)
  for i, (name, b) in enumerate(beta.items()):
    mean = b / b.sum(-1, keepdims=True)
    np.testing.assert_allclose(algorithm.mixture(arch)[name], mean, rtol=1e-12)
    np.testing.assert_allclose(
      algorithm.relax(arch, None, 0)[name], mean, rtol=1e-12
    )
    own = drnas.draw(jax.random.fold_in(key, i), jnp.asarray(b))
    np.testing.assert_allclose(drawn[name], own, rtol=1e-12)
  distance = sum(((b - 1) ** 2).sum() for b in beta.values())
  np.testing.assert_allclose(
    algorithm.penalty(arch, {}), 0.25 * distance, rtol=1e-12
  )
  small = {name: 1e-4 * a for name, a in arch.items()}
  for name, slope in jax.grad(algorithm.penalty)(small, {}).items():
    np.testing.assert_allclose(slope, 0.5 * small[name], rtol=1e-3)


def test_small_concentrations_and_masked_operators_give_weights():
  beta = jnp.full((4, 3), 1e-3)
  mask = jnp.asarray([[1.0, 1, 0]] * 4)
  for seed in range(3):
    w = drnas.draw(jax.random.key(seed), beta, mask)
    assert np.isfinite(w).all() and (w[:, 2] == 0).all()
    np.testing.assert_allclose(w.sum(-1), 1, rtol=1e-5)
  slope = jax.grad(
    lambda b: drnas.draw(jax.random.key(0), b, mask)[:, 0].sum()
  )(beta)
  assert np.isfinite(slope).all()


# SNAS.


def test_concrete_weights_are_a_softmax_with_gumbel_noise(x64):
  a, key = jnp.asarray(RNG.normal(size=(5, 3))), jax.random.key(4)
  noise = np.asarray(jax.random.gumbel(key, a.shape, a.dtype))
  scores = np.log(softmax(np.asarray(a))) + noise
  for tau in (2.0, 0.5):
    np.testing.assert_allclose(
      relax.concrete(a, None, key, tau), softmax(scores / tau), rtol=1e-10
    )
  # Cold, it is the draw that GDAS makes of the same noise.
  np.testing.assert_allclose(
    relax.concrete(a, None, key, 1e-3),
    relax.gumbel_hard(a, None, key),
    atol=1e-9,
  )
  mask = jnp.asarray([[1.0, 0, 1]] * 5)
  masked = relax.concrete(a, mask, key, 0.5)
  assert (masked[:, 1] == 0).all()
  np.testing.assert_allclose(masked.sum(-1), 1, rtol=1e-12)


def test_snas_draws_at_its_temperature_and_derives_from_the_softmax(x64):
  arch, key = logits(), jax.random.key(5)
  algorithm = snas.snas(SPEC, lambda step: 1.0 / (1 + step))
  assert algorithm.one_level
  for i, (name, a) in enumerate(arch.items()):
    own = relax.concrete(a, None, jax.random.fold_in(key, i), 0.25)
    np.testing.assert_array_equal(algorithm.relax(arch, key, 3)[name], own)
    for found in (algorithm.relax(arch, None, 3), algorithm.mixture(arch, 3)):
      np.testing.assert_allclose(found[name], softmax(np.asarray(a)), rtol=1e-9)


def test_the_temperature_of_snas_falls_linearly():
  tau = snas.linear(4.0, 1.5, epochs=5, steps_per_epoch=2)
  found = [float(tau(2 * e)) for e in range(7)]
  assert found == pytest.approx([4, 3.5, 3, 2.5, 2, 1.5, 1.5])


def test_snas_derives_every_edge_whose_likeliest_operator_is_not_none():
  cell = SPEC.cell("normal")  # edges (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)
  none, conv = S3.index("none"), S3.index("sep_conv_3x3")
  weights = np.full((5, 3), 0.2)
  weights[[0, 1], none] = 0.6  # all edges into node 2
  weights[1, conv] = 0.25
  weights[[2, 3, 4], [conv, none, SKIP]] = 0.6
  expected = (
    (("sep_conv_3x3", 1),),
    (("sep_conv_3x3", 0), ("skip_connect", 2)),
  )
  assert snas.every_edge(cell, weights) == expected
  # Of the whole algorithm, as a genotype of any number of edges a node.
  weights[3] = [0.2, 0.6, 0.2]
  both = {name: weights for name, _ in SPEC.searched}
  found = snas.snas(SPEC).derive(both)
  assert [len(node) for node in found.normal] == [1, 3]
