"""Gradients of kernels that are left out while a program runs.

A loop whose rounds need different parts of one derivative is one program and
computes all of them in each round. What is traced inside `only_where(flag)`
computes the gradients of convolutions' kernels, the dearest part, only where
the flag is true; elsewhere they are zeros. So nothing else that is
differentiated there may reach a kernel: architecture parameters enter through
factors and normalisations, which are never left out.
"""

from collections.abc import Iterator
import contextlib
import contextvars

import jax

Array = jax.Array
_FLAG = contextvars.ContextVar("kernel_gradients", default=())


@contextlib.contextmanager
def only_where(flag: Array) -> Iterator[None]:
  """Leaves out kernels' gradients where not `flag` in what is traced here.

  Args:
    flag: a scalar, bool.
  """
  token = _FLAG.set((flag,))
  try:
    yield
  finally:
    _FLAG.reset(token)


def flags() -> tuple[Array, ...]:
  """The innermost flag, or nothing: all gradients are computed."""
  return _FLAG.get()
