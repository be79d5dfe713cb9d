"""Data of segmentation: both layouts, what is wrong with them, random views."""

import pathlib
import tarfile

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from jnas.data import scaled_crops, segmentation

RNG = np.random.default_rng(0)


def image(size):
  return Image.fromarray(RNG.integers(0, 256, (*size, 3), np.uint8))


def mask(values, palette=False):
  found = Image.fromarray(np.asarray(values, np.uint8))
  if palette:
    found = found.convert("P")
    found.putpalette(RNG.integers(0, 256, 768).tolist())
    found.putdata(np.asarray(values).ravel().tolist())
  return found


def camvid(root):
  root = root / "camvid"
  for split, count in (("train", 3), ("val", 2)):
    for kind in ("images", "masks"):
      (root / split / kind).mkdir(parents=True)
    for i in range(count):
      image((4, 6)).save(root / split / "images" / f"{split}{i}.jpg")
      values = np.arange(24).reshape(4, 6) % 4
      mask(values).save(root / split / "masks" / f"{split}{i}.png")
  names = "0 sky\n1 tall pole\n2 road\n3 Unlabelled\n"
  (root / "classes.txt").write_text(names)
  return root


def voc(root):
  root = root / "VOCdevkit" / "VOC2012"
  lists = root / "ImageSets" / "Segmentation"
  for folder in (root / "JPEGImages", root / "SegmentationClass", lists):
    folder.mkdir(parents=True)
  sizes = {"a": (4, 6), "b": (5, 3), "c": (2, 2), "unused": (3, 3)}
  for stem, size in sizes.items():
    image(size).save(root / "JPEGImages" / f"{stem}.jpg")
    values = np.full(size, 20)
    values[0] = [segmentation.IGNORED] * size[1]
    mask(values, True).save(root / "SegmentationClass" / f"{stem}.png")
  (lists / "train.txt").write_text("a\nb\n")
  (lists / "val.txt").write_text("c\n")
  return root


def test_camvid_is_read_from_a_folder_and_from_a_tar(tmp_path):
  root = camvid(tmp_path)
  data = segmentation.load("camvid", root)
  assert data.classes == ("sky", "tall pole", "road")
  assert data.train.x.shape == (3, 4, 6, 4) and len(data.valid.x) == 2
  expected = np.arange(24).reshape(4, 6) % 4
  expected[expected == 3] = segmentation.IGNORED
  assert (data.train.x[..., 3] == expected).all()
  pixels = np.asarray(Image.open(root / "train" / "images" / "train1.jpg"))
  np.testing.assert_array_equal(data.train.x[1, ..., :3], pixels)
  colours = data.train.x[..., :3].reshape(-1, 3) / 255
  np.testing.assert_allclose(data.mean, colours.mean(0))
  np.testing.assert_allclose(data.std, colours.std(0))
  with tarfile.open(tmp_path / "data.tar.xz", "w:xz") as tar:
    tar.add(root, "data")
  packed = segmentation.load("camvid", tmp_path / "data.tar.xz")
  np.testing.assert_array_equal(packed.train.x, data.train.x)
  assert packed.test is None
  again = segmentation.load("camvid", root, test="val")
  np.testing.assert_array_equal(again.test.x, again.valid.x)
  assert again.mean == data.mean
  swapped = segmentation.load("camvid", root, 1, train="val", valid="train")
  assert len(swapped.train.x) == len(swapped.valid.x) == 1


def test_voc_is_read_from_a_folder_and_from_a_tar(tmp_path):
  root = voc(tmp_path)
  data = segmentation.load("voc", tmp_path / "VOCdevkit")
  assert len(data.classes) == 21 and data.classes[20] == "tv monitor"
  assert data.train.x.shape == (2, 5, 6, 4)
  assert data.train.sizes.tolist() == [[4, 6], [5, 3]]
  assert data.valid.sizes.tolist() == [[2, 2]]
  first = data.train.x[0]
  assert (first[0, :, 3] == segmentation.IGNORED).all()
  assert (first[1:4, :, 3] == 20).all()
  assert (first[4, :, 3] == segmentation.IGNORED).all()
  assert (first[4, 0, :3] == np.round(255 * np.asarray(data.mean))).all()
  with tarfile.open(tmp_path / "voc.tar", "w") as tar:
    tar.add(root, "VOCdevkit/VOC2012")
  packed = segmentation.load("voc", tmp_path / "voc.tar")
  np.testing.assert_array_equal(packed.train.x, data.train.x)


