"""DARTS- (Chu et al. 2021, "DARTS-: Robustly Stepping out of Performance
Collapse Without Indicators").

A skip connection serves two purposes: it is a candidate, and it stabilises the
training of the supernet. An auxiliary one on each edge, beside the softmax,
takes over the second (equation 4):

  o(x) = beta x + sum_o softmax(alpha)_o o(x)

beta decays linearly over the search, as 1 - e / epochs in the published code,
so that what is derived does without it. Derivation and hypergradient are
DARTS's.

Here the auxiliary connection is added to the weight of `skip_connect`. Where an
edge keeps the resolution that is the paper's sum exactly; an edge with a stride
has the convolutions of its factorized reduction in common with the candidate.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jnas.algorithms import base
from jnas.algorithms.method import (
  NOT_NEGATIVE,
  Fields,
  Method,
  Option,
  Setting,
)
from jnas.hypergrad import Hypergradient
from jnas.spaces import registry
from jnas.spaces.spec import Spec

Array = jax.Array
SKIP = "skip_connect"


def darts_minus(
  spec: Spec,
  estimate: Callable[..., Hypergradient] | None = None,
  beta: Callable[[Array | int], Array | float] = lambda step: 1.0,
) -> base.Algorithm:
  """DARTS- on a spec.

  Args:
    spec: the search network, with skip connections.
    estimate: the hypergradient; by default that of the first order.
    beta: weight of the auxiliary skip connections at a step.
  """
  mixture = base.softmax_mixture(spec)
  kept = {
    name: np.asarray([[op == SKIP and op in own for op in cell.ops]
                      for own in cell.kept], np.float32)
    for name, cell in spec.searched
  }

  def relaxed(arch: base.Arch, key: Array | None, step: Array | int):
    del key
    return {
      name: w + beta(step) * kept[name].astype(w.dtype)
      for name, w in mixture(arch, step).items()
    }

  return base.softmax_algorithm(
    spec, estimate or base.estimator("first_order")
  )._replace(
    relax=relaxed,
    evaluated=lambda arch, steps: relaxed(
      arch, None, jnp.maximum(steps - 1, 0)
    ),
  )


def decayed(
  start: float, *, epochs: float, steps_per_epoch: int
) -> Callable[[Array | int], Array]:
  """beta at a step: start (1 - e / epochs) after e whole epochs.

  The last epoch trains with what is nearly nothing.

  Args:
    start: in the first epoch; 1 in the paper.
    epochs: of the whole run.
    steps_per_epoch: of the training split.
  """

  def beta(step: Array | int) -> Array:
    return start * (1 - jnp.minimum(step // steps_per_epoch, epochs) / epochs)

  return beta


def _build(setting: Setting) -> base.Algorithm:
  beta = decayed(setting.options["auxiliary_skip"], **setting.clock)
  return darts_minus(setting.spec, setting.estimate, beta)


def _problems(flat: Fields) -> list[str]:
  space = registry.find(flat["space.name"], flat["space.operators"])
  if SKIP in space.operators:
    return []
  return [
    f"space.name: darts_minus needs {SKIP}, which {flat['space.name']} lacks"
  ]


METHOD = Method(
  "DARTS-",
  _build,
  {
    "algo.auxiliary_skip": Option(
      1.0,
      "weight of the skip connections beside the softmax, at the start; it "
      "falls linearly to 0",
      (NOT_NEGATIVE,),
    )
  },
  _problems,
)
