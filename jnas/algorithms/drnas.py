"""DrNAS (Chen et al. 2021, "DrNAS: Dirichlet Neural Architecture Search").

The weights of an edge's operators are a draw from a Dirichlet distribution
(equation 3), whose concentrations beta = elu(alpha) + 1 are learnt through the
draw by its pathwise derivative (section 3.1). A penalty holds beta near one,
where all mixtures are equally likely, so that the search explores (equation 5):

  L(w, beta) + lambda / 2 sum_e ||beta_e - 1||^2

What is derived from, reported and evaluated is the mean of the distribution,
beta / sum beta. One draw a step is shared by the whole batch, by all cells of a
kind and by all devices. The paper's progressive scheme, more channels and fewer
operators half-way, is left out; `space.partial` gives partial channels.

The published code has lambda alpha as the gradient of the penalty (it is Adam's
decay), which is that of the above where alpha is small; it ranks edges by the
softmax of alpha, and puts no normalisation behind pools.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from jnas.algorithms import base
from jnas.algorithms.method import NOT_NEGATIVE, Method, Option
from jnas.hypergrad import Hypergradient
from jnas.spaces.spec import Spec

Array = jax.Array


def drnas(
  spec: Spec,
  estimate: Callable[..., Hypergradient] | None = None,
  anchor: float = 1e-3,
) -> base.Algorithm:
  """DrNAS on a spec.

  Args:
    spec: the search network.
    estimate: the hypergradient; by default that of the first order.
    anchor: lambda, of the distance to the uniform distribution.
  """
  kept = base.masks(spec)

  def mixture(arch: base.Arch, step: Array | int = 0) -> dict[str, Array]:
    del step
    beta = {name: _kept(concentration(arch[name]), kept[name]) for name in kept}
    return {name: b / b.sum(-1, keepdims=True) for name, b in beta.items()}

  def relaxed(arch: base.Arch, key: Array | None, step: Array | int):
    if key is None:
      return mixture(arch, step)
    return {
      name: draw(
        jax.random.fold_in(key, i), concentration(arch[name]), kept[name]
      )
      for i, name in enumerate(kept)
    }

  def penalty(arch: base.Arch, hyper: Mapping[str, Array]) -> Array:
    del hyper
    distances = [
      _kept(jnp.square(concentration(arch[name]) - 1), kept[name]).sum()
      for name in kept
    ]
    return anchor / 2 * sum(distances)

  return base.softmax_algorithm(
    spec, estimate or base.estimator("first_order")
  )._replace(
    relax=relaxed, mixture=mixture, penalty=penalty, stochastic=True
  )


def concentration(alpha: Array) -> Array:
  """beta = elu(alpha) + 1: positive, and one where alpha is zero.

  >>> concentration(jnp.array([0.0, 1.0]))
  Array([1., 2.], dtype=float32)
  """
  return jax.nn.elu(alpha) + 1


def draw(key: Array, beta: Array, mask: Array | None = None) -> Array:
  """A draw from Dirichlet(beta) for each edge, differentiable by beta.

  Gamma variables over their sum; their derivatives are implicit ones (Figurnov
  et al. 2018), which `jax.random` has.

  Args:
    key: typed key.
    beta: [E, O], positive.
    mask: [E, O] of ones and zeros, or None; masked operators are not drawn.
  """
  where = None if mask is None else mask > 0
  # In logarithms: of small concentrations the draws themselves underflow.
  return jax.nn.softmax(jax.random.loggamma(key, beta), -1, where=where)


def _kept(values: Array, mask: Array | None) -> Array:
  return values if mask is None else jnp.where(mask > 0, values, 0)


METHOD = Method(
  "DrNAS",
  lambda setting: drnas(
    setting.spec, setting.estimate, setting.options["anchor"]
  ),
  {
    "algo.anchor": Option(
      1e-3, "lambda, of the distance to the uniform Dirichlet", (NOT_NEGATIVE,)
    )
  },
)
