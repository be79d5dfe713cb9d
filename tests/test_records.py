"""Tests of what is read and derived from a workdir."""

import json

from made_up_runs import make_search, write_lines
import pytest

from jnas import genotype as genotype_lib
from jnas.runs import records


def test_a_step_written_twice_counts_once(tmp_path):
  run = make_search(tmp_path / "run")
  lines = (run / "metrics.jsonl").read_text().splitlines()
  again = json.loads(lines[0]) | {"train_loss": 7.0}
  with open(run / "metrics.jsonl", "a") as file:
    file.write(json.dumps(again) + "\n")
  found = records.read(run).metrics
  assert len(found) == len(lines)
  assert found[0]["train_loss"] == 7.0


def test_shares_are_derived_where_not_recorded(tmp_path):
  run = make_search(tmp_path / "run")
  before = records.read(run)
  lines = [dict(line) for line in before.metrics]
  for line in lines:
    line.pop("skip_share", None)
    line.pop("none_weight", None)
  write_lines(run / "metrics.jsonl", lines)
  after = records.read(run)
  assert records.skip_shares(after) == records.skip_shares(before)
  for a, b in zip(
    records.none_weights(after), records.none_weights(before), strict=True
  ):
    assert a == pytest.approx(b, rel=1e-12)


def test_changes_are_counted(tmp_path):
  run = make_search(tmp_path / "run")
  g = genotype_lib.ZOO["DARTS_V2"]
  swapped = (g.normal[1], g.normal[0], *g.normal[2:])
  other = (("max_pool_3x3", 0), *g.normal[1:])
  cells = [g.normal, swapped, other, other]
  lines = []
  for i, normal in enumerate(cells):
    found = genotype_lib.Genotype(normal, range(2, 6), g.reduce, range(2, 6))
    data = genotype_lib.to_json(found)
    lines.append({"epoch": i, "step": i, "genotype": data})
  write_lines(run / "genotypes.jsonl", lines)
  # The order of the two operators of a node means nothing.
  assert records.changes(records.read(run)) == [(1, 0), (2, 1), (3, 0)]


def test_wall_time_without_a_result(tmp_path):
  run = make_search(tmp_path / "run")
  (run / "result.json").unlink()
  want = 4 * (61.0 + 4.2) + 40.0 + 7.3
  assert records.wall_seconds(records.read(run)) == pytest.approx(want)


def test_steps_are_averaged_by_epoch(tmp_path):
  run = make_search(tmp_path / "run")
  lines = [
    {"kind": "step", "step": i, "epoch": i / 2, "train_loss": float(i)}
    for i in (1, 2, 3, 4)
  ]
  write_lines(run / "metrics.jsonl", lines)
  found = records.curve(records.read(run), "train_loss")
  assert found == [(1.0, 1.5), (2.0, 3.5)]
