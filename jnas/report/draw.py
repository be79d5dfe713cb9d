"""Drawings as SVG: cells, and heat maps of architecture weights."""

import base64
from collections.abc import Mapping, Sequence
import functools
import html
import importlib.resources
import io
import math

from jnas import genotype as genotype_lib
from jnas.genotype import operators
from jnas.report import chart, parts
from jnas.report import layout as layout_lib

# Mid tones: white text on them, and themselves on white and on near-black, are
# readable. Green and red mean skip and none, as in the figures of the field.
FAMILIES = {
  "separable convolution": "#2563eb",
  "dilated convolution": "#8b45d6",
  "convolution": "#0e7490",
  "pooling": "#c2570c",
  "skip connection": "#15803d",
  "none": "#c62828",
  "activation": "#4f63c6",
  "other operator": "#6b5b4b",
}
# White to dark blue; `figure.css` inverts it where it is dark.
_RAMP = ("#ffffff", "#cfe0fb", "#7fb0f5", "#2f6fe0", "#1b2f8a", "#0d123f")
_GONE = 255  # index of the colour of what is no longer there
_MOST_COLUMNS = 150  # epochs of a heat map: more than it has points


def family(op: str) -> str:
  """Returns the key of FAMILIES that an operator belongs to."""
  # GDAS's fixed reduction cell has one that is not searched.
  found = "convolution" if op == "conv_1x3_3x1" else operators.family(op)
  return found if found in FAMILIES else "other operator"


def cell_svg(g: genotype_lib.AnyGenotype, cell: str | None = None) -> str:
  """Returns the cells of a genotype as an SVG file of its own.

  It has a ground, and colours for light and for dark, so that it is right in a
  notebook, on a slide and in a browser.

  Args:
    g: the genotype.
    cell: the one that is drawn, by its title in `layout.cells`, "Normal cell"
      for instance; all, below each other, if None.

  Raises:
    ValueError: there is no such cell.
  """
  cells = layout_lib.cells(g)
  if cell is not None and cell not in cells:
    raise ValueError(
      f"cell: expected one of {', '.join(map(repr, cells))}, got {cell!r}"
    )
  body, y, wide = "", 0.0, 0.0
  for title, arguments in cells.items():
    if cell in (None, title):
      plan = layout_lib.layout(*arguments)
      body += chart.text(10, y + 18, title, "title", "start")
      body += f'<g transform="translate(0 {y + 24:.5g})">{_drawing(plan)}</g>'
      y += plan.height + 34
      wide = max(wide, plan.width, layout_lib.text_width(title, 11) + 20)
  ground = f'<rect class="ground" width="{wide:.5g}" height="{y:.5g}" rx="8"/>'
  style = f"<style>{figure_css()}</style>"
  svg = chart.picture(", ".join(cells), wide, y, style + ground + body)
  size = f'width="{1.25 * wide:.0f}" height="{1.25 * y:.0f}" '
  return svg.replace("<svg ", f"<svg {size}", 1)


@functools.cache
def figure_css() -> str:
  """Returns the style that every drawing needs, wherever it stands."""
  folder = importlib.resources.files("jnas.report") / "templates"
  return (folder / "figure.css").read_text(encoding="utf-8")


def cell_picture(title: str, arguments: tuple) -> str:
  """Returns one cell (an item of `layout.cells`) for a page."""
  plan = layout_lib.layout(*arguments)
  return chart.picture(title, plan.width, plan.height, _drawing(plan))


def _drawing(plan: layout_lib.Layout) -> str:
  found = []
  for kind, points in plan.edges:
    path = f"M{points[0][0]:.4g} {points[0][1]:.4g}"
    for (xa, ya), (xb, yb) in zip(points, points[1:], strict=False):
      reach = 0.55 * min(xb - xa, layout_lib.LAYER_GAP)
      path += f"C{xa + reach:.4g} {ya:.4g} {xb - reach:.4g} {yb:.4g} "
      path += f"{xb:.4g} {yb:.4g}"
    style = 'class="concat"'
    if kind != "concat":
      style = f'class="edge" stroke="{FAMILIES[family(kind)]}"'
    found.append(f'<path {style} d="{path}"/>')
  return "".join(found) + "".join(map(_box, plan.boxes))


def _box(box: layout_lib.Box) -> str:
  inner = box.kind in ("port", "node")
  round_ = layout_lib.RADIUS if inner else 4.5
  style = 'class="node"' if inner else f'fill="{FAMILIES[family(box.kind)]}"'
  words, below = box.text if isinstance(box.text, tuple) else (box.text, "")
  words = html.escape(words)
  if below:
    words += f'<tspan dy="2" font-size="6.8">{html.escape(below)}</tspan>'
  name = "ink" if inner else "chip"
  size = 9.5 if below else 8
  return (
    f'<rect x="{box.x - box.width / 2:.5g}" y="{box.y - box.height / 2:.5g}" '
    f'width="{box.width:.5g}" height="{box.height:.5g}" rx="{round_}" {style}/>'
    f'<text x="{box.x:.5g}" y="{box.y + 2.9:.5g}" class="{name}" '
    f'text-anchor="middle" font-size="{size}">{words}</text>'
  )


