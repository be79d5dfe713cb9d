"""Images that stay in files: an array by its shape, read while training.

A data set that fits no device is a folder as ImageNet's, with images of any
sizes, train/CLASS/NAME.JPEG and val/CLASS/NAME.JPEG (or test/); or a tar of
them; or a folder of train.tar and val.tar, with CLASS/NAME.JPEG each, or with a
CLASS.tar of images, as ImageNet's own archive is; or the folder of a set that
TFDS has prepared (`prepared`).
"""

from collections.abc import Sequence
import dataclasses
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

from jnas.data import archives, limits, prepared, tars

_PARTS = ("train", "test", "val")
_ASKED = 10_000  # files whose size is asked for, at most: that can be slow
# Of ImageNet's training images, by which all of the field normalises.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Files:
  """Images in a folder or tar, described as the array that they are when read.

  Attributes:
    root: the folder or tar.
    names: bytes [N], of files within it; of a prepared set SPLIT/NUMBER.
    spans: [N, 2], offset and size of each in the tar; None for a folder.
    prepared: whether the folder is that of a set of TFDS.
    size: pixels of a side of an image once it is read.
    workers: processes that read; 0 for a choice by the machine's cores.
    refuse: whether a file that cannot be read ends the run.
  """

  root: str
  names: np.ndarray
  spans: np.ndarray | None = None
  prepared: bool = False
  size: int = 224
  workers: int = 0
  refuse: bool = True

  ndim = 4
  dtype = np.dtype(np.uint8)

  @property
  def shape(self) -> tuple[int, int, int, int]:
    """[N, size, size, 3]."""
    return len(self.names), self.size, self.size, 3

  def __len__(self) -> int:
    return len(self.names)

  def __getitem__(self, index: Any) -> "Files":
    """Some of them, by an index array or a slice."""
    spans = None if self.spans is None else self.spans[index]
    return dataclasses.replace(self, names=self.names[index], spans=spans)

  def file_sizes(self) -> np.ndarray:
    """Sizes of the files; of many in a folder, of some that lie among them.

    Of a set of TFDS they are those of all files that hold it.
    """
    if self.spans is not None:
      return self.spans[:, 1]
    if self.prepared:
      shards = sorted(map(os.fsencode, os.listdir(self.root)))
      return np.array([_size(self.root, name) for name in shards])
    every = max(1, -(-len(self) // _ASKED))
    return np.array([_size(self.root, name) for name in self.names[::every]])


@dataclasses.dataclass(frozen=True)
class FileSplit:
  """Files and their labels, where others have a `device.Split`.

  Attributes:
    files: that are read while training.
    labels: [N].
    failed: why a file could not be read, by its name; whoever tells of them
      may clear it.
  """

  files: Files
  labels: np.ndarray
  failed: dict[str, str] = dataclasses.field(default_factory=dict)

  def __len__(self) -> int:
    return len(self.labels)

  def unreadable(self, example: int, why: str) -> None:
    """Notes that a file cannot be read.

    Raises:
      ValueError: no file may be like that.
    """
    name = os.fsdecode(self.files.names[example])
    if self.files.refuse:
      raise ValueError(
        f"{why}\nTo go on without such images, set data.corrupt to skip: they "
        "are then named in corrupt.jsonl."
      )
    self.failed[name] = why


class _Listed(NamedTuple):
  """The images of one part of a data set, in the order of class and name.

  Attributes:
    root: folder or tar.
    classes: also those without an image, in order.
    names: bytes [N], in the root.
    labels: [N], the number of each one's class.
    spans: [N, 2], of a tar.
    prepared: whether the root is that of a set of TFDS.
  """

  root: pathlib.Path
  classes: list[str]
  names: np.ndarray
  labels: np.ndarray
  spans: np.ndarray | None = None
  prepared: bool = False


def find(
  path: str | os.PathLike,
  cache_dir: str | os.PathLike | None = None,
  **reading: Any,
) -> tuple[Files, np.ndarray, Files | None, np.ndarray | None, Sequence[str]]:
  """Returns training images and labels, test images and labels, and classes.

  Classes and files are in the order of their names. No image is opened.

  Args:
    path: the folder or tar.
    cache_dir: where it is kept what a tar holds.
    **reading: what `Files` are told besides.

  Raises:
    FileNotFoundError, ValueError: there is no such folder, or no image in it.
  """
  root = archives.existing(path, "a folder or tar with train/ and val/")
  parts = _parts(root, cache_dir)
  if "train" not in parts:
    raise ValueError(
      f"expected train/CLASS/IMAGE, and val/ likewise, in {limits.shown(root)}"
      "; found no folder train. Give the folder or tar that holds it."
    )
  classes, found = parts["train"].classes, []
  where = {name: label for label, name in enumerate(classes)}
  for name in ("train", "test" if "test" in parts else "val"):
    part = parts.get(name)
    if part is None:
      found += None, None
      continue
    if not len(part.names):
      raise ValueError(
        f"expected images ({', '.join(archives.IMAGE_SUFFIXES)}) in folders, "
        f"one a class, in {name} of {limits.shown(root)}; found none. Give the "
        "folder or tar that holds them."
      )
    if odd := sorted({*part.classes} - {*classes}):
      raise ValueError(
        f"expected test images of the training classes in {limits.shown(root)};"
        f" found the class {odd[0]!r} too. Remove it or add training images."
      )
    numbers = np.array([where[each] for each in part.classes], np.int32)
    files = Files(
      str(part.root), part.names, part.spans, part.prepared, **reading
    )
    found += files, numbers[part.labels]
  return *found, classes


def _parts(
  root: pathlib.Path, cache_dir: str | os.PathLike | None
) -> dict[str, _Listed]:
  """Returns what there is of train, test and val; val only without a test."""
  if root.is_file():
    return _in_tar(root, cache_dir)
  if prepared.is_set(root):
    return _in_set(root, cache_dir)
  found = {}
  for part in _PARTS:
    packed = root / f"{part}.tar"
    if part == "val" and "test" in found:
      break
    if (root / part).is_dir():
      found[part] = _in_folder(root, part)
    elif packed.is_file():
      found |= _in_tar(packed, cache_dir, part)
  return found


def _in_folder(root: pathlib.Path, part: str) -> _Listed:
  """Returns the images of PART/CLASS/NAME."""
  with os.scandir(root / part) as entries:
    classes = sorted(e.name for e in entries if _is_folder(e) and _seen(e.name))
  names, labels = [], []
  for label, name in enumerate(classes):
    with os.scandir(root / part / name) as entries:
      own = sorted(
        os.fsencode(f"{part}/{name}/{e.name}")
        for e in entries
        if _seen(e.name) and archives.is_image(e.name) and not _is_folder(e)
      )
    names += own
    labels += [label] * len(own)
    limits.spend("files of a data set", len(names), root)
  return _Listed(root, classes, _bytes(names), np.array(labels, np.int64))


def _in_tar(
  path: pathlib.Path, cache_dir: str | os.PathLike | None, part: str = ""
) -> dict[str, _Listed]:
  """Returns the images of a tar, by train, test and val.

  Args:
    path: of the tar.
    cache_dir: where its index is kept.
    part: which of them all of its images are.
  """
  names, spans = tars.index(path, cache_dir)
  heads, classes = [], []  # of the folder of an image, and of a folder itself
  for name, (start, _) in zip(names.tolist(), spans.tolist(), strict=True):
    folder = os.fsdecode(name)
    if start >= 0:
      folder = folder.rpartition("/")[0]
    head, _, last = folder.rpartition("/")
    heads.append(head)
    classes.append(last)
  images, parts = spans[:, 0] >= 0, {}
  for i in np.flatnonzero(images).tolist():
    name = part or heads[i].rpartition("/")[2]
    if not classes[i] or parts.setdefault(name, heads[i]) != heads[i] or (
      name not in _PARTS
    ):
      layout = "CLASS/IMAGE" if part else "train/CLASS/IMAGE, val/ likewise,"
      raise ValueError(
        f"expected images as {layout} in {limits.shown(path)}; found "
        f"{limits.shown(os.fsdecode(names[i]))}. Pack them in such folders."
      )
  if part:
    parts.setdefault(part, "")
  found = {}
  for name, head in parts.items():
    inside = np.array([each == head for each in heads], bool)
    known = sorted({classes[i] for i in np.flatnonzero(inside)} - {""})
    number = {each: label for label, each in enumerate(known)}
    rows = np.flatnonzero(inside & images)
    labels = np.array([number[classes[i]] for i in rows], np.int64)
    order = np.argsort(labels, kind="stable")  # by names they are ordered
    found[name] = _Listed(
      path, known, names[rows][order], labels[order], spans[rows][order]
    )
  return found


def _in_set(
  root: pathlib.Path, cache_dir: str | os.PathLike | None
) -> dict[str, _Listed]:
  """Returns the images of a set of TFDS; as test what has labels."""
  arrays = prepared.index(root, cache_dir)
  found = {}
  for part in _PARTS:
    split = {"val": "validation"}.get(part, part)
    labels = arrays.get(split)
    if labels is not None and (labels >= 0).all():
      names = _bytes([f"{split}/{i}".encode() for i in range(len(labels))])
      classes = arrays["classes"].tolist()
      found[part] = _Listed(root, classes, names, labels, prepared=True)
  return found


def _bytes(names: list[bytes]) -> np.ndarray:
  return np.array(names, "S" if names else "S1")


def _seen(name: str) -> bool:
  return name[0] != "."


def _is_folder(entry: os.DirEntry) -> bool:
  try:
    return entry.is_dir()
  except OSError:  # a link that leads to itself
    return False


def _size(root: str, name: bytes) -> int:
  try:
    return os.stat(os.path.join(os.fsencode(root), name)).st_size
  except OSError:
    return -1
