"""What a comparison is to run, and what is told before it runs."""

import pathlib

from made_up_comparisons import comparison, write_config
import pytest

from jnas import config as config_lib
from jnas.runs import compare, entries

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.parametrize(
  "spec, name",
  [
    ("configs/darts.py:quick", "darts_quick"),
    ("configs/darts.py", "darts"),
    ("/a/b.c.py:d/e f", "b.c_d_e_f"),
  ],
)
def test_name(spec, name):
  assert entries.run_name(spec) == name


def test_names_seeds_and_folders(tmp_path):
  path = write_config(tmp_path)
  found = entries.entries(comparison(f"{path}:two", path, seeds=2, seed=5))
  assert [entry.folder for entry in found] == [
    *("tiny_two/seed5", "tiny_two/seed6", "tiny/seed5", "tiny/seed6"),
  ]
  assert [entry.config.seed for entry in found] == [5, 6, 5, 6]
  assert [entry.config.weights.lr for entry in found] == [0.1, 0.1, 0.05, 0.05]
  # Nothing but the seed tells two runs of a file apart.
  flat = [config_lib.flatten(entry.config) for entry in found[:2]]
  assert [k for k in flat[0] if flat[0][k] != flat[1][k]] == ["seed"]


def test_paths_are_relative_to_here_or_else_to_the_repository(
  tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  spec = "configs/darts.py:quick"
  (one, _) = entries.entries(comparison(spec))
  assert (one.name, one.config.space.width) == ("darts_quick", 8)
  (tmp_path / "configs").mkdir()
  path = write_config(tmp_path / "configs", "darts")
  path.write_text(path.read_text().replace('"one", "two"', '"one", "quick"'))
  (one, _) = entries.entries(comparison(spec))
  assert one.config.space.width == 4


def test_what_the_comparison_says_replaces_what_files_say(tmp_path):
  more = 'config.data.cutout, config.space.name = 2, "nas_bench_201"'
  path = write_config(tmp_path, more=more)
  fields = {
    "data.name": "npz", "data.path": "a.npz", "data.flip": True,
    "train.length": "7 steps", "train.batch": 8, "space.cells": 5,
    "space.width": 6, "space.table": "t.csv", "log.every": "1 steps",
  }
  config = comparison(path, **fields)
  for entry in entries.entries(config):
    flat = config_lib.flatten(entry.config)
    assert {name: flat[name] for name in fields} == fields
    # What the comparison leaves at its default stays the file's.
    assert (flat["data.cutout"], flat["data.limit"]) == (2, 160)
    assert flat["log.progress"] is False
  assert entries.imposed(config) == fields


def test_all_problems_are_told_at_once(tmp_path):
  good = write_config(tmp_path)
  (tmp_path / "other").mkdir()
  same = write_config(tmp_path / "other")
  bad = write_config(
    tmp_path, "bad", "config.train.batch = 0; config.seed = -1"
  )
  retrain = write_config(
    tmp_path, "train", 'config.task, config.retrain.genotype = "retrain", "X"'
  )
  far = write_config(tmp_path, "far", 'config.data.name = "cifar10"')
  short = write_config(tmp_path, "short", 'config.algo.warmup = "3 steps"')
  config = comparison(
    *(good, same, bad, f"{good}:three", retrain, far, short, "nowhere.py"),
    seed=2**32 - 2, seeds=3, **{"weights.lr": 0.5, "train.length": "2 steps"},
  )
  with pytest.raises(ValueError) as error:
    compare.run(config, tmp_path / "run")
  message = str(error.value)
  for words in (
    "the comparison has 9 problems",
    "weights.lr: set for the comparison, but only data.*, log.*, train.length",
    "the last of 3 seeds must be at most 4294967295, got 4294967296",
    f"{good} and {same} would both be called tiny",
    "train.batch: must be greater than 0",
    "seed: must be from 0",
    "has no argument 'three'",
    "expected a config of task search, got task retrain",
    f"cifar10 of {far}",
    "algo.warmup: must be shorter than train.length (2 steps)",
    "there is no config file nowhere.py",
  ):
    assert words in message, words
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("specs", [(), (1,)])
def test_configs_are_texts(specs):
  config = comparison()
  config.compare.configs = specs
  with pytest.raises(ValueError, match="compare.configs: expected"):
    entries.entries(config)


@pytest.mark.parametrize(
  "argument",
  "cifar10 quick gdas nas_bench_201 nas_bench_201_quick engines quick_engines "
  "consistency quick_consistency sparsity quick_sparsity".split(),
)
def test_configs_of_comparisons(argument):
  config = config_lib.load(f"{ROOT}/configs/compare.py:{argument}")
  assert config.task == "compare" and not entries.imposed(config)
  found = entries.entries(config)
  count = len(config.compare.configs) * config.compare.seeds
  assert len(found) == count > 1
  quick = "quick" in argument
  assert {one.config.data.name == "digits" for one in found} == {quick} or (
    argument == "nas_bench_201"
  )
  assert all(one.trained == ("consistency" in argument) for one in found)
  measured = "consistency" in argument or "sparsity" in argument
  cells = {one.network and one.network.space.cells for one in found}
  assert cells == {(3 if quick else 20) if measured else None}


def test_comparisons_of_entrannas_are_those_of_its_tables():
  """Yang et al. 2021, tables 1, 2 and 4."""

  def of(argument):
    config = config_lib.load(f"{ROOT}/configs/compare.py:{argument}")
    found = entries.entries(config)
    return [one for one in found if one.config.seed == 0], config

  for prefix in ("", "quick_"):
    found, _ = of(f"{prefix}engines")
    assert [one.config.space.engines for one in found] == [
      *("all", "half", "last", "first"),
    ]
    assert {one.config.algo.name for one in found} == {"entrannas"}
    found, _ = of(f"{prefix}sparsity")
    assert [one.config.algo.sparsity for one in found] == [0.2, 0.1, 0.05]
    assert {one.config.algo.name for one in found} == {"dst"}
    found, config = of(f"{prefix}consistency")
    assert [one.config.algo.name for one in found] == [
      *("darts", "pdarts", "pcdarts", "entrannas", "dst"),
    ]
    assert config.compare.seeds == 6
    length = "10 epochs" if prefix else "600 epochs"
    assert {one.network.train.length for one in found} == {length}


def test_settings_of_tables_change_nothing_else():
  load = config_lib.load
  path = f"{ROOT}/configs/entrannas.py"
  for prefix, plain in (("", "7ops"), ("quick_", "quick")):
    base = config_lib.flatten(load(f"{path}:{plain}"))
    half = config_lib.flatten(load(f"{path}:{prefix}engines=half"))
    assert {k for k in base if base[k] != half[k]} == {"space.engines"}
    base = config_lib.flatten(load(f"{path}:{prefix}dst"))
    assert base == config_lib.flatten(load(f"{path}:{prefix}dst=0.1"))
    dense = config_lib.flatten(load(f"{path}:{prefix}dst=0.05"))
    assert {k for k in base if base[k] != dense[k]} == {"algo.sparsity"}
