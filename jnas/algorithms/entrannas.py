"""EnTranNAS (Yang et al. 2021, "Towards Improving the Consistency, Efficiency,
and Flexibility of Differentiable Neural Architecture Search").

Only engine cells hold the whole graph, with a softmax whose temperature falls
(equation 5); transit cells compute what is derived from the logits at every
step (section 2.2). Features are shared within a cell (section 2.3): see
`jnas.spaces.shared`. In EnTranNAS-DST a learnt threshold for each node makes
weights exactly zero (equations 7 to 9), the derived cell is what is not zero
(equation 10), so that engine and derived cell are the same graph with any
number of inputs a node, and a regulariser raises the thresholds (equation 11).
"""

from collections.abc import Callable, Mapping
import functools
import math

import jax
import jax.numpy as jnp

from jnas import relax
from jnas.algorithms import base
from jnas.algorithms.method import (
  NOT_NEGATIVE,
  TAU,
  UP_TO_ONE,
  Fields,
  Method,
  Option,
  Setting,
  at_most,
  has_none,
)
from jnas.hypergrad import Hypergradient
from jnas.spaces import registry
from jnas.spaces.spec import Spec

Array = jax.Array
Temperature = Callable[[Array | int], Array | float]


def entrannas(
  spec: Spec,
  estimate: Callable[..., Hypergradient] | None = None,
  temperature: Temperature = lambda step: 5.0,
) -> base.Algorithm:
  """EnTranNAS on a spec.

  Args:
    spec: the search network; transit cells have one input graph with the
      engine that they follow.
    estimate: the hypergradient; by default that of the first order.
    temperature: tau at a step, of equation 5.
  """
  cells = dict(spec.searched)

  def mixture(arch: base.Arch, step: Array | int = 0) -> dict[str, Array]:
    return softmax(spec, arch, temperature(step))

  def derivation(arch: base.Arch, step: Array | int) -> dict[str, Array]:
    weights = mixture(jax.lax.stop_gradient(arch), step)
    return {
      name: base.strongest_mask(cells[name], weights[name])
      for name in spec.transit
    }

  return base.Algorithm(
    init=base.logits(spec),
    relax=base.deterministic(mixture),
    mixture=mixture,
    estimate=estimate or base.estimator("first_order"),
    derive=functools.partial(base.genotype_of, spec),
    derivation=derivation,
  )


def dst(
  spec: Spec,
  estimate: Callable[..., Hypergradient] | None = None,
  temperature: Temperature = lambda step: 5.0,
  strength: float = 0.1,
) -> base.Algorithm:
  """EnTranNAS-DST on a spec.

  Every cell has, beside alpha, a beta for each intermediate node. They begin
  at zero, thresholds of one half, below which no weight is at first. The paper
  has equation 11 for one cell; here the cells add up.

  Args:
    spec: the search network.
    estimate: the hypergradient; by default that of the first order.
    temperature: tau at a step, of equation 5.
    strength: lambda, of equation 11.
  """
  cells = dict(spec.searched)

  def init(key: Array, scale: float) -> base.Arch:
    arch = base.logits(spec)(key, scale)
    for name, cell in cells.items():
      arch[threshold_logits(name)] = jnp.zeros(cell.nodes - cell.inputs)
    return arch

  def mixture(arch: base.Arch, step: Array | int = 0) -> dict[str, Array]:
    weights = softmax(spec, arch, temperature(step))
    return {
      name: relax.dst_sparsify(
        weights[name],
        arch[threshold_logits(name)],
        [target for _, target in cell.edges],
      )
      for name, cell in cells.items()
    }

  def derivation(arch: base.Arch, step: Array | int) -> dict[str, Array]:
    weights = mixture(jax.lax.stop_gradient(arch), step)
    return {
      name: (weights[name] > 0).astype(weights[name].dtype)
      for name in spec.transit
    }

  def penalty(arch: base.Arch, hyper: Mapping[str, Array]) -> Array:
    del hyper
    # -log sigmoid(beta), without the logarithm of a rounded zero.
    return strength * sum(
      jax.nn.softplus(-arch[threshold_logits(name)]).mean() for name in cells
    )

  return base.Algorithm(
    init=init,
    relax=base.deterministic(mixture),
    mixture=mixture,
    estimate=estimate or base.estimator("first_order"),
    derive=functools.partial(base.genotype_of, spec, choose=base.connections),
    penalty=penalty,
    derivation=derivation,
  )


