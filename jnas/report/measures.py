"""Numbers of a run over its epochs, and what they come to."""

import collections
from collections.abc import Sequence
import math
import statistics
from typing import Any

from jnas import genotype as genotype_lib
from jnas.report.records import Run, is_number

Points = list[tuple[float, float]]


def points(run: Run, name: str, kind: str | None = None) -> Points:
  """Returns the (epoch, value) pairs of a metric; what is not finite is left
  out."""
  return [
    (epoch, value)
    for own, epoch, value in run.series.get(name, ())
    if kind in (None, own)
  ]


def curve(run: Run, name: str) -> Points:
  """Returns a metric by epoch: as recorded, or else as means over steps."""
  if len(found := points(run, name, "epoch")) > 0:
    return found
  epochs: dict[int, list[float]] = {}
  found = points(run, name)
  for epoch, value in found:
    # Epoch 3.2 is part of the fourth epoch, the one that ends at 4.
    epochs.setdefault(max(math.ceil(epoch), 1), []).append(value)
  # The last one may be a part of an epoch.
  end = max((epoch for epoch, _ in found), default=0.0)
  return [
    (min(float(k), max(end, 1.0)), statistics.fmean(v))
    for k, v in sorted(epochs.items())
  ]


def mean(curves: Sequence[Points]) -> Points:
  """Returns the mean of curves, at the epochs that all have.

  >>> mean([[(1, 0.0), (2, 1.0)], [(1, 2.0)]])
  [(1, 1.0)]
  """
  tables = [dict(curve) for curve in curves]
  shared = sorted(set.intersection(*map(set, tables))) if tables else []
  return [(x, statistics.fmean(table[x] for table in tables)) for x in shared]


def skip_shares(run: Run) -> Points:
  """Returns by epoch the share of skip connections in the normal cells."""
  if found := curve(run, "skip_share"):
    return found
  return [
    (epoch, genotype_lib.skip_share(g))
    for epoch, g in run.history
    if not isinstance(g, genotype_lib.RecurrentGenotype)
  ]


def entropy(run: Run) -> tuple[float, float] | None:
  """Returns the mean entropy of the last arch weights of an edge, in nats.

  And what it is where all operators of an edge weigh the same. The weights of
  an edge are taken to add up to one, whatever the edge itself weighs; those
  that are no longer there, or 0, do not count. None where the operators of an
  edge don't share a weight, or no edge has two.
  """
  if not run.arch or not run.shares:
    return None
  found = []
  for rows in run.arch[-1]["weights"].values():
    for row in rows if isinstance(rows, list) else []:
      values = [v for v in row if is_number(v)] if isinstance(row, list) else []
      values = [v / sum(values) for v in values if v > 0]
      if len(values) > 1:
        own = -sum(v * math.log(v) for v in values)
        found.append((own, math.log(len(values))))
  if not found:
    return None
  own, most = zip(*found, strict=True)
  return statistics.fmean(own), statistics.fmean(most)


def changes(run: Run) -> Points:
  """Returns by epoch how many operators the genotype has changed since the
  epoch before: pairs that a node has gained or, if there are more, lost."""
  found = []
  for (_, before), (epoch, after) in zip(
    run.history, run.history[1:], strict=False
  ):
    old, new = _choices(before), _choices(after)
    nodes = {choice[:2] for choice in old ^ new}
    # Cell and node come first, so that each node is counted by itself.
    gained = collections.Counter(choice[:2] for choice in new - old)
    lost = collections.Counter(choice[:2] for choice in old - new)
    found.append((epoch, sum(max(gained[n], lost[n]) for n in nodes)))
  return found


def wall_seconds(run: Run) -> float | None:
  """Returns how long the run took, None if nothing tells."""
  if is_number(run.result.get("seconds")):
    return run.result["seconds"]
  parts = ("epoch_seconds", "eval_seconds")
  seconds = [value for name in parts for _, value in points(run, name)]
  return sum(seconds) + (compile_seconds(run) or 0.0) if seconds else None


def compile_seconds(run: Run) -> float | None:
  """Returns the time in which all processes of the run waited for compilers.

  A process records its total so far, so a smaller number is the first of the
  next process.
  """
  totals: list[float] = []
  for _, value in points(run, "compile_seconds"):
    if totals and value >= totals[-1]:
      totals[-1] = value
    else:
      totals.append(value)
  return sum(totals) if totals else None


def references(runs: Sequence[Run]) -> dict[str, float]:
  """Returns what true accuracies are compared with.

  The best and the mean of the benchmark, and what was published of the
  searches: each run knows that of itself.
  """
  found: dict[str, Any] = {}
  for run in runs:
    published = run.benchmark.get("published")
    found |= {name: run.benchmark.get(name) for name in ("best", "mean")}
    found |= published if isinstance(published, dict) else {}
  return {str(k): v for k, v in found.items() if is_number(v)}


def last_known(run: Run, name: str) -> float | None:
  """Returns a metric's final value: of result.json, or the last recorded."""
  if is_number(run.result.get(name)):
    return run.result[name]
  found = curve(run, name)
  return found[-1][1] if found else None


def _choices(g: genotype_lib.AnyGenotype) -> set[tuple]:
  """Returns what is chosen: (cell, node, how often before, op, input)."""
  found: set[tuple] = set()
  for cell, triples in genotype_lib.chosen(g).items():
    for op, source, node in triples:
      first = (cell, node, 0, op, source)
      found.add(first if first not in found else (cell, node, 1, op, source))
  return found
