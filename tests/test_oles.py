"""OLES: what stops, when, and that it stays, against a reference in numpy."""

import functools

import jax
import jax.numpy as jnp
import law_rows
import numpy as np
import pytest

from jnas import config as config_lib
from jnas.algorithms.oles import agreement, oles
from jnas.config import checks
from jnas.runs import recipe  # noqa: F401 declares the algorithms
from jnas.spaces import cnn, toy
from jnas.spaces import spec as spec_lib
from jnas.spaces.spec import S3
from jnas.training import losses, optim, steps
from jnas.training.state import State, zero_totals

SIZE, BATCH, WINDOW, CLIP = 3, 16, 3, 0.005
SKIP, CONV = S3.index("skip_connect"), S3.index("sep_conv_3x3")


def start(algorithm, weights, optimizers, stats=None):
  arch = algorithm.init(jax.random.key(1), 0.1)
  arch = jax.tree.map(lambda a: a.astype(jnp.result_type(float)), arch)
  return State(
    step=jnp.int32(0),
    weights=weights,
    stats=stats or {},
    arch=arch,
    weights_opt=optimizers[0].init(weights),
    arch_opt=optimizers[1].init(arch),
    totals=zero_totals(),
    stopping=algorithm.stopping.begin(weights),
  )


def optimizers():
  return (
    optim.sgd(lambda step: 0.1, momentum=0.9, decay=0.01, clip=CLIP),
    optim.adam(0.05, b1=0.5, b2=0.999, decay=1e-3),
  )


def batches(step):
  """Of noise, so that the gradients of two of them disagree now and then."""
  rng = np.random.default_rng(step)
  x = rng.normal(size=(2, BATCH, SIZE))
  return {"train": (x[0], rng.normal(size=(BATCH, 10, SIZE))),
          "valid": (x[1], rng.normal(size=(BATCH, 10, SIZE)))}


STEPS = 8
DATA = {
  name: [np.stack(part) for part in zip(
    *(batches(i)[name] for i in range(STEPS)), strict=True
  )]
  for name in ("train", "valid")
}


def draw(split, name, step):
  del split
  x, y = (jnp.asarray(part)[step] for part in DATA[name])
  return losses.Batch(x, y, None)


def searched(build, algorithm, **more):
  """The states of a search on the toy, and its metrics."""
  own = optimizers()
  weights = toy.init(jax.random.key(0), law_rows.SPEC, SIZE)
  weights = jax.tree.map(
    lambda w: 10 * w.astype(jnp.result_type(float)), weights
  )
  step = jax.jit(
    build(algorithm, law_rows.objective, *own, draw, seed=0, **more)
  )
  states, metrics = [start(algorithm, weights, own)], []
  for _ in range(STEPS):
    state, found = step(states[-1], None, None)
    states.append(state)
    metrics.append(found)
  return states, metrics


search = functools.partial(
  searched,
  steps.search_step,
  virtual=steps.momentum_virtual(lambda s: 0.1, momentum=0.9, decay=0.01),
)


def dense(state):
  return {
    name: np.asarray(own["sep_conv_3x3"]["dense"])
    for name, own in state.weights.items()
  }


def gradients(weights, arch, batch):
  """d L / d W of the toy, edge by edge, written out."""
  x, y = batch
  found, row = {}, 0
  for name in ("normal", "reduce"):
    e = np.exp(np.asarray(arch[name]))
    mix = e / e.sum(-1, keepdims=True)
    found[name] = np.zeros_like(weights[name])
    for edge, w in enumerate(weights[name]):
      h = np.tanh(x @ w)
      error = mix[edge, SKIP] * x + mix[edge, CONV] * h - y[:, row]
      slope = 2 * error / y.size * mix[edge, CONV] * (1 - h**2)
      found[name][edge] = x.T @ slope
      row += 1
  return found


def cosine(a, b):
  return (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())


def test_operators_stop_where_their_gradients_disagree(x64):
  algorithm = oles(law_rows.SPEC, threshold=0.05, window=WINDOW)
  states, metrics = search(algorithm)
  sums = {name: np.zeros(5) for name in ("normal", "reduce")}
  frozen = {name: np.zeros(5, bool) for name in sums}
  for i in range(STEPS):
    before, after = states[i], states[i + 1]
    w = dense(before)
    # Each on its own batch, with alpha as the loss saw it.
    train = gradients(w, after.arch, batches(i)["train"])
    valid = gradients(w, before.arch, batches(i)["valid"])
    own = {
      n: np.array([cosine(train[n][e], valid[n][e]) for e in range(5)])
      for n in sums
    }
    np.testing.assert_allclose(
      metrics[i]["gradient_cosine"], np.concatenate(list(own.values())).mean(),
      rtol=1e-6,
    )
    for name in sums:
      sums[name] = sums[name] + own[name]
      if (i + 1) % WINDOW == 0:
        frozen[name] |= sums[name] / WINDOW < 0.05
        sums[name] = np.zeros(5)
      memory = after.stopping
      np.testing.assert_allclose(
        memory.cosines[name]["sep_conv_3x3"], sums[name], atol=1e-6
      )
      np.testing.assert_array_equal(
        memory.frozen[name]["sep_conv_3x3"], frozen[name]
      )
      moved = (dense(after)[name] != w[name]).reshape(5, -1)
      np.testing.assert_array_equal(moved.all(-1), ~frozen[name])
      np.testing.assert_array_equal(moved.any(-1), ~frozen[name])
    share = np.concatenate(list(frozen.values())).mean()
    np.testing.assert_allclose(metrics[i]["frozen_operators"], share)
    assert int(memory.steps) == (i + 1) % WINDOW
  assert 0 < metrics[WINDOW - 1]["frozen_operators"] < share < 1
  for name, alpha in states[-1].arch.items():  # which goes on everywhere
    moved = np.asarray(alpha) != np.asarray(states[-2].arch[name])
    assert moved.all()


