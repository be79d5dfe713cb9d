"""Tabular benchmarks: the accuracy of every cell of a space, looked up.

A table is a csv file (or csv.gz) with a column `architecture` and columns of
test accuracies in percent, such as that of NAS-Bench-201 (Dong & Yang 2020):

  index,architecture,cifar10_12,cifar10_200,...
  0,|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|...|,69.55,86.18,...

`cifar10_200` is the accuracy on CIFAR-10 after 200 epochs of training. What a
search has found in such a space is judged without training it.
"""

from collections.abc import Mapping
import csv
import dataclasses
import difflib
import io
import os
import pathlib
import statistics
from types import MappingProxyType
from typing import Any

from jnas.data import archives, limits

_KEY = "architecture"
_NO_ACCURACY = (_KEY, "index")


@dataclasses.dataclass(frozen=True)
class Table:
  """The accuracies of a table, as fractions.

  Attributes:
    source: the file, for messages.
    columns: the names of the columns of accuracies.
    rows: for each architecture its accuracies in [0, 1], in that order.
  """

  source: str
  columns: tuple[str, ...]
  rows: Mapping[str, tuple[float, ...]]

  def accuracy(self, text: str, column: str) -> float:
    """Returns the accuracy in [0, 1] of the architecture written `text`.

    Raises ValueError if the table has no such architecture or column.
    """
    place = self._place(column)
    try:
      return self.rows[text.strip()][place]
    except KeyError:
      raise ValueError(
        f"Expected one of the {len(self.rows):,} architectures of "
        f"{limits.shown(self.source)}, got {text[:160]!r}; write it as the "
        f"table does, for instance {next(iter(self.rows))[:160]!r}."
      ) from None

  def best(self, column: str) -> float:
    """Returns the highest accuracy of a column, in [0, 1]."""
    place = self._place(column)
    return max(row[place] for row in self.rows.values())

  def mean(self, column: str) -> float:
    """Returns the mean accuracy of a column, in [0, 1]: a random choice's."""
    place = self._place(column)
    return statistics.fmean(row[place] for row in self.rows.values())

  def _place(self, column: str) -> int:
    if column in self.columns:
      return self.columns.index(column)
    near = difflib.get_close_matches(str(column)[:100], self.columns, n=1)
    hint = f"did you mean {near[0][:100]!r}?" if near else "choose one of them."
    columns = limits.cut(", ".join(self.columns), 1000)
    raise ValueError(
      f"Expected a column of {limits.shown(self.source)}, so one of {columns}, "
      f"got {limits.shown(column, 100)}; {hint}"
    )


def load(path: str | os.PathLike[str]) -> Table:
  """Returns the table in the csv or csv.gz file `path`.

  Raises:
    FileNotFoundError: nothing is at that path.
    ValueError: it is no table of accuracies; says in which line.
  """
  with limits.short_errors():
    return _load(path)


def _load(path: str | os.PathLike[str]) -> Table:
  found = archives.existing(path, "a table of accuracies, a csv or csv.gz file")
  if found.is_dir():
    raise ValueError(
      f"Expected a csv or csv.gz file, got the folder {str(found)!r}; name the "
      "file in it."
    )
  return _read(_text(found), str(found))


def _text(path: pathlib.Path) -> str:
  try:
    return archives.read_whole(path, "bytes of a table").decode("utf-8-sig")
  except UnicodeDecodeError as error:
    raise ValueError(
      f"Expected a csv file in UTF-8 at {str(path)!r}, got other bytes "
      f"({error}); give the table itself, as csv or csv.gz."
    ) from error


def _read(text: str, source: str) -> Table:
  try:
    return _rows(csv.reader(io.StringIO(text, newline="")), source)
  except csv.Error as error:  # a field of 131,072 characters, NUL, ...
    raise ValueError(
      f"Expected a table as csv in {limits.shown(source)}, got text that is "
      f"none ({error}); copy the file again."
    ) from error


def _rows(reader: Any, source: str) -> Table:
  head = [name.strip() for name in next(reader, [])]
  places = [i for i, name in enumerate(head) if name not in _NO_ACCURACY]
  columns = tuple(head[i] for i in places)
  odd = _KEY not in head or not columns or len(set(head)) < len(head)
  if odd or not all(name.isprintable() for name in head):
    raise ValueError(
      f"Expected a first line with the column {_KEY!r} and columns of "
      f"accuracies, each once, in {source!r}, got {', '.join(head)[:160]!r}; "
      "name the columns as in index,architecture,cifar10_12,cifar10_200."
    )
  key, rows = head.index(_KEY), {}
  for line in reader:
    if not line:
      continue
    where = f"in line {reader.line_num} of {source!r}"
    if len(line) != len(head):
      raise ValueError(
        f"Expected {len(head)} values {where}, got {len(line)}; the file may "
        "have been cut short: copy it again."
      )
    name = line[key].strip()
    if name in rows:
      raise ValueError(
        f"Expected each architecture once, got {name[:160]!r} again {where}; "
        "remove "
        "one of the two lines."
      )
    limits.spend("lines of a table", len(rows) + 1, source)
    rows[name] = tuple(_fraction(line[i], head[i], where) for i in places)
  if not rows:
    raise ValueError(
      f"Expected a line for each architecture in {source!r}, got none after "
      "the names of the columns; copy the file again."
    )
  return Table(source, columns, MappingProxyType(rows))


def _fraction(text: str, column: str, where: str) -> float:
  """Returns percent as a fraction."""
  try:
    percent = float(text)
  except ValueError:
    percent = -1.0
  if not 0.0 <= percent <= 100.0:  # nan, too
    raise ValueError(
      f"Expected an accuracy from 0 to 100 (percent) in column {column!r} "
      f"{where}, got {text[:60]!r}; correct it, or remove the line."
    )
  return percent / 100.0
