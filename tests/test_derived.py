"""Networks that compared searches derive: which, how large, in what order."""

import math
import types

from made_up_comparisons import RECIPE, comparison, write_config
import numpy as np
import pytest

from jnas import genotype as genotype_lib
from jnas.report.groups import of_comparison, table
from jnas.runs import build, derived, entries


def search_result(**values):
  text = genotype_lib.format_text(genotype_lib.ZOO["DARTS_V2"])
  return {"task": "search", "genotype": text, **values}


# Kendall's tau.


@pytest.mark.parametrize(
  "searched, retrained, tau",
  [
    ((1, 2, 3), (4, 5, 6), 1),
    ((1, 2, 3), (6, 5, 4), -1),
    # Of three pairs two agree, one does not.
    ((1, 2, 3), (5, 4, 6), 1 / 3),
    # Six pairs: (2, 3) ties in the first, the other five agree. tau-b divides
    # by sqrt((6 - 1) 6).
    ((1, 2, 2, 3), (1, 3, 2, 4), 5 / math.sqrt(30)),
    # Six pairs: one ties in each, the other four agree.
    ((1, 1, 2, 3), (1, 2, 2, 3), 4 / 5),
  ],
)
def test_kendall_by_hand(searched, retrained, tau):
  rows = [
    {"valid_accuracy": a / 10, "retrained_accuracy": b / 10}
    for a, b in zip(searched, retrained, strict=True)
  ]
  # A search that is not retrained yet does not count.
  found = derived.kendall([*rows, {"valid_accuracy": 0.5}])
  assert found == {"seeds": len(rows), "tau": pytest.approx(tau, abs=1e-12)}


def test_where_there_is_no_tau_it_is_said_why():
  row = {"valid_accuracy": 0.5, "retrained_accuracy": 0.9}
  assert derived.kendall([]) is None
  assert derived.kendall([{"valid_accuracy": 0.5}] * 3) is None
  assert derived.kendall([row])["why"] == "1 seed, 3 are needed"
  two = derived.kendall([row, row | {"valid_accuracy": 0.6}])
  assert two == {"seeds": 2, "tau": None, "why": "2 seeds, 3 are needed"}
  same = [row | {"valid_accuracy": k / 10} for k in range(4)]
  assert derived.kendall(same)["why"] == "all seeds tie"


# What is to be trained, and what is told before.


def test_the_network_is_the_recipes_or_else_the_searchs(tmp_path):
  path = write_config(tmp_path)
  recipe = write_config(tmp_path, "recipe", RECIPE)
  (plain, _) = entries.entries(comparison(path))
  assert (plain.network, plain.trained) == (None, False)
  fields = {"compare.retrain": "7 steps", "data.limit": 32, "train.batch": 8}
  (own, _) = entries.entries(comparison(path, **fields))
  assert own.trained and own.network.task == "retrain"
  assert own.network.train.to_dict() == own.config.train.to_dict() | {
    "length": "7 steps"
  }
  assert own.network.space.to_dict() == own.config.space.to_dict()
  fields |= {"compare.recipe": str(recipe), "compare.retrain": "150 %"}
  (_, other) = entries.entries(comparison(path, seed=4, **fields))
  network = other.network
  assert (network.space.cells, network.space.width) == (5, 2)
  # The batch of the comparison is that of the searches.
  assert (network.train.length, network.train.batch) == ("3 epochs", 16)
  assert (network.data.limit, network.seed) == (32, 5)
  # Only measured.
  fields["compare.retrain"] = "0 epochs"
  (measured, _) = entries.entries(comparison(path, **fields))
  assert measured.network.space.cells == 5 and not measured.trained
  # The search's configuration knows nothing of it: it need not run again.
  assert measured.config.to_dict() == own.config.to_dict()


def test_depth_where_the_search_gives_it(tmp_path):
  stages = (
    'config.algo.name = "pdarts"; config.pdarts.cells = (3, 4, 6); '
    "config.pdarts.operators = (3, 2, 2); config.pdarts.skips = 1"
  )
  stack = (
    "config.space.shared = False; config.algo.name = 'goldnas'; "
    "config.space.name = 's2'; config.arch.update(optimizer='sgd', decay=0.0)"
  )
  recipe = write_config(tmp_path, "recipe", RECIPE)
  depths = []
  for more in ({}, {"compare.recipe": str(recipe)}):
    fields = {"compare.retrain": "2 epochs", **more}
    config = comparison(
      write_config(tmp_path, "stages", stages),
      write_config(tmp_path, "stack", stack),
      seeds=1,
      **fields,
    )
    depths.append([e.network.space.cells for e in entries.entries(config)])
  assert depths == [[6, 3], [5, 3]]


def test_problems_of_retraining_are_told_at_once(tmp_path):
  path = write_config(tmp_path)
  bench = write_config(
    tmp_path, "bench", 'config.space.name = "nas_bench_201"'
  )
  far = write_config(tmp_path, "far", f'{RECIPE}; config.data.name = "cifar10"')
  fields = {"compare.retrain": "0.5 steps", "compare.recipe": str(far)}
  with pytest.raises(ValueError) as error:
    entries.entries(comparison(path, bench, **fields))
  assert "has 2 problems" in str(error.value)
  assert f"{bench}: compare.retrain and compare.recipe are not" in str(
    error.value
  )
  assert f"{far} is for cifar10, but {path} searches digits" in str(error.value)
  for spec, words in (
    (path, "expected a config of task retrain such as configs/retrain.py"),
    ("nowhere.py", "compare.recipe: nowhere.py: there is no config file"),
  ):
    with pytest.raises(ValueError, match=words):
      entries.entries(comparison(path, **{"compare.recipe": str(spec)}))
  warm = write_config(tmp_path, "warm", 'config.weights.warmup = "1 epochs"')
  with pytest.raises(ValueError, match="retraining what .*warm.py derives"):
    entries.entries(comparison(warm, **{"compare.retrain": "1 epochs"}))
  with pytest.raises(ValueError, match="compare.retrain: expected a duration"):
    comparison(path, **{"compare.retrain": "long"})