def test_what_stopped_has_no_part_in_the_norm_that_is_clipped(x64):
  algorithm = oles(law_rows.SPEC, threshold=0.05, window=WINDOW)
  states, _ = search(algorithm)
  before, after = states[-2:]
  train = gradients(dense(before), after.arch, batches(STEPS - 1)["train"])
  left = {
    n: ~np.asarray(own["sep_conv_3x3"])
    for n, own in after.stopping.frozen.items()
  }
  norm = np.sqrt(sum((train[n][left[n]] ** 2).sum() for n in train))
  assert norm > CLIP
  buffers = optim.momentum_buffer(before.weights_opt)
  for n, w in dense(before).items():
    buffer = np.asarray(buffers[n]["sep_conv_3x3"]["dense"])
    g = train[n] * CLIP / (norm + 1e-6) + 0.01 * w
    expected = (w - 0.1 * (0.9 * buffer + g))[left[n]]
    np.testing.assert_allclose(dense(after)[n][left[n]], expected, rtol=1e-9)


def test_one_program_for_both_levels_stops_the_same(x64):
  algorithm = oles(law_rows.SPEC, threshold=0.05, window=WINDOW)
  expected, got = search(algorithm), searched(steps.looped_step, algorithm)
  assert jax.tree.structure(expected) == jax.tree.structure(got)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12),
    got,
    expected,
  )


def test_a_cosine_is_the_mean_over_arrays_and_nothing_agrees_with_nothing(x64):
  rng = np.random.default_rng(0)
  a, b = (
    {"depth": rng.normal(size=(4, 3, 3, 1)), "point": rng.normal(size=(4, 5))}
    for _ in range(2)
  )
  a["point"][3] = 0
  found = agreement(*(jax.tree.map(jnp.asarray, t) for t in (a, b)))
  for e in range(3):
    both = [cosine(a[n][e], b[n][e]) for n in a]
    np.testing.assert_allclose(found[e], np.mean(both), rtol=1e-12)
  np.testing.assert_allclose(found[3], cosine(a["depth"][3], b["depth"][3]) / 2)


def test_a_network_goes_on_without_what_stopped():
  spec = spec_lib.supernet(S3, cells=2, width=2, nodes=1, classes=3)
  network, own = cnn.Network(spec), optimizers()
  algorithm = oles(spec, threshold=1.0, window=1)  # all stop in the first step
  x = jax.random.normal(jax.random.key(0), (8, 4, 4, 1))

  def images(split, name, step):
    del split
    shift = {"train": 0, "valid": 4}[name]
    return losses.Batch(x[shift:shift + 4], jnp.arange(4) % 3, None)

  step = jax.jit(
    steps.search_step(
      algorithm, losses.classification(network), *own, images, seed=0,
      virtual=lambda state: None,
    )
  )
  arch = algorithm.init(jax.random.key(1), 0.1)
  variables = network.init(jax.random.key(2), x, arch, train=False)
  state = start(algorithm, variables["params"], own, variables["batch_stats"])
  assert jax.tree.leaves(state.stopping.cosines)
  for _ in range(2):
    before, (state, metrics) = state, step(state, None, None)
  assert metrics["frozen_operators"] == 1
  kept = {}
  for path, old in jax.tree_util.tree_leaves_with_path(before.weights):
    new, module = state.weights, [key.key for key in path]
    for key in module:
      new = new[key]
    kept["/".join(module)] = bool((new == old).all())
  assert any("sep_conv_3x3" in name for name in kept)
  assert any("skip_connect" in name for name in kept)  # of the reduction
  for name, same in kept.items():
    assert same == ("sep_conv_3x3" in name), name


def test_a_space_without_weights_is_told():
  with pytest.raises(ValueError, match="operators that have weights"):
    oles(law_rows.SPEC).stopping.begin({"cell0": {"skip_connect": {}}})


@pytest.mark.parametrize("field, value, told", [
  ("algo.hypergrad", "amended", "oles needs 'first_order', got 'amended'"),
  ("algo.one_level", True, "oles compares gradients of both levels"),
  ("algo.window", 0, "algo.window: must be from 1 to 1,000,000"),
  ("algo.threshold", 2.0, "algo.threshold: must be from -1 to 1"),
])
def test_what_does_not_go_with_it_is_told(field, value, told):
  config = config_lib.base("oles")
  with config.unlocked():
    group, name = field.split(".")
    config[group][name] = value
  assert any(told in p for p in checks.problems(config))
  assert not checks.problems(config_lib.base("oles"))
