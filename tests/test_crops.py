"""Random resized crops against Pillow, and the rule on its own."""

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from jnas.data import augment, crops

RNG = np.random.default_rng(0)


def drawn(count, height, width, least):
  return [
    crops.window(RNG.random((crops.TRIES, 4)), height, width, least)
    for _ in range(count)
  ]


def test_windows_are_resized_as_pillow_does():
  x = RNG.integers(0, 256, (6, 12, 9, 3), np.uint8)
  windows = drawn(5, 12, 9, 0.08) + [crops.Window(0, 0, 12, 9)]
  stacked = crops.Window(*map(jnp.asarray, zip(*windows, strict=True)))
  found = augment.resized(x, stacked)
  for image, own, result in zip(x, windows, found, strict=True):
    box = own.left, own.top, own.left + own.width, own.top + own.height
    part = Image.fromarray(image).crop(box)
    expected = part.resize((9, 12), Image.Resampling.BILINEAR)
    # It rounds twice, once in each direction.
    np.testing.assert_allclose(result, np.asarray(expected), atol=1.01)
  np.testing.assert_allclose(found[-1], x[-1], atol=1e-4)  # all of it


def test_areas_ratios_and_places_are_those_of_the_rule():
  windows = drawn(4000, 400, 500, 0.08)
  top, left, height, width = np.array(windows).T
  area, ratio = height * width / (400 * 500), np.log(width / height)
  assert 0.079 < area.min() < 0.085 and 0.98 < area.max() <= 1
  assert abs(ratio).max() < np.log(4 / 3) + 0.02
  # Large windows of odd shapes do not fit and are drawn again.
  small = area < 0.5
  shares = np.histogram(area[small], 6, (0.08, 0.5))[0] / small.sum()
  np.testing.assert_allclose(shares, 1 / 6, atol=0.03)
  shares = np.histogram(ratio[small], 4, (-np.log(4 / 3), np.log(4 / 3)))[0]
  np.testing.assert_allclose(shares / small.sum(), 1 / 4, atol=0.04)
  for start, length, size in ((top, height, 400), (left, width, 500)):
    assert start.min() == 0 and (start + length).max() == size
    mean = (start / (size - length + 1)).mean()
    assert mean == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
  "height,width,expected",
  [
    (30, 90, (0, 25, 30, 40)),  # no window of all of the area fits
    (90, 30, (25, 0, 40, 30)),
    (30, 30, (0, 0, 30, 30)),
  ],
)
def test_what_never_fits_is_taken_from_the_middle(height, width, expected):
  ones = np.full((crops.TRIES, 4), 0.9)
  assert crops.window(ones, height, width, 1.0) == expected


def test_device_and_host_choose_alike_and_each_image_for_itself():
  keys = jax.random.split(jax.random.key(3), 5)
  found = augment.draw_windows(keys, 32, 24, 0.08)
  for n, key in enumerate(keys):
    uniform = jax.random.uniform(jax.random.fold_in(key, 1), (crops.TRIES, 4))
    own = crops.window(np.asarray(uniform), 32, 24, 0.08)
    assert own == tuple(int(part[n]) for part in found)
  x = RNG.integers(0, 256, (5, 32, 24, 3), np.uint8)
  args = dict(mean=(0.5,) * 3, std=(1.0,) * 3, pad=0, cutout=0)
  args |= dict(area=0.08, colours=0.4, hue=0.2)
  whole = augment.augment(keys, x, **args)
  assert whole.shape == x.shape and abs(whole).max() <= 0.5 + 1e-6
  part = augment.augment(keys[2:4], x[2:4], **args)
  np.testing.assert_allclose(whole[2:4], part, atol=1e-6)
  assert np.abs(whole - (x / 255 - 0.5)).max(axis=(1, 2, 3)).min() > 0.05
