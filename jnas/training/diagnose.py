"""The paper's claim, measured: how well an estimate agrees with the truth.

Amended DARTS argues that its second-order term keeps an angle below 90 degrees
with the true one, -A H^-1 v, while DARTS's does not. The true term is not
known, but a few conjugate gradients on (H + damping I) x = v come as close as
one likes.
"""

from collections.abc import Callable
from typing import Any

from jnas import hypergrad, solve
from jnas.training.state import State


def implicit_cosine(
  estimate: Callable[..., hypergrad.Hypergradient],
  closed: Callable[..., tuple[hypergrad.Loss, hypergrad.Loss]],
  virtual: Callable[[State], Callable[[Any, Any], Any]],
  *,
  mean: hypergrad.Mean,
  compile: Callable[[Callable[..., Any], int], Callable[..., Any]],
  steps: int,
  damping: float,
) -> Callable[..., float]:
  """A function (state, train, valid) -> cosine of the two second-order terms.

  The solver runs on the host around one compiled product with the Hessian, so
  that its length costs no compile time.

  Args:
    estimate: the hypergradient whose second term is measured.
    closed: (state, train, valid) -> the two losses, all draws closed over.
    virtual: state -> the weights' next step (w, gradient) -> w'.
    mean: over replicas.
    compile: (function, number of arguments) -> compiled function.
    steps: of the conjugate gradients.
    damping: added to the Hessian's diagonal.
  """

  def begin(state, train, valid):
    loss, held_out = closed(state, train, valid)
    args = (loss, held_out, state.weights, state.arch)
    second = estimate(*args, virtual(state), mean).second
    return second, hypergrad.weights_gradient(
      held_out, state.weights, state.arch, mean
    )

  def product(state, train, valid, u):
    loss, _ = closed(state, train, valid)
    return hypergrad.hessian_product(loss, state.weights, state.arch, u, mean)

  def mixed(state, train, valid, u):
    loss, _ = closed(state, train, valid)
    return hypergrad.mixed_product(loss, state.weights, state.arch, u, mean)

  begin, product = compile(begin, 3), compile(product, 4)
  mixed = compile(mixed, 4)

  def measure(state: State, *splits: Any) -> float:
    second, v = begin(state, *splits)
    x = solve.conjugate_gradients(
      lambda u: product(state, *splits, u),
      v,
      steps=steps,
      damping=damping,
      unroll=True,
    )
    implicit = mixed(state, *splits, x)
    # Both terms carry a minus, the product here does not.
    return -float(solve.cosine(second, implicit))

  return measure
