"""A run in a directory: a trainer whose news are files, and nothing lost."""

from collections.abc import Mapping, Sequence
import contextlib
import pathlib
import time
from typing import Any

import jax
from jax.sharding import Mesh
import ml_collections

from jnas import config as config_lib
from jnas.runs import report, resume, titles
from jnas.runs import workdir as workdir_lib
from jnas.runtime import checkpoint, hosts, machine, metrics, parallel
from jnas.runtime.progress import Progress
from jnas.runtime.signals import TERMINATED, Stop
from jnas.runtime.writer import Writer
from jnas.training import state as state_lib
from jnas.training.state import State
from jnas.training.trainer import Hooks, Past, Periods, Plan, Trainer


def execute(
  plan: Plan,
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  mesh: Mesh,
  files: Mapping[str, Mapping[str, Any]] | None = None,
  listener: Hooks | None = None,
  each: Sequence[ml_collections.ConfigDict] = (),
) -> tuple[Plan, State, Any]:
  """Runs a plan to its end from the last checkpoint there is.

  Args:
    plan: what to run.
    config: of the run.
    workdir: where everything is written; made if it is not there.
    mesh: the devices.
    files: JSON records to write before the first step, by file name.
    listener: is told and asked instead of the terminal and of signals.
    each: of several seeds in one program, the configuration of each alone. It
      has a folder for itself, with the files of a run of that seed alone; but
      its checkpoint is written at the end, those before are of all together.

  Returns:
    The last plan and state, and what result.json says of both: the numbers of
    the last evaluation, `seconds`, the time of the run over all its processes,
    and the headline of the task. Of several seeds it is a list, with a seed's
    share of the time.

  Raises:
    SystemExit: with status 143, when the run was asked to stop; its state is
      saved.
    ValueError: a metric became NaN or infinite; another process runs in the
      directory, or it belongs to another run; or the run cannot go on with
      these data or devices.
    OSError: the disk is full.
  """
  primary = jax.process_index() == 0
  seeds = [one.seed for one in each] or config.seed
  with (
    workdir_lib.claimed(config, workdir),
    checkpoint.Checkpoints(workdir / "checkpoints", config.log.keep) as saved,
    contextlib.ExitStack() as stack,
  ):
    names = titles.titles(
      config.algo.name, config.algo.hypergrad, config.algo.one_level
    )
    folders = [folder(workdir, one.seed) for one in each]
    for one, own in zip(each, folders, strict=True):
      stack.enter_context(workdir_lib.claimed(one, own))
    writers = []
    if primary:
      writers = [
        stack.enter_context(
          Writer(own, config.log.tensorboard, titles.metrics(names))
        )
        for own in folders or [workdir]
      ]
    # Signals first: they are heard while a state is read.
    stop = hosts.Stop() if hosts.several() else Stop()
    if listener is None:
      stack.enter_context(stop)
    _same_data(plan)
    own = {"data": plan.meta["data"], "devices": parallel.replicas(mesh)}

    def structure(meta: Mapping[str, Any]) -> State:
      resume.check(config, workdir, meta, own)
      return jax.eval_shape(plan.of(meta).init)

    here = machine.describe() | {"device_count": mesh.size}
    here |= {"task": config.task, "started": time.time()}
    here["titles"] = names | plan.task.about
    if found := saved.restore_latest(structure):
      start, state, meta = found
      plan = plan.of(meta)
      run = workdir_lib.read(workdir / "run.json")
      here, notes = resume.record(run, here, start)
      notes = [f"going on from step {start}", *notes]
    else:
      notes = hosts.first(
        lambda: sum(map(resume.anew, [workdir, *folders]), [])
      )
      start, state, meta = 0, plan.init(), {}
    for writer in writers:
      writer.rewind(start if found else -1)
      for name, record in {"run.json": here, **(files or {})}.items():
        writer.put(name, record)
    if folders and primary:
      with Writer(workdir) as writer:
        writer.put("run.json", here)
    if listener is None:
      progress = stack.enter_context(
        Progress(
          plan.total,
          plan.per_epoch,
          start,
          plan.title,
          enabled=config.log.progress and primary,
        )
      )
      listener = _terminal(progress, stop)
    for note in notes:
      listener.say(note)
    trainer = Trainer(
      plan,
      mesh,
      seeds,
      periods(config, plan),
      _filed(listener, writers, saved),
      Past(**{name: meta[name] for name in Past._fields if name in meta}),
    )
    try:
      state, step = trainer.run(state, start)
    except metrics.NotFinite as error:
      raise ValueError(_post_mortem(error, saved)) from error
    if not trainer.complete:
      saved.wait()
      done = f"after step {step}; saved" if step else "before the first step"
      listener.say(
        f"stopped by {stop.name} {done}. The same command goes on from there."
      )
      raise SystemExit(TERMINATED)
    # Those of the last checkpoint, so that a run that is started again after
    # its end reports what it reported then.
    _, meta = saved.latest()
    about = {"seconds": meta["seconds"] / max(1, len(each)), **plan.task.about}
    if not each:
      return trainer.plan, state, meta["last"] | about
    meta |= {n: meta[n] / len(each) for n in ("seconds", "compiling")}
    for k, one in enumerate(each):
      own = meta | plan.seeds[k].meta | {"last": meta["last"][k]}
      place = folders[k] / "checkpoints"
      with checkpoint.Checkpoints(place, one.log.keep) as alone:
        alone.save(step, state_lib.take(state, k, mesh), own)
    return trainer.plan, state, [last | about for last in meta["last"]]


