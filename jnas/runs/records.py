"""What a run has written into its workdir, read back with care.

A run may have been killed at any moment, or still be running: files may be
missing and the last line of a file half-written. Reading never fails over
that; `Run.notes` says in words what is not there.
"""

import collections
from collections.abc import Mapping
import dataclasses
import datetime
import json
import math
import os
import pathlib
import statistics
import sys
from typing import Any, NamedTuple

from jnas import genotype as genotype_lib

Points = list[tuple[float, float]]

_FILES = ("config.json", "run.json", "metrics.jsonl", "result.json")


class Restriction(NamedTuple):
  """The genotype with at most so many skip connections in the normal cell."""

  skips: int
  genotype: genotype_lib.AnyGenotype
  chosen: bool


@dataclasses.dataclass(frozen=True)
class Run:
  """The records of one run; empty where a file is missing.

  Attributes:
    path: the workdir, as the user wrote it.
    config: the nested configuration.
    machine: the content of run.json.
    metrics: lines of metrics.jsonl, by step.
    arch: lines of arch.jsonl, by step.
    history: (epoch, genotype) pairs, by epoch.
    genotype: the genotype that the run found or trained.
    result: the content of result.json.
    benchmark: the content of benchmark.json, if the space has a benchmark:
      its name, best, mean and published accuracies.
    restricted: the content of restricted.json, if the algorithm restricts the
      number of skip connections.
    notes: what is missing or unreadable, as sentences.
    pareto: lines of pareto.jsonl, by step, if the search finds a Pareto set.
  """

  path: pathlib.Path
  config: dict[str, Any]
  machine: dict[str, Any]
  metrics: tuple[dict[str, Any], ...]
  arch: tuple[dict[str, Any], ...]
  history: tuple[tuple[float, genotype_lib.AnyGenotype], ...]
  genotype: genotype_lib.AnyGenotype | None
  result: dict[str, Any]
  benchmark: dict[str, Any]
  restricted: tuple[Restriction, ...]
  notes: tuple[str, ...]
  pareto: tuple[dict[str, Any], ...] = ()

  @property
  def name(self) -> str:
    """The name of the workdir."""
    return self.path.resolve().name

  @property
  def task(self) -> str:
    """What the run was: search or retrain."""
    found = self.result.get("task") or self.machine.get("task")
    return str(found or self.config.get("task") or "search")


def read(path: str | os.PathLike[str]) -> Run:
  """Returns the records in the workdir `path`.

  Raises ValueError if it is no directory, or a directory without a run.
  """
  path = pathlib.Path(path)
  if not path.is_dir() or not any((path / name).exists() for name in _FILES):
    got = "a directory without" if path.is_dir() else "no directory, so no"
    raise ValueError(
      f"Expected the workdir of a run at {str(path)!r}, got {got} "
      f"{', '.join(_FILES)}; give the directory named by --workdir, for "
      "instance runs/amended_darts."
    )
  notes: list[str] = []
  config = _read_object(path / "config.json", notes)
  machine = _read_object(path / "run.json", notes)
  metrics = _read_lines(path / "metrics.jsonl", notes)
  retrain = "retrain" in (config.get("task"), machine.get("task"))
  # A retraining has no architecture to follow, so nothing is missing there.
  aside: list[str] = [] if retrain else notes
  arch = _read_lines(path / "arch.jsonl", aside)
  history = []
  for line in _read_lines(path / "genotypes.jsonl", aside):
    found = _genotype(line.get("genotype"), "genotypes.jsonl", notes)
    if found and is_number(line.get("epoch")):
      history.append((line["epoch"], found))
  result = {}
  if (path / "result.json").exists():
    result = _read_object(path / "result.json", notes)
  else:
    notes.append("There is no result.json: the run has not finished (yet).")
  genotype = _find_genotype(path, config, result, history, notes)
  # Few runs write these three, so nothing is missing without them.
  benchmark, restricted, pareto = {}, (), []
  if (path / "benchmark.json").exists():
    benchmark = _read_object(path / "benchmark.json", notes)
  if (path / "restricted.json").exists():
    restricted = _read_restricted(path / "restricted.json", notes)
  if (path / "pareto.jsonl").exists():
    pareto = _read_lines(path / "pareto.jsonl", notes)
  return Run(
    path,
    config,
    machine,
    tuple(metrics),
    tuple(line for line in arch if isinstance(line.get("weights"), dict)),
    tuple(history),
    genotype,
    result,
    benchmark,
    restricted,
    tuple(dict.fromkeys(notes)),
    tuple(pareto),
  )


