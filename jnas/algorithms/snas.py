"""SNAS (Xie et al. 2019, "SNAS: Stochastic Neural Architecture Search").

Every step draws the weights of an edge's operators from a concrete
distribution, a softmax of the logits with Gumbel noise (equation 4):

  Z[e, o] = softmax_o((log p[e, o] + G[e, o]) / tau),  p = softmax(alpha)

As tau falls the draws become one-hot, so that search and derived network agree.
Weights and logits step together, along one gradient of the loss of training
data (section 2.3): it is a search of one level. What is derived from, reported
and evaluated is p. One draw a step is shared by the whole batch, by all cells
of a kind and by all devices. The paper's resource constraint (section 2.4) is
left out; it gives no temperatures, these are of ours.
"""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp

from jnas import relax
from jnas.algorithms import base
from jnas.algorithms.method import TAU, TAU_END, Fields, Method, Setting
from jnas.spaces.spec import Spec

Array = jax.Array
Temperature = Callable[[Array | int], Array | float]


def snas(
  spec: Spec, temperature: Temperature = lambda step: 1.0
) -> base.Algorithm:
  """SNAS on a spec.

  Args:
    spec: the search network.
    temperature: tau at a step.
  """
  kept = base.masks(spec)

  def relaxed(arch: base.Arch, key: Array | None, step: Array | int):
    return {
      name: relax.concrete(
        arch[name],
        mask,
        None if key is None else jax.random.fold_in(key, i),
        temperature(step) if key is not None else 1.0,
      )
      for i, (name, mask) in enumerate(kept.items())
    }

  return base.Algorithm(
    init=base.logits(spec),
    relax=relaxed,
    mixture=base.softmax_mixture(spec),
    estimate=base.estimator("first_order"),
    derive=functools.partial(base.genotype_of, spec),
    one_level=True,
    stochastic=True,
  )


def geometric(
  start: float, end: float, *, epochs: float, steps_per_epoch: int
) -> Temperature:
  """tau at a step: start (end / start)^(e / last), e whole epochs done.

  Args:
    start: in the first epoch.
    end: in the last epoch.
    epochs: of the whole run.
    steps_per_epoch: of the training split.
  """
  last = max(epochs - 1, 1)

  def temperature(step: Array | int) -> Array:
    epoch = jnp.minimum(step // steps_per_epoch, last)
    return start * (end / start) ** jnp.asarray(epoch / last, jnp.float32)

  return temperature


def _build(setting: Setting) -> base.Algorithm:
  own = setting.options
  tau = geometric(own["tau"], own["tau_end"], **setting.clock)
  return snas(setting.spec, tau)


def _problems(flat: Fields) -> list[str]:
  if flat["algo.hypergrad"] == "first_order":
    return []
  return [
    "algo.hypergrad: snas needs 'first_order', got "
    f"{flat['algo.hypergrad']!r}"
  ]


METHOD = Method(
  "SNAS",
  _build,
  {"algo.tau": TAU, "algo.tau_end": TAU_END},
  _problems,
  one_level=True,
)
