"""Amended DARTS (Bi et al., "Stabilizing DARTS with Amended Gradient
Estimation on Architectural Parameters").

The relaxation and the derivation are DARTS's. What differs is the
hypergradient: the term through w*(alpha) has H in place of H^-1 (equation 5),
so that its angle with the true term is below 90 degrees, and searches can run
until they converge without collapsing to skip connections. Edges may be
searched before operators (appendix B.2, `jnas.algorithms.edges`). The rest of
the paper's method, the same hyper-parameters in search and retraining (cutout,
drop path, auxiliary loss), is a matter of configuration.
"""

from collections.abc import Callable

from jnas.algorithms import base
from jnas.algorithms.method import Method
from jnas.hypergrad import Hypergradient
from jnas.spaces.spec import Spec


def amended(
  spec: Spec, estimate: Callable[..., Hypergradient] | None = None
) -> base.Algorithm:
  """Amended DARTS on a spec.

  Args:
    spec: the search network.
    estimate: the hypergradient; by default equation 5 with the paper's
      amending coefficient, eta = 0.1.
  """
  return base.softmax_algorithm(
    spec, estimate or base.estimator("amended", eta=0.1)
  )


METHOD = Method(
  "Amended DARTS",
  lambda setting: amended(setting.spec, setting.estimate),
  searches_edges=True,
  recurrent=True,
)
