"""Two functions with the same values and first and second derivatives."""

import jax
import jax.numpy as jnp
import numpy as np


def normal(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def all_of(function, *args):
  """Value, push-forward, gradient, and both derivatives of the gradient.

  The gradient is that of sum(probe * sin(f)), so that its own derivatives
  neither vanish nor leave out the dependence on the cotangent.
  """
  tangents = [normal(*a.shape, seed=11 + i) for i, a in enumerate(args)]
  number = tuple(range(len(args)))

  def loss(*args):
    y = function(*args)
    return jnp.sum(normal(*y.shape, seed=10) * jnp.sin(y))

  def along(*args):
    gradients = jax.grad(loss, number)(*args)
    return sum(
      jnp.sum(t * jnp.sin(g)) for t, g in zip(tangents, gradients, strict=True)
    )

  value, forward = jax.jvp(function, args, tuple(tangents))
  gradient, product = jax.jvp(
    jax.grad(loss, number), args, tuple(tangents)
  )
  return {
    "value": value,
    "forward": forward,
    "gradient": gradient,
    "forward over reverse": product,
    "reverse over reverse": jax.grad(along, number)(*args),
  }


def check(got, expected, *args, tolerance=1e-11):
  """Compares all of them; relative to the largest entry of each array."""
  both = jax.jit(lambda *args: [all_of(f, *args) for f in (got, expected)])
  found, wanted = both(*args)
  # What this compares is there to compare.
  for name, tree in wanted.items():
    assert any(abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(tree)), name

  def close(path, x, y):
    name = jax.tree_util.keystr(path)
    assert x.dtype == y.dtype == jnp.float64, name
    assert x.shape == y.shape, name
    size = max(1.0, float(abs(y).max()))
    np.testing.assert_allclose(
      x, y, rtol=0, atol=tolerance * size, err_msg=name
    )

  jax.tree_util.tree_map_with_path(close, found, wanted)
