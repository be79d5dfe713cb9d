"""What a run has written into its workdir, read back with care.

A run may have been killed at any moment, or still be running: files may be
missing and the last line of a file half-written. Reading never fails over
that; `Run.notes` says in words what is not there.

What a paper calls its algorithm and its metrics is said by the run itself, in
run.json under "titles", all of it optional:

  {"algorithm": "GOLD-NAS",
   "weights": "sigmoid",  # those of an edge don't add up to one
   "headline": "accuracy", ...  # see `jnas.report.headline`
   "sections": [
     {"title": "Pruning", "note": "Says what is seen.", "figures": [
       {"title": "Operators left", "metrics": {"operators": "left"},
        "form": "{:,.0f}", "kind": "line", "log": false, "limits": [0, 9]}]}]}

A figure has one metric or several, each with its name in the legend; form,
kind ("line" or "bars"), log and limits are those of `chart.figure`, and may be
left out. What has no title is called by the name that it is recorded under.
"""

from collections.abc import Mapping
import dataclasses
import datetime
import functools
import json
import math
import os
import pathlib
import re
from typing import Any, NamedTuple

from jnas import genotype as genotype_lib
from jnas.report import headline

_FORM = re.compile(r"\{:,?(\.\d{1,2})?[gf%]\}")
_FILES = ("config.json", "run.json", "metrics.jsonl", "result.json")
TRAINED = ("retrain", "segment")  # tasks that train what was found before
_STEPS = 10_000  # of which lines are read, of a file that has more
_STEP = b'{"kind": "step"'  # how such a line begins


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
    mistakes: the content of mistakes.json, if a network was trained: its
      classes, confusion matrix and worst mistakes.
    source: the content of genotype.json.
    segmentation: the content of segmentation.json, if a network segments.
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
  mistakes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  source: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  segmentation: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def name(self) -> str:
    """The name of the workdir."""
    return self.path.resolve().name

  @property
  def task(self) -> str:
    """What the run was: search, retrain or segment."""
    found = self.result.get("task") or self.machine.get("task")
    return str(found or self.config.get("task") or "search")

  @property
  def trained(self) -> bool:
    """Whether it trained the network of a genotype that was known."""
    return self.task in TRAINED

  @property
  def seed(self) -> str:
    """The seed, as text."""
    return str(self.config.get("seed", "unknown"))

  @property
  def titles(self) -> Mapping[str, Any]:
    """What the run calls its algorithm and metrics."""
    found = self.machine.get("titles")
    return found if isinstance(found, dict) else {}

  @functools.cached_property
  def headline(self) -> headline.Headline:
    """The number by which the run is told."""
    return headline.of(self.titles, self.result, self.series)

  @functools.cached_property
  def described(self) -> list[Mapping[str, Any]]:
    """The sections in the titles whose descriptions can be read."""
    found = self.titles.get("sections")
    found = found if isinstance(found, list) else []
    return [one for one in found if _is_section(one)]

  @functools.cached_property
  def series(self) -> Mapping[str, list[tuple[Any, float, float]]]:
    """The (kind, epoch, value) triples of each metric that are numbers."""
    found: dict[str, list[tuple[Any, float, float]]] = {}
    for line in self.metrics:
      epoch, kind = line.get("epoch"), line.get("kind")
      if is_number(epoch):
        for name, value in line.items():
          if is_number(value):
            found.setdefault(name, []).append((kind, epoch, value))
    return found

  @property
  def shares(self) -> bool:
    """Whether the weights of an edge's operators add up to one."""
    return self.titles.get("weights") != "sigmoid"


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
  trained = {config.get("task"), machine.get("task")} & {*TRAINED}
  # A training has no architecture to follow, so nothing is missing there.
  aside: list[str] = [] if trained else notes
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
  # Few runs write these, so nothing is missing without them.
  benchmark, mistakes, source, segmentation = (
    _read_object(path / name, notes) if (path / name).exists() else {}
    for name in (
      *("benchmark.json", "mistakes.json", "genotype.json"),
      "segmentation.json",
    )
  )
  restricted, pareto = (), []
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
    mistakes,
    source,
    segmentation,
  )


