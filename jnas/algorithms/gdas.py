"""GDAS (Dong & Yang 2019, "Searching for A Robust Neural Architecture in
Four GPU Hours").

Every step draws one operator on each edge by the Gumbel-max trick (equations 3
and 5) and differentiates a softmax of temperature tau in its place (equation
6). Only the drawn operator is computed, forwards and backwards (section 3.2,
"acceleration"): no other weight gets a gradient from the network, and logits
learn through the softmax. The authors' code for NAS-Bench-201 differs: it adds
the weights of all other operators as scalars, whose gradient is then the sum of
that of the features (`undrawn`).

Where the paper is silent or its code differs: one draw a step is shared by the
whole batch, by all cells of a kind and by all devices (section 3.2 samples for
each data point, the first release of the code for each cell). `none` is left
out of the derivation, as in DARTS; section 3.2 takes the argmax over all. The
logits step before the weights, as in the first release; Algorithm 1 and the
code for NAS-Bench-201 have the weights first. Batches of 64 are those of that
benchmark; the paper gives no size, the first release has 128.
"""

from collections.abc import Callable
import functools

import jax
from jax import lax
import jax.numpy as jnp

from jnas import relax
from jnas.algorithms import base
from jnas.algorithms.method import (
  TAU,
  TAU_END,
  Fields,
  Method,
  Option,
  Setting,
)
from jnas.hypergrad import Hypergradient
from jnas.spaces import registry
from jnas.spaces.spec import Spec

Array = jax.Array
Temperature = Callable[[Array | int], Array | float]


def gdas(
  spec: Spec,
  estimate: Callable[..., Hypergradient] | None = None,
  temperature: Temperature = lambda step: 10.0,
  undrawn: bool = False,
) -> base.Algorithm:
  """GDAS on a spec.

  Args:
    spec: the search network.
    estimate: the hypergradient; by default that of the first order.
    temperature: tau at a step; 10 at first, and 1 at the end of the paper's
      searches.
    undrawn: whether the weights of operators that are not drawn, zeros with a
      gradient, are added to their edges' features as scalars: a last column of
      the edge weights, [E, O + 1]. For cells of one input only.
  """
  kept = base.masks(spec)

  def drawn(arch: base.Arch, key: Array | None, step: Array | int):
    weights = {}
    for i, (name, mask) in enumerate(kept.items()):
      own = None if key is None else jax.random.fold_in(key, i)
      h = relax.gumbel_hard(arch[name], mask, own, temperature(step))
      # Operators that are not drawn are as if they were not computed, also
      # where a platform computes them.
      hot = lax.stop_gradient(h)
      weights[name] = h * hot
      if undrawn:
        rest = (h * (1 - hot)).sum(-1, keepdims=True)
        weights[name] = jnp.concatenate([weights[name], rest], -1)
    return weights

  return base.Algorithm(
    init=base.logits(spec),
    relax=drawn,
    mixture=base.softmax_mixture(spec),
    estimate=estimate or base.estimator("first_order"),
    derive=functools.partial(base.genotype_of, spec),
    samples_paths=True,
  )


def linear_temperature(
  start: float, end: float, *, epochs: float, steps_per_epoch: int
) -> Temperature:
  """tau at a step: linear in whole epochs, `end` in the last (section 4.1).

  Args:
    start: in the first epoch.
    end: in the last epoch.
    epochs: of the whole run.
    steps_per_epoch: of the training split.
  """
  last = max(epochs - 1, 1)

  def temperature(step: Array | int) -> Array:
    # After the last epoch it is what it was in it: evaluations come then.
    epoch = jnp.minimum(step // steps_per_epoch, last)
    return start + (end - start) * epoch / last

  return temperature


def _build(setting: Setting) -> base.Algorithm:
  own = setting.options
  return gdas(
    setting.spec,
    setting.estimate,
    linear_temperature(own["tau"], own["tau_end"], **setting.clock),
    own["undrawn"],
  )


def _problems(flat: Fields) -> list[str]:
  space = registry.find(flat["space.name"], flat["space.operators"])
  if not flat["algo.undrawn"] or space.single_input:
    return []
  able = [name for name, own in registry.SPACES.items() if own.single_input]
  return [
    "algo.undrawn: goes with cells of one input, so with space.name "
    f"{', '.join(able)}, not with {space.name}"
  ]


METHOD = Method(
  "GDAS",
  _build,
  {
    "algo.tau": TAU,
    "algo.tau_end": TAU_END,  # it falls linearly
    "algo.undrawn": Option(
      False,
      "weights of operators that are not drawn count as scalars, as in "
      "NAS-Bench-201's code; on its cells only",
    ),
  },
  _problems,
  samples_paths=True,
  recurrent=True,
  published=(
    (
      "GDAS",
      0.935,
      {
        "algo.undrawn": True,
        "algo.tau": 10.0,
        "algo.tau_end": 0.1,
        "train.length": "240 epochs",
      },
    ),
  ),
)
