"""A run that keeps what it is told for Python: a bar, and nothing printed."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import os
import pathlib
from typing import Any, NamedTuple

import jax
import ml_collections

from jnas.runs import resume, session
from jnas.runtime import notebook
from jnas.training import state as state_lib
from jnas.training.state import State
from jnas.training.trainer import Hooks, Plan, Trainer


class Told(NamedTuple):
  """What a run has left; of several seeds, one of them."""

  plan: Plan
  state: State
  numbers: Mapping[str, float]
  history: tuple[dict[str, float], ...]
  records: Mapping[str, list[Mapping[str, Any]]]
  notes: tuple[str, ...]
  folder: pathlib.Path | None


def run(
  plan: Plan,
  config: ml_collections.ConfigDict,
  mesh: jax.sharding.Mesh,
  workdir: str | os.PathLike[str] | None,
  progress: bool,
  files: Mapping[str, Mapping[str, Any]] | None = None,
  each: Sequence[ml_collections.ConfigDict] = (),
) -> list[Told]:
  """Runs a plan, in a directory or in none.

  Args:
    plan, config, mesh, files: as for `session.execute`.
    workdir, progress: as for `jnas.search`.
    each: the configuration of each seed; of one it may be left out.
  """
  notes: list[str] = []
  with _bar(plan, progress) as bar:
    shared = Hooks(show=bar.show, begin=bar.begin, say=notes.append)
    if workdir is None:
      found = [([], {}) for _ in each or [config]]
      hooks = tuple(_keeping(shared, *one) for one in found)
      trainer = Trainer(
        plan,
        mesh,
        [one.seed for one in each] or config.seed,
        session.periods(config, plan),
        hooks[0]._replace(each=hooks),
      )
      state, _ = trainer.run(plan.init())
      past, plan, folders = trainer.past, trainer.plan, [None] * len(found)
      about = {"seconds": past.seconds / len(found), **plan.task.about}
      numbers = [last | about for last in (past.last if each else [past.last])]
    else:
      folder = pathlib.Path(workdir).expanduser()
      plan, state, numbers = session.execute(
        plan, config, folder, mesh, files, shared, each
      )
      numbers = numbers if each else [numbers]
      folders = [session.folder(folder, one.seed) for one in each] or [folder]
      # What went before, too, where a run has gone on.
      found = [
        (
          _epochs(own),
          {
            name: resume.lines(own / name)
            for name in ("arch.jsonl", "genotypes.jsonl")
          },
        )
        for own in folders
      ]
  return [
    Told(
      plan.seeds[k] if each else plan,
      state_lib.take(state, k, mesh) if each else state,
      numbers[k],
      tuple(history),
      records,
      tuple(notes),
      folders[k],
    )
    for k, (history, records) in enumerate(found)
  ]


def _keeping(
  hooks: Hooks,
  history: list[dict[str, float]],
  records: dict[str, list[Mapping[str, Any]]],
) -> Hooks:
  """Hooks that keep the numbers of evaluations, and the records."""

  def write(kind: str, step: int, epoch: float, values: Any) -> None:
    if kind == "epoch":
      history.append({"step": step, "epoch": epoch, **values})

  def record(name: str, what: Mapping[str, Any]) -> None:
    records.setdefault(name, []).append(what)

  return hooks._replace(write=write, record=record)


def _epochs(folder: pathlib.Path) -> list[dict[str, float]]:
  """The numbers of the evaluations of a run in a folder."""
  return [
    {name: value for name, value in line.items() if name != "kind"}
    for line in resume.lines(folder / "metrics.jsonl")
    if line["kind"] == "epoch"
  ]


@contextlib.contextmanager
def _bar(plan: Plan, progress: bool) -> Iterator[notebook.Bar]:
  bar = notebook.Bar(plan.title, plan.total, progress)
  try:
    yield bar
  finally:
    bar.close()
