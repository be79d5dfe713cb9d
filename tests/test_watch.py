"""The table of runs as they go."""

import json
import os

import made_up_runs
import pytest

from jnas import cli
from jnas.runs import watch


@pytest.fixture
def running(tmp_path):
  """A search that has done two of four epochs, of ten seconds each."""
  path = tmp_path / "runs" / "a"
  made_up_runs.make_search(path)
  (path / "result.json").unlink(missing_ok=True)
  made_up_runs.write_lines(
    path / "metrics.jsonl",
    [
      {"kind": "epoch", "step": 10, "epoch": 2.0, "valid_accuracy": 0.5,
       "valid_loss": 1.0, "epoch_seconds": 8.0, "eval_seconds": 2.0},
      {"kind": "step", "step": 15, "epoch": 3.0, "train_loss": 0.1},
    ],
  )
  return path


def row(path, later=0.0):
  written = (path / "metrics.jsonl").stat().st_mtime
  return watch.row(path, "a", written + later)


def test_of_several_seeds_in_one_program_each_is_shown(running):
  root = running.parent
  (root / "config.json").write_text(json.dumps({"task": "search", "seeds": 2}))
  assert list(watch.find(root)) == [running]


def test_a_run_that_goes_on(running):
  found = row(running)
  assert (found.state, found.progress) == ("running", 0.75)
  assert found.left == pytest.approx(10)  # one epoch more
  assert found.title == "Amended DARTS"
  assert found.values == "valid accuracy 50.0%"
  assert row(running, -3600) == found  # a clock that was set back


def test_lengths_in_steps_are_measured_in_steps(running):
  config = json.loads((running / "config.json").read_text())
  config["train"]["length"] = "20 steps"
  made_up_runs.write_json(running / "config.json", config)
  found = row(running)
  assert (found.progress, found.left) == (0.75, pytest.approx(10))


def test_one_that_is_silent_and_one_that_has_finished(running):
  os.utime(running / "config.json", (0, 0))
  os.utime(running / "run.json", (0, 0))
  assert row(running, 3725).state == "silent for 1:02:05"
  made_up_runs.write_json(running / "result.json", {})
  found = row(running, 3725)
  assert (found.state, found.progress, found.left) == ("finished", 1.0, None)


def test_the_end_of_a_long_file_is_read_and_half_a_line_is_not(tmp_path):
  path = tmp_path / "metrics.jsonl"
  lines = [{"kind": "step", "step": i, "text": "x" * 90} for i in range(2000)]
  made_up_runs.write_lines(path, lines)
  with open(path, "a") as file:
    file.write('{"kind": "step", "step": 9999')
  assert watch.last_lines(path) == {"step": lines[-1]}
  assert watch.last_lines(tmp_path / "none.jsonl") == {}


def test_what_is_no_number_is_left_out(running):
  made_up_runs.write_lines(
    running / "metrics.jsonl",
    [{"kind": "epoch", "step": None, "epoch": "x", "valid_accuracy": None}],
  )
  found = row(running)
  assert (found.progress, found.left, found.values) == (None, None, "")
  (running / "metrics.jsonl").unlink()
  assert watch.row(running, "a", 0.0).progress is None


def test_the_command(running, capsys):
  made_up_runs.make_search(running.parent / "b", seed=1)
  assert cli.main(["watch", "--once", str(running.parent)]) == 0
  title, *rows = capsys.readouterr().out.splitlines()
  assert title.split()[:4] == ["run", "algorithm", "state", "done"]
  assert [line.split()[0] for line in rows] == ["runs/a", "runs/b"]
  assert "75%" in rows[0]


def test_mistakes(tmp_path, capsys):
  words = ["watch", str(tmp_path), str(tmp_path / "x"), "--every=0"]
  assert cli.main(words) == 2
  none_yet, no_folder, every = capsys.readouterr().err.splitlines()
  assert "holds none yet" in none_yet
  assert "no folder" in no_folder
  assert "above 0" in every
