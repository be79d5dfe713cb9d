"""What every program does: a working directory, a loop, nothing lost."""

from collections.abc import Callable, Hashable, Mapping
import pathlib
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
import ml_collections

from jnas.data import device
from jnas.runs import report, resume, titles
from jnas.runs import workdir as workdir_lib
from jnas.runs.build import Clock
from jnas.runtime import checkpoint, machine, metrics, parallel
from jnas.runtime.progress import Progress
from jnas.runtime.signals import TERMINATED, Stop
from jnas.runtime.writer import Writer
from jnas.training import loop, steps
from jnas.training.state import State, means, zero_sums


class Plan(NamedTuple):
  """What a program wants to have run.

  Attributes:
    title: for the progress bar.
    clock: lengths of the whole run.
    init: () -> State at step 0.
    steps: name -> (seed -> step function (state, *splits) -> (state, metrics)).
      The seed is data of the compiled program, which so serves all of them.
    which: (steps done, state) -> (name of the step function, steps for which
      it lasts).
    splits: on the device.
    evaluate: (state, step, writer) -> (state, values of the line of this
      evaluation).
    rates: step -> values that follow a schedule, for the lines.
    meta: of the checkpoints; with "data", the data's fingerprint.
    until: the step at which another plan takes over, if one does.
    following: state at that step -> (the next plan, its first state), or None
      if the run is complete.
    resume: meta of a checkpoint -> the plan that wrote it.
    warning: values of an evaluation -> what is to be told of them, or None. It
      is told once.
    program: plans of which this is equal have the same step functions.
  """

  title: str
  clock: Clock
  init: Callable[[], State]
  steps: Mapping[str, Callable[[jax.Array], steps.Step]]
  which: Callable[[int, State], tuple[str, int]]
  splits: tuple[device.Split, ...]
  evaluate: Callable[[State, int, Writer], tuple[State, dict[str, float]]]
  rates: Callable[[int], dict[str, float]]
  meta: Mapping[str, Any]
  until: int | None = None
  following: Callable[[State], tuple["Plan", State] | None] | None = None
  resume: Callable[[Mapping[str, Any]], "Plan"] | None = None
  warning: Callable[[Mapping[str, float]], str | None] = lambda values: None
  program: Hashable = None

  @property
  def end(self) -> int:
    """The step after which this plan has nothing more to do."""
    return self.clock.total if self.until is None else self.until

  def of(self, meta: Mapping[str, Any]) -> "Plan":
    """The plan that wrote a checkpoint with this meta."""
    return self.resume(meta) if self.resume else self


