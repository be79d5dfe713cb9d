"""Hypergradients: estimates of d L_valid(w*(alpha), alpha) / d alpha.

Each function takes two closed losses, `loss(w, alpha) -> scalar`, with batch
and keys inside, and knows nothing of networks. With

  g1 = d_alpha L_valid        v = d_w L_valid
  H  = d2_ww L_train          A = d2_{alpha,w} L_train

the chain rule and the implicit function theorem give g1 - A H^-1 v where w is
optimal for alpha (Amended DARTS, equations 1-4). The estimates differ in what
stands for H^-1:

  first_order    0        (DARTS, first order)
  unrolled       eta I    (DARTS, second order: v taken after a virtual step)
  amended        eta H    (Amended DARTS, equation 5)
  implicit       solved for, by conjugate gradients or a Neumann series

All second-order products are exact, by forward-over-reverse differentiation:
`A u` is the derivative of d_alpha L_train along u, and `H u` that of d_w
L_train. The difference quotients of the papers are kept as `*_difference`.

Where a batch is divided over replicas, `mean` averages a tree over them. The
vectors that enter a product are averaged first, so that the result is that of
the whole batch exactly and not a mean of products of parts.
"""

from collections.abc import Callable
import contextlib
import functools
from typing import Any, NamedTuple

import chex
import jax
from jax import lax
import jax.numpy as jnp

from jnas.solve import add_scaled, norm

Array = jax.Array
Tree = Any
Loss = Callable[[Tree, Tree], Array]
Mean = Callable[[Tree], Tree]
Solve = Callable[[Callable[[Tree], Tree], Tree], Tree]
# (train, w, alpha, v, mean) -> A H v, like alpha.
Products = Callable[[Loss, Tree, Tree, Tree, Mean], Tree]


class Hypergradient(NamedTuple):
  """An estimate and its parts.

  Attributes:
    gradient: like alpha; first + second.
    loss: L_valid, where the gradient was taken.
    first: like alpha; the direct term d_alpha L_valid.
    second: like alpha; the term through w*(alpha). Zeros for first order.
  """

  gradient: Tree
  loss: Array
  first: Tree
  second: Tree


def identity(tree: Tree) -> Tree:
  """The tree itself: the mean over one replica."""
  return tree


def hessian_product(
  train: Loss, w: Tree, alpha: Tree, u: Tree, mean: Mean = identity
) -> Tree:
  """H u = d2_ww L_train . u, like w. u must be the same on every replica."""

  def gradient(w):
    return jax.grad(train)(w, alpha)

  return mean(jax.jvp(gradient, (w,), (u,))[1])


def mixed_product(
  train: Loss, w: Tree, alpha: Tree, u: Tree, mean: Mean = identity
) -> Tree:
  """A u = d2_{alpha,w} L_train . u, like alpha.

  The mixed derivative commutes: it is that of d_alpha L_train along u in w.
  """

  def gradient(w):
    return jax.grad(train, argnums=1)(w, alpha)

  return mean(jax.jvp(gradient, (w,), (u,))[1])


def two_products(
  train: Loss, w: Tree, alpha: Tree, v: Tree, mean: Mean = identity
) -> Tree:
  """A H v, like alpha: one product after the other, each a program part."""
  u = hessian_product(train, w, alpha, v, mean)
  return mixed_product(train, w, alpha, u, mean)


def looped_products(
  train: Loss,
  w: Tree,
  alpha: Tree,
  v: Tree,
  mean: Mean = identity,
  *,
  only_where: Callable[
    [Array], contextlib.AbstractContextManager
  ] = contextlib.nullcontext,
) -> Tree:
  """A H v, like alpha: both products are rounds of one loop, compiled once.

  A round is the derivative of the whole gradient of L_train: along v its part
  by w is H v, and along H v its part by alpha is A H v. What the second round
  would spend on its part by w is not needed.

  Args:
    train: L_train(w, alpha).
    w: weights.
    alpha: architecture parameters.
    v: like w; the same on every replica.
    mean: average over replicas.
    only_where: flag -> a context. What is traced inside may compute gradients
      by w only where the flag is true, if that saves something.
  """

  def round_(u: Tree, whole: Array) -> tuple[Tree, Tree]:
    def gradient(w):
      return jax.grad(train, (0, 1))(w, alpha)

    with only_where(whole):
      return mean(jax.jvp(gradient, (w,), (u,))[1])

  _, mixed = lax.scan(round_, v, jnp.asarray([True, False]))
  return jax.tree.map(lambda x: x[1], mixed)


