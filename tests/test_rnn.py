"""The recurrent cell: sizes, values, padding, dropout, derivatives."""

import functools

import jax
from jax.flatten_util import ravel_pytree
import jax.numpy as jnp
import numpy as np
import pytest

from jnas import genotype, hypergrad
from jnas.spaces import rnn

T, B, H, V = 4, 3, 5, 7


def uniform_weights(spec):
  return {rnn.NAME: jnp.full(spec.cell.shape, 1 / len(spec.cell.ops))}


def shapes(spec):
  """The variables of a model, nothing of which is computed."""
  tokens = jax.ShapeDtypeStruct((2, 2), jnp.int32)
  hidden = jax.ShapeDtypeStruct((2, spec.width), jnp.float32)
  weights = uniform_weights(spec) if spec.norm else None
  model = rnn.LanguageModel(spec)
  return jax.eval_shape(
    lambda key: model.init(
      key, jnp.zeros(tokens.shape, int), jnp.zeros(hidden.shape), weights,
      train=True,
    ),
    jax.random.key(0),
  )


def some(spec, seed=0, scale=0.5, dtype=float):
  """Variables that are neither ones nor zeros, and a window."""
  draw = np.random.default_rng(seed)
  variables = jax.tree.map(
    lambda leaf: jnp.asarray(scale * draw.normal(size=leaf.shape), dtype),
    shapes(spec),
  )
  if spec.norm:
    stats = variables["batch_stats"]
    stats["var"] = jnp.square(stats["var"]) + 1
  tokens = jnp.asarray(draw.integers(spec.vocabulary, size=(T, B)))
  hidden = jnp.asarray(scale * draw.normal(size=(B, spec.width)), dtype)
  return variables, tokens, hidden


def mixture(spec, seed=1):
  logits = np.random.default_rng(seed).normal(size=spec.cell.shape)
  return {rnn.NAME: jax.nn.softmax(jnp.asarray(logits))}


@functools.partial(jax.jit, static_argnums=0, static_argnames="train")
def apply(spec, *args, train=True, **options):
  """The output; of a search network in training, with the new moments."""
  model = rnn.LanguageModel(spec)
  mutable = ["batch_stats"] if train and spec.norm else False
  return model.apply(*args, train=train, mutable=mutable, **options)


def close(found, expected, tolerance=1e-13):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerance),
    found,
    expected,
  )


def recurrent(name):
  return genotype.RECURRENT_ZOO[name]


@pytest.mark.parametrize(
  "spec, cell, total",
  [
    (rnn.supernet(8, width=300, vocabulary=10_000), 1_800_000, 4_810_000),
    *(
      (
        rnn.derived(recurrent(name), width=850, vocabulary=10_000),
        *(cell, total),
      )
      for name, cell, total in (
        ("DARTS_V1", 14_450_000, 22_960_000),
        ("DARTS_V2", 14_450_000, 22_960_000),
        ("GDAS", 14_450_000, 22_960_000),
        ("ENAS", 18_785_000, 27_295_000),
      )
    ),
    (
      rnn.derived(recurrent("DARTS_V2"), width=700, vocabulary=33_278),
      *(9_800_000, 33_127_878),
    ),
  ],
)
def test_published_numbers_of_parameters(spec, cell, total):
  params = shapes(spec)["params"]
  count = sum(leaf.size for leaf in jax.tree.leaves(params))
  rest = params["embedding"].size + params["bias"].size
  assert (count - rest, count) == (cell, total)


def test_the_supernet_has_36_edges():
  cell = rnn.supernet(8, width=1, vocabulary=1).cell
  assert cell.shape == (36, 5) and len(set(cell.edges)) == 36
  assert all(source < target for source, target in cell.edges)
  assert rnn.supernet(3, width=1, vocabulary=1).cell.shape == (6, 5)