def _is_section(one: Any) -> bool:
  """Returns whether titles describe a section as they should."""
  try:
    return isinstance(one["title"], str) and all(
      isinstance(figure["title"], str)
      and all(isinstance(word, str) for word in figure["metrics"].values())
      and figure.get("kind", "line") in ("line", "bars")
      and _FORM.fullmatch(figure.get("form", "{:g}"))
      and _are_limits(figure.get("limits"))
      for figure in one["figures"]
    )
  except (AttributeError, KeyError, TypeError, IndexError):
    return False


def _are_limits(limits: Any) -> bool:
  return limits is None or (
    len(limits) == 2 and all(map(is_number, limits)) and limits[0] < limits[1]
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
  return abs(value) <= 1e300  # with which one can calculate


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Returns the fields of a configuration by dotted name, as for the flags.

  >>> flat({"algo": {"name": "darts"}, "seed": 0})
  {'algo.name': 'darts', 'seed': 0}
  """
  found = {}
  for key, value in config.items():
    name = f"{prefix}.{key}" if prefix else str(key)
    nested = isinstance(value, Mapping) and value
    found |= flat(value, name) if nested else {name: value}
  return found


def search_of(run: Run) -> pathlib.Path | None:
  """Returns the folder of the search whose genotype a run has trained."""
  if not run.trained:
    return None
  named = run.source.get("source")  # from the workdir
  places = [run.path / named] if isinstance(named, str) and named else []
  # As a comparison lays it out.
  places.append(run.path.resolve().parent)
  for path in places:
    if (path / "genotypes.jsonl").is_file():
      return path
  return None


def comparison_of(run: Run) -> pathlib.Path | None:
  """Returns the folder of the comparison that a run belongs to."""
  for path in run.path.resolve().parents[:3]:
    try:
      data = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
      continue
    if isinstance(data, dict) and data.get("task") in ("compare", "pareto"):
      return path
  return None


def started(run: Run) -> str:
  """Returns when the run began, as text; "" if it is not known."""
  found = run.machine.get("started", "")
  if is_number(found):
    when = datetime.datetime.fromtimestamp(found, datetime.UTC)
    return f"{when:%Y-%m-%d %H:%M} UTC"
  return str(found)


def _read_object(path: pathlib.Path, notes: list[str]) -> dict[str, Any]:
  return _read_json(path, dict, notes)


def _read_json(path: pathlib.Path, kind: type, notes: list[str]) -> Any:
  """Returns what a file holds; an empty `kind`, and a note, if it is none."""
  try:
    data = json.loads(path.read_text(encoding="utf-8", errors="replace"))
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

  A run that was killed and resumed may have written a step twice. Of a long
  run, not all lines of single steps are read.
  """
  try:
    with open(path, "rb") as file:
      count = sum(1 for _ in file)
      every = math.ceil(count / _STEPS)
      file.seek(0)
      lines = [
        (i, line)
        for i, line in enumerate(file, 1)
        if not (i % every and i < count and line.startswith(_STEP))
      ]
  except FileNotFoundError:
    notes.append(f"There is no {path.name}.")
    return []
  except OSError as error:
    notes.append(f"{path.name} cannot be read ({error}).")
    return []
  if len(lines) < count:
    notes.append(
      f"{path.name} has {count:,} lines: one of {every:,} steps is shown."
    )
  found, bad = {}, []
  for i, line in lines:
    if not line.strip():
      continue
    try:
      data = json.loads(line.decode(errors="replace"))
    except (ValueError, RecursionError):
      data = None
    if isinstance(data, dict):
      step = data.get("step")
      order = step if is_number(step) else len(found)
      found[order, str(data.get("kind"))] = data
    else:
      bad.append(i)
  if bad == [count]:
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
