"""Comparison of searches: several config files, several seeds, one data set.

Each of `compare.configs` is searched with `compare.seeds` seeds, from `seed`
on, one after the other, in WORKDIR/<config file>_<argument>/seed<k>. The runs
are ordinary runs of task search.

A config file may be followed by fields that are set, for that search alone:
"configs/amended_darts.py:s1 algo.eta=0.01 train.length=200epochs".

Config files name their own data and lengths. What the comparison itself says
of `data.*`, `log.*`, `train.length`, `train.batch`, `space.cells`,
`space.width` and `space.table` replaces theirs, field by field, where it is
not the default of `jnas.config.base()`; so one --config.data.path=... reaches
all runs. Other fields belong into the config files; set for the comparison
they are refused.

With `compare.retrain` each search is followed by the training of what it has
derived, from scratch, in seed<k>/retrain: by `compare.recipe`, a config file
of task retrain, or else as the search itself has trained.

Where `compare.together` says so, and a search can (see `seeds`), its seeds are
one program. If that fails, they are searched one after the other.

A comparison that was interrupted goes on: runs that have ended are not run
again, the one that was cut short continues from its checkpoint. Config files
and seeds may be added to a comparison that has ended.
"""

from collections.abc import Mapping, Sequence
import pathlib
import statistics
from typing import Any

import jax
import ml_collections

from jnas import config as config_lib
from jnas.report import groups, headline, records
from jnas.runs import derived, dispatch, report
from jnas.runs import workdir as workdir_lib
from jnas.runs.entries import Entry, entries, imposed
from jnas.runtime import hosts, parallel
from jnas.runtime.writer import Writer

# JAX keeps what it has traced: some 15 MiB of a small search that is pruned.
_FORGET = 10  # runs after which that is let go

# By the folder of the search: what its result.json holds, and what is known
# beside it (`derived.numbers`).
Results = Mapping[str, Mapping[str, Any]]


