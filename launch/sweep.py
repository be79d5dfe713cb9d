"""Many runs side by side, configs times seeds, and a page that compares them.

  python launch/sweep.py configs/darts.py:quick configs/pcdarts.py:quick \\
      --seeds=4 --slots=2 --workdir=runs/sweep --config.train.batch=64

Each run is a process, in WORKDIR/<config>/seed<k>, and what it says is beside
it in seed<k>.log; `jnas watch WORKDIR` shows them. Where CUDA_VISIBLE_DEVICES
names GPUs, each slot has its share of them. Fields are set for all runs, or as
in a comparison for one config alone: "configs/darts.py:quick arch.lr=0.01".

A run that dies is started again, --retries times at most, and goes on from its
checkpoint; one that refuses to run is not. Ctrl-C and SIGTERM stop all runs,
which save first, and so does the end of this process, however it comes. The
same command goes on where it was. At the end WORKDIR/comparison.html compares
the runs that have ended.

  SBATCH_GPUS=1 SBATCH_TIMELIMIT=4:00:00 python launch/sweep.py ... --slurm

gives them to Slurm: an array of which as many tasks run at a time as there are
slots, and a job after it that makes the page. What else sbatch shall know its
own variables tell. A task that comes to its time limit is queued again.
"""

import argparse
import collections
from collections.abc import Sequence
import ctypes
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import time
from typing import NamedTuple

from jnas import config as config_lib
from jnas.report import pages
from jnas.runs import command, entries
from jnas.runs import workdir as workdir_lib
from jnas.runtime.signals import TERMINATED

_REFUSED = 2  # status of a run whose error would come again


class Run(NamedTuple):
  """One of the runs: its name, folder, task and command."""

  name: str
  folder: pathlib.Path
  task: str
  command: tuple[str, ...]

  @property
  def ended(self) -> bool:
    return workdir_lib.finished(self.folder, self.task) is not None


class _TimeLimit(KeyboardInterrupt):
  """Slurm's time is nearly over."""


def plan(
  specs: Sequence[str], seeds: range, workdir: pathlib.Path, fields: list[str]
) -> list[Run]:
  """Returns all runs.

  Raises:
    ValueError, FileNotFoundError: some config does not fit, or the folder of a
      run belongs to another one.
  """
  runs = {}
  for spec in specs:
    file, own = entries.split(spec)
    for seed in seeds:
      words = [*fields, *(f"--config.{field}" for field in own)]
      words.append(f"--config.seed={seed}")
      config = config_lib.load(file, words)
      name = f"{entries.run_name(spec)}/seed{seed}"
      if name in runs:
        raise ValueError(f"{spec}: another config is called {name}, too")
      workdir_lib.check(config, workdir / name)
      program = (sys.executable, "-m", "jnas.main", f"--config={file}")
      words.append(f"--workdir={workdir / name}")
      runs[name] = Run(name, workdir / name, config.task, (*program, *words))
  return list(runs.values())


