"""Each operation against Pillow, the policy against the paper's table."""

import collections
import functools
import io
import itertools
import tarfile
import types

import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
import numpy as np
from PIL import Image, ImageEnhance, ImageOps
import pytest

from jnas import config as config_lib
from jnas.data import augment, autoaugment, device
from jnas.runs import build
from jnas.training import batches

# The appendix of 1805.09501: operation, tenths of the probability, magnitude.
TABLE = """
Invert 1 7, Contrast 2 6
Rotate 7 2, TranslateX 3 9
Sharpness 8 1, Sharpness 9 3
ShearY 5 8, TranslateY 7 9
AutoContrast 5 8, Equalize 9 2
ShearY 2 7, Posterize 3 7
Color 4 3, Brightness 6 7
Sharpness 3 9, Brightness 7 9
Equalize 6 5, Equalize 5 1
Contrast 6 7, Sharpness 6 5
Color 7 7, TranslateX 5 8
Equalize 3 7, AutoContrast 4 8
TranslateY 4 3, Sharpness 2 6
Brightness 9 6, Color 2 8
Solarize 5 2, Invert 0 3
Equalize 2 0, AutoContrast 6 0
Equalize 2 8, Equalize 6 4
Color 9 9, Equalize 6 6
AutoContrast 8 4, Solarize 2 8
Brightness 1 3, Color 7 0
Solarize 4 5, AutoContrast 9 3
TranslateY 9 9, TranslateY 7 9
AutoContrast 9 2, Solarize 8 3
Equalize 8 8, Invert 1 3
TranslateY 7 9, AutoContrast 9 1
"""
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def grey(image):
  return 128 if image.mode == "L" else (128,) * 3


def moved(coefficients):
  """Pillow's affine transform; coefficients is of (value, width, height)."""
  return lambda image, value: image.transform(
    image.size,
    Image.Transform.AFFINE,
    coefficients(value, *image.size),
    Image.Resampling.NEAREST,
    fillcolor=grey(image),
  )


def enhanced(kind):
  return lambda image, value: kind(image).enhance(value)


def rotated(image, value):
  nearest = Image.Resampling.NEAREST
  return image.rotate(value, nearest, fillcolor=grey(image))


PILLOW = {
  "ShearX": moved(lambda v, w, h: (1, v, 0, 0, 1, 0)),
  "ShearY": moved(lambda v, w, h: (1, 0, 0, v, 1, 0)),
  "TranslateX": moved(lambda v, w, h: (1, 0, v * w, 0, 1, 0)),
  "TranslateY": moved(lambda v, w, h: (1, 0, 0, 0, 1, v * h)),
  "Rotate": rotated,
  "Color": enhanced(ImageEnhance.Color),
  "Contrast": enhanced(ImageEnhance.Contrast),
  "Sharpness": enhanced(ImageEnhance.Sharpness),
  "Brightness": enhanced(ImageEnhance.Brightness),
  "Posterize": lambda image, value: ImageOps.posterize(image, int(value)),
  "Solarize": ImageOps.solarize,
  "AutoContrast": lambda image, _: ImageOps.autocontrast(image),
  "Equalize": lambda image, _: ImageOps.equalize(image),
  "Invert": lambda image, _: ImageOps.invert(image),
}
# Share of pixels that may differ from Pillow, and by how much. Angles are
# float32 against double. Of the others Pillow truncates floats a little below a
# whole number: 90 * 1.3 is 116. Rounding instead of truncating would change
# half of the pixels.
NEARLY = {"Rotate": (0.002, 255), "AutoContrast": (0.1, 1)} | dict.fromkeys(
  ("Color", "Contrast", "Sharpness", "Brightness"), (0.05, 1)
)


def smooth(seed, height=32, width=32, channels=3, low=0, high=255):
  """A made-up picture: gradients, waves and some noise, from low to high."""
  rng = np.random.default_rng(seed)
  y, x = np.mgrid[:height, :width] / 32
  layers = []
  for _ in range(channels):
    a, b, c, d = rng.normal(size=4)
    noise = 0.1 * rng.normal(size=x.shape)
    layers.append(a * x + b * y + np.sin(3 * c * x + 3 * d * y) + noise)
  picture = np.stack(layers, -1)
  picture = (picture - picture.min()) / np.ptp(picture)
  return np.round(low + (high - low) * picture).astype(np.uint8)


