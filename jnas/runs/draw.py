"""Drawings as inline SVG: cells, curves, heat maps of arch weights.

matplotlib is imported by the functions that draw, so that importing this
module costs nothing.
"""

from collections.abc import Mapping, Sequence
import html
import io
import re
from typing import Any, NamedTuple
import zlib

from jnas import genotype as genotype_lib
from jnas.runs import layout as layout_lib

# Mid tones: white text on them, and themselves on white and on near-black, are
# readable. Green and red mean skip and none, as in the paper's figure 1.
FAMILIES = {
  "separable convolution": "#2563eb",
  "dilated convolution": "#8b45d6",
  "convolution": "#0e7490",
  "pooling": "#c2570c",
  "skip connection": "#15803d",
  "none": "#c62828",
  "activation": "#4f63c6",
}

# Stand-ins that `to_svg` turns into the colours of the page, light or dark; in
# a page that has none, such as a notebook, into those after the comma.
INK, MUTED, LINE, PAPER = "#0a0b0c", "#0a0b0d", "#0a0b0e", "#0a0b0f"
_THEME = {
  INK: "currentColor",
  MUTED: "var(--muted, #7a8699)",
  LINE: "var(--line, #8a94a640)",
  PAPER: "var(--card, Canvas)",
}


def family(op: str) -> str:
  """Returns the key of FAMILIES that an operator belongs to.

  >>> family("sep_conv_3x3"), family("max_pool_3x3"), family("tanh")
  ('separable convolution', 'pooling', 'activation')
  """
  if op.startswith("sep_conv"):
    return "separable convolution"
  if op.startswith("dil_conv"):
    return "dilated convolution"
  if "pool" in op:
    return "pooling"
  if op.startswith("skip"):
    return "skip connection"
  if op == "none":
    return "none"
  if op in genotype_lib.RECURRENT_OPERATIONS:
    return "activation"
  return "convolution"


def cell_svg(title: str, arguments: tuple) -> str:
  """Returns one cell (an item of `cells`) as an inline `<svg>`."""
  from matplotlib import patches, path

  plan = layout_lib.layout(*arguments)
  figure = new_figure(plan.width / 72, plan.height / 72)
  axes = figure.add_axes((0, 0, 1, 1))
  axes.set(xlim=(0, plan.width), ylim=(plan.height, 0))
  axes.set_axis_off()
  for kind, points in plan.edges:
    codes, corners = [path.Path.MOVETO], [points[0]]
    for (xa, ya), (xb, yb) in zip(points, points[1:], strict=False):
      reach = 0.55 * min(xb - xa, layout_lib.LAYER_GAP)
      corners += [(xa + reach, ya), (xb - reach, yb), (xb, yb)]
      codes += [path.Path.CURVE4] * 3
    line = dict(edgecolor=MUTED, linestyle=(0, (3, 2.5)), linewidth=0.9)
    if kind != "concat":
      line = dict(edgecolor=FAMILIES[family(kind)], linewidth=1.4)
    axes.add_patch(
      patches.PathPatch(path.Path(corners, codes), facecolor="none", **line)
    )
  for box in plan.boxes:
    _draw_box(axes, box)
  return to_svg(figure, title)


def _draw_box(axes: Any, box: layout_lib.Box) -> None:
  from matplotlib import patches

  corner = (box.x - box.width / 2, box.y - box.height / 2)
  if box.kind == "node":
    axes.add_patch(
      patches.Circle(
        (box.x, box.y), layout_lib.RADIUS, fc=PAPER, ec=INK, lw=1.1
      )
    )
  else:
    port = box.kind == "port"
    fill = PAPER if port else FAMILIES[family(box.kind)]
    rounding = layout_lib.RADIUS if port else 4.5
    style = patches.BoxStyle.Round(pad=0, rounding_size=rounding)
    axes.add_patch(
      patches.FancyBboxPatch(
        corner,
        box.width,
        box.height,
        boxstyle=style,
        fc=fill,
        ec=INK if port else "none",
        lw=1.1,
      )
    )
  text, subscript = box.text if isinstance(box.text, tuple) else (box.text, "")
  colour = INK if box.kind in ("port", "node") else "#ffffff"
  if subscript:
    x = box.x - 0.25 * layout_lib.text_width(subscript) - 0.5
    write = dict(color=colour, va="baseline")
    axes.text(x, box.y + 2.6, text, ha="right", size=9.5, **write)
    axes.text(x + 0.8, box.y + 4.6, subscript, ha="left", size=6.8, **write)
  else:
    y = box.y + (3.0 if colour == INK else 2.8)
    axes.text(box.x, y, text, ha="center", va="baseline", color=colour, size=8)


class Curve(NamedTuple):
  """One line of a chart; faint ones are background to the others."""

  name: str
  xs: Sequence[float]
  ys: Sequence[float]
  colour: str
  faint: bool = False


