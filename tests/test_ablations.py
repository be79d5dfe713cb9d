"""The papers' ablations: what each command compares, and that it is valid."""

import pathlib
import runpy

import pytest

from jnas import config as config_lib
from jnas.runs.entries import entries

FOLDER = pathlib.Path(__file__).parents[1] / "configs" / "ablations"
ALL = [
  f"{path.name}:{argument}"
  for path in sorted(FOLDER.glob("*.py"))
  for argument in runpy.run_path(str(path))["ARGUMENTS"]
]


def rows(spec):
  """By the name of a row the search, and how what it finds is trained."""
  found = entries(config_lib.load(str(FOLDER / spec)))
  return {one.name: one for one in found}


@pytest.mark.parametrize("spec", ALL)
def test_every_table_can_be_run(spec):
  found = rows(spec)
  assert len(found) > 1
  (name,) = {one.config.data.name for one in found.values()}
  table4 = "imagenet" if spec.endswith("table4") else "cifar10"
  assert name == ("digits" if spec.endswith("quick") else table4)
  for one in found.values():
    searched = spec.startswith(("entrannas.py:table3", "entrannas.py:table4"))
    assert one.trained != searched
    if one.trained and not spec.endswith("quick"):
      assert one.network.train.length == "600 epochs"


def fields(spec, *names):
  flat = [config_lib.flatten(one.config) for one in rows(spec).values()]
  return [tuple(one[name] for name in names) for one in flat]


def test_the_settings_of_the_papers():
  amended = "amended_darts.py"
  names = ("algo.eta", "train.length", "data.cutout", "train.auxiliary")
  assert fields(f"{amended}:eta", *names) == [
    (eta, "500epochs", 0, 0.0) for eta in (0.0, 0.001, 0.01, 0.1, 1.0)
  ]
  one = fields(f"{amended}:table1", "algo.name", "algo.hypergrad")
  assert one.count(("amended", "amended")) == 2
  assert one[-2:] == [("amended", "first_order"), ("amended", "amended")]
  assert fields(f"{amended}:table5", "space.name") == 7 * [("s3",)]
  assert fields(f"{amended}:table6", "space.name", "space.edges") == [
    *(("s1", "all"), ("s1", "fixed"), ("s2", "searched"), ("s2", "fixed")),
    *(("s3", "all"), ("s3", "searched")),
  ]
  pdarts = fields("pdarts.py:dropout", "pdarts.skip_rates", "pdarts.skips")
  rates = ((0.0, 0.0, 0.0), (0.0, 0.3, 0.6))
  assert pdarts == [(rate, m) for rate in rates for m in (2, 3, 4)]
  assert fields("pdarts.py:depth", "pdarts.cells")[:3] == [
    ((5,),), ((5, 11),), ((5, 11, 17),)
  ]
  gold = fields("gold_nas.py:one_level", "algo.one_level", "data.autoaugment")
  assert gold == [(True, False), (True, True), (False, False), (False, False)]
  four = fields("entrannas.py:table4", "algo.sparsity", "algo.tau_ratio")
  assert four == [(0.2, 0.9), (0.1, 0.9), (0.05, 0.9)]
  three = ("train.batch", "space.sharing", "space.bottleneck")
  assert fields("entrannas.py:table3", *three) == [
    (64, False, 1), (128, False, 1), (256, True, 1), (512, True, 4)
  ]