def get(config: Mapping[str, Any], name: str, default: Any = None) -> Any:
  """Returns a nested field by its dotted name.

  >>> get({"algo": {"name": "darts"}}, "algo.name")
  'darts'
  >>> get({}, "algo.name", "?")
  '?'
  """
  value: Any = config
  for part in name.split("."):
    if not isinstance(value, Mapping) or part not in value:
      return default
    value = value[part]
  return value


def is_number(value: Any) -> bool:
  """Returns whether `value` is a finite number (and not a bool).

  >>> is_number(1.5), is_number(float("nan")), is_number("1")
  (True, False, False)
  """
  if not isinstance(value, int | float) or isinstance(value, bool):
    return False
  return abs(value) <= sys.float_info.max  # also of integers beyond it


def points(run: Run, name: str, kind: str | None = None) -> Points:
  """Returns the (epoch, value) pairs of a metric; what is not finite is left
  out."""
  return [
    (line["epoch"], line[name])
    for line in run.metrics
    if (kind is None or line.get("kind") == kind)
    and is_number(line.get(name))
    and is_number(line.get("epoch"))
  ]


def curve(run: Run, name: str) -> Points:
  """Returns a metric by epoch: as recorded, or else as means over steps."""
  if len(found := points(run, name, "epoch")) > 0:
    return found
  epochs: dict[int, list[float]] = {}
  for epoch, value in points(run, name):
    # Epoch 3.2 is part of the fourth epoch, the one that ends at 4.
    epochs.setdefault(max(math.ceil(epoch), 1), []).append(value)
  return [(float(k), statistics.fmean(v)) for k, v in sorted(epochs.items())]


def skip_shares(run: Run) -> Points:
  """Returns by epoch the share of skip connections in the normal cells."""
  if found := curve(run, "skip_share"):
    return found
  return [
    (epoch, genotype_lib.skip_share(g))
    for epoch, g in run.history
    if not isinstance(g, genotype_lib.RecurrentGenotype)
  ]


def none_weights(run: Run) -> Points:
  """Returns by epoch the mean weight of `none` over the normal cells' edges."""
  if found := curve(run, "none_weight"):
    return found
  found = []
  for line in run.arch:
    ops, weights = line.get("ops"), line["weights"]
    if not isinstance(ops, list) or "none" not in ops:
      continue
    rows = []
    for name in genotype_lib.normal_names(list(weights)):
      rows += weights[name] if isinstance(weights[name], list) else []
    i = ops.index("none")
    column = [row[i] for row in rows if isinstance(row, list) and row[i:]]
    # No number: the operator is no longer there, so it has no weight.
    values = [value if is_number(value) else 0.0 for value in column]
    if values and is_number(line.get("epoch")):
      found.append((line["epoch"], statistics.fmean(values)))
  return found


def entropy(run: Run) -> tuple[float, float] | None:
  """Returns the mean entropy of the last arch weights of an edge, in nats.

  And what it is where all operators of an edge weigh the same. The weights of
  an edge are taken to add up to one, whatever the edge itself weighs; those
  that are no longer there, or 0, do not count. None where the operators of an
  edge don't share a weight, or no edge has two.
  """
  if not run.arch or prunes(run):
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


