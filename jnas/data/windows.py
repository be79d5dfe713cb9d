"""A text as columns that are read side by side, window by window.

A text of N tokens in B columns has N // B rows. Window after window goes down
the rows, each from where the one before it ended, so that the hidden state is
carried on. Windows have random lengths, and are padded to one of a few sizes:
whatever the length, the program is the same. Which rows a step reads is a
function of (key, step) alone.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


def columns(tokens: np.ndarray, batch: int) -> np.ndarray:
  """The text in `batch` columns, [N // B, B]; what is left over is dropped.

  >>> columns(np.arange(7), 2).tolist()
  [[0, 3], [1, 4], [2, 5]]

  Raises:
    ValueError: the text is too short for two rows, a token and what follows.
  """
  rows = len(tokens) // batch
  if rows < 2:
    raise ValueError(
      f"expected a text of at least {2 * batch:,} tokens for {batch:,} columns "
      f"of two rows; found {len(tokens):,}. Lower the batch, or give more text."
    )
  return np.ascontiguousarray(tokens[: rows * batch].reshape(batch, rows).T)


class Window(NamedTuple):
  """Where a step reads.

  Attributes:
    start: the first row.
    length: rows that are read.
    first: whether no window comes before it, and hidden states are zero.
  """

  start: Array
  length: Array
  first: Array


@dataclasses.dataclass(frozen=True)
class Windows:
  """The windows of an epoch, as the published code draws them.

  A length is `bptt`, with the probability `halved` half of it; with a
  `deviation` it is drawn from a normal distribution around that, from 5 to
  bptt + 20.

  Attributes:
    rows: of the columns.
    bptt: the usual length.
    halved: the probability of half of it; 0.05 in the field.
    deviation: of lengths; 0 while searching, 5 while training.
  """

  rows: int
  bptt: int
  halved: float = 0.05
  deviation: float = 0.0

  @property
  def longest(self) -> int:
    """The length that no window exceeds."""
    return self.bptt + 20 if self.deviation else self.bptt

  @property
  def sizes(self) -> tuple[int, ...]:
    """The lengths that windows are padded to, each to the next one, ascending.

    Of a normal distribution three fifths, nearly all, and all: at the published
    35 and 5 the sizes are 35, 45 and 55, and the mean window is padded to 39.

    >>> Windows(1000, 35, deviation=5.0).sizes, Windows(1000, 35).sizes
    ((35, 45, 55), (35,))
    """
    nearly_all = self.bptt + math.ceil(2 * self.deviation)
    sizes = {self.bptt, min(nearly_all, self.longest), self.longest}
    return tuple(sorted(sizes))

  @property
  def per_epoch(self) -> int:
    """Windows of an epoch: as many as read the text once, on average."""
    mean = self.bptt * (1 - self.halved / 2)
    return math.ceil((self.rows - 1) / mean)

  def lengths(self, key: Array) -> Array:
    """The lengths of an epoch's windows, [per_epoch], before they are cut."""
    of_halves, of_lengths = jax.random.split(key)
    size = (self.per_epoch,)
    half = jax.random.uniform(of_halves, size) < self.halved
    mean = jnp.where(half, self.bptt / 2, self.bptt)
    if self.deviation:
      drawn = mean + self.deviation * jax.random.normal(of_lengths, size)
      mean = jnp.clip(drawn, 5, self.longest)
    return jnp.floor(mean).astype(jnp.int32).clip(1)

  def at(self, key: Array, step: Array | int) -> Window:
    """The window of a step.

    What an epoch reads too much, as its lengths are drawn, it reads from the
    beginning again; what it reads too little, another one reads.

    Args:
      key: typed key of the stream, the same for all steps.
      step: may be traced.
    """
    step = jnp.asarray(step, jnp.int32)
    epoch, i = step // self.per_epoch, step % self.per_epoch
    lengths = self.lengths(jax.random.fold_in(key, epoch))
    ends = jnp.cumsum(lengths)
    laps = (ends - lengths) // (self.rows - 1)
    first = (i == 0) | (laps[i] > laps[i - 1])
    return self.cut(ends[i] - lengths[i], lengths[i])._replace(first=first)

  def cut(self, start: Array, length: Array) -> Window:
    """The window from a row on, which may lie beyond the end.

    The last row is nobody's input: nothing follows it.
    """
    start = start % (self.rows - 1)
    length = jnp.minimum(length, self.rows - 1 - start)
    return Window(start, length, start == 0)


def padded(columns: np.ndarray, longest: int) -> np.ndarray:
  """Columns with zeros below, so that a window fits from every row on."""
  return np.pad(columns, ((0, longest), (0, 0)))


def read(columns: Array, start: Array, longest: int) -> tuple[Array, Array]:
  """The tokens of a window and those that follow, [longest, B] each.

  Args:
    columns: as from `padded`.
    start: the first row.
    longest: rows of the window, padding included.
  """
  rows = lax.dynamic_slice_in_dim(columns, start, longest + 1)
  return rows[:-1], rows[1:]


def evaluation(rows: int, length: int) -> np.ndarray:
  """(start, length) of the windows that read all rows once, in order: [K, 2].

  >>> evaluation(8, 3).tolist()
  [[0, 3], [3, 3], [6, 1]]
  """
  starts = np.arange(0, rows - 1, length)
  return np.stack([starts, np.minimum(length, rows - 1 - starts)], 1)
