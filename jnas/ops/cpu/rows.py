"""Rows of a stack that a loop carries: to read one, and to add to one.

The two maps are each other's transposes,

  take: s -> (s_i, s)        add: (s, y) -> s + e_i y,

so that the gradient of a loop which reads rows and adds to rows does the same
to the stack of their gradients, in place. What JAX makes of an indexed read is
a whole stack of zeros with one row in it, added to another whole stack.
"""

from typing import Any

import jax
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
import jax.numpy as jnp

from jnas.ops.cpu import primitives
from jnas.ops.cpu.primitives import is_symbolic_zero

Array = jax.Array


def take(stack: Array, i: Array) -> tuple[Array, Array]:
  """Row i and the stack, which is to be used from here on in its place.

  Args:
    stack: [R, ...].
    i: a row.
  """
  row, stack = _take.bind(stack, i)
  return row, stack


def add(stack: Array, i: Array, y: Array) -> Array:
  """The stack with y added to row i.

  Args:
    stack: [R, ...].
    i: a row.
    y: like a row.
  """
  return _add.bind(stack, i, y)


# Read on its own: left to itself XLA on CPU reads the row again in all that
# uses it, and, as the stack is written to meanwhile, from a copy of all rows.
_row = primitives.primitive(
  "row",
  lambda stack, i: lax.dynamic_index_in_dim(stack, i, keepdims=False),
  lambda stack, i: (stack.shape[1:], stack.dtype),
)


def _take_rule(stack: Array, i: Array) -> list[Array]:
  return [_row.bind(stack, i), stack]


def _add_rule(stack: Array, i: Array, y: Array) -> Array:
  y = y + lax.dynamic_index_in_dim(stack, i, keepdims=False)
  return lax.dynamic_update_index_in_dim(stack, y, i, 0)


def _aval(x: Any, shape: tuple[int, ...]) -> jax.core.ShapedArray:
  return jax.core.ShapedArray(shape, x.dtype)


_take = Primitive("take_row")
_take.multiple_results = True
_take.def_abstract_eval(
  lambda s, i: [_aval(s, s.shape[1:]), _aval(s, s.shape)]
)
_add = Primitive("add_row")
_add.def_abstract_eval(lambda s, i, y: _aval(s, s.shape))
for _primitive, _rule in ((_take, _take_rule), (_add, _add_rule)):
  _primitive.def_impl(_rule)
  mlir.register_lowering(
    _primitive,
    mlir.lower_fun(_rule, multiple_results=_primitive.multiple_results),
  )


def _mapped(rule: Any, out_axes: Any) -> Any:
  """The rule of `jax.vmap`."""

  def batch(args: Any, axes: Any) -> Any:
    return jax.vmap(rule, axes)(*args), out_axes

  return batch


batching.primitive_batchers[_take] = _mapped(_take_rule, [0, 0])
batching.primitive_batchers[_add] = _mapped(_add_rule, 0)


def _take_jvp(primals: Any, tangents: Any) -> Any:
  (stack, i), (moved, _) = primals, tangents
  found = _take.bind(stack, i)
  if is_symbolic_zero(moved):
    return found, [ad.Zero.from_primal_value(y) for y in found]
  return found, _take.bind(moved, i)


def _add_jvp(primals: Any, tangents: Any) -> Any:
  (stack, i, y), (moved, _, dy) = primals, tangents
  found = _add.bind(stack, i, y)
  if is_symbolic_zero(dy):
    return found, moved
  if is_symbolic_zero(moved):
    moved = jnp.zeros_like(stack)
  return found, _add.bind(moved, i, dy)


def _take_transpose(cotangents: Any, stack: Any, i: Array) -> Any:
  row, whole = cotangents
  if is_symbolic_zero(row):
    return whole, None
  if is_symbolic_zero(whole):
    whole = jnp.zeros(stack.aval.shape, stack.aval.dtype)
  return _add.bind(whole, i, row), None


def _add_transpose(cotangent: Any, stack: Any, i: Array, y: Any) -> Any:
  if is_symbolic_zero(cotangent):
    return None, None, None
  row, whole = _take.bind(cotangent, i)
  return (
    whole if ad.is_undefined_primal(stack) else None,
    None,
    row if ad.is_undefined_primal(y) else None,
  )


ad.primitive_jvps[_take] = _take_jvp
ad.primitive_jvps[_add] = _add_jvp
ad.primitive_transposes[_take] = _take_transpose
ad.primitive_transposes[_add] = _add_transpose
