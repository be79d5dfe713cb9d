"""The summary of what a device was seen to do."""

import json
import pathlib
import re
import subprocess
import sys

from benchmarks import on_device
from jnas import config as config_lib
from jnas.runs import problem, search


def test_a_summary_puts_what_was_planned_beside_what_was_measured(tmp_path):
  (tmp_path / "device.txt").write_text("H9000 gpu\n")
  (tmp_path / "short_darts.txt").touch()
  (tmp_path / "short_gdas.txt").write_text("gdas ended with status 124")
  run = tmp_path / "short" / "darts"
  run.mkdir(parents=True)
  records = [
    {"kind": "step", "step_seconds": seconds} for seconds in (9.0, 0.4, 0.6)
  ]
  records.append({"kind": "epoch", "epoch": 1.0, "compile_seconds": 33.0})
  (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, records)))
  program = {"of_run": 10, "total": 2**24, "step_seconds": 0.25}
  (tmp_path / "plan_darts.txt").write_text(
    json.dumps({"programs": [program, {"of_run": None, "total": 2**30}]})
  )
  search = tmp_path / "search" / "entrannas"
  search.mkdir(parents=True)
  (search / "metrics.jsonl").write_text('{"kind": "epoch", "epoch": 7.0}\n')

  command = [sys.executable, "-m", "benchmarks.on_device", str(tmp_path)]
  said = subprocess.run(command, capture_output=True, text=True, check=True)
  text = (tmp_path / "summary.md").read_text()
  assert said.stdout == text
  assert "H9000" in text and "## agreement\n\n```\nnot run" in text
  assert "| darts | 33.0 | 0.5000 | 0.2500 | 2.00 | 16 |" in text
  assert "| gdas |  |  |  |  |  |" in text
  assert "- entrannas: 7.0 epochs, cut short" in text


def test_a_missing_folder_is_told(capsys, monkeypatch):
  monkeypatch.setattr(sys, "argv", ["on_device", "nowhere"])
  assert on_device.main() == 2
  assert "nowhere" in capsys.readouterr().err


def test_short_runs_of_all_algorithms_can_begin():
  script = pathlib.Path(on_device.__file__).with_suffix(".sh").read_text()
  (names,) = re.findall(r'^algorithms="(.*)"', script, re.M)
  fields = re.findall(r'--config\.(\w+\.\w+)="(\d[^"]*|\$length)"', script)
  assert ("algo.warmup", "0 steps") in fields
  for name in names.split():
    words = [f"{k}={v.replace('$length', '100 steps')}" for k, v in fields]
    config = config_lib.load(
      f"configs/{name}.py",
      [f"--config.{w}" for w in (*words, "data.name=digits", "data.path=")],
    )
    (found,) = problem.read(config)
    search.build_plan(found, found.stages.first)
