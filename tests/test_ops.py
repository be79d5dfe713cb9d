"""Operators against the primitives of lax that they stand for, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import plain_cells
import pytest

from jnas import genotype
from jnas.spaces import ops

pytestmark = pytest.mark.usefixtures("x64")

IMAGE = (7, 6)  # an odd and an even size


def normal(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


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


@pytest.mark.parametrize("size,dilation", [(3, 1), (5, 1), (3, 2), (5, 2)])
def test_merged_pairs_are_depthwise_then_pointwise(size, dilation):
  depthwise = normal(3, size, size, 4, seed=1)
  pointwise = normal(3, 4, 6, seed=2)

  @jax.jit
  def both(x):
    got, expected = [], []
    for stride in (1, 2):
      kernel = ops.merge(depthwise, pointwise)
      got.append(ops.conv(x, kernel, stride, dilation))
      pairs = zip(depthwise, pointwise, strict=True)
      separate = [
        plain_cells.separable(x, d, p, stride, dilation) for d, p in pairs
      ]
      expected.append(jnp.concatenate(separate, -1))
    return got, expected

  jax.tree.map(close, *both(normal(2, *IMAGE, 4)))


def test_the_derivatives_of_a_merged_pair_are_those_of_the_pair():
  x, probe = normal(2, 6, 6, 3), normal(2, 3, 3, 4, seed=3)
  pair = normal(1, 5, 5, 3, seed=1), normal(1, 3, 4, seed=2)

  def merged(x, depthwise, pointwise):
    y = ops.conv(x, ops.merge(depthwise, pointwise), 2, 2)
    return jnp.sum(probe * y)

  def apart(x, depthwise, pointwise):
    y = plain_cells.separable(x, depthwise[0], pointwise[0], 2, 2)
    return jnp.sum(probe * y)

  @jax.jit
  def both(*args):
    return [jax.grad(f, (0, 1, 2))(*args) for f in (merged, apart)]

  jax.tree.map(close, *both(x, *pair))


def test_conv_takes_a_size_and_a_stride_for_each_axis():
  shapes = [(1, 7), (7, 1), (3, 1), (1, 1)]
  kernels = [normal(*s, 3, 2, seed=1) for s in shapes]
  strides = (1, 2), (2, 1), (1, 1)

  @jax.jit
  def both(x):
    got, expected = {}, {}
    for kernel in kernels:
      for stride in strides:
        pad = tuple((k - 1) // 2 for k in kernel.shape[:2])
        case = f"{kernel.shape} {stride}"
        got[case] = ops.conv(x, kernel, stride)
        expected[case] = plain_cells.convolution(x, kernel, stride, pad)
        assert got[case].shape[1:3] == (
          -(-IMAGE[0] // stride[0]),
          -(-IMAGE[1] // stride[1]),
        )
    return got, expected

  jax.tree.map(close, *both(normal(2, *IMAGE, 3)))


def test_conv_computes_in_the_type_of_its_features():
  x = normal(1, 4, 4, 2).astype(jnp.bfloat16)
  got = jax.eval_shape(ops.conv, x, normal(3, 3, 2, 2, seed=1))
  assert got.dtype == jnp.bfloat16
  halves = normal(2, 1, 2, 1).astype(jnp.float32)
  assert jax.eval_shape(ops.halve, x, halves).dtype == jnp.bfloat16


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", ["max_pool_3x3", "avg_pool_3x3"])
def test_pools_are_reduce_windows_and_so_are_their_derivatives(name, stride):
  pool = {"max_pool_3x3": ops.max_pool, "avg_pool_3x3": ops.avg_pool}[name]

  def package(x):
    return pool(x, stride)

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
  pool = jax.jit(ops.avg_pool, static_argnums=1)
  close(pool(jnp.ones((1, 5, 4, 1)), 2), jnp.ones((1, 3, 2, 1)))
  x = jnp.arange(9.0).reshape(1, 3, 3, 1)
  corner, edge, centre = (0 + 1 + 3 + 4) / 4, (0 + 1 + 2 + 3 + 4 + 5) / 6, 4.0
  got = np.asarray(pool(x, 1))[0, :, :, 0]
  np.testing.assert_allclose(
    [got[0, 0], got[0, 1], got[1, 1]], [corner, edge, centre], rtol=1e-12
  )


def test_max_pool_gives_a_gradient_of_one_to_each_window_even_with_ties():
  gradient = jax.jit(jax.grad(lambda x: ops.max_pool(x).sum()))
  back = gradient(jnp.zeros((1, 4, 4, 1)))
  assert float(back.sum()) == pytest.approx(16, abs=1e-12)
  assert np.all(np.isfinite(back))


def test_max_pool_in_bfloat16_picks_the_same_pixels():
  x = normal(1, 5, 5, 2).astype(jnp.bfloat16)
  got = jax.jit(lambda x: ops.max_pool(x, 2))(x)
  assert got.dtype == jnp.bfloat16
  close(got.astype(float), plain_cells.pool("max_pool_3x3", x.astype(float), 2))


def test_halve_is_two_strided_convolutions_one_pixel_apart():
  kernel = normal(2, 3, 4, 5, seed=1)

  @jax.jit
  def both(images):
    got = [ops.halve(x, kernel) for x in images]
    expected = [
      jnp.concatenate(
        [
          plain_cells.factorized_reduction(x, kernel[0, t], kernel[1, t])
          for t in range(3)
        ],
        -1,
      )
      for x in images
    ]
    return got, expected

  sizes = (8, 8), (7, 5), (6, 9), (1, 2)
  got, expected = both([normal(2, *size, 4) for size in sizes])
  jax.tree.map(close, got, expected)
  for y, (h, w) in zip(got, sizes, strict=True):
    assert y.shape == (2, (h + 1) // 2, (w + 1) // 2, 30)


def test_halve_reads_even_pixels_then_odd_ones():
  x = jnp.arange(16.0).reshape(1, 4, 4, 1)
  got = ops.halve(x, jnp.ones((2, 1, 1, 1)))
  np.testing.assert_array_equal(got[0, :, :, 0], [[0, 2], [8, 10]])
  np.testing.assert_array_equal(got[0, :, :, 1], [[5, 7], [13, 15]])


def test_halve_of_an_odd_size_sees_zeros_beyond_the_border():
  got = ops.halve(jnp.ones((1, 3, 3, 1)), jnp.ones((2, 1, 1, 1)))
  np.testing.assert_array_equal(got[0, :, :, 1], [[1, 0], [0, 0]])


@pytest.mark.parametrize("fan_in", [1, 9, 400])
def test_initial_weights_are_uniform_within_the_root_of_the_fan_in(fan_in):
  drawn = ops.fan_in_uniform(fan_in)(jax.random.key(0), (50, 100))
  bound = fan_in**-0.5
  assert drawn.dtype == jnp.float32
  assert 0.999 * bound < float(jnp.abs(drawn).max()) <= bound
  assert abs(float(drawn.mean())) < 0.03 * bound
  # Of a uniform distribution: its bound over the root of three.
  assert float(drawn.std()) == pytest.approx(bound / 3**0.5, rel=0.03)


def test_every_operator_of_the_genotypes_is_one_the_networks_can_build():
  parameterless = {"none", "max_pool_3x3", "avg_pool_3x3", "skip_connect"}
  assert set(genotype.OPERATIONS) == parameterless | set(ops.CONVOLUTIONS)
