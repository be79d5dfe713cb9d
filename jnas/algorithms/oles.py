"""OLES (Jiang et al. 2023, "Operation-Level Early Stopping for Robustifying
Differentiable NAS").

Operators with weights overfit the training images while alpha is learnt on
others, which favours those without. So each is stopped on its own, on its edge
of its cell: after every M steps the search looks at how well the gradients of
both losses by an operator's weights have agreed,

  GM(g_train, g_valid) = 1 / M sum_m cos(g_train^m, g_valid^m),

and where that is less than xi these weights stay as they are until the end
(M = 20, xi = 0.4). Alpha, the derivation and all else are first-order DARTS's.

The cosine is that of one array after the other, averaged over an operator's
arrays. Both gradients are taken at the weights before they step, on the step's
two batches. The published code differs: it compares the training gradient with
its sum with a validation gradient, takes the cosine over output channels alone,
counts 21 steps and divides by 20. Two gradients that have nothing in common
have a cosine of 0.7 with their sum, so that its 0.4 stops far fewer than the
paper's: batches that are small, with gradients of mostly noise, may want less.
As there, the convolutions of a skip connection with a stride never stop.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jnas.algorithms import base
from jnas.algorithms.method import Fields, Limit, Method, Option, Setting
from jnas.hypergrad import Hypergradient
from jnas.spaces.spec import Spec

Array = jax.Array
# By the names of a network's modules and of operators, a row for each edge.
Rows = Mapping[str, Mapping[str, Array]]


class Matching(NamedTuple):
  """What the search remembers of its operators.

  Attributes:
    cosines: sums since the last decision.
    steps: int32 scalar, how many there are in them.
    frozen: whether an operator's weights have stopped.
  """

  cosines: Rows
  steps: Array
  frozen: Rows


def oles(
  spec: Spec,
  estimate: Callable[..., Hypergradient] | None = None,
  threshold: float = 0.4,
  window: int = 20,
) -> base.Algorithm:
  """OLES on a spec.

  Args:
    spec: the search network.
    estimate: the hypergradient; by default that of the first order.
    threshold: xi.
    window: M, in steps.
  """
  names = {op for _, cell in spec.searched for op in cell.ops}
  names.discard("skip_connect")

  def operators(weights: Any) -> dict[str, dict[str, Any]]:
    """The arrays of the operators with weights, by module and operator."""
    found = {
      module: {op: own[op] for op in own if op in names}
      for module, own in weights.items()
      if isinstance(own, Mapping)
    }
    return {module: own for module, own in found.items() if own}

  def begin(weights: Any) -> Matching:
    if not operators(weights):
      raise ValueError(
        "expected a space with operators that have weights, beside skip "
        "connections, for oles to stop; got one without. Give space.operators "
        "a convolution, or take another algo.name"
      )

    def rows(dtype: Any) -> Rows:
      return {
        module: {
          op: jnp.zeros(len(jax.tree.leaves(arrays)[0]), dtype)
          for op, arrays in own.items()
        }
        for module, own in operators(weights).items()
      }

    return Matching(rows(jnp.float32), jnp.int32(0), rows(bool))

  def observe(
    memory: Matching, train: Any, valid: Any
  ) -> tuple[Matching, Any, dict[str, Array]]:
    valid = operators(valid)
    found = {
      module: {op: agreement(own[op], valid[module][op]) for op in own}
      for module, own in operators(train).items()
    }
    sums = jax.tree.map(
      lambda s, c: s + c.astype(s.dtype), memory.cosines, found
    )
    decide = memory.steps + 1 == window
    memory = Matching(
      cosines=jax.tree.map(lambda s: jnp.where(decide, 0, s), sums),
      steps=jnp.where(decide, 0, memory.steps + 1),
      frozen=jax.tree.map(
        lambda f, s: f | (decide & (s / window < threshold)),
        memory.frozen,
        sums,
      ),
    )
    every, stopped = (
      jnp.concatenate(jax.tree.leaves(rows)) for rows in (found, memory.frozen)
    )
    return memory, updated(memory.frozen, train), {
      "gradient_cosine": every.mean(),
      "frozen_operators": stopped.mean(dtype=every.dtype),
    }

  return base.softmax_algorithm(
    spec, estimate or base.estimator("first_order")
  )._replace(stopping=base.Stopping(begin, observe))


def agreement(
  train: Mapping[str, Array], valid: Mapping[str, Array]
) -> Array:
  """The cosine of two gradients of an operator, [edges]; zero without any.

  Args:
    train: of its arrays by name, [edges, ...] each.
    valid: likewise.
  """

  def inner(a: Array, b: Array) -> Array:
    return (a * b).reshape(len(a), -1).sum(-1)

  def cosine(a: Array, b: Array) -> Array:
    norms = jnp.sqrt(inner(a, a)) * jnp.sqrt(inner(b, b))
    return inner(a, b) / jnp.where(norms > 0, norms, 1)

  cosines = [cosine(train[name], valid[name]) for name in train]
  return sum(cosines) / len(cosines)


def updated(frozen: Rows, weights: Any) -> Any:
  """Which weights go on, in arrays that broadcast to them.

  Args:
    frozen: whether an operator has stopped.
    weights: of the network, or whatever has their shapes.
  """
  found = jax.tree.map(lambda _: jnp.bool_(True), weights)
  for module, own in frozen.items():
    for op, rows in own.items():
      found[module][op] = {
        name: ~rows.reshape(-1, *[1] * (array.ndim - 1))
        for name, array in weights[module][op].items()
      }
  return found


def _build(setting: Setting) -> base.Algorithm:
  own = setting.options
  return oles(
    setting.spec, setting.estimate, own["threshold"], own["window"]
  )


def _problems(flat: Fields) -> list[str]:
  found = []
  if flat["algo.hypergrad"] != "first_order":
    found.append(
      "algo.hypergrad: oles needs 'first_order', got "
      f"{flat['algo.hypergrad']!r}"
    )
  if flat["algo.one_level"]:
    found.append(
      "algo.one_level: oles compares gradients of both levels; leave it out"
    )
  return found


_STOPPING = {
  "title": "Early stopping of operators",
  "note": "An operator's weights stop where the gradients of both losses by "
  "them have agreed too little, as a mean over some steps. Where all have "
  "stopped, nothing but the stem, the classifier and what joins cells learns.",
  "figures": [
    {
      "title": "Operators that have stopped",
      "metrics": {"frozen_operators": "share"},
      "form": "{:.0%}",
      "limits": [0, 1],
    },
    {
      "title": "Cosine of the gradients by operators' weights",
      "metrics": {"gradient_cosine": "mean over operators"},
      "form": "{:.2f}",
    },
  ],
}

METHOD = Method(
  "OLES",
  _build,
  {
    "algo.threshold": Option(
      0.4,
      "xi: operators stop whose gradients have agreed less",
      (Limit(lambda v: -1 <= v <= 1, "from -1 to 1"),),
    ),
    "algo.window": Option(
      20,
      "M: steps after which it is decided who stops",
      (Limit(lambda v: 1 <= v <= 10**6, "from 1 to 1,000,000"),),
    ),
  },
  _problems,
  sections=(_STOPPING,),
)
