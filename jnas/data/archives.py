"""Reading files that are not to be trusted: tars, pickles, images, caches.

Nothing here writes outside the cache folder: tar members are read as streams
and never extracted, and pickles build plain data only.
"""

import bz2
from collections.abc import Callable, Iterator, Mapping
import gzip
import hashlib
import io
import lzma
import os
import pathlib
import tarfile
import tempfile
from typing import BinaryIO
import warnings
import zipfile
import zlib

import numpy as np

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".gif", ".webp", ".tif",
    ".tiff",
)
_OPENERS = (
    (b"\x1f\x8b", gzip.open), (b"\xfd7zXZ\x00", lzma.open), (b"BZh", bz2.open),
)
_BROKEN = (EOFError, OSError, lzma.LZMAError, zlib.error, tarfile.TarError)
_CACHE_FORMAT = 1  # part of every key: raise it when the arrays change form


def existing(path: str | os.PathLike, expected: str) -> pathlib.Path:
  """Returns `path` as an expanded Path; raises if nothing is there.

  Raises:
    FileNotFoundError: says what was `expected` at that path.
  """
  if not str(path):
    raise FileNotFoundError(f"expected {expected}; got an empty path. "
                            "Set the path of the data.")
  found = pathlib.Path(path).expanduser()
  if not found.exists():
    near = next(p for p in found.absolute().parents if p.exists())
    raise FileNotFoundError(
        f"expected {expected} at {str(found)!r}; found nothing there (the "
        f"nearest folder that exists is {str(near)!r}). Correct the path.")
  return found


def open_stream(path: pathlib.Path) -> BinaryIO:
  """Returns `path` opened for reading, decompressed by its first bytes.

  The suffix is not asked: browsers and mirrors rename `.gz` files.
  """
  with open(path, "rb") as f:
    head = f.read(6)
  for magic, opener in _OPENERS:
    if head.startswith(magic):
      return opener(path, "rb")
  return open(path, "rb")


def read_whole(path: pathlib.Path) -> bytes:
  """Returns the decompressed contents of `path`; ValueError if truncated."""
  try:
    with open_stream(path) as f:
      return f.read()
  except _BROKEN as error:
    raise _damaged(path, error) from error


def members(
    path: pathlib.Path, wanted: Callable[[str], bool],
) -> Iterator[tuple[str, bytes | None]]:
  """Returns (relative name, contents) of everything in a folder or tar.

  The contents are None for folders and empty for files not `wanted(name)`.

  Names use "/"; hidden files and macOS's `._x` twins are left out. `path` is
  a folder (sorted order) or a tar file, plain or compressed (its own order).

  Raises:
    ValueError: truncated or damaged, no tar file, or a member whose name
      leaves the folder, or a link or device in place of a file.
  """
  if path.is_dir():
    for file in sorted(path.rglob("*")):
      name = file.relative_to(path).as_posix()
      if not _hidden(name):
        yield name, None if file.is_dir() else (
            file.read_bytes() if wanted(name) else b"")
    return
  try:
    with open_stream(path) as stream:
      with tarfile.open(fileobj=stream, mode="r:") as tar:
        for member in tar:
          _check_member(path, member)
          name = member.name.removeprefix("./").rstrip("/")
          if name in ("", ".") or _hidden(name):
            continue
          yield name, None if member.isdir() else (
              tar.extractfile(member).read() if wanted(name) else b"")
        # A tar ends with a block of zeros. tarfile takes the end of the file
        # for it, and would call an archive cut between two members whole.
        if stream.tell() <= tar.offset:
          raise EOFError("no end-of-archive block")
      while stream.read(1 << 20):  # so that the checksum behind it is read
        pass
  except _BROKEN as error:
    raise _damaged(path, error) from error


def _hidden(name: str) -> bool:
  return any(p.startswith((".", "__MACOSX")) for p in name.split("/"))


