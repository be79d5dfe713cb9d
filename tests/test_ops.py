"""Operators against the primitives of lax that they stand for, in float64."""

import functools

import derivatives
import equations
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


@pytest.mark.parametrize("size,dilation", [(3, 1), (5, 1), (3, 2), (5, 2)])
def test_merged_pairs_are_depthwise_then_pointwise(size, dilation):
  depthwise = normal(3, size, size, 4, seed=1)
  pointwise = normal(3, 6, 4, seed=2)

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


@pytest.mark.parametrize(
  "size,stride", [((3, 3), 1), ((3, 3), 2), ((1, 7), (1, 2)), ((5, 1), (2, 1))]
)
def test_windows_times_a_kernel_are_its_convolution(size, stride):
  kernel, probe = normal(*size, 3, 4, seed=1), normal(2, *IMAGE, 4, seed=2)

  def outcome(x, kernel, patches):
    y = ops.dense(x, kernel, stride, patches=patches)
    return (y * probe[:, : y.shape[1], : y.shape[2]]).sum(), y

  @jax.jit
  def both(*args):
    return [
      jax.grad(lambda *a, p=p: outcome(*a, p), (0, 1), has_aux=True)(*args)
      for p in (True, False)
    ]

  jax.tree.map(
    lambda x, y: close(x, y, 1e-11), *both(normal(2, *IMAGE, 3), kernel)
  )


def test_the_derivatives_of_a_merged_pair_are_those_of_the_pair():
  x, probe = normal(2, 6, 6, 3), normal(2, 3, 3, 4, seed=3)
  pair = normal(1, 5, 5, 3, seed=1), normal(1, 4, 3, seed=2)

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


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize(
  "shared,size,stride,dilation",
  [(True, 5, 2, 2), (False, 3, 2, 1)],
)
def test_both_forms_of_separable_convolutions_to_second_derivatives(
  dense, shared, size, stride, dilation
):
  def package(x, window, point):
    return ops.separable(x, window, point, stride, dilation, dense=dense)

  def plain(x, window, point):
    each = [x[0]] * 2 if shared else x
    return jnp.stack(
      [
        plain_cells.separable(x, w, p, stride, dilation)
        for x, w, p in zip(each, window, point, strict=True)
      ]
    )

  edges = 1 if shared else 2
  derivatives.check(
    package,
    plain,
    normal(edges, 2, 5, 4, 3),
    normal(2, size, size, 3, seed=1),
    normal(2, 4, 3, seed=2),
  )


def test_separable_convolutions_are_dense_on_accelerators_alone(monkeypatch):
  args = normal(1, 2, 4, 4, 3), normal(2, 3, 3, 3), normal(2, 3, 3)
  for backend, dense in (("cpu", 0), ("gpu", 1), ("tpu", 1)):
    monkeypatch.setattr(jax, "default_backend", lambda name=backend: name)
    found = equations.counted(lambda *args: ops.separable(*args), *args)
    assert found["conv_general_dilated"] == dense
    assert found["depthwise"] == found["pointwise"] == 1 - dense


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
  halves = normal(1, 2, 1, 2).astype(jnp.float32)
  assert jax.eval_shape(ops.halve, x, halves).dtype == jnp.bfloat16
  pair = [
    normal(*s).astype(jnp.float32) for s in ((3, 3, 3, 2), (3, 4, 2))
  ]
  for dense in (False, True):
    for edges in (1, 3):
      y = jax.eval_shape(
        functools.partial(ops.separable, dense=dense),
        jnp.stack([x] * edges), *pair,
      )
      assert (y.shape, y.dtype) == ((3, 1, 4, 4, 4), jnp.bfloat16)


def test_halve_is_two_strided_convolutions_one_pixel_apart():
  kernel = normal(3, 2, 5, 4, seed=1)

  @jax.jit
  def both(images):
    got = [ops.halve(x, kernel) for x in images]
    expected = [
      jnp.stack(
        [plain_cells.factorized_reduction(x, *each) for each in kernel]
      )
      for x in images
    ]
    return got, expected

  sizes = (8, 8), (7, 5), (6, 9), (1, 2)
  got, expected = both([normal(2, *size, 4) for size in sizes])
  jax.tree.map(close, got, expected)
  for y, (h, w) in zip(got, sizes, strict=True):
    assert y.shape == (3, 2, (h + 1) // 2, (w + 1) // 2, 10)


def test_halve_reads_even_pixels_then_odd_ones():
  x = jnp.arange(16.0).reshape(1, 4, 4, 1)
  (got,) = ops.halve(x, jnp.ones((1, 2, 1, 1)))
  np.testing.assert_array_equal(got[0, :, :, 0], [[0, 2], [8, 10]])
  np.testing.assert_array_equal(got[0, :, :, 1], [[5, 7], [13, 15]])


def test_halve_of_an_odd_size_sees_zeros_beyond_the_border():
  (got,) = ops.halve(jnp.ones((1, 3, 3, 1)), jnp.ones((1, 2, 1, 1)))
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
  known = set(genotype.OPERATIONS) | set(genotype.NAS_BENCH_201_OPERATIONS)
  assert known == parameterless | set(ops.CONVOLUTIONS)
