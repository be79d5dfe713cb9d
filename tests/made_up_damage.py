"""Folders and tars of images with one thing wrong in them, and what is due.

A kind of damage changes a sound folder in place and says what a reader has to
make of it: `REFUSED` with words of the message, `CORRUPT` with the names of the
images that cannot be read, or `FINE`; `EITHER` is one or the other.
"""

import gzip
import io
import os
import shutil
import tarfile

from made_up_images import packed
import numpy as np
from PIL import Image

REFUSED, CORRUPT, FINE, EITHER = "refused", "corrupt", "fine", "either"
FORMS = ("folder", "one", "two", "nested")


def sound(root, rng):
  """A small folder of images, some of them grey, of several sizes."""
  for part, count in (("train", 3), ("val", 2)):
    for name in ("n01", "n02"):
      (root / part / name).mkdir(parents=True)
      for i in range(count):
        x = rng.integers(0, 255, (*rng.integers(4, 40, 2), 3), np.uint8)
        image = Image.fromarray(x)
        image = image.convert("L") if i == 1 else image
        image.save(root / part / name / f"{i}.JPEG")
  return root


def _image(root, rng):
  """One of the images, as (path, name)."""
  found = sorted(root.rglob("*.JPEG"))
  path = found[rng.integers(len(found))]
  return path, str(path.relative_to(root))


def _replaced(make):
  def kind(root, rng):
    path, name = _image(root, rng)
    path.write_bytes(make(path.read_bytes(), rng))
    return CORRUPT, {name}

  return kind


def _written(mode="RGB", size=(9, 9), form="PNG"):
  """An image of another kind, which can be read nevertheless."""

  def kind(root, rng):
    path, _ = _image(root, rng)
    Image.new(mode, size).save(path, form)
    return FINE, set()

  return kind


def empty(root, rng):
  shutil.rmtree(root)
  root.mkdir()
  return REFUSED, "no folder train|found none"


def no_classes(root, rng):
  for path in (root / "train").rglob("*.JPEG"):
    path.rename(root / "train" / f"{path.parent.name}_{path.name}")
  shutil.rmtree(root / "train" / "n01")
  shutil.rmtree(root / "train" / "n02")
  return REFUSED, "found none|images as"


def one_class(root, rng):
  for part in ("train", "val"):
    shutil.rmtree(root / part / "n02")
  return REFUSED, "at least two classes"


def no_train(root, rng):
  shutil.rmtree(root / "train")
  return REFUSED, "no folder train"


def no_val(root, rng):
  shutil.rmtree(root / "val")
  return FINE, set()


def train_is_a_file(root, rng):
  shutil.rmtree(root / "train")
  (root / "train").write_text("n01")
  return REFUSED, "no folder train"


def class_without_images(root, rng):
  for path in (root / "train" / "n02").iterdir():
    path.unlink()
  (root / "train" / "n02" / "notes.txt").write_text("none here")
  return REFUSED, "found none of n02|class 'n02' too|at least two"


def another_class_in_val(root, rng):
  (root / "val" / "n01").rename(root / "val" / "n09")
  return REFUSED, "the class 'n09' too"


def folder_named_as_an_image(root, rng):
  (root / "train" / "n01" / "x.jpg").mkdir()
  return FINE, set()


def link_to_itself(root, rng):
  os.symlink("x.jpg", root / "train" / "n01" / "x.jpg")
  return CORRUPT, {"train/n01/x.jpg"}


def link_to_nothing(root, rng):
  os.symlink("nowhere", root / "val" / "n02" / "x.jpg")
  return CORRUPT, {"val/n02/x.jpg"}


def class_that_is_a_loop(root, rng):
  os.symlink("n03", root / "train" / "n03")
  return FINE, set()


def pipe(root, rng):
  os.mkfifo(root / "train" / "n02" / "x.jpg")
  return CORRUPT, {"train/n02/x.jpg"}


def not_to_be_read(root, rng):
  path, name = _image(root, rng)
  path.chmod(0)
  # The superuser reads it all the same.
  return (FINE, set()) if os.access(path, os.R_OK) else (CORRUPT, {name})


def hidden_files(root, rng):
  (root / "train" / "n01" / "._1.JPEG").write_bytes(b"Mac OS X")
  (root / "train" / ".git").mkdir()
  (root / ".DS_Store").write_bytes(b"")
  return FINE, set()


_NAMES = ("a b", "\u00e4\u4e2d", "-rf", "it's", '"', "a\nb", "%s{}", "x" * 200)


def odd_file_name(root, rng):
  path, _ = _image(root, rng)
  name = _NAMES[rng.integers(len(_NAMES))]
  path.rename(path.with_name(f"{name}.JPEG"))
  return FINE, set()


