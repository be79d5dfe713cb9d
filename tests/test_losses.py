"""Losses against numpy, and derivatives of the objective of a supernet."""

import functools
from typing import NamedTuple

import jax
from jax.flatten_util import ravel_pytree
import jax.numpy as jnp
import numpy as np
import pytest

from jnas import hypergrad, relax
from jnas.runtime import keys
from jnas.spaces import cnn
from jnas.spaces import spec as spec_lib
from jnas.training import losses

LR, MOMENTUM, DECAY = 0.2, 0.9, 0.03
in_float64 = pytest.mark.usefixtures("x64")


def flat(tree):
  return np.asarray(ravel_pytree(tree)[0])


def off(found, expected):
  """The relative error of a tree or vector."""
  found, expected = flat(found), flat(expected)
  return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("smoothing", (0.0, 0.1, 0.5))
def test_cross_entropy_with_label_smoothing(smoothing):
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(6, 5)) * 3
  labels = np.array([0, 4, 2, 2, 1, 3])
  p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  target = (1 - smoothing) * np.eye(5)[labels] + smoothing / 5
  found = losses.cross_entropy(
    jnp.asarray(logits, jnp.float32), jnp.asarray(labels), smoothing
  )
  assert found.shape == (6,)
  np.testing.assert_allclose(found, -(target * np.log(p)).sum(-1), rtol=1e-5)


def test_cross_entropy_of_large_logits_is_finite():
  logits = jnp.array([[1e4, 0.0], [0.0, 1e4]])
  found = losses.cross_entropy(logits, jnp.array([0, 0]))
  np.testing.assert_allclose(found, [0, 1e4])


def test_correct_counts_the_largest_logit():
  logits = jnp.array([[1.0, 2.0, 0.0], [3.0, 2.0, 0.0], [0.0, 0.0, 1.0]])
  found = losses.correct(logits, jnp.array([1, 1, 2]))
  np.testing.assert_array_equal(found, [1.0, 0.0, 1.0])


class Stub:
  """Stands for a network: linear logits, twice that from the other head."""

  spec = spec_lib.supernet(
    ("none", "skip_connect"), cells=1, width=4, classes=3, nodes=2
  )

  def apply(self, variables, x, edge_weights, drop, *, train, mutable):
    assert train and mutable == ["batch_stats"]
    logits = x @ variables["params"]
    if drop is not None:
      logits *= drop[0][:, 0, :1]
    seen = {"mean": x.mean(0), "before": variables["batch_stats"]}
    return (logits, 2 * logits), {"batch_stats": seen}


def test_the_objective_is_both_losses_with_smoothing_and_statistics():
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(8, 4)), jnp.float32)
  w = jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)
  y = jnp.asarray(rng.integers(3, size=8))
  ones = keys.per_example(keys.stream(0, "paths"), jnp.arange(8))
  batch = losses.Batch(x, y, ones)
  objective = losses.classification(Stub(), auxiliary=0.4, smoothing=0.1)
  loss, outcome = objective(w, 7.0, None, batch, None)
  stats, accuracy = outcome.stats, outcome.scores["accuracy"]
  main, extra = (
    losses.cross_entropy(k * x @ w, y, 0.1).mean() for k in (1, 2)
  )
  np.testing.assert_allclose(loss, main + 0.4 * extra, rtol=1e-6)
  np.testing.assert_allclose(stats["mean"], x.mean(0))
  assert stats["before"] == 7.0
  hits = (np.asarray(x @ w).argmax(-1) == np.asarray(y)).mean()
  np.testing.assert_allclose(accuracy, hits)

  plain = losses.classification(Stub())
  np.testing.assert_allclose(
    plain(w, 7.0, None, batch, None)[0],
    losses.cross_entropy(x @ w, y).mean(),
    rtol=1e-6,
  )
  # The draws of drop path are those of the batch's keys.
  factor = cnn.drop_factors(ones, Stub.spec, path=0.5)[0][:, 0, :1]
  assert set(np.unique(factor)) == {0.0, 2.0}
  np.testing.assert_allclose(
    plain(w, 7.0, None, batch, {"path": 0.5})[0],
    losses.cross_entropy(x @ w * factor, y).mean(),
    rtol=1e-6,
  )


