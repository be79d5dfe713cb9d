"""Batches of image files: the same whoever reads them, and from any step on."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import jax
import jax.numpy as jnp
from made_up_images import CLASSES, folder
import numpy as np
from PIL import Image
import pytest

from jnas import config as config_lib
from jnas.data import crops, decoding, sources, stream
from jnas.data import files as files_lib
from jnas.data.fingerprint import fingerprint
from jnas.runs import feeds
from jnas.runtime import parallel
from jnas.training import batches as feed_lib

SIZE = 16


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  return folder(tmp_path_factory.mktemp("images") / "set")


def split(root, workers=1, refuse=True):
  data = sources.load(
    "imagenet", root, size=SIZE, workers=workers, refuse=refuse
  )
  return files_lib.FileSplit(data.train_x, data.train_y)


def batches(own, rows=slice(0, 5), seed=3, least=0.08, ahead=3):
  return stream.Batches(
    own, batch=5, rows=rows, seed=seed, name="train", least=least, ahead=ahead
  )


def fetched(own, steps, **options):
  reader = batches(own, **options)
  return [reader.fetch(step, stop=11) for step in steps]


def assert_same(found, expected):
  for one, other in zip(found, expected, strict=True):
    for a, b in zip(one, other, strict=True):
      np.testing.assert_array_equal(a, b)


def test_what_a_folder_holds(root):
  data = sources.load("imagenet", root, size=SIZE)
  assert data.train_x.shape == (24, SIZE, SIZE, 3)
  assert data.test_x.shape == (9, SIZE, SIZE, 3)
  assert data.classes == CLASSES and data.mean == files_lib.MEAN
  assert data.train_y.tolist() == sum(([i] * 8 for i in range(3)), [])
  assert data.train_x.names[8] == b"train/n02/n02_0.JPEG"
  # As an array, it can be drawn from, and is known by its files.
  some = sources.load("imagenet", root, 6, size=SIZE)
  assert np.bincount(some.train_y).tolist() == [2, 2, 2]
  assert fingerprint(*some) != fingerprint(*data)


def test_a_file_of_another_size_is_other_data(tmp_path):
  root = folder(tmp_path / "set")
  known = fingerprint(*sources.load("imagenet", root, size=SIZE))
  assert fingerprint(*sources.load("imagenet", root, size=SIZE)) == known
  with open(root / "val" / "n02" / "n02_1.JPEG", "ab") as file:
    file.write(b"more")
  assert fingerprint(*sources.load("imagenet", root, size=SIZE)) != known


@pytest.mark.parametrize("workers", [2, 4])
def test_any_number_of_processes_gives_the_same_batches(root, workers):
  one = fetched(split(root, 1), range(6))
  assert_same(fetched(split(root, workers), range(6)), one)
  assert not np.array_equal(one[0][0], one[1][0])


def test_a_batch_may_be_read_in_pieces(root, damaged, monkeypatch):
  own = split(damaged[0], 2, refuse=False)
  whole = fetched(split(root, 2), range(3)), fetched(own, range(3))
  monkeypatch.setattr(stream, "PIECE", 2)
  assert_same(fetched(split(root, 2), range(3)), whole[0])
  assert_same(fetched(own, range(3)), whole[1])
  rows = [np.array([0, 1, 2, 3, 4]), np.array([5])]
  for size in (2, 64):
    monkeypatch.setattr(stream, "PIECE", size)
    first, second = stream.in_order(own, rows, 2)
    assert [row for row, _ in first.failed] == [3, 4]
    assert len(first.images) == 5 and len(second.images) == 1


def test_any_step_can_be_asked_for(root):
  expected = fetched(split(root), range(8))
  reader = batches(split(root))
  for step in (5, 6, 2, 3, 7, 0):
    assert_same([reader.fetch(step, stop=11)], [expected[step]])
    assert len(reader._coming) <= 3  # what is decoded ahead is bounded
  assert max(reader._coming) < 11


def test_an_epoch_has_each_image_once_and_another_order_than_the_next(root):
  reader = batches(split(root))
  epochs = [
    np.concatenate([reader.index(4 * epoch + i) for i in range(4)])
    for epoch in range(2)
  ]
  for epoch in epochs:
    assert len(set(epoch.tolist())) == 20  # whole batches of 24
  assert not np.array_equal(*epochs)
  other = batches(split(root), seed=4)
  assert not np.array_equal(other.index(0), reader.index(0))


def test_several_hosts_read_the_parts_of_one_batch(root):
  whole = fetched(split(root), range(3))
  parts = [
    fetched(split(root), range(3), rows=rows)
    for rows in (slice(0, 2), slice(2, 5))
  ]
  joined = [
    tuple(np.concatenate(pair) for pair in zip(a, b, strict=True))
    for a, b in zip(*parts, strict=True)
  ]
  assert_same(joined, whole)


def test_an_image_is_cropped_as_pillow_does(root):
  own, reader = split(root), batches(split(root), least=0.3)
  images, labels = reader.fetch(1, stop=11)
  for row, example in enumerate(reader.index(1)):
    path = root / own.files.names[example].decode()
    image = Image.open(path).convert("RGB")
    seed = (*reader._seed, 1, 1, row)
    uniform = np.random.default_rng(seed).random((crops.TRIES, 4))
    top, left, h, w = crops.window(uniform, image.height, image.width, 0.3)
    part = image.crop((left, top, left + w, top + h))
    expected = part.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(images[row], np.asarray(expected))
    assert labels[row] == CLASSES.index(path.parent.name)


def test_the_middle_is_what_is_evaluated():
  image = np.zeros((40, 64, 3), np.uint8)
  image[:, 14:49] = 200  # what is left after 40 -> 8 / 7 of the size
  found = decoding.cropped(image, 28, 0.0, None)
  assert found.shape == (28, 28, 3) and (found == 200).all()


@pytest.fixture
def damaged(tmp_path):
  root = folder(tmp_path / "set", per_class=5)
  bad = sorted((root / "train").rglob("*.JPEG"))[3:5]
  bad[0].write_bytes(b"no image")
  bad[1].write_bytes(bad[1].read_bytes()[:200])
  return root, [str(path.relative_to(root)) for path in bad]


def test_corrupt_images_are_refused_by_name(damaged):
  root, names = damaged
  with pytest.raises(ValueError, match=r"n01_[34].*\n.*set data.corrupt to sk"):
    fetched(split(root), range(3))
  assert names


def test_or_skipped_counted_and_named(damaged):
  root, names = damaged
  own = split(root, refuse=False)
  found = fetched(own, range(3))
  assert sorted(own.failed) == names
  assert_same(fetched(split(root, 4, refuse=False), range(3)), found)
  for x, y in found:  # the next image, and its label
    assert (x.mean((1, 2)).argmax(-1) == y).mean() > 0.7
    assert x.any((1, 2, 3)).all()
  ((file, record),) = feeds.corrupt([own], 6, 3)
  assert (file, record["count"], record["epoch"]) == ("corrupt.jsonl", 2, 2)
  assert list(record["files"]) == names and not own.failed


def test_an_evaluation_leaves_out_what_cannot_be_read(damaged):
  root, _ = damaged
  bad = root / "val" / "n03" / "n03_2.JPEG"
  bad.write_bytes(b"")
  data = sources.load("imagenet", root, size=SIZE, workers=1, refuse=False)
  own = files_lib.FileSplit(data.test_x, data.test_y)
  mesh = parallel.mesh(jax.devices()[:1])
  index = np.arange(12).reshape(3, 4) % 9
  present = (np.arange(12) < 9).reshape(3, 4).astype(np.float32)
  batches = list(feeds.evaluated(own, index, present, mesh))
  assert [count for *_, count in batches] == [4, 4, 0]
  assert list(own.failed) == [os.fsdecode(data.test_x.names[8])]
  seen, at, here, _ = batches[1]
  np.testing.assert_array_equal(seen.y, data.test_y[index[1]])
  np.testing.assert_array_equal(at, range(4))
  assert seen.shape == (SIZE, SIZE, 3) and here.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
  "change,message",
  [
    (lambda root: root / "train", "found no folder train"),
    (lambda root: root / "nowhere", "found nothing there"),
    (lambda root: root / "train" / "n01" / "notes.txt", "expected a whole tar"),
  ],
)
def test_other_folders_are_refused(root, change, message):
  with pytest.raises((ValueError, FileNotFoundError), match=message):
    sources.load("imagenet", change(root), size=SIZE)


def test_a_class_without_training_images_is_refused(tmp_path):
  root = folder(tmp_path / "set", per_class=1)
  (root / "val" / "n99").mkdir()
  with pytest.raises(ValueError, match="found the class 'n99' too"):
    sources.load("imagenet", root)
  (root / "val" / "n99").rmdir()
  for path in (root / "train" / "n02").iterdir():
    path.unlink()
  with pytest.raises(ValueError, match="found none of n02"):
    sources.load("imagenet", root)


def test_a_process_that_dies_is_told_of(root):
  pool = decoding.Decoders(1)
  request = decoding.Request(str(root), [b"train/n01/n01_0.JPEG"], SIZE)
  assert pool.submit(request).result().images.shape == (1, SIZE, SIZE, 3)
  (child,) = children()
  os.kill(child, signal.SIGKILL)
  with pytest.raises(ValueError, match="ended with status -9"):
    pool.submit(request).result(timeout=30)


def children():
  """Returns the decoding processes that were started last: those of here."""
  found = []
  for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
      with open(f"/proc/{pid}/stat") as stat, open(f"/proc/{pid}/cmdline") as c:
        parent, command = stat.read().rsplit(")", 1)[1].split()[1], c.read()
    except OSError:
      continue
    if int(parent) == os.getpid() and "decoding import serve" in command:
      found.append(int(pid))
  return sorted(found)[-1:]


def test_nothing_is_left_over_by_a_kill(root):
  program = textwrap.dedent(f"""
    import os, time
    from jnas.data import decoding
    request = decoding.Request({str(root)!r}, [b"train/n01/n01_0.JPEG"], 8)
    pool = decoding.Decoders(1)
    pool.submit(request).result()
    print(os.popen("pgrep -P %d" % os.getpid()).read(), flush=True)
    time.sleep(60)
  """)
  with subprocess.Popen(
    [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
  ) as process:
    child = int(process.stdout.readline())
    assert os.path.exists(f"/proc/{child}")
    process.kill()
  for _ in range(100):
    if not os.path.exists(f"/proc/{child}"):
      break
    time.sleep(0.1)
  assert not os.path.exists(f"/proc/{child}")


def test_one_level_reads_one_stream(root):
  config = config_lib.base()
  config.data.crop_area, config.train.batch = 0.3, 4
  mesh, own = parallel.mesh(jax.devices()[:1]), split(root)
  two = feeds.feed(config, mesh, (own, own), 9)
  first, second = two.fetch(2, 2)
  assert first.x.shape == (2, 4, SIZE, SIZE, 3) and int(first.first) == 2
  assert not np.array_equal(first.x, second.x)  # streams of their own
  one = feeds.feed(config, mesh, (own, own), 9, one_level=True)
  again, same = one.fetch(2, 2)
  assert same is again and len(one.specs) == 2
  np.testing.assert_array_equal(again.x, first.x)


def test_a_step_draws_its_own_part_of_what_was_fetched():
  x = np.random.default_rng(0).integers(0, 256, (3, 2, 4, 4, 3), np.uint8)
  y = np.arange(6, dtype=np.int32).reshape(3, 2)
  brought = feed_lib.Fetched(jnp.asarray(x), jnp.asarray(y), jnp.int32(5))
  draw = feed_lib.image_draw(
    seed=0, batch=4, local=2, offset=lambda local: 2,
    mean=(0.0,) * 3, std=(1.0,) * 3,
  )
  for i in range(3):
    batch = draw(brought, "train", jnp.int32(5 + i))
    np.testing.assert_array_equal(batch.y, y[i])
    np.testing.assert_allclose(batch.x, x[i] / 255, atol=1e-6)
