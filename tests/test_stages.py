"""Searches in stages: what is decided between them, and nothing is lost."""

import json
import pathlib
import shutil

import pytest
from test_runs import assert_same_run, records

from jnas import config as config_lib
from jnas import genotype as genotype_lib
from jnas.algorithms import stages as stages_lib
from jnas.runs import search
from jnas.runtime import checkpoint

ROOT = pathlib.Path(__file__).parents[1]
TINY = {
  "space.name": "s3",
  "space.width": 4,
  "space.nodes": 2,
  "data.limit": 64,
  "train.batch": 16,
  "train.length": "4 epochs",  # of two steps
  "arch.lr": 0.1,
  "log.every": "1 steps",
  "log.save": "1 steps",
  "log.keep": 20,
  "log.progress": False,
}
PDARTS = {
  "algo.name": "pdarts",
  "space.nodes": 1,
  "algo.warmup": "1 steps",
  "pdarts.cells": (3, 4),
  "pdarts.operators": (3, 2),
  "pdarts.skip_rates": (0.0, 0.4),
  "pdarts.skips": 1,
}
BOUNDARY = 4  # step


def config_of(**more):
  config = config_lib.base()
  config.update_from_flattened_dict(TINY | PDARTS | more)
  config_lib.validate(config)
  return config


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """A search that nothing interrupted: its config and directory."""
  config = config_of()
  workdir = tmp_path_factory.mktemp("stages") / "whole"
  search.run(config, workdir)
  return config, workdir


def cut(workdir: pathlib.Path, copy: pathlib.Path, step: int) -> None:
  """Leaves of a run what a kill after a checkpoint would have left."""
  shutil.copytree(workdir, copy)
  for name in ("result.json", "report.html", "restricted.json"):
    (copy / name).unlink(missing_ok=True)
  for saved in (copy / "checkpoints").iterdir():
    if saved.name.isdigit() and int(saved.name) > step:
      shutil.rmtree(saved)


def test_a_search_killed_at_a_boundary_ends_with_the_same_numbers(
  whole, tmp_path
):
  config, workdir = whole
  copy = tmp_path / "cut"
  cut(workdir, copy, BOUNDARY)
  search.run(config, copy)
  assert_same_run(workdir, copy)


def test_the_stages_are_in_the_checkpoints(whole):
  _, workdir = whole
  stages = {}
  with checkpoint.Checkpoints(workdir / "checkpoints") as saved:
    for step in range(1, 9):
      meta = saved._read_meta(step)["meta"]
      stages[step] = stages_lib.from_json(meta["stage"])
  assert [stages[step].index for step in range(1, 9)] == [0] * 4 + [1] * 4
  first, second = stages[1].spec, stages[8].spec
  assert (stages[8].start, stages[8].stop) == (4, 8)
  kept = [len(k) for _, cell in second.searched for k in cell.kept]
  assert (len(first.layers), len(second.layers)) == (3, 4)
  dropped = [len(cell.without_none) for _, cell in second.searched]
  # Two of three operators are left: with none one that is computed.
  assert sum(kept) == len(kept) + sum(dropped)


def test_every_stage_starts_anew(whole):
  _, workdir = whole
  lines = [
    line for line in records(workdir, "metrics.jsonl") if line["kind"] == "step"
  ]
  rates = [line["lr"] for line in lines]
  assert rates[:4] == rates[4:] and rates[0] > rates[3]
  # Weights drawn anew know nothing of what was learnt.
  assert lines[4]["train_loss"] > lines[3]["train_loss"]
  warm = [line["step"] for line in lines if "valid_loss" not in line]
  assert warm == [1, 5]
  dropped = [line["step"] for line in lines if "drop_skip_rate" in line]
  assert dropped == [5, 6, 7, 8]


def test_the_genotype_keeps_to_what_the_stages_left(whole):
  config, workdir = whole
  found = genotype_lib.load(workdir)
  skips = sum(op == "skip_connect" for op, _ in found.normal)
  assert skips <= config.pdarts.skips
  listed = json.loads((workdir / "restricted.json").read_text())
  assert [entry["skips"] for entry in listed] == [2, 1, 0]
  (chosen,) = [entry for entry in listed if entry["chosen"]]
  assert genotype_lib.parse(chosen["genotype"]) == found


def test_a_warm_up_as_long_as_a_stage_is_refused(tmp_path):
  config = config_of(**{"algo.warmup": "4 steps"})
  with pytest.raises(ValueError, match="stage 1 of 2 has only 4"):
    search.run(config, tmp_path / "run")


def test_edges_are_searched_first_and_then_their_operators(tmp_path):
  config = config_of(
    **{
      "algo.name": "amended",
      "algo.warmup": "0 steps",
      "space.name": "s2",
      "space.edges": "searched",
      "space.nodes": 2,
      "space.cells": 3,
      "train.length": "2 epochs",
    }
  )
  search.run(config, tmp_path / "run")
  with checkpoint.Checkpoints(tmp_path / "run" / "checkpoints") as saved:
    metas = [saved._read_meta(step)["meta"]["stage"] for step in (1, 4)]
  first, second = (stages_lib.from_json(meta) for meta in metas)
  assert (first.index, second.index) == (0, 1)
  for name, cell in second.spec.searched:
    assert set(cell.edges) < set(first.spec.cell(name).edges)
    assert sorted(target for _, target in cell.edges) == [2, 2, 3, 3]
    # The genotype has an operator on each of the edges that were chosen.
    found = genotype_lib.chosen(genotype_lib.load(tmp_path / "run"))[name]
    assert sorted(pair[1:] for pair in found) == sorted(cell.edges)
