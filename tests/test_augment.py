"""Each piece against plain numpy, and the whole one image at a time."""

import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest

from jnas.data import augment

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
RNG = np.random.default_rng(0)


def batch(n=6, height=7, width=5):
  x = RNG.integers(1, 256, (n, height, width, 3), np.uint8)  # 0 is padding
  return jax.random.split(jax.random.key(1), n), x


def plain(x, dy, dx, mirrored, cy, cx, pad, flip, cutout):
  """One image, in loops: DARTS's transform as its code describes it."""
  height, width, channels = x.shape
  out = np.zeros((height, width, channels))
  for i in range(height):
    for j in range(width):
      column = width - 1 - j if flip and mirrored else j
      row, column = (i + dy - pad, column + dx - pad) if pad else (i, column)
      inside = 0 <= row < height and 0 <= column < width
      pixel = x[row, column] / 255 if inside else np.zeros(channels)
      out[i, j] = (pixel - MEAN) / STD
      if cutout and (cy - cutout // 2 <= i < cy - cutout // 2 + cutout and
                     cx - cutout // 2 <= j < cx - cutout // 2 + cutout):
        out[i, j] = 0
  return out


@pytest.mark.parametrize("pad", [0, 2])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("cutout", [0, 3, 4, 16])
def test_against_plain_numpy(pad, flip, cutout):
  keys, x = batch()
  found = augment.augment(
      keys, x, MEAN, STD, pad=pad, flip=flip, cutout=cutout)
  assert found.dtype == jnp.float32 and found.shape == x.shape
  choice = jax.device_get(augment.draw(keys, 7, 5, pad))
  expected = np.stack([
      plain(image, *(c[n] for c in choice), pad, flip, cutout)
      for n, image in enumerate(x)])
  np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_crops_of_accelerators_are_those_of_cpu(kind):
  pad, x = 2, batch(25)[1].astype(kind)
  if kind == np.float32:
    x = x / np.float32(255)
  dy, dx = np.divmod(np.arange(25), 5)
  expected = np.stack([
      np.pad(image, ((pad, pad), (pad, pad), (0, 0)))[i:i + 7, j:j + 5]
      for image, i, j in zip(x, dy, dx, strict=True)])
  for found in (
      jax.jit(augment.crop, static_argnames="pad")(x, dy, dx, pad=pad),
      jax.jit(augment._selected)(x, dy - pad, dx - pad)):
    assert found.dtype == kind
    np.testing.assert_array_equal(found, expected)


def test_choices_are_uniform():
  keys = jax.random.split(jax.random.key(0), 20_000)
  # With even sizes two choices from one word would go together.
  choice = augment.draw(keys, 8, 10, 2)
  for values, size in zip(choice, (5, 5, 2, 8, 10), strict=True):
    share = np.bincount(np.asarray(values), minlength=size) / len(keys)
    assert len(share) == size
    np.testing.assert_allclose(share, 1 / size, atol=0.015)
  together = np.corrcoef(np.stack([np.asarray(c) for c in choice]))
  assert abs(together - np.eye(5)).max() < 0.03


def test_switching_a_piece_off_leaves_the_others_alone():
  keys, x = batch()
  args = dict(mean=MEAN, std=STD, pad=2, flip=True)
  without = augment.augment(keys, x, **args, cutout=0)
  cut = augment.augment(keys, x, **args, cutout=2)
  changed = np.asarray(cut != without)
  assert (np.asarray(cut)[changed] == 0).all()
  assert (changed.any(-1).sum((1, 2)) <= 4).all() and changed.any()


def test_even_cutout_is_that_of_darts():
  for cy, cx in ((0, 0), (3, 2), (6, 4), (1, 4)):
    mask = np.ones((7, 5))
    mask[np.clip(cy - 2, 0, 7):np.clip(cy + 2, 0, 7),
         np.clip(cx - 2, 0, 5):np.clip(cx + 2, 0, 5)] = 0
    found = augment.cut_out(
        jnp.ones((1, 7, 5, 1)), jnp.array([cy]), jnp.array([cx]), 4)
    np.testing.assert_array_equal(found[0, ..., 0], mask)


def test_nothing_switched_on_is_normalisation():
  keys, x = batch()
  found = augment.augment(keys, x, MEAN, STD, pad=0, flip=False, cutout=0)
  np.testing.assert_array_equal(
      found, jax.jit(augment.normalise)(x, MEAN, STD))
  np.testing.assert_allclose(
      found, (x / 255 - MEAN) / np.array(STD), atol=2e-6)
  program = augment.augment.lower(
      keys, x, MEAN, STD, pad=0, flip=False, cutout=0).as_text()
  assert "gather" not in program and "threefry" not in program


def test_floats_are_pixels_from_0_to_1():
  keys, x = batch()
  from_bytes = augment.augment(keys, x, MEAN, STD, cutout=2)
  from_floats = augment.augment(
      keys, (x / 255).astype(np.float32), MEAN, STD, cutout=2)
  np.testing.assert_allclose(from_bytes, from_floats, atol=2e-6)
  half = augment.augment(keys, x, MEAN, STD, cutout=2, dtype=jnp.bfloat16)
  np.testing.assert_array_equal(half, from_bytes.astype(jnp.bfloat16))


def test_halves_with_their_keys_equal_the_whole():
  keys, x = batch(8)
  whole = augment.augment(keys, x, MEAN, STD, cutout=3)
  halves = [augment.augment(keys[part], x[part], MEAN, STD, cutout=3)
            for part in (slice(0, 4), slice(4, 8))]
  np.testing.assert_array_equal(whole, jnp.concatenate(halves))


def test_several_devices_equal_one():
  count = jax.device_count()
  if count < 2:
    pytest.skip("one device")
  keys, x = batch(2 * count)
  mesh = jax.make_mesh((count,), ("data",), axis_types=(AxisType.Auto,))
  spread = jax.jit(jax.shard_map(
      lambda k, x: augment.augment(k, x, MEAN, STD, cutout=3), mesh=mesh,
      in_specs=P("data"), out_specs=P("data")))
  np.testing.assert_array_equal(
      spread(keys, x), augment.augment(keys, x, MEAN, STD, cutout=3))


def test_the_program_is_small():
  keys, x = batch(64, 32, 32)
  program = augment.augment.lower(keys, x, MEAN, STD, cutout=16).as_text()
  assert len(program.splitlines()) < 400


@pytest.mark.parametrize(("change", "match"), [
    ({"keys": lambda k: k[:3]}, "N keys"),
    ({"keys": jax.random.key_data}, "N keys"),
    ({"keys": lambda k: jnp.zeros(6, jnp.uint32)}, "one typed key an example"),
    ({"keys": lambda k: jax.random.split(jax.random.key(0, impl="rbg"), 6)},
     "Threefry"),
    ({"x": lambda x: x[0]}, "images .N, H, W, C."),
    ({"x": lambda x: x.astype(np.int32)}, "uint8 .* got int32"),
    ({"mean": lambda m: m[:2]}, "each of 3 channels"),
    ({"std": lambda s: 0.5}, "each of 3 channels"),
    ({"pad": lambda p: -1}, "pad >= 0"),
    ({"cutout": lambda c: -1}, "cutout >= 0"),
])
def test_wrong_arguments(change, match):
  keys, x = batch()
  args = dict(keys=keys, x=x, mean=MEAN, std=STD, pad=1, cutout=1)
  args |= {name: f(args[name]) for name, f in change.items()}
  with pytest.raises(ValueError, match=match):
    augment.augment(**args)
