"""The programs that a run needs, for devices that need not be there."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import ml_collections

from jnas import genotype as genotype_lib
from jnas.algorithms import base
from jnas.algorithms.stages import Stage
from jnas.data import device, sources
from jnas.data.files import Files
from jnas.runs import build, language, recipe, retrain, search, seeds, session
from jnas.runs import problem as problem_lib
from jnas.runs.problem import Problem
from jnas.runtime import parallel
from jnas.spaces import cost
from jnas.spaces import registry as spaces
from jnas.spaces.spec import Spec
from jnas.training import plan as plan_lib
from jnas.training import state as state_lib
from jnas.training import trainer

_PRUNED = 5.0  # how far apart the logits of a made up architecture are
_Floor = tuple[int, int] | None  # operations and bytes


class Program(NamedTuple):
  """What is to be compiled.

  Attributes:
    name: for people.
    steps: that one call does.
    of_run: steps that the run does with it, None where that isn't known.
    function: compiled by `jax.jit`.
    arguments: shapes, types and places of what it is called with.
    floor: operations and bytes that a device can't do without in a step
      (`cost.gradient_floor`), None where that isn't known.
  """

  name: str
  steps: int
  of_run: int | None
  function: Callable[..., Any]
  arguments: tuple[Any, ...]
  floor: _Floor = None


class Programs(NamedTuple):
  """What a run needs.

  Attributes:
    mesh: the devices.
    batch: examples of a step, over all devices.
    steps: of the run.
    each: the programs, in the order in which they are needed.
    left_out: what is not among them, for people.
    images: whether examples are images.
  """

  mesh: Mesh
  batch: int
  steps: int
  each: Sequence[Program]
  left_out: Sequence[str]
  images: bool = True


def of(
  config: ml_collections.ConfigDict, devices: Sequence[jax.Device]
) -> Programs:
  """The programs of a config.

  Of a search whose networks depend on what it finds, later ones are those that
  a made up architecture leaves.

  Args:
    config: of task "search" or "retrain".
    devices: or descriptions of them.

  Raises:
    ValueError: they can't be told for this config.
  """
  text = recipe.space(config).data == "text"
  if config.task not in ("search", "retrain"):
    raise ValueError(
      f"expected a config of task search or retrain, got {config.task}"
    )
  if text:
    return _of_text(config, devices)
  if config.task == "search":
    return _of_search(config, devices)
  return _of_training(config, devices)


def _of_search(config, devices) -> Programs:
  problems = problem_lib.read(
    config, _images(config), devices, build.shapes_on_devices, measure=False
  )
  problem = problems[0]
  found: list[Program] = []
  left_out = []
  for stage in _stages(problem):
    run = search.build_plan(problem, stage)
    algorithm = problem_lib.algorithm(problem, stage)
    state = jax.eval_shape(run.init)
    edges = jax.eval_shape(
      lambda state, own=algorithm: base.edge_weights(
        own, state.arch, None, state
      ),
      state,
    )
    prefix = "" if problem.stages.count == 1 else f"stage {stage.index + 1}: "
    if not problem.stages.restarts and stage.index:
      prefix = "a later network: "
    counts = _counts(problem, stage, algorithm, later=bool(found))
    gradients = {"warm": 1, "full": _gradients(config, algorithm)}
    floors = {
      name: _floor(config, stage.spec, problem.data, problem.mesh, number)
      for name, number in gradients.items()
    }
    if algorithm.derivation is not None and algorithm.patience:
      run = _with_settled(problem, stage, algorithm, run)
      counts["settled"] = None
      left_out.append("steps in which transit cells are fixed otherwise")
    joined = run
    if config.seeds > 1:
      joined = seeds.build_plan(problems, _shape)
    found += _steps(config, joined, problem.mesh, counts, floors, prefix)
    found.append(
      _evaluation(
        f"{prefix}evaluation",
        search.stage_network(problem, stage, algorithm),
        problem.data,
        problem.mesh,
        problem.splits[1],
        (*state_lib.evaluated(state), edges),
        config.train.batch,
        algorithm.samples_paths,
      )
    )
  if not problem.stages.restarts:
    left_out.append("networks between the first and the last")
  return Programs(
    problem.mesh, config.train.batch, problem.clock.total, found, left_out
  )


def _images(config: ml_collections.ConfigDict) -> sources.ImageData:
  """The data of a config, which have to fit in a device."""
  data = build.read(config)
  if isinstance(data.train_x, Files):
    raise ValueError(
      f"data.name: expected images that are kept on the devices, got those of "
      f"{config.data.name!r}, which are read from files as a run goes and "
      "cannot be planned for yet"
    )
  return data


def _counts(
  problem: Problem, stage: Stage, algorithm: base.Algorithm, later: bool
) -> dict[str, int | None]:
  """Steps of the run by name of a stage's step."""
  clock = problem_lib.stage_clock(problem, stage)
  if not problem.stages.restarts:
    # How long a network stays is known when the search has found it.
    return {"full": None if later else clock.total, "warm": 0}
  warm = clock.steps(problem.config.algo.warmup)
  if algorithm.estimate is None:
    warm = clock.total
  return {"warm": warm, "full": clock.total - warm}


def _stages(problem: Problem) -> Iterator[Stage]:
  """The stages; of those that prune, the first and a later one."""
  stage = problem.stages.first
  yield stage
  while stage.index < 20:
    algorithm = problem_lib.algorithm(problem, stage)
    arch = _made_up(algorithm, problem.config.arch.init, stage.index)
    mixture = jax.device_get(dict(algorithm.mixture(arch, stage.stop)))
    decision = problem.stages.decide(stage, jax.device_get(arch), mixture)
    if decision.following is None:
      return
    stage = decision.following
    if problem.stages.restarts:
      yield stage
    elif stage.spec != problem.stages.first.spec:
      yield stage
      return


