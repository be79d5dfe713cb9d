"""The sweep over many runs: what is started, again, and compared at the end."""

import importlib.util
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import time

from made_up_runs import make_search
import pytest
from test_hosts import COMMAND, ROOT
from test_launch import program

from jnas.runtime.signals import TERMINATED

SCRIPT = ROOT / "launch" / "sweep.py"
CONFIG = "configs/darts.py:quick"
# Stands for a run: FOLDER, then what it does in each of its lives.
STAND_IN = """
import os, pathlib, signal, sys
folder, *lives = sys.argv[1:]
lived = pathlib.Path(folder + ".lived")
with open(lived, "a") as file:
  file.write(os.environ.get("CUDA_VISIBLE_DEVICES", "all") + "\\n")
act = lives[min(len(lived.read_text().split()), len(lives)) - 1]
if act == "die":
  os.kill(os.getpid(), signal.SIGKILL)
if act == "end":
  (pathlib.Path(folder) / "report.html").write_text("")
sys.exit(2 if act == "refuse" else 0)
"""


@pytest.fixture(scope="module")
def sweep():
  spec = importlib.util.spec_from_file_location("sweep", SCRIPT)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def stand_in(sweep, workdir: pathlib.Path, *lives: str):
  """A run that so spends its lives; all but the report of its end is there."""
  name = "_".join(lives)
  folder = make_search(workdir / name)
  command = (sys.executable, "-S", "-c", STAND_IN, str(folder), *lives)
  return sweep.Run(name, folder, "search", command)


def lives(run) -> list[str]:
  return pathlib.Path(f"{run.folder}.lived").read_text().split()


def test_what_dies_goes_on_and_what_refuses_does_not(
  sweep, tmp_path, capsys, monkeypatch
):
  monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7,8")
  ways = ["end"], ["die", "die", "end"], ["die"], ["refuse"], ["exit"]
  runs = [stand_in(sweep, tmp_path, *way) for way in ways]
  sweep.carry_out(runs, slots=2, retries=2)
  assert [run.ended for run in runs] == [True, True, False, False, False]
  assert [len(lives(run)) for run in runs] == [1, 3, 3, 1, 3]
  assert {gpus for run in runs for gpus in lives(run)} == {"4,5", "6,7"}
  told = capsys.readouterr().out
  assert "die has died with status -9, and goes on" in told
  assert f"refuse has failed: see {tmp_path}/refuse.log" in told
  sweep.carry_out(runs[:2], slots=2, retries=0)
  assert len(lives(runs[1])) == 3
  assert "2 runs, of which 2 have ended" in capsys.readouterr().out


def test_a_run_that_goes_on_by_itself_is_waited_for(
  sweep, tmp_path, capsys, monkeypatch
):
  run = stand_in(sweep, tmp_path, "refuse", "end")
  seen = iter([False, True, True, False])
  monkeypatch.setattr(sweep.workdir_lib, "taken", lambda folder: next(seen))
  sweep.carry_out([run], slots=1, retries=0)
  assert run.ended and len(lives(run)) == 2
  assert "waits for another process" in capsys.readouterr().out


def test_the_plan_and_mistakes_in_it(sweep, tmp_path):
  specs = [CONFIG, f"{CONFIG} arch.lr=0.5"]
  fields = ["--config.train.batch=8"]
  found = sweep.plan(specs, range(3, 5), tmp_path, fields)
  assert [run.name for run in found] == [
    *("darts_quick/seed3", "darts_quick/seed4"),
    *("darts_quick_lr_0.5/seed3", "darts_quick_lr_0.5/seed4"),
  ]
  assert found[3].command[3:] == (
    *("--config=configs/darts.py:quick", "--config.train.batch=8"),
    *("--config.arch.lr=0.5", "--config.seed=4"),
    f"--workdir={tmp_path}/darts_quick_lr_0.5/seed4",
  )
  with pytest.raises(ValueError, match="another config is called darts_quick/"):
    sweep.plan([CONFIG, CONFIG], range(1), tmp_path, [])
  with pytest.raises(ValueError, match="did you mean"):
    sweep.plan([CONFIG], range(1), tmp_path, ["--config.train.bath=8"])


def test_a_field_may_hold_spaces(sweep):
  field = "--config.train.length=2 steps"
  options, fields = sweep._arguments([CONFIG, field, "--workdir=x"])
  assert options.configs == [CONFIG] and fields == [field]


