"""PC-DARTS (Xu et al. 2020, "Partial Channel Connections for
Memory-Efficient Architecture Search").

Operators see one K-th of the channels (equation 1), a matter of the spec. The
sampling is that of the published code: always the first C / K channels, and a
shuffle after each edge. What steadies the search against it is edge
normalisation: the edges into a node have a softmax of their own (equation 2),
and an operator's weight is the product of both.
"""

from collections.abc import Callable

from jnas import relax
from jnas.algorithms import base
from jnas.algorithms.method import Method
from jnas.hypergrad import Hypergradient
from jnas.spaces.spec import Spec


def pcdarts(
  spec: Spec, estimate: Callable[..., Hypergradient] | None = None
) -> base.Algorithm:
  """PC-DARTS on a spec.

  Args:
    spec: the search network, with K in `spec.partial`.
    estimate: the hypergradient; by default that of the first order.
  """
  return base.weighted_edges(
    spec,
    estimate or base.estimator("first_order"),
    count=lambda cell: len(cell.edges),
    factor=lambda beta, cell: relax.edge_norm(
      beta, [target for _, target in cell.edges]
    ),
  )


METHOD = Method(
  "PC-DARTS", lambda setting: pcdarts(setting.spec, setting.estimate)
)
