"""What a derivative keeps in memory between its forward and backward pass."""

from collections.abc import Callable
from typing import Any

import jax


def kept_bytes(function: Callable[..., Any], *arguments: Any) -> int:
  """Bytes of the arrays that a function makes and its backward pass reads.

  These are the residuals of `jax.vjp`, each once. What the caller has anyway,
  arguments and constants, is left out. A compiler may keep less, where it
  computes something again, and needs more for what it works on at a time.

  Args:
    function: of arrays, with a derivative in all of them.
    *arguments: arrays, or their shapes and types; trees of them.

  >>> x = jax.ShapeDtypeStruct((3,), "float32")
  >>> kept_bytes(jax.numpy.sin, x)  # the cosine
  12
  """

  def pullback(*arguments: Any) -> Any:
    return jax.vjp(function, *arguments)[1]

  jaxpr = jax.make_jaxpr(pullback)(*arguments).jaxpr
  given = {*map(id, jaxpr.invars), *map(id, jaxpr.constvars)}
  kept = {id(v): v.aval for v in jaxpr.outvars if id(v) not in given}
  return sum(each.size * each.dtype.itemsize for each in kept.values())
