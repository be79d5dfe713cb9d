"""Pieces of the report's HTML; each escapes the text that it is given.

The page has no script and loads nothing. It is set in the reader's own fonts,
follows the light or dark mode of the system, and fits a phone.
"""

from collections.abc import Iterable, Sequence
from html import escape
import re
from urllib.parse import quote

_SPACE = re.compile(r"(?<![,:]) (?!±)")  # within a value

# Readable on white and on near-black.
_PALETTE = (
  *("#3576e8", "#e07b1a", "#1f9d4d", "#c23a9a", "#7a55d6", "#0e8ea3"),
  *("#b98a00", "#d93a3a", "#6b7280"),
)

_CSS = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #ffffff;
  --ink: #1b1f27; --muted: #667085; --line: #e3e6eb; --tint: #f2f4f8;
  --warn: #8a1f11; --warn-back: #fdecea; --warn-line: #f0b4ac;
  --accent: #2563eb; }
@media (prefers-color-scheme: dark) { :root { --page: #0f1216; --card: #171b21;
  --ink: #e6e9ef; --muted: #98a2b3; --line: #2b313b; --tint: #1f252d;
  --warn: #ffb4a8; --warn-back: #3a1814; --warn-line: #6d2c24;
  --accent: #8ab0ff; }
  svg image { filter: invert(1) hue-rotate(180deg); } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans",
  "Liberation Sans", sans-serif; -webkit-text-size-adjust: 100%; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 20px 64px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0; letter-spacing: -.015em;
  text-wrap: balance; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 0 0 2px; letter-spacing: -.005em; }
h3 { font-size: .875rem; font-weight: 600; margin: 0 0 8px; }
p { margin: 0; max-width: 46rem; text-wrap: pretty; }
.under, .note, .absent, footer { color: var(--muted); }
.under { margin: 6px 0 24px; overflow-wrap: anywhere; }
.note { font-size: .875rem; margin-bottom: 14px; }
section { margin-top: 40px; }
.tiles { display: grid; gap: 10px; margin: 0;
  grid-template-columns: repeat(auto-fit, minmax(132px, 1fr)); }
.tiles div, figure, .notes { background: var(--card);
  border: 1px solid var(--line); border-radius: 10px; }
.tiles div { padding: 12px 14px; display: flex; flex-direction: column;
  justify-content: space-between; }
.tiles dt { font-size: .78rem; color: var(--muted); }
.tiles dd { margin: 2px 0 0; font-size: 1.22rem; font-weight: 600;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
.tiles div:first-child dd { color: var(--accent); }
.banner { background: var(--warn-back); color: var(--warn); padding: 14px 18px;
  border: 1px solid var(--warn-line); border-radius: 10px; margin: 0 0 16px; }
.notes { padding: 12px 18px; margin: 0 0 16px; font-size: .875rem; }
.notes ul { margin: 4px 0 0; padding-left: 1.2em; color: var(--muted); }
.notes li { overflow-wrap: anywhere; }
pre { margin: 0 0 16px; padding: 14px 16px; background: var(--tint);
  border: 1px solid var(--line); border-radius: 10px; white-space: pre-wrap;
  overflow-wrap: anywhere; font: .8125rem/1.6 ui-monospace, SFMono-Regular,
  Menlo, Consolas, "Liberation Mono", monospace; }
pre.copy { white-space: pre; overflow-x: auto; cursor: copy;
  user-select: all; -webkit-user-select: all; }
figure { margin: 0; padding: 16px 18px; min-width: 0; }
figure + figure, .grid + figure { margin-top: 14px; }
.grid { display: grid; gap: 14px; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 400px), 1fr)); }
.grid figure + figure { margin-top: 0; }
.grid .row { grid-column: 1 / -1; }
.scroll { overflow-x: auto; }
svg { display: block; width: 100%; height: auto; }
.scroll svg { width: calc(var(--w) * 1.25px); max-width: none; margin: 0 auto; }
.grid .scroll svg { width: 100%; max-width: calc(var(--w) * 1.25px);
  min-width: calc(var(--w) * .7px); }
svg text { font-family: inherit; font-variant-numeric: tabular-nums; }
svg image { image-rendering: pixelated; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 0 0 12px;
  padding: 0; list-style: none; font-size: .8125rem; color: var(--muted); }
.legend i, td i { display: inline-block; width: 12px; height: 12px;
  border-radius: 3px; margin-right: 7px; vertical-align: -1px; }
.legend i.dash { height: 0; width: 18px; border-radius: 0; vertical-align: 4px;
  border-top: 2px dashed var(--muted); }
