"""Programs that a thread compiles, while others run."""

from collections.abc import Callable
from concurrent.futures import Future
import contextlib
import os
import sys
import threading
from typing import Any

from jnas.runtime import hosts

_NAME = "compiles ahead"
# Settings of JAX that a thread does not inherit, and that numbers depend on.
_SETTINGS = ("enable_x64", "default_matmul_precision", "default_prng_impl")


def start(build: Callable[[], Any]) -> Future:
  """Returns what a thread will have built, or the error that it met.

  Of several processes each builds for itself: nothing may be sent meanwhile.
  """
  import jax

  found: Future = Future()
  settings = {name: getattr(jax.config, f"jax_{name}") for name in _SETTINGS}

  def work() -> None:
    try:
      with contextlib.ExitStack() as stack:
        for name, value in settings.items():
          stack.enter_context(getattr(jax, name)(value))
        found.set_result(build())
    except BaseException as error:  # told to who asks for the result
      found.set_exception(error)

  # No daemon: one that is in the compiler when Python ends aborts the process.
  threading.Thread(target=work, name=_NAME).start()
  return found


def leave(status: int) -> None:
  """Ends this process, if it would wait for what nobody needs any more.

  A compiler cannot be interrupted. All that is to be written has been.
  """
  if all(thread.name != _NAME for thread in threading.enumerate()):
    return
  if hosts.several():
    import jax

    jax.distributed.shutdown()  # the others would take it for lost
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)
