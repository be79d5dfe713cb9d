"""Search for an architecture: data, supernet, algorithm, loop, genotype."""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import pathlib
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import ml_collections

from jnas import config as config_lib
from jnas import genotype as genotype_lib
from jnas.algorithms import base
from jnas.algorithms import stages as stages_lib
from jnas.algorithms.stages import Stage
from jnas.ops import backend as backend_lib
from jnas.report import headline
from jnas.runs import build, evaluation, feeds, monitor, recipe, session
from jnas.runs import problem as problem_lib
from jnas.runs import workdir as workdir_lib
from jnas.runs.problem import Problem, origin, stage_clock
from jnas.runtime import hosts, parallel
from jnas.spaces import cnn
from jnas.training import (
  controller,
  optim,
  steps,
  trainer,
  transit,
)
from jnas.training.state import State, zero_totals
from jnas.training.task import Task


def run(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> dict[str, Any]:
  """Searches, and returns what result.json holds.

  A run that was interrupted goes on from its last checkpoint, to the numbers
  that it would have come to.

  Args:
    config: of task "search".
    workdir: where everything is written.

  Raises:
    ValueError: the data, or the configuration on this data or these devices,
      do not fit; the directory belongs to another run; or a metric became NaN.
    SystemExit: with status 143, when SIGTERM or Ctrl-C stopped it.
  """
  workdir_lib.check(config, workdir)
  (problem,) = problem_lib.read(config, workdir=workdir)
  plan = build_plan(problem, problem.stages.first)
  plan, state, numbers = session.execute(
    plan, config, workdir, problem.mesh, files(problem)
  )
  result = finish(problem, plan, state, numbers, workdir)
  print(f"genotype: {result['genotype']}")
  if warning := chance(problem, plan, result):
    print(warning)
  told = headline.of(result).line(result, "valid")
  print(f"supernet validation {told}")
  if problem.table:
    print(f"true accuracy: {result['true_accuracy']:.2%}")
  print(f"report: {workdir / 'report.html'}")
  return result


def files(problem: Problem) -> dict[str, Any]:
  """What a run keeps of what it is given, by file name."""
  found = problem.files | {"data.json": build.about(problem.data)}
  if problem.table:
    found["benchmark.json"] = evaluation.reference(
      problem.table, config_lib.flatten(problem.config)
    )
  return found


def finish(
  problem: Problem,
  plan: trainer.Plan,
  state: State,
  numbers: Mapping[str, float],
  workdir: pathlib.Path | None,
) -> dict[str, Any]:
  """What result.json holds; it is written, with the report, into a workdir.

  Args:
    problem: what was searched on.
    plan: that ran last.
    state: at its end.
    numbers: of the last evaluation.
    workdir: None if there is none.
  """
  config, stage = problem.config, stages_lib.from_json(plan.meta["stage"])
  algorithm = problem_lib.algorithm(problem, stage)
  weights = evaluation.mixture(algorithm)(state)
  result = {
    "task": "search",
    "genotype": genotype_lib.format_text(algorithm.derive(weights)),
    "params": cnn.count(state.weights),
    **numbers,
  }
  if workdir is None:
    return result
  own = recipe.options(config, problem.clock)
  records = recipe.method(config).records(stage.spec, weights, own)
  session.finish(workdir, result, records)
  return result


def chance(
  problem: Problem, plan: trainer.Plan, result: Mapping[str, Any]
) -> str | None:
  """What to tell if a plan has ended where it began; None if it has not."""
  stage = stages_lib.from_json(plan.meta["stage"])
  learnt = problem_lib.algorithm(problem, stage).estimate
  if not (learnt and problem.stages.restarts):
    return None
  return monitor.chance(stage.spec, result)


def build_plan(
  problem: Problem, stage: Stage, task: Task | None = None
) -> trainer.Plan:
  """What is to be run in one stage.

  Args:
    problem: what is searched on.
    stage: of the search.
    task: that of a stage before, if it was of the same network: its evaluation
      need not be compiled again.
  """
  config, clock = problem.config, stage_clock(problem, stage)
  pruned = not problem.stages.restarts  # operators go while it runs
  algorithm = problem_lib.algorithm(problem, stage)
  learning_rate, drop = build.schedules(config, clock)
  warmup = clock.steps(config.algo.warmup)
  if warmup >= clock.total:
    raise ValueError(
      f"algo.warmup: {config.algo.warmup!r} is {warmup} steps, but stage "
      f"{stage.index + 1} of {problem.stages.count} has only "
      f"{clock.total}; make it shorter, or train.length longer"
    )
  if algorithm.skip_dropout is not None:
    drop["skip"] = algorithm.skip_dropout
  network = stage_network(problem, stage, algorithm)
  weights_optimizer = build.weights_optimizer(config, learning_rate)
  arch_optimizer = build.arch_optimizer(config)
  begun = origin(problem, stage)

  def compute(network: cnn.Network) -> dict[str, Any]:
    return step_functions(
      problem,
      stage,
      algorithm,
      objective=build.objective(config, network),
      weights_optimizer=weights_optimizer,
      arch_optimizer=arch_optimizer,
      schedule=learning_rate,
      rate=build.dropout(drop, begun),
    )

  functions = compute(network)
  task = task or build.task(
    config, network, problem.data, problem.mesh, algorithm.samples_paths
  )

  def init() -> State:
    first = build.key(config, "arch", stage.index)
    arch = algorithm.init(first, config.arch.init)
    learnt = algorithm.estimate is not None
    state = State(
      step=jnp.int32(stage.start),
      weights=None,
      stats=None,
      arch=arch,
      weights_opt=None,
      arch_opt=arch_optimizer.init(arch) if learnt else (),
      totals=zero_totals(task.scores),
      hyper=controller.hyper(stage),
    )
    derivation = transit.begin(algorithm, state, algorithm.patience)
    state = state._replace(derivation=derivation)
    variables = build.variables(
      config,
      network,
      problem.data,
      base.edge_weights(algorithm, arch, None, state),
      stage.index,
    )
    weights, stopping = variables["params"], None
    if algorithm.stopping is not None:
      stopping = algorithm.stopping.begin(weights)
    return state._replace(
      weights=weights,
      stopping=stopping,
      stats=variables["batch_stats"],
      weights_opt=weights_optimizer.init(weights),
    )

  def which(at: int, state: State) -> tuple[str, int]:
    rest = begun + warmup - at
    if algorithm.estimate is None:
      return "warm", stage.stop - at
    if rest > 0:
      return "warm", rest
    if algorithm.derivation is None:
      return "full", stage.stop - at
    period = 1 if parallel.platform(problem.mesh) == "cpu" else 10
    cells = hosts.first(
      lambda: transit.frozen(stage.spec, state, at, period=period)
    )
    if cells is None:
      return "full", min(stage.stop - at, period - at % period)
    # As JSON has told them, they are lists.
    cells = tuple((name, tuple(map(tuple, ops))) for name, ops in cells)
    if (name := f"frozen {cells}") not in functions:
      own = build.network(config, stage.spec, problem.mesh, frozen=cells)
      fixed = compute(own)["full"]
      functions[name] = lambda seed: transit.counted(fixed(seed))
    return name, 1

  def following(state: State) -> tuple[trainer.Plan, State] | None:
    weights = evaluation.mixture(algorithm)(state)
    arch = jax.device_get(state.arch)

    def decide() -> dict[str, Any] | None:
      after = problem.stages.decide(stage, arch, weights).following
      return after and after.to_json()

    decided = hosts.first(decide)
    if decided is None:
      return None
    after = stages_lib.from_json(decided)
    same = after.spec == stage.spec and not problem.stages.restarts
    plan = build_plan(problem, after, task if same else None)
    if problem.stages.restarts:
      return plan, plan.init()
    return plan, controller.carried(state, stage, after)

  def resume(meta: Mapping[str, Any]) -> trainer.Plan:
    return build_plan(problem, stages_lib.from_json(meta["stage"]))

  coming = None
  if stage.coming:
    # Hyper-parameters are data: any stage of the network has its programs.
    own = dataclasses.replace(stage, spec=stage.coming, coming=None)
    coming = build_plan(problem, own)

  count = problem.stages.count
  part = f", stage {stage.index + 1} of {count}" if count > 1 else ""
  if pruned:
    left = sum(len(k) for _, cell in stage.spec.searched for k in cell.kept)
    part = f", {left} operators"
  return trainer.Plan(
    title=f"{recipe.method(config).title} on {config.data.name}{part}",
    per_epoch=problem.clock.per_epoch,
    total=problem.clock.total,
    batch=config.train.batch,
    task=task,
    feed=feeds.feed(
      config,
      problem.mesh,
      problem.splits,
      problem.clock.total,
      one_level=algorithm.one_level,
    ),
    init=init,
    steps=functions,
    which=which,
    evaluate=evaluation.build_evaluation(
      problem, stage, algorithm, network, drop, task
    ),
    rates=build.rates(learning_rate, drop, begun),
    meta={
      "task": "search",
      "stage": stage.to_json(),
      "data": problem.fingerprint,
    },
    until=stage.stop,
    following=following,
    resume=resume,
    warning=functools.partial(monitor.warning, stage.spec)
    if algorithm.estimate and not pruned  # there cheap is good
    else lambda values: None,
    program=None if problem.stages.restarts else stage.spec,
    coming=coming,
  )


def stage_network(
  problem: Problem, stage: Stage, algorithm: base.Algorithm
) -> nn.Module:
  """The network of a stage."""
  pruned = not problem.stages.restarts
  skip_zero_ops = algorithm.samples_paths or pruned
  return build.network(
    problem.config, stage.spec, problem.mesh, skip_zero_ops
  )


def step_functions(
  problem: Problem,
  stage: Stage,
  algorithm: base.Algorithm,
  *,
  schedule: optim.Schedule,
  **shared: Any,
) -> dict[str, Callable[[jax.Array], steps.Step]]:
  """The steps of a stage by name, as functions of the seed.

  "full", and "warm" where alpha rests.

  Args:
    problem: what is searched on.
    stage: of the search.
    algorithm: of the stage.
    schedule: learning rate at a step of the stage.
    **shared: objective, optimizers and rates, as all steps take them.
  """
  config = problem.config
  backend = backend_lib.of(parallel.platform(problem.mesh))
  shared |= {"mean": parallel.mean}
  virtual = steps.momentum_virtual(
    lambda step: schedule(step - origin(problem, stage)),
    momentum=config.weights.momentum,
    decay=config.weights.decay,
  )

  def seeded(build_step: Callable[..., steps.Step], **more: Any):
    def step(seed: jax.Array) -> steps.Step:
      draw = build.draw(config, problem.data, problem.mesh, seed)
      return build_step(algorithm, draw=draw, seed=seed, **shared, **more)

    return step

  functions = {"warm": seeded(steps.search_step, virtual=virtual, warm=True)}
  if algorithm.one_level:
    return functions | {"full": seeded(steps.one_level_step)}
  if algorithm.estimate is None:
    return functions
  # Where compiling is what one waits for, both levels share one program.
  if recipe.looped(config, algorithm, stage.spec, backend):
    functions["full"] = seeded(steps.looped_step)
  else:
    functions["full"] = seeded(steps.search_step, virtual=virtual)
  return functions
