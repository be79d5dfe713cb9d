"""Vectors that are pytrees, and approximate solutions of H x = b."""

from collections.abc import Callable
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp

Array = jax.Array
Tree = Any


def add_scaled(a: Tree, scale: float | Array, b: Tree) -> Tree:
  """a + scale * b, leaf by leaf."""
  return jax.tree.map(lambda x, y: x + scale * y, a, b)


def dot(a: Tree, b: Tree) -> Array:
  """The inner product of two trees."""
  return sum(jnp.vdot(x, y) for x, y in zip(
    jax.tree.leaves(a), jax.tree.leaves(b), strict=True
  ))


def norm(tree: Tree) -> Array:
  """The Euclidean norm of all leaves taken as one vector."""
  return jnp.sqrt(dot(tree, tree))


def cosine(a: Tree, b: Tree) -> Array:
  """The cosine of the angle between two trees; zero where one of them is."""
  scale = norm(a) * norm(b)
  return jnp.where(scale > 0, dot(a, b) / jnp.where(scale > 0, scale, 1.0), 0.0)


def conjugate_gradients(
  product: Callable[[Tree], Tree],
  b: Tree,
  *,
  steps: int,
  damping: float = 0.0,
  unroll: bool = False,
) -> Tree:
  """x with (H + damping I) x = b, by at most `steps` conjugate gradients.

  A network's Hessian need not be positive definite. At a direction of
  non-positive curvature, or when the residual vanishes, the iterate stays as
  it is (Steihaug's truncation), so the result always has x . b >= 0.

  Args:
    product: u -> H u.
    b: right-hand side.
    steps: number of products with H.
    damping: added to the diagonal.
    unroll: whether to write the iterations out, as they must be where the
      product is a compiled program of its own. A loop compiles faster.
  """
  # The residual is never below its own rounding error; iterating on noise
  # would divide by it.
  floor = jnp.finfo(jax.tree.leaves(b)[0].dtype).eps ** 2 * dot(b, b)

  def iterate(_, carry):
    x, r, p, rr, active = carry
    hp = add_scaled(product(p), damping, p)
    curvature = dot(p, hp)
    active = active & (curvature > 0) & (rr > floor)
    step = jnp.where(active, rr / jnp.where(active, curvature, 1.0), 0.0)
    x, r = add_scaled(x, step, p), add_scaled(r, -step, hp)
    rr_new = dot(r, r)
    ratio = jnp.where(active, rr_new / jnp.where(active, rr, 1.0), 0.0)
    return x, r, add_scaled(r, ratio, p), rr_new, active

  start = (jax.tree.map(jnp.zeros_like, b), b, b, dot(b, b), jnp.bool_(True))
  return _iterate(steps, iterate, start, unroll)[0]


def neumann(
  product: Callable[[Tree], Tree],
  b: Tree,
  *,
  steps: int,
  scale: float,
  damping: float = 0.0,
  unroll: bool = False,
) -> Tree:
  """scale * sum_{k <= steps} (I - scale (H + damping I))^k b.

  The truncated Neumann series of (H + damping I)^-1 b, which converges where
  every eigenvalue lies in (0, 2 / scale) (Lorraine et al. 2020).

  Args:
    product: u -> H u.
    b: right-hand side.
    steps: number of products with H; zero gives scale * b.
    scale: the step of the series.
    damping: added to the diagonal.
    unroll: as for `conjugate_gradients`.
  """

  def iterate(_, carry):
    total, term = carry
    h = add_scaled(product(term), damping, term)
    term = add_scaled(term, -scale, h)
    return add_scaled(total, 1, term), term

  total, _ = _iterate(steps, iterate, (b, b), unroll)
  return jax.tree.map(lambda x: scale * x, total)


def _iterate(steps: int, body: Callable, carry: Tree, unroll: bool) -> Tree:
  if not unroll:
    return lax.fori_loop(0, steps, body, carry)
  for i in range(steps):
    carry = body(i, carry)
  return carry