def _check_member(path: pathlib.Path, member: tarfile.TarInfo) -> None:
  parts = member.name.replace("\\", "/").split("/")
  if member.name.startswith(("/", "\\")) or ".." in parts or (
      parts[0][1:2] == ":"):
    raise ValueError(
        f"expected names inside the archive {str(path)!r}; found "
        f"{member.name!r}, which leaves it. Nothing was read from or written "
        "to that place; do not use this archive.")
  if not (member.isreg() or member.isdir()):
    raise ValueError(
        f"expected files and folders in {str(path)!r}; found {member.name!r}, "
        "a link or a device. Pack it again with tar --dereference "
        "--hard-dereference.")


def _damaged(path: pathlib.Path, error: Exception) -> Exception:
  if isinstance(error, FileNotFoundError | PermissionError):
    return error
  return ValueError(
      f"expected a whole tar, gzip or xz file at {str(path)!r}; found one that "
      f"is truncated, damaged or of another kind ({error}; "
      f"{path.stat().st_size:,} bytes). Download or copy it again.")


def decode(name: str, contents: bytes) -> np.ndarray:
  """Returns the image as uint8 [H, W, 1] (grey) or [H, W, 3] (all others)."""
  from PIL import Image, UnidentifiedImageError

  try:
    with Image.open(io.BytesIO(contents)) as image:
      if image.mode in ("I", "F") or image.mode.startswith("I;"):
        raise ValueError(
            f"expected 8 bits a channel; found mode {image.mode} in {name!r}. "
            "Convert the images to 8 bits.")
      mode = "L" if image.mode in ("1", "L") else "RGB"
      pixels = np.asarray(
          image if image.mode == mode else image.convert(mode), np.uint8)
  except (OSError, SyntaxError, EOFError, UnidentifiedImageError,
          Image.DecompressionBombError) as error:
    raise ValueError(
        f"expected an image in {name!r}; found {len(contents):,} bytes that "
        f"cannot be decoded ({error}). Replace or remove that file.") from error
  return pixels[:, :, None] if pixels.ndim == 2 else pixels