@pytest.mark.parametrize("name", ["DARTS_V2", "ENAS"])
def test_a_supernet_with_weights_of_zero_and_one_is_the_derived_cell(name, x64):
  """Without normalisation; the paths that a genotype leaves out weigh zero."""
  found = recurrent(name)
  derived = rnn.derived(found, width=H, vocabulary=V)
  steps = len(found.recurrent)
  whole = rnn.supernet(steps, width=H, vocabulary=V)
  chosen = np.zeros(whole.cell.shape)
  for op, source, target in genotype.chosen(found)["recurrent"]:
    edge = whole.cell.edges.index((source, target))
    chosen[edge, whole.cell.ops.index(op)] = 1
  cell = type(whole.cell)(
    whole.cell.ops, whole.cell.edges, whole.cell.kept, found.concat, 1
  )
  whole = rnn.RecurrentSpec(cell, H, V, norm=False)
  variables, tokens, hidden = some(derived)
  window = (variables, tokens, hidden)
  mixed = apply(whole, *window, {rnn.NAME: jnp.asarray(chosen)})
  alone = apply(derived, *window)
  close(mixed.logits, alone.logits)
  assert float(abs(alone.logits).max()) > 0.1


def test_padding_leaves_no_trace(x64):
  spec = rnn.supernet(3, width=H, vocabulary=V)
  variables, tokens, hidden = some(spec)
  weights = mixture(spec)

  def run(tokens, length=T):
    return apply(spec, variables, tokens, hidden, weights, length=length)

  short, stats = run(tokens[:2], 2)
  padded, padded_stats = run(tokens, 2)
  padded = jax.tree.map(lambda x: x[:2] if x.ndim == 3 else x, padded)
  close((short, stats), (padded, padded_stats))
  assert float(abs(run(tokens)[0].hidden - padded.hidden).max()) > 1e-3


def test_lengths_share_one_program():
  spec = rnn.supernet(2, width=H, vocabulary=V)
  variables, tokens, hidden = some(spec, dtype=jnp.float32)
  model, traces = rnn.LanguageModel(spec), []

  @jax.jit
  def run(length):
    traces.append(length)
    return model.apply(
      variables, tokens, hidden, mixture(spec), length=length, train=False
    ).hidden

  found = [run(length) for length in range(1, T + 1)]
  assert len(traces) == 1
  assert len({float(h.sum()) for h in found}) == T


def test_windows_that_carry_the_hidden_state_are_one(x64):
  spec = rnn.derived(recurrent("DARTS_V2"), width=H, vocabulary=V)
  variables, tokens, hidden = some(spec)
  whole = apply(spec, variables, tokens, hidden)
  first = apply(spec, variables, tokens[:3], hidden)
  second = apply(spec, variables, tokens[3:], first.hidden)
  both = jnp.concatenate([first.logits, second.logits])
  close(both, whole.logits)


def test_running_moments_move_and_evaluate(x64):
  spec = rnn.supernet(2, width=H, vocabulary=V)
  variables, tokens, hidden = some(spec)
  window = (tokens, hidden, mixture(spec))
  _, new = apply(spec, variables, *window)
  old = variables["batch_stats"]
  # Three normalisations at each of four times: what is left of the old ones.
  left = 0.9 ** (3 * T)
  assert float(abs(new["batch_stats"]["mean"] - old["mean"]).max()) > 1e-3
  assert (new["batch_stats"]["var"] > left * old["var"]).all()
  one = apply(spec, variables, *window, train=False)
  two = apply(spec, variables | new, *window, train=False)
  assert float(abs(one.logits - two.logits).max()) > 1e-3


RATES = rnn.Rates(words=0.1, embedded=0.2, x=0.75, hidden=0.25, output=0.5)


def test_masks_keep_the_mean_and_follow_the_sequence():
  spec = rnn.derived(recurrent("GDAS"), width=400, vocabulary=5000)
  keys = jax.random.split(jax.random.key(1), 4)
  masks = rnn.draw_masks(jax.random.key(0), keys, spec, RATES)
  for mask, rate in zip(masks, RATES, strict=True):
    kept = np.asarray(mask)[np.asarray(mask) > 0]
    np.testing.assert_allclose(kept, 1 / (1 - rate), rtol=1e-6)
    assert abs(kept.size / mask.size - (1 - rate)) < 0.05
  half = rnn.draw_masks(jax.random.key(0), keys[2:], spec, RATES)
  np.testing.assert_array_equal(half.words, masks.words)
  for name in ("embedded", "x", "hidden", "output"):
    np.testing.assert_array_equal(
      getattr(half, name), getattr(masks, name)[2:]
    )
  # What is dropped of one is not dropped of another.
  assert (masks.x[0] != masks.x[1]).any()
  assert ((masks.hidden > 0) != (masks.output > 0)).any()
  assert rnn.draw_masks(keys[0], keys, spec, rnn.Rates()) == rnn.NO_DROPOUT