# A supernet with convolutions, pools and batch normalisation.


class Supernet(NamedTuple):
  """Two batches of a tiny supernet, and its compiled first derivatives."""

  w: dict
  alpha: dict
  buffer: dict
  objective: losses.Objective
  network: cnn.Network
  stats: dict
  batches: tuple[losses.Batch, losses.Batch]
  gradients: object

  def close(self, i, stats=None, train=True):
    """L of batch i as a function of (w, alpha); statistics may be frozen."""
    batch = self.batches[i]

    def loss(w, alpha):
      mixed = {name: relax.softmax(a) for name, a in alpha.items()}
      if train:
        return self.objective(w, self.stats, mixed, batch, None)[0]
      logits, _ = self.network.apply(
        {"params": w, "batch_stats": stats}, batch.x, mixed, train=False
      )
      return losses.cross_entropy(logits, batch.y).mean()

    return loss

  def derivatives(self, i, w, alpha):
    """L, d_w L and d_alpha L of batch i at flat vectors, as numpy."""
    split, join = ravel_pytree(self.w)[1], ravel_pytree(self.alpha)[1]
    batch = self.batches[i]
    loss, (gw, ga) = self.gradients(split(w), join(alpha), batch.x, batch.y)
    return float(loss), flat(gw), flat(ga)

  def along(self, i, u, h=1e-7):
    """(H u, A u) of batch i by central differences of the gradient."""
    w, alpha, size = flat(self.w), flat(self.alpha), np.linalg.norm(u)
    step = h / size
    up = self.derivatives(i, w + step * u, alpha)
    down = self.derivatives(i, w - step * u, alpha)
    return [(a - b) / (2 * step) for a, b in zip(up[1:], down[1:], strict=True)]


@pytest.fixture(scope="module")
def supernet():
  rng = np.random.default_rng(3)
  spec = spec_lib.supernet(
    ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3"),
    cells=1, width=4, classes=3, nodes=2,
  )
  network = cnn.Network(spec)
  with jax.enable_x64(True):
    x = jnp.asarray(rng.normal(size=(2, 8, 6, 6, 2)))
    y = jnp.asarray(rng.integers(3, size=(2, 8)))
    alpha = {
      name: jnp.asarray(0.5 * rng.normal(size=cell.shape))
      for name, cell in spec.searched
    }
    init = jax.jit(lambda key: network.init(key, x[0], alpha, train=True))
    variables = jax.tree.map(
      lambda a: a.astype(jnp.float64), init(jax.random.key(0))
    )
    w = variables["params"]
    buffer = jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape)), w)
    objective = losses.classification(network)

    def loss(w, alpha, x, y):
      mixed = {name: relax.softmax(a) for name, a in alpha.items()}
      batch = losses.Batch(x, y, None)
      return objective(w, variables["batch_stats"], mixed, batch, None)[0]

    return Supernet(
      w, alpha, buffer, objective, network, variables["batch_stats"],
      tuple(losses.Batch(x[i], y[i], None) for i in range(2)),
      jax.jit(jax.value_and_grad(loss, (0, 1))),
    )


@in_float64
def test_first_derivatives_of_the_supernet_are_those_of_its_loss(supernet):
  rng = np.random.default_rng(0)
  w, alpha = flat(supernet.w), flat(supernet.alpha)
  _, gw, ga = supernet.derivatives(1, w, alpha)
  dw, da = rng.normal(size=w.shape), rng.normal(size=alpha.shape)
  dw, da = dw / np.linalg.norm(dw), da / np.linalg.norm(da)
  for s, t, expected in ((1e-6, 0, gw @ dw), (0, 1e-6, ga @ da)):
    up = supernet.derivatives(1, w + s * dw, alpha + t * da)[0]
    down = supernet.derivatives(1, w - s * dw, alpha - t * da)[0]
    np.testing.assert_allclose((up - down) / 2e-6, expected, rtol=1e-6)