@pytest.mark.parametrize(
  "words, problem",
  [
    ([], "required: CONFIG, --workdir"),
    ([CONFIG, "--workdir=x", "--slots=0"], "expected --seeds and --slots from"),
    ([CONFIG, "--workdir=x", "--retry=1"], "expected fields as --config.NAME"),
    (["nowhere.py", "--workdir=x"], "nowhere.py"),
    ([CONFIG, "--workdir=x", "--slurm"], "expected Slurm's sbatch on this"),
  ],
)
def test_mistakes_are_one_sentence(
  sweep, words, problem, capsys, monkeypatch, tmp_path
):
  monkeypatch.setattr(signal, "signal", lambda *_: None)
  monkeypatch.setattr(shutil, "which", lambda _: None)
  monkeypatch.chdir(tmp_path)
  try:
    status = sweep.main(words)
  except SystemExit as stop:
    status = stop.code
  told = capsys.readouterr().err
  assert status == 2 and problem in told and told.count("\n") == 1


def start(words: list, **more: str) -> subprocess.Popen:
  flags = COMMAND[4:]
  return subprocess.Popen(
    [sys.executable, SCRIPT, CONFIG, *flags, *words],
    cwd=ROOT,
    env=os.environ
    | {
      "JAX_PLATFORMS": "cpu",
      "PYTHONPATH": str(ROOT),
      "XLA_FLAGS": "--xla_backend_optimization_level=0",
    }
    | more,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def steps(workdir: pathlib.Path) -> int:
  """Lines that both runs have written, at least."""
  return min(
    len(path.read_text().splitlines()) if path.exists() else 0
    for path in (
      workdir / f"darts_quick/seed{seed}/metrics.jsonl" for seed in (0, 1)
    )
  )


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on(tmp_path):
  words = ["--seeds=2", "--slots=2", f"--workdir={tmp_path / 'sweep'}"]
  sweep = start(words)
  while steps(tmp_path / "sweep") < 6 and sweep.poll() is None:
    time.sleep(0.05)
  sweep.kill()
  sweep.communicate()
  sweep = start(words)
  before = steps(tmp_path / "sweep")
  while steps(tmp_path / "sweep") < before + 9 and sweep.poll() is None:
    time.sleep(0.05)
  sweep.terminate()
  output, _ = sweep.communicate(timeout=60)
  assert sweep.returncode == TERMINATED, output
  for seed in (0, 1):
    log = (tmp_path / f"sweep/darts_quick/seed{seed}.log").read_text()
    assert log.count("stopped by SIGTERM after step") == 2  # both times
  output, _ = (sweep := start(words)).communicate(timeout=200)
  assert sweep.returncode == 0, output
  assert "2 runs, of which 0 have ended" in output
  page = tmp_path / "sweep/comparison.html"
  assert output.endswith(f"2 of 2 runs have ended: {page}\n")
  assert "2 runs compared" in page.read_text()


SBATCH = """
echo "$*" >> "$FOLDER/jobs"
script=$(cat)
tasks=
for word in "$@"; do case $word in --array=0-1%2) tasks="0 1";; esac; done
for task in ${tasks:-page}; do
  SLURM_ARRAY_TASK_ID=$task sh -c "$script" >> "$FOLDER/log" 2>&1 || exit
done
echo "7;cluster"
"""


@pytest.mark.slow
def test_slurm_has_an_array_and_then_the_page(tmp_path):
  program(tmp_path / "bin/sbatch", SBATCH)
  output, _ = (
    sweep := start(
      [
        *("--seeds=2", "--slots=2", f"--workdir={tmp_path}/sweep", "--slurm"),
        "--config.train.length=2epochs",
      ],
      FOLDER=str(tmp_path),
      PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}",
    )
  ).communicate(timeout=200)
  assert sweep.returncode == 0, output
  assert output == "2 runs are job 7 of Slurm, their page is job 7\n"
  array, page = (tmp_path / "jobs").read_text().splitlines()
  assert "--array=0-1%2" in shlex.split(array)
  assert "--dependency=afterany:7" in shlex.split(page)
  for seed in (0, 1):
    folder = tmp_path / f"sweep/darts_quick/seed{seed}"
    assert json.loads((folder / "config.json").read_text())["seed"] == seed
  assert "2 runs compared" in (tmp_path / "sweep/comparison.html").read_text()
