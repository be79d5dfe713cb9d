"""Images inside tars, read where they lie: nothing is unpacked.

The headers are read once, and where each image begins is kept as any decoded
data are (`archives.cached`). A tar of a class inside of the tar, as ImageNet's
own archive has them, is read likewise.
"""

from collections.abc import Iterator
import functools
import os
import pathlib
from typing import BinaryIO

import numpy as np

from jnas.data import archives, limits

_AT_ONCE = 1 << 20  # bytes: no header is as long
_COMPRESSED = (b"\x1f\x8b", b"\xfd7zXZ", b"BZh", b"\x28\xb5\x2f\xfd")


def index(
  path: pathlib.Path, cache_dir: str | os.PathLike | None = None
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the names in a tar, bytes [N], and where they are, [N, 2].

  These are offset and size of an image, or -1 of a folder. Of a name that
  occurs twice the last one counts. They are in the order of the bytes of the
  names.

  Args:
    path: of the tar.
    cache_dir: as `archives.cached` has it.

  Raises:
    ValueError: it is compressed, damaged, or not to be trusted.
  """
  found = archives.cached(
    cache_dir, f"index-{archives.cache_key(path)}", lambda: _read(path)
  )
  return found["names"], found["spans"]


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
  names, spans = [], []
  try:
    with limits.open_regular(path) as file:
      if file.read(6).startswith(_COMPRESSED):
        raise limits.Refused(
          "expected a tar that is not compressed, whose images are read where "
          f"they lie, at {limits.shown(path)}; found a compressed one. "
          "Decompress it (JPEGs are no smaller by it), or unpack it."
        )
      size = os.fstat(file.fileno()).st_size
      for name, start, length in _entries(path, _Window(file, 0, size)):
        names.append(os.fsencode(name))
        spans.append((start, length))
        if len(names) % 1024 == 0:
          limits.spend("files of a data set", len(names), path)
  except archives.BROKEN as error:
    raise archives.damaged(path, error) from error
  array = np.array(names, "S" if names else "S1")
  # The last of equal names is the first of them in the order from the end.
  array, first = np.unique(array[::-1], return_index=True)
  last = len(names) - 1 - first
  spans = np.array(spans, np.int64).reshape(-1, 2)[last]
  return {"names": array, "spans": spans}


def _entries(
  path: pathlib.Path, window: "_Window", before: str = ""
) -> Iterator[tuple[str, int, int]]:
  """Yields name, offset and size of each image, and of each folder."""
  for name, member, _ in archives.headers(path, window):
    start = window.start + member.offset_data
    if member.isdir():
      yield before + name, -1, -1
    elif not before and name.lower().endswith(".tar"):
      inner = _Window(window.file, start, member.size)
      yield from _entries(path, inner, name[: -len("tar") - 1] + "/")
    elif archives.is_image(name):
      yield before + name, start, member.size


class _Window:
  """A part of a file, as a file that is read a little at a time."""

  def __init__(self, file: BinaryIO, start: int, size: int):
    self.file, self.start = file, start
    self._size, self._at = size, 0

  def read(self, size: int) -> bytes:
    """Returns the next bytes, fewer at the end."""
    if size > _AT_ONCE:
      raise ValueError(f"a header claims to be {size:,} bytes long")
    self.file.seek(self.start + self._at)
    found = self.file.read(max(0, min(size, self._size - self._at)))
    self._at += len(found)
    return found

  def seek(self, position: int) -> int:
    """Moves to a byte and returns it."""
    self._at = position
    return position

  def tell(self) -> int:
    """Returns how many bytes are before what is read next."""
    return self._at


def contents(path: str, name: str, offset: int, size: int) -> bytes:
  """Returns an image of a tar.

  Args:
    path: of the tar.
    name: of the image, for messages.
    offset: in bytes.
    size: of it.

  Raises:
    ValueError, OSError: it cannot be read, or is too large.
  """
  limits.spend("bytes of a file", size, name)
  found = os.pread(_opened(path).fileno(), size, offset)
  if len(found) < size:
    raise ValueError(
      f"expected {size:,} bytes of {limits.shown(name)}; found {len(found):,}: "
      "the tar has changed. Copy it again."
    )
  return found


@functools.lru_cache(8)
def _opened(path: str) -> BinaryIO:
  return limits.open_regular(pathlib.Path(path))
