"""What a search measures, derives and records at its evaluations."""

from collections.abc import Callable, Mapping
from typing import Any

from flax import linen as nn
import jax
from jax.sharding import PartitionSpec
import numpy as np

from jnas import genotype as genotype_lib
from jnas.algorithms import base, registry
from jnas.algorithms.stages import Stage
from jnas.data import benchmark
from jnas.ops import backend
from jnas.runs import build, feeds, monitor, pareto, recipe
from jnas.runs.problem import Problem, origin, stage_clock
from jnas.runtime import hosts, keys, parallel
from jnas.spaces import cost
from jnas.training import optim, steps, trainer
from jnas.training.diagnose import implicit_cosine
from jnas.training.state import State
from jnas.training.task import Task

# What all searches of NAS-Bench-201's authors have in common.
_THEIRS = {
  "data.name": "cifar10", "data.limit": 0, "space.column": "cifar10_200",
  "space.cells": 5, "space.width": 16, "space.partial": 1, "train.batch": 64,
  "weights.nesterov": True, "weights.decay": 5e-4, "arch.lr": 3e-4,
}
CANDIDATE_BATCHES = 10  # on which what is selected is compared


def mixture(
  algorithm: base.Algorithm,
) -> Callable[[State], dict[str, np.ndarray]]:
  """A function state -> the mixture's weights, on the host."""
  compiled = jax.jit(lambda arch, step: dict(algorithm.mixture(arch, step)))
  return lambda state: jax.device_get(compiled(state.arch, state.step))


def build_evaluation(
  problem: Problem,
  stage: Stage,
  algorithm: base.Algorithm,
  network: nn.Module,
  drop: Mapping[str, optim.Schedule],
  task: Task,
) -> Callable[[State, int], trainer.Evaluation]:
  """What is measured, derived and recorded at an evaluation."""
  config, splits = problem.config, problem.splits
  diagnose = None
  candidates = task
  if algorithm.select and not algorithm.samples_paths:
    candidates = build.task(
      config, network, problem.data, problem.mesh, own_statistics=True
    )
  period = problem.clock.steps(config.algo.diagnose)
  if algorithm.estimate is not None and not algorithm.one_level:
    diagnose = build_diagnosis(problem, stage, algorithm, network, drop)
  weights_at = mixture(algorithm)

  def evaluate(state: State, at: int) -> trainer.Evaluation:
    last, supernet = at == problem.clock.total, state.arch
    if algorithm.select and (last or not algorithm.selects_last):
      state = state._replace(
        arch=selected(problem, algorithm, candidates, state, at)
      )
    # What is chosen at the end is a child of it, and told of as such.
    arch = supernet if algorithm.selects_last else state.arch
    used = base.edge_weights(algorithm, arch, None, state)
    found = task.evaluate(state, used, splits[1])
    values = {f"valid_{name}": value for name, value in found.items()}
    if diagnose and period and (at % period == 0 or at == stage.stop):
      values["cosine_implicit"] = diagnose(state, *splits)
    weights = weights_at(state)
    genotype = algorithm.derive(weights)
    records = monitor.records(
      stage.spec, weights, genotype, at, problem.clock.per_epoch
    )
    records += feeds.corrupt(splits, at, problem.clock.per_epoch)
    values |= monitor.metrics(stage.spec, weights, genotype)
    values |= topology(problem, stage, algorithm, state, genotype)
    if at == stage.stop and not algorithm.samples_paths:
      child = base.indicator(stage.spec, genotype)
      found = task.evaluate(state, child, splits[1])
      values[f"child_{task.headline}"] = found[task.headline]
    if at == stage.stop:
      records += pareto.records(
        problem, stage, state, weights, values, task.headline
      )
    if problem.table:
      text = genotype_lib.format_text(genotype)
      values["true_accuracy"] = problem.table.accuracy(
        text, config.space.column
      )
    return trainer.Evaluation(state, values, records)

  return evaluate


