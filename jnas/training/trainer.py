"""A trainer: steps in blocks, numbers at periods, one plan after the other.

It knows a task and a feed, and neither files nor signals: what is written,
shown and saved goes to hooks. `jnas.runs` gives it those of a directory, and a
program of one's own whichever it likes.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent import futures
import functools
import statistics
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
import numpy as np

from jnas.runtime import ahead, hosts, metrics, parallel
from jnas.training import loop
from jnas.training import plan as plan_lib
from jnas.training import state as state_lib
from jnas.training.plan import Evaluation, Plan, Values, program
from jnas.training.state import State


class Periods(NamedTuple):
  """Every how many steps something is done; zero: only at the end.

  Attributes:
    write: numbers of a step are written.
    evaluate: the task is evaluated.
    save: the state is saved.
    dispatch: steps that one call of a program does, at most; 0 for a choice
      by the devices.
  """

  write: int
  evaluate: int
  save: int
  dispatch: int = 0


class Hooks(NamedTuple):
  """Where a trainer's news go; by default nowhere.

  Attributes:
    write: (kind, step, epoch, values), of a "step" or an "epoch".
    record: (name, record), as in an `Evaluation`.
    save: (step, state, meta of a checkpoint).
    show: (step, values), to be seen by whoever waits.
    begin: (title), where a new plan takes over.
    say: (sentence).
    stopping: whether to stop before the next step.
    each: of several seeds, where what each of them writes, records and says
      goes; empty for here.
  """

  write: Callable[[str, int, float, Values], None] = lambda *_: None
  record: Callable[[str, Mapping[str, Any]], None] = lambda *_: None
  save: Callable[[int, State, Mapping[str, Any]], None] = lambda *_: None
  show: Callable[[int, Values], None] = lambda *_: None
  begin: Callable[[str], None] = lambda _: None
  say: Callable[[str], None] = lambda _: None
  stopping: Callable[[], bool] = lambda: False
  each: tuple["Hooks", ...] = ()


class Past(NamedTuple):
  """What a run has behind it, over all its processes.

  Attributes:
    seconds: since it began, of processes that ran.
    compiling: seconds of these in which it waited for the compiler.
    last: values of the last evaluation; of several seeds, of each.
  """

  seconds: float = 0.0
  compiling: float = 0.0
  last: Values | Sequence[Values] = {}


_NOWHERE, _NOTHING = Hooks(), Past()


class Trainer:
  """Runs a plan, and those that follow it.

  Attributes:
    plan: the one that runs, or ran last.
    complete: whether there is nothing more to do.

  Args:
    plan: what to run.
    mesh: the devices.
    seed: of all draws; of several seeds, each.
    periods: when something is done between steps.
    hooks: where the news go.
    past: of the run so far.
  """

  def __init__(
    self,
    plan: Plan,
    mesh: Mesh,
    seed: int | Sequence[int],
    periods: Periods,
    hooks: Hooks = _NOWHERE,
    past: Past = _NOTHING,
  ):
    self.plan, self.mesh, self.hooks = plan, mesh, hooks
    self.complete = False
    self._seed = parallel.place(
      jnp.uint32(seed), mesh, PartitionSpec(*parallel.lead(mesh))
    )
    self._seeds = np.atleast_1d(seed).tolist()
    self._each = hooks.each or (hooks,) * len(self._seeds)
    self._every = periods.write
    self._block = block(periods, mesh)
    self._compiled: plan_lib.Compiled = {}
    self._fed: dict[int, tuple] = {}  # shapes, by steps of a call
    self._coming: tuple[Hashable, futures.Future] | None = None
    self._pending: list[tuple[int, int, Any]] = []
    self._began = time.monotonic() - past.seconds
    self._compiling = past.compiling
    self._last = past.last
    self._shown: dict[str, float] = {}
    self._warned: set[int] = set()
    # Time and steps since the last line, of steps alone.
    self._mark, self._steps_since = time.monotonic(), 0
    self._epoch_seconds = 0.0
    self._evaluation = loop.Hook(periods.evaluate, self._evaluate)
    self._loop_hooks = [
      loop.Hook(self._every, self._flush, on_stop=True),
      self._evaluation,
      loop.Hook(periods.save, self._save, on_stop=True),
    ]

  @property
  def past(self) -> Past:
    """What the run has behind it by now."""
    seconds = time.monotonic() - self._began
    return Past(seconds, self._compiling, self._last)

  def run(self, state: State, start: int = 0) -> tuple[State, int]:
    """The last state, and its step; plan after plan.

    Args:
      state: after `start` steps.
      start: steps done.

    Raises:
      NotFinite: a metric became NaN or infinite.
    """
    while True:
      state, step = loop.run(
        state_lib.place(state, self.mesh),
        start=start,
        total=self.plan.end,
        hooks=self._loop_hooks,
        advance=self._advance,
        write=self._write,
        stopping=self.hooks.stopping,
      )
      # A stop at the end of a stage leaves the next one to who resumes.
      self.complete = step == self.plan.total
      if step < self.plan.end or self.complete or self.hooks.stopping():
        return state, step
      found = self.plan.following(state)
      if found is None:
        self.complete = True
        return state, step
      plan, after = found
      new = plan.program is None or plan.program != self.plan.program
      compiled = self._ready(plan) if new else self._compiled
      if compiled is None:
        return state, step
      self.plan, self._compiled = plan, compiled
      if new:
        self.hooks.begin(plan.title)
      state, start = after, step

  def _advance(self, state: State, step: int, most: int):
    name, lasts = self.plan.which(step, state)
    most = min(most, lasts)
    length = self._block if most >= self._block else 1
    fed = self.plan.feed.fetch(step, length)
    if (name, length) not in self._compiled:
      self._compiled[name, length] = self._compile(name, length, state, fed)
    if self.plan.coming and self._coming is None:
      self._coming = self.plan.coming.program, ahead.start(
        functools.partial(
          plan_lib.compiled,
          self.plan.coming,
          self.mesh,
          self.plan.end,
          dict(self._fed),
        )
      )
    compiled = self._compiled[name, length]
    state, values = compiled(state, self._seed, *fed)
    return state, length, values

  def _compile(self, name: str, length: int, state: State, fed: tuple):
    self._fed[length] = jax.tree.map(_shape, fed)
    self._count()
    started = time.monotonic()
    step = program(self.plan, self.mesh, name, length)
    compiled = step.lower(state, self._seed, *fed).compile()
    self._waited(started)
    return compiled

  def _ready(self, plan: Plan) -> plan_lib.Compiled | None:
    """The steps of a plan that were compiled ahead; None if asked to stop."""
    (known, coming), self._coming = self._coming or (None, None), None
    if coming is None or known != plan.program:
      return {}
    self._count()
    started = time.monotonic()
    # Of several processes all wait for the last, and ask equally often.
    while not hosts.everywhere(coming.done()):
      if self.hooks.stopping():
        return None
      futures.wait([coming], timeout=0.1)
    self._waited(started)
    return coming.result()

  def _waited(self, started: float) -> None:
    """Counts the time since then as that of the compiler, and of no step."""
    self._mark, self._steps_since = time.monotonic(), 0
    self._compiling += self._mark - started

  def _write(self, step: int, done: int, values: Any) -> None:
    self._pending.append((step, done, values))
    self._steps_since += done

  def _count(self) -> None:
    """Adds the time of the steps since the last count to the epoch's."""
    now = time.monotonic()
    self._epoch_seconds += now - self._mark
    self._mark = now

  def _flush(self, state: State, step: int) -> State:
    """Fetches the metrics of all steps, checks them, writes some."""
    rows = jax.device_get([values for _, _, values in self._pending])
    firsts = [(first, done) for first, done, _ in self._pending]
    self._pending.clear()
    elapsed, steps_done = time.monotonic() - self._mark, self._steps_since
    self._count()
    self._steps_since = 0
    for (first, done), row in zip(firsts, rows, strict=True):
      for i in range(done):
        at = first + i + 1
        each = [
          {name: float(np.atleast_1d(v[i])[k]) for name, v in row.items()}
          for k in range(len(self._seeds))
        ]
        self._check(at, each)
        if at % self._every == 0 or at == self.plan.end:
          seconds = elapsed / steps_done
          speed = f"{self.plan.task.unit}_per_second"
          own = self.plan.rates(at - 1) | {
            "step_seconds": seconds, speed: self.plan.batch / seconds
          }
          each = [values | own for values in each]
          self._tell("step", at, each)
          self._shown |= _means(each, ("train_loss", speed))
          # At an evaluation its numbers are waited for.
          if not loop.due(self._evaluation, at, self.plan.end):
            self.hooks.show(at, self._shown)
    return state

  def _evaluate(self, state: State, step: int) -> State:
    """Writes the line of this evaluation; the totals begin anew."""
    state = self._flush(state, step)
    started = time.monotonic()
    task = self.plan.task
    if self.plan.seeds:
      state, found = self._evaluate_each(state, step)
    else:
      evaluation = evaluate(self.plan, state, step)
      state, found = evaluation.state, [evaluation]
    each = [dict(evaluation.values) for evaluation in found]
    self._check(step, each)
    for k, (hooks, values) in enumerate(zip(self._each, each, strict=True)):
      for name, record in found[k].records:
        hooks.record(name, record)
      message = self.plan.warning(values)
      if message and k not in self._warned:
        which = f"seed {self._seeds[k]}: " if self.plan.seeds else ""
        hooks.say(f"{which}{message}")
        self._warned.add(k)
    self._last = each if self.plan.seeds else each[0]
    self._mark = time.monotonic()
    own = {
      "epoch_seconds": self._epoch_seconds,
      "eval_seconds": self._mark - started,
      "compile_seconds": self._compiling,
      "compile_share": self._compiling / (time.monotonic() - self._began),
    }
    self._epoch_seconds = 0.0
    self._tell("epoch", step, [values | own for values in each])
    headlines = [name for name in each[0] if name.endswith(task.headline)]
    self.hooks.show(step, self._shown | _means(each, headlines))
    zeros = jax.tree.map(jnp.zeros_like, state.totals)
    lead = PartitionSpec(*parallel.lead(self.mesh))
    return state._replace(totals=parallel.place(zeros, self.mesh, lead))

  def _evaluate_each(
    self, state: State, step: int
  ) -> tuple[State, list[Evaluation]]:
    """The state of several seeds to go on with, and an evaluation of each.

    Their weights stay together: what is given back is what has changed.
    """
    found, changes = [], []
    for k, plan in enumerate(self.plan.seeds):
      own = state_lib.take(state, k, self.mesh)
      evaluation = evaluate(plan, own, step)
      pairs = zip(State._fields, own, evaluation.state, strict=True)
      changes.append({name: b for name, a, b in pairs if b is not a})
      found.append(evaluation._replace(state=None))
    if changed := {name for change in changes for name in change}:
      for k, change in enumerate(changes):
        if missing := changed - change.keys():
          own = state_lib.take(state, k, self.mesh)
          change.update({name: getattr(own, name) for name in missing})
      empty = State(**dict.fromkeys(State._fields))
      new = state_lib.place(
        state_lib.stack([empty._replace(**change) for change in changes]),
        self.mesh,
      )
      state = state._replace(**{name: getattr(new, name) for name in changed})
    return state, found

  def _check(self, step: int, each: Sequence[Values]) -> None:
    """Returns if the values of all seeds are finite, raises NotFinite."""
    for seed, values in zip(self._seeds, each, strict=True):
      which = f" of seed {seed}" if len(each) > 1 else ""
      metrics.finite(step, {f"{name}{which}": v for name, v in values.items()})

  def _tell(self, kind: str, step: int, each: Sequence[Values]) -> None:
    """Writes a line of each seed."""
    for hooks, values in zip(self._each, each, strict=True):
      hooks.write(kind, step, step / self.plan.per_epoch, values)

  def _save(self, state: State, step: int) -> State:
    """Saves the state, all of whose steps have been checked."""
    state = self._flush(state, step)
    own = {"devices": parallel.replicas(self.mesh), **self.past._asdict()}
    self.hooks.save(step, state, {**self.plan.meta, **own})
    return state


def evaluate(plan: Plan, state: State, step: int) -> Evaluation:
  """The evaluation of a plan, with the means over the steps before it."""
  means = state_lib.means(state.totals)
  told = plan.task.told(means) if means else {}
  trained = {f"train_{name}": value for name, value in told.items()}
  found = plan.evaluate(state, step)
  return found._replace(values=trained | dict(found.values))


def _means(
  each: Sequence[Values], names: Sequence[str]
) -> dict[str, float]:
  """Means over seeds of the values that all have."""
  return {
    name: statistics.fmean(values[name] for values in each) for name in names
  }


def _shape(array: jax.Array) -> jax.ShapeDtypeStruct:
  """Of an array that may have been put anywhere, what a program sees."""
  place = array.sharding if array.committed else None
  return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=place)


def block(periods: Periods, mesh: Mesh) -> int:
  """Steps of one dispatch: by default one on CPU (see `steps.repeated`)."""
  own = 1 if parallel.platform(mesh) == "cpu" else min(periods.write, 10)
  return periods.dispatch or own
