"""Images that are read where they lie in a tar, and what tars are refused."""

import gzip
import io
import os
import shutil
import tarfile

from made_up_files import pack, png
from made_up_images import CLASSES, folder, packed
import numpy as np
import pytest

from jnas.data import files as files_lib
from jnas.data import sources, stream, tars

FORMS = ("one", "two", "nested")


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
  """The same images in a folder and in tars."""
  place = tmp_path_factory.mktemp("images")
  root = folder(place / "set")
  found = {form: packed(root, place / form, form) for form in FORMS}
  return found | {"folder": root, "cache": place / "cache"}


def load(sets, form, **reading):
  return sources.load(
    "imagenet", sets[form], cache_dir=sets["cache"], size=16, **reading
  )


def reader(data, workers, seed=3):
  files = files_lib.Files(
    *(data.train_x.root, data.train_x.names, data.train_x.spans),
    size=16, workers=workers,
  )
  return stream.Batches(
    files_lib.FileSplit(files, data.train_y),
    batch=5, rows=slice(0, 5), seed=seed, name="train", least=0.08, ahead=3,
  )


@pytest.mark.parametrize("form", FORMS)
def test_a_tar_is_read_as_the_folder_that_it_holds(sets, form):
  plain, own = load(sets, "folder"), load(sets, form)
  assert own.classes == plain.classes == CLASSES
  np.testing.assert_array_equal(own.train_y, plain.train_y)
  np.testing.assert_array_equal(own.test_y, plain.test_y)
  expected = reader(plain, 1)
  batches = [expected.fetch(step, stop=11) for step in range(6)]
  for workers in (1, 2, 4):
    found = reader(own, workers)
    for step in (*range(6), 4, 1):  # and after a seek
      for a, b in zip(found.fetch(step, 11), batches[step], strict=True):
        np.testing.assert_array_equal(a, b)
  rows = [np.arange(4), np.arange(4, 9)]
  for one, other in zip(
    *(
      stream.in_order(files_lib.FileSplit(d.test_x, d.test_y), rows, 2)
      for d in (plain, own)
    ),
    strict=True,
  ):
    assert not one.failed and not other.failed
    np.testing.assert_array_equal(one.images, other.images)


def test_where_images_are_is_kept(sets, monkeypatch):
  load(sets, "nested")
  monkeypatch.setattr(tars, "_read", None)  # a call would fail
  assert load(sets, "nested").train_x.shape == (24, 16, 16, 3)
  os.utime(sets["nested"] / "val.tar", (0, 0))  # a new file, it may be another
  with pytest.raises(TypeError):
    load(sets, "nested")


def test_the_last_of_equal_names_counts(tmp_path):
  images = {f"train/{c}/1.png": png(c) for c in ("red", "blue")}
  path = pack(tmp_path / "a.tar", images | {"val/red/1.png": png("red")}, "w")
  with tarfile.open(path, "a") as tar:
    contents = png("yellow")
    member = tarfile.TarInfo("train/red/1.png")
    member.size = len(contents)
    tar.addfile(member, io.BytesIO(contents))
  data = sources.load("imagenet", path, cache_dir=tmp_path / "cache", size=4)
  assert len(data.train_y) == 2 and data.classes == ("blue", "red")
  split = files_lib.FileSplit(data.train_x, data.train_y)
  (reply,) = stream.in_order(split, [np.arange(2)], 1)
  assert reply.images[1, 0, 0].tolist() == [255, 255, 0]


def test_an_image_that_is_damaged_is_named(tmp_path):
  files = {
    f"{part}/{c}/{i}.png": png(c)
    for part in ("train", "val") for c in ("red", "blue") for i in range(3)
  }
  files["train/red/1.png"] = b"no image"
  path = pack(tmp_path / "a.tar", files, "w")
  data = sources.load(
    "imagenet", path, cache_dir=tmp_path / "cache", size=16, refuse=False
  )
  split = files_lib.FileSplit(data.train_x, data.train_y)
  own = stream.Batches(
    split, batch=6, rows=slice(0, 6), seed=0, name="train", least=0.0, ahead=1
  )
  images, labels = own.fetch(0, 1)
  assert images.any((1, 2, 3)).all() and len(labels) == 6
  assert list(split.failed) == ["train/red/1.png"]
  assert str(path) in split.failed["train/red/1.png"]


