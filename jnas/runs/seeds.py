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
from jnas.runtime import parallel
from jnas.training import seeds as seeds_lib
from jnas.training import state as state_lib
from jnas.training import trainer

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
  problems = problem_lib.read(config, workdir=workdir)
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
    found = search.finish(problem, plan.seeds[k], own, numbers[k], folder)
    results.append(found)
    told, which = headline.of(found).line(found, "valid"), problem.config.seed
    print(f"seed {which}: {told}, {found['genotype']}")
    if warning := search.chance(problem, plan.seeds[k], found):
      print(f"seed {which}: {warning}")
  result = finish(results, config.seed, workdir)
  chosen = session.folder(workdir, result["chosen"]["seed"])
  print(
    f"supernet validation {line(result, 'valid')}; the best is "
    f"{chosen}\nreport: {workdir / 'report.html'}"
  )
  return result


def finish(
  results: Sequence[Mapping[str, Any]],
  first: int,
  workdir: pathlib.Path | None,
) -> Result:
  """The `summary`, with "chosen", the seed that is best on validation images.

  Its genotype is that of the whole. All is written, with the report that
  compares the seeds, into a workdir.

  Args:
    results: of each seed.
    first: of the seeds.
    workdir: None if there is none.
  """
  goal = headline.of(results[0])
  best = max(results, key=lambda one: goal.score(one, "valid"))
  seeds = range(first, first + len(results))
  chosen = {name: best[name] for name in (f"valid_{goal.name}", "genotype")}
  chosen["seed"] = seeds[results.index(best)]
  result = summary(results, seeds, "valid") | {
    "genotype": best["genotype"],
    "chosen": chosen,
  }
  if workdir is not None:
    own = session.folder(workdir, chosen["seed"]) / "genotype.json"
    files = {"genotype.json": workdir_lib.read(own)}
    session.finish(workdir, result, files)
  return result


def build_plan(
  problems: Sequence[Problem],
  place: Callable[[Any, Mesh, PartitionSpec], Any] = parallel.place,
) -> trainer.Plan:
  """What is to be run: the search of one seed, or of several.

  Args:
    problems: of each seed.
    place: (array, mesh, spec) -> the array on its devices.
  """
  stage = problems[0].stages.first
  first = search.build_plan(problems[0], stage)
  if len(problems) == 1:
    return first
  rest = (
    search.build_plan(problem, stage, first.task) for problem in problems[1:]
  )
  return seeds_lib.joined([first, *rest], problems[0].mesh, place)


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
  }


def line(result: Mapping[str, Any], split: str) -> str:
  """The headline of a `summary`, for people."""
  goal, found = headline.of(result), result["seeds"]
  deviation = goal.form().format(result[f"{split}_{goal.name}_sd"])
  return (
    f"{goal.line(result, split)} +- {deviation}, seeds {found[0]} to "
    f"{found[-1]}"
  )
