"""What a trainer is given: a plan, and the programs of its steps."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np

from jnas.runtime import parallel
from jnas.training import state as state_lib
from jnas.training import steps
from jnas.training.batches import Feed
from jnas.training.state import State
from jnas.training.task import Task

Values = Mapping[str, float]
# Of steps, by name and how many of them one call does.
Compiled = dict[tuple[str, int], Callable[..., Any]]


class Evaluation(NamedTuple):
  """What an evaluation gives.

  Attributes:
    state: to go on with.
    values: metrics by name.
    records: (name, JSON record) to be kept; the names are of files, ".jsonl"
      for what is kept beside earlier ones, ".json" for what replaces them.
  """

  state: State
  values: Values
  records: tuple[tuple[str, Mapping[str, Any]], ...] = ()


class Plan(NamedTuple):
  """What is to be run.

  Attributes:
    title: for people.
    per_epoch: steps of an epoch.
    total: steps of the whole run.
    batch: images, or tokens, of a step, over all devices.
    task: what is trained.
    feed: brings its batches.
    init: () -> State at step 0.
    steps: name -> (seed -> step function (state, *fed) -> (state, metrics)).
      The seed is data of the compiled program, which so serves all of them.
    which: (steps done, state) -> (name of the step function, steps for which
      it lasts).
    evaluate: (state, step) -> Evaluation.
    rates: step -> values that follow a schedule, for the lines.
    meta: of the checkpoints.
    until: the step at which another plan takes over, if one does.
    following: state at that step -> (the next plan, its first state), or None
      if the run is complete.
    resume: meta of a checkpoint -> the plan that wrote it.
    warning: values of an evaluation -> what is to be told of them, or None. It
      is told once.
    program: plans of which this is equal have the same step functions.
    coming: one with the step functions of the plan that will follow, if they
      are known: they are compiled while this one runs.
    seeds: of several seeds in one program (`jnas.training.seeds`), the plan of
      each alone: their evaluations are asked in place of this one's.
  """

  title: str
  per_epoch: int
  total: int
  batch: int
  task: Task
  feed: Feed
  init: Callable[[], State]
  steps: Mapping[str, Callable[[jax.Array], steps.Step]]
  which: Callable[[int, State], tuple[str, int]]
  evaluate: Callable[[State, int], Evaluation]
  rates: Callable[[int], Values]
  meta: Mapping[str, Any]
  until: int | None = None
  following: Callable[[State], tuple["Plan", State] | None] | None = None
  resume: Callable[[Mapping[str, Any]], "Plan"] | None = None
  warning: Callable[[Values], str | None] = lambda values: None
  program: Hashable = None
  coming: "Plan | None" = None
  seeds: tuple["Plan", ...] = ()

  @property
  def end(self) -> int:
    """The step after which this plan has nothing more to do."""
    return self.total if self.until is None else self.until

  def of(self, meta: Mapping[str, Any]) -> "Plan":
    """The plan that wrote a checkpoint with this meta."""
    return self.resume(meta) if self.resume else self


def program(
  plan: Plan, mesh: Mesh, name: str, length: int
) -> Callable[..., Any]:
  """The program of a step, to be compiled: (state, seed, *fed) -> both.

  It returns the state, for which it may reuse the memory of the one that it is
  given, and metrics [length], of several seeds [length, seeds].

  Args:
    plan: with the step.
    mesh: the devices.
    name: of the step in the plan.
    length: steps that one call does.
  """
  lead = parallel.lead(mesh)
  split = state_lib.specs(lead)
  build = plan.steps[name]

  def run(state: State, seed: jax.Array, *fed: Any):
    return steps.repeated(build(seed), length)(state, *fed)

  return parallel.shard_step(
    run,
    mesh,
    in_specs=(split, PartitionSpec(*lead), *plan.feed.specs),
    out_specs=(split, PartitionSpec(None, *lead)),
    donate=0,
  )


def arguments(plan: Plan, mesh: Mesh) -> tuple[State, jax.ShapeDtypeStruct]:
  """The shapes of the state and the seed with which a program is called."""
  parts = zip(
    jax.eval_shape(plan.init), state_lib.specs(parallel.lead(mesh)), strict=True
  )
  state = State(
    *(parallel.abstract(part, NamedSharding(mesh, own)) for part, own in parts)
  )
  return state, parallel.abstract(
    np.zeros(len(plan.seeds) or (), np.uint32),
    NamedSharding(mesh, PartitionSpec(*parallel.lead(mesh))),
  )


def compiled(
  plan: Plan, mesh: Mesh, at: int, fed: Mapping[int, tuple[Any, ...]]
) -> Compiled:
  """The step with which a plan begins, compiled before there is its state.

  Args:
    plan: whose step it is.
    mesh: the devices.
    at: steps done before.
    fed: for each number of steps that one call may do, what it is fed: arrays,
      or their shapes.
  """
  state, seed = arguments(plan, mesh)
  name, _ = plan.which(at, state)
  return {
    (name, length): program(plan, mesh, name, length)
    .lower(state, seed, *own)
    .compile()
    for length, own in fed.items()
  }
