"""From a config to what is searched, and by which algorithm."""

from collections.abc import Callable, Mapping
import functools
from typing import Any

import ml_collections

from jnas import config as config_lib
from jnas import hypergrad
from jnas.algorithms import base, edges, registry
from jnas.algorithms import stages as stages_lib
from jnas.algorithms.method import Method, Setting
from jnas.algorithms.stages import Stage, Stages
from jnas.genotype import AnyGenotype
from jnas.hypergrad import Hypergradient
from jnas.ops.backend import Backend
from jnas.runs.build import Clock
from jnas.spaces import registry as spaces
from jnas.spaces import space as space_lib
from jnas.spaces.rnn import RecurrentSpec
from jnas.spaces.space import Space
from jnas.spaces.spec import Spec


def spec(config: ml_collections.ConfigDict, classes: int) -> Spec:
  """The search network of a config, for its first stage.

  Args:
    config: of task "search".
    classes: of the data.
  """
  depth = method(config).depths(config_lib.flatten(config))[0]
  size = sized(config, classes)._replace(cells=depth)
  return space_lib.search_spec(space(config), size)


def recorded(record: Mapping[str, Any]) -> ml_collections.ConfigDict:
  """The configuration of a run, from its fields."""
  flat = config_lib.flatten(record)
  config = config_lib.base(flat.get("algo.name", ""))
  known = config_lib.flatten(config)
  config.update_from_flattened_dict(
    {
      name: tuple(value) if isinstance(value, list) else value
      for name, value in flat.items()
      if name in known
    }
  )
  return config.lock()


def space(config: ml_collections.ConfigDict) -> Space:
  """The search space that a config names.

  Raises:
    ValueError: there is none of that name.
  """
  try:
    return spaces.find(config.space.name, config.space.operators)
  except ValueError as error:
    raise ValueError(f"space.name: {error}") from error


def sized(config: ml_collections.ConfigDict, classes: int) -> space_lib.Size:
  """How large the networks of a config are.

  Args:
    config: of any task.
    classes: of the data.
  """
  return space_lib.Size(
    config.space.cells,
    config.space.width,
    classes,
    config.train.auxiliary > 0,
    config.space.to_dict(),
  )


def derived(
  config: ml_collections.ConfigDict, genotype: AnyGenotype, classes: int
) -> Spec:
  """The network of a genotype, as deep and wide as the config says.

  Args:
    config: of any task.
    genotype: what a search derived, or a published cell.
    classes: of the data.

  Raises:
    ValueError: the genotype is not of the space, or has not this depth.
  """
  own = spaces.of_genotype(genotype, config.space.name)
  return space_lib.derived_spec(own, genotype, sized(config, classes))


def method(config: ml_collections.ConfigDict) -> Method:
  """The method that a config names.

  Raises:
    ValueError: there is none of that name.
  """
  try:
    return registry.find(config.algo.name)
  except ValueError as error:
    raise ValueError(f"algo.name: {error}") from error


def stages(
  config: ml_collections.ConfigDict,
  first: Spec,
  clock: Clock,
  size: tuple[int, int],
  backend: Backend,
) -> Stages:
  """The stages of a search.

  Args:
    config: of task "search".
    first: spec of the first stage.
    clock: of the run.
    size: (H, W) of the images.
    backend: of the devices that it is built for.
  """
  if config.space.edges == "searched":
    return edges.stages(first, clock.total)
  decided = method(config).stages
  if decided is None:
    return stages_lib.single(first, clock.total)
  return decided(_setting(config, first, clock, size, backend))


def one_level(config: ml_collections.ConfigDict) -> bool:
  """Whether weights and alpha step together, on the same images."""
  return config.algo.one_level or method(config).one_level


def algorithm(
  config: ml_collections.ConfigDict,
  stage: Stage,
  clock: Clock,
  size: tuple[int, int],
  backend: Backend,
  costs: Mapping[str, Any] | None = None,
) -> base.Algorithm:
  """The algorithm of a config for one stage.

  Args:
    config: of task "search".
    stage: of the search.
    clock: of the stage.
    size: (H, W) of the images.
    backend: of the devices that it is built for.
    costs: of operators, if they were measured (`Setting.costs`).
  """
  setting = _setting(config, stage.spec, clock, size, backend, stage.index)
  setting = setting._replace(costs=costs)
  if config.space.edges == "searched" and stage.index == 0:
    found = edges.edge_search(stage.spec, setting.estimate)
  else:
    found = method(config).build(setting)
  return found._replace(one_level=one_level(config))


def recurrent(
  config: ml_collections.ConfigDict,
  spec: RecurrentSpec,
  clock: Clock,
  backend: Backend,
) -> base.Algorithm:
  """The algorithm of a config for a recurrent cell.

  Args:
    config: of task "search" and of space.name "rnn".
    spec: the search network.
    clock: of the run.
    backend: of the devices that it is built for.
  """
  return method(config).build(_setting(config, spec, clock, (1, 1), backend))


def options(config: ml_collections.ConfigDict, clock: Clock) -> dict[str, Any]:
  """The options of a config's method by their own names, durations in steps."""
  flat = config_lib.flatten(config)
  return {
    name.rpartition(".")[2]: (
      clock.steps(flat[name]) if option.duration else flat[name]
    )
    for name, option in method(config).options.items()
  }


def _setting(
  config: ml_collections.ConfigDict,
  spec: Spec | RecurrentSpec,
  clock: Clock,
  size: tuple[int, int],
  backend: Backend,
  index: int = 0,
) -> Setting:
  return Setting(
    spec,
    estimator(
      config, config.algo.hypergrad, config.algo.form, spec, backend
    ),
    options(config, clock),
    index,
    clock.total,
    clock.per_epoch,
    clock.steps(config.algo.warmup),
    size,
    config.seed,
  )


def estimator(
  config: ml_collections.ConfigDict,
  name: str,
  form: str,
  spec: Spec | RecurrentSpec,
  backend: Backend,
) -> Callable[..., Hypergradient]:
  """A hypergradient with the numbers of a config.

  Args:
    config: of task "search".
    name: of the estimate.
    form: "exact" or "finite_difference".
    spec: of the network that is differentiated.
    backend: of the devices that it is built for.
  """
  return base.estimator(
    name,
    form=form,
    eta=config.algo.eta,
    steps=config.algo.solver_steps,
    damping=config.algo.solver_damping,
    scale=config.algo.solver_scale,
    unroll=unrolled(spec, backend),
    products=functools.partial(
      hypergrad.looped_products,
      only_where=backend.kernel_gradients_only_where,
    ),
  )


def unrolled(spec: Spec | RecurrentSpec, backend: Backend) -> bool:
  """Whether loops around this network's gradients are written out.

  XLA on CPU computes the convolutions of some networks slowly in a loop.
  """
  return backend.slow_loops and spaces.of(spec).slow_in_loops(spec)


def looped(
  config: ml_collections.ConfigDict,
  algorithm: base.Algorithm,
  spec: Spec,
  backend: Backend,
) -> bool:
  """Whether both levels of an image search share one loop (`looped_step`).

  On CPU the loop over the products of a second order is enough.
  """
  if not base.at_present_weights(algorithm.estimate):
    return False
  if not backend.loops or unrolled(spec, backend):
    return False
  return not backend.slow_loops or config.algo.hypergrad == "first_order"
