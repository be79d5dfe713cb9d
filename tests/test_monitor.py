"""The numbers by which a collapse is seen, and when it is told."""

import math

import numpy as np
import pytest

from jnas import genotype as genotype_lib
from jnas.algorithms import base
from jnas.runs import monitor
from jnas.spaces import spec as spec_lib

SPEC = spec_lib.supernet(
  spec_lib.S3, cells=3, width=4, classes=2, nodes=1
)


def weights(*rows):
  table = np.asarray(rows, np.float64)
  return {"normal": table, "reduce": table[::-1]}


def numbers(mixture):
  found = base.genotype_of(SPEC, mixture)
  return monitor.metrics(SPEC, mixture, found)


def test_the_numbers_of_a_table_worked_out_by_hand():
  # none, skip, sep; the second edge weighs half as much as the first.
  values = numbers(weights([0.5, 0.25, 0.25], [0.05, 0.4, 0.05]))
  first = -(0.5 * math.log(0.5) + 0.5 * math.log(0.25))
  second = -(0.2 * math.log(0.1) + 0.8 * math.log(0.8))
  assert values["entropy"] == pytest.approx((first + second) / 2)
  assert values["none_weight"] == pytest.approx((0.5 + 0.1) / 2)
  assert values["skip_share"] == 1.0  # a tie goes to the lower operator


def test_a_search_without_none_has_no_weight_of_it():
  spec = spec_lib.supernet(spec_lib.S2, cells=3, width=4, classes=2, nodes=1)
  mixture = {name: np.full((2, 2), 0.5) for name, _ in spec.searched}
  found = base.genotype_of(spec, mixture)
  assert set(monitor.metrics(spec, mixture, found)) == {"skip_share", "entropy"}


def test_edges_without_any_weight_have_no_entropy():
  values = numbers(weights([0, 1, 0], [0, 0, 0]))
  assert values["entropy"] == 0 and values["none_weight"] == 0


def test_a_collapse_is_told_once_the_weights_mean_something():
  collapsed = numbers(weights([0.1, 0.8, 0.1], [0.1, 0.8, 0.1]))
  message = monitor.warning(SPEC, collapsed)
  assert message.startswith("warning: 100% of the operators")
  # The same cell, of weights that have hardly moved.
  undecided = numbers(weights([0.33, 0.34, 0.33], [0.33, 0.34, 0.33]))
  assert undecided["skip_share"] == 1
  assert monitor.warning(SPEC, undecided) is None
  sound = numbers(weights([0.1, 0.1, 0.8], [0.1, 0.1, 0.8]))
  assert monitor.warning(SPEC, sound) is None


def test_the_share_of_a_nas_bench_201_cell_is_that_of_its_six_operators():
  spec = spec_lib.nas_bench_201(cells=1, width=4, classes=2)
  table = np.zeros((6, 5))
  table[:4, 1] = table[4:, 0] = 1
  found = base.genotype_of(spec, {"cell": table})
  assert genotype_lib.format_text(found) == (
    "|skip_connect~0|+|skip_connect~0|skip_connect~1|+"
    "|skip_connect~0|none~1|none~2|"
  )
  values = monitor.metrics(spec, {"cell": table}, found)
  assert values["skip_share"] == pytest.approx(4 / 6)
  assert values["none_weight"] == pytest.approx(2 / 6)


def test_a_genotype_of_weights_that_have_hardly_moved_is_called_chance():
  undecided = numbers(weights([0.33, 0.34, 0.33], [0.33, 0.34, 0.33]))
  message = monitor.chance(SPEC, undecided)
  assert "is chance" in message and "1.0985 of 1.0986" in message
  decided = numbers(weights([0.3, 0.4, 0.3], [0.3, 0.4, 0.3]))
  assert monitor.chance(SPEC, decided) is None
