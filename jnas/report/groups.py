"""Runs that differ in nothing but their seeds, and the table of such groups.

A comparison has its groups in comparison.json, one an algorithm; of any other
runs those whose configurations are equal are one.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
import itertools
import json
import pathlib
import statistics
from typing import Any, NamedTuple

from jnas import genotype as genotype_lib
from jnas.report import headline, measures, parts, records
from jnas.report.headline import Headline

_COLUMNS = (  # number of a result, heading, format
  ("true_accuracy", "true accuracy", "{:.2%}"),
  ("skip_share", "skip connections", "{:.1%}"),
  ("normal_connections", "normal connections", "{:.3g}"),
  ("reduce_connections", "reduction connections", "{:.3g}"),
  ("params", "parameters", "{:,.0f}"),
  ("derived_params", "derived, M parameters", "{:,.3f}"),
  ("derived_flops", "M multiply-adds", "{:,.2f}"),
  ("test_bits_per_character", "test bits per character", "{:.3f}"),
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
  colour: str = ""

  @property
  def headline(self) -> Headline:
    """The number by which its runs are told."""
    first = self.members[0]
    run = first.run
    known = (run.titles, run.result, run.series) if run else ()
    return headline.of(first.result, *known)

  @property
  def seeds(self) -> list[list[Member]]:
    """The runs of each seed: more than one are one sample, their mean."""
    found: dict[str, list[Member]] = {}
    for member in self.members:
      found.setdefault(member.seed, []).append(member)
    return list(found.values())

  def values(self, metric: str) -> list[float]:
    """Returns a number of each seed that has it."""
    seeds = [[one.result.get(metric) for one in same] for same in self.seeds]
    known = [list(filter(records.is_number, same)) for same in seeds]
    return [statistics.fmean(same) for same in known if same]

  @property
  def agreement(self) -> float | None:
    """The share of connections that two searches have in common, on average.

    Of connections (operator, source, target) a and b it is 2 |a & b| / (|a| +
    |b|), the mean over all pairs of seeds. None of a single one, of retrained
    networks, which have one genotype, or if one isn't known.
    """
    found = [_connections(same[0]) for same in self.seeds]
    if len(found) < 2 or not all(found):
      return None
    return statistics.fmean(
      2 * len(a & b) / (len(a) + len(b))
      for a, b in itertools.combinations(found, 2)
    )

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
  goal = headline.of(result)
  found = [
    f"{words} {form.format(result[name])}"
    for name, words, form in (
      (f"valid_{goal.name}", f"validation {goal.words}", goal.form()),
      ("true_accuracy", "true accuracy", "{:.2%}"),
      (f"retrained_{goal.name}", f"retrained {goal.words}", goal.form()),
    )
    if records.is_number(result.get(name))
  ]
  if records.is_number(result.get("seconds")):
    found.append(parts.duration(result["seconds"]))
  return found


def columns(goals: Sequence[Headline]) -> list[tuple[str, str, str]]:
  """Returns number of a result, heading and format of each column."""
  found = []
  for goal in (unique := list(dict.fromkeys(goals))):
    what, form = goal.words, goal.form()
    more = f", {what}" * (len(unique) > 1)
    found += [
      (f"test_{goal.name}", f"test {what}", form),
      (f"valid_{goal.name}", f"validation {what}", form),
      (f"child_{goal.name}", f"of the child-net{more}", form),
      (f"{goal.name}_drop", f"drop{more}", form),
      (f"retrained_{goal.name}", f"retrained, test{more}", form),
    ]
  return [*found, *_COLUMNS]


def table(groups: Sequence[Group]) -> tuple[list[str], list[list[str]]]:
  """Returns heads and rows, a row a group; no column without a number."""
  cells: dict[str, Callable[[Group], str]] = {
    "": lambda g: g.name,
    "seeds": lambda g: str(len(g.seeds)),
  }
  for metric, heading, form in columns([group.headline for group in groups]):
    if any(group.values(metric) for group in groups):
      cells[heading] = functools.partial(_mean, metric=metric, form=form)
    # Beside what it ranks; at the end one would have to scroll.
    if metric.startswith("retrained_") and any(g.kendall for g in groups):
      cells["Kendall's tau"] = _rank
  if any(group.agreement is not None for group in groups):
    cells["agreement"] = _agreement
  cells["time, with compilation"] = _time
  if any(group.chosen for group in groups):
    cells["chosen"] = told
  rows = [[tell(group) for tell in cells.values()] for group in groups]
  return list(cells), rows


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


def _mean(group: Group, metric: str, form: str) -> str:
  """Returns "mean ± sd"; of a single value, or where all agree, the mean."""
  if not (values := group.values(metric)):
    return "–"
  sd = statistics.stdev(values) if len(values) > 1 else 0.0
  middle = form.format(statistics.fmean(values))
  return f"{middle} ± {form.format(sd)}" if sd else middle


def _time(group: Group) -> str:
  """Returns the least and the most time of a run.

  The first run compiles, and later ones find its programs in the cache, so
  that a standard deviation would say nothing of the seeds.
  """
  times = (member.result.get("seconds") for member in group.members)
  known = sorted(filter(records.is_number, times))
  ends = dict.fromkeys(parts.duration(v) for v in known[:1] + known[-1:])
  return " to ".join(ends) or "–"


def _connections(member: Member) -> set[tuple[Any, ...]]:
  """Returns (cell, operator, source, target) of all that a search derived."""
  known = member.run and member.run.genotype
  text = member.result.get("genotype")
  if member.run and member.run.trained:
    return set()
  if known is None and isinstance(text, str):
    try:
      known = genotype_lib.parse(text)
    except ValueError:  # not of this program
      return set()
  return {
    (cell, *connection)
    for cell, own in (genotype_lib.chosen(known) if known else {}).items()
    for connection in own
  }


def _agreement(group: Group) -> str:
  """Returns how far seeds agree in what they derive."""
  return "–" if group.agreement is None else f"{group.agreement:.0%}"


def _rank(group: Group) -> str:
  """Returns Kendall's tau, or why there is none."""
  if group.kendall is None:
    return "–"
  tau = group.kendall.get("tau")
  why = group.kendall.get("why")
  return f"{tau:.2f}" if records.is_number(tau) else f"none: {why}"


