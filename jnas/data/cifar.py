"""CIFAR-10 and CIFAR-100 from their official archives, both versions."""

import os
from typing import NamedTuple

import numpy as np

from jnas.data import archives, limits, pickles


class Form(NamedTuple):
  """One of the two official data sets and both of its versions."""
  url_stem: str  # <stem>-python.tar.gz and <stem>-binary.tar.gz
  train: tuple[str, ...]  # files of the python version; binary adds ".bin"
  test: str
  rows: int  # images in each training file
  test_rows: int
  labels: str  # key of the labels in the python version
  label_bytes: int  # before each image of the binary version; the last counts
  meta: str  # file of the names in the python version, and the key in it
  meta_key: str
  names: str  # file of the names in the binary version
  classes: int
  mean: tuple[float, ...]
  std: tuple[float, ...]


# Mean and deviation as in DARTS (cnn/utils.py) for CIFAR-10 and P-DARTS
# (utils.py) for CIFAR-100, so that results compare.
FORMS = {
    "cifar10": Form(
        "cifar-10", tuple(f"data_batch_{i}" for i in range(1, 6)),
        "test_batch", 10_000, 10_000, "labels", 1, "batches.meta",
        "label_names", "batches.meta.txt", 10,
        (0.49139968, 0.48215827, 0.44653124),
        (0.24703233, 0.24348505, 0.26158768)),
    "cifar100": Form(
        "cifar-100", ("train",), "test", 50_000, 10_000, "fine_labels", 2,
        "meta", "fine_label_names", "fine_label_names.txt", 100,
        (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}


def read(
    name: str, path: str | os.PathLike,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[str]]:
  """Returns train_x, train_y, test_x, test_y and the class names.

  `path` is an official archive, the folder it unpacks to, or a folder that
  holds one of the two. Images are uint8 [N, 32, 32, 3].

  Raises:
    FileNotFoundError, ValueError: with what was expected and found.
  """
  form = FORMS[name]
  expected = (f"{form.url_stem}-python.tar.gz or {form.url_stem}-binary.tar.gz "
              "(www.cs.toronto.edu/~kriz/cifar.html), packed or unpacked")
  found = archives.existing(path, expected)
  if found.is_dir():
    inside = [found / f"{form.url_stem}-{version}.tar.gz"
              for version in ("python", "binary")]
    found = next((p for p in inside if p.exists()), found)
  parts = (*form.train, form.test)
  python = {*parts, form.meta}
  binary = {*(f"{part}.bin" for part in parts), form.names}
  files, seen = {}, []
  for member, contents in archives.members(
      found, lambda name: name.split("/")[-1] in python | binary):
    base = member.split("/")[-1]
    if contents is None:
      continue
    seen.append(member)
    if base in python | binary:
      if base in files:
        raise ValueError(f"expected one file {base!r} in {str(found)!r}; found "
                         "two. Give the path of one data set.")
      files[base] = contents
  is_binary = f"{form.test}.bin" in files
  wanted = binary if is_binary else python
  if missing := sorted(wanted - files.keys()):
    raise ValueError(
        f"expected the files {', '.join(sorted(wanted))} in {str(found)!r}, "
        f"from {expected}; {', '.join(missing)} missing among {len(seen):,} "
        f"files ({', '.join(seen[:3])} ...). If these are images with a folder "
        "a class, load them as 'folder'; if not, download the archive again.")
  if is_binary:
    classes = files[form.names][:1 << 16].decode(errors="replace").split()
  else:
    names = pickles.read(form.meta, files[form.meta]).get(form.meta_key, ())
    if not isinstance(names, list | tuple):
      names = ()
    names = [c.decode(errors="replace") if isinstance(c, bytes) else c
             for c in names]
    classes = [c for c in names if isinstance(c, str)]
  if len(classes) != form.classes:
    raise ValueError(f"expected {form.classes} class names in {str(found)!r}; "
                     f"found {len(classes)}. Download the archive again.")
  rows = [form.rows] * len(form.train) + [form.test_rows]
  parse = _binary if is_binary else _python
  batches = [parse(form, part, files[f"{part}.bin" if is_binary else part], n)
             for part, n in zip(parts, rows, strict=True)]
  return (np.concatenate([x for x, _ in batches[:-1]]),
          np.concatenate([y for _, y in batches[:-1]]), *batches[-1], classes)


def _planes(pixels: np.ndarray) -> np.ndarray:
  return np.ascontiguousarray(
      pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def _binary(form, part, contents, rows) -> tuple[np.ndarray, np.ndarray]:
  width = form.label_bytes + 3072
  if len(contents) != rows * width:
    raise ValueError(
        f"expected {rows:,} records of {width:,} bytes in {part}.bin; found "
        f"{len(contents):,} bytes. Download the archive again.")
  records = np.frombuffer(contents, np.uint8).reshape(rows, width)
  y = _labels(f"{part}.bin", records[:, form.label_bytes - 1], form.classes)
  return _planes(records[:, form.label_bytes:]), y


def _python(form, part, contents, rows) -> tuple[np.ndarray, np.ndarray]:
  batch = pickles.read(part, contents)
  pixels, labels = batch.get("data"), batch.get(form.labels)
  whole = int | np.integer
  if isinstance(labels, list) and all(isinstance(i, whole) for i in labels):
    top = max(map(abs, labels), default=0)  # numpy may have no type for it
    labels = np.array(labels) if top < 2**31 else None
  if (not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or
      pixels.shape != (rows, 3072) or not isinstance(labels, np.ndarray) or
      labels.shape != (rows,) or labels.dtype.kind not in "ui"):
    raise ValueError(
        f"expected uint8 'data' ({rows}, 3072) and {rows} integer "
        f"{form.labels!r} in {part}; found the keys "
        f"{limits.shown(sorted(batch))}, data {getattr(pixels, 'shape', None)} "
        f"and labels {getattr(labels, 'shape', None)}. Download the archive "
        "again.")
  return _planes(pixels), _labels(part, labels, form.classes)


def _labels(part: str, labels: np.ndarray, classes: int) -> np.ndarray:
  """Returns them as int32, which all of them fit."""
  if labels.min() < 0 or labels.max() >= classes:
    raise ValueError(
        f"expected labels between 0 and {classes - 1} in {part}; found "
        f"{labels.min()} to {labels.max()}. Download the archive again.")
  return labels.astype(np.int32)