def odd_class_name(root, rng):
  name = _NAMES[rng.integers(len(_NAMES))]
  for part in ("train", "val"):
    (root / part / "n02").rename(root / part / name)
  return FINE, set()


def class_name_that_is_no_text(root, rng):
  for part in (b"train", b"val"):
    path = os.path.join(os.fsencode(root), part)
    os.rename(os.path.join(path, b"n02"), os.path.join(path, b"n\xff2"))
  return REFUSED, "names in UTF-8"


def file_name_that_is_no_text(root, rng):
  path, _ = _image(root, rng)
  os.rename(path, os.path.join(os.fsencode(path.parent), b"\xff.jpg"))
  return FINE, set()


def many_pixels(contents, rng):
  """A PNG that says it has 10^10 pixels, as decompression bombs do."""
  buffer = io.BytesIO()
  Image.new("L", (1, 1)).save(buffer, "PNG")
  found = bytearray(buffer.getvalue())
  found[16:24] = (100_000).to_bytes(4, "big") * 2
  return bytes(found)


def deep(contents, rng):
  buffer = io.BytesIO()
  Image.fromarray(np.zeros((5, 5), np.uint16)).save(buffer, "PNG")
  return buffer.getvalue()


def flipped(root, rng):
  path, name = _image(root, rng)
  contents = bytearray(path.read_bytes())
  for _ in range(rng.integers(1, 9)):
    contents[rng.integers(len(contents))] = rng.integers(256)
  path.write_bytes(contents)
  return EITHER, {name}


KINDS = {
  kind.__name__: kind
  for kind in (
    empty, no_classes, one_class, no_train, no_val, train_is_a_file,
    class_without_images, another_class_in_val, folder_named_as_an_image,
    link_to_itself, link_to_nothing, class_that_is_a_loop, pipe,
    not_to_be_read, hidden_files, odd_file_name, odd_class_name,
    class_name_that_is_no_text, file_name_that_is_no_text, flipped,
  )
} | {
  "cut": _replaced(lambda c, rng: c[: rng.integers(1, len(c) // 2)]),
  "text": _replaced(lambda c, rng: b"no image" * rng.integers(1, 99)),
  "no bytes": _replaced(lambda c, rng: b""),
  "zeros": _replaced(lambda c, rng: bytes(rng.integers(1, 999))),
  "many pixels": _replaced(many_pixels),
  "16 bits": _replaced(deep),
  "one pixel": _written(size=(1, 1)),
  "a line": _written(size=(3000, 1)),
  "a palette": _written("P"),
  "ink": _written("CMYK", form="JPEG"),
  "transparent": _written("RGBA"),
  "animated": _written("P", form="GIF"),
}


def cut_tar(path, rng):
  end = len(path.read_bytes().rstrip(b"\0"))  # the rest is padding
  os.truncate(path, int(rng.integers(end)))
  return REFUSED, "truncated, damaged"


def packed_tar(path, rng):
  path.write_bytes(gzip.compress(path.read_bytes()))
  return REFUSED, "not compressed"


def other_file(path, rng):
  path.write_bytes(bytes(rng.integers(1, 256, 5000, np.uint8)))
  return REFUSED, "truncated, damaged"


def flipped_tar(path, rng):
  contents = bytearray(path.read_bytes())
  for _ in range(rng.integers(1, 9)):
    contents[rng.integers(len(contents))] = rng.integers(256)
  path.write_bytes(contents)
  return EITHER, None


def appended(path, rng):
  with open(path, "ab") as file:
    file.write(bytes(rng.integers(0, 256, 600, np.uint8)))
  return FINE, set()


def outside(path, rng):
  name = ("/etc/x.jpg", "../../x.jpg", "C:/x.jpg")[rng.integers(3)]
  with tarfile.open(path, "a") as tar:
    tar.addfile(tarfile.TarInfo(name))
  return REFUSED, "which leaves it"


TAR_KINDS = {
  kind.__name__: kind
  for kind in (
    cut_tar, packed_tar, other_file, flipped_tar, appended, outside
  )
}


def make(place, kind, form, seed):
  """Returns a data set's path, what is due of it, and its details.

  Args:
    place: an empty folder.
    kind: of the damage, of `KINDS` or `TAR_KINDS`.
    form: of `FORMS`.
    seed: of what is drawn.
  """
  rng = np.random.default_rng(seed)
  root = sound(place / "set", rng)
  if kind in TAR_KINDS:
    path = packed(root, place / "packed", "one")
    return path, *TAR_KINDS[kind](path, rng)
  due, about = KINDS[kind](root, rng)
  if form == "folder":
    return root, due, about
  links = "link_to_itself link_to_nothing pipe class_that_is_a_loop".split()
  if kind in links:
    due, about = REFUSED, "a link or a device"
  path = packed(root, place / "packed", form)
  return path, due, about
