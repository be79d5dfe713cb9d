"""Steps against an alternation that is written out here from the papers."""

import functools
from typing import NamedTuple

import jax
from jax.flatten_util import ravel_pytree
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np
import pytest

from jnas.algorithms import base
from jnas.data import augment, device
from jnas.runtime import parallel
from jnas.training import batches, losses, optim, steps
from jnas.training import state as state_lib

BATCH, LR, ARCH_LR, CLIP = 4, (0.3, 0.2, 0.1), 0.05, 1.0
in_float64 = pytest.mark.usefixtures("x64")


def schedule(step):
  return jnp.asarray(LR)[jnp.minimum(step, 2)]


def flat(tree):
  return np.asarray(ravel_pytree(tree)[0])


def draw(split, name, step):
  """Other rows for each stream and step; all in a few steps."""
  rows = (4 * step + {"train": 0, "valid": 2}[name] + jnp.arange(BATCH)) % 12
  return losses.Batch(split.x[rows], split.y[rows], None)


def objective(w, stats, edge_weights, batch, rates):
  """Two mixed operators, tanh and identity, as a classifier."""
  mix = edge_weights["cell"][0]
  h = mix[0] * jnp.tanh(batch.x @ w["tanh"]) + mix[1] * (batch.x @ w["linear"])
  if rates is not None:
    h = h * (1 - rates["path"])
  loss = losses.cross_entropy(h, batch.y).mean()
  accuracy = losses.correct(h, batch.y).mean()
  stats = 0.9 * stats + 0.1 * batch.x.mean(0)
  return loss, losses.Outcome(stats, {"accuracy": accuracy})


def mixture(arch):
  return {"cell": jax.nn.softmax(arch["cell"], -1)}


def relax(arch, key, step):
  return mixture(arch)


def algorithm(name="first_order", **options):
  return base.Algorithm(
    init=None,
    relax=relax,
    mixture=mixture,
    estimate=base.estimator(name, eta=0.7),
    derive=None,
    **options,
  )


class Parts(NamedTuple):
  state: state_lib.State
  train: device.Split
  valid: device.Split
  weights_optimizer: object
  arch_optimizer: object

  def step(self, name="first_order", **kwargs):
    virtual = steps.momentum_virtual(schedule, momentum=0.9, decay=0.01)
    return steps.search_step(
      algorithm(name),
      objective,
      self.weights_optimizer,
      self.arch_optimizer,
      kwargs.pop("draw", draw),
      seed=0,
      virtual=virtual,
      **kwargs,
    )

  def plain(self, rates=None):
    """The state after the first weight step, alpha as it was."""
    step = steps.weight_step(objective, self.weights_optimizer, lambda t: t)
    batch = draw(self.train, "train", 0)
    return jax.jit(lambda s: step(s, mixture(s.arch), batch, rates))(
      self.state
    )[0]


def build():
  """The parts of a search, in the precision that is in force."""
  rng = np.random.default_rng(0)
  train, valid = (
    device.split(
      jnp.asarray(rng.normal(size=(12, 3))),
      jnp.asarray(rng.integers(4, size=12)),
    )
    for _ in range(2)
  )
  w = {
    name: jnp.asarray(rng.normal(size=(3, 4))) for name in ("tanh", "linear")
  }
  arch = {"cell": jnp.asarray([[0.3, -0.2]])}
  weights_optimizer = optim.sgd(schedule, momentum=0.9, decay=0.01, clip=CLIP)
  arch_optimizer = optim.adam(ARCH_LR, b1=0.5, b2=0.999, decay=0.1)
  state = state_lib.State(
    step=jnp.int32(0),
    weights=w,
    stats=jnp.zeros(3),
    arch=arch,
    weights_opt=weights_optimizer.init(w),
    arch_opt=arch_optimizer.init(arch),
    totals=state_lib.zero_totals(),
  )
  return Parts(state, train, valid, weights_optimizer, arch_optimizer)


@pytest.fixture(scope="module")
def parts():
  with jax.enable_x64(True):
    return build()


@pytest.fixture(scope="module")
def parts32():
  return build()


