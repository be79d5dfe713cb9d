"""Amended DARTS (Bi et al., "Stabilizing DARTS with Amended Gradient
Estimation on Architectural Parameters").

The relaxation and the derivation are DARTS's. What differs is the
hypergradient: the term through w*(alpha) has H in place of H^-1 (equation 5),
so that its angle with the true term is below 90 degrees, and searches can run
until they converge without collapsing to skip connections. The rest of the
paper's method, the same hyper-parameters in search and retraining (cutout,
drop path, auxiliary loss), is a matter of configuration.
"""

from collections.abc import Callable
import functools

from jnas.algorithms import base
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
  return base.Algorithm(
    relax=base.softmax_relaxation(spec),
    estimate=estimate or base.estimator("amended", eta=0.1),
    derive=functools.partial(base.darts_genotype, spec),
  )
