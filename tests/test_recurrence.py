"""The scan whose kernels' gradients are taken last, against `lax.scan`."""

import chex
import jax
from jax import extend, lax
from jax.interpreters import partial_eval
import jax.numpy as jnp
import numpy as np
import pytest

from jnas.spaces import recurrence

T, B, H = 4, 3, 5


def step(product, carry, x, shared):
  """Reads of two ranks, and a carry, an input and a scale that all matter."""
  x, valid = x
  c, h = jnp.split(x + product(0, carry), 2, axis=-1)
  new = jnp.tanh(c) * h + shared * carry
  both = jnp.stack([new, carry])
  c, h = jnp.split(product(1, both), 2, axis=-1)
  out = (jax.nn.sigmoid(c) * h * both).sum(0)
  return jnp.where(valid, out, carry), new + out


def plain(step, kernels, carry, xs, shared):
  return lax.scan(
    lambda carry, x: step(lambda i, r: r @ kernels[i], carry, x, shared),
    carry,
    xs,
  )


def arguments():
  rng = np.random.default_rng(0)
  shapes = (H, 2 * H), (H, 2 * H), (B, H), (T, B, 2 * H), ()
  return tuple(jnp.asarray(rng.normal(size=shape)) for shape in shapes)


def loss(scan):
  valid = jnp.arange(T) < T - 1

  def of(arguments):
    w0, w1, carry, x, shared = arguments
    last, ys = scan(step, [w0, w1], carry, (x, valid), shared)
    return jnp.sin(last).sum() + jnp.square(ys).mean()

  return of


def products(scan):
  """Gradients and both second derivatives in a direction."""
  at = arguments()
  u = jax.tree.map(lambda a: jnp.cos(a + 1), at)
  gradient = jax.grad(loss(scan))

  def along(at):
    parts = jax.tree.map(lambda a, b: (a * b).sum(), gradient(at), u)
    return sum(jax.tree.leaves(parts))

  return (
    loss(scan)(at),
    gradient(at),
    jax.jvp(gradient, (at,), (u,))[1],
    jax.grad(along)(at),
  )


@pytest.mark.parametrize("compiled", [False, True])
def test_values_and_derivatives_are_those_of_a_plain_scan(compiled):
  with jax.enable_x64(True):
    wrap = jax.jit if compiled else lambda f: f
    got = wrap(lambda: products(recurrence.scan))()
    right = wrap(lambda: products(plain))()
    chex.assert_trees_all_close(got, right, rtol=1e-12, atol=1e-12)


def test_seeds_are_mapped():
  with jax.enable_x64(True):
    at = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), arguments())
    got, right = (
      jax.vmap(jax.grad(loss(scan)))(at) for scan in (recurrence.scan, plain)
    )
    chex.assert_trees_all_close(got, right, rtol=1e-12, atol=1e-12)


def products_in_loops(jaxpr, inside=False):
  """Shapes of the products that are computed at every time."""
  for eqn in jaxpr.eqns:
    if inside and eqn.primitive.name == "dot_general":
      yield eqn.outvars[0].aval.shape
    for inner in extend.core.jaxprs_in_params(eqn.params):
      loop = inside or eqn.primitive.name == "scan"
      yield from products_in_loops(inner, loop)


def test_no_gradient_of_a_kernel_is_added_up_in_the_loop():
  def of(scan):
    traced = jax.make_jaxpr(jax.grad(loss(scan)))(arguments()).jaxpr
    used, _ = partial_eval.dce_jaxpr(traced, [True] * len(traced.outvars))
    return set(products_in_loops(used))

  kernels = {(H, 2 * H), (2 * H, H)}
  assert kernels & of(plain)
  assert not kernels & of(recurrence.scan)
