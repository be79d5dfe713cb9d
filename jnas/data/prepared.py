"""Image sets that TensorFlow Datasets has prepared, read example by example.

For that they are in its format array_record. TensorFlow is not needed, and no
code but that of TFDS's own features is imported for what a set says.
"""

from collections.abc import Sequence
import functools
import os
import pathlib
import re
from typing import Any

import numpy as np

from jnas.data import archives, limits

_AT_ONCE = 256  # examples
_SPLITS = ("train", "test", "validation")


def is_set(path: pathlib.Path) -> bool:
  """Whether a folder is that of a prepared set's version."""
  return (path / "dataset_info.json").is_file()


def index(
  path: pathlib.Path, cache_dir: str | os.PathLike | None = None
) -> dict[str, np.ndarray]:
  """Returns the labels of each split, int64 [N], and the names of classes.

  All examples are read for them once; they are kept as decoded data are.

  Args:
    path: folder of the set's version.
    cache_dir: as `archives.cached` has it.

  Raises:
    ValueError: it is no such set, or TFDS is not there.
  """
  return archives.cached(
    cache_dir, f"index-{archives.cache_key(path)}", lambda: _labels(path)
  )


def contents(path: str, split: str, example: int) -> bytes:
  """Returns the file of one image, as it was when the set was prepared.

  Args:
    path: folder of the set's version.
    split: of the set.
    example: its number.
  """
  return _rows(path, split, [example])[0][0]


def _labels(path: pathlib.Path) -> dict[str, np.ndarray]:
  info = _builder(str(path)).info
  arrays = {"classes": np.array(info.features[info.supervised_keys[1]].names)}
  for split in set(_SPLITS) & set(info.splits):
    count = info.splits[split].num_examples
    limits.spend("files of a data set", count, path)
    labels = []
    for start in range(0, count, _AT_ONCE):
      each = range(start, min(start + _AT_ONCE, count))
      labels += [int(label) for _, label in _rows(str(path), split, each)]
    arrays[split] = np.array(labels, np.int64)
  return arrays


def _rows(
  path: str, split: str, examples: Sequence[int]
) -> list[tuple[bytes, Any]]:
  """Returns (image file, label) of some examples."""
  source = _source(path, split)
  image, label = _builder(path).info.supervised_keys
  try:
    found = source.__getitems__(list(examples))
    return [(row[image], row[label]) for row in found]
  except Exception as error:  # TFDS raises nearly anything
    raise _refused(path, error) from error


@functools.lru_cache(4)
def _source(path: str, split: str) -> Any:
  """Returns the examples of a split, their images as files."""
  import tensorflow_datasets as tfds

  builder = _builder(path)
  image = builder.info.supervised_keys[0]
  try:
    return builder.as_data_source(
      split, decoders={image: tfds.decode.SkipDecoding()}
    )
  except ImportError as error:
    raise ValueError(
      f"expected the package array_record, to read {limits.shown(path)}; "
      f"found: {error}. Run pip install array_record."
    ) from error
  except Exception as error:  # TFDS raises nearly anything
    raise _refused(path, error) from error


@functools.lru_cache(4)
def _builder(path: str) -> Any:
  """Returns the set, which has images of classes and random access."""
  try:
    import tensorflow_datasets as tfds
  except ImportError as error:
    raise ValueError(
      "expected the package tensorflow-datasets, to read "
      f"{limits.shown(path)}; found: {error}. Run pip install "
      "tensorflow-datasets array_record."
    ) from error
  features = pathlib.Path(path, "features.json")
  try:
    with limits.open_regular(features) as file:
      text = limits.read(file, "bytes of a table", features).decode()
    named = re.findall(r'"(?:pythonClassName|type)"\s*:\s*"([^"]*)"', text)
    if odd := [n for n in named if not n.startswith("tensorflow_datasets.")]:
      raise ValueError(f"its features are of {odd[0]}, which is not TFDS's own")
    builder = tfds.builder_from_directory(path)
    info = builder.info
    if info.supervised_keys is None or not hasattr(
      info.features[info.supervised_keys[1]], "names"
    ):
      raise ValueError("it has no pair of an image and a class label")
    if info.file_format.value != "array_record":
      raise ValueError(
        f"it is kept as {info.file_format.value}, not as array_record, of "
        "which single examples are read"
      )
    return builder
  except Exception as error:  # TFDS raises nearly anything
    raise _refused(path, error) from error


def _refused(path: str, error: Exception) -> ValueError:
  found = (str(error).strip().splitlines() or [type(error).__name__])[0]
  return ValueError(
    "expected an image-classification set that TFDS has prepared as "
    f"array_record in {limits.shown(path)}; found: {limits.cut(found, 300)}. "
    "Prepare it anew, with file_format='array_record' of tfds.builder."
  )
