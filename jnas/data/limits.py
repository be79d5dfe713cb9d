"""How much is read of files that are not to be trusted, and from which.

| what | at most |
| --- | --- |
| bytes of a data set, decompressed and decoded | 4 GiB |
| files of a data set, and members of an archive | 2,000,000 |
| bytes of one file in it: an image, a batch of CIFAR, a text | 256 MiB |
| pixels of one image | 16,777,216 (4096 x 4096) |
| values in a pickle | 1,000,000 |
| bytes of a table of accuracies, and its lines | 64 MiB, 1,000,000 |

The environment's JNAS_DATA_BUDGET multiplies all of them. What is in memory
at the peak is up to twice the bytes that are read.
"""

from collections.abc import Iterator
import contextlib
import math
import os
import pathlib
import stat
from typing import BinaryIO


class Refused(ValueError):
  """What is read is not as it has to be; the message is a whole sentence."""


LONGEST = 2000  # characters of a message
_CHUNK = 1 << 20

_BUDGETS = {
  "bytes of a data set": 2**32,
  "files of a data set": 2_000_000,
  "bytes of a file": 2**28,
  "pixels of an image": 2**24,
  "values of a pickle": 10**6,
  "bytes of a table": 2**26,
  "lines of a table": 10**6,
}


def budget(what: str) -> int:
  """Returns how much there may be of something.

  >>> budget("pixels of an image")
  16777216

  Raises:
    ValueError: JNAS_DATA_BUDGET is no positive number.
  """
  text = os.environ.get("JNAS_DATA_BUDGET") or "1"
  try:
    factor = float(text)
  except ValueError:
    factor = 0.0
  if not 0 < factor < math.inf:
    raise ValueError(
      "expected a number above 0 in the environment's JNAS_DATA_BUDGET, such "
      f"as 4 for four times as much of everything; got {text[:60]!r}"
    )
  return int(_BUDGETS[what] * factor)


def spend(what: str, amount: int, where: object) -> None:
  """Raises if `amount` is over budget.

  Args:
    what: one of the budgets.
    amount: how much there is.
    where: what is read, for the message.

  Raises:
    Refused: it is.
  """
  most = budget(what)
  if amount > most:
    raise Refused(
      f"expected at most {most:,} {what}; found {amount:,} or more in "
      f"{shown(where)}. If that is as it should be, set the environment's "
      f"JNAS_DATA_BUDGET to {math.ceil(amount / _BUDGETS[what])} or more: it "
      "multiplies what is read at most."
    )


def shown(value: object, longest: int = 300) -> str:
  """Returns what a message shows of a value: its repr, not all of a long one.

  >>> shown("a" * 1000, 20)
  "'aaaaaa ... aaaaaaa'"
  """
  return cut(repr(str(value)), longest)


def cut(text: str, longest: int = LONGEST) -> str:
  """Returns a text, its middle left out where it is longer than `longest`."""
  if len(text) <= longest:
    return text
  half = (longest - 5) // 2
  return f"{text[:half]} ... {text[-(longest - 5 - half) :]}"


@contextlib.contextmanager
def short_errors() -> Iterator[None]:
  """Keeps messages of mistakes in files short, and tells a lack of memory."""
  try:
    yield
  except MemoryError as error:
    raise ValueError(
      "expected data that fits the memory of this machine; found more of it"
    ) from error
  except (ValueError, OSError) as error:
    text, kind = str(error), type(error)
    if kind in (ValueError, FileNotFoundError) and len(text) <= LONGEST:
      raise
    if kind not in (Refused, ValueError, FileNotFoundError):
      text = f"{kind.__name__}: {text}"
    kind = FileNotFoundError if kind is FileNotFoundError else ValueError
    raise kind(cut(text)) from error


def open_regular(path: pathlib.Path) -> BinaryIO:
  """Returns a regular file opened for reading; never waits for a pipe.

  Raises:
    Refused: it is a folder, a pipe or a device.
  """
  handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
  if not stat.S_ISREG(os.fstat(handle).st_mode):
    os.close(handle)
    raise Refused(
      f"expected a regular file at {shown(path)}; found a folder, a pipe or a "
      "device. Give the file itself."
    )
  return os.fdopen(handle, "rb")


def read(
  stream: BinaryIO, what: str, where: object, enough: int | None = None
) -> bytearray:
  """Returns all that a stream holds, if it is within the budget `what`.

  Args:
    stream: of bytes.
    what: one of the budgets.
    where: what is read, for messages.
    enough: bytes after which it may end.
  """
  most, found = budget(what), bytearray()  # which grows where it lies
  stop = most + 1 if enough is None else min(enough, most + 1)
  while part := stream.read(min(_CHUNK, stop - len(found))):
    found += part
    if len(found) > most:
      spend(what, len(found), where)
  return found


class Stream:
  """A decompressed stream that ends in an error where it is over budget.

  tarfile reads headers at once, whatever length they claim: no single read
  gets more than a mebibyte.
  """

  def __init__(self, stream: BinaryIO, where: object):
    self._stream, self._where = stream, where
    self._most = budget("bytes of a data set")

  def read(self, size: int) -> bytes:
    """Returns the next `size` bytes, or what is left of them."""
    if size > _CHUNK:
      raise ValueError(f"a header claims to be {size:,} bytes long")
    return self._stream.read(size)

  def seek(self, position: int) -> int:
    """Moves to a byte and returns it."""
    spend("bytes of a data set", position, self._where)
    return self._stream.seek(position)

  def tell(self) -> int:
    """Returns how many bytes have been read; raises if they are too many."""
    position = self._stream.tell()
    if position > self._most:
      spend("bytes of a data set", position, self._where)
    return position
