"""Tests of the page on several runs that no comparison has laid out."""

import json

from made_up_runs import (
  make_nas_bench_201,
  make_retrain,
  make_search,
  make_stack,
  write_json,
)
import pytest
from test_report import page_of

from jnas.report import comparison, records
from jnas.report.groups import Group, Member, of_runs, table


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


def make_seeds(path, seeds=(4, 5), **result):
  """A search with several seeds in one program, of which the last is best."""
  for k in seeds:
    own = make_search(path / f"seed{k}", seed=k)
    found = json.loads((own / "result.json").read_text())
    write_json(own / "result.json", found | {"seconds": 60.0})
  for name in ("config.json", "run.json"):
    (path / name).write_text((path / f"seed{seeds[0]}" / name).read_text())
  config = json.loads((path / "config.json").read_text())
  write_json(path / "config.json", config | {"seeds": len(seeds)})
  if result:
    write_json(path / "result.json", {"task": "search"} | result)
  return path


def test_of_several_seeds_the_cells_of_each_are_drawn(tmp_path):
  path = make_seeds(tmp_path / "run", chosen={"seed": 5, "valid_accuracy": 0.5})
  found = page_of(path).text
  assert "Amended DARTS on cifar10, 2 seeds" in found
  assert "2 runs compared" not in found and "agreement" in found
  assert "equal shares of its time" in found
  assert "the first run compiles" not in found
  assert found.index("Cells of seed 5, chosen") < found.index("Cells of seed 4")
  assert "seed 5: 50.00%" in found


def test_of_seeds_that_have_not_ended_there_is_a_page(tmp_path):
  found = page_of(make_seeds(tmp_path / "run")).text
  assert "2 seeds" in found and "the chosen one" not in found
  assert found.index("Cells of seed 4") < found.index("Cells of seed 5")


def test_of_seeds_that_agree_the_cells_are_drawn_once(tmp_path):
  path = make_seeds(tmp_path / "run", (4, 5, 6))
  for name in ("genotypes.jsonl", "genotype.json", "result.json"):
    same = (path / "seed4" / name).read_text()
    (path / "seed6" / name).write_text(same)
  found = page_of(path).text
  assert "Cells of seed 4, 6" in found and "Cells of seed 5" in found
  assert "Cells of seed 6" not in found


def test_with_other_runs_each_of_the_seeds_is_compared(tmp_path):
  path = make_seeds(tmp_path / "run", chosen={"seed": 5})
  other = make_retrain(tmp_path / "other")
  found = page_of(path, other, out=tmp_path / "all.html").text
  assert "3 runs compared" in found and "seed4, seed5" in found


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


def rows_of(section):
  (table,) = [part for part in section.parts if part.kind == "table"]
  texts = [[cell.text for cell in row] for row in table.cells]
  return table, [dict(zip(table.heads, row, strict=True)) for row in texts]


def test_what_configurations_differ_in(tmp_path):
  runs = [make_search(tmp_path / f"run{i}", seed=i) for i in range(3)]
  for run, value in zip(runs, (0.1, 0.1, 0.2), strict=True):
    config = json.loads((run / "config.json").read_text())
    config["algo"]["eta"], config["name"] = value, "x" * 99
    config |= {} if value == 0.1 else {"space": {"cells": [5, 7]}}
    write_json(run / "config.json", config)
  groups = of_runs(list(map(records.read, runs)))
  _, rows = rows_of(comparison._differences(groups))
  assert rows == [
    {"field": "algo.eta", "run0, run1": "0.1", "run2": "0.2"},
    {"field": "space.cells", "run0, run1": "–", "run2": "[5, 7]"},
  ]
  assert comparison._differences(groups[:1]) is None


def test_seeds_agree_as_far_as_their_genotypes_do():
  cells = (  # four connections each; of two pairs one and two are shared
    "[('skip_connect', 0), ('sep_conv_3x3', 1)]",
    "[('skip_connect', 0), ('max_pool_3x3', 1)]",
    "[('skip_connect', 1), ('max_pool_3x3', 0)]",
  )
  whole = (
    "Genotype(normal={}, normal_concat=[2], reduce=[('skip_connect', 0), "
    "('skip_connect', 1)], reduce_concat=[2])"
  )
  members = [
    Member(str(k), {"genotype": whole.format(cell)})
    for k, cell in enumerate(cells)
  ]
  # Three, two and two of four.
  assert Group("a", members).agreement == pytest.approx((3 + 2 + 2) / 12)
  heads, rows = table([Group("a", members), Group("b", members[:1])])
  assert heads.index("agreement") == 2
  assert [row[2] for row in rows] == ["58%", "–"]
  # A seed that ran twice is one, and what is damaged is not known.
  assert Group("a", [members[0]] * 2).agreement is None
  broken = Member("9", {"genotype": "Genotype("})
  assert Group("a", [*members, broken]).agreement is None
  assert "agreement" not in table([Group("a", [broken])])[0]


def test_every_run_has_a_row_and_a_link_to_its_page(tmp_path):
  runs = [make_search(tmp_path / f"run{i}", seed=i) for i in range(2)]
  page_of(runs[1])
  groups = of_runs(list(map(records.read, runs)))
  home = tmp_path / "pages"
  table, rows = rows_of(comparison._runs(groups, home))
  assert [row["run"] for row in rows] == ["run0", "run1"]
  assert [row["seed"] for row in rows] == ["0", "1"]
  # Only where there is one.
  assert [row[0].link for row in table.rows] == ["", "../run1/report.html"]


def test_dots_stand_over_the_mean_and_deviation_of_their_seeds(tmp_path):
  results = [{"valid_accuracy": value} for value in (0.6, 0.8)]
  members = [Member(str(k), result) for k, result in enumerate(results)]
  group = Group("a", members, chosen={"seed": 1, "valid_accuracy": 0.8})
  figure = comparison._strips(
    "valid_accuracy", "Validation", [group], {"best": 0.9}
  )
  found = {}
  for mark in figure.data["chart"]["marks"]:
    found.setdefault(mark["kind"], []).append(mark["points"])
  sd = 0.2 / 2**0.5
  (box,) = found["area"]
  ends = [0.7 - sd, 0.7 + sd]
  assert [x for x, _ in box] == pytest.approx(ends + ends[::-1], abs=1e-4)
  assert found["dots"] == [[[0.6, 0.0], [0.8, 0.0]]]
  assert found["rings"] == [[[0.8, 0.0]]]
  assert found["line"] == [[[0.7, -0.25], [0.7, 0.25]]]
  assert "best 90.00%" in figure.svg


def test_perplexities_are_shown_as_they_are_and_the_lowest_is_best(tmp_path):
  """Percentages, and the best accuracy, are of images."""
  run = records.read(make_search(tmp_path / "run"))
  members = [
    Member(str(k), {"valid_perplexity": value}, run)
    for k, value in enumerate((12.5, 10.0))
  ]
  group = Group("a", members, chosen={"seed": 1, "valid_perplexity": 10.0})
  figure, *_ = comparison._spread([group]).parts
  assert figure.title == "Validation perplexity of each seed"
  assert "%" not in figure.svg and "12" in figure.svg
  note = comparison._overview([group]).note
  assert "lowest validation perplexity" in note and "accuracy" not in note
