"""Colour jitter against Pillow and the standard library."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageEnhance
import pytest

from jnas.data import jitter

X = np.random.default_rng(0).integers(0, 256, (7, 6, 3), np.uint8)
X[0, 0] = X[0, 0, 0]  # one grey pixel
UNIT = jnp.asarray(X, jnp.float32) / 255


@pytest.mark.parametrize(
  "name,enhance",
  [
    ("brightness", ImageEnhance.Brightness),
    ("contrast", ImageEnhance.Contrast),
    ("saturation", ImageEnhance.Color),
  ],
)
@pytest.mark.parametrize("factor", [0.6, 1.0, 1.4])
def test_as_pillow_does(name, enhance, factor):
  found = getattr(jitter, name)(UNIT, jnp.float32(factor))
  expected = np.asarray(enhance(Image.fromarray(X)).enhance(factor))
  np.testing.assert_allclose(255 * found, expected, atol=1.5)  # it rounds


@pytest.mark.parametrize("turn", [-0.2, 0.0, 0.07, 0.2, 0.5])
def test_hue_as_the_standard_library_has_it(turn):
  found = np.asarray(jitter.hue(UNIT, jnp.float32(turn)))
  pixels = (X / 255).reshape(-1, 3)
  for pixel, result in zip(pixels, found.reshape(-1, 3), strict=True):
    h, s, v = colorsys.rgb_to_hsv(*pixel)
    expected = colorsys.hsv_to_rgb((h + turn) % 1, s, v)
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_one_of_24_orders_and_factors_of_its_own():
  keys = jax.random.split(jax.random.key(0), 40)
  found = jax.vmap(lambda key: jitter.apply(key, UNIT, 0.4, 0.2))(keys)
  flat = np.asarray(found).reshape(40, -1)
  assert np.isfinite(flat).all() and flat.min() >= 0 and flat.max() <= 1
  assert len(np.unique(flat.round(4), axis=0)) == 40
  # Twice brighter, then less contrast: not the same the other way round.
  orders = {
    tuple(np.asarray(jnp.argsort(jax.random.uniform(order, (4,)))))
    for order, _ in (
      jax.random.split(jax.random.fold_in(key, 2)) for key in keys
    )
  }
  assert len(orders) > 12
  same = jitter.apply(keys[0], UNIT, 0.0, 0.0)
  np.testing.assert_allclose(same, UNIT, atol=1e-6)


def test_grey_images_have_no_hue():
  grey = UNIT[..., :1]
  assert jitter.hue(grey, jnp.float32(0.2)) is grey
  found = jitter.apply(jax.random.key(1), grey, 0.4, 0.2)
  assert found.shape == grey.shape and not np.array_equal(found, grey)
