"""Batches of image files by the number of a step, decoded ahead of it.

Which files are in a batch, and how each is cropped, follow from (seed, name,
step) and the row alone: any step can be asked for, by one process or by one of
several that have a part of the rows each, and the number of processes that
decode does not matter.
"""

import collections
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
import functools
import zlib

import numpy as np

from jnas.data import decoding, device
from jnas.data.decoding import Reply, Request
from jnas.data.files import Files, FileSplit

PIECE = 64  # files that one process reads at once; a batch may be of several
_TRIES = 1000  # files after one that cannot be read, to take its place


class Batches:
  """The batches of one stream of a training.

  The next file takes the place of one that cannot be read, if that may be.

  Args:
    split: files and labels; it notes those that cannot be read.
    batch: examples of a step, over all processes.
    rows: of these that are wanted here.
    seed: of all draws.
    name: of the stream.
    least: of the area of a random crop; 0 for the middle of each image.
    ahead: batches that are decoded before they are asked for.
  """

  def __init__(
    self,
    split: FileSplit,
    *,
    batch: int,
    rows: slice,
    seed: int,
    name: str,
    least: float,
    ahead: int,
  ):
    self._split, self._batch, self._rows = split, batch, rows
    self._seed = seed, zlib.crc32(name.encode())
    self._least, self._ahead = least, ahead
    self._decoders = decoding.pool(split.files.workers)
    self._per_epoch = device.steps_per_epoch(len(split), batch)
    self._order = functools.lru_cache(2)(self._permutation)
    self._coming: dict[int, list[Future]] = {}

  def fetch(self, step: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns images [rows, size, size, 3] and labels [rows] of a step.

    Args:
      step: its number.
      stop: the step at which a run ends: nothing of it is decoded.
    """
    near = range(step, max(step + 1, min(step + 1 + self._ahead, stop)))
    for known in list(self._coming):
      if known not in near:
        for answer in self._coming.pop(known):
          answer.cancel()
    for each in near:
      if each not in self._coming:
        index = self.index(each)
        self._coming[each] = [
          self._decoders.submit(self._request(each, index[part], part.start))
          for part in _pieces(len(index))
        ]
    reply, index = _joined(self._coming.pop(step)), self.index(step)
    for row, why in reply.failed:
      index[row], reply.images[row] = self._instead(step, index, row, why)
    return reply.images, self._split.labels[index]

  def index(self, step: int) -> np.ndarray:
    """Returns which examples the rows of a step are."""
    epoch, at = divmod(step, self._per_epoch)
    order = self._order(epoch)[at * self._batch : (at + 1) * self._batch]
    return order[self._rows].copy()

  def _permutation(self, epoch: int) -> np.ndarray:
    rng = np.random.default_rng((*self._seed, 0, epoch))
    return rng.permutation(len(self._split))

  def _request(
    self, step: int, index: np.ndarray, first: int = 0
  ) -> Request:
    start, seeds = self._rows.start + first, ()
    if self._least:
      rows = range(start, start + len(index))
      seeds = tuple((*self._seed, 1, step, row) for row in rows)
    return request(self._split.files[index], self._least, seeds)

  def _instead(
    self, step: int, index: np.ndarray, row: int, why: str
  ) -> tuple[int, np.ndarray]:
    """Returns the next example that can be read, and its image."""
    found, size = int(index[row]), len(self._split)
    for _ in range(min(_TRIES, size)):
      self._split.unreadable(found, why)
      found = (found + 1) % size
      request = self._request(step, np.array([found]), row)
      reply: Reply = self._decoders.submit(request).result()
      if not reply.failed:
        return found, reply.images[0]
      why = reply.failed[0][1]
    raise ValueError(
      f"expected images that can be read; found {_TRIES:,} files in a row, or "
      f"all, that cannot be: {why}"
    )


def in_order(
  split: FileSplit, rows: Sequence[np.ndarray], ahead: int
) -> Iterator[Reply]:
  """Yields a `Reply` for the examples of each of `rows`, decoded ahead."""
  files, coming = split.files, collections.deque()
  decoders = decoding.pool(files.workers)
  rest = iter(rows)
  while True:
    while len(coming) <= ahead and (index := next(rest, None)) is not None:
      coming.append(
        [
          decoders.submit(request(files[index[part]]))
          for part in _pieces(len(index))
        ]
      )
    if not coming:
      return
    yield _joined(coming.popleft())


def request(
  files: Files, least: float = 0.0, seeds: tuple[tuple[int, ...], ...] = ()
) -> Request:
  """Returns what asks for all of these files."""
  names, spans = files.names.tolist(), ()
  if files.spans is not None:
    spans = tuple(map(tuple, files.spans.tolist()))
  return Request(
    *(files.root, names, files.size, least, seeds, spans, files.prepared)
  )


def _pieces(count: int) -> list[slice]:
  return [
    slice(start, min(start + PIECE, count)) for start in range(0, count, PIECE)
  ]


def _joined(answers: list[Future]) -> Reply:
  """Returns the replies of the pieces of a batch as one."""
  replies = [answer.result() for answer in answers]
  if len(replies) == 1:
    return replies[0]
  failed, start = [], 0
  for reply in replies:
    failed += [(start + row, why) for row, why in reply.failed]
    start += len(reply.images)
  return Reply(np.concatenate([reply.images for reply in replies]), failed)
