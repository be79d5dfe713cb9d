"""What a run has written into its workdir, read back with care.

A run may have been killed at any moment, or still be running: files may be
missing and the last line of a file half-written. Reading never fails over
that; `Run.notes` says in words what is not there.
"""

from collections.abc import Mapping
import dataclasses
import datetime
import json
import math
import os
import pathlib
import statistics
from typing import Any

from jnas import genotype as genotype_lib

Points = list[tuple[float, float]]

_FILES = ("config.json", "run.json", "metrics.jsonl", "result.json")


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
    notes: what is missing or unreadable, as sentences.
  """

  path: pathlib.Path
  config: dict[str, Any]
  machine: dict[str, Any]
  metrics: tuple[dict[str, Any], ...]
  arch: tuple[dict[str, Any], ...]
  history: tuple[tuple[float, genotype_lib.AnyGenotype], ...]
  genotype: genotype_lib.AnyGenotype | None
  result: dict[str, Any]
  notes: tuple[str, ...]

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
  return Run(
    path,
    config,
    machine,
    tuple(metrics),
    tuple(line for line in arch if isinstance(line.get("weights"), dict)),
    tuple(history),
    genotype,
    result,
    tuple(dict.fromkeys(notes)),
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
  number = isinstance(value, int | float) and not isinstance(value, bool)
  return number and math.isfinite(value)


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
  """Returns by epoch the share of skip connections in the normal cell."""
  if found := curve(run, "skip_share"):
    return found
  return [
    (epoch, statistics.fmean(op == "skip_connect" for op, _ in g.normal))
    for epoch, g in run.history
    if isinstance(g, genotype_lib.Genotype)
  ]


def none_weights(run: Run) -> Points:
  """Returns by epoch the mean weight of `none` over the normal edges."""
  if found := curve(run, "none_weight"):
    return found
  found = []
  for line in run.arch:
    ops, rows = line.get("ops", ()), line["weights"].get("normal")
    if "none" in ops and rows and is_number(line.get("epoch")):
      column = [row[ops.index("none")] for row in rows]
      found.append((line["epoch"], statistics.fmean(column)))
  return found


def changes(run: Run) -> Points:
  """Returns by epoch how many operators the genotype has changed since the
  epoch before: pairs of a node that were not there."""
  found = []
  for (_, before), (epoch, after) in zip(
    run.history, run.history[1:], strict=False
  ):
    found.append((epoch, len(_choices(after) - _choices(before))))
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
  if isinstance(g, genotype_lib.RecurrentGenotype):
    return {(i, *pair) for i, pair in enumerate(g.recurrent)}
  found: set[tuple] = set()
  for cell in ("normal", "reduce"):
    for i, pair in enumerate(getattr(g, cell) or ()):
      first = (cell, i // 2, 0, *pair)
      found.add(first if first not in found else (cell, i // 2, 1, *pair))
  return found


def _read_object(path: pathlib.Path, notes: list[str]) -> dict[str, Any]:
  try:
    data = json.loads(path.read_text(encoding="utf-8", errors="replace"))
  except FileNotFoundError:
    notes.append(f"There is no {path.name}.")
    return {}
  except (OSError, ValueError, RecursionError) as error:
    notes.append(f"{path.name} cannot be read ({error}).")
    return {}
  if not isinstance(data, dict):
    notes.append(f"{path.name} holds no JSON object.")
    return {}
  return data


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
      data = json.loads(line)
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
