"""Drawings of mean and spread over seeds, as inline SVG in `draw`'s manner."""

from collections.abc import Iterable, Mapping, Sequence
import statistics
from typing import Any, NamedTuple

from jnas.runs import draw, layout, records


class Band(NamedTuple):
  """A curve with its spread; `sds` holds None where a single run is known."""

  name: str
  xs: Sequence[float]
  means: Sequence[float]
  sds: Sequence[float | None]
  colour: str


class Strip(NamedTuple):
  """The values of the seeds of one algorithm; `chosen` is one of them."""

  name: str
  values: Sequence[float]
  chosen: float | None
  colour: str


class Cloud(NamedTuple):
  """Two accuracies of each seed of one algorithm."""

  name: str
  points: Sequence[tuple[float, float]]
  colour: str


def band(
  name: str, curves: Sequence[records.Points], colour: str
) -> Band | None:
  """Returns mean and sd (n - 1) of curves, at the epochs that all have.

  >>> found = band("a", [[(1, 0.0), (2, 1.0)], [(1, 2.0)]], "")
  >>> found.xs, found.means
  ((1,), (1.0,))
  """
  tables = [dict(curve) for curve in curves]
  shared = sorted(set.intersection(*map(set, tables))) if tables else []
  if not shared:
    return None
  rows = [[table[x] for table in tables] for x in shared]
  return Band(
    name,
    tuple(shared),
    tuple(map(statistics.fmean, rows)),
    tuple(statistics.stdev(v) if len(v) > 1 else None for v in rows),
    colour,
  )


def bands_svg(
  title: str, bands: Iterable[Band], lines: Mapping[str, float]
) -> str:
  """Returns accuracies or shares by epoch, with named lines across."""
  from matplotlib import ticker

  figure = draw.new_figure(4.7, 2.85)
  axes = figure.add_axes((0.115, 0.14, 0.865, 0.82))
  for one in bands:
    known = [row for row in zip(*one[1:4], strict=True) if row[2] is not None]
    if known:
      xs, means, sds = zip(*known, strict=True)
      # What is drawn are accuracies and shares: none is beyond 0 and 1.
      low = [max(m - s, 0) for m, s in zip(means, sds, strict=True)]
      high = [min(m + s, 1) for m, s in zip(means, sds, strict=True)]
      axes.fill_between(xs, low, high, color=one.colour, alpha=0.16, lw=0)
    single = "o" if len(one.xs) == 1 else None
    axes.plot(
      one.xs, one.means, color=one.colour, lw=1.7, marker=single, markersize=4
    )
  for name, value in lines.items():
    axes.axhline(value, color=draw.MUTED, lw=0.9, ls=(0, (4, 3)))
    axes.annotate(
      f"{name} {value:.2%}",
      (0, value),
      (3, 3.5),
      xycoords=("axes fraction", "data"),
      textcoords="offset points",
      color=draw.MUTED,
      size=7.5,
      bbox=dict(fc=draw.PAPER, ec="none", alpha=0.8, pad=0.8),
    )
  axes.xaxis.set_major_locator(ticker.MaxNLocator(7, integer=True))
  _plain(axes, axes.yaxis, "bottom")
  axes.set_xlabel("epoch", color=draw.MUTED, size=8)
  return draw.to_svg(figure, title)


def strips_svg(
  title: str, strips: Sequence[Strip], lines: Mapping[str, float]
) -> str:
  """Returns a row of dots an algorithm, a dot a seed, over mean and spread.

  The bar is mean ± sd (n - 1), the stroke in it the mean. Named lines stand
  across all rows.
  """
  row = min(max(180.0 / len(strips), 22.0), 40.0)
  foot, width, thick = 22.0, 338.0, 13.0 / row
  head = 4.0 + 9.0 * len(lines)
  height = head + row * len(strips) + foot
  left = 8 + max(layout.text_width(one.name) for one in strips)
  # Names longer than this would leave no room for the dots.
  left = min(left, 0.45 * width)
  figure = draw.new_figure(width / 72, height / 72)
  size = (width - left - 14, height - head - foot)
  axes = figure.add_axes(
    (left / width, foot / height, size[0] / width, size[1] / height)
  )
  for y, one in enumerate(strips):
    mean = statistics.fmean(one.values)
    if len(one.values) > 1:
      sd = statistics.stdev(one.values)
      axes.barh(y, 2 * sd, thick, mean - sd, color=one.colour, alpha=0.2, lw=0)
    ends = [y - thick / 2, y + thick / 2]
    axes.plot([mean, mean], ends, color=one.colour, lw=2)
    dots = dict(s=22, color=one.colour, lw=0.8, zorder=3, clip_on=False)
    axes.scatter(
      one.values, [y] * len(one.values), edgecolors=draw.PAPER, **dots
    )
    if one.chosen is not None:
      ring = dict(s=52, facecolors="none", edgecolors=draw.INK, lw=1.1)
      axes.scatter([one.chosen], [y], zorder=4, clip_on=False, **ring)
  for i, (name, value) in enumerate(lines.items()):
    axes.axvline(value, color=draw.MUTED, lw=0.9, ls=(0, (4, 3)))
    axes.annotate(
      f"{name} {value:.2%}",
      (value, 1),
      (2, 3 + 9 * i),  # one above the other: the lines may be close
      xycoords=("data", "axes fraction"),
      textcoords="offset points",
      ha="right",
      color=draw.MUTED,
      size=7.5,
    )
  axes.set_ylim(len(strips) - 0.5, -0.5)
  axes.set_yticks(range(len(strips)), [one.name for one in strips])
  axes.locator_params(axis="x", nbins=6)
  axes.margins(x=0.07)
  _plain(axes, axes.xaxis, None)
  return draw.to_svg(figure, title)


def cloud_svg(title: str, clouds: Iterable[Cloud]) -> str:
  """Returns retrained over validation accuracy, a dot a seed."""
  figure = draw.new_figure(4.7, 2.85)
  axes = figure.add_axes((0.165, 0.16, 0.785, 0.8))
  for one in clouds:
    xs, ys = zip(*one.points, strict=True)
    axes.scatter(xs, ys, s=26, color=one.colour, edgecolors=draw.PAPER, lw=0.8)
  axes.margins(0.08)
  axes.locator_params(nbins=6)
  _plain(axes, axes.yaxis, None)
  _plain(axes, axes.xaxis, "bottom")
  axes.grid(axis="both", color=draw.LINE, linewidth=0.6)
  axes.set_xlabel("validation accuracy", color=draw.MUTED, size=8)
  axes.set_ylabel("retrained", color=draw.MUTED, size=8)
  return draw.to_svg(figure, title)


def _plain(axes: Any, values: Any, spine: str | None) -> None:
  """Takes off what is not data, but for thin lines at the values' ticks."""
  from matplotlib import ticker

  for name, line in axes.spines.items():
    line.set(visible=name == spine, color=draw.LINE, linewidth=0.8)
  # Decimals as the ticks need them: spreads can be of a tenth of a percent.
  values.set_major_formatter(ticker.PercentFormatter(1))
  axes.grid(axis=values.axis_name, color=draw.LINE, linewidth=0.6)
  axes.set_axisbelow(True)
  muted = dict(labelcolor=draw.MUTED, colors=draw.MUTED)
  axes.tick_params(which="both", length=0, labelsize=8, **muted)
