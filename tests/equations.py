"""Equations of a program, the bodies of its loops and calls included once."""

import collections

import jax


def every(function, *args):
  """All equations of a function's program."""
  pending = [jax.make_jaxpr(function)(*args).jaxpr]
  while pending:
    for equation in pending.pop().eqns:
      yield equation
      for value in equation.params.values():
        for each in value if isinstance(value, (tuple, list)) else (value,):
          inner = getattr(each, "jaxpr", each)
          if hasattr(inner, "eqns"):
            pending.append(inner)


def counted(function, *args):
  """How often each primitive occurs."""
  return collections.Counter(
    equation.primitive.name for equation in every(function, *args)
  )


def of(found, *names):
  """The counts of some of them."""
  return {name: found[name] for name in names}
