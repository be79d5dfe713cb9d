"""The algorithms that `test_laws` is about, and the toy that they search."""

from collections.abc import Callable
import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import promises

from jnas.algorithms import base, darts_minus, entrannas, snas
from jnas.algorithms.amended import amended
from jnas.algorithms.darts import darts
from jnas.algorithms.darts_pt import darts_pt
from jnas.algorithms.drnas import drnas
from jnas.algorithms.edges import edge_search
from jnas.algorithms.gdas import gdas
from jnas.algorithms.goldnas import goldnas
from jnas.algorithms.oles import oles
from jnas.algorithms.pcdarts import pcdarts
from jnas.algorithms.pdarts import pdarts
from jnas.algorithms.random import random
from jnas.spaces import spec as spec_lib
from jnas.spaces import toy
from jnas.spaces.spec import TRANSIT
from jnas.training import losses, transit
from jnas.training.state import State, zero_totals

SPEC = toy.spec()
CHOSEN = {
  "normal": ["skip_connect", "sep_conv_3x3"] * 2 + ["skip_connect"],
  "reduce": ["sep_conv_3x3", "skip_connect"] * 2 + ["sep_conv_3x3"],
}


def pruned(spec):
  """As after a stage of P-DARTS: operators have gone, and one `none`."""

  def left(name, cell):
    kept = (*cell.kept[:2], (CHOSEN[name][2],), *cell.kept[3:])
    return dataclasses.replace(cell, kept=kept, without_none=(1,))

  cells = tuple((name, left(name, cell)) for name, cell in spec.cells)
  return dataclasses.replace(spec, cells=cells)


def without_none(spec):
  """The space of an algorithm that has no use for `none`."""
  cells = tuple(
    (name, dataclasses.replace(cell, without_none=tuple(range(5))))
    for name, cell in spec.cells
  )
  return dataclasses.replace(spec, cells=cells)


def transited(spec):
  """With a transit cell after each engine."""
  more = tuple(
    (name + TRANSIT, dataclasses.replace(cell, transit=True))
    for name, cell in spec.cells
  )
  return dataclasses.replace(spec, cells=tuple(sorted(spec.cells + more)))


class Row(NamedTuple):
  """An algorithm, and what differs between the laws of one and another.

  Attributes:
    make: spec -> algorithm.
    promise: of what `relax` gives.
    of_mixture: of what `mixture` gives.
    spec: what is searched.
    planted: by what each edge's planted operator is multiplied.
    arch_lr: of the architecture parameters.
    recent: the loss that has fallen is the mean of so many steps.
    hyper: hyper-parameters that a controller sets, by name.
  """

  make: Callable[[spec_lib.Spec], base.Algorithm]
  promise: Callable[..., None] = promises.distribution
  of_mixture: Callable[..., None] = promises.distribution
  spec: spec_lib.Spec = SPEC
  planted: tuple[float, ...] = (1,) * 5
  arch_lr: float = 0.03
  recent: int = 1
  hyper: tuple[tuple[str, float], ...] = ()


COOLING = entrannas.annealed(1.0, 0.97, epochs=50, steps_per_epoch=4)
ROWS = {
  "darts_first": Row(darts),
  "darts_second": Row(lambda spec: darts(spec, base.estimator("unrolled"))),
  "amended": Row(amended),
  "implicit": Row(
    lambda spec: darts(
      spec, base.estimator("implicit_cg", steps=5, damping=0.1)
    )
  ),
  # Edges weigh less than one, each its own share of what enters its node, and
  # the search has to find these too.
  "pcdarts": Row(
    pcdarts, *[promises.edge_norms] * 2, planted=(0.6, 0.4, 0.4, 0.35, 0.25)
  ),
  "edge_search": Row(
    edge_search, *[promises.edge_pairs] * 2, planted=(1, 1, 0.9, 0.65, 0.45)
  ),
  # Logits learn from the drawn operator alone, and from no more than whether
  # it should be scaled up or down. A right one of the right scale says
  # nothing, while a wrong one that is too small is drawn more and more: with 1
  # planted, no skip connection is found. So what is planted is larger than
  # what is drawn. That part of the loss is left, about an eighth of the first.
  "gdas": Row(
    gdas, promises.one_hot, planted=(1.5,) * 5, arch_lr=0.1, recent=20
  ),
  "darts_minus": Row(
    lambda spec: darts_minus.darts_minus(
      spec, beta=darts_minus.decayed(1.0, epochs=50, steps_per_epoch=4)
    ),
    promises.auxiliary_skip,
  ),
  "darts_pt": Row(darts_pt),
  "drnas": Row(drnas, recent=20),
  "snas": Row(
    lambda spec: snas.snas(
      spec, snas.linear(1.0, 0.3, epochs=50, steps_per_epoch=4)
    ),
    recent=20,
  ),
  "oles": Row(lambda spec: oles(spec, window=7)),
  "pdarts": Row(pdarts),
  "pdarts_pruned": Row(pdarts, spec=pruned(SPEC)),
  "random": Row(random, *[promises.derived_cell] * 2),
  "entrannas": Row(
    lambda spec: entrannas.entrannas(spec, temperature=COOLING),
    spec=transited(SPEC),
  ),
  "dst": Row(
    lambda spec: entrannas.dst(spec, temperature=COOLING, strength=1e-3),
    *[promises.sparse] * 2,
    spec=transited(without_none(SPEC)),
  ),
  "dst_engines": Row(
    lambda spec: entrannas.dst(spec, temperature=COOLING, strength=1e-3),
    *[promises.sparse] * 2,
    spec=without_none(SPEC),
  ),
  "goldnas": Row(
    lambda spec: goldnas(spec, (8, 8), mu=1.0),
    *[promises.sigmoids] * 2,
    spec=without_none(SPEC),
    hyper=(("lambda", 1.0),),
  ),
}


def weights(key: jax.Array, spec: spec_lib.Spec, size: int):
  """Weights of all cells; transit cells have their own."""
  own = toy.init(key, spec, size)
  more = toy.init(jax.random.fold_in(key, 1), spec, size)
  return own | {name + TRANSIT: more[name] for name in spec.transit}


def begun(
  row, algorithm, weights, arch, weights_optimizer, arch_optimizer
) -> State:
  """The state of a row's search on the toy, before its first step."""
  state = State(
    step=jnp.int32(0),
    weights=weights,
    stats={},
    arch=arch,
    weights_opt=weights_optimizer.init(weights),
    arch_opt=arch_optimizer.init(arch) if algorithm.estimate else (),
    totals=zero_totals(),
    hyper={name: jnp.float32(value) for name, value in row.hyper},
  )
  state = state._replace(derivation=transit.begin(algorithm, state))
  if algorithm.stopping is not None:
    state = state._replace(stopping=algorithm.stopping.begin(weights))
  return state


def objective(params, stats, edge_weights, batch, rates):
  """Every cell is to give the planted outputs.

  A transit cell has none on the edges that it does not compute.
  """
  del rates
  engines = {n: w for n, w in params.items() if not n.endswith(TRANSIT)}
  error = toy.apply(engines, batch.x, edge_weights) - batch.y
  if rest := {n: w for n, w in params.items() if n not in engines}:
    used = jnp.concatenate([edge_weights[n].sum(-1) > 0 for n in rest])
    wrong = toy.apply(rest, batch.x, edge_weights) - batch.y
    error = jnp.concatenate([error, wrong * used[None, :, None]], 1)
  close = jnp.mean(jnp.abs(error) < 0.2)
  return jnp.mean(error**2), losses.Outcome(stats, {"accuracy": close})
