"""Images that stay in files: an array by its shape, read while training.

A data set that fits no device is a folder as ImageNet's, with images of any
sizes, train/CLASS/NAME.JPEG and val/CLASS/NAME.JPEG (or test/).
"""

from collections.abc import Sequence
import dataclasses
import os
import pathlib
from typing import Any

import numpy as np

from jnas.data import archives, limits

# Of ImageNet's training images, by which all of the field normalises.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Files:
  """Images in a folder, described as the array that they are when read.

  Attributes:
    root: the folder.
    names: bytes [N], of files within it.
    size: pixels of a side of an image once it is read.
    workers: processes that read; 0 for a choice by the machine's cores.
    refuse: whether a file that cannot be read ends the run.
  """

  root: str
  names: np.ndarray
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
    return dataclasses.replace(self, names=self.names[index])


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


def find(
  path: str | os.PathLike, **reading: Any
) -> tuple[Files, np.ndarray, Files | None, np.ndarray | None, Sequence[str]]:
  """Returns training images and labels, test images and labels, and classes.

  Classes and files are in the order of their names. No image is opened.

  Args:
    path: the folder.
    **reading: what `Files` are told besides.

  Raises:
    FileNotFoundError, ValueError: there is no such folder, or no image in it.
  """
  root = archives.existing(path, "a folder with train/ and val/")
  if not (root / "train").is_dir():
    raise ValueError(
      f"expected train/CLASS/IMAGE, and val/ likewise, in {limits.shown(root)}"
      "; found no folder train. Give the folder that holds it."
    )
  classes = _folders(root / "train")
  train = _listed(root, "train", classes, reading)
  held_out = next((p for p in ("test", "val") if (root / p).is_dir()), None)
  if held_out is None:
    return *train, None, None, classes
  if odd := sorted({*_folders(root / held_out)} - {*classes}):
    raise ValueError(
      f"expected test images of the training classes in {limits.shown(root)}; "
      f"found the class {odd[0]!r} too. Remove it or add training images."
    )
  return *train, *_listed(root, held_out, classes, reading), classes


def _folders(folder: pathlib.Path) -> list[str]:
  with os.scandir(folder) as entries:
    names = [e.name for e in entries if e.is_dir() and e.name[0] != "."]
  return sorted(names)


def _listed(
  root: pathlib.Path,
  part: str,
  classes: Sequence[str],
  reading: dict[str, Any],
) -> tuple[Files, np.ndarray]:
  """Returns the files of train or val, and their labels."""
  names, labels = [], []
  for label, name in enumerate(classes):
    folder = root / part / name
    if not folder.is_dir():
      continue
    own = sorted(
      os.fsencode(f"{part}/{name}/{file}")
      for file in os.listdir(folder)
      if file[0] != "." and file.lower().endswith(archives.IMAGE_SUFFIXES)
    )
    names += own
    labels += [label] * len(own)
    limits.spend("files of a data set", len(names), root)
  if not names:
    raise ValueError(
      f"expected images ({', '.join(archives.IMAGE_SUFFIXES)}) in folders, one "
      f"a class, in {limits.shown(root / part)}; found none."
    )
  found = Files(str(root), np.array(names), **reading)
  return found, np.array(labels, np.int32)