def start(run: Run, slot: int, slots: int) -> subprocess.Popen:
  """Starts a run, which gets SIGTERM when this process is gone."""
  env = dict(os.environ)
  if named := env.get("CUDA_VISIBLE_DEVICES"):
    gpus = named.split(",")
    # As many in each slot: a run goes on with the devices that it began with.
    each = max(1, len(gpus) // slots)
    first = slot * each % len(gpus)
    env["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[first : first + each])
  run.folder.parent.mkdir(parents=True, exist_ok=True)
  with open(f"{run.folder}.log", "ab") as log:
    return subprocess.Popen(
      run.command,
      env=env,
      stdout=log,
      stderr=log,
      start_new_session=True,  # else Ctrl-C would reach it twice
      preexec_fn=_die_with_parent if sys.platform == "linux" else None,
    )


def _die_with_parent() -> None:
  ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def carry_out(runs: Sequence[Run], slots: int, retries: int) -> None:
  """Lets all runs come to their end, or fail."""
  todo = [run for run in runs if not run.ended]
  going: dict[int, tuple[Run, subprocess.Popen]] = {}
  died = collections.Counter()
  print(f"{len(runs)} runs, of which {len(runs) - len(todo)} have ended")
  try:
    while todo or going:
      for slot in set(range(slots)) - going.keys():
        # A run of a sweep that was killed may still be saving.
        free = [run for run in todo if not workdir_lib.taken(run.folder)]
        if free:
          todo.remove(free[0])
          going[slot] = free[0], start(free[0], slot, slots)
      time.sleep(0.2)
      for slot, (run, process) in list(going.items()):
        if (status := process.poll()) is None:
          continue
        del going[slot]
        if run.ended:
          told = "has ended"
        elif workdir_lib.taken(run.folder):
          told = "waits for another process in its folder"
          todo.append(run)
        elif status == _REFUSED or died[run] == retries:
          told = f"has failed: see {run.folder}.log"
        else:
          told = f"has died with status {status}, and goes on"
          died[run] += 1
          todo.append(run)
        print(f"{run.name} {told}", flush=True)
  finally:
    for _, process in going.values():
      process.terminate()
    for _, process in going.values():
      process.wait()


def submit(words: Sequence[str], count: int, slots: int, log: str) -> None:
  """Gives the runs to Slurm, and the page."""
  if not shutil.which("sbatch"):
    raise ValueError(
      "--slurm: expected Slurm's sbatch on this machine, found none; without "
      "--slurm the runs are started here"
    )
  own = [word for word in words if word != "--slurm"]
  again = shlex.join([sys.executable, os.path.abspath(__file__), *own])
  job = _sbatch(
    f'{again} --only="$SLURM_ARRAY_TASK_ID"', log,
    *(f"--array=0-{count - 1}%{slots}", "--requeue", "--open-mode=append"),
    "--signal=B:USR1@120",
  )
  page = _sbatch(f"{again} --page", log, f"--dependency=afterany:{job}")
  print(f"{count} runs are job {job} of Slurm, their page is job {page}")


def _sbatch(script: str, log: str, *flags: str) -> str:
  """Returns the number of a job."""
  found = subprocess.run(
    ["sbatch", "--parsable", "--job-name=sweep", f"--output={log}", *flags],
    input=f"#!/bin/sh\nexec {script}\n",
    check=True,
    text=True,
    stdout=subprocess.PIPE,
  )
  return found.stdout.split(";")[0].strip()


def _arguments(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
  """Returns the options, and the fields that are set for all runs."""
  parser = command.parser("", __doc__)
  parser.prog = "launch/sweep.py"
  parser.add_argument("configs", nargs="+", metavar="CONFIG")
  parser.add_argument("--workdir", type=pathlib.Path, required=True)
  for name, default, meaning in (
    ("--seed", 0, "of the first run of each config"),
    ("--seeds", 1, "runs of each config"),
    ("--slots", 1, "runs at a time"),
    ("--retries", 3, "how often a run that dies is started again"),
  ):
    parser.add_argument(name, type=int, default=default, help=meaning)
  parser.add_argument("--slurm", action="store_true", help="give them to Slurm")
  parser.add_argument("--only", type=int, help="one run, by number; no page")
  parser.add_argument("--page", action="store_true", help="only make the page")
  options, fields = command.parse(parser, words)
  least = min(options.seeds - 1, options.slots - 1, options.seed)
  if min(least, options.retries, options.only or 0) < 0:
    parser.error("expected --seeds and --slots from 1 on, others from 0 on")
  if odd := [word for word in fields if not word.startswith("--config.")]:
    parser.error(f"expected fields as --config.NAME=VALUE, got {odd[0]}")
  return options, fields


def _stop(number: int, _: object) -> None:
  raise _TimeLimit if number == signal.SIGUSR1 else KeyboardInterrupt


def main(words: Sequence[str]) -> int:
  """Returns the exit status: 1 if some run has failed, 2 for a mistake."""
  options, fields = _arguments(words)
  for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, _stop)
  seeds = range(options.seed, options.seed + options.seeds)
  workdir = options.workdir
  try:
    runs = plan(options.configs, seeds, workdir, fields)
    if options.slurm:
      workdir.mkdir(parents=True, exist_ok=True)
      submit(words, len(runs), options.slots, f"{workdir}/slurm-%A_%a.log")
      return 0
    if options.only is not None:
      carry_out(own := runs[options.only :][:1], 1, options.retries)
      return int(not all(run.ended for run in own))
    with workdir_lib.alone(workdir):
      if not options.page:
        carry_out(runs, options.slots, options.retries)
      ended = [run.folder for run in runs if run.ended]
      page = ended and pages.write(ended, workdir / "comparison.html")
      print(f"{len(ended)} of {len(runs)} runs have ended: {page or 'no page'}")
    return int(len(ended) < len(runs))
  except KeyboardInterrupt as stop:
    print("stopped; the same command goes on from here", file=sys.stderr)
    if isinstance(stop, _TimeLimit):
      subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]])
    return TERMINATED
  except (ValueError, OSError, subprocess.CalledProcessError) as error:
    print(f"sweep: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
  sys.exit(main(sys.argv[1:]))
