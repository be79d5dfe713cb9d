"""Decoding of image files by processes of their own, batch by batch.

A process is asked for a batch through its standard input and gives it through
its standard output. It knows nothing but what it is asked, imports no JAX, and
ends when its input does: whatever becomes of the program, `kill -9` included,
none is left over. Signals are the program's business alone.
"""

from concurrent.futures import Future
import functools
import os
import pathlib
import pickle
import queue
import signal
import subprocess
import sys
import threading
from typing import NamedTuple
import warnings
import weakref

import numpy as np

from jnas.data import archives, crops, limits, prepared, tars

_EVALUATED = 256 / 224  # the shorter side, to that of what is cut out of it


class Request(NamedTuple):
  """What is to be read.

  Attributes:
    root: folder of the files, or the tar that they are in.
    names: of these files in it.
    size: pixels of a side of what is wanted.
    least: of the area of a random crop; 0 for the middle of the image.
    seeds: one for each file, of its crop; none for the middle.
    spans: (offset, size) of each in the tar; none for a folder.
    prepared: whether the folder is that of a set of TFDS.
  """

  root: str
  names: list[bytes]
  size: int
  least: float = 0.0
  seeds: tuple[tuple[int, ...], ...] = ()
  spans: tuple[tuple[int, int], ...] = ()
  prepared: bool = False


class Reply(NamedTuple):
  """What was read.

  Attributes:
    images: uint8 [N, size, size, 3], black where a file cannot be read.
    failed: (row, why) of these.
  """

  images: np.ndarray
  failed: list[tuple[int, str]]


def decode(request: Request) -> Reply:
  """Returns the images of a request."""
  size = request.size
  images = np.zeros((len(request.names), size, size, 3), np.uint8)
  failed = []
  for row, name in enumerate(request.names):
    path = pathlib.Path(request.root, os.fsdecode(name))
    try:
      contents = _contents(request, row, path)
      image = archives.decode(str(path), contents)
    except (OSError, ValueError) as error:
      failed.append((row, limits.cut(str(error), 600)))
      continue
    uniform = None
    if request.least:
      rng = np.random.default_rng(request.seeds[row])
      uniform = rng.random((crops.TRIES, 4))
    images[row] = cropped(image, size, request.least, uniform)
  return Reply(images, failed)


def _contents(request: Request, row: int, path: pathlib.Path) -> bytes:
  """Returns the file of one image."""
  if request.spans:
    return tars.contents(request.root, str(path), *request.spans[row])
  if request.prepared:
    return prepared.contents(request.root, path.parent.name, int(path.name))
  with limits.open_regular(path) as file:
    return limits.read(file, "bytes of a file", path)


def cropped(
  image: np.ndarray, size: int, least: float, uniform: np.ndarray | None
) -> np.ndarray:
  """Returns uint8 [size, size, C], or grey ones [size, size, 1].

  Args:
    image: uint8 [H, W, 1 or 3].
    size: pixels of a side.
    least: share of the area that a random crop has at least.
    uniform: chooses that (`crops.window`). Without, the shorter side becomes
      8/7 of the size (256 for 224), and the middle is taken.
  """
  from PIL import Image

  height, width, channels = image.shape
  if uniform is not None:
    top, left, height, width = crops.window(uniform, height, width, least)
  else:
    # All but the same as resizing first: this much of the image is left.
    side = round(min(height, width) / _EVALUATED) or 1
    top, left = (height - side) // 2, (width - side) // 2
    height = width = side
  part = image[top : top + height, left : left + width]
  picture = Image.fromarray(part[..., 0] if channels == 1 else part)
  picture = picture.resize((size, size), Image.Resampling.BILINEAR)
  return np.asarray(picture).reshape(size, size, channels)


def serve() -> None:
  """Answers requests until the input ends; a process does nothing else."""
  for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
  warnings.simplefilter("ignore")  # Pillow's: its own limits, odd metadata
  replies = os.fdopen(os.dup(1), "wb")
  os.dup2(2, 1)  # whatever else is printed
  while True:
    try:
      request = pickle.load(sys.stdin.buffer)
    except EOFError:
      return
    try:
      pickle.dump(decode(request), replies, protocol=5)
      replies.flush()
    except BrokenPipeError:
      os._exit(0)  # nobody is there any more


class Decoders:
  """Processes that decode, as many as there are.

  They are started by the first request, and end with this object.
  """

  def __init__(self, count: int):
    self.count = count
    self._asked: queue.SimpleQueue = queue.SimpleQueue()
    self._started = False
    weakref.finalize(self, _end, self._asked, count)

  def submit(self, request: Request) -> Future:
    """Returns the `Reply` to come. ValueError is what may come instead."""
    if not self._started:
      self._started = True
      for _ in range(self.count):
        # Daemons: a program that ends does not wait for what nobody needs.
        threading.Thread(
          target=_relay, args=(self._asked,), daemon=True
        ).start()
    answer: Future = Future()
    self._asked.put((request, answer))
    return answer


@functools.cache
def pool(count: int = 0) -> Decoders:
  """The processes of this program, which all its streams share.

  Args:
    count: how many; 0 for as many as there are cores, at most 32.
  """
  return Decoders(count or min(os.cpu_count() or 1, 32))


def _end(asked: queue.SimpleQueue, count: int) -> None:
  for _ in range(count):
    asked.put(None)


def _relay(asked: queue.SimpleQueue) -> None:
  """Hands requests to a process of its own, until there are no more."""
  program = f"import sys; sys.path[:] = {sys.path!r}; "
  program += "from jnas.data.decoding import serve; serve()"
  process = subprocess.Popen(
    [sys.executable, "-c", program],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
  )
  with process:
    while (given := asked.get()) is not None:
      request, answer = given
      if not answer.set_running_or_notify_cancel():
        continue
      try:
        pickle.dump(request, process.stdin, protocol=5)
        process.stdin.flush()
        answer.set_result(pickle.load(process.stdout))
      except (EOFError, OSError, pickle.UnpicklingError):
        answer.set_exception(
          ValueError(
            "a process that decodes images has ended with status "
            f"{process.wait()}; if that was for want of memory, lower "
            "data.workers or train.batch. The same command goes on."
          )
        )
