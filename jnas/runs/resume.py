"""How a run goes on: with the same data and devices, or not at all."""

from collections.abc import Mapping
import json
import pathlib
from typing import Any

import ml_collections

# Fields of run.json on which the rounding of numbers depends.
_ROUNDING = ("jnas", "jax", "python", "platform", "device", "device_count")


def check(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  before: Mapping[str, Any],
  now: Mapping[str, Any],
) -> None:
  """Returns if a run's numbers stay what they would have been.

  Args:
    config: of the run.
    workdir: of the run, for the message.
    before: meta of its checkpoint.
    now: "data" and "devices", as the next one would have them.

  Raises:
    ValueError: the data have changed, or there are more or fewer devices and
      each normalises its share of a batch by itself.
  """
  if before.get("data", now["data"]) != now["data"]:
    raise ValueError(
      f"the data (data.name={config.data.name!r}, data.path="
      f"{config.data.path!r}) are not those that the run in {workdir} began "
      "with; restore them, or choose another --workdir"
    )
  old, new = before.get("devices", now["devices"]), now["devices"]
  if old != new and not config.train.sync_batch_norm:
    raise ValueError(
      f"the run in {workdir} began on {old} device(s) and here are {new}: each "
      "normalises its share of a batch by itself, so the numbers would change; "
      f"go on with {old}, or choose another --workdir (a run with "
      "train.sync_batch_norm may go on with any number)"
    )


def anew(workdir: pathlib.Path) -> list[str]:
  """Returns what to tell of a run that has no checkpoint to go on from.

  Raises:
    ValueError: it has ended; its record would be lost.
  """
  if (workdir / "result.json").exists():
    raise ValueError(
      f"{workdir} holds the record of a run that has ended, but not its "
      f"checkpoints; restore {workdir / 'checkpoints'}, or delete {workdir} to "
      "run it again"
    )
  lines = workdir / "metrics.jsonl"
  if lines.exists() and lines.stat().st_size:
    return ["there is no checkpoint: the run begins anew, and so do its files"]
  return []


def record(
  run: Mapping[str, Any], here: Mapping[str, Any], step: int
) -> tuple[dict[str, Any], list[str]]:
  """Returns run.json of a run that goes on, and what to tell.

  Where it goes on with other versions or devices, a line in "resumed" says so.

  Args:
    run: run.json as it is; empty if it cannot be read.
    here: what it would hold of a run that began now.
    step: at which the run goes on.
  """
  if not run:
    return dict(here), []
  before = run.get("resumed")
  before = before if isinstance(before, list) else []
  last = dict(run)
  for entry in before:
    last |= entry if isinstance(entry, dict) else {}
  changed = {
    name: here[name]
    for name in _ROUNDING
    if last.get(name, here[name]) != here[name]
  }
  if not changed:
    return dict(run), []
  told = ", ".join(
    f"{name.replace('_', ' ')} {last[name]} before and {value} now"
    for name, value in changed.items()
  )
  entry = {"step": step, "started": here["started"], **changed}
  return {**run, "resumed": [*before, entry]}, [
    f"{told}: the numbers may differ in rounding from those of one machine"
  ]


def lines(path: pathlib.Path) -> list[dict[str, Any]]:
  """Returns the records of a .jsonl file of a run that has ended, if any."""
  if not path.exists():
    return []
  return [json.loads(line) for line in path.read_text().splitlines()]