def prunes(run: Run) -> bool:
  """Returns whether the search prunes operators one by one, as GOLD-NAS."""
  return bool(points(run, "pruned"))


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
  """Returns the time spent on compiling, over all processes of the run.

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


def started(run: Run) -> str:
  """Returns when the run began, as text; "" if it is not known."""
  found = run.machine.get("started", "")
  if is_number(found):
    when = datetime.datetime.fromtimestamp(found, datetime.UTC)
    return f"{when:%Y-%m-%d %H:%M} UTC"
  return str(found)


def _choices(g: genotype_lib.AnyGenotype) -> set[tuple]:
  """Returns what is chosen: (cell, node, how often before, op, input)."""
  found: set[tuple] = set()
  for cell, triples in genotype_lib.chosen(g).items():
    for op, source, node in triples:
      first = (cell, node, 0, op, source)
      found.add(first if first not in found else (cell, node, 1, op, source))
  return found


def _read_object(path: pathlib.Path, notes: list[str]) -> dict[str, Any]:
  return _read_json(path, dict, notes)


def _read_json(path: pathlib.Path, kind: type, notes: list[str]) -> Any:
  """Returns what a file holds; an empty `kind`, and a note, if it is none."""
  try:
    data = _parse(path.read_text(encoding="utf-8", errors="replace"))
  except FileNotFoundError:
    notes.append(f"There is no {path.name}.")
    return kind()
  except (OSError, ValueError, RecursionError) as error:
    notes.append(f"{path.name} cannot be read ({error}).")
    return kind()
  if not isinstance(data, kind):
    what = "object" if kind is dict else "array"
    notes.append(f"{path.name} holds no JSON {what}.")
    return kind()
  return data


def _parse(text: str) -> Any:
  """Returns what JSON text holds; half of a surrogate pair becomes "?".

  JSON can spell such halves, but no file can hold them as text.

  >>> _parse('{"a": "\\\\ud800"}')
  {'a': '?'}
  """
  data = json.loads(text)
  if "\\ud" not in text.lower():
    return data
  whole = json.dumps(data, ensure_ascii=False)
  return json.loads(whole.encode("utf-8", "replace"))


def _read_restricted(
  path: pathlib.Path, notes: list[str]
) -> tuple[Restriction, ...]:
  """Returns the readable entries of restricted.json."""
  found = []
  for entry in _read_json(path, list, notes):
    if not isinstance(entry, dict) or not is_number(entry.get("skips")):
      notes.append(f"An entry of {path.name} has no number of skips: left out.")
    elif genotype := _genotype(entry.get("genotype"), path.name, notes):
      chosen = bool(entry.get("chosen"))
      found.append(Restriction(entry["skips"], genotype, chosen))
  return tuple(found)


def _read_lines(path: pathlib.Path, notes: list[str]) -> list[dict[str, Any]]:
  """Returns the objects of a .jsonl file by step; the last word counts.

  A run that was killed and resumed may have written a step twice.
  """
  try:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
  except FileNotFoundError:
    notes.append(f"There is no {path.name}.")
    return []
  except OSError as error:
    notes.append(f"{path.name} cannot be read ({error}).")
    return []
  found, bad = {}, []
  for i, line in enumerate(lines):
    if not line.strip():
      continue
    try:
      data = _parse(line)
    except (ValueError, RecursionError):
      data = None
    if isinstance(data, dict):
      step = data.get("step")
      order = step if is_number(step) else len(found)
      found[order, str(data.get("kind"))] = data
    else:
      bad.append(i)
  if bad == [len(lines) - 1]:
    notes.append(f"The last line of {path.name} is half-written: left out.")
  elif bad:
    notes.append(f"{len(bad)} lines of {path.name} are unreadable: left out.")
  return [found[key] for key in sorted(found, key=lambda key: key[0])]


def _genotype(
  data: Any, where: str, notes: list[str]
) -> genotype_lib.AnyGenotype | None:
  try:
    if isinstance(data, dict):
      return genotype_lib.from_json(data)
    return genotype_lib.load(str(data))
  except (ValueError, OSError) as error:
    notes.append(f"No genotype could be read from {where}: {error}")
    return None


def _find_genotype(
  path: pathlib.Path,
  config: dict[str, Any],
  result: dict[str, Any],
  history: list[tuple[float, Any]],
  notes: list[str],
) -> genotype_lib.AnyGenotype | None:
  """Returns the genotype from the first place that has a readable one."""
  places = [(result.get("genotype"), "result.json")]
  if (path / "genotype.json").exists():
    places.append((str(path / "genotype.json"), "genotype.json"))
  places.append((get(config, "retrain.genotype"), "retrain.genotype"))
  tried: list[str] = []
  for data, where in places:
    if data and (found := _genotype(data, where, tried)):
      return found
  if history:
    return history[-1][1]
  notes.extend(tried or ["There is no genotype.json."])
  return None
