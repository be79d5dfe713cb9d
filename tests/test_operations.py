"""Operations counted from equations against counts by hand."""

import jax
from jax import lax
import jax.numpy as jnp

from benchmarks.operations import count
from jnas.ops.cpu.depthwise import depthwise
from jnas.ops.cpu.pointwise import pointwise

X = jax.ShapeDtypeStruct((3, 2, 4, 4, 5), jnp.float32)
PIXELS = 3 * 2 * 4 * 4


def flop(f, *args):
  return count(jax.make_jaxpr(f)(*args).jaxpr).flop


def test_convolutions_and_what_carries_their_gradients():
  kernel = jnp.zeros((3, 3, 3, 5))
  assert flop(depthwise, X, kernel) == 2 * PIXELS * 5 * 9
  both = jax.grad(lambda x, k: depthwise(x, k).sum(), (0, 1))
  assert flop(both, X, kernel) >= 3 * 2 * PIXELS * 5 * 9
  point = jnp.zeros((3, 7, 5))
  assert flop(pointwise, X, point) == 2 * PIXELS * 5 * 7
  shared = jax.ShapeDtypeStruct((1, *X.shape[1:]), X.dtype)
  assert flop(depthwise, shared, kernel) == 2 * PIXELS * 5 * 9


def test_a_derivative_in_both_arguments_is_two_products():
  kernel, point = jnp.zeros((3, 3, 3, 5)), jnp.zeros((3, 7, 5))

  def derivative(f):
    return lambda *args: jax.jvp(f, args, args)

  once = flop(depthwise, X, kernel)
  assert flop(derivative(depthwise), X, kernel) == 3 * once
  once = flop(pointwise, X, point)
  assert flop(derivative(pointwise), X, point) == 3 * once

  def gradient(x, k):
    return jax.grad(lambda x, k: (depthwise(x, k) ** 2).sum(), (0, 1))(x, k)

  # Forward, back and for the kernel, and as many along in both arguments.
  twice = flop(derivative(gradient), X, kernel)
  assert twice >= 3 * 3 * 2 * PIXELS * 5 * 9


def test_products_and_dense_convolutions():
  a, b = jnp.zeros((4, 6)), jnp.zeros((6, 8))
  assert flop(jnp.dot, a, b) == 2 * 4 * 6 * 8
  image, kernel = jnp.zeros((2, 4, 4, 3)), jnp.zeros((3, 3, 3, 7))

  def conv(x, k):
    return lax.conv_general_dilated(
      x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )

  assert flop(conv, image, kernel) == 2 * (2 * 4 * 4 * 7) * 9 * 3


def test_a_loop_counts_as_often_as_it_runs():
  a = jnp.zeros((4, 4))

  def once(x):
    return x @ x

  def loop(x):
    return lax.scan(lambda x, _: (once(x), None), x, length=5)[0]

  assert flop(loop, a) == 5 * flop(once, a)
