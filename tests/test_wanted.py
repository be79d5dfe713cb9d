"""Kernels' gradients that a round of a loop leaves out, on a small network."""

from derivatives import normal
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas import hypergrad, wanted
from jnas.spaces import norm
from jnas.spaces.depthwise import depthwise
from jnas.spaces.pointwise import pointwise


def loss(w, alpha):
  """A convolution and the identity, weighted in both ways that cells have."""
  x = normal(1, 2, 4, 4, 4, seed=2)
  y = pointwise(depthwise(jnp.tanh(x), w["window"]), w["point"])
  y = norm.affine(y, alpha["scales"])
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
    with wanted.within(flag):
      return gradient(*point)

  whole = jax.jit(gradient)(*point)
  close(within(True), whole)
  by_kernel, by_alpha = within(False)
  close(by_alpha, whole[1])
  for leaf in jax.tree.leaves(by_kernel):
    np.testing.assert_array_equal(leaf, np.zeros_like(leaf))


def test_the_amended_term_is_that_of_whole_products(point):
  def of(unroll):
    return jax.jit(
      lambda w, alpha: hypergrad.amended(
        loss, loss, w, alpha, eta=0.1, unroll=unroll
      )
    )(*point)

  found = of(False)
  assert max(abs(leaf).max() for leaf in jax.tree.leaves(found.second)) > 1e-6
  close(found, of(True))


def test_outside_everything_is_wanted():
  with pytest.raises(RuntimeError, match="stop"), wanted.within(jnp.bool_(0)):
    assert len(wanted.flags()) == 1
    raise RuntimeError("stop")
  assert wanted.flags() == ()


def close(got, exact):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-14),
    got,
    exact,
  )
