"""Hypergradients: closed forms, difference quotients, replicas."""

import functools
from typing import NamedTuple

import jax
from jax.flatten_util import ravel_pytree
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np
import pytest

from jnas import hypergrad, solve
from jnas.runtime import parallel

pytestmark = pytest.mark.usefixtures("x64")

LR, MOMENTUM, DECAY = 0.2, 0.9, 0.03


def flat(tree):
  return np.asarray(ravel_pytree(tree)[0])


def vector(tree):
  return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])


def off(found, expected):
  """The relative error of a tree or vector."""
  found, expected = flat(found), flat(expected)
  return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def virtual_step(buffer):
  return functools.partial(
    hypergrad.momentum_step,
    buffer=buffer,
    lr=LR,
    momentum=MOMENTUM,
    decay=DECAY,
  )


# A quadratic bi-level problem: every estimate has a closed form.


class Quadratic(NamedTuple):
  """L_train = w'Hw/2 + w'Ba + a'a, L_valid = (w-c)'Q(w-c)/2 + w'Ea + a'Pa/2."""

  h: np.ndarray
  b: np.ndarray
  c: np.ndarray
  q: np.ndarray
  e: np.ndarray
  p: np.ndarray

  def train(self, w, alpha):
    w, a = vector(w), vector(alpha)
    return w @ (self.h @ w) / 2 + w @ (self.b @ a) + a @ a

  def valid(self, w, alpha):
    w, a = vector(w), vector(alpha)
    d = w - self.c
    return d @ (self.q @ d) / 2 + w @ (self.e @ a) + a @ (self.p @ a) / 2

  def first(self, w, a):
    return self.e.T @ w + self.p @ a

  def v(self, w, a):
    return self.q @ (w - self.c) + self.e @ a


def spd(rng, n):
  m = rng.normal(size=(n, n))
  return m @ m.T / n + 0.5 * np.eye(n)


@pytest.fixture(scope="module")
def quadratic():
  rng = np.random.default_rng(0)
  problem = Quadratic(
    h=spd(rng, 7),
    b=rng.normal(size=(7, 5)),
    c=rng.normal(size=7),
    q=spd(rng, 7),
    e=rng.normal(size=(7, 5)),
    p=spd(rng, 5),
  )
  with jax.enable_x64(True):
    w, buffer = (
      {"a": jnp.asarray(rng.normal(size=(2, 2))),
       "b": jnp.asarray(rng.normal(size=3))}
      for _ in range(2)
    )
    alpha = {
      "normal": jnp.asarray(rng.normal(size=(2, 2))),
      "reduce": jnp.asarray(rng.normal(size=1)),
    }
  return problem, w, alpha, buffer


def neumann_inverse(h, scale, steps):
  """scale * sum_{k <= steps} (1 - scale h)^k, summed in the eigenbasis."""
  values, vectors = np.linalg.eigh(h)
  ratio = 1 - scale * values
  return vectors @ np.diag((1 - ratio ** (steps + 1)) / values) @ vectors.T


def closed_form(name, problem, w, a, buffer):
  """The total, the first and the second term, from the matrices."""
  h, b = problem.h, problem.b
  first, v = problem.first(w, a), problem.v(w, a)
  shifted = h + 0.3 * np.eye(len(h))
  if name == "first_order":
    second = np.zeros_like(a)
  elif name == "amended":
    second = -0.7 * b.T @ h @ v
  elif name == "unrolled":
    w = w - LR * (MOMENTUM * buffer + h @ w + b @ a + DECAY * w)
    first, v = problem.first(w, a), problem.v(w, a)
    second = -LR * b.T @ v
  elif name == "implicit_cg":
    second = -b.T @ np.linalg.solve(h, v)
  elif name == "implicit_cg_damped":
    second = -b.T @ np.linalg.solve(shifted, v)
  elif name == "implicit_neumann":
    second = -b.T @ neumann_inverse(shifted, 0.4, 5) @ v
  return first + second, first, second, problem.valid({"w": w}, {"a": a})


def estimate(name, train, valid, w, alpha, virtual, mean=hypergrad.identity):
  args, cg = (train, valid, w, alpha), solve.conjugate_gradients
  implicit = functools.partial(hypergrad.implicit, *args, mean=mean)
  match name:
    case "first_order":
      return hypergrad.first_order(*args, mean=mean)
    case "amended":
      return hypergrad.amended(*args, eta=0.7, mean=mean)
    case "amended_difference":
      return hypergrad.amended_difference(*args, eta=0.7, mean=mean)
    case "unrolled":
      return hypergrad.unrolled(*args, virtual=virtual, mean=mean)
    case "unrolled_difference":
      return hypergrad.unrolled_difference(*args, virtual=virtual, mean=mean)
    case "implicit_cg":
      return implicit(solve=functools.partial(cg, steps=8))
    case "implicit_cg_damped":
      return implicit(
        solve=functools.partial(cg, steps=8, damping=0.3)
      )
    case "implicit_neumann":
      form = functools.partial(
        solve.neumann, steps=5, scale=0.4, damping=0.3
      )
      return implicit(solve=form)


