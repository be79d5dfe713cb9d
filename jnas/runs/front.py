"""Training of Pareto sets: all networks of some searches, under one budget.

Each of `pareto.searches` is the folder of a search by GOLD-NAS, or a config
file, which is searched first in WORKDIR/<its name>. Every network that it has
recorded is then trained from scratch as the configuration says, as deep and
wide as in the search, in WORKDIR/<its name>_<its letter>. Beside them stand
`pareto.random` networks of the same space that are pruned at random to as many
multiply-adds (Bi et al. 2020, appendix B.4), in WORKDIR/random_<letter>.

pareto.json says what is trained and what is known of it; it is what the report
is made of. Started again it goes on: what has ended is not trained again.
"""

from collections.abc import Mapping, Sequence
import json
import os
import pathlib
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from jnas import config as config_lib
from jnas.report import headline, parts
from jnas.runs import (
  build,
  random_pruning,
  recipe,
  report,
  retrain,
  search,
)
from jnas.runs import workdir as workdir_lib
from jnas.runs.entries import imposed, load, run_name, split
from jnas.runtime.writer import Writer

_LINES = "pareto.jsonl"  # of a search
_RECORD = "pareto.json"  # of this program
_RANDOM = "random"
_HEADLINE = ("headline", "larger_is_better", "shares")  # of a training's result
_REACHING = ("data.", "log.")  # fields that replace those of config files

Line = dict[str, Any]


class _Source(NamedTuple):
  """A search whose networks are trained.

  Attributes:
    name: that its networks are called by.
    folder: where it runs.
    config: of the search.
    searched: whether it has to run here.
  """

  name: str
  folder: pathlib.Path
  config: ml_collections.ConfigDict
  searched: bool


