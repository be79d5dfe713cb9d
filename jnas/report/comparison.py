"""The page on several runs: a row a group, mean and spread over its seeds.

It is made from the folders of the runs, so that it can be drawn anew at any
time.
"""

from collections.abc import Iterator, Sequence
import functools
import json
import os
import pathlib
import statistics
from typing import Any

from jnas import genotype as genotype_lib
from jnas.report import (
  chart,
  findings,
  measures,
  parts,
  records,
  sections,
  topology,
)
from jnas.report.groups import (
  Group,
  Member,
  of_comparison,
  of_runs,
  table,
  told,
)
from jnas.report.headline import Headline

_PERCENT = "{:.2%}"
_NOTES = (  # number of a result, what is to be said where it has a column
  (
    "child_{headline}",
    "The child-net is what remains of the trained super-net along the derived "
    "paths, not trained further.",
  ),
  (
    "retrained_{headline}",
    "Retrained is the derived network, trained from scratch on all training "
    "data and tested.",
  ),
  (
    "derived_params",
    "Parameters, and multiply-adds for one image of this data set, are of the "
    "derived network, in millions.",
  ),
)
_RANK = (
  "Kendall's tau compares the order of the seeds by the super-net's validation "
  "{headline} with that by retrained {headline}: 1 the same, 0 unrelated, -1 "
  "reversed. Of few seeds it says little: of three, one order in six gives 1 "
  "by chance."
)
_LOSSES = (  # metric, heading, format, whether logarithmic
  ("train_loss", "Training loss", "{:.3g}", False),
  ("valid_loss", "Validation loss", "{:.3g}", False),
)
_CURVES = (  # likewise, after those of headlines
  ("true_accuracy", "True accuracy", sections.PERCENT, False),
  ("skip_share", "Share of skip connections", sections.PERCENT, False),
  ("none_weight", "Mean weight of none", "{:.3f}", False),
  ("second_order_norm", "Norm of the second-order term", "{:.2g}", True),
)
_SPLITS = {  # of a headline by epoch, and its title
  "train": "Training {}",
  "valid": "Validation {}",
  "test": "Test {}",
  "child": "{} through derived paths",
}
_STRIPS = {"test": "Test", "valid": "Validation", "retrained": "Retrained"}
_TRUE = ("True accuracy", _PERCENT)
_LONGEST = 60  # letters of a value in the table of differences


def document(
  workdir: pathlib.Path, home: pathlib.Path
) -> tuple[str, str, list[parts.Section | None]]:
  """Returns title, line and sections of the comparison in `workdir`.

  Args:
    workdir: of the comparison.
    home: the folder of the page, from which its links lead.

  Raises:
    ValueError: comparison.json is not there or not readable.
  """
  path = workdir / "comparison.json"
  try:
    comparison = json.loads(path.read_text(encoding="utf-8"))
    groups = of_comparison(comparison, workdir)
    planned, failed = int(comparison["planned"]), dict(comparison["failed"])
    data = comparison["data"]
  except (OSError, *parts.UNREADABLE) as error:
    raise ValueError(
      f"Expected a comparison in {path}, got {type(error).__name__}: {error}; "
      "it is written when the first search has ended: start the comparison "
      "again, it goes on."
    ) from error
  ended = sum(len(group.members) for group in groups)
  under = f"{ended} searches"
  if ended < planned:
    under = f"{ended} of {planned} searches have ended"
  names = ", ".join(group.name for group in groups) or "nothing yet"
  body = list(_sections(groups, home)) if groups else []
  if failed:
    lines = [f"{name}: {why}" for name, why in failed.items()]
    notes = parts.Notes("What has failed", lines)
    body.insert(0, parts.Section("", [notes]))
  return f"{len(groups)} algorithms on {data}", f"{names} · {under}", body


def document_of(
  runs: Sequence[records.Run],
  home: pathlib.Path,
  whole: records.Run | None = None,
) -> tuple[str, str, list[parts.Section | None]]:
  """Returns title, line and sections of a comparison of any runs.

  Args:
    runs: two or more.
    home: the folder of the page, from which its links lead.
    whole: the run of several seeds, each of which is one of `runs`.
  """
  found = of_runs(runs)
  title = f"{len(runs)} runs compared"
  line = ", ".join(group.name for group in found)
  if whole is not None and len(found) == 1:
    title = f"{sections.title(whole)}, {len(runs)} seeds"
    line = sections.line(whole)
    chosen, name = whole.result.get("chosen"), sections.algorithm(whole)
    known = isinstance(chosen, dict) and "seed" in chosen
    found = [found[0]._replace(name=name, chosen=chosen if known else None)]
  return title, line, list(_sections(found, home))