def run(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> dict[str, Any]:
  """Runs all searches, and returns what comparison.json holds.

  A search, or a retraining, that fails, for instance because a metric became
  NaN, does not stop the others; it is told when they have ended.
  comparison.json and the report are written after each search, of those that
  have ended so far.

  Args:
    config: of task "compare".
    workdir: where everything is written.

  Raises:
    ValueError: some config file or its data do not fit, the directory belongs
      to other runs, or some search has failed.
    SystemExit: with status 143, when SIGTERM or Ctrl-C stopped a search.
  """
  todo = entries(config)
  _check_workdirs(config, workdir, todo)
  ended = {
    entry.folder: result
    for entry in todo
    if (result := workdir_lib.finished(workdir / entry.folder))
  }
  trained = {
    entry.folder: result
    for entry in todo
    if entry.trained and entry.folder in ended
    if (result := workdir_lib.finished(workdir / _retraining(entry), "retrain"))
  }
  pending = [
    entry
    for entry in todo
    if entry.folder not in ended
    or (entry.trained and entry.folder not in trained)
  ]
  _check_data(pending)
  primary = jax.process_index() == 0
  say = print if primary else lambda *_: None
  # The lock of a run, taken for all runs: two processes of one comparison
  # would otherwise take searches from each other.
  with workdir_lib.alone(workdir):
    if primary:
      workdir_lib.claim(config, workdir)
      if pending:
        (workdir / "result.json").unlink(missing_ok=True)
    say(_opening(config, todo, pending))
    results = {
      entry.folder: _whole(entry, workdir, ended, trained)
      for entry in todo
      if entry.folder in ended
    }
    failed: dict[str, str] = {}
    done = len(todo) - len(pending)
    for number, entry in enumerate(pending, done + 1):
      name, folder = entry.folder, workdir / entry.folder
      try:
        same = [each for each in todo if each.name == entry.name]
        begun = any(each.folder in ended.keys() | failed for each in same)
        if not begun:
          ended |= _together(config, workdir, same)
        if name not in ended:
          ended[name] = dispatch.run(entry.config, folder)
        results[name] = _whole(entry, workdir, ended, trained)
      except ValueError as error:
        failed[name] = str(error)
      if entry.trained and name not in failed:
        try:
          trained[name] = derived.train(entry, folder, ended[name])
          results[name] = _whole(entry, workdir, ended, trained)
        except ValueError as error:
          failed[_retraining(entry)] = str(error)
      line = _line(entry, results, failed)
      say(f"[{number} of {len(todo)}] {line}")
      if primary:
        _write(workdir, todo, results, failed)
      if number % _FORGET == 0:
        jax.clear_caches()
    compared = summarise(todo, results, failed)
    if primary:
      _write(workdir, todo, results, failed)
      if not failed:
        _put(workdir, "result.json", _result(compared))
    if results:
      say(groups.text(compared))
    say(f"report: {workdir / 'report.html'}")
  if failed:
    lines = "".join(f"\n  - {name}: {why}" for name, why in failed.items())
    what = f"{len(todo)} searches"
    if any(entry.trained for entry in todo):
      what += " and their retrainings"
    raise ValueError(f"{len(failed)} of {what} failed:{lines}")
  return compared


def _together(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  each: Sequence[Entry],
) -> dict[str, dict[str, Any]]:
  """Results by folder of searches that were one program; empty if they can't.

  Args:
    config: of the comparison.
    workdir: of the comparison.
    each: searches that differ in their seeds.
  """
  asked = config.compare.together
  if asked == "auto":
    cpu = parallel.platform(parallel.mesh()) == "cpu"
    asked = "no" if cpu or hosts.several() else "yes"
  if asked == "no" or len(each) < 2:
    return {}
  own = ml_collections.ConfigDict(each[0].config.to_dict())
  own.seeds = len(each)
  try:
    config_lib.validate(own)
    dispatch.run(own.lock(), workdir / each[0].name)
  except ValueError as error:
    why = " ".join(str(error).split())
    print(f"{each[0].name}: one seed after the other, because {why}")
    return {}
  return {
    entry.folder: workdir_lib.finished(workdir / entry.folder)
    for entry in each
  }


def _retraining(entry: Entry) -> str:
  """Returns the folder of the retraining, below the comparison's workdir."""
  return f"{entry.folder}/{derived.FOLDER}"


def _whole(
  entry: Entry, workdir: pathlib.Path, ended: Results, trained: Results
) -> dict[str, Any]:
  """Returns the result of a search that has ended, with all that is known."""
  result, name = ended[entry.folder], entry.folder
  known = derived.numbers(entry, workdir / name, result, trained.get(name))
  return {**result, **known}


def summarise(
  todo: Sequence[Entry], results: Results, failed: Mapping[str, str]
) -> dict[str, Any]:
  """Returns the content of comparison.json.

  Args:
    todo: all searches of the comparison.
    results: of those that have ended.
    failed: folder -> message.

  Returns:
    {"task", "data", "planned", "failed": {folder: message}, "algorithms"}, the
    last by name in the order of the comparison: {"config", "runs": [{"seed",
    "folder", "result"}], "numbers": see `numbers`, "chosen": see `choose`},
    and "kendall", see `derived.kendall`, where genotypes were retrained.
    An algorithm of which no search has ended is left out.
  """
  algorithms = {}
  for name, spec in dict.fromkeys((e.name, e.spec) for e in todo):
    runs = [
      {
        "seed": entry.config.seed,
        "folder": entry.folder,
        "result": dict(results[entry.folder]),
      }
      for entry in todo
      if entry.name == name and entry.folder in results
    ]
    if runs:
      algorithms[name] = {
        "config": spec,
        "runs": runs,
        "numbers": numbers([one["result"] for one in runs]),
        "chosen": choose(runs),
      }
      rank = derived.kendall([one["result"] for one in runs])
      if rank is not None:
        algorithms[name]["kendall"] = rank
  return {
    "task": "compare",
    "data": todo[0].config.data.name,
    "planned": len(todo),
    "failed": dict(failed),
    "algorithms": algorithms,
  }


def numbers(
  results: Sequence[Mapping[str, Any]],
) -> dict[str, dict[str, float | None]]:
  """Returns mean, sd, min and max of each number that all results have.

  sd is the standard deviation of a sample (n - 1), None of a single result.

  >>> numbers([{"a": 1.0, "b": 2}, {"a": 3.0, "c": 0}])["a"]["mean"]
  2.0
  """
  found = {}
  for name in results[0]:
    values = [result.get(name) for result in results]
    if all(records.is_number(value) for value in values):
      found[name] = {
        "mean": statistics.fmean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else None,
        "min": min(values),
        "max": max(values),
      }
  return found


def choose(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
  """Returns seed, folder and genotype of the best run on validation data.

  So GDAS and DARTS choose among four searches. Of equals it is the first; None
  if no run has a number to choose by.

  Raises:
    ValueError: runs are told by different headlines.
  """
  goals = [headline.of(one["result"]) for one in runs]
  if len(names := sorted({goal.name for goal in goals})) > 1:
    raise ValueError(
      "expected searches that are told by one number, to choose the best of "
      f"them; got some with {' and some with '.join(names)}: compare these "
      "apart"
    )
  goal = goals[0]
  scores = [goal.score(one["result"], "valid") for one in runs]
  known = [
    (score, one)
    for score, one in zip(scores, runs, strict=True)
    if records.is_number(score)
  ]
  if not known:
    return None
  _, best = max(known, key=lambda pair: pair[0])
  place = {name: best[name] for name in ("seed", "folder")}
  return place | {
    name: best["result"][name]
    for name in (
      *(f"valid_{goal.name}", "true_accuracy"),
      *(f"retrained_{goal.name}", "genotype"),
    )
    if name in best["result"]
  }


def _result(compared: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what result.json holds: the comparison without its runs."""
  algorithms = compared["algorithms"]
  return {
    "task": "compare",
    "data": compared["data"],
    "seconds": sum(
      one["result"].get("seconds", 0.0)
      + one["result"].get("retrain_seconds", 0.0)
      for found in algorithms.values()
      for one in found["runs"]
    ),
    "algorithms": {
      name: {
        "runs": len(found["runs"]),
        **found["numbers"],
        "chosen": found["chosen"],
        **{k: v for k, v in found.items() if k == "kendall"},
      }
      for name, found in algorithms.items()
    },
  }


# Before the first search.


def _check_workdirs(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  todo: Sequence[Entry],
) -> None:
  """Returns if all searches may run in their folders, raises ValueError."""
  # What another comparison has left does no harm: each run is checked below.
  if workdir_lib.read(workdir / "config.json").get("task") != config.task:
    workdir_lib.check(config, workdir)
  runs = [(entry.config, workdir / entry.folder) for entry in todo]
  for entry in todo:
    # What is to be retrained is known as soon as the search has ended.
    found = workdir_lib.finished(workdir / entry.folder)
    if entry.trained and found:
      again = derived.retraining(entry, found)
      runs.append((again, workdir / _retraining(entry)))
  problems: dict[str, list[str]] = {}
  for one, place in runs:
    try:
      workdir_lib.check(one, place)
    except ValueError as error:
      # Runs that differ in the same way are told of once.
      folder = str(place)
      problems.setdefault(str(error).replace(folder, "\0"), []).append(folder)
  if problems:
    raise ValueError(
      "\n".join(
        message.replace("\0", folders[0])
        + f"\nThe same holds for {', '.join(folders[1:])}." * (len(folders) > 1)
        for message, folders in problems.items()
      )
    )


def _check_data(pending: Sequence[Entry]) -> None:
  """Returns if the data of all searches can be had, raises ValueError."""
  seen = {}
  for entry in pending:
    data = entry.config.data
    seen[data.name, data.path, data.limit] = entry.config
  problems = []
  for config in seen.values():
    try:
      dispatch.load(config)
    except (ValueError, FileNotFoundError) as error:
      problems.append(str(error))
  if problems:
    raise ValueError("\n".join(problems))


# What is told and written.


def _opening(
  config: ml_collections.ConfigDict,
  todo: Sequence[Entry],
  pending: Sequence[Entry],
) -> str:
  names = list(dict.fromkeys(entry.name for entry in todo))
  lines = [f"comparing {', '.join(names)}: {len(todo)} searches"]
  if done := len(todo) - len(pending):
    lines[0] += f", of which {done} have ended"
  if todo[0].trained:
    how = config.compare.recipe or "its search"
    lines.append(f"each then trained for {config.compare.retrain} as by {how}")
  if changes := imposed(config):
    told = ", ".join(f"{name}={value}" for name, value in changes.items())
    lines.append(f"for all of them: {told}")
  return "\n".join(lines)


def _line(
  entry: Entry,
  results: Results,
  failed: Mapping[str, str],
) -> str:
  name, told = entry.folder, []
  if name in results:
    told = groups.facts(results[name])
  for folder, what in ((name, "failed"), (_retraining(entry), "retraining")):
    if folder in failed:
      told.append(f"{what}: {failed[folder].splitlines()[0]}")
  return f"{name}: {', '.join(told)}"


def _write(
  workdir: pathlib.Path,
  todo: Sequence[Entry],
  results: Results,
  failed: Mapping[str, str],
) -> None:
  _put(workdir, "comparison.json", summarise(todo, results, failed))
  report.write([workdir], workdir / "report.html")


def _put(
  workdir: pathlib.Path, name: str, record: Mapping[str, Any]
) -> None:
  with Writer(workdir) as writer:
    writer.put(name, record)
