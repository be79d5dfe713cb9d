"""The task of language: what it minimises, evaluates, carries and learns."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jnas import genotype
from jnas.data import windows
from jnas.runtime import keys
from jnas.spaces import rnn
from jnas.training import averaging, language, state, steps

V, B, H = 6, 4, 8
CELL = genotype.RecurrentGenotype((("tanh", 0), ("relu", 1)), (1, 2))
SPEC = rnn.derived(CELL, width=H, vocabulary=V)
MODEL = rnn.LanguageModel(SPEC)
apply = jax.jit(functools.partial(MODEL.apply, train=False))


def parameters(seed=0, scale=0.4):
  shapes = jax.eval_shape(
    lambda key: MODEL.init(
      key, jnp.zeros((1, 1), int), jnp.zeros((1, H)), train=False
    ),
    jax.random.key(0),
  )
  draw = np.random.default_rng(seed)
  return jax.tree.map(
    lambda leaf: jnp.asarray(scale * draw.normal(size=leaf.shape), jnp.float32),
    shapes["params"],
  )


def begin(weights, optimizer=None, batch=B):
  return state.State(
    step=jnp.int32(0),
    weights=weights,
    stats={},
    arch=(),
    weights_opt=optimizer.init(weights) if optimizer else (),
    arch_opt=(),
    totals=state.zero_totals(("cross_entropy",)),
    carry=state.Carry(language.initial(SPEC, batch)),
  )


def objective(**changes):
  usual = dict(rates=rnn.Rates(), activation=0.0, temporal=0.0, bptt=5)
  return language.objective(MODEL, **usual | changes)


def drawing(rows, size=None, **options):
  return language.draw(
    seed=3,
    train=windows.Windows(rows, 5, **options),
    local=B,
    offset=lambda local: 0,
    valid_rows=7,
    size=size,
  )


def text(rows, seed=0):
  tokens = np.random.default_rng(seed).integers(V, size=(rows, B))
  return jnp.asarray(windows.padded(tokens.astype(np.int32), 25))


def test_the_objective_is_the_mean_over_what_counts():
  draw, columns = drawing(40, deviation=3.0), text(40)
  batch = draw(columns, "train", 2)
  carry = jnp.ones((B, H)) / 3
  batch = batch._replace(carry=carry)
  length, size = int(batch.x.length), batch.y.shape[0]
  assert 1 < length < size
  weights = parameters()
  regularised = objective(activation=0.3, temporal=0.2)
  loss, outcome = jax.jit(regularised)(weights, {}, None, batch, None)
  assert not batch.x.first
  out = apply({"params": weights}, batch.x.tokens[:length], carry)
  log_p = np.asarray(jax.nn.log_softmax(out.logits))
  right = np.mean(
    [log_p[t, b, batch.y[t, b]] for t in range(length) for b in range(B)]
  )
  moved = np.square(np.diff(out.states, axis=0)).mean()
  expected = -right + 0.3 * np.square(out.states).mean() + 0.2 * moved
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  np.testing.assert_allclose(
    outcome.scores["cross_entropy"], -right, rtol=1e-5
  )
  np.testing.assert_allclose(outcome.carry, out.hidden, atol=1e-6)
  assert outcome.scale == length / 5


def test_hidden_states_go_from_window_to_window_and_begin_at_zero():
  columns, weights = text(12), parameters()
  draw = drawing(12, halved=0.0)  # windows of 5, 5, and 1 row
  step = jax.jit(
    steps.train_step(
      objective(), averaging.averaged_sgd(0.0, 5), draw
    )
  )
  now = begin(weights, averaging.averaged_sgd(0.0, 5))
  found = []
  for _ in range(4):
    now, _ = step(now, columns)
    found.append(now.carry.train)
  zeros = language.initial(SPEC, B)
  whole = apply({"params": weights}, columns[:11], zeros).states
  for carried, row in zip(found, (4, 9, 10, 4), strict=True):
    np.testing.assert_allclose(carried, whole[row], atol=1e-6)


def test_sizes_change_no_number_and_compile_one_program():
  columns, drawn = text(200), windows.Windows(200, 5, deviation=6.0)
  assert drawn.sizes == (5, 17, 25)
  optimizer = averaging.averaged_sgd(0.5, 5)
  own = objective(
    activation=0.3, temporal=0.2, rates=rnn.Rates(hidden=0.2)
  )
  built = []

  def padded_to(size):
    built.append(size)
    return steps.train_step(
      own, optimizer, drawing(200, deviation=6.0, size=size)
    )

  both = [
    jax.jit(language.padded_step(padded_to, drawn, seed=3)),
    jax.jit(padded_to(None)),
  ]
  assert built == [5, 17, 25, None]
  at = jax.jit(lambda i: drawn.at(keys.stream(3, "windows"), i).length)
  found = [begin(parameters(), optimizer) for _ in both]
  ran = set()
  for i in range(100):
    ran.add(int(np.searchsorted(drawn.sizes, at(i))))
    found = [
      step(now, columns)[0] for step, now in zip(both, found, strict=True)
    ]
  assert ran == {0, 1, 2}
  chex.assert_trees_all_close(*found, rtol=1e-4, atol=1e-6)
  assert [step._cache_size() for step in both] == [1, 1]


@pytest.mark.parametrize("deviation", [0.0, 5.0])
def test_a_thousand_windows_take_the_size_that_they_need(deviation):
  drawn = windows.Windows(5000, 35, deviation=deviation)
  traced = []

  def padded_to(size):
    def step(now):
      traced.append(size)
      return now._replace(step=now.step + 1), jnp.int32(size)

    return step

  step = jax.jit(language.padded_step(padded_to, drawn, seed=3))
  at = jax.jit(lambda i: drawn.at(keys.stream(3, "windows"), i).length)
  now, taken = begin({}), []
  for i in range(1000):
    now, size = step(now)
    fitting = [each for each in drawn.sizes if each >= at(i)]
    assert size == min(fitting)
    taken.append(int(size))
  assert tuple(traced) == drawn.sizes == tuple(sorted(set(taken)))
  assert np.mean(taken) < 40 and step._cache_size() == 1


def test_held_out_windows_go_along():
  draw, train, valid = drawing(40, halved=0.5), text(40), text(7, seed=1)
  read = set()
  for step in range(8):
    ours, theirs = draw(train, "train", step), draw(valid, "valid", step)
    start = np.flatnonzero(
      (np.asarray(valid)[:6] == np.asarray(theirs.x.tokens[0])).all(-1)
    )
    assert start.size == 1
    assert int(theirs.x.length) == min(5, 6 - start[0])
    assert bool(theirs.x.first) == bool(ours.x.first) == (step == 0)
    assert theirs.y.shape == ours.y.shape
    read.add(int(start[0]))
  assert len(read) > 2


@pytest.mark.parametrize("batch, bptt", [(3, 7), (4, 100)])
def test_evaluation_scores_each_row_but_the_last(batch, bptt):
  tokens = np.random.default_rng(1).integers(V, size=41).astype(np.int32)
  weights = parameters()
  split = language.split(tokens, 82, batch, bptt)
  found = language.evaluator(MODEL)(begin(weights), None, split)
  columns = windows.columns(tokens, batch)
  zeros = language.initial(SPEC, batch)
  out = apply({"params": weights}, jnp.asarray(columns[:-1]), zeros)
  log_p = jax.nn.log_softmax(out.logits)
  right = jnp.take_along_axis(log_p, jnp.asarray(columns[1:, :, None]), -1)
  np.testing.assert_allclose(found["loss"], -right.mean(), rtol=1e-5)
  np.testing.assert_allclose(
    found["perplexity"], np.exp(found["loss"]), rtol=1e-6
  )
  np.testing.assert_allclose(
    found["bits_per_character"], found["loss"] / np.log(2) / 2, rtol=1e-6
  )


def test_dropout_is_drawn_anew_each_step_and_shared_over_time():
  columns, weights = text(40), parameters()
  draw = drawing(40)
  rates = rnn.Rates(0.2, 0.2, 0.5, 0.3, 0.4)
  dropped, plain = jax.jit(objective(rates=rates)), jax.jit(objective())
  hidden = language.initial(SPEC, B)
  values = []
  for step in (0, 0, 1):
    batch = draw(columns, "train", 0)._replace(carry=hidden)
    other = draw(columns, "train", step)
    batch = batch._replace(keys=other.keys, x=batch.x._replace(key=other.x.key))
    values.append(float(dropped(weights, {}, None, batch, None)[0]))
  assert values[0] == values[1] != values[2]
  assert values[0] != float(plain(weights, {}, None, batch, None)[0])


def chain(seed, count, sharp=2.0):
  """A text of a Markov chain, and the entropy of a step in nats."""
  draw = np.random.default_rng(seed)
  p = np.exp(sharp * draw.normal(size=(V, V)))
  p /= p.sum(1, keepdims=True)
  values, vectors = np.linalg.eig(p.T)
  steady = np.real(vectors[:, np.argmax(np.real(values))])
  steady /= steady.sum()
  entropy = -(steady[:, None] * p * np.log(p)).sum()
  cumulative, tokens, uniform = p.cumsum(1), [0], draw.random(count)
  for u in uniform:
    tokens.append(min(int(np.searchsorted(cumulative[tokens[-1]], u)), V - 1))
  return np.asarray(tokens[1:], np.int32), float(entropy)


def test_perplexity_reaches_the_entropy_of_a_markov_chain():
  tokens, entropy = chain(0, 60_000)
  batch, bptt = 32, 20
  columns = windows.columns(tokens[:40_000], batch)
  optimizer = optax.chain(
    optax.clip_by_global_norm(0.25), averaging.averaged_sgd(4.0, 3)
  )
  drawn = windows.Windows(len(columns), bptt, deviation=3.0)
  draw = language.draw(
    seed=0, train=drawn, local=batch, offset=lambda local: 0
  )
  step = jax.jit(
    steps.repeated(steps.train_step(objective(bptt=bptt), optimizer, draw), 30)
  )
  held_out = language.split(tokens[40_000:], 20_000, 50, 50)
  measure = language.evaluator(MODEL)
  on_device = jnp.asarray(windows.padded(columns, drawn.longest))
  now = begin(parameters(scale=0.04), optimizer, batch)
  first = measure(now, None, held_out)["perplexity"]
  for _ in range(15):
    now, _ = step(now, on_device)
  averaged = now._replace(weights=averaging.find(now.weights_opt).average)
  found = measure(averaged, None, held_out)["perplexity"]
  limit = np.exp(entropy)
  assert first > 1.3 * limit
  assert 0.98 * limit < found < 1.05 * limit


def test_samples_follow_the_model():
  """One that always says the next number modulo V."""
  spec = rnn.derived(
    genotype.RecurrentGenotype((("identity", 0),), (1,)), width=V, vocabulary=V
  )
  model = rnn.LanguageModel(spec)
  eye = jnp.eye(V)
  params = {
    "embedding": 20 * eye,
    "bias": jnp.zeros(V),
    # The gate is open, the new state is the embedding turned by one.
    "input": jnp.concatenate([jnp.ones((V, V)), jnp.roll(eye, 1, axis=1)], 1),
    "cell": {
      "hidden": jnp.zeros((V, 2 * V)),
      "nodes": jnp.zeros((1, V, 2 * V)),
    },
  }
  drawn = language.sample(
    model, {"params": params}, jax.random.key(0), 13, start=[2], temperature=0.1
  )
  assert drawn.tolist() == [(3 + i) % V for i in range(13)]


def test_what_is_told_of_a_mean():
  worst = language.told({"loss": 9.0, "cross_entropy": 1e6})
  assert np.isfinite(worst["perplexity"]) and worst["loss"] == 9
  found = language.task(objective(), None)
  assert found.score({"perplexity": 2.0}) > found.score({"perplexity": 3.0})
  assert found.scores == ("cross_entropy",)
