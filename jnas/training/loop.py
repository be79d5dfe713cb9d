"""The loop of every run: evaluate, save, batch, step, write.

It knows steps, not epochs and not architectures.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

Advance = Callable[[Any, int, int], tuple[Any, int, Any]]


class Hook(NamedTuple):
  """Something to do between two steps.

  Attributes:
    period: in steps; it is also done at the end. Zero: only then.
    call: (state, step) -> state.
    on_stop: whether it is done too when the run is asked to stop.
  """

  period: int
  call: Callable[[Any, int], Any]
  on_stop: bool = False


def due(hook: Hook, step: int, total: int) -> bool:
  """Whether a hook is to be called after `step` steps."""
  return step == total or bool(hook.period and step % hook.period == 0)


def room(hooks: Sequence[Hook], step: int, total: int) -> int:
  """How many steps there are until a hook is due next."""
  waits = [h.period - step % h.period for h in hooks if h.period]
  return min([total - step, *waits])


def run(
  state: Any,
  *,
  start: int,
  total: int,
  hooks: Sequence[Hook],
  advance: Advance,
  write: Callable[[int, int, Any], None],
  stopping: Callable[[], bool] = lambda: False,
) -> tuple[Any, int]:
  """The state after the last step, and the number of that step.

  Args:
    state: after `start` steps.
    start: steps done; where it is not zero the hooks of that step have been
      called already, before the checkpoint that `state` comes from.
    total: steps of the whole run.
    hooks: called in this order at the steps where they are due.
    advance: (state, steps done before, most steps to do) -> (state, steps
      done, their metrics).
    write: (steps done before, steps done, metrics) -> None.
    stopping: whether to stop before the next step.
  """
  step = start
  while step < total and not stopping():
    state, done, metrics = advance(state, step, room(hooks, step, total))
    write(step, done, metrics)
    step += done
    for hook in hooks:
      if due(hook, step, total):
        state = hook.call(state, step)
  if step < total:
    for hook in hooks:
      if hook.on_stop and not due(hook, step, total):
        state = hook.call(state, step)
  return state, step
