"""Recurrent cells on text: the search for one, and the training of one.

Trainer, algorithms and hypergradients are those of images. What differs is
here: windows of a text in place of images, a hidden state that goes from one
to the next, and averaged SGD, whose best weights are the result.
"""

from collections.abc import Callable, Mapping
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from jnas import genotype as genotype_lib
from jnas.algorithms import base
from jnas.data import text
from jnas.ops import backend as backend_lib
from jnas.report import headline
from jnas.runs import (
  build,
  evaluation,
  monitor,
  pareto,
  recipe,
  retrain,
  session,
)
from jnas.runs import workdir as workdir_lib
from jnas.runs.text_problem import Problem, feed, load, read
from jnas.runtime import hosts, keys, parallel
from jnas.spaces import cnn, rnn
from jnas.training import averaging, language, optim, steps, trainer
from jnas.training.state import Carry, State, zero_totals
from jnas.training.task import Task


def run(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> dict[str, Any]:
  """Searches, or trains; returns what result.json holds.

  Args:
    config: of task "search" or "retrain", and of space.name "rnn".
    workdir: where everything is written.

  Raises:
    ValueError: the text, or the configuration on it, do not fit; the directory
      belongs to another run; or a metric became NaN.
    SystemExit: with status 143, when SIGTERM or Ctrl-C stopped it.
  """
  return (_search if config.task == "search" else _train)(config, workdir)


def task(
  problem: Problem, model: rnn.LanguageModel, own_statistics: bool = False
) -> Task:
  """The task: to say the next token."""
  own = problem.config.language
  rates = rnn.Rates(*(own[name] for name in rnn.Rates._fields))
  objective = language.objective(
    model,
    rates=rates,
    activation=own.activation,
    temporal=own.temporal,
    bptt=own.bptt,
  )
  return language.task(objective, language.evaluator(model, own_statistics))


def optimizer(
  config: ml_collections.ConfigDict,
) -> optax.GradientTransformationExtraArgs:
  """The optimizer of the weights."""
  return optim.averaged_sgd(
    config.weights.lr,
    decay=config.weights.decay,
    clip=config.weights.clip,
    patience=config.language.patience,
  )


def draw(
  problem: Problem, seed: jax.Array, size: int | None = None
) -> Callable[..., Any]:
  """The windows of a seed, inside a program, padded to a size."""
  return language.draw(
    seed=seed,
    train=problem.drawn,
    local=parallel.local_batch(problem.config.train.batch, problem.mesh),
    offset=parallel.offset,
    valid_rows=len(problem.columns[-1]) if len(problem.columns) > 1 else 0,
    size=size,
  )


def first_state(
  problem: Problem,
  model: rnn.LanguageModel,
  goal: Task,
  arch: Any = (),
  edges: Any = None,
  arch_opt: Any = (),
) -> State:
  """The state at step 0."""
  config = problem.config
  hidden = language.initial(model.spec, config.train.batch)
  variables = jax.jit(
    lambda key: model.init(
      key, jnp.zeros((1, 1), int), hidden[:1], edges, train=False
    )
  )(build.key(config, "weights"))
  weights = variables["params"]
  return State(
    step=jnp.int32(0),
    weights=weights,
    stats=variables.get("batch_stats", {}),
    arch=arch,
    weights_opt=optimizer(config).init(weights),
    arch_opt=arch_opt,
    totals=zero_totals(goal.scores),
    carry=Carry(hidden, hidden if config.task == "search" else ()),
  )


def build_search(problem: Problem) -> trainer.Plan:
  """What is to be run: a search in one stage."""
  config, clock = problem.config, problem.clock
  spec = rnn.supernet(
    config.space.nodes,
    width=config.space.width,
    vocabulary=len(problem.data.vocabulary),
  )
  model = rnn.LanguageModel(spec, _axis(config))
  backend = backend_lib.of(parallel.platform(problem.mesh))
  algorithm = recipe.recurrent(config, spec, clock, backend)
  goal = task(problem, model, algorithm.samples_paths)
  weights_optimizer = optimizer(config)
  arch_optimizer = build.arch_optimizer(config)
  learnt = algorithm.estimate is not None
  warmup = clock.steps(config.algo.warmup)

  def init() -> State:
    arch = algorithm.init(build.key(config, "arch"), config.arch.init)
    edges = algorithm.relax(arch, None, 0)
    return first_state(
      problem,
      model,
      goal,
      arch,
      edges,
      arch_optimizer.init(arch) if learnt else (),
    )

  def seeded(build_step: Callable[..., steps.Step], **more: Any):
    def step(seed: jax.Array) -> steps.Step:
      def virtual(state: State) -> Callable[[Any, Any], Any]:
        window = problem.drawn.at(keys.stream(seed, "windows"), state.step)
        scale = window.length / config.language.bptt
        return lambda w, gradient: optax.apply_updates(
          w,
          weights_optimizer.update(
            gradient, state.weights_opt, w, scale=scale
          )[0],
        )

      if build_step is steps.search_step:
        more["virtual"] = virtual
      return build_step(
        algorithm,
        goal.objective,
        weights_optimizer,
        arch_optimizer,
        draw(problem, seed),
        seed=seed,
        mean=parallel.mean,
        **more,
      )

    return step

  functions = {"warm": seeded(steps.search_step, warm=True)}
  first_order = config.algo.hypergrad == "first_order"
  if first_order and base.at_present_weights(algorithm.estimate):
    functions["full"] = seeded(steps.looped_step)
  elif learnt:
    functions["full"] = seeded(steps.search_step)

  def which(at: int, state: State) -> tuple[str, int]:
    del state
    if learnt and at >= warmup:
      return "full", clock.total - at
    return "warm", (warmup if learnt else clock.total) - at

  mixture = evaluation.mixture(algorithm)

  def score(state: State, weights: base.Weights) -> float:
    count = evaluation.CANDIDATE_BATCHES
    return goal.score(goal.evaluate(state, weights, problem.valid, count))

  def evaluate(state: State, at: int) -> trainer.Evaluation:
    if algorithm.select:
      key = keys.stream(config.seed, "candidates", at)
      found = algorithm.select(state.arch, key, functools.partial(score, state))
      best = hosts.same(found)
      state = state._replace(arch=parallel.replicate(best, problem.mesh))
    edges = base.edge_weights(algorithm, state.arch, None, state)
    found = goal.evaluate(state, edges, problem.valid)
    values = {f"valid_{name}": value for name, value in found.items()}
    weights = mixture(state)
    genotype = algorithm.derive(weights)
    values |= monitor.metrics(spec, weights, genotype)
    del values["skip_share"]
    if at == clock.total and not algorithm.samples_paths:
      child = base.indicator(spec, genotype)
      found = goal.evaluate(state, child, problem.valid)
      values[f"child_{goal.headline}"] = found[goal.headline]
    records = monitor.records(spec, weights, genotype, at, clock.per_epoch)
    return trainer.Evaluation(state, values, records)

  return _plan(problem, goal, init, functions, which, evaluate)


def derived(
  config: ml_collections.ConfigDict, problem: Problem
) -> rnn.RecurrentSpec:
  """The network of a config's genotype."""
  genotype = genotype_lib.load(config.retrain.genotype, recurrent=True)
  return recipe.derived(config, genotype, len(problem.data.vocabulary))


def recurrent_cell(
  found: genotype_lib.AnyGenotype,
) -> genotype_lib.RecurrentGenotype:
  """A recurrent genotype, or ValueError if it is of an image network."""
  if not isinstance(found, genotype_lib.RecurrentGenotype):
    raise ValueError(
      "retrain.genotype: expected a recurrent cell, got the cell for images "
      f"{genotype_lib.format_text(found)}"
    )
  return found


def size(
  config: ml_collections.ConfigDict, genotype: genotype_lib.AnyGenotype
) -> dict[str, float]:
  """Millions of parameters of a genotype's network."""
  spec = recipe.derived(config, genotype, len(load(config).vocabulary))
  model = rnn.LanguageModel(spec)
  variables = jax.eval_shape(
    functools.partial(model.init, train=False),
    *(jax.random.key(0), jnp.zeros((1, 1), int), language.initial(spec, 1)),
  )
  return {"params": cnn.count(variables["params"]) / pareto.MEGA}


def build_training(
  problem: Problem, spec: rnn.RecurrentSpec
) -> trainer.Plan:
  """What is to be run: plain training, and the test of the best weights."""
  config, clock, own = problem.config, problem.clock, problem.config.language
  model = rnn.LanguageModel(spec, _axis(config))
  goal = task(problem, model)
  test = language.split(
    problem.data.test, problem.data.characters[2], own.test_batch, own.bptt
  )

  def step(seed: jax.Array) -> steps.Step:
    def padded_to(size: int) -> steps.Step:
      return steps.train_step(
        goal.objective,
        optimizer(config),
        draw(problem, seed, size),
        mean=parallel.mean,
      )

    return language.padded_step(padded_to, problem.drawn, seed)

  def evaluate(state: State, at: int) -> trainer.Evaluation:
    average = averaging.find(state.weights_opt).average
    found = goal.evaluate(
      state._replace(weights=average), None, problem.valid
    )
    values = {f"valid_{name}": value for name, value in found.items()}
    seen = averaging.observe(
      state.weights_opt, found["loss"], config.weights.lr
    )
    best = averaging.find(seen)
    values["averaging"] = float(best.active)
    if at == clock.total:
      snapshot = state._replace(weights=best.snapshot)
      found = goal.evaluate(snapshot, None, test)
      values |= {f"test_{name}": value for name, value in found.items()}
    seen = parallel.replicate(seen, problem.mesh)
    return trainer.Evaluation(state._replace(weights_opt=seen), values)

  return _plan(
    problem,
    goal,
    lambda: first_state(problem, model, goal),
    {"train": step},
    lambda at, state: ("train", clock.total - at),
    evaluate,
  )


def _axis(config: ml_collections.ConfigDict) -> str | None:
  return parallel.AXIS if config.train.sync_batch_norm else None


def _plan(problem, goal, init, functions, which, evaluate) -> trainer.Plan:
  config, clock = problem.config, problem.clock
  return trainer.Plan(
    title=f"{config.algo.name if config.task == 'search' else 'training'} "
    f"on {pathlib.Path(config.data.path).name or 'the help texts of Python'}",
    per_epoch=clock.per_epoch,
    total=clock.total,
    batch=round(problem.columns[0].size / clock.per_epoch),
    task=goal,
    feed=feed(problem),
    init=init,
    steps=functions,
    which=which,
    evaluate=evaluate,
    rates=lambda step: {"lr": config.weights.lr},
    meta={"data": problem.fingerprint},
  )


def records(
  problem: Problem, origin: Mapping[str, Any]
) -> dict[str, Mapping[str, Any]]:
  """Files of a training by which it is drawn, and used without its text.

  Args:
    problem: what it is given.
    origin: of its genotype, as `retrain.origin` has it.
  """
  data = problem.data
  return {
    "genotype.json": origin,
    "data.json": {"vocabulary": list(data.vocabulary), "level": data.level},
  }


def trained(
  problem: Problem,
  spec: rnn.RecurrentSpec,
  state: State,
  numbers: Mapping[str, Any],
) -> dict[str, Any]:
  """What result.json holds of a training that has ended."""
  return {
    "task": "retrain",
    "genotype": problem.config.retrain.genotype,
    "params": cnn.count(state.weights),
    "sample": _sample(problem, spec, state),
    **numbers,
  }


def searched(
  text: str, state: State, numbers: Mapping[str, Any]
) -> dict[str, Any]:
  """What result.json holds of a search that has found this genotype."""
  params = cnn.count(state.weights)
  return {"task": "search", "genotype": text, "params": params, **numbers}


def _search(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> dict[str, Any]:
  workdir_lib.check(config, workdir)
  problem = read(config)
  _tell(problem.data)
  plan = build_search(problem)
  plan, state, numbers = session.execute(plan, config, workdir, problem.mesh)
  record = hosts.first(lambda: workdir_lib.read(workdir / "genotype.json"))
  result = searched(record["text"], state, numbers)
  session.finish(workdir, result)
  print(
    f"genotype: {result['genotype']}\n"
    f"supernet validation {headline.of(result).line(result, 'valid')}\n"
    f"report: {workdir / 'report.html'}"
  )
  return result


def _train(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> dict[str, Any]:
  found = recurrent_cell(
    genotype_lib.load(config.retrain.genotype, recurrent=True)
  )
  source = config.retrain.genotype
  # The directory holds the genotype, not where it came from.
  config = config.copy_and_resolve_references()
  config.retrain.genotype = genotype_lib.format_text(found)
  workdir_lib.check(config, workdir)
  problem = read(config)
  _tell(problem.data)
  spec = derived(config, problem)
  plan = build_training(problem, spec)
  files = records(problem, retrain.origin(found, source, workdir))
  _, state, numbers = session.execute(
    plan, config, workdir, problem.mesh, files
  )
  result = trained(problem, spec, state, numbers)
  session.finish(workdir, result)
  print(
    f"{result['sample']}\n\nparameters: {result['params']:,}\n"
    f"test {headline.of(result).line(result, 'test')} "
    f"({result['test_bits_per_character']:.3f} bits per character)\n"
    f"report: {workdir / 'report.html'}"
  )
  return result


def _sample(problem: Problem, spec: rnn.RecurrentSpec, state: State) -> str:
  """Text of the best weights: numbers are one thing, to read is another."""
  weights = averaging.find(state.weights_opt).snapshot
  tokens = language.sample(
    rnn.LanguageModel(spec),
    {"params": weights},
    build.key(problem.config, "sample"),
    problem.config.language.sample,
    start=problem.data.test[:1],
  )
  return problem.data.text(np.asarray(tokens))


def _tell(data: text.TextData) -> None:
  """Says how much text there is, and what of it is unknown."""
  sizes = [len(part) for part in (data.train, data.valid, data.test)]
  print(
    "{:,} tokens for training, {:,} for validation, {:,} for the test; ".format(
      *sizes
    )
    + f"a vocabulary of {len(data.vocabulary):,}; unknown: "
    + " and ".join(
      f"{count:,} ({count / size:.2%})"
      for count, size in zip(data.unknown, sizes[1:], strict=True)
    )
  )
