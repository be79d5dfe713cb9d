"""Stopping cleanly when the machine or the user asks."""

from collections.abc import Iterator
import contextlib
import os
import signal
from types import FrameType
from typing import Any

TERMINATED = 143  # what a shell reports of a process that SIGTERM ended

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def _exit(number: int, frame: FrameType | None) -> None:
  signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends at once
  # Not print: what it writes to may be in the middle of something.
  os.write(2, b"stopped by SIGTERM; there is nothing to save\n")
  raise SystemExit(TERMINATED)


@contextlib.contextmanager
def exit_on_sigterm() -> Iterator[None]:
  """Makes SIGTERM raise SystemExit(143), so that everything is tidied up.

  Outside the main thread, where Python allows no handlers, it does nothing.
  """
  try:
    previous = signal.signal(signal.SIGTERM, _exit)
  except ValueError:
    yield
    return
  try:
    yield
  finally:
    # None: a handler that was not set from Python; it cannot be put back.
    signal.signal(signal.SIGTERM, previous or signal.SIG_DFL)


class Stop:
  """A flag that SIGTERM or Ctrl-C raises, for the loop to read.

  with Stop() as stop:
    while not stop.requested: ...

  The first signal sets `requested` and gives the signals back to whoever had
  them, so a second one ends a program that hangs.  The handlers are back in
  place on leaving.  Outside the main thread Python allows no handlers, and
  the flag stays down.
  """

  def __init__(self) -> None:
    self.requested = False
    self.name: str | None = None
    self._previous: dict[signal.Signals, Any] = {}

  def _handle(self, number: int, frame: FrameType | None) -> None:
    self.requested = True
    self.name = signal.Signals(number).name
    self._restore()

  def _restore(self) -> None:
    while self._previous:
      number, handler = self._previous.popitem()
      if handler is _exit and self.requested:
        handler = signal.SIG_DFL  # a program that hangs would not hear it
      # None: a handler that was not set from Python; it cannot be put back.
      signal.signal(number, signal.SIG_DFL if handler is None else handler)

  def __enter__(self) -> "Stop":
    try:
      for number in _SIGNALS:
        self._previous[number] = signal.signal(number, self._handle)
    except ValueError:  # not in the main thread
      self._previous.clear()
    return self

  def __exit__(self, *exception: object) -> None:
    self._restore()
