"""SNAS (Xie et al. 2019, "SNAS: Stochastic Neural Architecture Search").

Every step draws the weights of an edge's operators from a concrete
distribution, a softmax of the logits with Gumbel noise (equation 4):

  Z[e, o] = softmax_o((log p[e, o] + G[e, o]) / tau),  p = softmax(alpha)

As tau falls the draws become one-hot, so that search and derived network agree.
Weights and logits step together, along one gradient of the loss of training
data (section 2.3): it is a search of one level. What is derived from, reported
and evaluated is p. One draw a step is shared by the whole batch, by all cells
of a kind and by all devices.

Every edge is derived, with its likeliest operator; where that is `none` there
is no edge, so that the topology is found, too. (Genotypes have no node without
edges: one whose edges are all `none` keeps what is likeliest beside it.) tau
falls linearly from 1 to 0.03, as in the published code. The paper's resource
constraint (section 2.4) is left out, and so is that code's drop path.
"""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jnas import relax
from jnas.algorithms import base
from jnas.algorithms.method import TAU, TAU_END, Fields, Method, Setting
from jnas.genotype import ImageCell
from jnas.spaces.spec import Cell, Spec

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
    derive=functools.partial(base.genotype_of, spec, choose=every_edge),
    one_level=True,
    stochastic=True,
  )


def every_edge(cell: Cell, weights: np.ndarray) -> ImageCell:
  """Each edge's likeliest operator, node by node, but for `none`.

  Args:
    cell: the cell.
    weights: [E, O].
  """
  computed = [o for o, op in enumerate(cell.ops) if op != "none"]
  nodes = []
  for node in range(cell.inputs, cell.nodes):
    into = [e for e, (_, target) in enumerate(cell.edges) if target == node]
    chosen = {e: int(np.argmax(weights[e])) for e in into}
    chosen = {e: o for e, o in chosen.items() if o in computed}
    if not chosen:
      best = max(
        ((e, o) for e in into for o in computed), key=lambda at: weights[at]
      )
      chosen = dict([best])
    nodes.append(
      tuple((cell.ops[o], cell.edges[e][0]) for e, o in chosen.items())
    )
  return tuple(nodes)


def linear(
  start: float, end: float, *, epochs: float, steps_per_epoch: int
) -> Temperature:
  """tau at a step: start + (end - start) e / epochs, e whole epochs done.

  Args:
    start: in the first epoch.
    end: after the last one.
    epochs: of the whole run.
    steps_per_epoch: of the training split.
  """

  def temperature(step: Array | int) -> Array:
    epoch = jnp.minimum(step // steps_per_epoch, epochs)
    return start + (end - start) * epoch / epochs

  return temperature


def _build(setting: Setting) -> base.Algorithm:
  own = setting.options
  tau = linear(own["tau"], own["tau_end"], **setting.clock)
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
