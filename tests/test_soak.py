"""What `soak.py` kills, and what it takes for a difference."""

import json
import shutil

from made_up_runs import make_search
import soak

from jnas import config as config_lib
from jnas.algorithms import registry


def test_all_algorithms_and_tasks_are_killed():
  found = [
    config_lib.load(file.removeprefix("--config="), fields)
    for file, *fields in (soak.command(name)[3:] for name in soak.RUNS)
  ]
  assert {config.algo.name for config in found} == {*registry.METHODS}
  tasks = "search retrain segment compare random_pruning".split()
  assert {config.task for config in found} == {*tasks}


def test_a_number_that_differs_is_found_and_times_may(tmp_path):
  one = make_search(tmp_path / "a")
  (one / "report.html").write_text("a")
  (one / "within").mkdir()
  shutil.copy(one / "result.json", one / "within")
  for name, edit in {
    "metrics.jsonl": lambda record: record | {"train_loss": 1.0},
    "within/result.json": lambda record: record | {"params": 1},
    "config.json": lambda record: record | {"seed": 7},
  }.items():
    other = tmp_path / "b"
    shutil.copytree(one, other)
    result = json.loads((other / "result.json").read_text()) | {"seconds": 1}
    (other / "result.json").write_text(json.dumps(result))
    (other / "run.json").write_text("{}")
    assert soak.differences(one, other) == []
    first, *rest = (other / name).read_text().splitlines()
    changed = json.dumps(edit(json.loads(first)))
    (other / name).write_text("\n".join([changed, *rest]))
    (other / "report.html").unlink()
    assert soak.differences(one, other) == sorted([name, "report.html"])
    shutil.rmtree(other)
