"""The benchmark that compiles searches for TPUs that are not there."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from benchmarks import compile_for
from jnas import config as config_lib


@pytest.mark.parametrize("name", compile_for.ROWS)
def test_rows_have_configs(name):
  row = compile_for.ROWS[name]
  batch = f"--config.train.batch={row.batch * row.chips}"
  fields = [batch, *(f"--config.{field}" for field in row.fields)]
  config_lib.load(row.config, fields)


def test_a_row_that_is_not_there_is_told(capsys, monkeypatch):
  monkeypatch.setattr(sys, "argv", ["compile_for", "darst"])
  with pytest.raises(SystemExit) as stopped:
    compile_for.main()
  assert stopped.value.code == 2
  assert "expected rows of small, darts," in capsys.readouterr().err


def test_the_table_has_a_line_a_program():
  found = {
    "compile_cpu_seconds": 60.2, "peak_mb": 1_840.0, "temporaries": 79e6,
    "step_cycles": None, "collectives": 2.0, "collective_bytes": 4e6,
    "step_seconds": 0.3, "floor_seconds": None, "kernels": 4_321.0,
  }
  assert compile_for._line("darts", found) == (
    "| darts | 60 | 1.8 | 79 | 4,321 kernels |  | 2, 4.00 |"
  )
  found |= {"step_cycles": 3e8, "floor_seconds": 0.1}
  assert compile_for._line("darts", found) == (
    "| darts | 60 | 1.8 | 79 | 300.0 | 3.0 | 2, 4.00 |"
  )
  assert compile_for._line("gdas", {"error": "no"}) == "| gdas | no |"


@pytest.mark.slow
@pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None,
  reason="needs the compiler for TPUs: pip install 'jnas[plan-tpu]'",
)
def test_a_small_search_compiles_for_a_tpu_in_minutes():
  found = subprocess.run(
    [sys.executable, "-m", "benchmarks.compile_for", "--here", "small"],
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
    capture_output=True, text=True, timeout=1200,
  )
  assert not found.returncode, found.stderr[-2000:]
  told = json.loads(found.stdout.strip().rpartition("\n")[2])
  assert told["compile_cpu_seconds"] < 240
  assert told["temporaries"] < 1e9
  assert told["step_cycles"] > 0 and told["fits"]
  assert told["collectives"] == told["unknown_loops"] == 0
