"""Tests of what is read and derived from a workdir."""

import json

from made_up_runs import (
  make_gold,
  make_nas_bench_201,
  make_search,
  make_stack,
  write_json,
  write_lines,
  write_restricted,
)
import pytest

from jnas import genotype as genotype_lib
from jnas.report import measures, records


def test_a_step_written_twice_counts_once(tmp_path):
  run = make_search(tmp_path / "run")
  lines = (run / "metrics.jsonl").read_text().splitlines()
  again = json.loads(lines[0]) | {"train_loss": 7.0}
  with open(run / "metrics.jsonl", "a") as file:
    file.write(json.dumps(again) + "\n")
  found = records.read(run).metrics
  assert len(found) == len(lines)
  assert found[0]["train_loss"] == 7.0


def test_of_a_long_run_all_epochs_and_some_steps_are_read(
  tmp_path, monkeypatch
):
  run = make_search(tmp_path / "run", epochs=4, steps=25)
  whole = records.read(run).metrics
  assert len(whole) == 104
  monkeypatch.setattr(records, "_STEPS", 26)
  with open(run / "metrics.jsonl", "a") as file:
    file.write('{"kind": "step", "st')
  found = records.read(run)
  steps = [line for i, line in enumerate(whole, 1) if not i % 5]
  epochs = [line for line in whole if line["kind"] == "epoch"]
  assert len(steps) == 20 and len(epochs) == 4
  assert [*found.metrics] == [
    line for line in whole if line in steps or line in epochs
  ]
  assert found.notes == (
    "metrics.jsonl has 105 lines: one of 5 steps is shown.",
    "The last line of metrics.jsonl is half-written: left out.",
  )


def test_shares_are_derived_where_not_recorded(tmp_path):
  run = make_search(tmp_path / "run")
  before = records.read(run)
  lines = [dict(line) for line in before.metrics]
  for line in lines:
    line.pop("skip_share", None)
  write_lines(run / "metrics.jsonl", lines)
  after = records.read(run)
  assert measures.skip_shares(after) == measures.skip_shares(before)


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
  assert measures.changes(records.read(run)) == [(1, 0), (2, 1), (3, 0)]


def test_wall_time_without_a_result(tmp_path):
  run = make_search(tmp_path / "run")
  (run / "result.json").unlink()
  want = 4 * (61.0 + 4.2) + 40.0 + 7.3
  assert measures.wall_seconds(records.read(run)) == pytest.approx(want)


@pytest.mark.parametrize(
  "steps, per_epoch, means",
  [
    ((1, 2, 3, 4), 2, [(1.0, 1.5), (2.0, 3.5)]),
    # The last mean stands where the run ends, within an epoch.
    ((1, 9, 11, 12), 10, [(1.0, 5.0), (1.2, 11.5)]),
  ],
)
def test_steps_are_averaged_by_epoch(tmp_path, steps, per_epoch, means):
  run = make_search(tmp_path / "run")
  lines = [
    {"kind": "step", "step": i, "epoch": i / per_epoch, "train_loss": float(i)}
    for i in steps
  ]
  write_lines(run / "metrics.jsonl", lines)
  assert measures.curve(records.read(run), "train_loss") == means


def test_other_kinds_of_genotypes(tmp_path):
  found = records.read(make_nas_bench_201(tmp_path / "cell", skips=5))
  assert not found.notes
  assert isinstance(found.genotype, genotype_lib.NasBench201Genotype)
  assert measures.skip_shares(found)[-1] == (4, 5 / 6)
  before, after = (g for _, g in found.history[-2:])
  pairs = zip(
    genotype_lib.chosen(before)["cell"],
    genotype_lib.chosen(after)["cell"],
    strict=True,
  )
  assert measures.changes(found)[-1] == (4, sum(a != b for a, b in pairs))

  found = records.read(make_stack(tmp_path / "stack", epochs=2))
  assert not found.notes
  assert isinstance(found.genotype, genotype_lib.StackGenotype)
  (_, before), (_, after) = found.history
  changed = 0
  for a, b in zip(before.cells, after.cells, strict=True):
    for i in range(0, 8, 2):
      old = list(a[i : i + 2])
      for pair in b[i : i + 2]:
        old.remove(pair) if pair in old else None
      changed += len(old)
  assert measures.changes(found) == [(2, changed)]
  assert changed


def test_benchmark_and_restricted(tmp_path):
  run = make_search(tmp_path / "run")
  found = records.read(run)
  assert (found.benchmark, found.restricted, found.notes) == ({}, (), ())
  write_restricted(run, chosen=2)
  write_json(run / "benchmark.json", {"best": 0.9447})
  found = records.read(run)
  assert found.notes == ()
  assert found.benchmark == {"best": 0.9447}
  assert [r.skips for r in found.restricted] == [4, 3, 2, 1]
  assert [r.skips for r in found.restricted if r.chosen] == [2]
  for entry in found.restricted:
    ops = [op for op, _ in entry.genotype.normal]
    assert ops.count("skip_connect") <= entry.skips


@pytest.mark.parametrize(
  "content, words",
  [
    ("{", "restricted.json cannot be read"),
    ("{}", "restricted.json holds no JSON array"),
    ("[7]", "An entry of restricted.json has no number"),
    ('[{"skips": 2}]', "No genotype could be read from restricted.json"),
  ],
)
def test_strange_restrictions_are_noted(tmp_path, content, words):
  run = make_search(tmp_path / "run")
  (run / "restricted.json").write_text(content)
  found = records.read(run)
  assert found.restricted == ()
  assert words in found.notes[0]


def test_pareto_set(tmp_path):
  found = records.read(make_search(tmp_path / "run"))
  assert (found.pareto, found.notes) == ((), ())
  assert found.shares
  run = make_gold(tmp_path / "gold")
  lines = (run / "pareto.jsonl").read_text().splitlines()
  again = json.loads(lines[0]) | {"accuracy": 0.5}
  with open(run / "pareto.jsonl", "a") as file:
    file.write(json.dumps(again) + "\n")
  found = records.read(run)
  assert found.notes == ()
  assert not found.shares
  assert [line["epoch"] for line in found.pareto] == [2, 4, 6, 8]
  assert found.pareto[0]["accuracy"] == 0.5
  (run / "pareto.jsonl").write_text("\n".join([*lines, '{"step": 8']))
  found = records.read(run)
  assert len(found.pareto) == 4
  assert "The last line of pareto.jsonl is half-written" in found.notes[0]
