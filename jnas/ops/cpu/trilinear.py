"""Trilinear forms F(x, k, g), and all derivatives of their three parts.

A convolution is d_g F, what carries a gradient back to its features d_x F, and
the gradient of its kernel d_k F. Each part is bilinear in the two arguments
that are left, and its derivatives are the other two, so that differentiation
of any order and mode ends in three functions, and each can be fast.

The derivative of a part along a direction in both arguments is the sum of two
products, F(da, b) + F(a, db). It is one primitive, so one loop that writes once
what would else be two arrays and their sum; second derivatives are made of it.
"""

from collections.abc import Callable
import inspect
from typing import Any, NamedTuple

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad

from jnas.ops.cpu import primitives
from jnas.ops.cpu.primitives import is_symbolic_zero

Array = jax.Array
Product = Callable[..., Array]


class Part(NamedTuple):
  """One of the derivatives: what `primitives.primitive` takes.

  All three parts of a form have the same static keywords. One scalar more may
  follow the arrays of each (`may_skip` there); where it is false the gradient
  of the kernel is not computed.
  """

  rule: Callable[..., Array]
  shape: Callable[..., tuple[tuple[int, ...], Any]]
  before: Callable[..., tuple[Array, ...]] | None = None
  no_inline: Callable[..., bool] = lambda **_: True


class Form(NamedTuple):
  """The parts as primitives, of two arrays each.

  Attributes:
    forward: of x and k, like g.
    back: of g and k, like x.
    kernel: of x and g, like k.
  """

  forward: Primitive
  back: Primitive
  kernel: Primitive


def form(name: str, forward: Part, back: Part, kernel: Part) -> Form:
  """The primitives of a trilinear form, with their derivatives."""
  parts = Form(
    _primitive(name, forward),
    _primitive(f"{name}_back", back),
    _primitive(f"{name}_kernel", kernel, may_skip=True),
  )
  f, b, k = (part.bind for part in parts)
  _differentiate(parts.forward, forward, b, k)
  _differentiate(parts.back, back, f, _swapped(k))
  _differentiate(parts.kernel, kernel, _swapped(b), f, may_skip=True)
  return parts


def _swapped(product: Product) -> Product:
  return lambda a, b, *flag, **params: product(b, a, *flag, **params)


def _primitive(name: str, part: Part, *, may_skip: bool = False) -> Primitive:
  rule, shape, before, no_inline = part
  return primitives.primitive(
    name, rule, shape, before, no_inline=no_inline, may_skip=may_skip
  )


def _along(part: Part) -> Part:
  """(a, b, da, db) -> F(da, b) + F(a, db)."""

  def rule(a, b, da, db, **params):
    return part.rule(da, b, **params) + part.rule(a, db, **params)

  kept = inspect.signature(part.rule).parameters.values()
  named = inspect.signature(rule).parameters.values()
  rule.__signature__ = inspect.Signature(
    [p for p in named if p.kind is p.POSITIONAL_OR_KEYWORD]
    + [p for p in kept if p.kind is p.KEYWORD_ONLY]
  )

  def shape(a, b, da, db, **params):
    del da, db
    return part.shape(a, b, **params)

  def before(a, b, da, db, **params):
    return (
      *part.before(a, b, **params),
      *part.before(da, db, **params),
    )

  return Part(rule, shape, part.before and before, part.no_inline)


def _differentiate(
  primitive: Primitive,
  part: Part,
  first: Product,
  second: Product,
  *,
  may_skip: bool = False,
) -> None:
  """States all derivatives of a part.

  Args:
    primitive: the part.
    part: what it was made of.
    first: (cotangent, b) -> the cotangent of a.
    second: (a, cotangent) -> that of b.
    may_skip: of `primitives.primitive`.
  """
  both = _primitive(f"{primitive.name}_along", _along(part), may_skip=may_skip)

  def along(a, b, da, db, flag, params):
    """F(da, b) + F(a, db), or None where neither is there."""
    left = not (is_symbolic_zero(da) or is_symbolic_zero(b))
    right = not (is_symbolic_zero(a) or is_symbolic_zero(db))
    if left and right:
      return both.bind(a, b, da, db, *flag, **params)
    if left:
      return primitive.bind(da, b, *flag, **params)
    return primitive.bind(a, db, *flag, **params) if right else None

  def jvp(primals, tangents, **params):
    y = primitive.bind(*primals, **params)
    a, b, *flag = primals
    dy = along(a, b, *tangents[:2], flag, params)
    return y, ad.Zero.from_primal_value(y) if dy is None else dy

  def both_jvp(primals, tangents, **params):
    a, b, da, db, *flag = primals
    ta, tb, tda, tdb = tangents[:4]
    y = both.bind(*primals, **params)
    parts = (
      along(da, b, tda, tb, flag, params), along(a, db, ta, tdb, flag, params)
    )
    dy = [part for part in parts if part is not None]
    return y, sum(dy[1:], dy[0]) if dy else ad.Zero.from_primal_value(y)

  def transpose(ct, a, b, *flag, **params):
    rest = [None] * len(flag)
    if ad.is_undefined_primal(a):
      return first(ct, b, *flag, **params), None, *rest
    return None, second(a, ct, *flag, **params), *rest

  def both_transpose(ct, a, b, da, db, *flag, **params):
    by_a, by_b = ad.is_undefined_primal(da), ad.is_undefined_primal(db)
    return (
      None,
      None,
      first(ct, b, *flag, **params) if by_a else None,
      second(a, ct, *flag, **params) if by_b else None,
      *[None] * len(flag),
    )

  ad.primitive_jvps[primitive] = jvp
  ad.primitive_jvps[both] = both_jvp
  ad.primitive_transposes[primitive] = transpose
  ad.primitive_transposes[both] = both_transpose