def write(root, name, content):
  path = root / name
  if content is None:
    path.unlink()
  elif isinstance(content, bytes | str):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
  else:
    content.save(path)


LISTED = "ImageSets/Segmentation/train.txt"
FAULTS = [
  (camvid, "classes.txt", None, "expected classes.txt in .*no such file"),
  (camvid, "classes.txt", "0 sky\n2 road\n", "a number from 0 on and a name"),
  (camvid, "classes.txt", "0 void\n1 a\n2 b\n", "what is unlabelled last"),
  (camvid, "classes.txt", "0 sky\n", "at least two classes"),
  (camvid, "train/masks/train1.png", None, "found no mask of 'train1'"),
  (camvid, "train/masks/train1.png", b"", "found no mask of 'train1'"),
  (camvid, "train/masks/train1.png", b"no png", "found 6 bytes that cannot be"),
  (camvid, "train/images/train0.jpg", b"\xff\xd8", "an image in .*0.jpg"),
  (camvid, "val/masks/val0.png", mask(np.zeros((4, 5))), r"found \(4, 5\) in"),
  (camvid, "val/masks/val0.png", mask(np.full((4, 6), 4)), "0 to 3.*found 4"),
  (camvid, "val/masks/val0.png", image((4, 6)), "one number a pixel.*mode RGB"),
  (voc, LISTED, None, r"Segmentation/train.txt in .*; found val"),
  (voc, LISTED, " \n", "expected names in .*train.txt; found none"),
  (voc, LISTED, "a\nmissing\n", "found no image of 'missing'"),
  (voc, "SegmentationClass/b.png", None, "found no mask of 'b'"),
  (voc, "SegmentationClass/b.png", mask(np.full((5, 3), 21)), "found 21"),
  (voc, "SegmentationClass/b.png", image((5, 3)), "found mode RGB"),
  (voc, "JPEGImages/c.jpg", image((3, 2)), r"its image, \(3, 2\) .*\(2, 2\)"),
]


@pytest.mark.parametrize("layout, name, content, told", FAULTS)
def test_a_malformed_folder_is_one_sentence(
  layout, name, content, told, tmp_path
):
  write(layout(tmp_path), name, content)
  kind = "voc" if layout is voc else "camvid"
  with pytest.raises(ValueError, match=told) as error:
    segmentation.load(kind, tmp_path)
  text = str(error.value)
  assert text.startswith("expected ") and "\n" not in text and len(text) < 500


@pytest.mark.parametrize(
  "name, path, more, told",
  [
    ("camvid", "nowhere", {}, "found nothing there"),
    ("camvid", "", {}, "got an empty path"),
    ("voc", ".", {}, "found none"),
    ("camvid", ".", {}, "expected classes.txt"),
    ("camvid", "camvid", {"test": "tset"}, "tset/images .*: train, val$"),
    ("shapes", "camvid", {}, "expected no path for shapes"),
    ("cityscapes", "", {}, "one of the data sets shapes, camvid, voc"),
  ],
)
def test_what_is_not_there_is_told(name, path, more, told, tmp_path):
  if path:
    camvid(tmp_path) if path == "camvid" else None
    path = tmp_path / path if path != "." else tmp_path
  with pytest.raises((ValueError, FileNotFoundError), match=told):
    segmentation.load(name, path, **more)


def test_shapes_are_made_of_the_seed():
  one, two, other = (segmentation.load("shapes", seed=s) for s in (0, 0, 1))
  np.testing.assert_array_equal(one.train.x, two.train.x)
  assert (one.train.x != other.train.x).any()
  labels = one.train.x[..., 3]
  assert np.unique(labels).tolist() == [0, 1, 2, 3, segmentation.IGNORED]
  # Every class has its share, and rims are thin.
  shares = [(labels == k).mean() for k in (0, 1, 2, 3, 255)]
  assert min(shares[:4]) > 0.04 and shares[4] < 0.15


def coded(h, w):
  """Colours that tell each pixel's row and column, and classes likewise."""
  rows, columns = np.mgrid[:h, :w].astype(np.float32)
  x = np.stack([rows, columns, 0 * rows], -1)
  labels = (rows * w + columns).astype(np.uint8)
  return jnp.asarray(x), jnp.asarray(labels)