@in_float64
def test_amended_and_implicit_terms_against_differences(supernet):
  train, valid = supernet.close(0), supernet.close(1)

  def half(product, v):  # a "solver" whose product XLA shares
    return jax.tree.map(lambda a: 0.5 * a, product(v))

  def everything(w, alpha):
    v = hypergrad.weights_gradient(valid, w, alpha)
    return (
      hypergrad.hessian_product(train, w, alpha, v),
      hypergrad.amended(train, valid, w, alpha, eta=0.7),
      hypergrad.implicit(train, valid, w, alpha, solve=half),
    )

  hv, amended, implicit = jax.jit(everything)(supernet.w, supernet.alpha)
  _, v, first = supernet.derivatives(
    1, flat(supernet.w), flat(supernet.alpha)
  )
  number, _ = supernet.along(0, v)
  assert off(hv, number) < 1e-6
  assert off(amended.first, first) < 1e-12
  second = -0.7 * supernet.along(0, number)[1]
  assert off(amended.second, second) < 1e-6
  assert off(amended.gradient, first + second) < 1e-6
  second = -supernet.along(0, 0.5 * number)[1]
  assert off(implicit.second, second) < 1e-6
  assert off(implicit.gradient, first + second) < 1e-6


@in_float64
def test_unrolled_on_the_supernet(supernet):
  train, valid = supernet.close(0), supernet.close(1)
  virtual = functools.partial(
    hypergrad.momentum_step,
    buffer=supernet.buffer, lr=LR, momentum=MOMENTUM, decay=DECAY,
  )

  def reached(alpha, w):
    return valid(virtual(w, jax.grad(train)(w, alpha)), alpha)

  # Through the virtual step: reverse mode over reverse mode.
  through = jax.jit(jax.grad(reached))(supernet.alpha, supernet.w)
  found = jax.jit(
    lambda w, alpha: hypergrad.unrolled(
      train, valid, w, alpha, virtual=virtual
    )
  )(supernet.w, supernet.alpha)
  assert off(found.gradient, through) < 1e-9
  assert off(found.first, found.gradient) > 1e-3

  w, alpha = flat(supernet.w), flat(supernet.alpha)

  def value(at):
    gradient = supernet.derivatives(0, w, at)[1]
    step = MOMENTUM * flat(supernet.buffer) + gradient + DECAY * w
    return supernet.derivatives(1, w - LR * step, at)[0]

  for d in (flat(found.gradient), flat(found.second)):
    d = d / np.linalg.norm(d)
    number = (value(alpha + 1e-6 * d) - value(alpha - 1e-6 * d)) / 2e-6
    np.testing.assert_allclose(flat(found.gradient) @ d, number, rtol=1e-6)


@in_float64
def test_second_derivatives_go_through_the_batch_statistics(supernet):
  batch = supernet.batches[0]
  mixed = {name: relax.softmax(a) for name, a in supernet.alpha.items()}
  twice = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), batch)

  def own_moments(batch):
    _, outcome = jax.jit(
      lambda w: supernet.objective(w, supernet.stats, mixed, batch, None)
    )(supernet.w)
    new = outcome.stats
    return jax.tree.map(lambda n, o: (n - 0.9 * o) / 0.1, new, supernet.stats)

  # Running variances are n / (n - 1) times those of the batch: n is doubled
  # to get rid of it.
  own = jax.tree_util.tree_map_with_path(
    lambda path, one, two: (
      1 / (2 / two - 1 / one) if "var" in path[-1].key else one
    ),
    own_moments(batch),
    own_moments(twice),
  )
  # The same function value, with statistics that do not move.
  frozen = supernet.close(0, stats=own, train=False)

  def curvature(w, alpha, v):
    return frozen(w, alpha), hypergrad.hessian_product(frozen, w, alpha, v)

  loss, v, _ = supernet.derivatives(
    0, flat(supernet.w), flat(supernet.alpha)
  )
  frozen_loss, frozen_hv = jax.jit(curvature)(
    supernet.w, supernet.alpha, ravel_pytree(supernet.w)[1](v)
  )
  np.testing.assert_allclose(float(frozen_loss), loss, rtol=1e-9)
  assert off(frozen_hv, supernet.along(0, v)[0]) > 0.1