IMAGES = {
  "full": smooth(0),
  "dull": smooth(1, low=60, high=160),
  "dark": smooth(2, low=0, high=30),
  "wide": smooth(3, height=24, width=40),
  "grey": smooth(4, channels=1),
  "flat": np.full((32, 32, 3), (7, 130, 255), np.uint8),
  "levels": smooth(5) // 64 * 64,
  "black": np.where(smooth(6) < 180, 0, smooth(6)).astype(np.uint8),
}


in_a_row = jax.jit(autoaugment.apply_batch)


def with_pillow(name, x, value):
  image = Image.fromarray(x[..., 0] if x.shape[-1] == 1 else x)
  return np.asarray(PILLOW[name](image, value)).reshape(x.shape)


@functools.cache
def compiled(name):
  return jax.jit(autoaugment.OPERATIONS[name])


def compare(name, x, value):
  found = compiled(name)(x.astype(np.float32), np.float32(value))
  assert found.dtype == jnp.float32 and found.shape == x.shape
  found, expected = np.asarray(found), with_pillow(name, x, value)
  off = np.abs(found - expected.astype(np.float32))
  share, most = NEARLY.get(name, (0, 0))
  assert (off > 0).mean() <= share and off.max() <= most, (value, off.mean())


@pytest.mark.parametrize("picture", IMAGES)
@pytest.mark.parametrize("name", PILLOW)
def test_against_pillow(name, picture):
  arguments = {
    autoaugment.argument(name, index, sign)
    for index in (0, 1, 3, 6, 7, 9)
    for sign in (-1, 1)
  }
  assert name not in ("Rotate", "Color") or len(arguments) == 11
  for value in sorted(arguments):
    compare(name, IMAGES[picture], value)


def test_against_pillow_on_photographs(real_data):
  path = real_data / "cifar10-jpeg.tar.xz"
  if not path.exists():
    pytest.skip(f"needs {path.name} among the real data")
  with tarfile.open(path) as tar:
    photographs = [
      np.asarray(Image.open(io.BytesIO(tar.extractfile(member).read())))
      for member in itertools.islice(
        (m for m in tar if m.name.endswith((".jpg", ".jpeg"))), 10
      )
    ]
  assert photographs[0].shape == (32, 32, 3)
  cases = {
    (name, autoaugment.argument(name, index, sign))
    for part in autoaugment.POLICY
    for name, _, index in part
    for sign in (-1, 1)
  }
  for x, (name, value) in itertools.product(photographs, sorted(cases)):
    compare(name, x, value)


def test_pictures_are_moved_where_they_should():
  x = smooth(0).astype(np.float32)
  left = autoaugment.translate_x(x, 0.25)
  np.testing.assert_array_equal(left[:, :24], x[:, 8:])
  np.testing.assert_array_equal(left[:, 24:], 128)
  down = autoaugment.translate_y(x, -0.25)
  np.testing.assert_array_equal(down[8:], x[:24])
  np.testing.assert_array_equal(down[:8], 128)
  np.testing.assert_array_equal(autoaugment.rotate(x, 90), np.rot90(x))
  sheared = np.asarray(autoaugment.shear_x(x, 1.0))
  for row in range(32):
    np.testing.assert_array_equal(sheared[row, : 31 - row], x[row, row + 1 :])


def test_policy_is_that_of_the_paper():
  expected = []
  for line in TABLE.strip().splitlines():
    parts = [part.split() for part in line.split(",")]
    expected.append(tuple((n, int(p) / 10, int(m)) for n, p, m in parts))
  assert autoaugment.POLICY == tuple(expected)
  assert len(autoaugment.POLICY) == 25
  counts = collections.Counter(n for part in expected for n, *_ in part)
  assert counts["Equalize"] == 9 and counts["ShearX"] == 0
  assert sum(counts.values()) == 50
  assert set(counts) | {"ShearX"} == set(autoaugment.OPERATIONS)
  assert set(autoaugment.RANGES) == set(autoaugment.OPERATIONS) == set(PILLOW)


def test_magnitudes():
  signed = "ShearX ShearY TranslateX TranslateY Rotate".split()
  last = dict(zip(signed, (0.3, 0.3, 150 / 331, 150 / 331, 30), strict=True))
  for name in (*signed, "Solarize"):
    ends = (0, last[name]) if name in last else (256, 0)
    for index, value in enumerate(np.linspace(*ends, 10)):
      np.testing.assert_allclose(
        [autoaugment.argument(name, index, sign) for sign in (-1, 1)],
        [-value if name in last else value, value],
        atol=1e-9,
      )


