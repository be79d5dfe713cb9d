"""Relaxations against the formulas of the papers, in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas import relax

LOGITS = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
MASK = np.array(
  [[1, 1, 1, 1], [1, 0, 1, 1], [0, 1, 0, 1], [0, 0, 0, 1], [1, 1, 0, 0]],
  np.float32,
)


def plain(logits, mask=None, temperature=1.0):
  powers = np.exp(np.asarray(logits, np.float64) / temperature)
  powers = powers if mask is None else powers * mask
  return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 7.0])
def test_softmax_is_the_mixture_of_darts(mask, temperature):
  got = relax.softmax(LOGITS, mask, temperature=temperature)
  np.testing.assert_allclose(got, plain(LOGITS, mask, temperature), atol=2e-7)
  np.testing.assert_allclose(got.sum(-1), 1, atol=1e-6)
  if mask is not None:
    np.testing.assert_array_equal(np.asarray(got)[mask == 0], 0)


def test_a_mask_of_ones_changes_nothing():
  got = relax.softmax(LOGITS, jnp.ones((5, 4)))
  np.testing.assert_array_equal(got, relax.softmax(LOGITS))


@pytest.mark.parametrize("beyond", [0.0, 1e4, 1e30, np.inf, -np.inf])
def test_masked_logits_have_no_part_in_values_and_gradients(beyond):
  logits = jnp.asarray(np.where(MASK > 0, LOGITS, np.float32(beyond)))
  probe = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)

  def loss(logits):
    return jnp.sum(relax.softmax(logits, MASK, temperature=0.5) * probe)

  got = relax.softmax(logits, MASK, temperature=0.5)
  np.testing.assert_allclose(got, plain(LOGITS, MASK, 0.5), atol=2e-7)
  gradient = np.asarray(jax.grad(loss)(logits))
  weights = plain(LOGITS, MASK, 0.5)
  mean = (weights * probe).sum(-1, keepdims=True)
  expected = weights * (probe - mean) / 0.5
  np.testing.assert_allclose(gradient, expected, atol=1e-6)
  np.testing.assert_array_equal(gradient[MASK == 0], 0)


def test_softmax_of_large_logits_is_finite():
  got = relax.softmax(jnp.array([[1e30, 0.0, -1e30], [-1e4, -1e4, -2e4]]))
  np.testing.assert_allclose(got, [[1, 0, 0], [0.5, 0.5, 0]], atol=1e-6)


def test_the_temperature_is_a_number_and_not_a_part_of_the_program():
  program = jax.jit(lambda tau: relax.softmax(LOGITS, None, None, tau))
  for tau in (0.5, 2.0):
    np.testing.assert_allclose(
      program(jnp.float32(tau)), plain(LOGITS, temperature=tau), atol=2e-7
    )
  assert program._cache_size() == 1
  cold = np.asarray(relax.softmax(LOGITS, temperature=1e-3))
  np.testing.assert_array_equal(cold.argmax(-1), LOGITS.argmax(-1))
  np.testing.assert_allclose(cold.max(-1), 1, atol=1e-6)


def test_softmax_draws_nothing():
  got = relax.softmax(LOGITS, MASK, jax.random.key(0))
  np.testing.assert_array_equal(got, relax.softmax(LOGITS, MASK))


def test_softmax_keeps_float64(x64):
  got = relax.softmax(jnp.asarray(LOGITS, jnp.float64), MASK)
  assert got.dtype == jnp.float64
  np.testing.assert_allclose(got, plain(LOGITS, MASK), rtol=1e-14, atol=0)


def test_entropy_is_in_nats_and_of_each_row():
  weights = plain(LOGITS)
  expected = -(weights * np.log(weights)).sum(-1)
  got = relax.entropy(jnp.asarray(weights, jnp.float32))
  assert got.shape == (5,)
  np.testing.assert_allclose(got, expected, atol=1e-6)


def test_entropy_of_even_and_of_certain_weights():
  weights = jnp.array([[0.25] * 4, [0.5, 0.0, 0.5, 0.0], [0.0, 1.0, 0.0, 0.0]])
  np.testing.assert_allclose(
    relax.entropy(weights), np.log([4, 2, 1]), atol=1e-6
  )