def _sections(
  groups: Sequence[Group], home: pathlib.Path
) -> Iterator[parts.Section | None]:
  """Yields the sections of the page, in their order."""
  colours = parts.colours(len(groups))
  groups = [
    group._replace(colour=colour)
    for group, colour in zip(groups, colours, strict=True)
  ]
  for section in (_overview, _missing, _spread, _pareto, _differences):
    yield section(groups)
  yield _runs(groups, home)
  for group in groups:
    yield from _cells(group, every=len(groups) == 1)


def _headlines(groups: Sequence[Group]) -> list[Headline]:
  """Returns those of the runs, one each: runs of any kinds may be compared."""
  return list(dict.fromkeys(group.headline for group in groups))


def _overview(groups: Sequence[Group]) -> parts.Section:
  heads, rows = table(groups)
  rows = [
    [parts.Cell(group.name, colour=group.colour), *row[1:]]
    for group, row in zip(groups, rows, strict=True)
  ]
  note = (
    "Mean ± standard deviation over the seeds, the mean alone where all agree."
  )
  if chosen := [group for group in groups if group.chosen]:
    best = " or ".join(
      f"{goal.best} validation {goal.words}" for goal in _headlines(chosen)
    )
    note += f" Chosen is the seed whose supernet has the {best}."
  times = [found for group in groups if (found := group.values("seconds"))]
  shares = [len(found) > 1 == len(set(found)) for found in times]
  if any(shares):
    note += " Seeds in one program have equal shares of its time."
  if not all(shares):
    note += (
      " Times are the shortest and the longest: the first run compiles, others "
      "find its programs in the cache."
    )
  if any(group.agreement is not None for group in groups):
    note += (
      " Agreement is the share of operators and edges that the genotypes of "
      "two seeds have in common, the mean over all pairs."
    )
  for metric, more in _NOTES:
    if any(
      group.values(metric.format(headline=group.headline.name))
      for group in groups
    ):
      note += f" {more}"
  for goal in _headlines([group for group in groups if group.kendall]):
    note += f" {_RANK.format(headline=goal.words)}"
  body: list[parts.Part] = [parts.Table(rows, heads)]
  for group in groups:
    if twice := [same[0].seed for same in group.seeds if len(same) > 1]:
      body.append(
        parts.Text(
          f"{group.name}: several runs of seed {', '.join(twice)}, which count "
          "as one, their mean."
        )
      )
  title = "Algorithms" if len(groups) > 1 else "Seeds"
  return parts.Section(title, body, note)


def _missing(groups: Sequence[Group]) -> parts.Section | None:
  lines = [
    f"{member.run.path}: {note}"
    for group in groups
    for member in group.members
    for note in member.run.notes
  ]
  notes = [parts.Notes("What is missing", lines)]
  return parts.Section("", notes) if lines else None


def _spread(groups: Sequence[Group]) -> parts.Section | None:
  """Returns dots of the seeds, and curves with their deviation."""
  known = [m.run for g in groups for m in g.members if m.run.benchmark]
  name = known[0].benchmark.get("name", "the search space") if known else ""
  known = measures.references(known)
  levels = {k: v for k, v in known.items() if k in ("best", "mean")}
  figures, goals = [], _headlines(groups)
  strips = [
    (f"{split}_{goal.name}", f"{word} {goal.words}", goal.form(number="{:.4g}"))
    for goal in goals
    for split, word in _STRIPS.items()
  ]
  for metric, title, form in (*strips, ("true_accuracy", *_TRUE)):
    if any(len(group.values(metric)) > 1 for group in groups):
      across = levels if metric == "true_accuracy" else {}
      figures.append(_strips(metric, title, groups, across, form))
  curves = [
    (
      f"{split}_{goal.name}",
      words.format(goal.words).capitalize(),
      goal.form(sections.PERCENT, "{:.4g}"),
      goal.name not in goal.shares,
    )
    for goal in goals
    for split, words in _SPLITS.items()
  ]
  for metric, title, form, log in (*_LOSSES, *curves, *_CURVES):
    marks = []
    for group in groups:
      seeds = [_curve(same, metric, log) for same in group.seeds]
      marks += band(group.name, seeds, group.colour, "%" in form)
    if marks and metric == "true_accuracy":
      marks += [
        chart.Mark(f"{name} {value:.2%}", [(0, value)], kind="level")
        for name, value in levels.items()
      ]
    if marks:
      title = f"{title} by epoch"
      figures.append(chart.figure(title, marks, form=form, log=log, last=False))
  for goal in goals:
    clouds = [
      chart.Mark(group.name, found, group.colour, "dots")
      for group in groups
      if group.headline == goal and (found := _pairs(group))
    ]
    if clouds:
      form = goal.form(number="{:.4g}")
      axes = dict(x=f"validation {goal.words}", y="retrained", x_form=form)
      title = f"Retrained by validation {goal.words}"
      figures.append(chart.figure(title, clouds, form=form, **axes))
  ringed = [group for group in groups if group.chosen]
  note = (
    f"A dot is a seed{', the chosen one is ringed' * bool(ringed)}; a line is "
    "the mean over the seeds, and around it lies one standard deviation to "
    "either side."
  )
  if name:
    note += f" Dashed: the best and the mean of all cells of {name}."
    published = [
      f"{k} {parts.share(v)}" for k, v in known.items() if k not in levels
    ]
    if published:
      note += f" Published for it: {', '.join(published)}."
  return parts.Section("Spread", figures, note) if figures else None


