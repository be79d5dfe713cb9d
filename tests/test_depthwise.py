"""Depthwise convolutions against grouped ones, in float64."""

import functools

import derivatives
from derivatives import normal
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas.ops.cpu import depthwise as lib
from jnas.ops.cpu.depthwise import depthwise

LAYOUT = ("NHWC", "HWIO", "NHWC")


def grouped(x, kernel, stride=1, dilation=1):
  """One grouped convolution for each edge."""
  edges, size, _, channels = kernel.shape
  pad = dilation * (size - 1) // 2
  return jnp.stack(
    [
      lax.conv_general_dilated(
        x[t if len(x) > 1 else 0],
        kernel[t][:, :, None],
        (stride, stride),
        [(pad, pad)] * 2,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=LAYOUT,
        feature_group_count=channels,
      )
      for t in range(edges)
    ]
  )


@pytest.mark.parametrize("shared", [False, True])
def test_values_for_all_windows_strides_and_sizes(shared, x64):
  cases = [
    (size, stride, dilation, image)
    for size in (1, 3, 5, 7)
    for stride, dilation in ((1, 1), (2, 1), (1, 2), (2, 2))
    for image in ((6, 5), (1, 2))
  ]

  @jax.jit
  def both(images, kernels):
    return [
      [
        f(images[image], kernels[size], stride, dilation)
        for size, stride, dilation, image in cases
      ]
      for f in (depthwise, grouped)
    ]

  images = {
    image: normal(1 if shared else 2, 2, *image, 3)
    for _, _, _, image in cases
  }
  kernels = {size: normal(2, size, size, 3, seed=1) for size in (1, 3, 5, 7)}
  got, expected = both(images, kernels)
  for case, y, z in zip(cases, got, expected, strict=True):
    assert y.shape == z.shape and y.dtype == z.dtype == jnp.float64, case
    np.testing.assert_allclose(
      y, z, rtol=1e-12, atol=1e-12, err_msg=str(case)
    )


@pytest.mark.parametrize(
  "shared,size,stride,dilation,image",
  [
    (False, 3, 1, 1, (4, 3)),
    (True, 3, 2, 1, (4, 5)),
    (False, 3, 2, 1, (5, 4)),
    (True, 3, 1, 2, (4, 3)),
    (False, 5, 2, 2, (5, 4)),
    (True, 5, 1, 1, (3, 4)),
    (True, 1, 1, 1, (3, 2)),
  ],
)
def test_derivatives_to_second_order(
  shared, size, stride, dilation, image, x64
):
  derivatives.check(
    functools.partial(depthwise, stride=stride, dilation=dilation),
    functools.partial(grouped, stride=stride, dilation=dilation),
    normal(1 if shared else 2, 2, *image, 3),
    normal(2, size, size, 3, seed=1),
  )


def test_derivatives_to_third_order(x64):
  # Of all three forms at once: each has the two others as its derivatives.
  x, kernel = normal(1, 1, 4, 3, 2), normal(2, 3, 3, 2, seed=1)

  def third(function):
    def loss(x, kernel):
      return jnp.sum(jnp.sin(function(x, kernel, 2)))

    def again(loss):
      return lambda *args: sum(
        jnp.sum(jnp.sin(g)) for g in jax.grad(loss, (0, 1))(*args)
      )

    return jax.grad(again(again(loss)), (0, 1))(x, kernel)

  got, expected = jax.jit(lambda: [third(f) for f in (depthwise, grouped)])()
  for y, z in zip(got, expected, strict=True):
    assert abs(z).max() > 1e-3
    np.testing.assert_allclose(y, z, rtol=0, atol=1e-10 * abs(z).max())


@pytest.mark.parametrize("shared", [False, True])
def test_products_are_sums_over_examples_and_pixels(shared, x64):
  def plain(x, g):
    return jnp.sum(x * g, (1, 2, 3))

  x = normal(1 if shared else 2, 2, 3, 4, 3)
  derivatives.check(lib.products, plain, x, normal(2, 2, 3, 4, 3, seed=1))


