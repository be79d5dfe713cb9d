"""Pools on CPU against their definitions, in float64."""

import functools

import derivatives
from derivatives import normal
import equations
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas.ops import plain
from jnas.ops.cpu import affine, pools

pytestmark = pytest.mark.usefixtures("x64")

IMAGE = (7, 6)  # an odd and an even size
POOLS = {
  "max_pool": (pools.max_pool, plain.max_pool),
  "avg_pool": (pools.avg_pool, plain.avg_pool),
}


def close(got, expected, tolerance=1e-12):
  assert got.dtype == expected.dtype
  assert got.shape == expected.shape
  np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


def products(f, x, seed=7):
  """The pull-back of a random cotangent, and the push-forward of a tangent."""
  y, pull = jax.vjp(f, x)
  (back,) = pull(normal(*y.shape, seed=seed))
  forward = jax.jvp(f, (x,), (normal(*x.shape, seed=seed + 1),))[1]
  return back, forward


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", POOLS)
def test_pools_are_their_definitions_and_so_are_their_derivatives(name, stride):
  @jax.jit
  def both(large, small, smallest):
    forms = [functools.partial(f, stride=stride) for f in POOLS[name]]
    return [
      (f(large), f(small), f(smallest), products(f, large)) for f in forms
    ]

  # All below zero: a maximum that padded with zeros would show.
  images = [
    -jnp.abs(normal(2, *size, 3)) - 0.1 for size in (IMAGE, (4, 3), (1, 2))
  ]
  jax.tree.map(close, *both(*images))


def test_max_pool_in_bfloat16_picks_the_same_pixels():
  x = normal(1, 5, 5, 2).astype(jnp.bfloat16)
  got = jax.jit(lambda x: pools.max_pool(x, 2))(x)
  assert got.dtype == jnp.bfloat16
  close(got.astype(float), plain.max_pool(x.astype(float), 2))


def eager_maximum(x, stride):
  """As nine strided views of a padded image, which lax differentiates."""
  h, w = (-(-size // stride) for size in x.shape[1:3])
  padded = jnp.pad(
    x, ((0, 0), (1, 2), (1, 2), (0, 0)), constant_values=-np.inf
  )
  views = [
    padded[:, i : i + stride * h : stride, j : j + stride * w : stride]
    for i in range(3)
    for j in range(3)
  ]
  return functools.reduce(jnp.maximum, views)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("tied", [False, True])
def test_second_derivatives(name, stride, tied):
  x = normal(2, 5, 4, 3)
  # Few different values: most windows have several maxima.
  x = jnp.round(x) if tied else x
  forms = [functools.partial(f, stride=stride) for f in POOLS[name]]
  derivatives.check(*forms, x)


def test_mapping():
  x = normal(3, 2, 4, 5, 2)

  @jax.jit
  def both(x):
    return [
      [jax.vmap(functools.partial(products, f))(x) for f in forms]
      for forms in zip(*POOLS.values(), strict=True)
    ]

  jax.tree.map(close, *both(x))


@pytest.mark.parametrize("name", POOLS)
def test_gradients_have_the_type_of_the_features(name):
  x = normal(1, 5, 5, 2).astype(jnp.bfloat16)
  y, pull = jax.vjp(POOLS[name][0], x)
  assert y.dtype == pull(y)[0].dtype == jnp.bfloat16


def test_winners_are_those_of_the_maximum_that_was_computed():
  # XLA may compute the features once with the maximum and again with the
  # pixels that are compared with it, and not to the same last bit. Then no
  # pixel of a window is its maximum, and the gradient is 0 / 0.
  x, y = normal(2, 4, 4, 4), normal(2, 4, 4, 4, seed=1)
  p, q = normal(2, 1, 4, seed=2), normal(2, 1, 4, seed=3)

  def loss(pool, x, p, y, q):
    total = affine.affine(x[None], p)[0] + affine.affine(y[None], q)[0]
    return jnp.sum(jnp.sin(pool(total, 1)))

  # A program each, so that they share nothing.
  got, expected = (
    jax.jit(jax.grad(functools.partial(loss, pool), (0, 1, 2, 3)))(x, p, y, q)
    for pool in (pools.max_pool, eager_maximum)
  )
  for g, e in zip(got, expected, strict=True):
    np.testing.assert_allclose(g, e, rtol=0, atol=1e-11 * abs(e).max())


def test_a_derivative_of_a_checkpointed_gradient_keeps_the_rule():
  """JAX forgets custom derivatives there; those of primitives it keeps."""
  x = jnp.zeros((1, 4, 4, 1))  # every pixel of a window is its maximum

  @jax.checkpoint
  def f(x):
    return jnp.sum(pools.max_pool(x) ** 2)

  def second(x, u):
    return jax.jvp(jax.grad(f), (x,), (u,))[1]

  u = normal(*x.shape, seed=1)
  gather = functools.partial(jax.jvp, pools.max_pool, (x,))
  _, pull = jax.vjp(pools.max_pool, x)
  close(second(x, u), pull(2 * gather((u,))[1])[0])
  found = equations.counted(second, x, u)
  assert found["max_pool_gather"] and found["max_pool_scatter"]
  assert not found["max"]
