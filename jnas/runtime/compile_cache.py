"""JAX's cache of compiled programs, kept whole.

JAX writes an entry in place and never writes one that is there again, so what
a kill or a full disk has cut short would be compiled anew in every run. Here
broken entries are deleted before JAX looks, and it writes them again.
"""

import json
import os
import pathlib
import zlib

_ENTRIES = "*-cache"
_KNOWN = "whole.json"  # entries that were whole: name -> [bytes, time written]


def prepare(folder: pathlib.Path) -> None:
  """Makes the folder, or deletes what is broken in it.

  Raises:
    OSError: the folder cannot be made or read, or others can write there.
      Whoever can decides what this process executes.
  """
  folder.mkdir(mode=0o700, parents=True, exist_ok=True)
  status = folder.stat()
  if status.st_uid != os.getuid() or status.st_mode & 0o022:
    raise PermissionError(f"others can write in {folder}")
  repair(folder)


def repair(folder: pathlib.Path) -> list[str]:
  """Deletes entries that are not whole, and returns their names.

  An entry is read once; then its size and time tell that it is the same.
  """
  record = folder / _KNOWN
  try:
    known = dict(json.loads(record.read_text()))
  except (OSError, ValueError, TypeError, RecursionError):
    known = {}
  whole, broken = {}, []
  for path in sorted(folder.glob(_ENTRIES)):
    status = path.stat()
    mark = [status.st_size, status.st_mtime_ns]
    if known.get(path.name) == mark or _is_whole(path.read_bytes()):
      whole[path.name] = mark
    else:
      # Another process may be writing it: that writes on, into nothing.
      path.unlink(missing_ok=True)
      broken.append(path.name)
  if whole != known:
    temporary = record.with_name(f".{_KNOWN}.{os.getpid()}")
    temporary.write_text(json.dumps(whole))
    os.replace(temporary, record)
  return broken


def _is_whole(entry: bytes) -> bool:
  """Whether JAX can decompress an entry: by zstd, where installed, or zlib."""
  if entry.startswith(b"\x28\xb5\x2f\xfd"):
    try:
      import zstandard
    except ImportError:
      return False  # written by another Python; for this one it is no entry
    decompressor = zstandard.ZstdDecompressor().decompressobj()
    errors: type[Exception] = zstandard.ZstdError
  else:
    decompressor, errors = zlib.decompressobj(), zlib.error
  try:
    decompressor.decompress(entry)
  except errors:
    return False
  return decompressor.eof