def topology(
  problem: Problem,
  stage: Stage,
  algorithm: base.Algorithm,
  state: State,
  genotype: genotype_lib.AnyGenotype,
) -> dict[str, float]:
  """The numbers of a search whose topology changes."""
  values = {}
  if algorithm.derivation is not None:
    cells = genotype_lib.chosen(genotype).values()
    values["connections"] = sum(len(pairs) for pairs in cells)
    steps_done = max(int(state.step), 1)
    values["frozen"] = int(state.derivation.frozen) / steps_done
  if not problem.stages.restarts:
    size = problem.data.train_x.shape[1:3]
    left = stage.left
    values |= {
      **dict(stage.hyper),
      "pruned": dict(stage.scheduler).get("pruned", 0),
      "operators": sum(
        len(kept) for _, cell in left.searched for kept in cell.kept
      ),
      "flops": cost.network_flops(left, size) / 1e6,
      "built_flops": cost.network_flops(stage.spec, size) / 1e6,
    }
  return values


def selected(
  problem: Problem,
  algorithm: base.Algorithm,
  task: Task,
  state: State,
  at: int,
) -> base.Arch:
  """What the algorithm chooses with the weights as they are now.

  It measures on `CANDIDATE_BATCHES` batches, for a search's budget is for
  training; on all of them where it chooses but once.

  Args:
    problem: what is searched on.
    algorithm: that chooses.
    task: whose evaluation normalises by the moments of the batch.
    state: after `at` steps.
    at: steps done.
  """
  count = None if algorithm.selects_last else CANDIDATE_BATCHES

  def score(weights: base.Weights) -> float:
    split = problem.splits[1]
    return task.score(task.evaluate(state, weights, split, count))

  key = keys.stream(problem.config.seed, "candidates", at)
  found = hosts.same(algorithm.select(state.arch, key, score))
  return parallel.replicate(found, problem.mesh)


def build_diagnosis(
  problem: Problem,
  stage: Stage,
  algorithm: base.Algorithm,
  network: nn.Module,
  drop: Mapping[str, optim.Schedule],
) -> Callable[..., float]:
  """A function (state, train, valid) -> cosine_implicit.

  It measures the search's own second-order term; a search that has none, or
  whose term is the implicit one, is told that of the amended term.
  """
  config = problem.config
  estimate = algorithm.estimate
  if config.algo.hypergrad not in ("unrolled", "amended"):
    own = backend.of(parallel.platform(problem.mesh))
    estimate = recipe.estimator(config, "amended", "exact", stage.spec, own)
  rate, _ = build.schedules(config, stage_clock(problem, stage))
  return implicit_cosine(
    estimate,
    steps.closed_losses(
      algorithm,
      build.objective(config, network),
      build.draw(config, problem.data, problem.mesh),
      seed=config.seed,
      rate=build.dropout(drop, origin(problem, stage)),
    ),
    steps.momentum_virtual(
      lambda step: rate(step - origin(problem, stage)),
      momentum=config.weights.momentum,
      decay=config.weights.decay,
    ),
    mean=parallel.mean,
    compile=lambda fn, count: parallel.shard_step(
      fn, problem.mesh, (PartitionSpec(),) * count, PartitionSpec()
    ),
    steps=config.algo.solver_steps,
    damping=config.algo.solver_damping,
  )


def reference(
  table: benchmark.Table, flat: Mapping[str, Any]
) -> dict[str, Any]:
  """What true accuracies are compared with, for the report.

  Args:
    table: of true accuracies.
    flat: the configuration; what was published is there only of the very
      search that it describes.
  """
  column = flat["space.column"]
  published = {
    name: accuracy
    for name, accuracy, own in registry.find(flat["algo.name"]).published
    if all(flat[field] == value for field, value in (_THEIRS | own).items())
  }
  return {
    "name": f"NAS-Bench-201, {column}",
    "best": table.best(column),
    "mean": table.mean(column),
    "published": published,
  }