def test_views_see_what_a_window_reads():
  x = jnp.arange(1.0, 13).reshape(1, 1, 3, 4, 1)
  padded = lib.padded(x, 1, (3, 4), fill=-1)
  seen = [
    v[0, 0, :, :, 0] for v in lib.views(padded, 3, (2, 2), 2, halo=1)
  ]
  assert len(seen) == 9
  np.testing.assert_array_equal(seen[0], [[-1, -1], [-1, 6]])
  np.testing.assert_array_equal(seen[4], [[1, 3], [9, 11]])
  np.testing.assert_array_equal(seen[5], [[2, 4], [10, 12]])
  np.testing.assert_array_equal(seen[8], [[6, 8], [-1, -1]])
  # Dilated, the last one reads two pixels on.
  padded = lib.padded(x, 2, (3, 4))
  seen = lib.views(padded, 3, (3, 4), 1, 2, halo=2)[8][0, 0, :, :, 0]
  np.testing.assert_array_equal(seen, [[11, 12, 0, 0], [0] * 4, [0] * 4])


def test_convolutions_with_one_halo_pad_what_they_read_once(x64):
  x = normal(1, 2, 6, 5, 3)
  kernels = [normal(2, size, size, 3, seed=size) for size in (3, 5)]

  def several(x, halo):
    return [depthwise(x, kernel, halo=halo) for kernel in kernels]

  compiled = {
    halo: jax.jit(several, static_argnums=1).lower(x, halo).compile()
    for halo in (0, 4)
  }
  pads = {m: found.as_text().count(" pad(") for m, found in compiled.items()}
  assert pads == {0: 2, 4: 1}
  for got, kernel in zip(compiled[4](x), kernels, strict=True):
    np.testing.assert_allclose(got, grouped(x, kernel), rtol=0, atol=1e-13)


def test_mapping_over_any_of_the_arguments(x64):
  x, kernel = normal(3, 1, 2, 4, 4, 2), normal(2, 3, 3, 3, 2, seed=1)

  @jax.jit
  def both(x, kernel):
    found = []
    for f in (depthwise, grouped):
      over_both = jax.vmap(f, (0, 1))(x, kernel)
      over_one = jax.vmap(f, (0, None))(x, kernel[:, 0])
      gradient = jax.vmap(
        jax.grad(lambda *args, f=f: jnp.sum(jnp.sin(f(*args))), (0, 1)),
        (None, 1),
      )(x[0], kernel)
      found.append((over_both, over_one, gradient))
    return found

  got, expected = both(x, kernel)
  assert got[0].shape == (3, 2, 2, 4, 4, 2)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-11, atol=1e-11),
    got, expected,
  )


def test_kernels_and_their_gradients_stay_in_float32():
  x = normal(1, 2, 4, 4, 2).astype(jnp.bfloat16)
  kernel = normal(2, 3, 3, 2, seed=1).astype(jnp.float32)

  def loss(f, x, kernel):
    return jnp.sum(f(x, kernel).astype(jnp.float32) ** 2)

  @jax.jit
  def both(x, kernel):
    y = depthwise(x, kernel)
    got = jax.grad(functools.partial(loss, depthwise), (0, 1))(x, kernel)
    exact = jax.grad(functools.partial(loss, grouped), (0, 1))(
      x.astype(jnp.float32), kernel
    )
    return y, got, exact

  y, got, exact = both(x, kernel)
  assert y.dtype == got[0].dtype == jnp.bfloat16
  assert got[1].dtype == jnp.float32
  for g, e in zip(got, exact, strict=True):
    error = abs(np.asarray(g, np.float32) - e).max() / abs(e).max()
    assert error < 0.02
  # One rounding of the result, of which bfloat16 keeps eight bits.
  exact = np.asarray(grouped(x.astype(jnp.float32), kernel))
  np.testing.assert_allclose(
    np.asarray(y, np.float32), exact, rtol=2**-8, atol=1e-6
  )