def folder(workdir: pathlib.Path, seed: int) -> pathlib.Path:
  """The folder of one of several seeds."""
  return workdir / f"seed{seed}"


def _same_data(plan: Plan) -> None:
  """Returns if all processes have the same data, raises ValueError."""
  found, own = hosts.first(lambda: plan.meta["data"]), plan.meta["data"]
  if found != own:
    raise ValueError(
      f"process {jax.process_index()} of {jax.process_count()} has other data "
      "than process 0; give all of them the same files"
    )


def periods(config: ml_collections.ConfigDict, plan: Plan) -> Periods:
  """The periods of a config, in steps of a plan."""
  log = config.log
  write, evaluate, save = (
    config_lib.duration(text, plan.per_epoch, plan.total)
    for text in (log.every, log.evaluate, log.save)
  )
  return Periods(write, evaluate, save, config.train.steps_per_dispatch)


def _terminal(progress: Progress, stop: Stop) -> Hooks:
  """The hooks of a run that someone looks at, and may stop."""
  return Hooks(
    show=lambda step, values: progress.update(step, **values),
    begin=progress.begin,
    say=progress.say,
    stopping=lambda: stop.requested,
  )


def _filed(
  listener: Hooks, writers: Sequence[Writer], saved: checkpoint.Checkpoints
) -> Hooks:
  """The hooks of a listener, and what they are told in the files of each seed.

  Without a writer, in processes after the first, nothing is.
  """
  if not writers:
    return Hooks(save=saved.save, stopping=listener.stopping)
  each = [_written(listener, writer) for writer in writers]
  return each[0]._replace(save=saved.save, each=tuple(each))


def _written(listener: Hooks, writer: Writer) -> Hooks:
  """The hooks of a listener, and what they are told in a writer's files."""

  def write(kind: str, step: int, epoch: float, values: Any) -> None:
    writer.write(kind, step, epoch, values)
    listener.write(kind, step, epoch, values)

  def record(name: str, what: Mapping[str, Any]) -> None:
    keep = writer.append if name.endswith(".jsonl") else writer.put
    keep(name, what)
    listener.record(name, what)

  return listener._replace(write=write, record=record)


def _post_mortem(
  error: metrics.NotFinite, saved: checkpoint.Checkpoints
) -> str:
  """What to tell of a run whose numbers are no longer finite."""
  latest = saved.latest()
  good = (
    f"the last good checkpoint is {saved.directory / str(latest[0])}"
    if latest
    else "there is no checkpoint before it"
  )
  return (
    f"{error}. The run has stopped; {good}. The same command would give the "
    "same numbers: lower weights.lr, arch.lr or algo.eta, or clip the "
    "gradients (weights.clip), and start in another --workdir."
  )


def finish(
  workdir: pathlib.Path,
  result: Mapping[str, Any],
  files: Mapping[str, Any] | None = None,
) -> None:
  """Writes result.json and the report; of several hosts, the first does.

  Args:
    workdir: of the run.
    result: what result.json holds.
    files: JSON records to write beside it, by file name.
  """
  if jax.process_index() == 0:
    with workdir_lib.enough_room(workdir):
      with Writer(workdir) as writer:
        for name, record in {**(files or {}), "result.json": result}.items():
          writer.put(name, record)
      report.write([workdir], workdir / "report.html")