def lines_svg(
  title: str,
  curves: Sequence[Curve],
  form: str = "{:.3g}",
  limits: tuple[float, float] | None = None,
  log: bool = False,
  legend: bool = True,
  levels: Mapping[str, float] | None = None,
) -> str:
  """Returns curves against epochs as an inline `<svg>`.

  The legend gives the last value of each curve, by `form`; curves of the same
  name share an entry. `levels` are drawn as horizontal lines and named, with
  their values, beside the curves: that drawing is wider by their names.
  """
  from matplotlib import ticker

  plain, high = 4.7, 0.74 if legend else 0.82
  names = [f"{name}  {form.format(y)}" for name, y in (levels or {}).items()]
  beside = max([layout_lib.text_width(name) for name in names], default=0) / 72
  wide = plain + beside + (0.25 if names else 0.0)
  figure = new_figure(wide, 2.85)
  axes = figure.add_axes((0.54 / wide, 0.14, 4.07 / wide, high))
  for curve in curves:
    single = "o" if len(curve.xs) == 1 else None
    axes.plot(
      curve.xs,
      curve.ys,
      color=curve.colour,
      linewidth=0.8 if curve.faint else 1.7,
      alpha=0.35 if curve.faint else 1.0,
      marker=single,
      markersize=4,
      label="" if curve.faint else f"{curve.name}  {form.format(curve.ys[-1])}",
    )
  if log:
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    steps = (1.0, 2.0, 5.0) if high < 200 * low else (1.0,)
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=steps))
    axes.yaxis.set_minor_locator(ticker.NullLocator())
    axes.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
  if limits:
    axes.set_ylim(*limits)
  if "%" in form:
    axes.yaxis.set_major_formatter(ticker.PercentFormatter(1, decimals=0))
  axes.xaxis.set_major_locator(ticker.MaxNLocator(7, integer=True))
  bare(axes)
  axes.set_xlabel("epoch", color=MUTED, size=8)
  if levels:
    _draw_levels(axes, names, list(levels.values()), high * 2.85 * 72)
  handles, entries = axes.get_legend_handles_labels()
  if legend and handles:
    figure.legend(
      handles,
      entries,
      loc="upper left",
      bbox_to_anchor=(0.47 / wide, 1.0),
      ncols=len(handles),
      frameon=False,
      fontsize=8,
      labelcolor=INK,
      handlelength=1.3,
      columnspacing=1.4,
      borderaxespad=0.2,
    )
  return to_svg(figure, title)