def test_magnitudes_that_are_not_spread_evenly():
  for name in ("Color", "Contrast", "Sharpness", "Brightness"):
    ends = [autoaugment.argument(name, 9, sign) for sign in (-1, 1)]
    np.testing.assert_allclose(ends, [0.1, 1.9])
    assert autoaugment.argument(name, 0, -1) == 1
  bits = [autoaugment.argument("Posterize", i, 1) for i in range(10)]
  assert bits == [8, 8, 7, 7, 6, 6, 5, 5, 4, 4]


def batch_of(count=8, channels=3):
  keys = jax.random.split(jax.random.key(2), count)
  return keys, np.stack([smooth(s, 16, 16, channels) for s in range(count)])


@functools.cache
def choices(count):
  keys = jax.random.split(jax.random.key(3), count)
  return jax.device_get(jax.jit(jax.vmap(autoaugment.draw))(keys))


def test_choices_follow_the_policy():
  policy, applied, negative = choices(50_000)
  share = np.bincount(policy, minlength=25) / len(policy)
  np.testing.assert_allclose(share, 1 / 25, atol=0.005)
  for i, part in enumerate(autoaugment.POLICY):
    of_part = applied[policy == i]
    expected = [p for _, p, _ in part]
    np.testing.assert_allclose(of_part.mean(0), expected, atol=0.05)
    both = (of_part[:, 0] & of_part[:, 1]).mean()
    np.testing.assert_allclose(both, np.prod(expected), atol=0.05)
  np.testing.assert_allclose(negative.mean(0), 0.5, atol=0.01)
  together = np.corrcoef(np.stack([policy, *negative.T]))
  assert np.abs(together - np.eye(3)).max() < 0.02


def test_choices_do_not_depend_on_those_of_the_crop():
  keys = jax.random.split(jax.random.key(3), 10_000)
  crop = augment.draw(keys, 32, 32, 4)
  policy = choices(10_000)
  rows = [*crop, policy.policy, *policy.applied.T, *policy.negative.T]
  together = np.corrcoef(np.stack(rows).astype(float))
  assert np.abs(together - np.eye(len(rows)))[:5, 5:].max() < 0.04


def test_images_follow_their_choices():
  count = 40
  keys = jax.random.split(jax.random.key(3), count)
  batch = np.stack([smooth(seed) for seed in range(count)])
  found = np.asarray(in_a_row(keys, batch))
  assert found.min() >= 0 and found.max() <= 255
  np.testing.assert_array_equal(found, np.round(found))
  policy, applied, negative = (c[:count] for c in choices(count))
  used = set()
  for n in range(count):
    expected = batch[n]
    for i, (name, _, index) in enumerate(autoaugment.POLICY[policy[n]]):
      if applied[n, i]:
        sign = -1 if negative[n, i] else 1
        value = autoaugment.argument(name, index, sign)
        expected = with_pillow(name, expected, value)
        used.add(name)
    off = np.abs(found[n] - expected)
    assert off.mean() < 0.5, (autoaugment.POLICY[policy[n]], off.mean())
  assert len(used) > 9 and not applied.all(1).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_alone_at_once_and_in_a_row_are_the_same(channels):
  keys, batch = batch_of(channels=channels)
  found = in_a_row(keys, batch)
  assert found.shape == batch.shape and found.dtype == jnp.float32
  np.testing.assert_array_equal(found, in_a_row(keys, batch))
  if channels == 3:
    at_once = jax.jit(jax.vmap(autoaugment.apply))(keys, batch)
    np.testing.assert_array_equal(found, at_once)
  single = jax.jit(autoaugment.apply)
  for n, image in enumerate(batch):
    np.testing.assert_array_equal(found[n], single(keys[n], image))
  assert (np.asarray(found) != in_a_row(keys[::-1], batch)).any()


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 2, 1), (1, 5, 3)])
def test_tiny_images(shape):
  for name in PILLOW:
    for value in (autoaugment.argument(name, 9, s) for s in (-1, 1)):
      compare(name, smooth(8, *shape), value)


