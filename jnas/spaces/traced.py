"""Multiply-adds of any function of arrays, counted in its program."""

from collections.abc import Callable
import math
from typing import Any

import jax
from jax.extend import core


def macs(function: Callable[..., Any], *arguments: Any) -> int:
  """Multiply-adds of the convolutions and products of matrices of a function.

  A kernel counts whole at the borders of an image, and of branches the largest.

  Args:
    function: of arrays, in terms of `jax.lax`.
    *arguments: arrays, or their shapes and types; trees of them.

  Raises:
    ValueError: there are some in a loop whose length is not known.

  >>> x = jax.ShapeDtypeStruct((2, 3), "float32")
  >>> macs(lambda x: x @ x.T, x)
  12
  """
  return _macs(jax.make_jaxpr(function)(*arguments).jaxpr)


def _macs(jaxpr: core.Jaxpr) -> int:
  return sum(map(_of_equation, jaxpr.eqns))


def _of_equation(equation: core.JaxprEqn) -> int:
  name, params = equation.primitive.name, equation.params
  shapes = [each.aval.shape for each in equation.invars]
  if name in ("conv_general_dilated", "dot_general"):
    made, numbers = equation.outvars[0].aval.size, params["dimension_numbers"]
    if name == "dot_general":
      ((summed, _), _) = numbers
      return made * math.prod(shapes[0][axis] for axis in summed)
    return made * math.prod(shapes[1]) // shapes[1][numbers.rhs_spec[0]]
  inner = [
    _macs(getattr(each, "jaxpr", each))
    for each in jax.tree.leaves(list(params.values()))
    if isinstance(each, core.Jaxpr | core.ClosedJaxpr)
  ]
  if name == "cond":
    return max(inner)
  if name == "while" and any(inner):
    raise ValueError(
      "multiply-adds: expected a network whose loops have a length, such as "
      "jax.lax.scan, got convolutions or products in a while loop; give them "
      "as flops of its jnas.spaces.space.Space"
    )
  return params.get("length", 1) * sum(inner) if name == "scan" else sum(inner)