table { border-collapse: collapse; width: 100%; font-size: .875rem;
  font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 7px 14px 7px 0;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
tr:last-child > * { border-bottom: 0; }
th { font-weight: 400; color: var(--muted); }
a { color: var(--accent); text-underline-offset: 2px; }
.facts th { width: 34%; }
.runs th, .runs td { overflow-wrap: normal; padding-right: 10px; }
.runs th { vertical-align: bottom; }
.runs td:first-child { white-space: nowrap; }
.grid .runs * { padding-right: 9px; }
.runs + p, figure + p { margin-top: 12px; font-size: .875rem; }
summary { cursor: pointer; font-weight: 600; font-size: .875rem; }
details pre { margin-top: 10px; }
footer { margin-top: 48px; font-size: .8125rem; }
@media (max-width: 600px) { main { padding: 24px 14px 48px; }
  h1 { font-size: 1.5rem; } figure { padding: 12px; }
  .tiles div { padding: 10px 12px; } .tiles dd { font-size: 1.1rem; } }
@media print { body { background: none; } section { break-inside: avoid; } }
"""


def document(title: str, under: str, body: Iterable[str]) -> str:
  """Returns the whole page."""
  return (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f"<title>{escape(title)}</title><style>{_CSS}</style></head><body><main>"
    f'<h1>{escape(title)}</h1><p class="under">{escape(under)}</p>'
    f"{''.join(body)}<footer>Written by jnas.</footer></main></body></html>\n"
  )


def section(title: str, body: str, note: str = "") -> str:
  """Returns a section with a heading; `body` is HTML."""
  note = f'<p class="note">{escape(note)}</p>' if note else ""
  return f"<section><h2>{escape(title)}</h2>{note}{body}</section>"


def tiles(facts: Sequence[tuple[str, str]]) -> str:
  """Returns the headline figures, as (name, value)."""
  rows = [
    f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
    for name, value in facts
  ]
  return f'<dl class="tiles">{"".join(rows)}</dl>'


def banner(title: str, text: str) -> str:
  """Returns a warning that can't be overlooked."""
  return (
    f'<div class="banner" role="alert"><strong>{escape(title)}</strong> '
    f"{escape(text)}</div>"
  )


def notes(title: str, items: Iterable[str]) -> str:
  """Returns a list of remarks."""
  rows = "".join(f"<li>{escape(item)}</li>" for item in items)
  return (
    f'<div class="notes"><strong>{escape(title)}</strong><ul>{rows}</ul></div>'
  )


def code(text: str) -> str:
  """Returns a block of text that one click selects."""
  return f'<pre class="copy" tabindex="0">{escape(text)}</pre>'


def folded(title: str, text: str, copy: bool = False) -> str:
  """Returns text that opens on a click, and that another one selects."""
  body = code(text) if copy else f"<pre>{escape(text)}</pre>"
  return f"<details><summary>{escape(title)}</summary>{body}</details>"


def figure(
  title: str, body: str, wide: bool = False, row: bool = False
) -> str:
  """Returns a card around HTML; a wide one scrolls sideways on a phone.

  One with a `row` of its own has nothing beside it in a grid.
  """
  body = f'<div class="scroll" tabindex="0">{body}</div>' if wide else body
  alone = ' class="row"' if row else ""
  return f"<figure{alone}><h3>{escape(title)}</h3>{body}</figure>"


def grid(figures: Iterable[str]) -> str:
  """Returns cards side by side, or below each other where it is narrow."""
  body = "".join(figures)
  return f'<div class="grid">{body}</div>' if body else ""


def legend(entries: Iterable[tuple[str, str]]) -> str:
  """Returns a legend of (colour, name); no colour is a dashed line."""
  rows = []
  for colour, name in entries:
    style = f' style="background:{colour}"' if colour else ' class="dash"'
    rows.append(f"<li><i{style}></i>{escape(name)}</li>")
  return f'<ul class="legend">{"".join(rows)}</ul>'


def table(rows: Iterable[tuple[str, str]]) -> str:
  """Returns a table of (name, value)."""
  body = "".join(
    f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>"
    for name, value in rows
  )
  return f'<table class="facts">{body}</table>'


def wide_table(
  heads: Sequence[str], rows: Sequence[Sequence[str]], colours: Sequence[str]
) -> str:
  """Returns a card with a table; each row opens with a patch of its colour."""
  patches = [f'<i style="background:{colour}"></i>' for colour in colours]
  body = columns(heads, rows, patches)
  return f'<figure><div class="scroll" tabindex="0">{body}</div></figure>'


def columns(
  heads: Sequence[str],
  rows: Sequence[Sequence[str]],
  before: Sequence[str] | None = None,
) -> str:
  """Returns a table with heads; `before` is HTML in front of each row.

  Where there is little room, values break before a spread and between parts.
  """
  head = "".join(f"<th>{escape(cell)}</th>" for cell in heads)
  body = ""
  for row, first in zip(rows, before or [""] * len(rows), strict=True):
    name, *cells = (escape(_SPACE.sub("\N{NO-BREAK SPACE}", c)) for c in row)
    cells = "".join(f"<td>{cell}</td>" for cell in cells)
    body += f"<tr><td>{first}{name}</td>{cells}</tr>"
  return (
    f'<table class="runs"><thead><tr>{head}</tr></thead>'
    f"<tbody>{body}</tbody></table>"
  )


def links(title: str, entries: Iterable[tuple[str, str, str]]) -> str:
  """Returns a line of links as (path from the page, its text, more text)."""
  rows = "".join(
    f'<li><a href="{quote(path)}">{escape(text)}</a> {escape(more)}</li>'
    for path, text, more in entries
  )
  return f'<h3>{escape(title)}</h3><ul class="legend">{rows}</ul>'


def colours(count: int) -> list[str]:
  """Returns so many colours of curves; from the tenth on they repeat."""
  return [_PALETTE[i % len(_PALETTE)] for i in range(count)]


def absent(text: str) -> str:
  """Returns a remark in place of what is not there."""
  return f'<p class="absent">({escape(text)})</p>'


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