def execute(
  plan: Plan,
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  mesh: Mesh,
  files: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[Plan, State, dict[str, Any]]:
  """Runs a plan to its end from the last checkpoint there is.

  Args:
    plan: what to run.
    config: of the run.
    workdir: where everything is written; made if it is not there.
    mesh: the devices.
    files: JSON records to write before the first step, by file name.

  Returns:
    The last plan and state, and the numbers of the last evaluation with
    `seconds`, the time of the run over all its processes.

  Raises:
    SystemExit: with status 143, when the run was asked to stop; its state is
      saved.
    ValueError: a metric became NaN or infinite; another process runs in the
      directory, or it belongs to another run; or the run cannot go on with
      these data or devices.
    OSError: the disk is full.
  """
  primary = jax.process_index() == 0
  with (
    workdir_lib.claimed(config, workdir) as folder,
    checkpoint.Checkpoints(workdir / "checkpoints", config.log.keep) as saved,
    Writer(folder, config.log.tensorboard and primary) as writer,
    Stop() as stop,
  ):
    own = {"data": plan.meta["data"], "devices": mesh.size}

    def structure(meta: Mapping[str, Any]) -> State:
      resume.check(config, workdir, meta, own)
      return jax.eval_shape(plan.of(meta).init)

    here = machine.describe() | {"device_count": mesh.size}
    here |= {"task": config.task, "started": time.time()}
    here["titles"] = titles.titles(
      config.algo.name, config.algo.hypergrad, config.algo.one_level
    )
    if found := saved.restore_latest(structure):
      start, state, meta = found
      plan = plan.of(meta)
      run = workdir_lib.read(folder / "run.json")
      here, notes = resume.record(run, here, start)
      notes = [f"going on from step {start}", *notes]
    else:
      notes = resume.anew(workdir)
      start, state, meta = 0, plan.init(), {"seconds": 0.0}
    writer.rewind(start if found else -1)
    for name, record in {"run.json": here, **(files or {})}.items():
      writer.put(name, record)
    with Progress(
      plan.clock.total,
      plan.clock.per_epoch,
      start,
      plan.title,
      enabled=config.log.progress and primary,
    ) as progress:
      for note in notes:
        progress.say(note)
      session = _Session(plan, config, mesh, saved, writer, progress, meta)
      try:
        state, step = session.run(state, start, lambda: stop.requested)
      except metrics.NotFinite as error:
        raise ValueError(session.post_mortem(error)) from error
      if not session.complete:
        saved.wait()
        done = f"after step {step}; saved" if step else "before the first step"
        progress.say(
          f"stopped by {stop.name} {done}. The same command goes on from there."
        )
        raise SystemExit(TERMINATED)
    return session.plan, state, session.finish()


class _Session:
  """The hooks of one process's part of a run, and what they share."""

  def __init__(self, plan, config, mesh, saved, writer, progress, meta):
    self.plan, self.config, self.mesh = plan, config, mesh
    self.saved, self.writer, self.progress = saved, writer, progress
    self.seed = parallel.replicate(jnp.uint32(config.seed), mesh)
    self.every = plan.clock.steps(config.log.every)
    self.block = config.train.steps_per_dispatch or _block(self.every, mesh)
    self.compiled: dict[tuple[str, int], Callable[..., Any]] = {}
    self.pending: list[tuple[int, int, Any]] = []
    # Of all processes of this run.
    self.began = time.monotonic() - meta["seconds"]
    self.compiling = meta.get("compiling", 0.0)
    self.warned = self.complete = False
    # Time and steps since the last line, of steps alone.
    self.mark, self.steps_since = time.monotonic(), 0
    self.epoch_seconds = 0.0
    self.last: dict[str, float] = meta.get("last", {})
    self.shown: dict[str, float] = {}
    evaluate, save = (
      plan.clock.steps(text) for text in (config.log.evaluate, config.log.save)
    )
    self.evaluation = loop.Hook(evaluate, self.evaluate)
    self.hooks = [
      loop.Hook(self.every, self.flush, on_stop=True),
      self.evaluation,
      loop.Hook(save, self.save, on_stop=True),
    ]

  def run(
    self, state: State, start: int, stopping: Callable[[], bool]
  ) -> tuple[State, int]:
    """The last state, and its step; plan after plan."""
    while True:
      state, step = loop.run(
        parallel.replicate(state, self.mesh),
        start=start,
        total=self.plan.end,
        hooks=self.hooks,
        advance=self.advance,
        write=self.write,
        stopping=stopping,
      )
      # A stop at the end of a stage leaves the next one to who resumes.
      self.complete = step == self.plan.clock.total
      if step < self.plan.end or self.complete or stopping():
        return state, step
      found = self.plan.following(state)
      if found is None:
        self.complete = True
        return state, step
      old, (self.plan, state) = self.plan, found
      if self.plan.program is None or self.plan.program != old.program:
        self.compiled.clear()
        self.progress.begin(self.plan.title)
      start = step

  def advance(self, state: State, step: int, most: int):
    name, lasts = self.plan.which(step, state)
    most = min(most, lasts)
    length = self.block if most >= self.block else 1
    if (name, length) not in self.compiled:
      self.compiled[name, length] = self._compile(name, length, state)
    compiled = self.compiled[name, length]
    state, values = compiled(state, self.seed, *self.plan.splits)
    return state, length, values

  def _compile(self, name: str, length: int, state: State):
    self._count()
    started = time.monotonic()
    whole = PartitionSpec()
    build = self.plan.steps[name]

    def run(state: State, seed: jax.Array, *splits: device.Split):
      return steps.repeated(build(seed), length)(state, *splits)

    step = parallel.shard_step(
      run,
      self.mesh,
      in_specs=(whole,) * (2 + len(self.plan.splits)),
      out_specs=whole,
      donate=0,
    )
    compiled = step.lower(state, self.seed, *self.plan.splits).compile()
    self.mark, self.steps_since = time.monotonic(), 0
    self.compiling += self.mark - started
    return compiled

  def write(self, step: int, done: int, values: Any) -> None:
    self.pending.append((step, done, values))
    self.steps_since += done

  def _count(self) -> None:
    """Adds the time of the steps since the last count to the epoch's."""
    now = time.monotonic()
    self.epoch_seconds += now - self.mark
    self.mark = now

  def flush(self, state: State, step: int) -> State:
    """Fetches the metrics of all steps, checks them, writes some."""
    rows = jax.device_get([values for _, _, values in self.pending])
    firsts = [(first, done) for first, done, _ in self.pending]
    self.pending.clear()
    elapsed, steps_done = time.monotonic() - self.mark, self.steps_since
    self._count()
    self.steps_since = 0
    for (first, done), row in zip(firsts, rows, strict=True):
      for i in range(done):
        at = first + i + 1
        values = {name: float(column[i]) for name, column in row.items()}
        metrics.finite(at, values)
        if at % self.every == 0 or at == self.plan.end:
          seconds = elapsed / steps_done
          values |= self.plan.rates(at - 1)
          values |= {
            "step_seconds": seconds,
            "images_per_second": self.config.train.batch / seconds,
          }
          self.writer.write("step", at, at / self.plan.clock.per_epoch, values)
          self.shown |= {
            name: values[name] for name in ("train_loss", "images_per_second")
          }
          # At an evaluation its numbers are waited for.
          if not loop.due(self.evaluation, at, self.plan.end):
            self.progress.update(at, **self.shown)
    return state

  def evaluate(self, state: State, step: int) -> State:
    """Writes the line of this evaluation; the totals begin anew."""
    state = self.flush(state, step)
    started = time.monotonic()
    values = means(state.sums)
    state, found = self.plan.evaluate(state, step, self.writer)
    values |= found
    metrics.finite(step, values)
    self.last = dict(values)
    if not self.warned and (message := self.plan.warning(values)):
      self.progress.say(message)
      self.warned = True
    self.mark = time.monotonic()
    epoch = step / self.plan.clock.per_epoch
    values |= {
      "epoch_seconds": self.epoch_seconds,
      "eval_seconds": self.mark - started,
      "compile_seconds": self.compiling,
      "compile_share": self.compiling / (time.monotonic() - self.began),
    }
    self.epoch_seconds = 0.0
    self.writer.write("epoch", step, epoch, values)
    accuracies = {k: v for k, v in self.last.items() if k.endswith("accuracy")}
    self.progress.update(step, **self.shown | accuracies)
    return state._replace(sums=parallel.replicate(zero_sums(), self.mesh))

  def save(self, state: State, step: int) -> State:
    """Saves the state, all of whose steps have been checked."""
    state = self.flush(state, step)
    seconds = time.monotonic() - self.began
    own = {
      "seconds": seconds,
      "compiling": self.compiling,
      "last": self.last,
      "devices": self.mesh.size,
    }
    self.saved.save(step, state, dict(self.plan.meta) | own)
    return state

  def post_mortem(self, error: metrics.NotFinite) -> str:
    """What to tell of a run whose numbers are no longer finite."""
    latest = self.saved.latest()
    good = (
      f"the last good checkpoint is {self.saved.directory / str(latest[0])}"
      if latest
      else "there is no checkpoint before it"
    )
    return (
      f"{error}. The run has stopped; {good}. The same command would give the "
      "same numbers: lower weights.lr, arch.lr or algo.eta, or clip the "
      "gradients (weights.clip), and start in another --workdir."
    )

  def finish(self) -> dict[str, Any]:
    """The numbers of the last evaluation, and the seconds of the whole run.

    They are those of the last checkpoint, so that a run that is started again
    after its end reports what it reported then.
    """
    _, meta = self.saved.latest()
    return meta["last"] | {"seconds": meta["seconds"]}


def _block(every: int, mesh: Mesh) -> int:
  """Steps of one dispatch: one on CPU (see `steps.repeated`)."""
  return 1 if parallel.platform(mesh) == "cpu" else min(every, 10)


def finish(workdir: pathlib.Path, result: Mapping[str, Any]) -> None:
  """Writes result.json and the report; of several hosts, the first does."""
  if jax.process_index() == 0:
    with workdir_lib.enough_room(workdir), Writer(workdir) as writer:
      writer.put("result.json", result)
    report.write([workdir], workdir / "report.html")
