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
from jnas.algorithms import stages as stages_lib
from jnas.algorithms.method import (
  BELOW_ONE,
  NOT_NEGATIVE,
  POSITIVE,
  Fields,
  Limit,
  Method,
  Option,
  Setting,
  at_most,
  has_none,
)
from jnas.algorithms.stages import Stage
from jnas.spaces import arch as arch_lib
from jnas.spaces import cost, expected
from jnas.spaces.spec import Cell, Spec

Array = jax.Array
Arrays = Mapping[str, np.ndarray]
MEGA = 1e6  # lambda is per million multiply-adds of one image


def goldnas(
  spec: Spec,
  size: tuple[int, int],
  mu: float = 0.0,
  through_mean: bool = False,
  costs: Arrays | None = None,
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
    costs: [E, O] for each cell in place of its multiply-adds in millions.
  """
  flops = costs or {
    name: table / MEGA for name, table in cost.edge_flops(spec, size).items()
  }
  same = float(np.mean(np.concatenate([f.ravel() for f in flops.values()])))

  def mixture(arch: base.Arch, step: Array | int = 0) -> dict[str, Array]:
    del step
    kept = base.masks(spec)
    return {name: relax.sigmoid(arch[name], kept[name]) for name in kept}

  def penalty(arch: base.Arch, hyper: Mapping[str, Array]) -> Array:
    total = 0.0
    for name, weights in mixture(arch).items():
      kept = removable(spec.cell(name), jax.lax.stop_gradient(weights) > 0)
      total += expected.uniform_flops(
        weights, kept, same, through_mean=through_mean
      )
      if mu:
        total += mu * expected.expected_flops(
          weights, flops[name], kept, through_mean=through_mean
        )
    return hyper["lambda"] * total

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


class Pruned(NamedTuple):
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
) -> Pruned:
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
  return Pruned(
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


def stages(
  spec: Spec,
  total: int,
  *,
  per_epoch: int,
  size: tuple[int, int],
  schedule: Schedule,
  flops_min: float,
  rebuild: float,
  background: bool,
) -> stages_lib.Stages:
  """A stage an epoch: Algorithm 1 decides after each.

  What is pruned is masked at once. The network is built anew without it when
  so much can be left out that the seconds of compiling are worth it: a share
  of the multiply-adds, and not measured times, so that a run that is resumed
  does what an uninterrupted one does; and so one that is compiled in the
  background takes over an epoch later, however long that takes.

  Args:
    spec: with all operators.
    total: steps of the run, at most.
    per_epoch: steps of an epoch.
    size: (H, W) of the images.
    schedule: hyper-parameters of Algorithm 1.
    flops_min: the search ends at so many million multiply-adds of what is left.
    rebuild: share of the built network's multiply-adds that must be masked.
    background: whether the old network goes on while that is compiled.
  """

  def stage(index, spec, live, start, state, pruned, coming=None):
    known = {"increment": state.increment, "quiet": state.quiet}
    known["pruned"] = pruned
    return Stage(
      *(index, spec, start, min(start + per_epoch, total), live),
      hyper=(("lambda", state.weight),),
      scheduler=tuple(known.items()),
      coming=coming,
    )

  def decision(
    old: Stage, arch: Arrays, mixture: Arrays
  ) -> stages_lib.Decision:
    del arch
    known = dict(old.hyper + old.scheduler)
    state = Pruning(known["lambda"], known["increment"], known["quiet"])
    found = decide(old.left, mixture, state, schedule)
    live = pruned(old.left, found.active)
    network = live if found.pareto else None
    left = cost.network_flops(live, size)
    if old.stop == total or left <= flops_min * MEGA:
      return stages_lib.Decision(None, network)
    spec, coming = old.coming or old.spec, None
    worth = left <= (1 - rebuild) * cost.network_flops(spec, size)
    if worth and not background:
      spec = live
    elif worth and live != spec and old.stop + per_epoch < total:
      coming = live
    following = stage(
      old.index + 1, spec, live, old.stop, found.state, found.pruned, coming
    )
    return stages_lib.Decision(following, network)

  first = stage(0, spec, None, 0, begin(schedule), 0)
  return stages_lib.Stages(first, decision, restarts=False)


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


def _build(setting: Setting) -> base.Algorithm:
  own = setting.options
  mean = own["through_mean"]
  return goldnas(setting.spec, setting.size, own["mu"], mean, setting.costs)


def _stages(setting: Setting) -> stages_lib.Stages:
  own = setting.options
  return stages(
    setting.spec,
    setting.total,
    per_epoch=setting.per_epoch,
    size=setting.size,
    schedule=Schedule(
      **{f.name: own[f.name] for f in dataclasses.fields(Schedule)}
    ),
    flops_min=own["flops_min"],
    rebuild=own["rebuild"],
    background=own["background"],
  )


def _problems(flat: Fields) -> list[str]:
  found = []
  if has_none(flat):
    found.append(
      "space.name: goldnas prunes operators and has no use for none; set s2, "
      f"s1_7 or s1_12, got {flat['space.name']}"
    )
  found += [
    f"{other}: goldnas needs {idle!r}, got {flat[other]!r}"
    for other, idle in (
      ("space.edges", "all"),
      ("space.fixed_reduction", False),
      ("space.partial", 1),
      ("space.shared", False),
      ("arch.decay", 0.0),
      ("algo.hypergrad", "first_order"),
    )
    if flat[other] != idle
  ]
  if flat["arch.optimizer"] != "sgd":
    found.append(
      "arch.optimizer: goldnas needs sgd, got "
      f"{flat['arch.optimizer']}; Adam's moments know no pruned logit"
    )
  if flat["gold.latency"] and not flat["gold.mu"]:
    found.append("gold.latency: changes what gold.mu weighs, which is 0")
  if flat["gold.xi_min"] > flat["gold.xi_max"]:
    found.append(
      f"gold.xi_min: must not exceed gold.xi_max ({flat['gold.xi_max']}), got "
      f"{flat['gold.xi_min']}"
    )
  return found


_PRUNING = {
  "title": "Pruning",
  "note": (
    "As in figure 4 of the GOLD-NAS paper. While few operators are pruned λ "
    "grows, by more each epoch; once enough are, it falls (0 is left out). "
    "Pruned operators are masked until the network is built anew without them."
  ),
  "figures": [
    {
      "title": "Weight of the FLOPs in the loss, λ",
      "metrics": {"lambda": "λ"},
      "log": True,
    },
    {
      "title": "FLOPs (millions an image)",
      "metrics": {"built_flops": "built", "flops": "left"},
      "form": "{:,.4g}",
    },
    {
      "title": "Operators pruned after the epoch before",
      "metrics": {"pruned": "pruned"},
      "form": "{:,.0f}",
      "kind": "bars",
    },
    {
      "title": "Operators left",
      "metrics": {"operators": "operators left"},
      "form": "{:,.0f}",
    },
  ],
}
METHOD = Method(
  "GOLD-NAS",
  _build,
  {
    "gold.mu": Option(
      0.0, "weight of the expected FLOPs beside the uniform ones",
      (NOT_NEGATIVE,),
    ),
    "gold.latency": Option(
      False, "costs are measured milliseconds on this device, rescaled"
    ),
    "gold.through_mean": Option(
      False, "differentiate the mean in equation 5"
    ),
    "gold.n0": Option(
      4, "operators that an epoch is to prune", (POSITIVE, at_most(10**9))
    ),
    "gold.lambda0": Option(
      1e-5, "first increment of lambda, a million multiply-adds", (POSITIVE,)
    ),
    "gold.c0": Option(
      2.0, "factor of the increment, divisor of lambda",
      (Limit(lambda v: v > 1, "greater than 1"),),
    ),
    "gold.xi_max": Option(
      0.05, "the n0 weakest are pruned below this", (POSITIVE,)
    ),
    "gold.xi_min": Option(0.01, "all are pruned below this", (POSITIVE,)),
    "gold.t0": Option(
      3, "epochs without pruning that make a network Pareto-optimal",
      (NOT_NEGATIVE, at_most(10**9)),
    ),
    "gold.flops_min": Option(
      360.0, "millions of multiply-adds at which a search ends", (POSITIVE,)
    ),
    "gold.rebuild": Option(
      0.25, "share of them that must be masked to compile anew", (BELOW_ONE,)
    ),
    "gold.background": Option(
      True, "compile while the masked network goes on, for one epoch"
    ),
    "gold.candidates": Option(
      24, "random_pruning: networks drawn under flops_min",
      (POSITIVE, at_most(10**6)),
    ),
    "gold.trial": Option(
      "0 epochs",
      "of each of these, by which the best is chosen; 0 = none is",
      duration=True,
    ),
  },
  _problems,
  _stages,
  one_level=True,
  pareto=True,
  weights="sigmoid",
  sections=(_PRUNING,),
)
