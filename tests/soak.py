"""Kills runs at random moments, and looks whether that changes any number.

  python tests/soak.py --kills=100 --seed=0
  python tests/soak.py --kills=10 darts compare

Each of RUNS is carried out once undisturbed, as a process. Then the same
command is started in another folder and ended at a random moment, mostly by
SIGKILL, sometimes by SIGTERM or Ctrl-C, again and again; where it has come to
its end first, it begins anew. After its share of the kills it is let finish.
Whatever has been written up to an end is compared with the undisturbed run:
lines, genotypes, results and the bits of the last checkpoint, all but times.
The status is 1 if anything differs, if a process ends as it should not, or if
one prints a traceback. --jobs runs are so tried at a time.
"""

import argparse
from collections.abc import Iterator, Sequence
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from test_runs import ROOT, last_state, records

from jnas.runtime.signals import TERMINATED

SMALL = (
  "data.limit=64 train.batch=16 log.every=2steps log.save=3steps "
  "log.evaluate=4steps"
)
TINY = f"{SMALL} space.cells=3 space.width=4 space.nodes=1"
TEXT = (
  "space.nodes=2 space.width=8 data.limit=4000 train.batch=8 language.bptt=8 "
  "weights.lr=0.5 train.length=24steps "
  "log.every=2steps log.save=3steps log.evaluate=8steps"
)
TRAINED = f"{SMALL} space.cells=3 space.width=4 train.length=12epochs"
QUICK = {  # algorithm by algorithm: the config's argument, and fields
  "darts": "darts.py:quick",
  "darts, second order": "darts.py:quick_second",
  "darts, one level": "darts.py:quick algo.one_level=true data.share=1.0",
  "amended": "amended_darts.py:quick",
  "pcdarts": "pcdarts.py:quick space.partial=2",
  "gdas": "gdas.py:quick",
  "entrannas": "entrannas.py:quick space.cells=4 seed=1 algo.settle=2steps",
  "entrannas-dst": "entrannas.py:quick_dst",
  "darts-": "darts_minus.py:quick",
  "darts-pt": "darts_pt.py:quick",
  "drnas": "drnas.py:quick",
  "oles": "oles.py:quick",
  "snas": "snas.py:quick",
  "random search": "random_search.py:quick",
}
RUNS = {
  **{
    name: f"{spec} {TINY} train.length=12epochs {' '.join(fields)}"
    for name, (spec, *fields) in ((k, v.split()) for k, v in QUICK.items())
  },
  # In stages, and pruned while they run.
  "edges, then operators": (
    f"amended_darts.py:quick_edges {TINY} space.nodes=2 train.length=12epochs"
  ),
  "pdarts": (
    f"pdarts.py:quick {SMALL} space.width=4 space.nodes=1 pdarts.skips=1 "
    "train.length=9epochs"
  ),
  "gold-nas": (
    f"gold_nas.py:quick {TINY} data.share=1.0 train.length=8epochs gold.mu=1.0 "
    "gold.n0=2 gold.lambda0=200.0 gold.t0=0 gold.flops_min=0.001"
  ),
  "nas-bench-201": (
    f"nas_bench_201.py:quick_darts {SMALL} space.width=4 train.length=12epochs"
  ),
  "retrain": f"retrain.py:quick {TRAINED}",
  "segment": (
    "segment.py:quick data.limit=32 train.batch=8 space.width=4 "
    "segment.channels=8 segment.crop=32 train.length=20steps log.every=2steps "
    "log.save=3steps log.evaluate=5steps"
  ),
  "random pruning": (
    f"random_pruning.py:quick {SMALL} space.cells=3 space.width=4 "
    "space.nodes=1 gold.flops_min=0.04 gold.candidates=2 gold.trial=6steps "
    "train.length=12steps"
  ),
  "language search": f"rnn/darts.py:quick {TEXT}",
  "language search, gdas": f"rnn/gdas.py:quick {TEXT}",
  "language training": f"rnn/retrain.py:quick {TEXT}".replace(
    "space.nodes=2 ", ""
  ),
  "compare": (
    f"compare.py:quick {SMALL} compare.seeds=1 space.cells=3 space.width=4 "
    "train.length=20steps compare.retrain=10steps"
  ),
}
KINDS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
_INTERRUPTED = re.compile(r"Traceback .*\n(?:[ \t].*\n)+KeyboardInterrupt")