def test_dropout_is_off_without_masks():
  spec = rnn.derived(recurrent("DARTS_V1"), width=H, vocabulary=V)
  variables, tokens, hidden = some(spec, dtype=jnp.float32)
  keys = jax.random.split(jax.random.key(1), B)
  masks = rnn.draw_masks(jax.random.key(0), keys, spec, RATES)
  plain = apply(spec, variables, tokens, hidden)
  same = apply(spec, variables, tokens, hidden, train=False)
  dropped = apply(spec, variables, tokens, hidden, masks=masks)
  np.testing.assert_array_equal(plain.logits, same.logits)
  assert float(abs(plain.logits - dropped.logits).max()) > 1e-3


# Hypergradients through the scan over time.


def small():
  """A smooth cell: no ReLU, whose kinks a difference would step over."""
  spec = rnn.supernet(2, width=3, vocabulary=V)
  variables, *windows = some(spec)
  held_out = some(spec, seed=5)[1:]
  arch = jnp.asarray(np.random.default_rng(2).normal(size=spec.cell.shape))
  model = rnn.LanguageModel(spec)
  smooth = jnp.asarray([op != "relu" for op in spec.cell.ops])

  def loss(tokens, hidden):
    def closed(w, alpha):
      weights = {rnn.NAME: jax.nn.softmax(alpha, where=smooth)}
      out, _ = model.apply(
        {"params": w, "batch_stats": variables["batch_stats"]},
        tokens[:-1], hidden, weights, train=True, mutable=["batch_stats"],
      )
      log_p = jax.nn.log_softmax(out.logits)
      right = jnp.take_along_axis(log_p, tokens[1:, :, None], -1)
      return -right.mean() + 0.1 * jnp.square(out.states).mean()

    return closed

  return loss(*windows), loss(*held_out), variables["params"], arch


def differences(f, x, step):
  """The gradient of f by central differences."""
  flat, shape = ravel_pytree(x)
  return jnp.stack(
    [
      (f(shape(flat + row)) - f(shape(flat - row))) / (2 * step)
      for row in step * jnp.eye(flat.size)
    ]
  )


def test_unrolled_hypergradient_through_time(x64):
  train, valid, w, alpha = small()

  def virtual(w, gradient):
    return jax.tree.map(lambda p, g: p - 0.3 * g, w, gradient)

  @jax.jit
  def total(alpha):
    return valid(virtual(w, jax.grad(train)(w, alpha)), alpha)

  found = jax.jit(
    lambda: hypergrad.unrolled(train, valid, w, alpha, virtual=virtual)
  )()
  expected = differences(total, alpha, 1e-5)
  np.testing.assert_allclose(
    found.gradient.ravel(), expected, rtol=1e-7, atol=1e-10
  )
  assert float(abs(found.second).max()) > 1e-5


def test_amended_hypergradient_through_time(x64):
  train, valid, w, alpha = small()
  eta = 0.1
  found = jax.jit(lambda: hypergrad.amended(train, valid, w, alpha, eta=eta))()
  flat, shape = ravel_pytree(w)
  slope = jax.jit(
    lambda w, alpha: ravel_pytree(jax.grad(train)(shape(w), alpha))[0]
  )
  v = ravel_pytree(jax.grad(valid)(w, alpha))[0]
  step = 1e-5
  product = (slope(flat + step * v, alpha) - slope(flat - step * v, alpha)) / (
    2 * step
  )
  second = differences(
    lambda alpha: slope(flat, alpha) @ (-eta * product), alpha, step
  )
  np.testing.assert_allclose(
    found.second.ravel(), second, rtol=1e-6, atol=1e-10
  )
  assert float(abs(second).max()) > 1e-5
