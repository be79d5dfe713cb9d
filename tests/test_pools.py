"""Pools against windows of lax, in float64."""

import functools

import derivatives
from derivatives import normal
import equations
import jax
import jax.numpy as jnp
import numpy as np
import plain_cells
import pytest

from jnas.spaces import norm, pools

pytestmark = pytest.mark.usefixtures("x64")

IMAGE = (7, 6)  # an odd and an even size
POOLS = {"max_pool_3x3": pools.max_pool, "avg_pool_3x3": pools.avg_pool}


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
@pytest.mark.parametrize("name", ["max_pool_3x3", "avg_pool_3x3"])
def test_pools_are_reduce_windows_and_so_are_their_derivatives(name, stride):
  def package(x):
    return POOLS[name](x, stride)

  def plain(x):
    return plain_cells.pool(name, x, stride)

  @jax.jit
  def both(large, small, smallest):
    return [
      (f(large), f(small), f(smallest), products(f, large))
      for f in (package, plain)
    ]

  # All below zero: a maximum that padded with zeros would show.
  images = [
    -jnp.abs(normal(2, *size, 3)) - 0.1 for size in (IMAGE, (4, 3), (1, 2))
  ]
  jax.tree.map(close, *both(*images))


def test_avg_pool_divides_by_the_pixels_that_exist():
  pool = jax.jit(pools.avg_pool, static_argnums=1)
  close(pool(jnp.ones((1, 5, 4, 1)), 2), jnp.ones((1, 3, 2, 1)))
  x = jnp.arange(9.0).reshape(1, 3, 3, 1)
  corner, edge, centre = (0 + 1 + 3 + 4) / 4, (0 + 1 + 2 + 3 + 4 + 5) / 6, 4.0
  got = np.asarray(pool(x, 1))[0, :, :, 0]
  np.testing.assert_allclose(
    [got[0, 0], got[0, 1], got[1, 1]], [corner, edge, centre], rtol=1e-12
  )


def test_max_pool_gives_a_gradient_of_one_to_each_window_even_with_ties():
  gradient = jax.jit(jax.grad(lambda x: pools.max_pool(x).sum()))
  back = gradient(jnp.zeros((1, 4, 4, 1)))
  assert float(back.sum()) == pytest.approx(16, abs=1e-12)
  assert np.all(np.isfinite(back))


def test_max_pool_in_bfloat16_picks_the_same_pixels():
  x = normal(1, 5, 5, 2).astype(jnp.bfloat16)
  got = jax.jit(lambda x: pools.max_pool(x, 2))(x)
  assert got.dtype == jnp.bfloat16
  close(got.astype(float), plain_cells.pool("max_pool_3x3", x.astype(float), 2))


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
def test_second_derivatives(name, stride):
  # There is no second derivative of lax's maximum over windows.
  def plain(x):
    if name == "max_pool_3x3":
      return eager_maximum(x, stride)
    return plain_cells.pool(name, x, stride)

  derivatives.check(
    lambda x: POOLS[name](x, stride), plain, normal(2, 5, 4, 3)
  )


@pytest.mark.parametrize("stride", [1, 2])
def test_pixels_that_tie_share_what_their_windows_are_given(stride):
  # Few different values, so that every count of winners occurs.
  values = np.random.default_rng(0).integers(3, size=(1, 7, 6, 2)) - 5.0
  x = jnp.asarray(values)
  y = np.asarray(pools.max_pool(x, stride))
  given = np.asarray(normal(*y.shape, seed=1))
  expected, counts = np.zeros(x.shape), set()
  for _, h, w, c in np.ndindex(y.shape):
    top, left = max(stride * h - 1, 0), max(stride * w - 1, 0)
    window = (0, slice(top, stride * h + 2), slice(left, stride * w + 2), c)
    won = values[window] == values[window].max()
    counts.add(int(won.sum()))
    expected[window] += given[0, h, w, c] * won / won.sum()
  assert {1, 2, 3} <= counts
  run = jax.jit(
    lambda x, g: jax.vjp(lambda x: pools.max_pool(x, stride), x)[1](g)[0]
  )
  close(run(x, jnp.asarray(given)), jnp.asarray(expected))
  # And the push-forward is its transpose.
  tangent = normal(*x.shape, seed=2)
  forward = jax.jit(
    lambda x, t: jax.jvp(lambda x: pools.max_pool(x, stride), (x,), (t,))[1]
  )(x, tangent)
  np.testing.assert_allclose(
    np.sum(forward * given), np.sum(tangent * expected), rtol=1e-12
  )


def test_mapping():
  x = normal(3, 2, 4, 5, 2)

  @jax.jit
  def both(x):
    return [
      [jax.vmap(lambda x, f=f: products(f, x))(x) for f in POOLS.values()],
      [
        jax.vmap(
          lambda x, n=n: products(lambda x: plain_cells.pool(n, x, 1), x)
        )(x)
        for n in POOLS
      ],
    ]

  jax.tree.map(close, *both(x))


@pytest.mark.parametrize("name", POOLS)
def test_gradients_have_the_type_of_the_features(name):
  x = normal(1, 5, 5, 2).astype(jnp.bfloat16)
  y, pull = jax.vjp(POOLS[name], x)
  assert y.dtype == pull(y)[0].dtype == jnp.bfloat16


def test_winners_are_those_of_the_maximum_that_was_computed():
  # XLA may compute the features once with the maximum and again with the
  # pixels that are compared with it, and not to the same last bit. Then no
  # pixel of a window is its maximum, and the gradient is 0 / 0.
  x, y = normal(2, 4, 4, 4), normal(2, 4, 4, 4, seed=1)
  p, q = normal(2, 1, 4, seed=2), normal(2, 1, 4, seed=3)

  def loss(pool, x, p, y, q):
    total = norm.affine(x[None], p)[0] + norm.affine(y[None], q)[0]
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