EXACT = (
  "first_order",
  "amended",
  "unrolled",
  "implicit_cg",
  "implicit_cg_damped",
  "implicit_neumann",
)
DIFFERENCES = ("amended_difference", "unrolled_difference")


@pytest.mark.parametrize("name", EXACT + DIFFERENCES)
def test_closed_form_on_a_quadratic(quadratic, name):
  problem, w, alpha, buffer = quadratic
  found = estimate(
    name, problem.train, problem.valid, w, alpha, virtual_step(buffer)
  )
  # Difference quotients of a quadratic are exact, but for rounding.
  bound = 1e-9 if name in DIFFERENCES else 1e-10
  total, first, second, loss = closed_form(
    name.removesuffix("_difference"), problem, flat(w), flat(alpha),
    flat(buffer),
  )
  assert jax.tree.structure(found.gradient) == jax.tree.structure(alpha)
  assert found.gradient["normal"].shape == (2, 2)
  np.testing.assert_allclose(flat(found.first), first, rtol=0, atol=1e-10)
  np.testing.assert_allclose(flat(found.second), second, rtol=0, atol=bound)
  np.testing.assert_allclose(flat(found.gradient), total, rtol=0, atol=bound)
  np.testing.assert_allclose(found.loss, loss, rtol=1e-12)
  if name != "first_order":
    assert np.linalg.norm(second) > 0.1


def test_implicit_is_the_derivative_along_the_optimal_weights(quadratic):
  problem, w, alpha, buffer = quadratic
  split, join = ravel_pytree(w)[1], ravel_pytree(alpha)[1]
  at = flat(alpha)

  def reached(a):
    best = -np.linalg.solve(problem.h, problem.b @ a)
    return float(problem.valid(split(best), join(a)))

  numbers = [
    (reached(at + 1e-3 * d) - reached(at - 1e-3 * d)) / 2e-3 for d in np.eye(5)
  ]
  best = split(-np.linalg.solve(problem.h, problem.b @ at))
  found = estimate(
    "implicit_cg", problem.train, problem.valid, best, alpha, None
  )
  np.testing.assert_allclose(flat(found.gradient), numbers, atol=1e-9)


@pytest.mark.parametrize(
  "name", ("amended", "unrolled", "implicit_neumann", "unrolled_difference")
)
def test_direct_dependence_of_training_on_alpha_does_not_matter(
  quadratic, name
):
  problem, w, alpha, buffer = quadratic

  def train(w, alpha):
    return problem.train(w, alpha) + 5 * jnp.sin(vector(alpha)).sum()

  one, other = (
    estimate(name, loss, problem.valid, w, alpha, virtual_step(buffer))
    for loss in (problem.train, train)
  )
  np.testing.assert_allclose(
    flat(one.gradient), flat(other.gradient), atol=1e-9
  )


# A smooth network: difference quotients, and batches over replicas.


def smooth_loss(x, y):
  """A mixture of tanh and identity, the mean over examples [N, 3], [N]."""

  def loss(w, alpha):
    mix = jax.nn.softmax(alpha["mix"])
    h = x @ w["in"]
    h = mix[0] * jnp.tanh(h) + mix[1] * h
    h = h * (1 + jnp.tanh(alpha["gate"]))[None]
    return jnp.mean((jnp.tanh(h @ w["out"]) - y) ** 2)

  return loss


@pytest.fixture(scope="module")
def smooth():
  rng = np.random.default_rng(1)
  with jax.enable_x64(True):
    make = functools.partial(
      jax.tree.map,
      lambda shape: jnp.asarray(rng.normal(size=shape)),
      is_leaf=lambda shape: isinstance(shape, tuple),
    )
    w, buffer = (make({"in": (3, 4), "out": (4,)}) for _ in range(2))
    alpha = make({"mix": (2,), "gate": (4,)})
    return w, alpha, buffer, tuple(make([(8, 3), (8,), (8, 3), (8,)]))


