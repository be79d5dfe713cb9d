"""Searches whose topology changes while they run: nothing is lost by it."""

import pathlib

import numpy as np
import pytest
from test_runs import assert_same_run, records
from test_stages import TINY, cut

from jnas import config as config_lib
from jnas import genotype as genotype_lib
from jnas.algorithms import stages as stages_lib
from jnas.runs import search
from jnas.runtime import checkpoint

GOLD = {
  "algo.name": "goldnas",
  "space.name": "s2",
  "space.cells": 3,
  "space.nodes": 1,
  "space.shared": False,
  "data.share": 1.0,
  "arch.optimizer": "sgd",
  "arch.lr": 1.0,
  "arch.decay": 0.0,
  "arch.init": 0.5,
  "gold.mu": 1.0,
  "gold.n0": 2,
  "gold.lambda0": 200.0,
  "gold.t0": 0,
  "gold.flops_min": 0.001,
  "gold.rebuild": 0.2,
  "train.length": "6 epochs",
}
TRANSIT = {
  "algo.name": "entrannas",
  "seed": 1,  # of which the derivation stays, and moves again
  "space.name": "s2",
  "space.cells": 4,
  "space.nodes": 1,
  "space.engines": "first",
  "space.sharing": True,
  "algo.tau": 5.0,
  "algo.settle": "2 steps",
  "arch.lr": 0.003,
}


def config_of(*parts, **more):
  config = config_lib.base()
  for part in (TINY, *parts, more):
    config.update_from_flattened_dict(part)
  config_lib.validate(config)
  return config


def epochs(workdir):
  lines = records(workdir, "metrics.jsonl")
  return [line for line in lines if line["kind"] == "epoch"]


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
  config = config_of(GOLD)
  workdir = tmp_path_factory.mktemp("gold") / "whole"
  search.run(config, workdir)
  return config, workdir


@pytest.fixture(scope="module")
def transit(tmp_path_factory):
  config = config_of(TRANSIT)
  workdir = tmp_path_factory.mktemp("transit") / "whole"
  search.run(config, workdir)
  return config, workdir


def stages(workdir: pathlib.Path):
  found = {}
  with checkpoint.Checkpoints(workdir / "checkpoints") as saved:
    for path in (workdir / "checkpoints").iterdir():
      if path.name.isdigit():
        meta = saved._read_meta(int(path.name))["meta"]
        found[int(path.name)] = stages_lib.from_json(meta["stage"])
  return dict(sorted(found.items()))


def test_the_network_is_pruned_and_built_anew(pruned):
  _, workdir = pruned
  lines = epochs(workdir)
  operators = [line["operators"] for line in lines]
  assert operators[0] == 12 and operators[-1] < 9
  assert operators == sorted(operators, reverse=True)
  built = [line["built_flops"] for line in lines]
  assert built[-1] < built[0]
  for line in lines:
    assert line["flops"] <= line["built_flops"]
  found = genotype_lib.load(workdir)
  cells = genotype_lib.chosen(found)
  assert sum(len(pairs) for pairs in cells.values()) == operators[-1]


def test_a_search_killed_where_it_prunes_ends_with_the_same_numbers(
  pruned, tmp_path
):
  config, workdir = pruned
  found = stages(workdir)
  changed = [
    step
    for step, stage in found.items()
    if step == stage.stop and step + 1 in found
    and found[step + 1].spec != stage.spec
  ]
  assert changed
  cut(workdir, tmp_path / "cut", changed[0])
  search.run(config, tmp_path / "cut")
  assert_same_run(workdir, tmp_path / "cut")


def test_masking_and_building_anew_come_to_the_same(pruned, tmp_path):
  _, workdir = pruned
  config = config_of(GOLD, **{"gold.rebuild": 0.99})
  search.run(config, tmp_path / "masked")
  masked = epochs(tmp_path / "masked")
  assert len({line["built_flops"] for line in masked}) == 1
  for one, other in zip(epochs(workdir), masked, strict=True):
    for name in ("lambda", "pruned", "operators", "flops"):
      assert one[name] == other[name]
    for name in ("train_loss", "valid_loss"):
      np.testing.assert_allclose(one[name], other[name], rtol=1e-4)
  assert genotype_lib.load(workdir) == genotype_lib.load(tmp_path / "masked")


def test_a_search_ends_where_its_network_is_small_enough(tmp_path):
  config = config_of(GOLD, **{"gold.flops_min": 1e6})
  result = search.run(config, tmp_path / "run")
  assert [line["epoch"] for line in epochs(tmp_path / "run")] == [1]
  # A run that has ended early is complete.
  again = search.run(config, tmp_path / "run")
  assert again == result


def test_transit_cells_settle_and_move(transit):
  _, workdir = transit
  frozen = [line["frozen"] for line in epochs(workdir)]
  assert frozen[-1] > 0.2
  assert epochs(workdir)[-1]["connections"] == 4


def test_settling_changes_no_result(transit, tmp_path):
  _, workdir = transit
  config = config_of(TRANSIT, **{"algo.settle": "0 steps"})
  search.run(config, tmp_path / "general")
  for one, other in zip(
    epochs(workdir), epochs(tmp_path / "general"), strict=True
  ):
    assert other["frozen"] == 0
    for name in ("train_loss", "valid_loss"):
      np.testing.assert_allclose(one[name], other[name], rtol=1e-4)
  assert genotype_lib.load(workdir) == genotype_lib.load(tmp_path / "general")


def test_a_settled_search_goes_on_with_the_same_numbers(transit, tmp_path):
  config, workdir = transit
  cut(workdir, tmp_path / "cut", 5)
  search.run(config, tmp_path / "cut")
  assert_same_run(workdir, tmp_path / "cut")
