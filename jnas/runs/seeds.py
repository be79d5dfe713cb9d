"""A search with several seeds in one program, each in a folder of its own.

WORKDIR/seed<k> holds what a run of that seed alone does, and is one to all who
read runs. What the program needs to go on, and the page that compares the
seeds, are in WORKDIR.
"""

from collections.abc import Callable, Mapping, Sequence
import pathlib
import statistics
from typing import Any

from jax.sharding import Mesh, PartitionSpec
import ml_collections

from jnas.report import headline
from jnas.runs import problem as problem_lib
from jnas.runs import search, session
from jnas.runs import workdir as workdir_lib
from jnas.runs.problem import Problem
from jnas.runtime import hosts, parallel
from jnas.training import seeds, trainer
from jnas.training import state as state_lib

Result = dict[str, Any]


def run(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> Result:
  """Searches with all seeds, and returns what result.json holds: see `summary`.

  A run that was interrupted goes on from its last checkpoint, as one of a
  single seed does.

  Args:
    config: of task "search", with several seeds.
    workdir: where everything is written.

  Raises:
    ValueError: as of a single seed; or there are several processes.
    SystemExit: with status 143, when SIGTERM or Ctrl-C stopped it.
  """
  workdir_lib.check(config, workdir)
  if hosts.several():
    raise ValueError(
      "seeds: expected one process, got several; give each seeds of its own"
    )
  problems = problem_lib.of_seeds(config, workdir=workdir)
  plan = build_plan(problems)
  plan, state, numbers = session.execute(
    plan,
    config,
    workdir,
    problems[0].mesh,
    search.files(problems[0]),
    each=[problem.config for problem in problems],
  )
  results = []
  for k, problem in enumerate(problems):
    folder = session.folder(workdir, problem.config.seed)
    own = state_lib.take(state, k, problem.mesh)
    results.append(
      search.finish(problem, plan.seeds[k], own, numbers[k], folder)
    )
    told = headline.of(results[-1]).line(results[-1], "valid")
    print(f"seed {problem.config.seed}: {told}, {results[-1]['genotype']}")
  found = [problem.config.seed for problem in problems]
  result = summary(results, found, "valid")
  goal = headline.of(result)
  best = max(results, key=lambda one: goal.score(one, "valid"))
  result["genotype"] = best["genotype"]
  chosen = session.folder(workdir, found[results.index(best)])
  record = workdir_lib.read(chosen / "genotype.json")
  session.finish(workdir, result, {"genotype.json": record})
  print(
    f"supernet validation {line(result, 'valid')}; the best is "
    f"{chosen}\nreport: {workdir / 'report.html'}"
  )
  return result


def build_plan(
  problems: Sequence[Problem],
  place: Callable[[Any, Mesh, PartitionSpec], Any] = parallel.place,
) -> trainer.Plan:
  """What is to be run, of the problems of `problem.of_seeds`.

  Args:
    problems: of each seed.
    place: (array, mesh, spec) -> the array on its devices.
  """
  stage = problems[0].stages.first
  first = search.build_plan(problems[0], stage)
  rest = (
    search.build_plan(problem, stage, first.task) for problem in problems[1:]
  )
  return seeds.joined([first, *rest], problems[0].mesh, place)


def summary(
  results: Sequence[Mapping[str, Any]], found: Sequence[int], split: str
) -> Result:
  """What result.json holds of runs that differ in their seeds.

  It is that of the first, with the mean over seeds in place of what was
  measured on a split, and the standard deviation beside it, as NAME_sd.

  Args:
    results: of each.
    found: their seeds.
    split: by which they are judged, "valid" or "test".
  """
  measured = [name for name in results[0] if name.startswith(f"{split}_")]
  values = {name: [one[name] for one in results] for name in measured}
  return {
    **results[0],
    **{name: statistics.fmean(own) for name, own in values.items()},
    **{f"{name}_sd": statistics.stdev(own) for name, own in values.items()},
    "seconds": sum(one["seconds"] for one in results),
    "seeds": list(found),
    "folders": [f"seed{seed}" for seed in found],
  }


def line(result: Mapping[str, Any], split: str) -> str:
  """The headline of a `summary`, for people."""
  goal, found = headline.of(result), result["seeds"]
  deviation = goal.form().format(result[f"{split}_{goal.name}_sd"])
  return (
    f"{goal.line(result, split)} +- {deviation}, seeds {found[0]} to "
    f"{found[-1]}"
  )
