"""What a page is made of, and numbers as people say them.

A section is a title and a list of parts; `page` turns both into HTML.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any, ClassVar, NamedTuple

# Readable on white and on near-black.
BLUE, ORANGE, GREEN, RED = "#3576e8", "#e07b1a", "#1f9d4d", "#d93a3a"
PURPLE = "#8b45d6"
_PALETTE = (
  *(BLUE, ORANGE, GREEN, "#c23a9a", "#7a55d6", "#0e8ea3"),
  *("#b98a00", RED, "#6b7280"),
)


class Cell(NamedTuple):
  """A cell of a table that is more than text.

  Attributes:
    text: what it says.
    sort: number by which its column is sorted, if its text does not begin
      with it.
    link: where it leads, from the page.
    colour: of a patch before the text, or of the cell if `filled`.
    filled: whether the whole cell has the colour.
  """

  text: str
  sort: float | None = None
  link: str = ""
  colour: str = ""
  filled: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
  """Rows of text; without heads, of names and values."""

  kind: ClassVar[str] = "table"
  rows: Sequence[Sequence[str | Cell]]
  heads: Sequence[str] = ()
  title: str = ""
  half: bool = False  # of the page's width, where there is room

  @property
  def kind_of_rows(self) -> str:
    """What the style calls it."""
    if not self.heads:
      return "facts"
    return "matrix" if any(c.filled for row in self.cells for c in row) else ""

  @property
  def cells(self) -> list[list[Cell]]:
    """The rows, all of them cells."""
    return [
      [cell if isinstance(cell, Cell) else Cell(str(cell)) for cell in row]
      for row in self.rows
    ]


@dataclasses.dataclass(frozen=True)
class Figure:
  """A picture, an inline `<svg>`, with what the pointer needs to know of it.

  A figure that is not half as wide as the page scrolls on a phone.
  """

  kind: ClassVar[str] = "figure"
  title: str
  svg: str
  data: Mapping[str, Any] | None = None
  half: bool = False
  scroll: bool = False


@dataclasses.dataclass(frozen=True)
class Code:
  """Text that one click selects; with a title it opens on another."""

  kind: ClassVar[str] = "code"
  text: str
  title: str = ""


@dataclasses.dataclass(frozen=True)
class Text:
  """A paragraph, or a remark in place of what is not there."""

  kind: ClassVar[str] = "text"
  text: str
  title: str = ""


@dataclasses.dataclass(frozen=True)
class Legend:
  """Colours and what they stand for; no colour is a dashed line."""

  kind: ClassVar[str] = "legend"
  entries: Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Facts:
  """The headline figures, as (name, value)."""

  kind: ClassVar[str] = "facts"
  facts: Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Banner:
  """A warning that can't be overlooked."""

  kind: ClassVar[str] = "banner"
  title: str
  text: str


@dataclasses.dataclass(frozen=True)
class Notes:
  """A list of remarks."""

  kind: ClassVar[str] = "notes"
  title: str
  items: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Images:
  """Small pictures, as (PNG in base64, caption)."""

  kind: ClassVar[str] = "images"
  title: str
  images: Sequence[tuple[str, str]]
  wide: bool = False  # two in a row of the page at most


@dataclasses.dataclass(frozen=True)
class History:
  """Pictures by epoch, for a slider; nothing where there is no script.

  Attributes:
    pictures: each drawing once, as `<svg>`.
    frames: (epoch, for each figure its title and index in pictures); at the
      last epoch they are those of the section.
  """

  kind: ClassVar[str] = "history"
  pictures: Sequence[str]
  frames: Sequence[tuple[float, Sequence[tuple[str, int]]]]


Part = (
  Table | Figure | Code | Text | Legend | Facts | Banner | Notes | Images
  | History
)


@dataclasses.dataclass(frozen=True)
class Section:
  """A part of the page with a heading; without a title, its beginning."""

  title: str
  parts: Sequence[Part]
  note: str = ""


# What reading a record of a run raises that is not what it should be.
UNREADABLE = (
  *(AttributeError, IndexError, KeyError, TypeError, ValueError),
  OverflowError,
)


def unreadable(title: str, file: str, error: Exception) -> Section:
  """Returns a section that says that its file cannot be read, and why."""
  return Section(title, [Text(f"{file} is unreadable ({error!r}).")])


def colours(count: int) -> list[str]:
  """Returns so many colours; from the tenth on they repeat."""
  return [_PALETTE[i % len(_PALETTE)] for i in range(count)]


def duration(seconds: float) -> str:
  """Returns a time as people say it.

  >>> duration(0.0123), duration(3.21), duration(754), duration(30000)
  ('12.3 ms', '3.21 s', '12 min 34 s', '8 h 20 min')
  """
  if seconds < 1:
    return f"{seconds * 1000:.3g} ms"
  if seconds < 60:
    return f"{seconds:.3g} s"
  minutes, rest = divmod(round(seconds), 60)
  if minutes < 60:
    return f"{minutes} min {rest} s"
  return f"{minutes // 60} h {minutes % 60} min"


def number(value: float | None) -> str:
  """Returns a number for a table.

  >>> number(546.14), number(0.1839), number(1048.7), number(None)
  ('546', '0.184', '1,049', '–')
  """
  if value is None:
    return "–"
  whole = 100 <= abs(value) < 1e6
  return f"{value:,.0f}" if whole else f"{value:.3g}"


def share(value: float | None) -> str:
  """Returns a fraction as percent.

  >>> share(0.5), share(None)
  ('50.00%', '–')
  """
  return "–" if value is None else f"{value:.2%}"


def letter(index: int) -> str:
  """Returns a letter, or two from the 27th on.

  >>> letter(0), letter(25), letter(26)
  ('A', 'Z', 'AA')
  """
  first, second = divmod(index, 26)
  return (letter(first - 1) if first else "") + chr(ord("A") + second)
