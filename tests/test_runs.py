"""Whole runs, as processes and as calls: nothing is lost, errors are plain."""

import fcntl
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from jnas import config as config_lib
from jnas import genotype as genotype_lib
from jnas.runs import retrain, search
from jnas.runtime import checkpoint, signals

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "amended_darts.py"
PLAIN = (
  "Genotype(normal=[('skip_connect', 0), ('skip_connect', 1)], "
  "normal_concat=[2], reduce=[('max_pool_3x3', 0), ('skip_connect', 1)], "
  "reduce_concat=[2])"
)
TINY = [
  "--config.space.name=s3",
  "--config.space.cells=3",
  "--config.space.width=4",
  "--config.space.nodes=1",
  "--config.data.limit=128",
  "--config.train.batch=16",
  "--config.train.length=12 epochs",
  "--config.train.drop_path=0.1",
  "--config.arch.lr=0.01",
  "--config.weights.lr=0.1",
  "--config.log.every=2 steps",
  "--config.log.save=7 steps",
]


def start(workdir: pathlib.Path, *more: str) -> subprocess.Popen:
  """The command of a user, on one CPU device."""
  flags = "--xla_backend_optimization_level=0"
  return subprocess.Popen(
    [
      *(sys.executable, "-m", "jnas.main", f"--config={CONFIG}:quick"),
      *(f"--workdir={workdir}", *TINY, *more),
    ],
    cwd=ROOT,
    env=os.environ | {"XLA_FLAGS": flags, "PYTHONUNBUFFERED": "1"},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def finished(process: subprocess.Popen) -> str:
  output, _ = process.communicate(timeout=300)
  assert process.returncode == 0, output
  return output


def wait_for_step(workdir: pathlib.Path, step: int, process) -> None:
  """Returns when the run has written a line of that step or a later one."""
  path = workdir / "metrics.jsonl"
  while process.poll() is None:
    lines = path.read_text().splitlines() if path.exists() else []
    if any(f'"step": {n},' in line for line in lines[-3:]
           for n in range(step, step + 20)):
      return
    time.sleep(0.02)
  raise AssertionError(process.communicate()[0])


def records(workdir: pathlib.Path, name: str) -> list[dict]:
  """The lines of a file without what a clock measured."""
  lines = (workdir / name).read_text().splitlines()
  timed = ("seconds", "per_second", "compile_share")
  return [
    {k: v for k, v in json.loads(line).items() if not k.endswith(timed)}
    for line in lines
  ]


def last_state(workdir: pathlib.Path) -> dict[str, bytes]:
  """The bytes of every array of the last checkpoint."""
  import orbax.checkpoint as ocp

  folder = workdir / "checkpoints"
  with checkpoint.Checkpoints(folder) as saved:
    step, _ = saved.latest()
  with ocp.StandardCheckpointer() as reader:
    tree = reader.restore((folder / str(step) / "state").absolute())
  flat = {}

  def collect(path, node):
    if isinstance(node, dict):
      for key, value in node.items():
        collect(f"{path}/{key}", value)
    elif isinstance(node, list | tuple):
      for i, value in enumerate(node):
        collect(f"{path}/{i}", value)
    elif node is not None:
      flat[path] = np.asarray(node).tobytes()

  collect("", tree)
  return flat


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> pathlib.Path:
  """A run that nothing interrupted."""
  workdir = tmp_path_factory.mktemp("runs") / "whole"
  output = finished(start(workdir))
  assert "genotype: Genotype(normal=[" in output
  return workdir


def assert_same_run(a: pathlib.Path, b: pathlib.Path) -> None:
  for name in ("metrics.jsonl", "genotypes.jsonl", "arch.jsonl"):
    assert records(a, name) == records(b, name)
  assert json.loads((a / "genotype.json").read_text()) == json.loads(
    (b / "genotype.json").read_text()
  )
  states = last_state(a), last_state(b)
  assert len(states[0]) > 20 and states[0] == states[1]
  results = [json.loads((x / "result.json").read_text()) for x in (a, b)]
  for result in results:
    del result["seconds"]
  assert results[0] == results[1]


def test_a_killed_run_ends_with_the_same_numbers(whole, tmp_path):
  workdir = tmp_path / "killed"
  process = start(workdir)
  wait_for_step(workdir, 16, process)
  process.kill()
  process.wait()
  assert not (workdir / "result.json").exists()
  # What the process was writing when it died.
  with open(workdir / "metrics.jsonl", "a") as file:
    file.write('{"kind": "step", "st')
  output = finished(start(workdir))
  assert "going on from step" in output
  assert_same_run(whole, workdir)


def test_sigterm_saves_and_a_half_written_checkpoint_is_skipped(
  whole, tmp_path
):
  workdir = tmp_path / "terminated"
  process = start(workdir)
  wait_for_step(workdir, 16, process)
  process.send_signal(signal.SIGTERM)
  output, _ = process.communicate(timeout=60)
  assert process.returncode == signals.TERMINATED, output
  assert "stopped by SIGTERM after step" in output
  assert "Traceback" not in output
  folders = sorted(
    int(p.name) for p in (workdir / "checkpoints").iterdir()
     if p.name.isdigit()
  )
  newest = workdir / "checkpoints" / str(folders[-1])
  assert f"after step {folders[-1]}" in output
  largest = max(newest.rglob("*"), key=lambda p: p.is_file() * p.stat().st_size)
  largest.write_bytes(largest.read_bytes()[:-7])
  output = finished(start(workdir))
  assert f"going on from step {folders[-2]}" in output
  assert "skipped" in output
  assert_same_run(whole, workdir)


@pytest.mark.slow
def test_a_run_killed_in_its_first_second_ten_times_goes_on(whole, tmp_path):
  workdir = tmp_path / "killed"
  config, written = workdir / "config.json", 0
  for tenths in range(10):
    process = start(workdir)
    # Its beginning: the folder, or where it is there, its config.
    while process.poll() is None and (
      config.stat().st_mtime_ns == written
      if config.exists()
      else not workdir.exists()
    ):
      time.sleep(0.002)
    time.sleep(tenths / 10)
    process.kill()
    output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, output
    written = config.stat().st_mtime_ns if config.exists() else 0
  finished(start(workdir))
  assert_same_run(whole, workdir)


def test_files_of_a_run(whole):
  names = {path.name for path in whole.iterdir()}
  assert names == {
    *("config.json", "run.json", "metrics.jsonl", "genotype.json"),
    *("genotypes.jsonl", "arch.jsonl", "result.json", "checkpoints"),
    "data.json",
    *("report.html", ".lock"),
  }
  lines = records(whole, "metrics.jsonl")
  epochs = [line for line in lines if line["kind"] == "epoch"]
  assert [line["epoch"] for line in epochs] == list(range(1, 13))
  assert len(lines) == 12 + 24
  # 12 epochs of 4 steps teach it something.
  assert epochs[-1]["valid_accuracy"] > 0.2
  assert epochs[-1]["train_loss"] < epochs[0]["train_loss"]
  history = records(whole, "arch.jsonl")
  rows = np.array(history[-1]["weights"]["normal"])
  assert rows.shape == (2, 3)
  np.testing.assert_allclose(rows.sum(-1), 1, atol=1e-5)
  assert history[0]["weights"] != history[-1]["weights"]


def test_a_finished_run_is_not_run_again(whole):
  before = (whole / "metrics.jsonl").read_bytes()
  output = finished(start(whole))
  assert "genotype: " in output
  assert (whole / "metrics.jsonl").read_bytes() == before


def test_another_config_is_refused(whole):
  process = start(whole, "--config.algo.eta=0.5", "--config.seed=1")
  output, _ = process.communicate(timeout=60)
  assert process.returncode == 2
  assert "algo.eta: 0.1 there, 0.5 here" in output
  assert "seed: 0 there, 1 here" in output
  assert "choose another --workdir" in output
  assert "Traceback" not in output


def tiny(*more: str):
  overrides = [*TINY, "--config.train.length=2 epochs", *more]
  return config_lib.load(f"{CONFIG}:quick", overrides)


def test_nan_stops_the_run(tmp_path):
  config = tiny(
    "--config.weights.lr=1e30", "--config.weights.clip=0",
    "--config.log.save=1 steps", "--config.algo.name=darts",
    "--config.algo.hypergrad=first_order", "--config.weights.lr_end=1e30",
  )
  with pytest.raises(ValueError) as error:
    search.run(config, tmp_path / "nan")
  message = str(error.value)
  assert "not finite at step" in message
  assert "train_loss" in message or "gradient_norm" in message
  assert "last good checkpoint is" in message


def test_a_batch_that_devices_cannot_share_is_refused(tmp_path):
  with pytest.raises(ValueError, match="multiple of the 4 devices"):
    search.run(tiny("--config.train.batch=18"), tmp_path / "batch")


def test_two_processes_do_not_share_a_directory(tmp_path):
  (tmp_path / "run").mkdir()
  with open(tmp_path / "run" / ".lock", "a") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    with pytest.raises(ValueError, match="another process is running in"):
      search.run(tiny(), tmp_path / "run")


def test_a_foreign_directory_is_refused(tmp_path):
  (tmp_path / "letters.txt").write_text("keep me")
  with pytest.raises(ValueError, match="is not empty and holds no run"):
    search.run(tiny(), tmp_path)


def test_retraining_what_a_search_found(whole, tmp_path):
  config = config_lib.load(
    f"{ROOT / 'configs' / 'retrain.py'}:quick",
    [
      f"--config.retrain.genotype={whole}",
      *("--config.space.width=4", "--config.data.limit=256"),
      *("--config.train.length=6 epochs", "--config.train.auxiliary=0.4"),
      *("--config.train.drop_path=0.1", "--config.log.progress=false"),
    ],
  )
  result = retrain.run(config, tmp_path / "retrained")
  found = genotype_lib.load(str(whole))
  assert result["genotype"] == genotype_lib.format_text(found)
  assert result["test_accuracy"] > 0.5
  assert math.isfinite(result["test_loss"])
  page = (tmp_path / "retrained" / "report.html").read_text()
  assert "Confusion matrix" in page and "the search of its genotype" in page
  record = json.loads((tmp_path / "retrained" / "mistakes.json").read_text())
  confusion = np.array(record["confusion"])
  # The rest of a batch is judged, too, and by the statistics of training.
  right = np.trace(confusion) / confusion.sum()
  assert right == pytest.approx(result["test_accuracy"], abs=1e-6)
  probabilities = [one["probability"] for one in record["worst"]]
  assert probabilities == sorted(probabilities, reverse=True)
  # Started again it ends at once, with the same numbers.
  again = retrain.run(config, tmp_path / "retrained")
  assert again == result


def test_a_search_in_one_level_and_its_network_trained_with_alpha_fixed(
  tmp_path,
):
  short = ("--config.train.length=4 steps", "--config.log.evaluate=0 epochs")
  short += ("--config.algo.hypergrad=first_order",)
  config = tiny(
    "--config.algo.one_level=true", "--config.data.share=1", *short
  )
  search.run(config, tmp_path / "search")
  again = ["--config.retrain.relaxed=true", "--config.data.limit=128"]
  again += ["--config.train.length=4 steps", "--config.log.progress=false"]
  again += ["--config.train.batch=16"]

  def of(folder):
    path = f"{ROOT / 'configs' / 'retrain.py'}:quick"
    own = f"--config.retrain.genotype={folder}"
    return config_lib.load(path, [*again, own])

  result = retrain.run(of(tmp_path / "search"), tmp_path / "relaxed")
  found = json.loads((tmp_path / "search" / "result.json").read_text())
  assert result["params"] == found["params"]  # of the whole search network
  assert math.isfinite(result["test_loss"])
  # Its architecture weights are those at the end of the search, and stay.
  line = (tmp_path / "search" / "arch.jsonl").read_text().splitlines()[-1]
  saved = {
    name.split("/")[2]: np.frombuffer(value, np.float32)
    for name, value in last_state(tmp_path / "relaxed").items()
    if name.startswith("/arch/")
  }
  for name, rows in json.loads(line)["weights"].items():
    expected = np.asarray(rows, np.float32)
    np.testing.assert_array_equal(saved.pop(name), expected.ravel())
  assert not saved
  with pytest.raises(ValueError, match="to be the directory of a search"):
    retrain.run(of("DARTS_V2"), tmp_path / "none")
  record = json.loads((tmp_path / "search" / "config.json").read_text())
  record["space"]["nodes"] = 2
  (tmp_path / "search" / "config.json").write_text(json.dumps(record))
  with pytest.raises(ValueError, match="expected a search in one stage"):
    retrain.run(of(tmp_path / "search"), tmp_path / "other")


def test_a_recurrent_genotype_is_refused(tmp_path):
  text = genotype_lib.format_text(
    genotype_lib.load("DARTS_V1", recurrent=True)
  )
  config = config_lib.load(
    f"{ROOT / 'configs' / 'retrain.py'}:quick",
    [f"--config.retrain.genotype={text}"],
  )
  with pytest.raises(ValueError, match="recurrent cell"):
    retrain.run(config, tmp_path / "rnn")


def test_several_seeds_are_runs_of_their_own_and_one_result(
  tmp_path, capsys, monkeypatch
):
  def load(*more):
    short = ("space.width=4", "data.limit=128", "train.length=2 epochs")
    fields = (f"retrain.genotype={PLAIN}", "log.progress=false", *short, *more)
    return config_lib.load(
      f"{ROOT / 'configs' / 'retrain.py'}:quick",
      [f"--config.{field}" for field in fields],
    )

  result = retrain.run(load("retrain.seeds=3", "seed=4"), tmp_path / "all")
  assert "+- " in capsys.readouterr().out
  alone = retrain.run(load("seed=5"), tmp_path / "one")
  ended = [
    json.loads((tmp_path / "all" / f"seed{seed}" / "result.json").read_text())
    for seed in (4, 5, 6)
  ]
  assert ended[1]["test_loss"] == alone["test_loss"]
  losses = [one["test_loss"] for one in ended]
  assert len(set(losses)) == 3
  assert result["test_loss"] == pytest.approx(np.mean(losses))
  assert result["test_loss_sd"] == pytest.approx(np.std(losses, ddof=1))
  assert result["seeds"] == [4, 5, 6]
  page = (tmp_path / "all" / "report.html").read_text()
  assert "Retraining on digits, 3 seeds" in page
  assert "±" in page
  # Of the seeds that have ended nothing is trained again.
  monkeypatch.setattr(retrain, "build_plan", None)
  again = retrain.run(load("retrain.seeds=3", "seed=4"), tmp_path / "all")
  assert again == result
