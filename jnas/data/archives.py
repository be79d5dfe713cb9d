"""Reading files that are not to be trusted: tars, pickles, images, caches.

Nothing here writes outside the cache folder: tar members are read as streams
and never extracted, and pickles build plain data only.
"""

import bz2
from collections.abc import Callable, Iterator, Mapping
import contextlib
import gzip
import hashlib
import io
import lzma
import math
import os
import pathlib
import tarfile
import tempfile
from typing import BinaryIO
import warnings
import zipfile
import zlib

import numpy as np

from jnas.data import limits

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".gif", ".webp", ".tif",
    ".tiff",
)
_OPENERS = (
    (b"\x1f\x8b", gzip.open), (b"\xfd7zXZ\x00", lzma.open), (b"BZh", bz2.open),
)
# ValueError and OverflowError: what tarfile raises for odd numbers in headers.
BROKEN = (EOFError, OSError, lzma.LZMAError, zlib.error, tarfile.TarError,
           ValueError, OverflowError)
# Of Pillow's many formats: some of the others run programs of their own.
_FORMATS = ("JPEG", "PNG", "BMP", "PPM", "GIF", "WEBP", "TIFF")
_CACHE_FORMAT = 1  # part of every key: raise it when the arrays change form


def existing(path: str | os.PathLike, expected: str) -> pathlib.Path:
  """Returns `path` as an expanded Path; raises if nothing is there.

  Raises:
    FileNotFoundError: says what was `expected` at that path.
    ValueError: it is neither a file nor a folder, or no path.
  """
  if not str(path):
    raise FileNotFoundError(f"expected {expected}; got an empty path. "
                            "Set the path of the data.")
  try:
    found = pathlib.Path(path).expanduser()
    exists = found.exists()
  except (RuntimeError, OSError, ValueError) as error:  # ~nobody, too long
    raise ValueError(
        f"expected {expected}; got {limits.shown(path)}, which is no path "
        f"({limits.cut(str(error), 300)}). Correct it.") from error
  if not exists:
    near = next(p for p in found.absolute().parents if p.exists())
    raise FileNotFoundError(
        f"expected {expected} at {limits.shown(found)}; found nothing there "
        f"(the nearest folder that exists is {limits.shown(near)}). Correct "
        "the path.")
  if not (found.is_file() or found.is_dir()):
    raise ValueError(
        f"expected {expected} at {limits.shown(found)}; found a pipe or a "
        "device. Give a regular file or a folder.")
  return found


@contextlib.contextmanager
def open_stream(path: pathlib.Path) -> Iterator[BinaryIO]:
  """Opens a regular file for reading, decompressed by its first bytes.

  The suffix is not asked: browsers and mirrors rename `.gz` files.

  Raises:
    ValueError: also within the context, where what is read is damaged.
  """
  try:
    with limits.open_regular(path) as file:
      head = file.read(6)
      file.seek(0)
      for magic, opener in _OPENERS:
        if head.startswith(magic):
          with opener(file, "rb") as stream:
            yield stream
          return
      yield file
  except BROKEN as error:
    raise damaged(path, error) from error


def read_whole(
    path: pathlib.Path, what: str = "bytes of a data set") -> bytearray:
  """Returns the decompressed contents of `path`.

  Args:
    path: a regular file.
    what: their budget, one of those of `limits`.

  Raises:
    ValueError: it is truncated or over budget.
  """
  with open_stream(path) as f:
    return limits.read(f, what, path)


def members(
    path: pathlib.Path, wanted: Callable[[str], bool],
) -> Iterator[tuple[str, bytes | bytearray | None]]:
  """Returns (relative name, contents) of everything in a folder or tar.

  The contents are None for folders and empty for files not `wanted(name)`.

  Names use "/"; hidden files and macOS's `._x` twins are left out. `path` is
  a folder (sorted order) or a tar file, plain or compressed (its own order).

  Raises:
    ValueError: truncated or damaged, no tar file, or a member whose name
      leaves the folder, or a link or device in place of a file.
  """
  return _in_folder(path, wanted) if path.is_dir() else _in_tar(path, wanted)


def _in_folder(path, wanted) -> Iterator[tuple[str, bytearray | bytes | None]]:
  total = 0
  for file in walk(path):
    name = file.relative_to(path).as_posix()
    if _hidden(name):
      continue
    contents = None if file.is_dir() else b""
    if contents is not None and wanted(name):
      with limits.open_regular(file) as f:
        contents = limits.read(f, "bytes of a file", name)
      total += len(contents)
      limits.spend("bytes of a data set", total, path)
    yield name, contents


