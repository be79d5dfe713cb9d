"""FairDARTS (Chu et al. 2020) as an algorithm of one's own, outside of jnas.

  python -m jnas.main --config=configs/darts.py:quick \
      --config.algo.name=examples.fair_darts:fair_darts --config.algo.w01=5

Operators have independent sigmoids in place of a softmax (section 3.3), so that
a skip connection takes nothing away from the others, and the zero-one loss

  L_01 = -w01 / N sum_i (sigma(alpha_i) - 0.5)^2        (equation 4)

drives each weight to zero or one, so that little is lost when the others are
left out. The derivation is DARTS's: two edges a node, by their strongest
operator. (The paper keeps up to two above a threshold.)

The keyword-only arguments become fields of the configuration: algo.w01.
"""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp

from jnas import relax
from jnas.algorithms import base
from jnas.hypergrad import Hypergradient
from jnas.spaces.spec import Spec


def fair_darts(
  spec: Spec, estimate: Callable[..., Hypergradient], *, w01: float = 10.0
) -> base.Algorithm:
  """FairDARTS on a spec.

  Args:
    spec: the search network.
    estimate: the hypergradient.
    w01: weight of the zero-one loss.
  """
  masks = base.masks(spec)

  def mixture(arch: base.Arch, step: jax.Array | int = 0) -> base.Weights:
    del step
    return {
      name: relax.sigmoid(arch[name], mask) for name, mask in masks.items()
    }

  def zero_one(arch: base.Arch, hyper: base.Weights) -> jax.Array:
    del hyper
    weights = jnp.concatenate([w.ravel() for w in mixture(arch).values()])
    return -w01 * jnp.mean((weights - 0.5) ** 2)

  return base.Algorithm(
    init=base.logits(spec),
    relax=base.deterministic(mixture),
    mixture=mixture,
    estimate=estimate,
    derive=functools.partial(base.genotype_of, spec),
    penalty=zero_one,
  )