@pytest.mark.parametrize(
  "scale, top, left, mirrored",
  [(1, 0, 0, False), (1, 3, 2, True), (2, 5, 8, False), (0.5, 0, 0, False)],
)
def test_image_and_classes_stay_together(scale, top, left, mirrored):
  h, w, crop = 12, 14, 8
  x, labels = coded(h, w)
  window = scaled_crops.Window(
    *(jnp.float32(v) for v in (scale, top, left)), jnp.asarray(mirrored)
  )
  size = jnp.asarray([h, w])
  found, seen = scaled_crops.view(x, labels, size, window, crop)
  for i in range(crop):
    for j in range(crop):
      column = crop - 1 - j if mirrored else j
      at = (top + i + 0.5) / scale, (left + column + 0.5) / scale
      if at[0] >= h or at[1] >= w:
        assert seen[i, j] == segmentation.IGNORED and not found[i, j].any()
        continue
      centre = np.clip([at[0] - 0.5, at[1] - 0.5], 0, [h - 1, w - 1])
      np.testing.assert_allclose(found[i, j, :2], centre, atol=1e-5)
      # The nearest pixel, not a mean of two classes.
      assert seen[i, j] == int(at[0]) * w + int(at[1])


def test_what_is_outside_of_a_smaller_image_is_never_seen():
  x, labels = coded(12, 14)
  x = x.at[5:].set(1e6).at[:, 7:].set(1e6)
  size = jnp.asarray([5, 7])
  for scale in (0.8, 1.0, 1.6):
    window = scaled_crops.Window(
      *(jnp.float32(v) for v in (scale, 0, 0)), jnp.asarray(False)
    )
    found, seen = scaled_crops.view(x, labels, size, window, 16)
    assert found.max() < 10
    covered = np.asarray(seen) != segmentation.IGNORED
    assert covered.sum() == round(5 * scale) * round(7 * scale)


def test_views_are_drawn_of_each_examples_key():
  x = RNG.integers(0, 255, (16, 12, 14, 4), np.uint8)
  sizes = jnp.full((16, 2), 12)
  keys = jax.random.split(jax.random.key(0), 16)
  run = jax.jit(
    lambda keys, x, sizes: scaled_crops.scaled_crops(
      keys, x, sizes, (0.5,) * 3, (0.25,) * 3, crop=8, scales=(0.5, 2.0),
      flip=True,
    )
  )
  found, seen = run(keys, x, sizes)
  turned = run(keys[::-1], x[::-1], sizes)
  np.testing.assert_array_equal(turned[0][::-1], found)
  np.testing.assert_array_equal(turned[1][::-1], seen)
  assert found.shape == (16, 8, 8, 3) and seen.shape == (16, 8, 8)


def test_draws_cover_scales_places_and_both_sides():
  keys = jax.random.split(jax.random.key(0), 4000)
  size = jnp.asarray([20, 30])
  w = jax.jit(jax.vmap(
    lambda key: scaled_crops.draw(key, size, 16, (0.5, 2.0), True)
  ))(keys)
  assert w.scale.min() < 0.51 and w.scale.max() > 1.99
  np.testing.assert_allclose(w.scale.mean(), 1.25, atol=0.02)
  np.testing.assert_allclose(w.mirrored.mean(), 0.5, atol=0.03)
  for start, length in ((w.top, 20), (w.left, 30)):
    room = np.maximum(np.round(length * np.asarray(w.scale)) - 16, 0)
    assert (start >= 0).all() and (start <= room).all()
    wide = room > 10
    np.testing.assert_allclose((start / room)[wide].mean(), 0.5, atol=0.03)
    assert (np.asarray(start)[wide] == room[wide]).any()


def test_the_real_camvid(real_data: pathlib.Path):
  packed = real_data / "camvid.tar.xz"
  if not packed.exists():
    pytest.skip("no CamVid")
  data = segmentation.load("camvid", packed, 4, valid="test")
  assert data.train.x.shape == (4, 180, 240, 4)
  assert len(data.classes) == 11 and data.classes[10] == "bicyclist"
  assert set(np.unique(data.train.x[..., 3])) <= {*range(11), 255}