@pytest.mark.parametrize("shape", [(4, 8, 8, 2), (4, 8, 8), (4, 8, 8, 4)])
def test_wrong_shapes(shape):
  keys = jax.random.split(jax.random.key(0), 4)
  with pytest.raises(ValueError, match="1 or 3 channels; got shape"):
    autoaugment.apply_batch(keys, jnp.zeros(shape))


def test_off_changes_nothing():
  keys, x = batch_of()
  args = dict(mean=MEAN, std=STD, pad=2, flip=True, cutout=4)
  without = augment.augment(keys, x, **args)
  np.testing.assert_array_equal(
    without, augment.augment(keys, x, **args, autoaugment=False)
  )
  choice = augment.draw(keys, 16, 16, 2)
  expected = augment.crop(x, choice.dy, choice.dx, 2)
  expected = augment.mirror(expected, choice.mirrored)
  expected = augment.normalise(expected, MEAN, STD)
  expected = augment.cut_out(expected, choice.cy, choice.cx, 4)
  np.testing.assert_allclose(without, expected, atol=2e-6)
  texts = [
    augment.augment.lower(keys, x, **args | more).as_text()
    for more in ({}, {"autoaugment": False}, {"pad": 0})
  ]
  assert texts[0] == texts[1] and "case" not in texts[2]
  # The one choice that is left is how a platform crops.
  cropped = jax.jit(augment.crop, static_argnums=3).lower(
    x, choice.dy, choice.dx, 2
  )
  crops = cropped.as_text().count("stablehlo.case")
  assert texts[0].count("stablehlo.case") == crops


def test_on_it_comes_after_flip_and_before_normalisation():
  keys, x = batch_of()
  args = dict(mean=MEAN, std=STD, pad=2, flip=True, cutout=4)
  found = augment.augment(keys, x, **args, autoaugment=True)
  choice = augment.draw(keys, 16, 16, 2)
  step = augment.crop(x, choice.dy, choice.dx, 2)
  step = augment.mirror(step, choice.mirrored)
  step = in_a_row(keys, step)
  step = ((np.asarray(step) / 255 - MEAN) / STD).astype(np.float32)
  step = augment.cut_out(step, choice.cy, choice.cx, 4)
  np.testing.assert_allclose(found, step, atol=2e-6)
  assert np.abs(found - augment.augment(keys, x, **args)).max() > 0.1
  # Alone, and of floats from 0 to 1.
  alone = dict(mean=MEAN, std=STD, pad=0, flip=False, autoaugment=True)
  found = augment.augment(keys, x, **alone)
  expected = np.asarray(in_a_row(keys, x)) / 255
  np.testing.assert_allclose(found, (expected - MEAN) / STD, atol=2e-6)
  floats = augment.augment(keys, (x / 255).astype(np.float32), **alone)
  np.testing.assert_array_equal(found, floats)


def test_wrong_type():
  keys, x = batch_of()
  with pytest.raises(ValueError, match="uint8 .* got int32"):
    augment.augment(keys, x.astype(np.int32), MEAN, STD, autoaugment=True)


def test_several_devices_equal_one():
  count = jax.device_count()
  if 8 % count or count < 2:
    pytest.skip(f"needs 2, 4 or 8 devices, not {count}")
  keys, x = batch_of()
  augmented = functools.partial(
    augment.augment, mean=MEAN, std=STD, pad=2, cutout=4, autoaugment=True
  )

  mesh = jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,))
  spread = jax.jit(
    jax.shard_map(augmented, mesh=mesh, in_specs=P("data"), out_specs=P("data"))
  )
  np.testing.assert_array_equal(spread(keys, x), augmented(keys, x))


@pytest.mark.parametrize("on", [False, True])
def test_the_field_reaches_the_batches(monkeypatch, on):
  seen = {}
  monkeypatch.setattr(
    batches.augment, "augment", lambda keys, x, *_, **kw: seen.update(kw) or x
  )
  config = config_lib.base()
  assert config.data.autoaugment is False
  config.data.autoaugment = on
  data = types.SimpleNamespace(mean=MEAN, std=STD)
  monkeypatch.setattr(build.parallel, "local_batch", lambda batch, _: batch)
  monkeypatch.setattr(build.parallel, "offset", lambda _: 0)
  split = device.split(jnp.zeros((64, 8, 8, 3)), jnp.zeros(64, int))
  build.draw(config, data, None)(split, "train", jnp.int32(0))
  assert seen["autoaugment"] is on
