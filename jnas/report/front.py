"""The page on the training of Pareto sets: how good against how dear."""

from collections.abc import Iterator, Mapping, Sequence
import json
import os
import pathlib
from typing import Any

from jnas import genotype as genotype_lib
from jnas.report import chart, findings, headline, parts, records, topology
from jnas.report.headline import Headline

_RANDOM = "random"  # the search that prunes at random
_COSTS = {  # number of a network: what it is, axis
  "flops": ("multiply-adds", topology.FLOPS),
  "params": ("parameters", "parameters (millions)"),
}


def document(
  workdir: pathlib.Path, home: pathlib.Path
) -> tuple[str, str, list[parts.Section | None]]:
  """Returns title, line and sections of the page on a run of task pareto.

  Args:
    workdir: of the run.
    home: the folder of the page, from which its links lead.

  Raises:
    ValueError: pareto.json is not there or not readable.
  """
  path = workdir / "pareto.json"
  try:
    record = json.loads(path.read_text(encoding="utf-8"))
    goal = headline.of(record)
    networks = [_network(line, goal) for line in record["networks"]]
    folders = {str(s["name"]): str(s["folder"]) for s in record["searches"]}
    data = str(record["data"])
  except (OSError, *parts.UNREADABLE) as error:
    raise ValueError(
      f"Expected the networks of Pareto sets in {path}, got "
      f"{type(error).__name__}: {error}; it is written when the searches have "
      "ended: start the same command again, it goes on."
    ) from error
  names = list(dict.fromkeys([*folders, *(n["search"] for n in networks)]))
  colours = dict(zip(names, parts.colours(len(names)), strict=True))
  trained = [n for n in networks if n["retrained"] is not None]
  under = f"{len(trained)} of {len(networks)} networks are trained"
  if len(trained) == len(networks):
    under = f"{len(networks)} networks, trained under one budget"
  body = [
    _fronts(trained, colours, goal),
    _table(networks, colours, goal, workdir, home),
    _searches(folders, colours, workdir),
    _genotypes(networks),
  ]
  return f"Pareto sets on {data}", f"{', '.join(names)} · {under}", body


def _network(line: Mapping[str, Any], goal: Headline) -> dict[str, Any]:
  """Returns a network with numbers, or None where there is none."""
  numbers = {
    name: line[name] if records.is_number(line.get(name)) else None
    for name in ("flops", "params", "operators", goal.name, "retrained")
  }
  words = {n: str(line[n]) for n in ("name", "search", "letter", "text")}
  return {**numbers, **words}


def _fronts(
  trained: Sequence[Mapping[str, Any]],
  colours: Mapping[str, str],
  goal: Headline,
) -> parts.Section | None:
  """Returns what is tested against both costs, as figure 1 of GOLD-NAS."""
  figures = []
  for cost, (what, axis) in _COSTS.items():
    marks = []
    for name, colour in colours.items():
      own = [n for n in trained if n["search"] == name]
      found = topology.marks(own, name, colour, goal, "retrained", cost)
      if name == _RANDOM:  # what is drawn at random makes no front
        found = [mark for mark in found if mark.kind != "line"]
      marks += found
    if marks:
      title = f"{goal.words.capitalize()} against {what}"
      figures.append(topology.figure(title, marks, goal, axis))
  if not figures:
    return None
  note = (
    f"As in figure 1 of the GOLD-NAS paper: test {goal.words} of each network, "
    "trained from scratch. Full points are those of their search that no other "
    "one dominates, which the line joins."
  )
  found = [n for n in trained if n["search"] != _RANDOM]
  random = [n for n in trained if n["search"] == _RANDOM]
  if found and random:
    beaten = sum(any(_dominates(a, b, goal) for a in found) for b in random)
    note += (
      f" Of {len(random)} pruned at random {beaten or 'none'} "
      f"{'are' if beaten > 1 else 'is'} dominated by one that was found."
    )
  return parts.Section("Pareto fronts", figures, note)


def _dominates(
  a: Mapping[str, Any], b: Mapping[str, Any], goal: Headline
) -> bool:
  """Whether a costs no more multiply-adds than b and is better."""
  if None in (a["flops"], b["flops"]):
    return False
  sign = 1 if goal.larger_is_better else -1
  better = sign * a["retrained"] > sign * b["retrained"]
  return a["flops"] <= b["flops"] and better


def _table(
  networks: Sequence[Mapping[str, Any]],
  colours: Mapping[str, str],
  goal: Headline,
  workdir: pathlib.Path,
  home: pathlib.Path,
) -> parts.Section:
  tell = parts.share if goal.name in goal.shares else parts.number
  rows = []
  for n in networks:
    page = workdir / n["name"] / "report.html"
    link = os.path.relpath(page, home) if page.is_file() else ""
    rows.append(
      [
        parts.Cell(
          n["name"],
          link=pathlib.Path(link).as_posix() if link else "",
          colour=colours.get(n["search"], ""),
        ),
        *(parts.number(n[k]) for k in ("flops", "params", "operators")),
        *(tell(n[k]) for k in (goal.name, "retrained")),
      ]
    )
  heads = [
    *("network", "multiply-adds (M)", "params (M)", "operators"),
    *("in the search", f"test {goal.words}"),
  ]
  return parts.Section(
    "Networks",
    [parts.Table(rows, heads)],
    f"In the search is the {goal.words} of the search network when it was "
    "recorded.",
  )


def _searches(
  folders: Mapping[str, str],
  colours: Mapping[str, str],
  workdir: pathlib.Path,
) -> parts.Section | None:
  """Returns lambda and cost against epochs, as figure 4 of GOLD-NAS."""
  weight, cost = [], []
  for name, folder in folders.items():
    try:
      series = records.read(workdir / folder).series
    except ValueError:  # the folder of the search is gone
      continue
    for marks, metric, positive in (
      (weight, "lambda", True),
      (cost, "flops", False),
    ):
      points = [
        (epoch, value)
        for _, epoch, value in series.get(metric, ())
        if value > 0 or not positive
      ]
      if points:
        marks.append(chart.Mark(name, points, colours[name]))
  figures = []
  if weight:
    title = "Weight of the cost in the loss, λ"
    figures.append(chart.figure(title, weight, log=True))
  if cost:
    title = "Multiply-adds that are left (millions an image)"
    figures.append(chart.figure(title, cost, form="{:,.4g}"))
  if not figures:
    return None
  return parts.Section(
    "Searches",
    figures,
    "As in figure 4 of the GOLD-NAS paper: λ grows until weak operators are "
    "pruned, and falls while they are.",
  )


def _genotypes(networks: Sequence[Mapping[str, Any]]) -> parts.Section:
  return parts.Section("Genotypes", list(_codes(networks)))


def _codes(networks: Sequence[Mapping[str, Any]]) -> Iterator[parts.Part]:
  for n in networks:
    try:
      words = genotype_lib.format_text(genotype_lib.parse(n["text"]))
    except ValueError:
      continue
    yield parts.Code(findings.broken(words), n["name"])
