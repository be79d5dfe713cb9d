"""Averaged SGD against PyTorch's numbers, and when it begins."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jnas.training import averaging
from jnas.training.state import State, evaluated


def begun(optimizer, w):
  """The state of an optimizer that averages from the next step on."""
  state = averaging.observe(optimizer.init(w), 1.0, lr=1.0)
  state = averaging.observe(state, 1.0, lr=1.0)
  return averaging.observe(state, 2.0, lr=1.0)


def test_a_moving_average_of_weights_and_statistics():
  def step(state):
    w, stats = state.weights + 1, {"mean": 2 * state.stats["mean"]}
    return state._replace(step=state.step + 1, weights=w, stats=stats), {}

  state = averaging.begin(
    State(
      step=jnp.int32(0),
      weights=jnp.ones(2),
      stats={"mean": jnp.ones(())},
      **dict.fromkeys(("arch", "weights_opt", "arch_opt", "totals"), ()),
    )
  )
  assert evaluated(state).weights is not state.weights  # both are donated
  step, w, m, mean = averaging.moving(step, 0.25), 1.0, 1.0, [1.0, 1.0]
  for t in range(5):
    state, _ = jax.jit(step)(state)
    w, m, d = w + 1, 2 * m, min(0.25, (1 + t) / (10 + t))
    mean = [d * mean[0] + (1 - d) * w, d * mean[1] + (1 - d) * m]
  found = evaluated(state)
  np.testing.assert_allclose(found.weights, [mean[0]] * 2, rtol=1e-6)
  np.testing.assert_allclose(found.stats["mean"], mean[1], rtol=1e-6)
  assert evaluated(state._replace(average=None)).weights is state.weights


def test_golden_sequence():
  """ASGD(lr=1, t0=0, lambd=0) of PyTorch; lr set to 1, 2, ... 5."""
  optimizer = averaging.averaged_sgd(1.0, patience=1)
  w = jnp.zeros(())
  state = begun(optimizer, w)
  weights, means = [], []
  for lr in (1, 2, 3, 4, 5):
    updates, state = optimizer.update(jnp.ones(()), state, w, scale=lr)
    w = optax.apply_updates(w, updates)
    weights.append(float(w))
    means.append(float(averaging.find(state).average))
  assert weights == [-1, -2, -4, -7, -11]
  np.testing.assert_allclose(means, [-1, -2, -3, -13 / 3, -6], rtol=1e-6)


def test_before_it_averages_it_is_sgd():
  optimizer = averaging.averaged_sgd(0.5, patience=5)
  w = {"a": jnp.arange(3.0)}
  state = optimizer.init(w)
  for scale in (1.0, 0.2):
    gradient = {"a": jnp.array([1.0, -2.0, 3.0])}
    updates, state = optimizer.update(gradient, state, w, scale=scale)
    np.testing.assert_allclose(updates["a"], -0.5 * scale * gradient["a"])
    w = optax.apply_updates(w, updates)
    np.testing.assert_array_equal(averaging.find(state).average["a"], w["a"])
  assert not state.active and state.count == 0


@pytest.mark.parametrize("patience", [1, 5])
def test_the_trigger_is_the_one_of_the_published_code(patience):
  """len(losses) > n and loss > min(losses[:-n]); asked before it is kept."""
  draw = np.random.default_rng(0)
  falling = 4 + np.exp(-np.arange(60) / 5)
  losses = np.float32(falling + 0.02 * draw.normal(size=60))
  history, expected = [], None
  for i, loss in enumerate(losses):
    if len(history) > patience and loss > min(history[:-patience]):
      expected = i
      break
    history.append(loss)
  assert expected and expected > patience
  optimizer = averaging.averaged_sgd(20.0, patience)
  state = optimizer.init(jnp.zeros(2))
  observe = jax.jit(lambda state, loss: averaging.observe(state, loss, 20.0))
  for i, loss in enumerate(losses):
    state = observe(state, loss)
    assert bool(state.active) == (i >= expected)


def test_within_a_chain_all_of_it_is_state():
  optimizer = optax.chain(
    optax.clip_by_global_norm(0.25), averaging.averaged_sgd(2.0, patience=1)
  )
  w = jnp.ones(3)
  state = begun(optimizer, w)
  assert state[1].active and state[1].size == 1
  updates, state = optimizer.update(jnp.ones(3), state, w, scale=0.5)
  np.testing.assert_allclose(averaging.find(state).average, w + updates)
  assert abs(float(optax.tree.norm(updates)) - 0.25) < 1e-6
  # A later loss, however good, does not end it.
  assert averaging.observe(state, 0.0, lr=2.0)[1].active


def test_the_best_weights_are_kept():
  optimizer = optax.chain(averaging.averaged_sgd(1.0, patience=5))
  w = jnp.zeros(2)
  state = optimizer.init(w)
  for loss in (3.0, 1.0, 2.0):
    updates, state = optimizer.update(jnp.ones(2), state, w)
    w = optax.apply_updates(w, updates)
    state = averaging.observe(state, loss, lr=1.0)
  own = averaging.find(state)
  assert own.lowest == 1 and own.snapshot.tolist() == [-2, -2]
  assert w.tolist() == own.average.tolist() == [-3, -3]
