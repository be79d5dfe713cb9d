"""What of a search's configuration does not go together, and what it means."""

import pytest

from jnas import config as config_lib
from jnas import genotype as genotype_lib
from jnas.runs import problem, recipe
from jnas.spaces import discrete
from jnas.spaces import spec as spec_lib
from jnas.spaces.spec import Block


def config_of(**fields):
  config = config_lib.base()
  config.update_from_flattened_dict(
    {name.replace("__", "."): value for name, value in fields.items()}
  )
  return config


@pytest.mark.parametrize(
  "fields,message",
  [
    ({"space__partial": 3}, "space.partial: must divide space.width"),
    (
      {"algo__name": "gdas", "space__edges": "searched"},
      "searched goes with algo.name darts and amended, not with gdas",
    ),
    (
      {"space__name": "nas_bench_201", "space__edges": "fixed"},
      "space.edges: nas_bench_201 has no use for it; leave it at 'all'",
    ),
    (
      {"space__name": "nas_bench_201", "space__shared": False},
      "space.shared: nas_bench_201 has no use for it; leave it at True",
    ),
    (
      {"space__name": "nas_bench_201", "train__auxiliary": 0.4},
      "nas_bench_201 has no auxiliary head",
    ),
    ({"space__table": "t.csv"}, "space.table: s1 has no use for it"),
    (
      {"algo__name": "gdas", "algo__undrawn": True},
      "with space.name nas_bench_201, not with s1",
    ),
    (
      {"algo__one_level": True, "algo__hypergrad": "unrolled"},
      "that learns it, got unrolled and darts",
    ),
    (
      {"algo__name": "pdarts", "pdarts__cells": (2, 4, 5)},
      "a problem:\n  - pdarts.cells: whole numbers from 3 on",
    ),
    ({"data__share": 1.0}, "only .*goldnas and algo.one_level learn it"),
    (
      {"space__fixed_reduction": True, "space__shared": False},
      "space.fixed_reduction: needs space.shared",
    ),
    (
      {"space__edges": "searched", "space__nodes": 1},
      "searched edges need 2 or more",
    ),
    (
      {"algo__name": "pdarts", "pdarts__cells": (3, 4)},
      "one entry a stage each",
    ),
    (
      {"algo__name": "pdarts", "pdarts__operators": (8, 9, 3)},
      "falls from 8, all of s1, to 2 or more",
    ),
    (
      {"algo__name": "pdarts", "pdarts__cells": (2, 4, 5)},
      "whole numbers from 3 on",
    ),
    (
      {"algo__name": "pdarts", "pdarts__skip_rates": (0.0, 0.5, 1.0)},
      "at least 0 and less than 1 each",
    ),
    (
      {"algo__name": "pdarts", "pdarts__skips": 9},
      "from 0 to 8, two a node, got 9",
    ),
    (
      {"algo__name": "pdarts", "space__fixed_reduction": True},
      "not space.fixed_reduction",
    ),
  ],
)
def test_what_does_not_go_together_is_told(fields, message):
  with pytest.raises(ValueError, match=message):
    config_lib.validate(config_of(**fields))


def test_the_spec_is_what_the_configuration_says():
  s2 = recipe.spec(
    config_of(space__name="s2", space__edges="fixed", space__shared=False), 10
  )
  assert len(s2.searched) == 8
  assert s2.cell("cell0").edges == spec_lib.fixed_edges(4)
  frc = recipe.spec(config_of(space__fixed_reduction=True), 10)
  assert frc.cell("reduce") is Block.FIXED_REDUCTION
  pdarts = recipe.spec(config_of(algo__name="pdarts"), 10)
  assert len(pdarts.layers) == 5
  bench = recipe.spec(
    config_of(space__name="nas_bench_201", space__cells=2, space__partial=4), 10
  )
  assert bench.partial == 4 and len(bench.layers) == 3 * 2 + 2


def test_a_node_that_nothing_enters_is_left_out_of_a_derived_network():
  found = genotype_lib.parse(
    "|none~0|+|nor_conv_1x1~0|skip_connect~1|+"
    "|none~0|avg_pool_3x3~1|nor_conv_3x3~2|"
  )
  spec = discrete.derived(found, cells=1, width=8, classes=10)
  assert spec.cell("cell").kept == (
    (), ("nor_conv_1x1",), (), (), (), ("nor_conv_3x3",),
  )


def test_an_epoch_is_one_of_the_images_of_the_weights():
  fields = ("--config.data.limit=200", "--config.train.batch={}")
  spec = "configs/imagenet_search.py:quick"  # a fifth of the images for alpha
  config = config_lib.load(spec, [field.format(10) for field in fields])
  (found,) = problem.read(config)
  assert [len(split) for split in found.splits] == [160, 40]
  assert found.clock.per_epoch == 16 and found.clock.total == 8 * 16
  config = config_lib.load(spec, [field.format(64) for field in fields])
  with pytest.raises(ValueError, match="between 1 and the 40 examples"):
    problem.read(config)