def decode_tree(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Returns the images of a folder or tar with one folder a class, as arrays.

  train_x, train_y, classes and, if there is a test/ (or only a val/) folder,
  test_x and test_y; ordered by class and file name whatever order they are
  packed in. Grey images among colour ones become colour.

  Raises:
    ValueError: another layout, images of several sizes, an empty class, or a
      file that cannot be read.
  """
  groups, empty = _grouped(path)
  bases = sorted({group[0] for group in groups})
  train, test = _parts(path, bases)
  classes = sorted({c for base, c in (*groups, *empty) if base == train})
  for base, name in groups:
    if base == test and name not in classes:
      raise ValueError(
          f"expected test images of the training classes in {str(path)!r}; "
          f"found the class {name!r} too. Remove it or add training images.")
  channels = max(i.shape[2] for g in groups.values() for i in g.values())
  arrays = {"classes": np.array(classes)}
  for part, base in (("train", train), ("test", test)):
    if base is None:
      continue
    images, labels = [], []
    for label, name in enumerate(classes):
      group = groups.get((base, name), {})
      images += [group[file] for file in sorted(group)]
      labels += [label] * len(group)
    arrays[f"{part}_x"] = np.stack([
        np.broadcast_to(i, (*i.shape[:2], channels)) for i in images])
    arrays[f"{part}_y"] = np.array(labels, np.int32)
  return arrays


def _is_image(name: str) -> bool:
  return name.lower().endswith(IMAGE_SUFFIXES)


def _grouped(path: pathlib.Path) -> tuple[dict, list]:
  """Returns {(base, class): {file: image}} and the (base, class) of folders."""
  groups, folders, first = {}, [], None
  for name, contents in members(path, _is_image):
    *base, group, file = ("", "", *name.split("/"))
    if contents is None:
      folders.append(("/".join([*base, group]).strip("/"), file))
      continue
    if not _is_image(file):
      continue
    if not group:
      raise ValueError(
          f"expected one folder a class in {str(path)!r}; found the image "
          f"{file!r} outside any. Put it into a folder named after its class.")
    image = decode(name, contents)
    first = first or (name, image.shape[:2])
    if image.shape[:2] != first[1]:
      raise ValueError(
          f"expected images of one size in {str(path)!r}; found {first[0]!r} "
          f"with {first[1]} pixels (height, width) and {name!r} with "
          f"{image.shape[:2]}. Resize them all to one size.")
    key = ("/".join(base).strip("/"), group)
    groups.setdefault(key, {})[file] = image
  if not groups:
    raise ValueError(
        f"expected images ({', '.join(IMAGE_SUFFIXES)}) in folders, one a "
        f"class, in {str(path)!r}; found none.")
  return groups, folders


def _parts(
    path: pathlib.Path, bases: list[str],
) -> tuple[str, str | None]:
  """Returns the folders whose subfolders are the training and test classes."""
  ends = {base.split("/")[-1]: base for base in bases}
  roots = {base.rpartition("/")[0] for base in bases}
  if len(bases) == 1 and not {"test", "val"} & ends.keys():
    return bases[0], None
  if len(roots) == 1 and "train" in ends and ends.keys() <= {
      "train", "test", "val"}:
    return ends["train"], ends.get("test", ends.get("val"))
  raise ValueError(
      f"expected one folder a class in {str(path)!r}, all at the top or all "
      f"under train/ and test/ (or val/); found images two levels below "
      f"{', '.join(repr(b or '.') for b in bases[:6])}. Rearrange them.")


def read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Returns the arrays of an .npz file; ValueError if damaged or pickled."""
  try:
    if not zipfile.is_zipfile(path):
      raise ValueError("not a zip file")
    with np.load(path, allow_pickle=False) as arrays:
      return {name: arrays[name] for name in arrays.files}
  except (*_BROKEN, zipfile.BadZipFile, ValueError, KeyError) as error:
    raise ValueError(
        f"expected an .npz file of plain arrays at {str(path)!r}; found "
        f"something else or a damaged file ({error}). Write it again with "
        "numpy.savez.") from error


def cache_key(path: pathlib.Path) -> str:
  """Returns a name for the decoded contents of `path`, for `cached`.

  It follows the path, and the size and modification time of the file, or of
  every file in the folder.
  """
  digest = hashlib.sha256(str(path.resolve()).encode())
  for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
    stat = file.stat()
    digest.update(f"{file}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
  stem = "".join(c if c.isalnum() else "_" for c in path.name.split(".")[0])
  return f"{stem or 'data'}-{digest.hexdigest()[:20]}"


def cached(
    cache_dir: str | os.PathLike | None,
    key: str,
    build: Callable[[], Mapping[str, np.ndarray]],
) -> dict[str, np.ndarray]:
  """Returns `build()`, or what it returned when last called for `key`.

  The arrays are kept as `<key>-v<format>.npz` in `cache_dir`; None means the
  environment variable JNAS_CACHE or ~/.cache/jnas/data. A damaged cache file
  is built again; a folder that cannot be written costs a warning only.
  """
  folder = pathlib.Path(cache_dir or os.environ.get("JNAS_CACHE") or
                        "~/.cache/jnas/data").expanduser()
  path = folder / f"{key}-v{_CACHE_FORMAT}.npz"
  if path.exists():
    try:
      return read_npz(path)
    except ValueError as error:
      warnings.warn(f"building the cache again: {error}", stacklevel=2)
  arrays = dict(build())
  temporary = None
  try:
    folder.mkdir(parents=True, exist_ok=True)
    # Written aside and renamed, so that no other process reads half a file.
    handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
    with os.fdopen(handle, "wb") as f:
      np.savez(f, **arrays)
    os.replace(temporary, path)
  except OSError as error:
    warnings.warn(
        f"could not keep the decoded data in {str(folder)!r} ({error}); it "
        "will be decoded again next time. Set JNAS_CACHE to a folder that "
        "can be written.", stacklevel=2)
  finally:
    if temporary and os.path.exists(temporary):
      os.unlink(temporary)
  return arrays