def known(value: Array, gradient: tuple[Tree, Tree]) -> Loss:
  """A loss of this value and this gradient, by w and by alpha, wherever asked.

  With it a gradient that has been computed already is not computed again.
  """

  @jax.custom_vjp
  def loss(at, value, gradient):
    del at, gradient
    return value

  loss.defvjp(
    lambda at, value, gradient: (value, gradient),
    lambda gradient, by: (jax.tree.map(lambda g: by * g, gradient), None, None),
  )
  return lambda w, alpha: loss((w, alpha), value, gradient)


def weights_gradient(
  loss: Loss, w: Tree, alpha: Tree, mean: Mean = identity
) -> Tree:
  """d_w of a loss, like w."""
  return mean(jax.grad(loss)(w, alpha))


def _valid(
  valid: Loss, w: Tree, alpha: Tree, mean: Mean
) -> tuple[Array, Tree, Tree]:
  """L_valid, d_w L_valid and d_alpha L_valid."""
  loss, (v, first) = jax.value_and_grad(valid, argnums=(0, 1))(w, alpha)
  return mean((loss, v, first))


def _total(loss: Array, first: Tree, second: Tree) -> Hypergradient:
  chex.assert_trees_all_equal_shapes_and_dtypes(first, second)
  chex.assert_rank(loss, 0)
  return Hypergradient(add_scaled(first, 1, second), loss, first, second)


def first_order(
  train: Loss, valid: Loss, w: Tree, alpha: Tree, *, mean: Mean = identity
) -> Hypergradient:
  """d_alpha L_valid(w, alpha): w is taken not to depend on alpha.

  Args:
    train: not used; here for the common signature.
    valid: L_valid(w, alpha).
    w: weights.
    alpha: architecture parameters.
    mean: average over replicas.
  """
  del train
  loss, first = mean(jax.value_and_grad(valid, argnums=1)(w, alpha))
  return _total(loss, first, jax.tree.map(jnp.zeros_like, first))


def amended(
  train: Loss,
  valid: Loss,
  w: Tree,
  alpha: Tree,
  *,
  eta: float | Array,
  mean: Mean = identity,
  products: Products = two_products,
) -> Hypergradient:
  """g1 - eta A H v: Amended DARTS, equation 5, exactly.

  Args:
    train: L_train(w, alpha).
    valid: L_valid(w, alpha).
    w: weights.
    alpha: architecture parameters.
    eta: the amending coefficient; 0.1 in the paper.
    mean: average over replicas.
    products: how A H v is computed.
  """
  loss, v, first = _valid(valid, w, alpha, mean)
  mixed = products(train, w, alpha, v, mean)
  return _total(loss, first, jax.tree.map(lambda x: -eta * x, mixed))


def _after_step(
  train: Loss, valid: Loss, w: Tree, alpha: Tree, virtual: Callable, mean: Mean
) -> tuple[Array, Tree, Tree]:
  """L_valid and d_alpha L_valid at w', and the vector u that A is applied to.

  u is d_w' L_valid pulled back through the step to d_w L_train: -xi d_w'
  L_valid for plain SGD.
  """
  gradient = weights_gradient(train, w, alpha, mean)
  stepped, pull = jax.vjp(functools.partial(virtual, w), gradient)
  loss, v, first = _valid(valid, stepped, alpha, mean)
  return loss, first, pull(v)[0]


def unrolled(
  train: Loss,
  valid: Loss,
  w: Tree,
  alpha: Tree,
  *,
  virtual: Callable[[Tree, Tree], Tree],
  mean: Mean = identity,
) -> Hypergradient:
  """d_alpha L_valid(w'(alpha), alpha), w' = virtual(w, d_w L_train(w, alpha)).

  DARTS, equation 6, for any differentiable virtual step: momentum and weight
  decay (`momentum_step`), or clipping. With plain SGD of learning rate xi the
  second term is -xi A d_w' L_valid(w', alpha), DARTS's equation 7.

  Args:
    train: L_train(w, alpha).
    valid: L_valid(w, alpha).
    w: weights.
    alpha: architecture parameters.
    virtual: (w, gradient) -> w' .
    mean: average over replicas.
  """
  loss, first, u = _after_step(train, valid, w, alpha, virtual, mean)
  return _total(loss, first, mixed_product(train, w, alpha, u, mean))


