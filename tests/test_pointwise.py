"""1 x 1 convolutions against sums over channels, in float64."""

import functools

import derivatives
from derivatives import normal
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas.ops.cpu.pointwise import pointwise


def plain(x, kernel):
  return jnp.einsum("tnhwc,tdc->tnhwd", x, kernel)


@pytest.mark.parametrize("edges,d,c", [(1, 4, 3), (3, 2, 4), (2, 3, 3)])
def test_values_and_derivatives_to_second_order(edges, d, c, x64):
  x, kernel = normal(edges, 2, 3, 2, c), normal(edges, d, c, seed=1)
  assert jax.eval_shape(pointwise, x, kernel).shape == (edges, 2, 3, 2, d)
  derivatives.check(pointwise, plain, x, kernel)


def test_mapping_over_any_of_the_arguments(x64):
  x, kernel = normal(3, 2, 2, 2, 2, 4), normal(3, 2, 5, 4, seed=1)

  @jax.jit
  def both(x, kernel):
    return [
      (
        jax.vmap(f)(x, kernel),
        jax.vmap(f, (None, 0))(x[0], kernel),
        jax.vmap(jax.grad(lambda *a, f=f: jnp.sum(jnp.sin(f(*a))), (0, 1)))(
          x, kernel
        ),
      )
      for f in (pointwise, plain)
    ]

  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12),
    *both(x, kernel),
  )


def test_kernels_and_their_gradients_stay_in_float32():
  x = normal(2, 2, 3, 3, 4).astype(jnp.bfloat16)
  kernel = normal(2, 3, 4, seed=1).astype(jnp.float32)

  def loss(f, x, kernel):
    return jnp.sum(f(x, kernel).astype(jnp.float32) ** 2)

  @jax.jit
  def both(x, kernel):
    got = jax.grad(functools.partial(loss, pointwise), (0, 1))(x, kernel)
    exact = jax.grad(functools.partial(loss, plain), (0, 1))(
      x.astype(jnp.float32), kernel
    )
    return pointwise(x, kernel), got, exact

  y, got, exact = both(x, kernel)
  assert y.dtype == got[0].dtype == jnp.bfloat16
  assert got[1].dtype == jnp.float32
  for g, e in zip(got, exact, strict=True):
    error = abs(np.asarray(g, np.float32) - e).max() / abs(e).max()
    assert error < 0.02