def _draw_levels(
  axes: Any, names: Sequence[str], values: Sequence[float], points: float
) -> None:
  """Draws horizontal lines, named at the right, no name over another.

  `points` is the height of the axes.
  """
  for value in values:
    axes.axhline(value, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
  low, high = axes.get_ylim()
  order = sorted(range(len(values)), key=values.__getitem__)
  lines = [(values[i] - low) / (high - low) * points for i in order]
  places = layout_lib.spread(lines, [10.0] * (len(lines) - 1))
  for i, line, place in zip(order, lines, places, strict=True):
    axes.annotate(
      names[i],
      (1.0, line / points),
      (12.0, place - line),
      xycoords="axes fraction",
      textcoords="offset points",
      color=MUTED,
      size=8,
      va="center",
      arrowprops=dict(arrowstyle="-", color=LINE, linewidth=0.8),
    )


def bars_svg(title: str, xs: Sequence[float], ys: Sequence[float]) -> str:
  """Returns whole-numbered bars against epochs as an inline `<svg>`."""
  from matplotlib import ticker

  figure = new_figure(4.7, 2.85)
  axes = figure.add_axes((0.115, 0.14, 0.865, 0.82))
  axes.bar(xs, ys, color=FAMILIES["separable convolution"], width=0.8)
  axes.set_ylim(0, max([*ys, 1]) * 1.1)
  for axis in (axes.xaxis, axes.yaxis):
    axis.set_major_locator(ticker.MaxNLocator(7, integer=True))
  bare(axes)
  axes.set_xlabel("epoch", color=MUTED, size=8)
  return to_svg(figure, title)


def heat_svg(
  title: str,
  ops: Sequence[str],
  epochs: Sequence[float],
  weights: Mapping[tuple[int, int], Any],
  kept: Sequence[tuple[str, int, int]],
  inputs: Sequence[str] = ("c k−2", "c k−1"),
  shared: bool = True,
) -> str:
  """Returns arch weights over epochs as an inline `<svg>`, a panel an edge.

  Rows of panels are the targets of edges, columns their sources. Args:
    ops: the operators, the rows within a panel.
    epochs: the columns within a panel.
    weights: for each edge (source, target) an array [ops, epochs]; NaN where
      an operator is no longer there.
    kept: (operator, source, target) of the derived cell, marked by a dot.
    inputs: what the first numbers of `weights` are called; the others are the
      nodes 0 and on.
    shared: whether the operators of an edge share a weight of one.
  """
  from matplotlib import patches
  import numpy as np

  targets = sorted({target for _, target in weights})
  sources = sorted({source for source, _ in weights})
  known = np.concatenate([v[np.isfinite(v)] for v in weights.values()])
  top = float(known.max()) if known.size and known.max() > 0 else 1.0
  # Weights that have hardly left 1 / O differ in the third digit: show that.
  near = shared and known.size and known.min() < top < 1.5 / len(ops)
  low = float(known.min()) if near else 0.0
  row_high, wide, gap, left, head = 9.6, 108.0, 14.0, 62.0, 26.0
  high = row_high * len(ops)
  width = left + len(sources) * (wide + gap) + 2
  height = head + len(targets) * (high + gap) + 2
  figure = new_figure(width / 72, height / 72)
  # All panels stand in one axes, in points: one axes a panel is slow.
  axes = figure.add_axes((0, 0, 1, 1))
  axes.set_axis_off()

  def panel(x, y, w, h, values):
    frame = dict(facecolor="none", edgecolor=LINE, linewidth=0.8)
    axes.imshow(
      np.ma.masked_invalid(values),
      aspect="auto",
      cmap=colours,
      vmin=low,
      vmax=top,
      interpolation="none",
      extent=(x, x + w, y + h, y),
    )
    axes.add_patch(patches.Rectangle((x, y), w, h, **frame))

  def write(x, y, text, ha="center", size=7.0, color=MUTED):
    axes.text(x, y, text, ha=ha, va="baseline", size=size, color=color)

  def node(number):
    first = len(inputs)
    return inputs[number] if number < first else str(number - first)

  colours = _ramp()
  for (source, target), values in weights.items():
    row, column = targets.index(target), sources.index(source)
    x, y = left + column * (wide + gap), head + row * (high + gap)
    panel(x, y, wide, high, values)
    write(x + wide / 2, y - 3, f"{node(source)} → {node(target)}", color=INK)
    if column == 0:
      for i, op in enumerate(ops):
        at = y + (i + 0.5) * row_high + 2.4
        write(x - 3, at, layout_lib.label(op), "right")
    if row == len(targets) - 1:
      write(x + 2, y + high + 9, f"{epochs[0]:g}")
      write(x + wide - 2, y + high + 9, f"{epochs[-1]:g}")
    for op in (op for op, *edge in kept if edge == [source, target]):
      at = y + (ops.index(op) + 0.5) * row_high
      dot = patches.Circle((x + wide + 6, at), 1.9, fc=FAMILIES[family(op)])
      axes.add_patch(dot)
  panel(width - 134, 6, 96, 7, np.linspace(low, top, 64)[None])
  write(width - 138, 12, f"weight  {low:.3g}", "right")
  write(width - 34, 12, f"{top:.3g}", "left")
  axes.set(xlim=(0, width), ylim=(height, 0))
  return to_svg(figure, title)


def _ramp() -> Any:
  """Returns white to dark blue; the page inverts it where it is dark."""
  from matplotlib import colors

  stops = ["#ffffff", "#cfe0fb", "#7fb0f5", "#2f6fe0", "#1b2f8a", "#0d123f"]
  ramp = colors.LinearSegmentedColormap.from_list("weights", stops)
  return ramp.with_extremes(bad=(0.5, 0.5, 0.5, 0.25))


def bare(axes: Any) -> None:
  """Takes off everything that is not data, but for thin lines."""
  for name, spine in axes.spines.items():
    spine.set(visible=name == "bottom", color=LINE, linewidth=0.8)
  axes.grid(axis="y", color=LINE, linewidth=0.6)
  axes.set_axisbelow(True)
  axes.tick_params(
    which="both", length=0, labelsize=8, labelcolor=MUTED, colors=MUTED
  )


def new_figure(width: float, height: float) -> Any:
  """Returns an empty matplotlib figure of so many inches, without pyplot."""
  from matplotlib import figure

  return figure.Figure(figsize=(width, height), facecolor="none")


def to_svg(figure: Any, title: str) -> str:
  """Returns a figure as `<svg>` that follows the page's fonts and colours.

  Text stays text. Ids get a prefix made from the content, so that several
  drawings can stand in one page.
  """
  import matplotlib

  out = io.StringIO()
  rc = {"svg.fonttype": "none", "svg.hashsalt": "jnas"}
  rc["image.composite_image"] = False
  with matplotlib.rc_context(rc):
    figure.savefig(out, format="svg", metadata={"Date": None}, transparent=True)
  text = out.getvalue()
  text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
  text = text[text.index(">", text.index("<svg")) + 1 :]
  width, height = figure.get_size_inches() * 72
  number = zlib.crc32(text.encode("utf-8", "replace"))
  prefix = f"s{number:08x}-"
  text = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{prefix}", text)
  text = re.sub(r"font: [^;\"]*?([\d.]+px)[^;\"]*", r"font-size: \1", text)
  for stand_in, colour in _THEME.items():
    text = text.replace(stand_in, colour)
  return (
    f'<svg role="img" aria-label="{html.escape(title)}" '
    f'viewBox="0 0 {width:g} {height:g}" style="--w:{width:.0f}" '
    'font-family="system-ui, sans-serif" '
    'xmlns="http://www.w3.org/2000/svg" '
    f'xmlns:xlink="http://www.w3.org/1999/xlink">{text}'
  )
