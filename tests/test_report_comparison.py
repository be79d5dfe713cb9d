"""Tests of the page on several runs that no comparison has laid out."""

import json

from made_up_runs import (
  make_nas_bench_201,
  make_retrain,
  make_search,
  make_stack,
  write_json,
)
from test_report import page_of


def test_comparison(tmp_path):
  runs = [make_search(tmp_path / f"run{i}", seed=i) for i in range(2)]
  runs.append(make_retrain(tmp_path / "trained"))
  found = page_of(*runs, out=tmp_path / "all.html")
  assert "3 runs compared" in found.text
  # Runs that differ in nothing but the seed are one row.
  assert "run0, run12–83.82% ± 1.12%" in found.text.replace("\n", "")
  for name in ("run0, run1", "trained"):
    assert f"Cells of {name}" in found.text
  assert "Amended DARTS" in found.text


def test_seeds_are_counted_not_runs(tmp_path):
  runs = [make_search(tmp_path / f"run{i}", seed=i // 2) for i in range(2)]
  found = page_of(*runs, out=tmp_path / "same.html").text
  assert "% ±" not in found
  assert "run0, run1: several runs of seed 0, which count as one" in found
  runs += [make_search(tmp_path / "other", seed=1)]
  accuracies = (0.6, 0.8, 0.9)
  for run, value in zip(runs, accuracies, strict=True):
    result = json.loads((run / "result.json").read_text())
    write_json(run / "result.json", result | {"valid_accuracy": value})
  found = page_of(*runs, out=tmp_path / "two.html").text
  # The mean of 0.6 and 0.8, and 0.9: sd is 0.2 over the root of two.
  assert "run0, run1, other280.00% ± 14.14%" in found.replace("\n", "")


def test_same_names_are_told_apart(tmp_path):
  runs = [make_retrain(tmp_path / side / "run") for side in "ab"]
  found = page_of(*runs, out=tmp_path / "all.html")
  assert f"Cells of {runs[0]}, {runs[1]}" in found.text


def test_all_kinds_are_compared(tmp_path):
  runs = [make_stack(tmp_path / "a"), make_nas_bench_201(tmp_path / "b")]
  found = page_of(*runs, make_search(tmp_path / "c"), out=tmp_path / "d.html")
  assert "True accuracy" in found.text
  assert "Layers 0, 1 (normal)" in found.text