def _in_tar(path, wanted) -> Iterator[tuple[str, bytearray | bytes | None]]:
  with open_stream(path) as stream:
    bounded = limits.Stream(stream, path)
    for name, member, tar in headers(path, bounded):
      contents = None if member.isdir() else b""
      if contents is not None and wanted(name):
        contents = limits.read(
            tar.extractfile(member), "bytes of a file", name)
        if len(contents) < member.size:
          raise EOFError(f"{name!r} is cut")
      yield name, contents
    while stream.read(1 << 20):  # so that the checksum behind it is read
      bounded.tell()


def headers(
    path: pathlib.Path, stream: BinaryIO | limits.Stream,
) -> Iterator[tuple[str, tarfile.TarInfo, tarfile.TarFile]]:
  """Yields name, header and tar of each member, as `members` has them.

  Args:
    path: for messages.
    stream: a tar that is not compressed; what it holds is read by who asks.

  Raises:
    ValueError, or what tarfile raises: see `members`.
  """
  with tarfile.open(fileobj=stream, mode="r:") as tar:
    count = 0
    while (member := tar.next()) is not None:
      tar.members.clear()  # it keeps all of them
      _check_member(path, member)
      count += 1
      if count % 1024 == 0:
        limits.spend("files of a data set", count, path)
      name = member.name.removeprefix("./").rstrip("/")
      if name not in ("", ".") and not _hidden(name):
        yield name, member, tar
    # A tar ends with a block of zeros. tarfile takes the end of the file
    # for it, and would call an archive cut between two members whole.
    if stream.tell() < tar.offset + tarfile.BLOCKSIZE:
      raise EOFError("no end-of-archive block")


def walk(folder: pathlib.Path) -> list[pathlib.Path]:
  """Returns all that is in a folder, in order; raises if that is too much."""
  found = []
  for i, path in enumerate(folder.rglob("*"), 1):
    found.append(path)
    if i % 1024 == 0:
      limits.spend("files of a data set", i, folder)
  return sorted(found)


def _hidden(name: str) -> bool:
  return any(p.startswith((".", "__MACOSX")) for p in name.split("/"))


def _check_member(path: pathlib.Path, member: tarfile.TarInfo) -> None:
  parts = member.name.replace("\\", "/").split("/")
  if member.name.startswith(("/", "\\")) or ".." in parts or (
      parts[0][1:2] == ":"):
    raise limits.Refused(
        f"expected names inside the archive {limits.shown(path)}; found "
        f"{limits.shown(member.name)}, which leaves it. Nothing was read from "
        "or written to that place; do not use this archive.")
  if not (member.isreg() or member.isdir()):
    raise limits.Refused(
        f"expected files and folders in {limits.shown(path)}; found "
        f"{limits.shown(member.name)}, a link or a device. Pack it again with "
        "tar --dereference --hard-dereference.")
  if member.issparse():
    raise limits.Refused(
        f"expected files that are whole in {limits.shown(path)}; found "
        f"{limits.shown(member.name)}, a sparse file of {member.size:,} bytes. "
        "Pack it again without --sparse.")


def damaged(path: pathlib.Path, error: Exception) -> Exception:
  """Returns what to raise for an archive that cannot be read."""
  if isinstance(
      error, limits.Refused | FileNotFoundError | PermissionError):
    return error
  return ValueError(
      f"expected a whole tar, gzip or xz file at {limits.shown(path)}; found "
      "one that is truncated, damaged or of another kind "
      f"({limits.cut(str(error), 300)}; {path.stat().st_size:,} bytes). "
      "Download or copy it again.")


def decode(name: str, contents: bytes) -> np.ndarray:
  """Returns the image as uint8 [H, W, 1] (grey) or [H, W, 3] (all others)."""
  def pixels(image) -> np.ndarray:
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
      raise limits.Refused(
          f"expected 8 bits a channel; found mode {image.mode} in "
          f"{limits.shown(name)}. Convert the images to 8 bits.")
    mode = "L" if image.mode in ("1", "L") else "RGB"
    return np.asarray(
        image if image.mode == mode else image.convert(mode), np.uint8)

  found = _decoded(name, contents, pixels)
  return found[:, :, None] if found.ndim == 2 else found


def decode_numbers(name: str, contents: bytes) -> np.ndarray:
  """Returns a mask as uint8 [H, W]: its values, or indices of its palette."""
  def values(image) -> np.ndarray:
    if image.mode not in ("L", "P"):
      raise limits.Refused(
          "expected a mask of one number a pixel, grey or with a palette; "
          f"found mode {image.mode} in {limits.shown(name)}. Convert it.")
    return np.asarray(image, np.uint8)

  return _decoded(name, contents, values)


def _decoded(
    name: str, contents: bytes, pixels: Callable[..., np.ndarray],
) -> np.ndarray:
  """Returns the pixels of an opened image, if it is one and not too large."""
  from PIL import Image

  try:
    with Image.open(io.BytesIO(contents), formats=_FORMATS) as image:
      limits.spend("pixels of an image", math.prod(image.size), name)
      return pixels(image)
  except limits.Refused:
    raise
  except Exception as error:  # Pillow raises nearly anything
    raise limits.Refused(
        f"expected an image in {limits.shown(name)}; found {len(contents):,} "
        f"bytes that cannot be decoded ({limits.cut(str(error), 300)}). "
        "Replace or remove that file.") from error


