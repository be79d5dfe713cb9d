"""Curves, bars, points and bands as SVG; one way for all of them.

A chart is a list of marks over two axes. What is drawn here is the picture as
it stands in the file; beside it goes the same list as data, from which the
script of the page (`templates/page.js`) draws it again when its reader zooms,
smooths or takes a logarithm. Who changes one looks at the other.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import html
import math
from typing import Any, NamedTuple

from jnas.report import layout, parts

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 420.0, 262.0
_FOOT, _LEGEND, _LINE = 36.0, 18.0, 12.0  # points below, above; of a label
_FONT = 11.0  # as in figure.css
_MOST_POINTS = 1500  # of a curve: more than a screen shows


@dataclasses.dataclass(frozen=True)
class Mark:
  """Something that is drawn.

  Attributes:
    name: in the legend, if `legend`, and under the pointer.
    points: (x, y) pairs.
    colour: of CSS.
    kind: "line"; "faint", a background to lines; "area", a polygon; "bars",
      from 0; "dots", "hollow" or "rings"; "level", a line across at the first
      y, or "upright" at the first x, with its name.
    labels: of dots.
    legend: whether it has an entry.
  """

  name: str
  points: Points
  colour: str = "muted"
  kind: str = "line"
  labels: Sequence[str] = ()
  legend: bool = True


class Scale(NamedTuple):
  """From numbers to points of the picture."""

  low: float
  high: float
  start: float
  end: float
  log: bool = False

  def __call__(self, value: float) -> float:
    low, high = self.low, self.high
    if self.log:
      low, high, value = map(math.log10, (low, high, max(value, 1e-300)))
    return self.start + (value - low) / (high - low) * (self.end - self.start)


def figure(
  title: str,
  marks: Sequence[Mark],
  *,
  x: str = "epoch",
  y: str = "",
  form: str = "{:.3g}",
  x_form: str = "{:.4g}",
  log: bool = False,
  limits: tuple[float, float] | None = None,
  rows: Sequence[str] = (),
  half: bool = True,
  last: bool = True,
) -> parts.Figure:
  """Returns a chart.

  Args:
    title: of the figure.
    marks: at least one, with a point each.
    x: title of the horizontal axis.
    y: title of the vertical axis.
    form: of the values of y, "{:.2%}" for instance.
    x_form: of the values of x.
    log: whether the vertical axis is logarithmic; of positive values only.
    limits: of the vertical axis.
    rows: names of y = 0, 1, ... from the top, in place of numbers.
    half: whether another figure may stand beside it.
    last: whether the legend tells the last value of each line.
  """
  marks = [_thinned(mark) for mark in marks]
  entries = _entries(marks, form if last else "")
  lines, high = _legend(entries)
  tall = HEIGHT if not rows else high + _FOOT + 14 + max(26 * len(rows), 60)
  across, up = _limits(marks, log, limits, rows)
  ticks = list(_ticks(*up, 6, log))
  names = list(rows) or _labels(ticks, form)
  wide = max([_wide(name) for name in names], default=0.0)
  left = min(wide, 0.4 * WIDTH) + 12 + 16 * bool(y)
  top = high + 8 + _LINE * sum(mark.kind == "upright" for mark in marks)
  box = (left, top, WIDTH - left - 12, tall - top - _FOOT)
  to_x = Scale(*across, 0.0, box[2])
  to_y = Scale(*up, box[3], 0.0, log)
  if rows:
    ticks = list(range(len(rows)))
    to_y = Scale(len(rows) - 0.5, -0.5, box[3], 0.0)
  drawn = [
    lines,
    f'<g class="axes">{_axes(box, to_x, to_y, ticks, names, x, x_form, rows)}'
    "</g>",
    f'<svg class="plot" x="{box[0]:.5g}" y="{box[1]:.5g}" width="{box[2]:.5g}" '
    f'height="{box[3]:.5g}">',
    *(_shape(mark, to_x, to_y) for mark in marks),
    *_names(marks, to_x, to_y, box),
    "</svg>",
    *_uprights(marks, to_x, box),
  ]
  if y:
    middle = box[1] + box[3] / 2
    turned = f' transform="rotate(-90 10 {middle:.5g})"'
    drawn.append(text(10, middle, y, more=turned))
  data = {
    "box": [round(v, 2) for v in box],
    **{"x": x, "form": form, "xForm": x_form, "log": log},
    **{"rows": list(rows), "limits": list(limits or ())},
    "marks": [_data(mark) for mark in marks],
  }
  svg = picture(title, WIDTH, tall, "".join(drawn))
  return parts.Figure(title, svg, {"chart": data}, half=half)


def picture(title: str, width: float, height: float, body: str) -> str:
  """Returns an `<svg>` that follows the colours of `figure.css`."""
  return (
    f'<svg class="fig" role="img" aria-label="{html.escape(title)}" '
    f'viewBox="0 0 {width:.6g} {height:.6g}" style="--w:{width:.0f}" '
    f'xmlns="http://www.w3.org/2000/svg">{body}</svg>'
  )


def text(
  x: float,
  y: float,
  words: str,
  name: str = "muted",
  anchor: str = "middle",
  more: str = "",
) -> str:
  """Returns text at a point: its "start", "middle" or "end" stands there."""
  return (
    f'<text x="{x:.5g}" y="{y:.5g}" class="{name}" '
    f'text-anchor="{anchor}"{more}>{html.escape(words)}</text>'
  )


def _limits(marks, log, limits, rows) -> tuple[Any, Any]:
  """Returns the ranges of x and y, with room around the marks."""
  xs = [p[0] for m in marks if m.kind != "level" for p in m.points]
  ys = [p[1] for m in marks if m.kind != "upright" for p in m.points]
  bars = [mark for mark in marks if mark.kind == "bars"]
  room = 0.06 if any(m.kind in ("dots", "hollow") for m in marks) else 0.01
  low, high = min(xs, default=0.0), max(xs, default=1.0)
  wide = (high - low) or 1.0
  pad = 0.5 if bars or low == high else room * wide
  across = (low - pad, high + pad)
  if limits:
    return across, limits
  low, high = min(ys), max(ys)
  if bars:
    return across, (0.0, 1.1 * max(high, 1.0))
  if log:
    ratio = max(high / low, 1.5) ** 0.05
    return across, (low / ratio, high * ratio)
  pad = 0.06 * ((high - low) or abs(high) or 1.0)
  return across, (low - pad, high + pad)


def _ticks(
  low: float, high: float, most: int, log: bool = False, whole: bool = False
) -> Iterator[float]:
  """Yields round numbers from low to high; whole ones, if asked.

  >>> list(_ticks(0.0, 1.0, 5)), list(_ticks(0.003, 40.0, 6, True))
  ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.01, 0.1, 1.0, 10.0])
  """
  if log:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = max(1, len(powers) // 7)
    some = (1, 2, 5) if high < 200 * low else (1,)
    found = [d * 10.0**p for p in powers if p % every == 0 for d in some]
    found = [tick for tick in found if low <= tick <= high]
    if len(found) > 2:  # else the range is so narrow that steps are better
      yield from found
      return
  raw = (high - low) / most
  power = 10.0 ** math.floor(math.log10(raw))
  step = next(s for s in (1, 2, 5, 10) if s * power >= raw * 0.999) * power
  step = max(step, 1.0) if whole else step
  for k in range(
    math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1
  ):
    yield float(f"{k * step:.12g}")


def _labels(ticks: Sequence[float], form: str) -> list[str]:
  """Returns ticks as text, with the decimals that tell them apart."""
  if "%" not in form:
    return [f"{tick:,.6g}" for tick in ticks]
  steps = [b - a for a, b in zip(ticks, ticks[1:], strict=False)]
  least = 100 * min(steps, default=1.0)
  decimals = max(0, -math.floor(math.log10(least * 1.001)))
  return [f"{100 * tick:.{decimals}f}%" for tick in ticks]


def _axes(box, to_x, to_y, ticks, names, title, form, rows) -> str:
  left, top, wide, high = box
  found = []
  for tick, name in zip(ticks, names, strict=True):
    at = top + to_y(tick)
    if not rows:
      line = f"M{left:.5g} {at:.5g}h{wide:.5g}"
      found.append(f'<path class="rule" d="{line}"/>')
    # A name that is too long begins outside the picture: shorten it.
    name = _shortened(name, left - 10)
    found.append(text(left - 6, at + 3.5, name, "muted", "end"))
  marks = list(_ticks(to_x.low, to_x.high, 7, whole=title == "epoch"))
  for tick, name in zip(marks, _labels(marks, form), strict=True):
    at = left + to_x(tick)
    if rows:
      found.append(f'<path class="rule" d="M{at:.5g} {top:.5g}v{high:.5g}"/>')
    found.append(text(at, top + high + 14, name))
  found.append(text(left + wide / 2, top + high + 30, title))
  if not rows:
    found.append(
      f'<path class="rule" d="M{left:.5g} {top + high:.5g}h{wide:.5g}"/>'
    )
  return "".join(found)


def _shape(mark: Mark, to_x: Scale, to_y: Scale) -> str:
  points = [(to_x(x), to_y(y)) for x, y in mark.points]
  colour = html.escape(mark.colour)
  if mark.kind in ("level", "upright"):
    x, y = points[0]
    line = f"M-999 {y:.5g}H9999" if mark.kind == "level" else f"M{x:.5g} 0V999"
    return f'<path class="level" d="{line}"/>'
  alone = len(points) == 1 and mark.kind in ("line", "faint")
  if alone or mark.kind in ("dots", "hollow", "rings"):
    kind = "dots" if alone else mark.kind
    paint = "fill" if kind == "dots" else "stroke"
    fill = f'class="{kind}" {paint}="{colour}"'
    size = 6 if kind == "rings" else 3.4
    return "".join(
      f'<circle cx="{x:.5g}" cy="{y:.5g}" r="{size}" {fill}/>'
      for x, y in points
    )
  if mark.kind == "bars":
    half = 0.4 * abs(to_x(1) - to_x(0))
    return "".join(
      f'<rect x="{x - half:.5g}" y="{y:.5g}" width="{2 * half:.5g}" '
      f'height="{max(to_y(0) - y, 0):.5g}" fill="{colour}"/>'
      for x, y in points
    )
  path = "L".join(f"{x:.4g} {y:.4g}" for x, y in points)
  if mark.kind == "area":
    return f'<path class="area" fill="{colour}" d="M{path}Z"/>'
  return f'<path class="{mark.kind}" stroke="{colour}" d="M{path}"/>'


def _names(marks, to_x, to_y, box) -> list[str]:
  """Returns the labels of levels and dots, none over another."""
  levels = [mark for mark in marks if mark.kind == "level"]
  levels.sort(key=lambda mark: to_y(mark.points[0][1]))
  found, taken, least = [], [], 10.0
  for mark in levels:
    # Within the picture, and below the one before.
    at = max(to_y(mark.points[0][1]) - 4, least)
    least = at + _LINE
    found.append(text(4, at, mark.name, "muted", "start"))
    taken.append((4.0, at - 9, 4 + _wide(mark.name), at))
  for mark in marks:
    for (x, y), label in zip(mark.points, mark.labels, strict=False):
      wide, x, y = _wide(label), to_x(x), to_y(y)
      for dx, dy in ((-wide - 4, -5), (5, -5), (5, 12), (-wide - 4, 12)):
        place = (x + dx, y + dy - 9, x + dx + wide, y + dy)
        inside = place[0] > 0 and place[1] > 0 and place[2] < box[2]
        if inside and not any(_overlap(place, other) for other in taken):
          taken.append(place)
          found.append(text(x + dx, y + dy, label, "ink", "start"))
          break
  return found


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
  return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _uprights(marks, to_x, box) -> list[str]:
  """Returns the labels of vertical lines, one above the other."""
  some = [mark for mark in marks if mark.kind == "upright"]
  found = []
  for i, mark in enumerate(some):
    at = box[0] + to_x(mark.points[0][0])
    anchor = "end" if at > box[0] + box[2] / 2 else "start"
    found.append(text(at, box[1] - 4 - _LINE * i, mark.name, "muted", anchor))
  return found


def _wide(words: str) -> float:
  return layout.text_width(words, _FONT)


def _shortened(words: str, width: float) -> str:
  """Returns what of a text has room."""
  if _wide(words) <= width:
    return words
  return words[: max(1, int(width / _wide("x")) - 1)] + "…"


def _entries(marks: Sequence[Mark], form: str) -> list[tuple[str, str]]:
  """Returns the legend as (colour, text); marks of one name share an entry."""
  found = {}
  for mark in marks:
    if mark.legend and mark.kind not in ("faint", "level", "upright", "area"):
      value = form.format(mark.points[-1][1]) if mark.kind == "line" else ""
      words = f"{mark.name}  {value}" if form and value else mark.name
      found.setdefault(mark.name, (mark.colour, words))
  return list(found.values())


def _legend(entries: Sequence[tuple[str, str]]) -> tuple[str, float]:
  """Returns the legend, and how high it is; of one entry alone its value."""
  found, x, y = [], 4.0, 12.0
  for colour, words in entries:
    wide = _wide(words) + 30
    if found and x + wide > WIDTH:
      x, y = 4.0, y + _LEGEND
    found.append(
      f'<path d="M{x:.5g} {y - 3.5:.5g}h12" stroke="{html.escape(colour)}" '
      f'stroke-width="3"/>'
      + text(x + 17, y, words, "ink", "start")
    )
    x += wide
  return "".join(found), y if found else 0.0


def _thinned(mark: Mark) -> Mark:
  """Returns the mark with no more points than a screen shows."""
  count = len(mark.points)
  if mark.kind not in ("line", "faint") or count <= _MOST_POINTS:
    return mark
  every = math.ceil(count / _MOST_POINTS)
  points = [*mark.points[:-1:every], mark.points[-1]]
  return dataclasses.replace(mark, points=points)


def _data(mark: Mark) -> Mapping[str, Any]:
  """Returns a mark as the script of the page reads it."""
  found = {"name": mark.name, "colour": mark.colour, "kind": mark.kind}
  found["points"] = [[_short(x), _short(y)] for x, y in mark.points]
  return found | ({"labels": list(mark.labels)} if mark.labels else {})


def _short(value: float) -> float:
  """Returns five digits of a number: pages are sent around."""
  return float(f"{value:.5g}")