def run(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> dict[str, Any]:
  """Searches where that is wanted, trains, and returns what result.json holds.

  Args:
    config: of task "pareto".
    workdir: where everything is written.

  Raises:
    ValueError: a search or its data do not fit, the directory belongs to
      another run, or a training has failed.
    SystemExit: with status 143, when SIGTERM or Ctrl-C stopped it.
  """
  sources = [_source(config, one, workdir) for one in config.pareto.searches]
  _check(config, sources)
  workdir_lib.check(config, workdir)
  primary = jax.process_index() == 0
  with workdir_lib.alone(workdir):
    if primary:
      workdir_lib.claim(config, workdir)
    for source in sources:
      ended = workdir_lib.finished(source.folder)
      if source.searched and not ended:
        search.run(source.config, source.folder)
    record = workdir_lib.read(workdir / _RECORD)
    if not record:
      record = {
        "task": "pareto",
        "data": config.data.name,
        "searches": [
          {"name": s.name, "folder": os.path.relpath(s.folder, workdir)}
          for s in sources
        ],
        "networks": _networks(config, sources),
      }
    by_name = {source.name: source for source in sources}
    by_name[_RANDOM] = sources[0]
    for number, line in enumerate(record["networks"], 1):
      folder = workdir / line["name"]
      trained = _training(config, by_name[line["search"]], line["text"])
      result = workdir_lib.finished(folder, "retrain")
      if result is None:
        _write(workdir, record, primary)
        print(f"[{number} of {len(record['networks'])}] {line['name']}")
        result = retrain.run(trained, folder)
      line["retrained"] = result[f"test_{headline.of(result).name}"]
      record |= {name: result[name] for name in _HEADLINE if name in result}
      line["seconds"] = result.get("seconds", 0.0)
    result = _result(record)
    if primary:
      with Writer(workdir) as writer:
        writer.put("result.json", result)
    _write(workdir, record, primary)
  print(f"report: {workdir / 'report.html'}")
  return result


def _source(
  config: ml_collections.ConfigDict, given: str, workdir: pathlib.Path
) -> _Source:
  """A search by its folder or its config file."""
  if ".py" in given and not pathlib.Path(given).is_dir():
    changes = {
      name: value
      for name, value in imposed(config).items()
      if name.startswith(_REACHING)
    }
    found, name = load(given, changes), run_name(split(given)[0])
    return _Source(name, workdir / name, found, True)
  folder = pathlib.Path(given).expanduser()
  record = workdir_lib.read(folder / "config.json")
  if record.get("task") != "search" or not (folder / _LINES).is_file():
    raise ValueError(
      "pareto.searches: expected config files, or folders of searches with "
      f"their config.json and {_LINES}, as GOLD-NAS writes it, got {given!r}"
    )
  return _Source(folder.resolve().name, folder, recipe.recorded(record), False)


def _check(
  config: ml_collections.ConfigDict, sources: Sequence[_Source]
) -> None:
  """Raises ValueError if searches and trainings do not go together."""
  problems = []
  names = [source.name for source in sources]
  for source in sources:
    if not recipe.method(source.config).pareto:
      problems.append(
        f"{source.name}: expected a search that records a Pareto set, as by "
        f"goldnas, got {source.config.algo.name}"
      )
    if source.config.data.name != config.data.name:
      problems.append(
        f"{source.name}: searches {source.config.data.name}, but data.name is "
        f"{config.data.name}; set it to that of the search"
      )
    if names.count(source.name) > 1:
      problems.append(f"{source.name}: is there twice; rename a folder")
    try:
      config_lib.validate(_training(config, source, "what the search finds"))
    except ValueError as error:
      problems.append(f"training what {source.name} finds: {error}")
  if problems:
    lines = "".join(f"\n  - {problem}" for problem in problems)
    raise ValueError(f"pareto.searches: these do not fit:{lines}")


def _training(
  config: ml_collections.ConfigDict, source: _Source, text: str
) -> ml_collections.ConfigDict:
  """The config that trains a network of a search."""
  copy = ml_collections.ConfigDict(config.to_dict())
  copy.task, copy.retrain.genotype = "retrain", text
  copy.space.update(source.config.space.to_dict())
  return copy.lock()


def _networks(
  config: ml_collections.ConfigDict, sources: Sequence[_Source]
) -> list[Line]:
  """What is to be trained: equal networks of a search once."""
  found = []
  for source in sources:
    lines = {}
    for i, text in enumerate((source.folder / _LINES).read_text().splitlines()):
      line = json.loads(text)
      lines.setdefault(line["text"], _line(source.name, i, line))
    found += _some(list(lines.values()), config.pareto.most)
  if not found:
    raise ValueError(
      "pareto.searches: expected searches that have recorded a network, got "
      "none; search longer, or with a smaller gold.t0"
    )
  return found + _random(config, sources[0], [n["flops"] for n in found])


def _line(source: str, i: int, line: Mapping[str, Any]) -> Line:
  letter = parts.letter(i)
  numbered = {n: v for n, v in line.items() if n not in ("step", "epoch")}
  return {
    **numbered,
    "name": f"{source}_{letter}",
    "search": source,
    "letter": letter,
  }


def _some(lines: list[Line], most: int) -> list[Line]:
  """At most so many networks, from the cheapest to the dearest; 0: all.

  >>> [n["flops"] for n in _some([{"flops": i} for i in (4, 0, 2, 1, 3)], 3)]
  [0, 2, 4]
  """
  lines = sorted(lines, key=lambda line: line["flops"])
  if not 0 < most < len(lines):
    return lines
  at = np.linspace(0, len(lines) - 1, most)
  return [lines[round(i)] for i in at]


def _random(
  config: ml_collections.ConfigDict, source: _Source, flops: list[float]
) -> list[Line]:
  """Networks pruned at random, to budgets that span those of the sets."""
  count = config.pareto.random
  if not count:
    return []
  data = build.read(config)
  spec = recipe.spec(source.config, len(data.classes))
  found = []
  shares = (np.arange(count) + 0.5) / count
  for k, budget in enumerate(np.quantile(flops, shares)):
    while True:
      try:
        shape, seed = data.train_x.shape[1:], (config.seed, k)
        line = random_pruning.draw(spec, shape, float(budget), seed)
        break
      except ValueError:  # few random prunings are valid at a small budget
        budget *= 1.1
    found.append(_line(_RANDOM, k, line))
  return found


def _result(record: Mapping[str, Any]) -> dict[str, Any]:
  networks = record["networks"]
  goal = headline.of(record)
  sign = 1 if goal.larger_is_better else -1
  best = max(networks, key=lambda line: sign * line["retrained"])
  return {
    "task": "pareto",
    "data": record["data"],
    "networks": len(networks),
    "best": {
      **{name: best[name] for name in ("name", "flops", "params")},
      f"test_{goal.name}": best["retrained"],
    },
    "seconds": sum(line["seconds"] for line in networks),
  }


def _write(
  workdir: pathlib.Path, record: Mapping[str, Any], primary: bool
) -> None:
  if primary:
    with Writer(workdir) as writer:
      writer.put(_RECORD, record)
    report.write([workdir], workdir / "report.html")
