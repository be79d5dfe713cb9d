"""The papers' toys, and the diagnostic that measures the paper's claim."""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np
import pytest

from jnas import hypergrad, solve
from jnas.algorithms import base
from jnas.runtime import parallel
from jnas.training import diagnose
from jnas.training.state import State, zero_totals

in_float64 = pytest.mark.usefixtures("x64")


# Appendix A.2 of Amended DARTS, and figure 2 of DARTS.


def toy_train(w, alpha):
  return (w * 1.0 - alpha) ** 2


def toy_valid(w, alpha):
  return (w * 2.0 - alpha) ** 2


@in_float64
@pytest.mark.parametrize("alpha", (-1.5, 0.25, 3.0))
def test_the_toy_of_appendix_a2_at_the_optimal_weights(alpha):
  args = toy_train, toy_valid, jnp.float64(alpha), jnp.float64(alpha)
  form = functools.partial(solve.conjugate_gradients, steps=1)
  found = hypergrad.implicit(*args, solve=form)
  assert float(found.first) == -2 * alpha
  assert float(found.second) == 4 * alpha
  assert float(found.gradient) == 2 * alpha
  # g1 - eta A H v = -2 alpha - eta (-2) (2) (4 alpha).
  assert float(hypergrad.amended(*args, eta=0.5).gradient) == 6 * alpha


@in_float64
@pytest.mark.parametrize(
  ("eta", "sign"), ((0.0, -1), (0.1, -1), (0.124, -1), (0.126, 1), (0.5, 1))
)
def test_the_toy_of_appendix_a2_runs_away_without_the_amended_term(eta, sign):
  # Both steps see the factor 2w - alpha; alpha is stable where the
  # coefficient 16 eta - 2 of it is positive, so from eta = 1/8.
  def step(carry, _):
    w, alpha = carry
    found = hypergrad.amended(toy_train, toy_valid, w, alpha, eta=eta)
    alpha -= 0.02 * found.gradient
    w -= 0.1 * jax.grad(toy_train)(w, alpha)
    return (w, alpha), jnp.abs(alpha)

  start = jnp.float64(0.5), jnp.float64(2.0)
  (w, alpha), path = jax.lax.scan(step, start, length=4000)
  assert np.all(sign * np.diff(path[200::200]) < 0)
  if eta == 0:
    assert path[-1] > 1e6
  if eta == 0.5:
    assert path[-1] < 1e-12 and abs(w) < 1e-12


@in_float64
@pytest.mark.parametrize(("xi", "end"), ((0.0, 2.0), (0.5, 1.0)))
def test_the_toy_of_darts_figure_2(xi, end):
  def train(w, alpha):
    return w**2 - 2 * alpha * w + alpha**2

  def valid(w, alpha):
    return alpha * w - 2 * alpha + 1

  def gradient(w, alpha):
    return hypergrad.unrolled(
      train, valid, w, alpha, virtual=lambda w, g: w - xi * g
    ).gradient

  for w, alpha in np.random.default_rng(0).normal(size=(5, 2)):
    closed = (w - xi * (2 * w - 2 * alpha) - 2) + 2 * xi * alpha
    found = gradient(jnp.float64(w), jnp.float64(alpha))
    np.testing.assert_allclose(found, closed, rtol=1e-12)

  def step(carry, _):
    w, alpha = carry
    alpha -= 0.05 * gradient(w, alpha)
    return (w - 0.05 * jax.grad(train)(w, alpha), alpha), None

  start = jnp.float64(-2.0), jnp.float64(2.0)
  (w, alpha), _ = jax.lax.scan(step, start, length=2000)
  np.testing.assert_allclose((alpha, w), end, atol=1e-8)


# The cosine of an estimate's second term with the implicit one.

RNG = np.random.default_rng(5)
ROOT = RNG.normal(size=(6, 6))
H = ROOT @ ROOT.T / 6 + 0.3 * np.eye(6)
B = RNG.normal(size=(6, 4))
W, ALPHA = RNG.normal(size=6), RNG.normal(size=4)


def pair(state, train, valid):
  """Quadratics whose matrices depend on the data [N, 6], as means."""

  def loss(w, alpha):
    seen = train @ w
    varying = (seen**2).mean() / 2 + seen.mean() * alpha.sum()
    return w @ (H @ w) / 2 + w @ (B @ alpha) + varying

  def held_out(w, alpha):
    d = w - valid.mean(0)
    return d @ d / 2 + alpha @ alpha

  del state
  return loss, held_out