def heat(
  title: str,
  ops: Sequence[str],
  epochs: Sequence[float],
  weights: Mapping[tuple[int, int], Sequence[Sequence[float | None]]],
  kept: Sequence[tuple[str, int, int]],
  inputs: Sequence[str] = ("c k−2", "c k−1"),
  shared: bool = True,
) -> parts.Figure:
  """Returns architecture weights over epochs, a panel an edge.

  Rows of panels are the targets of edges, columns their sources.

  Args:
    title: of the figure.
    ops: the operators, the rows within a panel.
    epochs: the columns within a panel.
    weights: for each edge (source, target) [ops][epochs]; None where an
      operator is no longer there.
    kept: (operator, source, target) of the derived cell, marked by a dot.
    inputs: what the first numbers of `weights` are called; the others are the
      nodes 0 and on.
    shared: whether the operators of an edge share a weight of one.
  """
  every = math.ceil(len(epochs) / _MOST_COLUMNS)
  # The last column is always there.
  columns = list(range(len(epochs) - 1, -1, -every))[::-1]
  targets = sorted({target for _, target in weights})
  sources = sorted({source for source, _ in weights})
  known = [
    v for rows in weights.values() for row in rows for v in row if v is not None
  ]
  top = max([v for v in known if v > 0], default=1.0)
  # Weights that have hardly left 1 / O differ in the third digit: show that.
  near = shared and known and min(known) < top < 1.5 / len(ops)
  low = min(known) if near else 0.0
  row_high, wide, gap, left, head = 9.6, 108.0, 14.0, 62.0, 26.0
  high = row_high * len(ops)
  width = max(left + len(sources) * (wide + gap) + 2, 260.0)
  height = head + len(targets) * (high + gap) + 2
  body, panels = [], []

  def write(x, y, words, anchor="middle", name="small"):
    body.append(chart.text(x, y, words, name, anchor))

  def node(number):
    first = len(inputs)
    return inputs[number] if number < first else str(number - first)

  for (source, target), rows in weights.items():
    row, column = targets.index(target), sources.index(source)
    x, y = left + column * (wide + gap), head + row * (high + gap)
    shown = [[values[k] for k in columns] for values in rows]
    body.append(_image(x, y, wide, high, shown, low, top))
    name = f"{node(source)} → {node(target)}"
    write(x + wide / 2, y - 3, name, name="small ink")
    if column == 0:
      for i, op in enumerate(ops):
        at = y + (i + 0.5) * row_high + 2.4
        write(x - 3, at, layout_lib.label(op), "end")
    if row == len(targets) - 1:
      write(x + 2, y + high + 9, f"{epochs[0]:.4g}", "start")
      write(x + wide - 2, y + high + 9, f"{epochs[-1]:.4g}", "end")
    for op in (op for op, *edge in kept if edge == [source, target]):
      at, fill = y + (ops.index(op) + 0.5) * row_high, FAMILIES[family(op)]
      body.append(
        f'<circle cx="{x + wide + 6:.5g}" cy="{at:.5g}" r="1.9" fill="{fill}"/>'
      )
    values = [
      [None if v is None else float(f"{v:.3g}") for v in row] for row in shown
    ]
    box = [round(v, 1) for v in (x, y, wide, high)]
    panels.append({"box": box, "name": name, "values": values})
  scale = [[low + (top - low) * i / 63 for i in range(64)]]
  body.append(_image(width - 134, 6, 96, 7, scale, low, top))
  write(width - 138, 12, f"weight  {low:.3g}", "end")
  write(width - 34, 12, f"{top:.3g}", "start")
  data = {"ops": [layout_lib.label(op) for op in ops], "panels": panels}
  data["epochs"] = [epochs[k] for k in columns]
  svg = chart.picture(f"{title} weights", width, height, "".join(body))
  return parts.Figure(title, svg, {"heat": data}, scroll=True)


def _image(x, y, wide, high, rows, low: float, top: float) -> str:
  """Returns numbers as an image, a pixel each, in a frame."""
  from PIL import Image  # late: few that import this draw weights

  span = (top - low) or 1.0
  pixels = [
    _GONE if v is None else round(min(max((v - low) / span, 0), 1) * 254)
    for row in rows
    for v in row
  ]
  image = Image.new("P", (len(rows[0]), len(rows)))
  image.putpalette(_palette())
  image.putdata(pixels)
  file = io.BytesIO()
  image.save(file, "PNG", transparency=b"\xff" * _GONE + b"\x40")
  data = base64.b64encode(file.getvalue()).decode()
  place = f'x="{x:.5g}" y="{y:.5g}" width="{wide:.5g}" height="{high:.5g}"'
  return (
    f'<image class="heat" {place} preserveAspectRatio="none" '
    f'href="data:image/png;base64,{data}"/><rect class="frame" {place}/>'
  )


@functools.cache
def _palette() -> bytes:
  """Returns 255 colours from white to dark blue, and one of what is gone."""
  stops = [bytes.fromhex(colour[1:]) for colour in _RAMP]
  found = b""
  for i in range(_GONE):
    k, part = divmod(i / (_GONE - 1) * (len(stops) - 1), 1.0)
    after = stops[min(int(k) + 1, len(stops) - 1)]
    ends = zip(stops[int(k)], after, strict=True)
    found += bytes(round(a + part * (b - a)) for a, b in ends)
  return found + b"\x80\x80\x80"