def test_a_tar_that_is_cut_while_it_is_read(tmp_path):
  files = {f"train/{c}/1.png": png(c, (40, 40)) for c in ("red", "blue")}
  path = pack(tmp_path / "a.tar", files | {"val/red/1.png": png("red")}, "w")
  names, spans = tars.index(path, tmp_path / "cache")
  where = dict(zip(names.tolist(), spans.tolist(), strict=True))
  offset, size = where[b"train/red/1.png"]
  assert tars.contents(str(path), "1.png", offset, size) == png("red", (40, 40))
  copy = shutil.copy(path, tmp_path / "b.tar")
  os.truncate(copy, offset + 9)
  with pytest.raises(ValueError, match="found 9: the tar has changed"):
    tars.contents(copy, "1.png", offset, size)
  tars._opened.cache_clear()


def changed(path, change):
  contents = bytearray(path.read_bytes())
  path.write_bytes(change(contents))


TWO = {f"train/{c}/1.png": png(c) for c in ("red", "blue")}
TWO |= {f"val/{c}/1.png": png(c) for c in ("red", "blue")}


@pytest.mark.parametrize(
  "files, change, message",
  [
    (TWO, gzip.compress, "a tar that is not compressed.*found a compressed"),
    (TWO, lambda c: c[:-1024 * 9], "truncated, damaged"),
    (TWO, lambda c: c[:700], "truncated, damaged"),
    (TWO, lambda c: c[:1024], "truncated, damaged"),  # between two members
    (TWO, lambda c: c[:1073], "truncated, damaged"),  # in the second's header
    (TWO, lambda c: b"", "truncated, damaged"),
    (TWO, lambda c: b"no tar" * 400, "truncated, damaged"),
    ({"train/red/1.png": b""}, None, "at least two classes"),
    (TWO | {"train/1.png": b""}, None, "images as train/CLASS/IMAGE.*1.png"),
    (TWO | {"more/train/a/1.png": b""}, None, "images as train/CLASS/IMAGE"),
    (TWO | {"red/1.png": b""}, None, "images as train/CLASS/IMAGE"),
    (TWO | {"val/green/1.png": b""}, None, "found the class 'green' too"),
    ({"a.txt": b"", "train/red/no.txt": b""}, None, "found no folder train"),
    ({"val/red/1.png": b""}, None, "found no folder train"),
    (TWO | {"../1.png": b""}, None, "which leaves it"),
    (TWO | {"train/red.tar": b"no tar"}, None, "truncated, damaged"),
  ],
)
def test_other_tars_are_refused(tmp_path, files, change, message):
  path = pack(tmp_path / "a.tar", files, "w")
  if change:
    changed(path, change)
  with pytest.raises(ValueError, match=message):
    sources.load("imagenet", path, cache_dir=tmp_path / "cache", size=16)


def test_tars_of_parts_have_a_folder_for_each_class(tmp_path):
  (tmp_path / "set").mkdir()
  pack(tmp_path / "set" / "train.tar", {"red/1.png": b"", "blue/1.png": b""},
       "w")
  pack(tmp_path / "set" / "val.tar", {"1.png": b"", "red/1.png": b""}, "w")
  with pytest.raises(ValueError, match="images as CLASS/IMAGE in .*val.tar"):
    sources.load("imagenet", tmp_path / "set", cache_dir=tmp_path / "cache")


def test_a_link_in_a_tar_is_refused(tmp_path):
  path = pack(tmp_path / "a.tar", TWO, "w")
  with tarfile.open(path, "a") as tar:
    member = tarfile.TarInfo("train/red/2.png")
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    tar.addfile(member)
  with pytest.raises(ValueError, match="a link or a device"):
    sources.load("imagenet", path, cache_dir=tmp_path / "cache")


def test_headers_are_not_taken_at_their_word(tmp_path):
  """A member that claims more bytes than there are."""
  path = pack(tmp_path / "a.tar", TWO, "w")
  with tarfile.open(path) as tar:
    member = tar.getmember("val/red/1.png")

  def larger(contents):
    at = member.offset
    member.size = 2**40
    header = member.tobuf(tarfile.GNU_FORMAT)
    contents[at : at + 512] = header[:512]
    return contents

  changed(path, larger)
  with pytest.raises(ValueError, match="truncated, damaged"):
    tars.index(path, tmp_path / "cache")