# Numbers and their columns.


def test_numbers_by_hand(tmp_path):
  (entry, _) = entries.entries(comparison(write_config(tmp_path)))
  result = search_result(valid_accuracy=0.8668, child_accuracy=0.8624)
  assert derived.numbers(entry, tmp_path, result, None) == {
    "accuracy_drop": pytest.approx(0.0044),
  }
  assert derived.numbers(entry, tmp_path, search_result(), None) == {}
  trained = {"test_accuracy": 0.9747, "seconds": 5.0}
  assert derived.numbers(entry, tmp_path, search_result(), trained) == {
    "retrained_accuracy": 0.9747,
    "retrain_seconds": 5.0,
  }


def test_connections_where_their_number_is_learnt(tmp_path):
  more = "config.algo.name = 'dst'; config.space.name = 's2'"
  path = write_config(tmp_path, "free", more)
  (entry, _) = entries.entries(comparison(path))
  sep = "sep_conv_3x3"
  genotype = genotype_lib.Genotype(
    normal=[[(sep, 0), (sep, 1)], [("skip_connect", 2), (sep, 1), (sep, 0)]],
    normal_concat=(2, 3),
    reduce=[[(sep, 0)], [(sep, 2)]],
    reduce_concat=(2, 3),
  )
  result = {"genotype": genotype_lib.format_text(genotype)}
  assert derived.numbers(entry, tmp_path, result, None) == {
    "normal_connections": 5,
    "reduce_connections": 2,
  }


def test_size_is_that_of_the_published_network(tmp_path, monkeypatch):
  shape = types.SimpleNamespace(
    classes=range(10), train_x=np.zeros((1, 32, 32, 3), np.uint8)
  )
  monkeypatch.setattr(build, "load", lambda config: shape)
  wide = write_config(tmp_path, "wide", RECIPE.replace("cells=5", "cells=20"))
  wide.write_text(wide.read_text().replace("width=2", "width=36"))
  (entry, _) = entries.entries(
    comparison(write_config(tmp_path), **{"compare.recipe": str(wide)})
  )
  folder = tmp_path / "run"
  found = derived.numbers(entry, folder, search_result(), None)
  # configs/retrain.py: 3,349,342 parameters.
  assert found["derived_params"] == pytest.approx(3.349342, abs=1e-9)
  assert 500 < found["derived_flops"] < 600
  # It is measured once, and anew if it is another network.
  monkeypatch.delattr(build, "load")
  assert derived.numbers(entry, folder, search_result(), None) == found
  text = genotype_lib.format_text(genotype_lib.ZOO["DARTS_V1"])
  with pytest.raises(AttributeError):
    derived.numbers(entry, folder, search_result(genotype=text), None)


def compared(**algorithms):
  found = {}
  for name, (numbers, more) in algorithms.items():
    runs = [
      # Three seeds, whose standard deviation is the one given.
      {"seed": k, "result": {n: m + (k - 1) * s for n, (m, s) in known}}
      for known in [list(numbers.items())]
      for k in range(3)
    ]
    found[name] = {"runs": runs, "chosen": None, **more}
  return of_comparison({"algorithms": found})


def test_columns():
  plain = {"valid_accuracy": (0.9, 0.01), "seconds": (5.0, 2.0)}
  heads, rows = table(compared(a=(plain, {})))
  assert heads == [
    *("", "seeds", "validation accuracy", "time, with compilation"),
  ]
  assert rows == [["a", "3", "90.00% ± 1.00%", "3 s to 7 s"]]
  whole = plain | {
    "child_accuracy": (0.86, 0.02),
    "accuracy_drop": (0.04, 0.005),
    "retrained_accuracy": (0.97, 0.001),
    "normal_connections": (11, 0.5),
    "reduce_connections": (6, 0),
    "derived_params": (5.88, 0.1),
    "derived_flops": (673, 12.0),
  }
  tau = {"kendall": {"seeds": 6, "tau": -0.4667}}
  heads, rows = table(compared(a=(whole, tau), b=(plain, {})))
  (first, second) = (dict(zip(heads, row, strict=True)) for row in rows)
  assert first | {"": "a"} == first
  assert heads.index("Kendall's tau") == heads.index("retrained, test") + 1
  for name, told in {
    "of the child-net": "86.00% ± 2.00%",
    "drop": "4.00% ± 0.50%",
    "retrained, test": "97.00% ± 0.10%",
    "normal connections": "11 ± 0.5",
    "reduction connections": "6",
    "derived, M parameters": "5.880 ± 0.100",
    "M multiply-adds": "673.00 ± 12.00",
    "Kendall's tau": "-0.47",
  }.items():
    assert (first[name], second[name]) == (told, "–"), name