def reference(parts, name, count, rate=None):
  """The alternation of the papers: alpha, then w, in vectors."""
  split, join = (
    ravel_pytree(tree)[1] for tree in (parts.state.weights, parts.state.arch)
  )

  def loss(stream, i, w, alpha):
    batch = draw(getattr(parts, stream), stream, i)
    weights, dropped = mixture(join(alpha)), rate(i) if rate else None
    return objective(split(w), jnp.zeros(3), weights, batch, dropped)[0]

  @jax.jit
  def hypergradient(i, w, alpha, buffer):
    train = functools.partial(loss, "train", i)
    valid = functools.partial(loss, "valid", i)
    # g1 - eta A H v as a gradient: A H v = d_alpha <d_w L_train, H v>.
    v = jax.grad(valid)(w, alpha)
    hv = jax.hessian(train)(w, alpha) @ v

    def outer(a):
      g = jax.grad(train)(w, a)
      if name == "unrolled":
        return valid(w - schedule(i) * (0.9 * buffer + g + 0.01 * w), a)
      return valid(w, a) - {"first_order": 0, "amended": 0.7}[name] * g @ hv

    return jax.grad(outer)(alpha)

  descend = jax.jit(jax.value_and_grad(functools.partial(loss, "train"), 1))
  w, alpha = flat(parts.state.weights), flat(parts.state.arch)
  buffer, m, s = np.zeros_like(w), np.zeros_like(alpha), np.zeros_like(alpha)
  history = []
  for i in range(count):
    g = np.asarray(hypergradient(i, w, alpha, buffer)) + 0.1 * alpha
    m, s = 0.5 * m + 0.5 * g, 0.999 * s + 0.001 * g**2
    root = np.sqrt(s / (1 - 0.999 ** (i + 1))) + 1e-8
    alpha = alpha - ARCH_LR * m / (1 - 0.5 ** (i + 1)) / root
    value, g = descend(i, w, alpha)
    g = np.asarray(g)
    history.append((float(value), np.linalg.norm(g)))
    g = g * min(1, CLIP / np.linalg.norm(g)) + 0.01 * w
    buffer = 0.9 * buffer + g
    w = w - LR[min(i, 2)] * buffer
  return w, alpha, np.array(history)


@in_float64
@pytest.mark.parametrize("name", ("first_order", "amended", "unrolled"))
def test_a_search_alternates_as_the_papers_do(parts, name):
  step = jax.jit(parts.step(name))
  state, rows = parts.state, []
  for _ in range(4):
    state, metrics = step(state, parts.train, parts.valid)
    rows.append(metrics)
  w, alpha, history = reference(parts, name, 4)
  np.testing.assert_allclose(flat(state.arch), alpha, rtol=1e-9)
  np.testing.assert_allclose(flat(state.weights), w, rtol=1e-9)
  for i, metric in enumerate(("train_loss", "gradient_norm")):
    np.testing.assert_allclose(
      [row[metric] for row in rows], history[:, i], rtol=1e-9
    )
  assert (rows[0]["second_order_norm"] > 0) == (name != "first_order")
  assert state.step == 4 and state.totals.steps == 4
  np.testing.assert_allclose(
    state.totals.loss, history[:, 0].sum(), rtol=1e-6
  )
  # Statistics are those of the weight steps alone: one update a step.
  stats = np.zeros(3)
  for i in range(4):
    stats = 0.9 * stats + 0.1 * draw(parts.train, "train", i).x.mean(0)
  np.testing.assert_allclose(state.stats, stats, rtol=1e-9)


@in_float64
def test_drop_path_of_the_step_reaches_both_losses(parts):
  def rate(step):
    return {"path": 0.1 + 0.2 * step}

  step, state = jax.jit(parts.step("unrolled", rate=rate)), parts.state
  for _ in range(3):
    state, _ = step(state, parts.train, parts.valid)
  w, alpha, _ = reference(parts, "unrolled", 3, rate)
  np.testing.assert_allclose(flat(state.arch), alpha, rtol=1e-9)
  np.testing.assert_allclose(flat(state.weights), w, rtol=1e-9)


@in_float64
def test_the_step_of_alpha_leaves_the_weights_and_the_other_way_round(parts):
  frozen = optim.sgd(lambda step: 0.0, momentum=0.9, decay=0.01, clip=0)
  still = parts._replace(weights_optimizer=frozen)
  state, _ = jax.jit(still.step())(*parts[:3])
  np.testing.assert_array_equal(flat(state.weights), flat(parts.state.weights))
  assert np.abs(flat(state.arch) - flat(parts.state.arch)).min() > 1e-3

  warm, metrics = jax.jit(parts.step(warm=True))(*parts[:3])
  np.testing.assert_array_equal(flat(warm.arch), flat(parts.state.arch))
  for new, old in zip(
    jax.tree.leaves(warm.arch_opt), jax.tree.leaves(parts.state.arch_opt),
    strict=True,
  ):
    np.testing.assert_array_equal(new, old)
  assert "valid_loss" not in metrics and warm.step == 1
  # A warm step sees the old alpha, so it is plain training with it.
  expected = parts.plain()
  np.testing.assert_allclose(
    flat(warm.weights), flat(expected.weights), rtol=1e-12
  )


def test_the_structure_of_the_state_is_stable(parts32):
  for warm in (False, True):
    step = parts32.step("amended", warm=warm)
    found, _ = jax.eval_shape(step, *parts32[:3])
    expected = jax.eval_shape(lambda: parts32.state)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for new, old in zip(
      jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
    ):
      assert (new.shape, new.dtype) == (old.shape, old.dtype)


