"""Runs that differ in nothing but their seeds, and the table of such groups.

A comparison has its groups in comparison.json, one an algorithm; of any other
runs those whose configurations are equal are one.
"""

from collections.abc import Callable, Mapping, Sequence
import json
import pathlib
import statistics
from typing import Any, NamedTuple

from jnas.report import measures, parts, records

_PERCENT = "{:.2%}"
COLUMNS = (  # number of a result, heading, format; what nobody has is left out
  ("test_accuracy", "test accuracy", _PERCENT),
  ("valid_accuracy", "validation accuracy", _PERCENT),
  ("child_accuracy", "of the child-net", _PERCENT),
  ("accuracy_drop", "drop", _PERCENT),
  ("retrained_accuracy", "retrained, test", _PERCENT),
  ("true_accuracy", "true accuracy", _PERCENT),
  ("skip_share", "skip connections", "{:.1%}"),
  ("normal_connections", "normal connections", "{:.3g}"),
  ("reduce_connections", "reduction connections", "{:.3g}"),
  ("params", "parameters", "{:,.0f}"),
  ("derived_params", "derived, M parameters", "{:,.3f}"),
  ("derived_flops", "M multiply-adds", "{:,.2f}"),
)
_RANKED = 5  # so many columns come before Kendall's tau
_FACTS = (
  ("valid_accuracy", "validation accuracy"),
  ("true_accuracy", "true accuracy"),
  ("retrained_accuracy", "retrained accuracy"),
)


class Member(NamedTuple):
  """A run of a group; `run` is None where only its result is known."""

  seed: str
  result: Mapping[str, Any]
  run: records.Run | None = None
  retrained: pathlib.Path | None = None  # where its network was trained


class Group(NamedTuple):
  """Runs that differ in their seeds; `chosen` says which one is taken."""

  name: str
  members: Sequence[Member]
  chosen: Mapping[str, Any] | None = None
  kendall: Mapping[str, Any] | None = None

  def values(self, metric: str) -> list[float]:
    """Returns a number of each seed: of several runs of one, their mean."""
    seeds: dict[str, list[float]] = {}
    for member in self.members:
      if records.is_number(value := member.result.get(metric)):
        seeds.setdefault(member.seed, []).append(value)
    return [statistics.fmean(same) for same in seeds.values()]

  @property
  def first(self) -> Member:
    """The run that is chosen, or the first."""
    seed = str((self.chosen or {}).get("seed"))
    same = [member for member in self.members if member.seed == seed]
    return (same or self.members)[0]


def facts(result: Mapping[str, Any]) -> list[str]:
  """Returns the numbers of one result, as words.

  >>> facts({"valid_accuracy": 0.5, "seconds": 12.0, "params": 1})
  ['validation accuracy 50.00%', '12 s']
  """
  found = [
    f"{heading} {parts.share(result[name])}"
    for name, heading in _FACTS
    if records.is_number(result.get(name))
  ]
  if records.is_number(result.get("seconds")):
    found.append(parts.duration(result["seconds"]))
  return found


def mean(values: Sequence[float], form: Callable[[float], str]) -> str:
  """Returns "mean ± sd"; of a single value, or where all agree, the mean.

  >>> mean([0.6, 0.8], "{:.1%}".format), mean([3.0], str), mean([], str)
  ('70.0% ± 14.1%', '3.0', '–')
  """
  if not values:
    return "–"
  sd = statistics.stdev(values) if len(values) > 1 else 0.0
  middle = form(statistics.fmean(values))
  return f"{middle} ± {form(sd)}" if sd else middle


def table(groups: Sequence[Group]) -> tuple[list[str], list[list[str]]]:
  """Returns heads and rows, a row a group."""
  columns = [
    column for column in COLUMNS if any(g.values(column[0]) for g in groups)
  ]
  ranked = any(group.kendall for group in groups)
  chosen = any(group.chosen for group in groups)
  heads = ["", "seeds", *(heading for _, heading, _ in columns)]
  # Beside what it ranks; at the end one would have to scroll.
  place = 2 + sum(column in COLUMNS[:_RANKED] for column in columns)
  heads[place:place] = ["Kendall's tau"] * ranked
  heads += ["time, with compilation"] + ["chosen"] * chosen
  rows = []
  for group in groups:
    row = [group.name, str(len({member.seed for member in group.members}))]
    for metric, _, form in columns:
      row.append(mean(group.values(metric), form.format))
    row[place:place] = [_rank(group.kendall)] * ranked
    seconds = [member.result.get("seconds") for member in group.members]
    row.append(_range(seconds))
    rows.append(row + [told(group.chosen)] * chosen)
  return heads, rows


def text(comparison: Mapping[str, Any]) -> str:
  """Returns the table of comparison.json in letters of one width."""
  heads, rows = table(of_comparison(comparison))
  widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
  return "\n".join(
    "  ".join(
      f"{cell:{w}}" for cell, w in zip(row, widths, strict=True)
    ).rstrip()
    for row in (heads, *rows)
  )


def _range(values: Sequence[Any]) -> str:
  """Returns times as "least to most".

  The first run compiles, and later ones find its programs in the cache, so
  that a standard deviation would say nothing of the seeds.
  """
  known = sorted(filter(records.is_number, values))
  ends = dict.fromkeys(parts.duration(v) for v in known[:1] + known[-1:])
  return " to ".join(ends) or "–"


def _rank(kendall: Mapping[str, Any] | None) -> str:
  """Returns tau, or why there is none."""
  if kendall is None:
    return "–"
  if kendall["tau"] is None:
    return f"none: {kendall['why']}"
  return f"{kendall['tau']:.2f}"


def told(chosen: Mapping[str, Any] | None) -> str:
  if chosen is None:
    return "–"
  told = [parts.share(chosen["valid_accuracy"])]
  for name, word in (
    ("true_accuracy", "true"),
    ("retrained_accuracy", "retrained"),
  ):
    if records.is_number(chosen.get(name)):
      told.append(f"{word} {parts.share(chosen[name])}")
  return f"seed {chosen['seed']}: {', '.join(told)}"


def of_comparison(
  comparison: Mapping[str, Any], workdir: pathlib.Path | None = None
) -> list[Group]:
  """Returns the algorithms of comparison.json; with their runs, if asked."""
  found = []
  for name, one in comparison["algorithms"].items():
    members = []
    for run in one["runs"]:
      folder = workdir and workdir / run["folder"]
      trained = "retrained_accuracy" in run["result"]
      members.append(
        Member(
          str(run["seed"]),
          run["result"],
          folder and records.read(folder),
          folder / "retrain" if folder and trained else None,
        )
      )
    found.append(Group(name, members, one.get("chosen"), one.get("kendall")))
  return found


def of_runs(runs: Sequence[records.Run]) -> list[Group]:
  """Returns the groups of any runs, called by the names of their folders."""
  names = [run.name for run in runs]
  if len(set(names)) < len(names):
    names = [str(run.path) for run in runs]
  found: dict[str, list[tuple[str, Member]]] = {}
  for name, run in zip(names, runs, strict=True):
    settings = {k: v for k, v in run.config.items() if k != "seed"}
    key = json.dumps(settings, sort_keys=True) if settings else name
    known = {
      metric: value
      for metric, *_ in COLUMNS
      if (value := measures.last_known(run, metric)) is not None
    }
    known |= {"seconds": measures.wall_seconds(run)}
    found.setdefault(key, []).append((name, Member(run.seed, known, run)))
  return [
    Group(", ".join(name for name, _ in group), [one for _, one in group])
    for group in found.values()
  ]
