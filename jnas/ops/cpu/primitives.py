"""Functions whose derivatives we state ourselves, and where loops end.

JAX differentiates slices, maxima and reductions one by one; where the sum of
those parts is a known operation with a fast form, it becomes a primitive here
and its file states the rules with `jax.interpreters.ad`.

XLA on CPU fuses without regard to what that costs: a window of 25 products
into the sum of another operator, where it is computed once for each user. A
computation that is called and not inlined keeps its loops to itself, so most
primitives are such calls.
"""

from collections.abc import Callable, Sequence
import functools
import inspect
from typing import Any

import jax
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
import jax.numpy as jnp

Array = jax.Array

# Of `sums`: pixels that are added first, additions that LLVM still unrolls, and
# channels that the library adds at once.
_BLOCK = 8
_UNROLLED = 80
_LANES = 16


def primitive(
  name: str,
  rule: Callable[..., Array],
  shape: Callable[..., tuple[tuple[int, ...], Any]],
  before: Callable[..., tuple[Array, ...]] | None = None,
  *,
  no_inline: Callable[..., bool] = lambda **_: True,
  may_skip: bool = False,
) -> Primitive:
  """A primitive that computes `rule`, as yet without derivatives.

  Args:
    name: as it appears in a jaxpr.
    rule: of arrays and static keywords; gives one array.
    shape: of the same with abstract arrays; gives shape and dtype.
    before: of the same; gives the arrays that `rule` takes in their place. It
      is computed with what surrounds it, so once for all that need the same.
    no_inline: of the static keywords: whether it is a call whose loops are not
      fused with others.
    may_skip: whether `rule` is not computed, and gives zeros, where a scalar
      bool that may follow the arrays is false. It may follow those of any
      primitive.
  """
  new = Primitive(name)
  parameters = inspect.signature(rule).parameters.values()
  static = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
  arity = len(parameters) - len(static)
  # In a program the rule is traced once for each shape.
  computed = jax.jit(rule, static_argnames=static)

  def prepared(args: Sequence[Array], params: Any) -> Sequence[Array]:
    args = args[:arity]
    return before(*args, **params) if before else args

  def whole(*args: Array, **params: Any) -> Array:
    return computed(*prepared(args, params), **params)

  def call(*args: Array, **params: Any) -> Array:
    ready = prepared(args, params)

    def alone() -> Array:
      with set_xla_metadata(inlineable="false"):
        return computed(*ready, **params)

    if not no_inline(**params):
      return computed(*ready, **params)
    if not (may_skip and args[arity:]):
      return alone()
    zeros = functools.partial(jnp.zeros, *shape(*args[:arity], **params))
    return lax.cond(args[arity], alone, zeros)

  def abstract(*args: Any, **params: Any) -> jax.core.ShapedArray:
    return jax.core.ShapedArray(*shape(*args[:arity], **params))

  new.def_impl(jax.jit(whole, static_argnames=static))
  new.def_abstract_eval(abstract)
  mlir.register_lowering(new, mlir.lower_fun(call, multiple_results=False))
  batching.primitive_batchers[new] = _one_by_one(new)
  return new


def is_symbolic_zero(tangent: Any) -> bool:
  """Whether a tangent or cotangent stands for zeros that are no array."""
  return type(tangent) is ad.Zero


def _one_by_one(primitive: Primitive) -> Callable[..., tuple[Array, int]]:
  """The rule of `jax.vmap`: a loop, since nothing in a search maps these."""

  def batch(args: Sequence[Array], axes: Sequence[Any], **params: Any):
    mapped = [axis is not None for axis in axes]
    rows = tuple(
      jnp.moveaxis(arg, axis, 0)
      for arg, axis in zip(args, axes, strict=True)
      if axis is not None
    )

    def one(row: tuple[Array, ...]) -> Array:
      rest = iter(row)
      return primitive.bind(
        *(
          next(rest) if each else arg
          for arg, each in zip(args, mapped, strict=True)
        ),
        **params,
      )

    return lax.map(one, rows), 0

  return batch


def fusion_barrier(x: Array) -> Array:
  """x, computed before what uses it and not in the same loop."""
  return _barrier.bind(x)


_barrier = primitive(
  "fusion_barrier", lambda x: x, lambda x: (x.shape, x.dtype)
)
ad.deflinear2(_barrier, lambda ct, x: (_barrier.bind(ct),))


def sums(terms: Sequence[Array]) -> list[Array]:
  """The sums over examples and pixels of several arrays: [T, C] of each.

  First over blocks of a row's pixels, a few arrays in one pass. LLVM unrolls a
  block, and then the channels are the lanes of its vectors; one reduction over
  everything adds one number at a time. What is left is small, and the library
  has reductions for it that take many channels at once.

  Args:
    terms: [T, N, H, W, C] each. They are added up in float32, or in float64
      where they are that.
  """
  t, n, h, w, c = terms[0].shape
  kind = jnp.promote_types(terms[0].dtype, jnp.float32)
  divisors = [b for b in range(2, w + 1) if w % b == 0]
  block = min(divisors, key=lambda b: abs(b - _BLOCK), default=1)
  blocks = [
    term.astype(kind).reshape(t, n, h, w // block, block, c) for term in terms
  ]
  few = max(1, _UNROLLED // block)
  parts = [
    part
    for i in range(0, len(blocks), few)
    for part in _reduced(blocks[i : i + few], (4,))
  ]
  if c < _LANES:
    return list(_reduced(parts, (1, 2, 3)))
  return [part.sum((1, 2, 3)) for part in parts]


def _reduced(terms: Sequence[Array], axes: tuple[int, ...]) -> list[Array]:
  """The sums of several arrays, in one pass over all of them."""
  zero = jnp.zeros((), terms[0].dtype)
  return lax.reduce(
    tuple(terms),
    (zero,) * len(terms),
    lambda a, b: tuple(u + v for u, v in zip(a, b, strict=True)),
    axes,
  )
