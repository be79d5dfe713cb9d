"""The plain definitions against sums written out in numpy."""

from derivatives import normal
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas.ops import plain

pytestmark = pytest.mark.usefixtures("x64")


def summed(x, kernel, strides, dilation):
  """A convolution, one output after the other."""
  x, kernel = np.asarray(x), np.asarray(kernel)
  kh, kw = kernel.shape[:2]
  up, left = dilation * (kh - 1) // 2, dilation * (kw - 1) // 2
  padded = np.pad(x, ((0, 0), (up, up), (left, left), (0, 0)))
  out = [-(-n // s) for n, s in zip(x.shape[1:3], strides, strict=True)]
  y = np.zeros((len(x), *out, kernel.shape[3]))
  for h, w, i, j in np.ndindex(*out, kh, kw):
    top, start = strides[0] * h + dilation * i, strides[1] * w + dilation * j
    seen = padded[:, top, start]
    y[:, h, w] += seen @ kernel[i, j]
  return y


@pytest.mark.parametrize(
  "size,strides,dilation",
  [
    ((3, 3), (1, 1), 1),
    ((5, 5), (2, 2), 2),
    ((1, 7), (1, 2), 1),
    ((7, 1), (2, 1), 1),
    ((1, 1), (2, 2), 1),
  ],
)
@pytest.mark.parametrize("height", [5, 6])
def test_convolution(size, strides, dilation, height):
  x, kernel = normal(2, height, 5, 3), normal(*size, 3, 2, seed=1)
  got = plain.convolution(x, kernel, strides, dilation)
  expected = summed(x, kernel, strides, dilation)
  np.testing.assert_allclose(got, expected, rtol=0, atol=1e-13)


def test_separable_convolutions_are_one_convolution():
  x, window, point = normal(2, 5, 6, 3), normal(3, 3, 3), normal(4, 3, seed=1)
  kernel = np.einsum("ijc,dc->ijcd", window, point)
  np.testing.assert_allclose(
    plain.separable(x, window, point, 2, 2), summed(x, kernel, (2, 2), 2),
    rtol=0, atol=1e-12,
  )


def test_convolutions_compute_in_the_type_of_their_features():
  x = normal(1, 4, 4, 2).astype(jnp.bfloat16)
  kernel = normal(3, 3, 2, 2, seed=1)
  assert plain.convolution(x, kernel).dtype == jnp.bfloat16
  assert plain.pointwise(x, kernel[0, 0]).dtype == jnp.bfloat16


def test_a_factorized_reduction_reads_even_pixels_then_odd_ones():
  x = jnp.arange(16.0).reshape(1, 4, 4, 1)
  got = plain.factorized_reduction(x, jnp.ones((2, 1, 1)))
  np.testing.assert_array_equal(got[0, :, :, 0], [[0, 2], [8, 10]])
  np.testing.assert_array_equal(got[0, :, :, 1], [[5, 7], [13, 15]])


def test_that_of_an_odd_size_sees_zeros_beyond_the_border():
  x = jnp.ones((1, 3, 3, 1))
  got = plain.factorized_reduction(x, jnp.ones((2, 1, 1)))
  np.testing.assert_array_equal(got[0, :, :, 1], [[1, 0], [0, 0]])


def test_avg_pool_divides_by_the_pixels_that_exist():
  got = plain.avg_pool(jnp.ones((1, 5, 4, 1)), 2)
  np.testing.assert_allclose(got, jnp.ones((1, 3, 2, 1)), rtol=1e-15)
  x = jnp.arange(9.0).reshape(1, 3, 3, 1)
  got = np.asarray(plain.avg_pool(x))[0, :, :, 0]
  np.testing.assert_allclose(
    [got[0, 0], got[0, 1], got[1, 1]],
    [(0 + 1 + 3 + 4) / 4, (0 + 1 + 2 + 3 + 4 + 5) / 6, 4.0],
    rtol=1e-12,
  )


@pytest.mark.parametrize("stride", [1, 2])
def test_of_equal_pixels_the_first_has_the_gradient_of_a_maximum(stride):
  # Few different values, all below zero: a pad of zeros would win.
  values = np.random.default_rng(0).integers(3, size=(1, 7, 6, 2)) - 5.0
  y, pull = jax.vjp(lambda x: plain.max_pool(x, stride), jnp.asarray(values))
  given = np.asarray(normal(*y.shape, seed=1))
  expected, ties = np.zeros(values.shape), set()
  for _, h, w, c in np.ndindex(y.shape):
    top, left = max(stride * h - 1, 0), max(stride * w - 1, 0)
    window = values[0, top : stride * h + 2, left : stride * w + 2, c]
    assert y[0, h, w, c] == window.max()
    first = np.unravel_index(window.argmax(), window.shape)
    expected[0, top + first[0], left + first[1], c] += given[0, h, w, c]
    ties.add(int((window == window.max()).sum()))
  assert {1, 2, 3} <= ties
  np.testing.assert_allclose(pull(jnp.asarray(given))[0], expected, rtol=1e-12)


def test_batch_norm():
  x, scale, bias = np.asarray(normal(4, 3, 5, 2)), normal(2), normal(2, seed=2)
  mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
  scale, bias = np.asarray(scale), np.asarray(bias)
  expected = (x - mean) / np.sqrt(var + 1e-5)
  np.testing.assert_allclose(plain.batch_norm(x), expected, rtol=1e-12)
  np.testing.assert_allclose(
    plain.batch_norm(x, (bias, scale**2), scale, bias),
    (x - bias) / np.sqrt(scale**2 + 1e-5) * scale + bias,
    rtol=1e-12,
  )
