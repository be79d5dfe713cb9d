"""DARTS: Differentiable Architecture Search (Liu, Simonyan & Yang 2019).

The operators of an edge are mixed by a softmax over its logits (equation 2);
weights and logits take turns, the logits on held-out data, by the first-order
hypergradient or through one unrolled step of the weights (equations 6-8). The
derived cell keeps two edges a node and one operator an edge.
"""

from collections.abc import Callable

from jnas.algorithms import base
from jnas.algorithms.method import Method
from jnas.hypergrad import Hypergradient
from jnas.spaces.spec import Spec


def darts(
  spec: Spec, estimate: Callable[..., Hypergradient] | None = None
) -> base.Algorithm:
  """DARTS on a spec.

  Args:
    spec: the search network.
    estimate: the hypergradient; by default that of the first-order variant,
      `base.estimator("unrolled")` for the second-order one.
  """
  return base.softmax_algorithm(
    spec, estimate or base.estimator("first_order")
  )


METHOD = Method(
  "DARTS",
  lambda setting: darts(setting.spec, setting.estimate),
  searches_edges=True,
  recurrent=True,
  published=(
    (
      "DARTS",
      0.543,
      {"algo.hypergrad": "first_order", "train.length": "50 epochs"},
    ),
    (
      "DARTS, second order",
      0.543,
      {"algo.hypergrad": "unrolled", "train.length": "50 epochs"},
    ),
  ),
)