def _curve(
  members: Sequence[Member], metric: str, log: bool
) -> measures.Points:
  """Returns a metric of one seed by epoch."""
  read = functools.partial(measures.curve, name=metric)
  read = measures.skip_shares if metric == "skip_share" else read
  curves = [
    [point for point in read(member.run) if point[1] > 0 or not log]
    for member in members
  ]
  return curves[0] if len(curves) == 1 else measures.mean(curves)


def band(
  name: str,
  curves: Sequence[measures.Points],
  colour: str,
  bounded: bool = False,
) -> list[chart.Mark]:
  """Returns the mean of curves, at the epochs that all have, and its sd.

  >>> area, line = band("a", [[(1, 0.0), (2, 1.0)], [(1, 2.0)]], "red")
  >>> line.points
  [(1, 1.0)]

  Args:
    name: for the legend.
    curves: (epoch, value) pairs; those without any are left out.
    colour: of the line.
    bounded: whether values are shares, which lie from 0 to 1.
  """
  curves = [curve for curve in curves if curve]
  if not (middle := measures.mean(curves)):
    return []
  line, tables = chart.Mark(name, middle, colour), list(map(dict, curves))
  if len(curves) == 1:
    return [line]
  low, high = [], []
  for x, mean in middle:
    sd = statistics.stdev(table[x] for table in tables)
    ends = mean - sd, mean + sd
    low.append((x, max(ends[0], 0.0) if bounded else ends[0]))
    high.append((x, min(ends[1], 1.0) if bounded else ends[1]))
  return [chart.Mark(name, low + high[::-1], colour, "area"), line]


def _strips(metric, title, groups, levels, form=_PERCENT) -> parts.Figure:
  """Returns a row of dots a group, a dot a seed, over mean and deviation."""
  marks, rows = [], [group.name for group in groups if group.values(metric)]
  for group in groups:
    if not (values := group.values(metric)):
      continue
    y, middle = rows.index(group.name), statistics.fmean(values)
    shared = dict(colour=group.colour, legend=False)
    if len(values) > 1:
      sd = statistics.stdev(values)
      ends = [(middle - sd, y - 0.25), (middle + sd, y - 0.25)]
      ends += [(middle + sd, y + 0.25), (middle - sd, y + 0.25)]
      marks.append(chart.Mark(group.name, ends, kind="area", **shared))
    ends = [(middle, y - 0.25), (middle, y + 0.25)]
    marks.append(chart.Mark(group.name, ends, **shared))
    dots = [(value, y) for value in values]
    marks.append(chart.Mark(group.name, dots, kind="dots", **shared))
    value = (group.chosen or {}).get(metric)
    if records.is_number(value):
      shared["colour"] = "currentColor"
      marks.append(chart.Mark("chosen", [(value, y)], kind="rings", **shared))
  for name, value in levels.items():
    words = f"{name} {form.format(value)}"
    marks.append(chart.Mark(words, [(value, 0)], kind="upright"))
  return chart.figure(
    f"{title} of each seed",
    marks,
    x=title.lower(),
    x_form=form,
    rows=rows,
    last=False,
  )