def test_repeated_steps_are_single_steps(parts32):
  step = parts32.step("amended")
  single, state, rows = jax.jit(step), parts32.state, []
  for _ in range(3):
    state, metrics = single(state, parts32.train, parts32.valid)
    rows.append(metrics)
  splits = parts32.train, parts32.valid
  found, metrics = jax.jit(steps.repeated(step, 3))(parts32.state, *splits)
  np.testing.assert_allclose(
    flat(found._replace(step=0.0)), flat(state._replace(step=0.0)), rtol=2e-5
  )
  assert found.step == 3
  for name, column in metrics.items():
    expected = [row[name] for row in rows]
    np.testing.assert_allclose(column, expected, rtol=2e-5)
  _, once = jax.jit(steps.repeated(step, 1))(parts32.state, *splits)
  assert all(column.shape == (1,) for column in once.values())
  np.testing.assert_allclose(once["train_loss"], [rows[0]["train_loss"]])


@in_float64
def test_two_replicas_search_as_one(parts):
  def share(split, name, step):
    batch = draw(split, name, step)
    start = parallel.offset(BATCH // 2)
    return losses.Batch(
      *(jax.lax.dynamic_slice_in_dim(a, start, BATCH // 2) for a in batch[:2]),
      None,
    )

  mesh = parallel.mesh(jax.devices()[:2])
  whole = PartitionSpec()
  for name in ("amended", "unrolled"):
    step = parallel.shard_step(
      parts.step(name, draw=share, mean=parallel.mean), mesh, whole, whole
    )
    one, state = jax.jit(parts.step(name)), parts.state
    both = parts.state
    for _ in range(3):
      state, expected = one(state, parts.train, parts.valid)
      both, metrics = step(both, parts.train, parts.valid)
    np.testing.assert_allclose(flat(both.arch), flat(state.arch), rtol=1e-10)
    np.testing.assert_allclose(
      flat(both.weights), flat(state.weights), rtol=1e-10
    )
    for key, value in expected.items():
      np.testing.assert_allclose(metrics[key], value, rtol=1e-6)


@in_float64
def test_plain_training_is_a_weight_step_without_edge_weights(parts):
  seen = []

  def watched(w, stats, edge_weights, batch, rates):
    seen.append((edge_weights, rates))
    return objective(w, stats, mixture(parts.state.arch), batch, rates)

  step = steps.train_step(
    watched, parts.weights_optimizer, draw, rate=lambda step: {"path": 0.5}
  )
  found, metrics = jax.jit(step)(parts.state._replace(arch=()), parts.train)
  assert seen[0] == (None, {"path": 0.5})
  expected = parts.plain({"path": 0.5})
  np.testing.assert_allclose(
    flat(found.weights), flat(expected.weights), rtol=1e-12
  )
  assert set(metrics) == {"train_loss", "train_accuracy", "gradient_norm"}
  # Those of a search network that is trained with them fixed.
  jax.eval_shape(step, parts.state, parts.train)
  assert set(seen[-1][0]) == set(parts.state.arch)


# What is drawn.

IMAGES = dict(mean=(0.5, 0.4), std=(0.2, 0.3))


@pytest.fixture(scope="module")
def images():
  rng = np.random.default_rng(0)
  x = rng.integers(256, size=(10, 6, 6, 2)).astype(np.uint8)
  y = np.arange(10, dtype=np.int32)
  return jax.device_put(device.split(x, y))


def test_replicas_draw_the_parts_of_one_batch(images):
  make = functools.partial(
    batches.image_draw, seed=3, batch=4, pad=2, flip=True, cutout=3, **IMAGES
  )
  whole = make(local=4, offset=lambda n: 0 * n)(images, "train", jnp.int32(5))
  halves = [
    make(local=2, offset=lambda n, i=i: jnp.int32(i * n))(
      images, "train", jnp.int32(5)
    )
    for i in range(2)
  ]
  np.testing.assert_allclose(
    whole.x, np.concatenate([half.x for half in halves]), rtol=1e-6
  )
  np.testing.assert_array_equal(
    whole.y, np.concatenate([half.y for half in halves])
  )
  words = [jax.random.key_data(b.keys) for b in (whole, *halves)]
  np.testing.assert_array_equal(words[0], np.concatenate(words[1:]))
  assert len(np.unique(words[0], axis=0)) == 4


def test_an_epoch_of_batches_has_each_example_once(images):
  draw_plain = batches.image_draw(
    seed=3, batch=5, local=5, offset=lambda n: 0, **IMAGES
  )
  epochs = []
  for at in ((0, 1), (2, 3)):
    found = [draw_plain(images, "train", jnp.int32(i)) for i in at]
    order = np.concatenate([batch.y for batch in found])
    assert sorted(order) == list(range(10))
    x = np.concatenate([batch.x for batch in found])
    expected = augment.normalise(
      device.take(images, jnp.asarray(order))[0], IMAGES["mean"], IMAGES["std"]
    )
    np.testing.assert_allclose(x, expected, rtol=1e-6)
    epochs.append(order)
  assert (epochs[0] != epochs[1]).any()
  other = draw_plain(images, "valid", jnp.int32(0)).y
  assert (other != epochs[0][:5]).any()