@dataclasses.dataclass
class Row:
  """What is known of one of RUNS.

  Attributes:
    name: of the run.
    whole: folder of the undisturbed run.
    folder: of the one that is killed.
    lines: that the undisturbed run has written.
    signals: how often it was ended by which.
    ends: how often it came to its end.
    problems: what was not as it should be.
  """

  name: str
  whole: pathlib.Path
  folder: pathlib.Path
  lines: int = 0
  signals: dict[signal.Signals, int] = dataclasses.field(default_factory=dict)
  ends: int = 0
  problems: list[str] = dataclasses.field(default_factory=list)


def command(name: str) -> list[str]:
  """The command of a user."""
  config, *fields = RUNS[name].split()
  return [
    *(sys.executable, "-m", "jnas.main", f"--config=configs/{config}"),
    *(f"--config.{field}" for field in fields),
  ]


def start(row: Row, workdir: pathlib.Path) -> subprocess.Popen:
  """A run on one CPU device; what it says is in a file."""
  with open(f"{workdir}.log", "ab") as log:
    return subprocess.Popen(
      [*command(row.name), f"--workdir={workdir}"],
      cwd=ROOT,
      env=os.environ
      | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
      },
      stdout=log,
      stderr=log,
    )


def said(workdir: pathlib.Path) -> str:
  return pathlib.Path(f"{workdir}.log").read_text(errors="replace")


def worked(process: subprocess.Popen) -> float:
  """Seconds of processor time, which other jobs do not change."""
  text = pathlib.Path(f"/proc/{process.pid}/stat").read_text()
  ticks = text.rpartition(")")[2].split()[11:13]
  return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def finish(row: Row, workdir: pathlib.Path) -> None:
  """Lets a run come to its end."""
  process = start(row, workdir)
  if process.wait(timeout=7200):
    tail = said(workdir)[-1500:]
    row.problems.append(f"status {process.returncode}: {tail}")


def written(workdir: pathlib.Path) -> int:
  """Lines in the files of a run, and of those within it."""
  count = 0
  for folder, inside, files in os.walk(workdir):
    if "checkpoints" in inside:
      inside.remove("checkpoints")
    for name in files:
      if name.endswith(".jsonl"):
        count += pathlib.Path(folder, name).read_bytes().count(b"\n")
  return count


def kill(row: Row, draw: random.Random) -> bool:
  """Starts a run, and ends it at a random moment; whether it went on so long.

  Some soon after the start, the others when they have written some lines more.
  """
  (number,) = draw.choices(KINDS, (6, 3, 1))
  early = draw.random() < 0.15
  lines = written(row.folder) + draw.uniform(0, 0.5) * row.lines
  more = draw.uniform(0, 4 if early else 0.5)  # seconds
  process, begun = start(row, row.folder), 0 if early else None
  while process.poll() is None:
    if begun is None and written(row.folder) >= lines:
      begun = worked(process)
    if begun is not None and worked(process) >= begun + more:
      break
    time.sleep(0.01)
  process.send_signal(number)
  status = process.wait(timeout=7200)
  if status == 0:
    return False
  row.signals[number] = row.signals.get(number, 0) + 1
  # Before Python hears of signals they have their usual effect.
  usual = {-number, 130} if number == signal.SIGINT else {-number}
  asked = set() if number == signal.SIGKILL else {TERMINATED}
  if status not in usual | asked:
    tail = said(row.folder)[-1500:]
    row.problems.append(f"status {status} after {number.name}: {tail}")
  return True


def contents(workdir: pathlib.Path) -> Iterator[tuple[str, Any]]:
  """Yields what each file of a run holds that follows from its command."""
  for path in sorted(workdir.rglob("*")):
    name = str(path.relative_to(workdir))
    if path.name == "checkpoints":
      yield name, last_state(path.parent)
    elif "checkpoints" in path.parts[len(workdir.parts) :]:
      continue
    elif path.suffix == ".jsonl":
      yield name, records(path.parent, path.name)
    elif path.suffix == ".json" and path.name != "run.json":
      yield name, _untimed(json.loads(path.read_text()))
    elif path.name == "report.html":
      yield name, path.stat().st_size > 0