def momentum_step(
  w: Tree,
  gradient: Tree,
  *,
  buffer: Tree,
  lr: float | Array,
  momentum: float,
  decay: float,
) -> Tree:
  """w - lr * (momentum * buffer + gradient + decay * w): DARTS's virtual step.

  Args:
    w: weights.
    gradient: d_w L_train.
    buffer: the optimizer's momentum buffer, like w.
    lr: learning rate of the step.
    momentum: of SGD.
    decay: of the weights, as an L2 term in the gradient.
  """
  return jax.tree.map(
    lambda p, g, b: p - lr * (momentum * b + g + decay * p), w, gradient, buffer
  )


def implicit(
  train: Loss,
  valid: Loss,
  w: Tree,
  alpha: Tree,
  *,
  solve: Solve,
  mean: Mean = identity,
) -> Hypergradient:
  """g1 - A x with H x = v: equation 4 with an approximate solution.

  Args:
    train: L_train(w, alpha).
    valid: L_valid(w, alpha).
    w: weights.
    alpha: architecture parameters.
    solve: (product with H, v) -> x; one of `jnas.solve`.
    mean: average over replicas.
  """
  loss, v, first = _valid(valid, w, alpha, mean)
  x = solve(lambda u: hessian_product(train, w, alpha, u, mean), v)
  second = mixed_product(train, w, alpha, x, mean)
  return _total(loss, first, jax.tree.map(jnp.negative, second))


def _step(epsilon: float, direction: Tree) -> Array:
  """epsilon / ||direction||; epsilon where there is no direction to step in."""
  length = norm(direction)
  return epsilon / jnp.where(length > 0, length, 1)


def amended_difference(
  train: Loss,
  valid: Loss,
  w: Tree,
  alpha: Tree,
  *,
  eta: float | Array,
  epsilon: float = 0.01,
  mean: Mean = identity,
) -> Hypergradient:
  """The amended hypergradient by the difference quotients of appendix A.4.

  Four gradients: H v over +-epsilon / ||v|| along v (equation 14), then A of
  that over +-1/2 along it. Equation 15 as printed lacks the minus of equation
  5; it is here. Kept for parity: on networks with kinks it is far from exact.

  Args:
    train: L_train(w, alpha).
    valid: L_valid(w, alpha).
    w: weights.
    alpha: architecture parameters.
    eta: the amending coefficient.
    epsilon: the norm of the first perturbation.
    mean: average over replicas.
  """
  loss, v, first = _valid(valid, w, alpha, mean)
  step = _step(epsilon, v)
  up, down = (
    weights_gradient(train, add_scaled(w, s * step, v), alpha, mean)
    for s in (1, -1)
  )
  # Equation 14's difference, undivided: equation 15 divides what it causes.
  difference = add_scaled(up, -1, down)
  up, down = (
    mean(jax.grad(train, argnums=1)(add_scaled(w, s, difference), alpha))
    for s in (0.5, -0.5)
  )
  second = jax.tree.map(
    lambda a, b: -eta * (a - b) / (2 * step), up, down
  )
  return _total(loss, first, second)


def unrolled_difference(
  train: Loss,
  valid: Loss,
  w: Tree,
  alpha: Tree,
  *,
  virtual: Callable[[Tree, Tree], Tree],
  epsilon: float = 0.01,
  mean: Mean = identity,
) -> Hypergradient:
  """DARTS's second order by its difference quotient (equation 8).

  A u is the central difference of d_alpha L_train over +-epsilon / ||u||
  around the original w.

  Args:
    train: L_train(w, alpha).
    valid: L_valid(w, alpha).
    w: weights.
    alpha: architecture parameters.
    virtual: (w, gradient) -> w' .
    epsilon: the norm of the perturbation.
    mean: average over replicas.
  """
  loss, first, u = _after_step(train, valid, w, alpha, virtual, mean)
  step = _step(epsilon, u)
  up, down = (
    mean(jax.grad(train, argnums=1)(add_scaled(w, s * step, u), alpha))
    for s in (1, -1)
  )
  second = jax.tree.map(lambda a, b: (a - b) / (2 * step), up, down)
  return _total(loss, first, second)
