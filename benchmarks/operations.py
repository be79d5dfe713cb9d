"""What a program has to do, counted from its equations.

XLA counts the body of a loop once, so its numbers are no use where a cell's
edges are a loop. Here a loop counts as often as it runs.
"""

import math
from typing import Any, NamedTuple

from jax.extend import core


class Operations(NamedTuple):
  """What a program does.

  Attributes:
    flop: floating-point operations: two for a multiplication and its addition,
      one for each element that anything else gives.
    bytes: read and written by convolutions, products, pools and sums over
      features; what is between them is taken to be fused.
  """

  flop: float
  bytes: float

  def __add__(self, other: "Operations") -> "Operations":
    return Operations(self.flop + other.flop, self.bytes + other.bytes)


def count(jaxpr: Any) -> Operations:
  """The operations of a jaxpr."""
  total = Operations(0, 0)
  for eqn in jaxpr.eqns:
    inner = [count(body) for body in _bodies(eqn)]
    if eqn.primitive.name == "cond":
      total += max(inner)
    elif inner:
      times = eqn.params.get("length", 1)
      for each in inner:
        total += Operations(times * each.flop, times * each.bytes)
    else:
      total += _one(eqn)
  return total


def _bodies(eqn: Any) -> list[Any]:
  """The jaxprs that an equation runs."""
  found = []
  for value in eqn.params.values():
    for each in value if isinstance(value, tuple | list) else [value]:
      each = each.jaxpr if isinstance(each, core.ClosedJaxpr) else each
      if isinstance(each, core.Jaxpr):
        found.append(each)
  # A reduction's body works on scalars; its operands are what counts.
  return [] if eqn.primitive.name.startswith("reduce") else found


def _one(eqn: Any) -> Operations:
  # A derivative in both arguments is two products (`ops/cpu/trilinear.py`).
  name, along, _ = eqn.primitive.name.partition("_along")
  ins = [v.aval for v in eqn.invars if hasattr(v.aval, "shape")]
  outs = [v.aval for v in eqn.outvars]
  size = sum(_size(a) for a in outs)
  if name == "dot_general":
    ((axes, _), _) = eqn.params["dimension_numbers"]
    flop = 2 * size * math.prod(ins[0].shape[i] for i in axes)
  elif name == "conv_general_dilated":
    numbers = eqn.params["dimension_numbers"]
    flop = 2 * size * _size(ins[1]) // ins[1].shape[numbers.rhs_spec[0]]
  elif name in ("depthwise", "depthwise_back"):
    edges = ins[1].shape[0] / outs[0].shape[0]
    flop = 2 * size * edges * ins[1].shape[1] ** 2
  elif name == "depthwise_kernel":
    flop = 2 * _size(ins[1]) * eqn.params["geometry"].size ** 2
  elif name in ("pointwise", "pointwise_back", "pointwise_kernel"):
    # Of [T, M, C], [T, D, C] and [T, M, D]: T M C D is the root of the product
    # of their sizes over T.
    product = size * _size(ins[0]) * _size(ins[1]) // outs[0].shape[0]
    flop = 2 * math.isqrt(product)
  elif name == "affine_sums":
    flop = 3 * _size(ins[1])
  elif name.startswith("max_pool"):
    flop = 9 * size
  else:
    return Operations(size, 0)
  flop *= 2 if along else 1
  return Operations(flop, sum(_size(a) * a.dtype.itemsize for a in ins + outs))


def _size(aval: Any) -> int:
  return math.prod(getattr(aval, "shape", ()))
