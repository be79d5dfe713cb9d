"""Schedules against logged numbers, optimizers against PyTorch's rules."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jnas import hypergrad
from jnas.training import optim

cosine = functools.partial(optim.learning_rate, "cosine")


def test_learning_rates_of_the_published_logs():
  darts = cosine(0.025, 0.001, epochs=50, steps_per_epoch=390)
  assert float(darts(0)) == pytest.approx(0.025, rel=1e-6)
  for step in (49 * 390, 50 * 390 - 1):
    assert float(darts(step)) == pytest.approx(1.023679e-03, rel=1e-6)
  pc = cosine(0.5, 0.0, epochs=50, steps_per_epoch=97)
  assert float(pc(6 * 97)) == pytest.approx(0.4824441, rel=1e-6)
  assert float(pc(7 * 97 - 1)) == pytest.approx(0.4824441, rel=1e-6)
  assert float(pc(7 * 97)) == pytest.approx(0.4762068, rel=1e-6)


def test_the_learning_rate_ends_where_it_is_told_and_stays():
  rate = cosine(0.5, 0.1, epochs=4, steps_per_epoch=3)
  for step in (12, 13, 1000):
    assert float(rate(step)) == pytest.approx(0.1, rel=1e-6)
  assert float(rate(6)) == pytest.approx(0.3, rel=1e-6)


def test_a_run_of_less_than_an_epoch_keeps_its_learning_rate():
  rate = cosine(0.5, 0.1, epochs=0.3, steps_per_epoch=10)
  assert [float(rate(step)) for step in range(3)] == [0.5] * 3


def test_warm_up_rises_linearly_to_the_schedule():
  plain = cosine(0.5, 0.1, epochs=4, steps_per_epoch=3)
  rate = cosine(0.5, 0.1, epochs=4, steps_per_epoch=3, warmup=5)
  for step in range(10):
    expected = float(plain(step)) * min(1, (step + 1) / 5)
    assert float(rate(step)) == pytest.approx(expected, rel=1e-6)
  assert float(rate(0)) == pytest.approx(0.1, rel=1e-6)


def test_the_schedule_of_a_traced_step_is_that_of_a_number():
  rate = cosine(0.5, 0.1, epochs=4, steps_per_epoch=3, warmup=2)
  found = jax.jit(jax.vmap(rate))(jnp.arange(12, dtype=jnp.int32))
  np.testing.assert_allclose(found, [rate(i) for i in range(12)], rtol=1e-6)
  assert found.dtype == jnp.float32


@pytest.mark.parametrize(
  "form,end,expected",
  [
    ("linear", 0.0, [0.5, 0.5 * 3 / 4, 0.25, 0.125, 0.0, 0.0]),
    ("linear", 0.1, [0.5, 0.4, 0.3, 0.2, 0.1, 0.1]),
    # 26.7 % on ImageNet: times 0.97 after each epoch.
    ("exponential", 0.0, [0.5 * 0.97 ** min(e, 4) for e in range(6)]),
  ],
)
def test_decay_between_epochs(form, end, expected):
  rate = optim.learning_rate(form, 0.5, end, epochs=4, steps_per_epoch=3)
  for step in range(18):
    assert float(rate(step)) == pytest.approx(expected[step // 3], abs=1e-7)
  warm = optim.learning_rate(
    form, 0.5, end, epochs=4, steps_per_epoch=3, warmup=6
  )
  for step in range(18):
    factor = min(1, (step + 1) / 6)
    assert float(warm(step)) == pytest.approx(
      factor * expected[step // 3], abs=1e-7
    )


def test_drop_path_rises_by_epochs():
  rate = optim.ramp(0.3, epochs=600, steps_per_epoch=10)
  assert float(rate(0)) == float(rate(9)) == 0.0
  assert float(rate(10)) == pytest.approx(0.3 / 600)
  assert float(rate(5999)) == pytest.approx(0.3 * 599 / 600)


def rollout(optimizer, start, gradients):
  """All iterates, from the optax side."""
  w = {"a": jnp.asarray(start[:2]), "b": jnp.asarray(start[2:])}
  state, path = optimizer.init(w), []
  for g in gradients:
    g = {"a": jnp.asarray(g[:2]), "b": jnp.asarray(g[2:])}
    updates, state = optimizer.update(g, state, w)
    w = optax.apply_updates(w, updates)
    path.append(np.concatenate((w["a"], w["b"])))
  return np.stack(path), state


@pytest.fixture
def run():
  rng = np.random.default_rng(0)
  scale = np.array([0.1, 3.0, 10.0, 0.5, 7.0])[:, None]
  return rng.normal(size=4), scale * rng.normal(size=(5, 4))


@pytest.mark.parametrize("clip,nesterov", ((0.0, False), (5.0, False),
                                           (5.0, True)))
@pytest.mark.usefixtures("x64")
def test_sgd_is_pytorchs(run, clip, nesterov):
  start, gradients = run
  rates = [0.1, 0.2, 0.05, 0.3, 0.1]
  found, state = rollout(
    optim.sgd(
      lambda step: jnp.asarray(rates)[step],
      momentum=0.9,
      decay=0.1,
      clip=clip,
      nesterov=nesterov,
    ),
    start,
    gradients,
  )
  # torch.nn.utils.clip_grad_norm_, then torch.optim.SGD.step.
  w, buffer, path, clipped = start.copy(), np.zeros(4), [], 0
  for lr, g in zip(rates, gradients, strict=True):
    norm = np.linalg.norm(g)
    if clip and norm > clip:
      g, clipped = g * clip / (norm + 1e-6), clipped + 1
    g = g + 0.1 * w
    buffer = 0.9 * buffer + g
    w = w - lr * (g + 0.9 * buffer if nesterov else buffer)
    path.append(w)
  assert clipped == (2 if clip else 0)
  np.testing.assert_allclose(found, path, rtol=1e-10)
  trace = optim.momentum_buffer(state)
  assert set(trace) == {"a", "b"}
  np.testing.assert_allclose(
    np.concatenate((trace["a"], trace["b"])), buffer, rtol=1e-10
  )


@pytest.mark.usefixtures("x64")
def test_adam_is_pytorchs(run):
  start, gradients = run
  found, _ = rollout(
    optim.adam(0.05, b1=0.5, b2=0.999, decay=0.1), start, gradients
  )
  w, m, v, path = start.copy(), np.zeros(4), np.zeros(4), []
  for t, g in enumerate(gradients, 1):
    g = g + 0.1 * w
    m, v = 0.5 * m + 0.5 * g, 0.999 * v + 0.001 * g**2
    denominator = np.sqrt(v) / np.sqrt(1 - 0.999**t) + 1e-8
    w = w - 0.05 / (1 - 0.5**t) * m / denominator
    path.append(w)
  np.testing.assert_allclose(found, path, rtol=1e-10)


@pytest.mark.parametrize("kind", ("sgd", "adam"))
def test_without_decay_pruned_logits_are_not_read(kind, monkeypatch):
  # As a decay does that is not left out where it is zero.
  monkeypatch.setattr(
    optax,
    "add_decayed_weights",
    lambda rate: optax.stateless(
      lambda g, w: jax.tree.map(lambda g, w: g + rate * w, g, w)
    ),
  )
  optimizer = {
    "sgd": optim.sgd(lambda _: 0.1, momentum=0.9, decay=0.0, clip=5.0),
    "adam": optim.adam(0.1, b1=0.5, b2=0.999, decay=0.0),
  }[kind]
  logits = jnp.array([0.5, -jnp.inf])
  state = optimizer.init(logits)
  for _ in range(2):
    updates, state = optimizer.update(jnp.array([1.0, 0.0]), state, logits)
    logits = optax.apply_updates(logits, updates)
  assert np.isfinite(logits[0]) and logits[0] < 0.4
  assert logits[1] == -jnp.inf


def test_the_momentum_buffer_is_zero_before_the_first_step():
  optimizer = optim.sgd(lambda step: 0.1, momentum=0.9, decay=0.1, clip=5.0)
  trace = optim.momentum_buffer(optimizer.init({"w": jnp.ones(3)}))
  np.testing.assert_array_equal(trace["w"], np.zeros(3))


@pytest.mark.usefixtures("x64")
def test_the_virtual_step_is_the_next_step_of_sgd(run):
  start, gradients = run
  optimizer = optim.sgd(lambda step: 0.2, momentum=0.9, decay=0.1, clip=0.0)
  path, state = rollout(optimizer, start, gradients[:3])
  w = jnp.asarray(path[-1])
  buffer = optim.momentum_buffer(state)
  found = hypergrad.momentum_step(
    w,
    jnp.asarray(gradients[3]),
    buffer=jnp.concatenate((buffer["a"], buffer["b"])),
    lr=0.2,
    momentum=0.9,
    decay=0.1,
  )
  expected = rollout(optimizer, start, gradients[:4])[0][-1]
  np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_polynomial_decay_falls_at_each_step():
  rate = optim.learning_rate(
    "polynomial", 0.5, 0.1, epochs=5, steps_per_epoch=2, power=0.9
  )
  for step in range(11):
    expected = 0.1 + 0.4 * (1 - step / 10) ** 0.9
    assert rate(step) == pytest.approx(expected, rel=1e-6)
