"""Bytes between the forward and the backward pass, counted by hand."""

import jax
from jax import lax
import jax.numpy as jnp
import pytest

from jnas.runtime.residuals import kept_bytes

X = jax.ShapeDtypeStruct((5, 3), jnp.float32)
W = jax.ShapeDtypeStruct((3, 4), jnp.float32)


@pytest.mark.parametrize(
  "function, expected",
  [
    (lambda x, w: x + 1, 0),
    (lambda x, w: x @ w, 0),  # both are given
    (lambda x, w: jnp.sin(x) @ w, 2 * 4 * 15),  # the cosine, and the sine
    (lambda x, w: jnp.sin(x), 4 * 15),
    (lambda x, w: jnp.sin(x) ** 2, 2 * 4 * 15),  # the cosine, and the sine
    (lambda x, w: jax.checkpoint(jnp.sin)(x) @ w, 4 * 15),
    (lambda x, w: lax.stop_gradient(jnp.sin(x)) @ w, 4 * 15),
    (lambda x, w: jnp.exp(x), 4 * 15),  # itself, once
    (lambda x, w: jnp.exp(x.astype(jnp.bfloat16)), 2 * 15),
  ],
)
def test_what_is_kept(function, expected):
  assert kept_bytes(function, X, W) == expected


def test_of_a_batch_twice_as_large_it_is_twice_as_much():
  def loss(x, w):
    return jax.nn.relu(jnp.tanh(x @ w)).sum()

  double = jax.ShapeDtypeStruct((10, 3), jnp.float32)
  assert kept_bytes(loss, double, W) == 2 * kept_bytes(loss, X, W) > 0