def _untimed(value: Any) -> Any:
  if isinstance(value, dict):
    timed = ("seconds", "compile_share")
    return {
      k: _untimed(v) for k, v in value.items() if not k.endswith(timed)
    }
  return [_untimed(v) for v in value] if isinstance(value, list) else value


def differences(a: pathlib.Path, b: pathlib.Path) -> list[str]:
  """The files in which two runs of one command differ."""
  one, other = dict(contents(a)), dict(contents(b))
  return [
    name
    for name in sorted(one.keys() | other.keys())
    if one.get(name) != other.get(name)
  ]


def compare(row: Row) -> None:
  """Compares a run that has come to its end with the undisturbed one."""
  row.ends += 1
  row.problems += [
    f"{name} differs" for name in differences(row.whole, row.folder)
  ]
  # Ctrl-C while Python loads modules is told by Python.
  if "Traceback" in _INTERRUPTED.sub("", said(row.folder)):
    row.problems.append(f"a traceback: {said(row.folder)[-1500:]}")
  shutil.rmtree(row.folder)
  pathlib.Path(f"{row.folder}.log").unlink()


def line(cells: Sequence[Any]) -> str:
  """A row of a table."""
  return f"| {' | '.join(map(str, cells))} |"


def counts(row: Row) -> list[int]:
  """How often it was ended by which signal, by itself, and differed."""
  return [*(row.signals.get(k, 0) for k in KINDS), row.ends, len(row.problems)]


def soak(row: Row, kills: int, seed: int) -> Row:
  """Kills a run so often, and compares it whenever it has come to its end."""
  draw, count = random.Random(f"{seed} {row.name}"), 0
  row.whole.parent.mkdir()
  finish(row, row.whole)
  row.lines = written(row.whole)
  while count < kills and not row.problems:
    if kill(row, draw):
      count += 1
    else:
      compare(row)
  if not row.problems:
    finish(row, row.folder)
    compare(row)
  return row


def main() -> int:
  """Returns the exit status: 1 if something differs."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("names", nargs="*", metavar="RUN", help=", ".join(RUNS))
  parser.add_argument("--kills", type=int, default=100)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--jobs", type=int, default=1)
  options = parser.parse_args()
  if unknown := set(options.names) - set(RUNS):
    parser.error(f"unknown: {', '.join(sorted(unknown))}")
  began, rows = time.monotonic(), []
  names = options.names or list(RUNS)
  heads = ("run", "SIGKILL", "SIGTERM", "Ctrl-C", "ends", "problems")
  print(f"{line(heads)}\n{line(['---'] * len(heads))}", flush=True)
  with (
    tempfile.TemporaryDirectory() as folder,
    concurrent.futures.ThreadPoolExecutor(options.jobs) as pool,
  ):
    tried = []
    for i, name in enumerate(names):
      place = pathlib.Path(folder) / str(i)
      row = Row(name, place / "whole", place / "killed")
      share = options.kills * (i + 1) // len(names)
      share -= options.kills * i // len(names)
      tried.append(pool.submit(soak, row, share, options.seed))
    for done in concurrent.futures.as_completed(tried):
      rows.append(done.result())
      print(line([rows[-1].name, *counts(rows[-1])]), flush=True)
  columns = zip(*map(counts, rows), strict=True)
  print(line(["all", *map(sum, columns)]))
  for row in rows:
    for problem in row.problems:
      print(f"\n{row.name}: {problem}")
  used = resource.getrusage(resource.RUSAGE_CHILDREN)
  print(
    f"\nseed {options.seed}; {(time.monotonic() - began) / 60:.0f} minutes, "
    f"{(used.ru_utime + used.ru_stime) / 60:.0f} of the processor"
  )
  return int(any(row.problems for row in rows))


if __name__ == "__main__":
  sys.exit(main())
