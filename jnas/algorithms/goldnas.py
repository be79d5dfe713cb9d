"""GOLD-NAS (Bi et al. 2020, "GOLD-NAS: Gradual, One-Level, Differentiable").

Every cell has its own architecture, an edge any number of operators, and each
operator a sigmoid of its own (section 3.2). Weights and logits step together
on the same batch (equation 2). A penalty on the expected FLOPs grows until
weak operators fall below a threshold and are pruned for good, while whatever
survives for long is recorded: Algorithm 1 gives a Pareto set in one run.

The paper prints the objective as CE + lambda FLOPs(alpha) + mu FLOPs(alpha),
with a bar on one of them that is lost in places. Here it is

  CE + lambda (uniform(alpha) + mu expected(alpha)),

the only reading in which lambda, which starts at zero, controls all of the
penalty, mu = 0 leaves the uniform version ("adds a fixed weight to all
operators") and a larger mu "favors pruning more convolutions".

The last operator that enters a node is left out of the penalty, as it is never
pruned (`removable`); the paper says nothing of it.

A pruned operator has a logit of minus infinity: its weight is zero and no
gradient moves it, so nothing else has to know of the pruning until the network
is built anew without it.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import NamedTuple

import jax
import numpy as np

from jnas import relax
from jnas.algorithms import base
from jnas.spaces import arch as arch_lib
from jnas.spaces import cost
from jnas.spaces.spec import Cell, Spec

Array = jax.Array
Arrays = Mapping[str, np.ndarray]
MEGA = 1e6  # lambda is per million multiply-adds of one image


def goldnas(
  spec: Spec,
  size: tuple[int, int],
  mu: float = 0.0,
  through_mean: bool = False,
) -> base.Algorithm:
  """GOLD-NAS on a spec.

  Args:
    spec: the search network; pruned or whole, the penalty is the same.
    size: (H, W) of the images.
    mu: weight of the expected FLOPs beside the uniform ones.
    through_mean: whether the mean of sigma over an edge is differentiated in
      equation 5. If it is, the penalty cannot remove an edge's last operator
      and is flat where all logits are equal, as at the start; held constant it
      grows with every sigma, as appendix A.3 wants it to.
  """
  flops = {
    name: table / MEGA for name, table in cost.edge_flops(spec, size).items()
  }
  same = float(np.mean(np.concatenate([f.ravel() for f in flops.values()])))

  def mixture(arch: base.Arch, step: Array | int = 0) -> dict[str, Array]:
    del step
    kept = base.masks(spec)
    return {name: relax.sigmoid(arch[name], kept[name]) for name in kept}

  def penalty(arch: base.Arch, controls: Mapping[str, Array]) -> Array:
    total = 0.0
    for name, weights in mixture(arch).items():
      kept = removable(spec.cell(name), jax.lax.stop_gradient(weights) > 0)
      total += cost.uniform_flops(
        weights, kept, same, through_mean=through_mean
      )
      if mu:
        total += mu * cost.expected_flops(
          weights, flops[name], kept, through_mean=through_mean
        )
    return controls["lambda"] * total

  return base.Algorithm(
    init=base.logits(spec),
    relax=base.deterministic(mixture),
    mixture=mixture,
    estimate=base.estimator("first_order"),
    derive=functools.partial(base.genotype_of, spec, choose=base.connections),
    penalty=penalty,
    one_level=True,
  )


def removable(cell: Cell, active: Array) -> Array:
  """Which operators may go: all but one that alone enters a node, [E, O].

  A cell is valid only if every node has an operator (appendix A.1).

  Args:
    cell: the cell.
    active: [E, O] of booleans.
  """
  targets = np.asarray([target for _, target in cell.edges])
  into = (targets[:, None] == targets[None]) @ active.sum(-1)
  return active & (into > 1)[:, None]


@dataclasses.dataclass(frozen=True)
class Schedule:
  """The hyper-parameters of Algorithm 1; the defaults are those of B.1.

  Attributes:
    n0: operators that an epoch is to prune.
    lambda0: the first increment of lambda.
    c0: factor of the increment, divisor of lambda.
    xi_max: the n0 weakest operators are pruned below this weight.
    xi_min: all operators are pruned below this weight.
    t0: epochs without pruning after which a network is recorded.
  """

  n0: int = 4
  lambda0: float = 1e-5
  c0: float = 2.0
  xi_max: float = 0.05
  xi_min: float = 0.01
  t0: int = 3


class Pruning(NamedTuple):
  """What Algorithm 1 remembers from epoch to epoch.

  Attributes:
    weight: lambda.
    increment: Delta lambda.
    quiet: t, epochs in a row in which nothing was pruned.
  """

  weight: float
  increment: float
  quiet: int


class Decision(NamedTuple):
  """What Algorithm 1 does after an epoch.

  Attributes:
    active: for each cell [E, O] of booleans, the operators that are left.
    pruned: how many were pruned.
    pareto: whether the network joins the Pareto set.
    state: what to remember.
  """

  active: dict[str, np.ndarray]
  pruned: int
  pareto: bool
  state: Pruning


def begin(schedule: Schedule) -> Pruning:
  """The state before the first epoch: lambda is zero."""
  return Pruning(0.0, schedule.lambda0, 0)


def decide(
  spec: Spec, weights: Arrays, state: Pruning, schedule: Schedule
) -> Decision:
  """Lines 4 to 8 of Algorithm 1.

  The last operator that enters a node stays whatever it weighs; the paper says
  nothing of it here. Ties go to the earlier operator.

  Args:
    spec: what is left of the search network.
    weights: sigma(alpha), [E, O] for each cell.
    state: of the epoch before.
    schedule: the hyper-parameters.
  """
  active = {name: arch_lib.mask(cell) > 0 for name, cell in spec.searched}
  order = sorted(
    (float(weights[name][e, o]), i, int(e), int(o))
    for i, name in enumerate(active)
    for e, o in np.argwhere(active[name])
  )
  names, pruned = list(active), 0
  for rank, (weight, i, e, o) in enumerate(order):
    weakest = rank < schedule.n0 and weight < schedule.xi_max
    if weakest or weight < schedule.xi_min:
      mine = active[names[i]]
      if removable(spec.cell(names[i]), mine)[e, o]:
        mine[e, o] = False
        pruned += 1
  if pruned < schedule.n0:
    increment = schedule.c0 * state.increment
    weight = state.weight + increment
  else:
    increment, weight = schedule.lambda0, state.weight / schedule.c0
  quiet = 0 if pruned else state.quiet + 1
  pareto = quiet > schedule.t0
  return Decision(
    active, pruned, pareto, Pruning(weight, increment, 0 if pareto else quiet)
  )


def pruned(spec: Spec, active: Arrays) -> Spec:
  """The spec that keeps only the active operators.

  Args:
    spec: the search network.
    active: [E, O] of booleans for each searched cell.
  """

  def left(name, cell):
    if name not in active:
      return cell
    kept = tuple(
      tuple(op for op in own if active[name][e][cell.ops.index(op)])
      for e, own in enumerate(cell.kept)
    )
    return dataclasses.replace(cell, kept=kept)

  return dataclasses.replace(
    spec, cells=tuple((name, left(name, cell)) for name, cell in spec.cells)
  )


def random_pruning(
  spec: Spec,
  measure: Callable[[Spec], float],
  budget: float,
  rng: np.random.Generator,
  tries: int = 1000,
) -> Spec:
  """A network under a FLOPs budget by pruning at random (appendix B.4).

  Operators go one by one, drawn uniformly, until the budget is met; where a
  node loses its last one the network is thrown away and another begun.

  Args:
    spec: the search network.
    measure: spec -> FLOPs.
    budget: in the same unit.
    rng: of the draws.
    tries: networks begun, at most.

  Raises:
    ValueError: none of them is valid and within the budget.
  """
  for _ in range(tries):
    current = {
      name: np.array([[op in kept for op in cell.ops] for kept in cell.kept])
      for name, cell in spec.searched
    }
    operators = [
      (name, int(e), int(o))
      for name in current
      for e, o in np.argwhere(current[name])
    ]
    rng.shuffle(operators)
    for name, e, o in operators:
      if measure(pruned(spec, current)) <= budget:
        return pruned(spec, current)
      if not removable(spec.cell(name), current[name])[e, o]:
        break
      current[name][e, o] = False
  raise ValueError(
    f"no valid network of at most {budget:g} FLOPs in {tries} random prunings; "
    "raise the budget or the number of tries"
  )