def softmax(
  spec: Spec, arch: base.Arch, temperature: Array | float
) -> dict[str, Array]:
  """p of equation 5, [E, O] for each searched cell."""
  return {
    name: relax.softmax(arch[name], mask, temperature=temperature)
    for name, mask in base.masks(spec).items()
  }


def threshold_logits(name: str) -> str:
  """The key in arch of the betas of a cell's nodes."""
  return f"{name}_thresholds"


def annealed(
  start: float,
  ratio: float,
  *,
  epochs: float,
  steps_per_epoch: int,
  of: int = 0,
) -> Temperature:
  """tau at a step: start * ratio^e after e whole epochs (section 4.2).

  The paper's searches have 50 epochs and end at 5 * 0.923^49 = 0.099. A
  shorter or longer one ends there, too, if it is told of them.

  Args:
    start: in the first epoch; 5 in the paper.
    ratio: from epoch to epoch; 0.923 in the paper.
    epochs: of the whole run.
    steps_per_epoch: of the training split.
    of: epochs that `ratio` was meant for: the run's first and last epoch have
      the temperatures of their first and last. 0 for the run's own.
  """
  last = math.ceil(epochs) - 1
  stretch = (of - 1) / max(last, 1) if of else 1

  def temperature(step: Array | int) -> Array:
    # After the last epoch it is what it was in it: evaluations come then.
    epoch = jnp.minimum(step // steps_per_epoch, last)
    return start * ratio ** (stretch * jnp.asarray(epoch, jnp.float32))

  return temperature


def _built(
  make: Callable[..., base.Algorithm], setting: Setting, *more: float
) -> base.Algorithm:
  own = setting.options
  temperature = annealed(
    own["tau"], own["tau_ratio"], of=own["tau_epochs"], **setting.clock
  )
  found = make(setting.spec, setting.estimate, temperature, *more)
  return found._replace(patience=own["settle"])


def _problems(flat: Fields) -> list[str]:
  name, found = flat["algo.name"], []
  stack = registry.find(flat["space.name"]).stack
  if not (stack and flat["space.shared"]):
    found.append(
      f"algo.name: {name} searches shared normal and reduction cells; set "
      f"space.shared, and another space than {flat['space.name']}"
    )
  return found + [
    f"{other}: {name} needs {idle!r}, got {flat[other]!r}"
    for other, idle in (
      ("space.edges", "all"),
      ("space.fixed_reduction", False),
      ("space.partial", 1),
    )
    if flat[other] != idle
  ]


def _dst_problems(flat: Fields) -> list[str]:
  found = _problems(flat)
  if has_none(flat):
    found.append(
      "space.name: dst has no use for none, its thresholds cut edges; set "
      f"s1_7, s1_12 or s2, got {flat['space.name']}"
    )
  return found


_TRANSIT = {
  "title": "Transit cells",
  "note": (
    "Transit cells compute the derived operators alone. Once these have stayed "
    "the same for a while, the steps are frozen: compiled for them, until "
    "they move again."
  ),
  "figures": [
    {
      "title": "Operators in the derived cells",
      "metrics": {"connections": "operators"},
      "form": "{:,.0f}",
    },
    {
      "title": "Share of frozen steps so far",
      "metrics": {"frozen": "frozen"},
      "form": "{:.1%}",
      "limits": [-0.02, 1.02],
    },
  ],
}
_OPTIONS = {
  "algo.tau": TAU,
  "algo.tau_ratio": Option(
    0.923, "factor of an epoch, of a run of tau_epochs", (UP_TO_ONE,)
  ),
  "algo.tau_epochs": Option(
    50,
    "epochs that tau_ratio is meant for; longer and shorter runs end at the "
    "same tau. 0 = those of any run",
    (NOT_NEGATIVE, at_most(10**6)),
  ),
  "algo.settle": Option(
    "2 epochs",
    "compile transit cells as they are once they have stayed so long, twice as "
    "long each time; 0 = never",
    duration=True,
  ),
}
METHOD = Method(
  "EnTranNAS",
  lambda setting: _built(entrannas, setting),
  _OPTIONS,
  _problems,
  transit=True,
  sections=(_TRANSIT,),
)
DST = Method(
  "EnTranNAS-DST",
  lambda setting: _built(dst, setting, setting.options["sparsity"]),
  _OPTIONS
  | {
    "algo.sparsity": Option(
      0.1, "lambda, of -log t in the architecture's loss", (NOT_NEGATIVE,)
    )
  },
  _dst_problems,
  transit=True,
  sections=(_TRANSIT,),
  any_topology=True,
)