@pytest.mark.parametrize("name", ("amended", "unrolled"))
def test_difference_quotients_converge_to_the_exact_form(smooth, name):
  w, alpha, buffer, (xt, yt, xv, yv) = smooth
  train, valid = smooth_loss(xt, yt), smooth_loss(xv, yv)
  extra = (
    {"eta": 0.7} if name == "amended" else {"virtual": virtual_step(buffer)}
  )
  arguments = (train, valid, w, alpha)
  exact = jax.jit(lambda: getattr(hypergrad, name)(*arguments, **extra))()
  difference = getattr(hypergrad, f"{name}_difference")
  form = jax.jit(
    lambda epsilon: difference(*arguments, epsilon=epsilon, **extra)
  )
  errors = []
  for epsilon in (1e-1, 1e-2, 1e-3):
    found = form(epsilon)
    errors.append(off(found.second, exact.second))
  if name == "unrolled":
    # Central differences: a hundredth of the error for a tenth of the step.
    np.testing.assert_allclose(errors[1] / errors[0], 1e-2, rtol=0.2)
    np.testing.assert_allclose(errors[2] / errors[1], 1e-2, rtol=0.2)
  assert errors[2] < 1e-5 and errors[2] < 0.02 * errors[1] < 0.02 * errors[0]


def test_difference_quotients_follow_the_papers_rules(smooth):
  w, alpha, buffer, (xt, yt, xv, yv) = smooth
  train, valid = smooth_loss(xt, yt), smooth_loss(xv, yv)
  join = ravel_pytree(w)[1]

  derivatives = {
    loss: jax.jit(jax.grad(loss, (0, 1))) for loss in (train, valid)
  }

  def gradients(loss, at):
    return [flat(g) for g in derivatives[loss](join(at), alpha)]

  # Appendix A.4, equations 14 and 15 with the minus of equation 5.
  at = flat(w)
  v, first = gradients(valid, at)
  epsilon = 0.01 / np.linalg.norm(v)
  up = gradients(train, at + epsilon * v)[0]
  difference = up - gradients(train, at - epsilon * v)[0]
  up = gradients(train, at + difference / 2)[1]
  down = gradients(train, at - difference / 2)[1]
  second = -0.7 * (up - down) / (2 * epsilon)
  found = estimate("amended_difference", train, valid, w, alpha, None)
  np.testing.assert_allclose(flat(found.second), second, rtol=1e-9)
  np.testing.assert_allclose(flat(found.gradient), first + second, rtol=1e-9)
  exact = estimate("amended", train, valid, w, alpha, None).second
  assert float(solve.cosine(found.second, exact)) > 0.9  # and not the opposite

  # architect.py of DARTS: epsilon from the norm of d_w' L_valid(w'), around w.
  gradient = gradients(train, at)[0]
  stepped = at - LR * (MOMENTUM * flat(buffer) + gradient + DECAY * at)
  v, first = gradients(valid, stepped)
  r = 0.01 / np.linalg.norm(v)
  up, down = (gradients(train, at + s * r * v)[1] for s in (1, -1))
  second = -LR * (up - down) / (2 * r)
  found = estimate(
    "unrolled_difference", train, valid, w, alpha, virtual_step(buffer)
  )
  np.testing.assert_allclose(flat(found.second), second, rtol=1e-9)
  np.testing.assert_allclose(flat(found.gradient), first + second, rtol=1e-9)


def test_replicas_with_parts_of_the_batch_give_that_of_the_whole(smooth):
  w, alpha, buffer, data = smooth
  names = EXACT + DIFFERENCES

  def everything(mean, finish, xt, yt, xv, yv):
    train, valid = smooth_loss(xt, yt), smooth_loss(xv, yv)
    return finish({
      name: estimate(
        name, train, valid, w, alpha, virtual_step(buffer), mean=mean
      )
      for name in names
    })

  mesh = parallel.mesh(jax.devices()[:2])
  shared = PartitionSpec(parallel.AXIS)
  same = hypergrad.identity

  def over_replicas(*data):
    # The second: what comes out where only the result is averaged.
    return (
      everything(parallel.mean, same, *data),
      everything(same, parallel.mean, *data),
    )

  whole = jax.jit(functools.partial(everything, same, same))(*data)
  found, wrong = parallel.shard_step(
    over_replicas, mesh, (shared,) * 4, PartitionSpec()
  )(*data)
  for name in names:
    bound = 1e-9 if name in DIFFERENCES else 1e-12
    np.testing.assert_allclose(
      flat(found[name]), flat(whole[name]), rtol=bound, atol=bound
    )
    if name != "first_order":
      assert off(wrong[name].second, whole[name].second) > 1e-2, name