def _pairs(group: Group) -> list[tuple[float, float]]:
  """Returns (validation, retrained) headlines of the runs that have both."""
  names = [f"{split}_{group.headline.name}" for split in ("valid", "retrained")]
  rows = [tuple(map(member.result.get, names)) for member in group.members]
  return [row for row in rows if all(map(records.is_number, row))]


def _pareto(groups: Sequence[Group]) -> parts.Section | None:
  marks: dict[Headline, list[chart.Mark]] = {}
  for group in groups:
    for member in group.members:
      found = topology.networks(member.run)
      goal = member.run.headline
      shown = topology.marks(found, group.name, group.colour, goal)
      marks.setdefault(goal, []).extend(shown)
  figures = [
    topology.figure(
      f"{goal.words.capitalize()} of the search networks against FLOPs",
      shown,
      goal,
    )
    for goal, shown in marks.items()
    if shown
  ]
  if not figures:
    return None
  return parts.Section(
    "Pareto sets",
    figures,
    "Full points are on the front of their run, which the line joins.",
  )


def _differences(groups: Sequence[Group]) -> parts.Section | None:
  """Returns the fields in which the configurations differ."""
  if len(groups) < 2:
    return None
  configs = [records.flat(group.members[0].run.config) for group in groups]
  rows = []
  for field in dict.fromkeys(name for config in configs for name in config):
    values = [_short(config.get(field, "–")) for config in configs]
    if field != "seed" and len(set(values)) > 1:
      rows.append((field, *values))
  if not rows:
    return None
  heads = ["field", *(group.name for group in groups)]
  return parts.Section(
    "Differences of the configurations",
    [parts.Table(rows, heads)],
    "Fields that all share are left out; – where a field is not recorded.",
  )


def _short(value: Any) -> str:
  words = value if isinstance(value, str) and value else json.dumps(value)
  return words if len(words) <= _LONGEST else words[: _LONGEST - 1] + "…"


def _runs(groups: Sequence[Group], home: pathlib.Path) -> parts.Section:
  """Returns a row a run, with a link to its own report."""
  known = [
    (group, member, dict(sections.facts(member.run)))
    for group in groups
    for member in group.members
  ]
  # A search has no test; where there is one, it comes first.
  columns = list(dict.fromkeys(name for *_, fact in known for name in fact))
  tested = [f"test {goal.words}" for goal in _headlines(groups)]
  columns.sort(key=lambda name: name not in tested)
  trained = any(member.retrained for _, member, _ in known)
  rows = []
  for group, member, fact in known:
    run = member.run
    link = _link(run.path / "report.html", home)
    name = os.path.relpath(run.path, home) if len(groups) > 1 else run.name
    row = [
      parts.Cell(name, link=link, colour=group.colour),
      sections.algorithm(run),
      sections.data(run),
      *(fact.get(column, "–") for column in columns),
    ]
    if trained:
      goal = group.headline
      value = member.result.get(f"retrained_{goal.name}")
      shown = goal.form().format(value) if records.is_number(value) else "–"
      there = member.retrained and member.retrained / "report.html"
      row.append(
        parts.Cell(shown, link=_link(there, home) if there else "")
      )
    rows.append(row)
  heads = ["run", "algorithm", "data", *columns, *["retrained"] * trained]
  return parts.Section("Runs", [parts.Table(rows, heads)])


def _link(path: pathlib.Path, home: pathlib.Path) -> str:
  """Returns the way from a page's folder to a file; "" if it is not there."""
  if not path.is_file():
    return ""
  return pathlib.Path(os.path.relpath(path, home)).as_posix()


def _cells(group: Group, every: bool) -> Iterator[parts.Section]:
  """Yields the cells of the run that is chosen, or of the first.

  Args:
    group: of runs.
    every: whether those of the other seeds follow, where they differ.
  """
  found: dict[str, list[Member]] = {}
  for member in (group.first, *(group.members if every else ())):
    known = member.run.genotype
    words = genotype_lib.format_text(known) if known is not None else ""
    found.setdefault(words, []).append(member)
  for k, (words, members) in enumerate(found.items()):
    run = members[0].run
    body: list[parts.Part] = [*sections.warnings(run), *findings.cells(run)]
    if words:
      body.append(parts.Code(findings.broken(words), "Genotype"))
    title = f"Cells of {group.name}"
    if len(found) > 1:
      title = "Cells of seed " + ", ".join(
        dict.fromkeys(member.seed for member in members)
      )
    if group.chosen and not k:
      title += f", {told(group)}" if len(found) == 1 else ", chosen"
    yield parts.Section(title, body)