def decode_tree(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Returns the images of a folder or tar with one folder a class, as arrays.

  train_x, train_y, classes and, if there is a test/ (or only a val/) folder,
  test_x and test_y; ordered by class and file name whatever order they are
  packed in. Grey images among colour ones become colour.

  Raises:
    ValueError: another layout, images of several sizes, an empty class, or a
      file that cannot be read.
  """
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Pillow's: its own limits, odd metadata
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


def is_image(name: str) -> bool:
  """Whether a file's name is that of an image."""
  return name.lower().endswith(IMAGE_SUFFIXES)


def _grouped(path: pathlib.Path) -> tuple[dict, list]:
  """Returns {(base, class): {file: image}} and the (base, class) of folders."""
  groups, folders, first, total = {}, [], None, 0
  for name, contents in members(path, is_image):
    *base, group, file = ("", "", *name.split("/"))
    if contents is None:
      folders.append(("/".join([*base, group]).strip("/"), file))
      continue
    if not is_image(file):
      continue
    if not group:
      raise ValueError(
          f"expected one folder a class in {str(path)!r}; found the image "
          f"{file!r} outside any. Put it into a folder named after its class.")
    image = decode(name, contents)
    total += image.size
    limits.spend("bytes of a data set", total, path)
    first = first or (name, image.shape[:2])
    if image.shape[:2] != first[1]:
      raise ValueError(
          f"expected images of one size in {limits.shown(path)}; found "
          f"{limits.shown(first[0])} with {first[1]} pixels (height, width) "
          f"and {limits.shown(name)} with "
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
    with limits.open_regular(path) as file, zipfile.ZipFile(file) as packed:
      members = packed.infolist()
      limits.spend("files of a data set", len(members), path)
      size = sum(member.file_size for member in members)
      limits.spend("bytes of a data set", size, path)
      return {
          member.filename.removesuffix(".npy"): _npy(packed, member)
          for member in members}
  except limits.Refused:
    raise
  except Exception as error:  # zipfile and numpy raise nearly anything
    raise ValueError(
        f"expected an .npz file of plain arrays at {limits.shown(path)}; found "
        f"something else or a damaged file ({limits.cut(str(error), 300)}). "
        "Write it again with numpy.savez.") from error


def _npy(packed: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
  """Returns the array in a member, which is no larger than it says."""
  with packed.open(member) as file:
    version = np.lib.format.read_magic(file)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, _, dtype = read_header(file)
  if math.prod(shape) * dtype.itemsize > member.file_size:
    raise ValueError(f"{member.filename!r} is smaller than its shape {shape}")
  with packed.open(member) as file:
    return np.lib.format.read_array(file, allow_pickle=False)


def cache_key(path: pathlib.Path) -> str:
  """Returns a name for the decoded contents of `path`, for `cached`.

  It follows the path, and the size and modification time of the file, or of
  every file in the folder.
  """
  digest = hashlib.sha256(str(path.resolve()).encode())
  for file in walk(path) if path.is_dir() else [path]:
    stat = file.stat() if file.exists() else file.lstat()
    digest.update(f"{file}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
  stem = "".join(
      c if c.isalnum() else "_" for c in path.name.split(".")[0][:60])
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
                        "~/.cache/jnas/data")
  temporary = None
  try:
    folder = folder.expanduser()
    path = folder / f"{key}-v{_CACHE_FORMAT}.npz"
    if path.exists():
      _check_owner(folder)
      return read_npz(path)
  except ValueError as error:
    warnings.warn(f"building the cache again: {error}", stacklevel=2)
  except (OSError, RuntimeError) as error:
    _not_kept(error)
    return dict(build())
  arrays = dict(build())
  try:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_owner(folder)
    # Written aside and renamed, so that no other process reads half a file.
    handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
    with os.fdopen(handle, "wb") as f:
      np.savez(f, **arrays)
    os.replace(temporary, path)
  except OSError as error:
    _not_kept(error)
  finally:
    if temporary and os.path.exists(temporary):
      os.unlink(temporary)
  return arrays


def _check_owner(folder: pathlib.Path) -> None:
  """Raises if others can write in a folder: they would decide what is read."""
  status = folder.stat()
  if status.st_uid != os.getuid() or status.st_mode & 0o022:
    raise PermissionError(f"others can write in {limits.shown(folder)}")


def _not_kept(error: Exception) -> None:
  warnings.warn(
      f"could not keep the decoded data ({limits.cut(str(error), 300)}); it "
      "will be decoded again next time. Set JNAS_CACHE to a folder that is "
      "yours alone and can be written.", stacklevel=3)