def told(group: Group) -> str:
  """Returns the seed that is chosen, and its numbers."""
  if group.chosen is None:
    return "–"
  goal = group.headline
  words = [
    word + form.format(group.chosen[name])
    for name, word, form in (
      (f"valid_{goal.name}", "", goal.form()),
      ("true_accuracy", "true ", "{:.2%}"),
      (f"retrained_{goal.name}", "retrained ", goal.form()),
    )
    if records.is_number(group.chosen.get(name))
  ]
  return f"seed {group.chosen['seed']}: {', '.join(words)}"


def of_comparison(
  comparison: Mapping[str, Any], workdir: pathlib.Path | None = None
) -> list[Group]:
  """Returns the algorithms of comparison.json; with their runs, if asked."""
  found = []
  for name, one in comparison["algorithms"].items():
    members = []
    for run in one["runs"]:
      folder = workdir and workdir / run["folder"]
      trained = "retrain_seconds" in run["result"]
      members.append(
        Member(
          str(run["seed"]),
          dict(run["result"]),
          folder and records.read(folder),
          folder / "retrain" if folder and trained else None,
        )
      )
    chosen, rank = (
      one[key] if isinstance(one.get(key), dict) else None
      for key in ("chosen", "kendall")
    )
    chosen = chosen if chosen and "seed" in chosen else None
    if members:
      found.append(Group(name, members, chosen, rank))
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
      for metric, *_ in columns([run.headline])
      if (value := measures.last_known(run, metric)) is not None
    }
    known |= {"seconds": measures.wall_seconds(run)}
    found.setdefault(key, []).append((name, Member(run.seed, known, run)))
  return [
    Group(", ".join(name for name, _ in group), [one for _, one in group])
    for group in found.values()
  ]
