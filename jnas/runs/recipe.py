"""From a config to what is searched, and by which algorithm."""

from collections.abc import Callable

import jax
import ml_collections

from jnas.algorithms import base, entrannas, gdas, goldnas, pdarts
from jnas.algorithms.amended import amended, edge_search
from jnas.algorithms.darts import darts
from jnas.algorithms.pcdarts import pcdarts
from jnas.algorithms.random import random
from jnas.hypergrad import Hypergradient
from jnas.runs.build import Clock
from jnas.spaces import cnn
from jnas.spaces import spec as spec_lib
from jnas.spaces.spec import Spec
from jnas.training import controller
from jnas.training.controller import Controller, Stage


def spec(config: ml_collections.ConfigDict, classes: int) -> Spec:
  """The search network of a config, for its first stage.

  Args:
    config: of task "search".
    classes: of the data.
  """
  space = config.space
  if space.name == "nas_bench_201":
    return spec_lib.nas_bench_201(
      cells=space.cells,
      width=space.width,
      classes=classes,
      partial=space.partial,
    )
  progressive = config.algo.name == "pdarts"
  return spec_lib.supernet(
    spec_lib.OPERATOR_SETS[space.name],
    cells=config.pdarts.cells[0] if progressive else space.cells,
    width=space.width,
    nodes=space.nodes,
    classes=classes,
    auxiliary=config.train.auxiliary > 0,
    fixed=space.edges == "fixed",
    shared=space.shared,
    fixed_reduction=space.fixed_reduction,
    partial=space.partial,
    engines=space.engines,
    sharing=space.sharing,
    bottleneck=space.bottleneck,
  )


def stages(
  config: ml_collections.ConfigDict,
  first: Spec,
  clock: Clock,
  size: tuple[int, int],
) -> Controller:
  """What decides the stages of a config.

  Args:
    config: of task "search".
    first: spec of the first stage.
    clock: of the run.
    size: (H, W) of the images.
  """
  total = clock.total
  if config.algo.name == "goldnas":
    return controller.gradual(
      first,
      total,
      per_epoch=clock.per_epoch,
      size=size,
      schedule=schedule(config),
      flops_min=config.gold.flops_min,
      rebuild=config.gold.rebuild,
    )
  if config.algo.name == "pdarts":
    return controller.progressive(
      first,
      total,
      cells=tuple(config.pdarts.cells),
      operators=tuple(config.pdarts.operators),
    )
  if config.space.edges == "searched":
    return controller.edges_first(first, total)
  return controller.single(first, total)


def schedule(config: ml_collections.ConfigDict) -> goldnas.Schedule:
  """The hyper-parameters of GOLD-NAS's Algorithm 1."""
  names = ("n0", "lambda0", "c0", "xi_max", "xi_min", "t0")
  return goldnas.Schedule(**{name: config.gold[name] for name in names})


def one_level(config: ml_collections.ConfigDict) -> bool:
  """Whether weights and alpha step together, on the same images."""
  return config.algo.one_level or config.algo.name == "goldnas"


def algorithm(
  config: ml_collections.ConfigDict,
  stage: Stage,
  clock: Clock,
  size: tuple[int, int],
) -> base.Algorithm:
  """The algorithm of a config for one stage.

  Args:
    config: of task "search".
    stage: of the search.
    clock: of the stage.
    size: (H, W) of the images.
  """
  found = _algorithm(config, stage, clock, size)
  return found._replace(one_level=one_level(config))


def _algorithm(
  config: ml_collections.ConfigDict,
  stage: Stage,
  clock: Clock,
  size: tuple[int, int],
) -> base.Algorithm:
  name, own = config.algo.name, stage.spec
  estimate = estimator(
    config, config.algo.hypergrad, config.algo.form, written_out(own)
  )
  if config.space.edges == "searched" and stage.index == 0:
    return edge_search(own, estimate)
  if name == "random":
    return random(own)
  if name == "goldnas":
    gold = config.gold
    return goldnas.goldnas(own, size, gold.mu, gold.through_mean)
  if name in ("entrannas", "dst"):
    temperature = entrannas.annealed(
      config.algo.tau,
      config.algo.tau_ratio,
      epochs=clock.epochs,
      steps_per_epoch=clock.per_epoch,
      of=config.algo.tau_epochs,
    )
    if name == "entrannas":
      return entrannas.entrannas(own, estimate, temperature)
    return entrannas.dst(own, estimate, temperature, config.algo.sparsity)
  if name == "gdas":
    temperature = gdas.linear_temperature(
      config.algo.tau,
      config.algo.tau_end,
      epochs=clock.epochs,
      steps_per_epoch=clock.per_epoch,
    )
    return gdas.gdas(own, estimate, temperature, config.algo.undrawn)
  if name == "pdarts":
    last = stage.index + 1 == len(config.pdarts.cells)
    return pdarts.pdarts(own, estimate, config.pdarts.skips if last else None)
  return {"darts": darts, "amended": amended, "pcdarts": pcdarts}[name](
    own, estimate
  )


def estimator(
  config: ml_collections.ConfigDict,
  name: str,
  form: str,
  unroll: bool = False,
) -> Callable[..., Hypergradient]:
  """A hypergradient with the numbers of a config."""
  return base.estimator(
    name,
    form=form,
    eta=config.algo.eta,
    steps=config.algo.solver_steps,
    damping=config.algo.solver_damping,
    scale=config.algo.solver_scale,
    unroll=unroll,
  )


def written_out(spec: Spec) -> bool:
  """Whether loops around this network's gradients are written out here.

  XLA on CPU computes the convolutions of some networks slowly in a loop.
  """
  return jax.default_backend() == "cpu" and cnn.slow_in_loops(spec)
