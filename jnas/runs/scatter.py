"""Charts of what networks reach against what they cost, as inline SVG."""

from collections.abc import Sequence
import itertools
from typing import Any, NamedTuple

from jnas.runs import draw, layout

_WIDTH, _HEIGHT = 4.7, 2.85  # inches, as of the curves
FLOPS = "FLOPs (millions an image)"  # what networks cost
_LINE = 9.5  # points from a label to one above it


class Series(NamedTuple):
  """Points of a chart, each with its label, in the order of a search.

  `line` are the points that are joined, from left to right; their markers are
  full, those of the others hollow.
  """

  name: str
  xs: Sequence[float]
  ys: Sequence[float]
  labels: Sequence[str]
  colour: str
  line: Sequence[tuple[float, float]] = ()


def svg(
  title: str,
  series: Sequence[Series],
  across: str,
  up: str,
  legend: bool = True,
) -> str:
  """Returns accuracies against costs as an inline `<svg>`.

  Points whose labels have no room beside each other share one.

  Args:
    title: what a screen reader says.
    series: of which each has a point at least; `ys` are fractions.
    across: name and unit of the horizontal axis.
    up: name of the vertical axis.
    legend: whether more than one series have a legend above them.
  """
  from matplotlib import ticker

  figure = draw.new_figure(_WIDTH, _HEIGHT)
  legend = legend and len(series) > 1
  high = 0.74 if legend else 0.82
  box = (0.72 / _WIDTH, 0.14, 3.89 / _WIDTH, high)
  axes = figure.add_axes(box)
  for one in series:
    if one.line:
      xs, ys = zip(*one.line, strict=True)
      axes.plot(xs, ys, color=one.colour, linewidth=0.9, alpha=0.6)
    points = list(zip(one.xs, one.ys, strict=True))
    for full in (True, False):
      some = [p for p in points if (p in one.line) == full]
      xs, ys = zip(*some, strict=True) if some else ((), ())
      face = one.colour if full else draw.PAPER
      marker = dict(markersize=5, markerfacecolor=face, zorder=3)
      name = one.name if full else ""
      axes.plot(xs, ys, "o", color=one.colour, label=name, **marker)
  axes.margins(0.07, 0.16)
  axes.yaxis.set_major_locator(ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))
  low, top = axes.get_ylim()
  decimals = sum(top - low < span for span in (0.04, 0.004))
  axes.yaxis.set_major_formatter(ticker.PercentFormatter(1, decimals))
  axes.xaxis.set_major_locator(ticker.MaxNLocator(7, steps=[1, 2, 5, 10]))
  draw.bare(axes)
  axes.set_xlabel(across, color=draw.MUTED, size=8)
  axes.set_ylabel(up, color=draw.MUTED, size=8)
  size = (box[2] * _WIDTH * 72, box[3] * _HEIGHT * 72)
  for one in series:
    for group in _groups(axes, one, size):
      axes.annotate(
        _joined(one.labels, group),
        (one.xs[group[0]], one.ys[group[0]]),
        (-3.5, 4.0),  # where a rising front has room
        textcoords="offset points",
        ha="right",
        size=8,
        color=draw.INK,
      )
  if legend:
    figure.legend(
      *axes.get_legend_handles_labels(),
      loc="upper left",
      bbox_to_anchor=(0.47 / _WIDTH, 1.0),
      ncols=len(series),
      frameon=False,
      fontsize=8,
      labelcolor=draw.INK,
      handlelength=1.3,
      columnspacing=1.4,
      borderaxespad=0.2,
    )
  return draw.to_svg(figure, title)


def _groups(
  axes: Any, one: Series, size: tuple[float, float]
) -> list[list[int]]:
  """Returns the points that share a label; `size` of the axes in points."""
  limits = (axes.get_xlim(), axes.get_ylim())
  places = []
  for point in zip(one.xs, one.ys, strict=True):
    pairs = zip(point, limits, size, strict=True)
    places.append([(v - low) / (top - low) * s for v, (low, top), s in pairs])

  def touch(a, b):
    # A label ends at the first point of its group.
    (xa, ya), (xb, yb) = places[a[0]], places[b[0]]
    wide = layout.text_width(_joined(one.labels, a if xa > xb else b)) + 2
    return abs(xa - xb) < wide and abs(ya - yb) < _LINE

  groups = [[i] for i in range(len(places))]
  while pair := next(
    ((a, b) for a, b in itertools.combinations(groups, 2) if touch(a, b)), None
  ):
    first, second = pair
    groups.remove(second)
    groups[groups.index(first)] = sorted(first + second)
  return groups


def _joined(labels: Sequence[str], group: Sequence[int]) -> str:
  """Returns the labels of a group as one.

  >>> [_joined("ABCD", group) for group in ([0], [0, 1, 3], [1, 2, 3])]
  ['A', 'A, B, D', 'B–D']
  """
  first, last = group[0], group[-1]
  if len(group) > 2 and last - first == len(group) - 1:
    return f"{labels[first]}–{labels[last]}"
  return ", ".join(labels[i] for i in group)
