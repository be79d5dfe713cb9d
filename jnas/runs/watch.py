"""A table of runs as they go, from their files alone.

  jnas watch DIR [DIR ...] [--every=SECONDS] [--once]

All runs in the folders are shown, those of comparisons too. Nothing is asked of
the processes that run, so they may be on other machines. Ctrl-C ends it.
"""

import argparse
from collections.abc import Iterator, Sequence
import json
import os
import pathlib
import sys
import time
from typing import Any, NamedTuple

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from jnas.report.records import get, is_number
from jnas.runs import workdir
from jnas.runtime.progress import duration, number

_TAIL = 1 << 16  # bytes at the end of metrics.jsonl that are read
_SILENT = 120.0  # seconds without a line after which that is told


class Row(NamedTuple):
  """What is shown of one run.

  Attributes:
    name: that it is called by.
    title: of its algorithm, or the task of a training.
    state: whether it has finished, or when it wrote last.
    progress: how much of it is done, from 0 to 1; None if that isn't known.
    left: seconds that the rest takes at the pace of the last epoch; None if
      that isn't known.
    values: results of the last evaluation, as text.
  """

  name: str
  title: str
  state: str
  progress: float | None
  left: float | None
  values: str


def find(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields the folders of runs in a folder, itself included, by name."""
  for path in sorted(folder.rglob("config.json")):
    config = workdir.read(path)
    if config.get("seeds", 1) > 1:  # each of them has a folder for itself
      continue
    if config.get("task") in ("search", "retrain", "segment"):
      yield path.parent


def last_lines(path: pathlib.Path) -> dict[str, dict[str, Any]]:
  """Returns the last line of each kind at the end of a file of metrics.

  However long the file is, no more than its last 64 KiB are read.
  """
  found = {}
  try:
    with open(path, "rb") as file:
      start = max(0, file.seek(0, os.SEEK_END) - _TAIL)
      file.seek(start)
      lines = file.read().split(b"\n")[1 if start else 0 :]
  except OSError:
    return {}
  for text in lines:
    try:
      line = json.loads(text)
    except (ValueError, RecursionError):  # half-written
      continue
    if isinstance(line, dict):
      found[str(line.get("kind"))] = line
  return found


def row(path: pathlib.Path, name: str, now: float) -> Row:
  """Returns what is to be seen of the run in a folder.

  Args:
    path: of the folder.
    name: that it is called by.
    now: seconds since 1970.
  """
  config, machine = (
    workdir.read(path / file) for file in ("config.json", "run.json")
  )
  lines = last_lines(path / "metrics.jsonl")
  epoch = lines.get("epoch", {})
  done, left = _progress(config, lines)
  if (path / "result.json").exists():
    state, done, left = "finished", 1.0, None
  else:
    state = _age(path, now)
  title = get(machine, "titles.algorithm") or get(config, "algo.name", "?")
  if config["task"] != "search":
    title = config["task"]
  values = ", ".join(
    number(metric, value)
    for metric, value in epoch.items()
    if metric.startswith(("valid_", "test_"))
    and not metric.endswith("_loss")
    and is_number(value)
  )
  return Row(name, str(title), state, done, left, values)


def _progress(
  config: dict[str, Any], lines: dict[str, dict[str, Any]]
) -> tuple[float | None, float | None]:
  """Returns the share of a run that is done, and the seconds left."""
  words = str(get(config, "train.length", "")).split()
  if len(words) != 2 or not words[0].isdigit() or not int(words[0]):
    return None, None
  total = int(words[0])
  line = max(
    lines.values(), key=lambda one: one.get("step") or 0, default={}
  )
  at = line.get(words[1].removesuffix("s"))
  if not is_number(at):
    return None, None
  done = min(1.0, at / total)
  # All lines have step and epoch, so one gives the length of the other.
  step, epochs = line.get("step"), line.get("epoch")
  seconds = sum(
    lines.get("epoch", {}).get(part) or 0.0
    for part in ("epoch_seconds", "eval_seconds")
  )
  if not done or not seconds or not is_number(epochs) or not step:
    return done, None
  return done, seconds * epochs * (1 - done) / done


def _age(path: pathlib.Path, now: float) -> str:
  """Returns when a run has last written something."""
  written = [
    (path / file).stat().st_mtime
    for file in ("metrics.jsonl", "run.json", "config.json")
    if (path / file).exists()
  ]
  silent = now - max(written, default=now)
  return "running" if silent < _SILENT else f"silent for {duration(silent)}"


def table(folders: Sequence[pathlib.Path], now: float) -> Table:
  """Returns the table of all runs in folders."""
  found = Table(box=None, pad_edge=False)
  for title in ("run", "algorithm", "state", "done", "left", "last epoch"):
    right = title in ("done", "left")
    found.add_column(
      title, justify="right" if right else "left", overflow="fold"
    )
  for folder in folders:
    for path in find(folder):
      # By the last part of what was given, as long paths leave no room.
      name = folder.resolve().name / path.relative_to(folder)
      one = row(path, str(name), now)
      found.add_row(
        escape(one.name),
        escape(one.title),
        one.state,
        "" if one.progress is None else f"{one.progress:.0%}",
        "" if one.left is None else duration(one.left),
        one.values,
      )
  return found


def main(arguments: Sequence[str] | None = None) -> int:
  """Returns the exit status of the command line."""
  parser = argparse.ArgumentParser(
    prog="jnas watch", description="Shows runs as they go, from their files."
  )
  parser.add_argument("dirs", nargs="+", metavar="DIR", help="folders of runs")
  parser.add_argument(
    "--every", type=float, default=2.0, metavar="SECONDS",
    help="time between two looks at the files; default 2",
  )
  parser.add_argument("--once", action="store_true", help="one look only")
  options = parser.parse_args(arguments)
  folders = [pathlib.Path(name) for name in options.dirs]
  problems = [
    f"expected the folder of a run, or of several, got {str(folder)!r}, "
    f"{'which holds none yet' if folder.is_dir() else 'no folder'}"
    for folder in folders
    if not any(find(folder))
  ]
  if not options.every > 0:
    problems.append(f"expected --every above 0, got {options.every}")
  for problem in problems:
    print(f"watch: {problem}", file=sys.stderr)
  if problems:
    return 2
  console = Console()
  if not console.is_terminal:
    console.width = 160  # a file has no width: let lines be whole
  try:
    if options.once or not console.is_terminal:
      console.print(table(folders, time.time()))
      return 0
    with Live(table(folders, time.time()), console=console) as live:
      while True:
        time.sleep(options.every)
        live.update(table(folders, time.time()))
  except KeyboardInterrupt:
    return 0


if __name__ == "__main__":
  sys.exit(main())
