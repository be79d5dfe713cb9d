"""A bar for who calls from Python: in a notebook, or on a terminal."""

from collections.abc import Mapping
import html
import sys
from typing import Any

from jnas.runtime import progress


class Bar:
  """Shows how far something is, where there is a place for that.

  In a notebook it is one line of HTML that is replaced, and needs nothing but
  IPython; on a terminal the bar of the command line, on standard error; where
  neither is, nothing.

  Args:
    title: what runs.
    total: steps of it.
    enabled: False for nothing.
  """

  def __init__(self, title: str, total: int, enabled: bool = True):
    self._title, self._total = title, total
    self._handle = self._terminal = None
    if enabled and _in_notebook():
      from IPython import display

      self._html = display.HTML
      self._handle = display.display(self._line(0, {}), display_id=True)
    elif enabled and sys.stderr.isatty():
      self._terminal = progress.Progress(
        total, total, title=title, stream=sys.stderr
      )

  def show(self, step: int, values: Mapping[str, Any]) -> None:
    """Shows that `step` steps are done, and values beside it."""
    if self._handle is not None:
      self._handle.update(self._line(step, values))
    if self._terminal is not None:
      self._terminal.update(step, **values)

  def begin(self, title: str) -> None:
    """Says what runs from now on."""
    self._title = title
    if self._terminal is not None:
      self._terminal.begin(title)

  def close(self) -> None:
    """Ends it; in a notebook the last line stays."""
    if self._terminal is not None:
      self._terminal.close()

  def _line(self, step: int, values: Mapping[str, Any]) -> Any:
    told = ", ".join(progress.number(k, v) for k, v in values.items())
    text = html.escape(f"{self._title}: step {step:,} of {self._total:,}")
    return self._html(
      f'<progress value="{step}" max="{self._total}"></progress> {text}'
      f"{', ' * bool(told)}{html.escape(told)}"
    )


def _in_notebook() -> bool:
  """Whether a kernel of Jupyter runs this."""
  ipython = sys.modules.get("IPython")
  shell = ipython.get_ipython() if ipython else None
  return shell is not None and hasattr(shell, "kernel")
