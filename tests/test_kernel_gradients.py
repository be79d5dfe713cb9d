"""Kernels' gradients that a round of a loop leaves out, on a small network."""

import dataclasses
import functools

from derivatives import normal
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas import config as config_lib
from jnas import hypergrad
from jnas.ops import backend
from jnas.ops.cpu import affine, kernel_gradients
from jnas.ops.cpu.depthwise import depthwise
from jnas.ops.cpu.pointwise import pointwise
from jnas.runs import recipe


def loss(w, alpha):
  """A convolution and the identity, weighted in both ways that cells have."""
  x = normal(1, 2, 4, 4, 4, seed=2)
  y = pointwise(depthwise(jnp.tanh(x), w["window"]), w["point"])
  y = affine.affine(y, alpha["scales"])
  y = y + depthwise(y * y, alpha["factors"])
  return jnp.mean(jnp.sin(y))


@pytest.fixture
def point(x64):
  """Kernels and architecture parameters."""
  w = {"window": normal(1, 3, 3, 4), "point": normal(1, 4, 4, seed=1)}
  alpha = {"scales": normal(2, 1, 4, seed=3), "factors": normal(1, 1, 1, 4)}
  return w, alpha


def test_only_gradients_of_kernels_may_be_left_out(point):
  gradient = jax.grad(loss, (0, 1))

  @jax.jit
  def within(flag):
    with kernel_gradients.only_where(flag):
      return gradient(*point)

  whole = jax.jit(gradient)(*point)
  close(within(True), whole)
  by_kernel, by_alpha = within(False)
  close(by_alpha, whole[1])
  for leaf in jax.tree.leaves(by_kernel):
    np.testing.assert_array_equal(leaf, np.zeros_like(leaf))


def test_the_amended_term_is_that_of_whole_products(point):
  def of(products):
    return jax.jit(
      lambda w, alpha: hypergrad.amended(
        loss, loss, w, alpha, eta=0.1, products=products
      )
    )(*point)

  looped = functools.partial(
    hypergrad.looped_products, only_where=kernel_gradients.only_where
  )
  found = of(hypergrad.two_products)
  assert max(abs(leaf).max() for leaf in jax.tree.leaves(found.second)) > 1e-6
  for products in (looped, hypergrad.looped_products):
    close(of(products), found)


def test_a_search_leaves_them_out_where_loops_are_not_unrolled(point):
  config = config_lib.load("configs/amended_darts.py:quick")
  spec, seen = recipe.spec(config, 10), []

  def only_where(flag):
    seen.append(flag)
    return kernel_gradients.only_where(flag)

  own = dataclasses.replace(
    backend.CPU, kernel_gradients_only_where=only_where
  )
  estimate = recipe.estimator(config, "amended", "exact", spec, own)
  jax.eval_shape(
    lambda w, alpha: estimate(loss, loss, w, alpha, None, lambda x: x), *point
  )
  assert len(seen) == 1


def test_outside_all_gradients_are_computed():
  with pytest.raises(RuntimeError, match="stop"):
    with kernel_gradients.only_where(jnp.bool_(0)):
      assert len(kernel_gradients.flags()) == 1
      raise RuntimeError("stop")
  assert kernel_gradients.flags() == ()


def close(got, exact):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-14),
    got,
    exact,
  )
