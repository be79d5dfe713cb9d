"""GDAS (Dong & Yang 2019, "Searching for A Robust Neural Architecture in
Four GPU Hours").

Every step draws one operator on each edge by the Gumbel-max trick (equations 3
and 5) and differentiates a softmax of temperature tau in its place (equation
6). Only the drawn operator is computed, forwards and backwards (section 3.2,
"acceleration"): no other weight gets a gradient from the network, and logits
learn through the softmax. The authors' code for NAS-Bench-201 differs: it adds
the weights of all other operators as scalars, whose gradient is then the sum of
that of the features. One draw a step is shared by all cells of a kind and by
all devices (the first release drew for each cell).
"""

from collections.abc import Callable
import functools

import jax
from jax import lax
import jax.numpy as jnp

from jnas import relax
from jnas.algorithms import base
from jnas.hypergrad import Hypergradient
from jnas.spaces.spec import Spec

Array = jax.Array
Temperature = Callable[[Array | int], Array | float]


def gdas(
  spec: Spec,
  estimate: Callable[..., Hypergradient] | None = None,
  temperature: Temperature = lambda step: 10.0,
) -> base.Algorithm:
  """GDAS on a spec.

  Args:
    spec: the search network.
    estimate: the hypergradient; by default that of the first order.
    temperature: tau at a step; 10 at first, and 1 at the end of the paper's
      searches.
  """
  kept = base.masks(spec)

  def drawn(arch: base.Arch, key: Array | None, step: Array | int):
    weights = {}
    for i, (name, mask) in enumerate(kept.items()):
      own = None if key is None else jax.random.fold_in(key, i)
      h = relax.gumbel_hard(arch[name], mask, own, temperature(step))
      # Operators that are not drawn are as if they were not computed, also
      # where a platform computes them.
      weights[name] = h * lax.stop_gradient(h)
    return weights

  return base.Algorithm(
    init=base.logits(spec),
    relax=drawn,
    mixture=base.softmax_mixture(spec),
    estimate=estimate or base.estimator("first_order"),
    derive=functools.partial(base.genotype_of, spec),
    drawn=True,
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
