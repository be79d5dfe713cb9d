"""PC-DARTS (Xu et al. 2020, "Partial Channel Connections for
Memory-Efficient Architecture Search").

Operators see one K-th of the channels (equation 1), a matter of the spec. The
sampling is that of the published code: always the first C / K channels, and a
shuffle after each edge. What steadies the search against it is edge
normalisation: the edges into a node have a softmax of their own (equation 2),
and an operator's weight is the product of both.
"""

from collections.abc import Callable
import functools

import jax

from jnas import relax
from jnas.algorithms import base
from jnas.hypergrad import Hypergradient
from jnas.spaces import arch as arch_lib
from jnas.spaces.spec import Spec


def pcdarts(
  spec: Spec, estimate: Callable[..., Hypergradient] | None = None
) -> base.Algorithm:
  """PC-DARTS on a spec.

  Args:
    spec: the search network, with K in `spec.partial`.
    estimate: the hypergradient; by default that of the first order.
  """
  searched = dict(spec.searched)
  operators = base.softmax_mixture(spec)

  def init(key: jax.Array, scale: float) -> base.Arch:
    arch = arch_lib.init(key, spec, scale)
    for i, (name, cell) in enumerate(searched.items()):
      own = jax.random.fold_in(key, len(searched) + i)
      drawn = jax.random.normal(own, (len(cell.edges),))
      arch[_logits(name)] = scale * drawn
    return arch

  def mixture(arch: base.Arch) -> base.Weights:
    weights = operators(arch)
    return {
      name: weights[name]
      * relax.edge_norm(
        arch[_logits(name)], [target for _, target in cell.edges]
      )[:, None]
      for name, cell in searched.items()
    }

  return base.Algorithm(
    init=init,
    relax=base.deterministic(mixture),
    mixture=mixture,
    estimate=estimate or base.estimator("first_order"),
    derive=functools.partial(base.genotype_of, spec),
  )


def _logits(name: str) -> str:
  return f"{name}_edges"