def measured(estimate, *, steps=6, damping=0.0, devices=1, closed=pair):
  mesh = parallel.mesh(jax.devices()[:devices])
  whole, shared = PartitionSpec(), PartitionSpec(parallel.AXIS)
  measure = diagnose.implicit_cosine(
    estimate,
    closed,
    lambda state: lambda w, gradient: w - 0.1 * gradient,
    mean=parallel.mean,
    compile=lambda fn, count: parallel.shard_step(
      fn, mesh, (whole, shared, shared, whole)[:count], whole
    ),
    steps=steps,
    damping=damping,
  )
  w, alpha = jnp.asarray(W), jnp.asarray(ALPHA)
  state = State(jnp.int32(0), w, {}, alpha, (), (), zero_totals())
  rng = np.random.default_rng(0)
  return measure(state, *(jnp.asarray(rng.normal(size=(4, 6))) for _ in "tv"))


def expected(power, damping=0.0, virtual=0.0):
  """The cosine of -B' H^power v(w') with -B' (H + damping I)^-1 v(w)."""
  rng = np.random.default_rng(0)
  train, valid = (rng.normal(size=(4, 6)) for _ in "tv")
  h, mixed = H + train.T @ train / 4, B + train.mean(0)[:, None]
  v = W - valid.mean(0)
  stepped = v - virtual * (h @ W + mixed @ ALPHA)
  a = mixed.T @ np.linalg.matrix_power(h, power) @ stepped
  b = mixed.T @ np.linalg.solve(h + damping * np.eye(6), v)
  return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


@in_float64
def test_the_cosine_of_the_implicit_term_with_itself_is_one():
  estimate = base.estimator("implicit_cg", steps=8, damping=0.0)
  np.testing.assert_allclose(measured(estimate), 1.0, rtol=0, atol=1e-9)
  estimate = base.estimator("implicit_cg", steps=8, damping=0.5)
  assert measured(estimate) < 1 - 1e-4
  np.testing.assert_allclose(
    measured(estimate, damping=0.5), 1.0, rtol=0, atol=1e-9
  )


@in_float64
def test_the_cosine_of_the_opposite_term_is_minus_one():
  form = base.estimator("implicit_cg", steps=8, damping=0.0)

  def opposite(*args):
    found = form(*args)
    return found._replace(second=-found.second)

  np.testing.assert_allclose(measured(opposite), -1.0, rtol=0, atol=1e-9)


@in_float64
@pytest.mark.parametrize("devices", (1, 2))
def test_the_cosines_of_the_estimates_are_those_of_their_matrices(devices):
  amended = base.estimator("amended", eta=0.3)
  cosine = expected(1, damping=0.2)
  assert abs(cosine) < 0.99
  np.testing.assert_allclose(
    measured(amended, damping=0.2, devices=devices), cosine, rtol=1e-9
  )
  unrolled = base.estimator("unrolled")
  np.testing.assert_allclose(
    measured(unrolled, devices=devices), expected(0, virtual=0.1), rtol=1e-9
  )
  # One conjugate gradient only scales v.
  def rayleigh(*args):
    return hypergrad.implicit(
      *args[:4], mean=args[5], solve=lambda product, v: v
    )

  found = measured(rayleigh, steps=1, devices=devices)
  np.testing.assert_allclose(found, 1.0, rtol=1e-9)


@in_float64
def test_the_cosine_of_a_search_without_second_order_is_zero():
  assert measured(base.estimator("first_order")) == 0.0


@in_float64
def test_the_appendix_toy_has_cosine_one_with_the_right_sign():
  def closed(state, train, valid):
    return tuple(
      lambda w, alpha, x=x: jnp.sum((w * x - alpha[:1].sum()) ** 2) / 6
      for x in (1.0, 2.0)
    )

  amended = base.estimator("amended", eta=0.1)
  np.testing.assert_allclose(measured(amended, closed=closed), 1.0, atol=1e-9)

  def printed(*args):  # equation 15 as it stands in the paper
    found = amended(*args)
    return found._replace(second=-found.second)

  np.testing.assert_allclose(measured(printed, closed=closed), -1.0, atol=1e-9)