def _with_settled(
  problem: Problem,
  stage: Stage,
  algorithm: base.Algorithm,
  run: trainer.Plan,
) -> trainer.Plan:
  """The plan with its step for transit cells that stay, if it has any.

  They compute what a made up architecture derives.
  """
  arch = _made_up(algorithm, problem.config.arch.init, stage.index)
  derivation = state_lib.Derivation(
    algorithm.derivation(arch, stage.stop),
    unchanged=jnp.int32(2 * stage.stop),
    patience=jnp.int32(algorithm.patience),
    frozen=jnp.int32(0),
  )
  empty = state_lib.State(**dict.fromkeys(state_lib.State._fields))
  name, _ = run.which(
    stage.stop - 1, empty._replace(derivation=derivation)
  )
  if name == "full":
    return run
  return run._replace(steps={**run.steps, "settled": run.steps[name]})


def _made_up(algorithm: base.Algorithm, scale: float, seed: int) -> Any:
  """Architecture parameters far apart, about half of them small."""
  key = jax.random.key(seed)
  leaves, tree = jax.tree.flatten(algorithm.init(key, scale))
  keys = jax.random.split(key, len(leaves))
  return tree.unflatten(
    [
      _PRUNED * jax.random.normal(own, leaf.shape, leaf.dtype)
      for own, leaf in zip(keys, leaves, strict=True)
    ]
  )


def _of_training(config, devices) -> Programs:
  if config.retrain.relaxed:
    raise ValueError(
      "retrain.relaxed: expected false, got true; the programs of a search's "
      "network are those of the search"
    )
  data, mesh = _images(config), parallel.mesh(devices)
  found = retrain.image_cell(genotype_lib.load(config.retrain.genotype))
  spec = recipe.derived(config, found, len(data.classes))
  splits = build.shapes_on_devices(
    mesh, (data.train_x, data.train_y), (data.test_x, data.test_y)
  )
  run = retrain.build_plan(config, data, mesh, spec, splits)
  state = jax.eval_shape(run.init)
  floors = {"train": _floor(config, spec, data, mesh, 1)}
  each = _steps(config, run, mesh, {"train": run.total}, floors)
  each.append(
    _evaluation(
      "test",
      build.network(config, spec, mesh),
      data,
      mesh,
      splits[1],
      (*state_lib.evaluated(state), None),
      config.train.batch,
    )
  )
  return Programs(mesh, run.batch, run.total, each, [])


def _of_text(config, devices) -> Programs:
  problem = language.read(config, devices, _shape)
  if config.task == "search":
    run = language.build_search(problem)
    warm = problem.clock.steps(config.algo.warmup)
    if len(run.steps) == 1:
      warm = run.total
    counts = {"warm": warm, "full": run.total - warm}
  else:
    spec = language.derived(config, problem)
    run = language.build_training(problem, spec)
    counts = {"train": run.total}
  each = _steps(config, run, problem.mesh, counts)
  batch = config.train.batch
  return Programs(
    problem.mesh, batch, run.total, each, ["the evaluation"], images=False
  )


def _shape(array: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
  """`parallel.place`, without the data."""
  return parallel.abstract(array, NamedSharding(mesh, spec))


def _steps(
  config: ml_collections.ConfigDict,
  run: trainer.Plan,
  mesh: Mesh,
  counts: dict[str, int | None],
  floors: Mapping[str, _Floor] = {},
  prefix: str = "",
) -> list[Program]:
  """The steps of a plan that the run does at all."""
  given = plan_lib.arguments(run, mesh)
  length = trainer.block(session.periods(config, run), mesh)
  return [
    Program(
      f"{prefix}{name} step",
      length,
      count,
      plan_lib.program(run, mesh, name, length),
      (*given, *run.feed.fetch(0, length)),
      floors.get(name),
    )
    for name, count in counts.items()
    if name in run.steps and count != 0
  ]


def _gradients(
  config: ml_collections.ConfigDict, algorithm: base.Algorithm
) -> int | None:
  """Gradients by the weights and alpha in a full step, where it is simple."""
  if algorithm.samples_paths or algorithm.stopping is not None:
    return None
  if algorithm.one_level:
    return 1
  return 2 if config.algo.hypergrad == "first_order" else None


def _floor(
  config: ml_collections.ConfigDict,
  spec: Spec,
  data: sources.ImageData,
  mesh: Mesh,
  gradients: int | None,
) -> _Floor:
  """Of a device in a step of so many gradients, None where it isn't known."""
  if gradients is None or spec.sharing or not spaces.of(spec).stack:
    return None
  images = gradients * config.train.batch * config.seeds // mesh.size
  each = cost.gradient_floor(
    spec, data.train_x.shape[1:3], jnp.dtype(config.train.dtype).itemsize
  )
  return images * each[0], images * each[1]


def _evaluation(
  name: str,
  network: Any,
  data: sources.ImageData,
  mesh: Mesh,
  split: device.Split,
  variables: tuple[Any, Any, Any],
  batch: int,
  own_statistics: bool = False,
) -> Program:
  """A batch of an evaluation, of weights, statistics and edge weights."""
  whole = NamedSharding(mesh, PartitionSpec())
  divided = NamedSharding(mesh, PartitionSpec(parallel.AXIS))
  index = jax.ShapeDtypeStruct((batch,), jnp.int32)
  present = jax.ShapeDtypeStruct((batch,), jnp.float32)
  return Program(
    name,
    1,
    None,
    build.eval_program(network, data, mesh, own_statistics),
    (
      *parallel.abstract(variables, whole),
      split,
      *parallel.abstract((index, present), divided),
    ),
  )
