"""What makes a genotype invalid, and how it is told."""

from made_up_genotypes import NAS_BENCH_201, changed
import pytest

from jnas import genotype as genotype_lib
from jnas.genotype import (
  Genotype,
  NasBench201Genotype,
  RecurrentGenotype,
  StackGenotype,
)


def test_all_cells_of_a_stack_have_the_nodes_of_the_concat():
  cells = [genotype_lib.ZOO["DARTS_V2"].normal] * 3
  genotype_lib.validate(StackGenotype(cells, range(2, 6)))
  cells[1] = cells[1][:6]
  with pytest.raises(ValueError, match="concat: expected nodes out of 2 to 4"):
    genotype_lib.validate(StackGenotype(cells, range(2, 6)))


def test_true_is_no_input():
  nodes = ((("none", 0),), (("none", False), ("none", True)))
  with pytest.raises(ValueError, match=r"nodes\[1\]: node 2 reads"):
    genotype_lib.validate(NasBench201Genotype((*nodes, NAS_BENCH_201.nodes[2])))


def test_validate_names_every_problem():
  normal = [("sep_conv_3x3", 2), ("sep_cnv_5x5", 0), ("skip_connect", -1)]
  reduce = [("relu", 0), ("skip_connect", "1")]
  g = Genotype(normal, [2, 2, 9], reduce, [])
  with pytest.raises(ValueError) as error:
    genotype_lib.validate(g)
  lines = str(error.value).splitlines()
  assert lines[0] == "The genotype has 8 problems:"
  for line, words in zip(
    lines[1:],
    [
      "normal: expected 2 pairs a node, so an even number, got 3",
      "node 0 may read inputs 0 to 1, got 2",
      "'sep_cnv_5x5'; did you mean 'sep_conv_5x5'",
      "node 1 may read inputs 0 to 2, got -1",
      "normal_concat: expected nodes out of 2 to 2, got 9",
      "unknown operator 'relu'",
      "node 0 may read inputs 0 to 1, got '1'",
      "reduce_concat: expected the nodes to join",
    ],
    strict=True,
  ):
    assert words in line


@pytest.mark.parametrize(
  "g",
  [
    changed(normal=()),
    changed(normal=None),
    changed(normal="skip_connect"),
    changed(normal=[["skip_connect"], ["skip_connect", 0, 1]]),
    changed(normal=[(["skip_connect"], 0), (None, True)]),
    changed(normal_concat=None),
    changed(normal_concat=(2, 2)),
    changed(normal_concat=({}, [])),
    changed(normal_concat=(1, 2)),
    changed(reduce_concat=None),
    RecurrentGenotype([("sep_conv_3x3", 0)], [1]),
    RecurrentGenotype([("tanh", 0)], [0]),
  ],
)
def test_validate_refuses(g):
  with pytest.raises(ValueError, match="The genotype has"):
    genotype_lib.validate(g)


def test_every_message_is_short():
  pair = ("a" * 10**6, "b" * 10**6)
  for g in (
    Genotype([pair] * 500, [10**4000] * 500, [[pair]] * 500, "c" * 10**6),
    StackGenotype([[pair] * 50] * 50, [2]),
    NasBench201Genotype([[pair], [pair] * 9**5, pair]),
    RecurrentGenotype([(("tanh",) * 10**6, 10**4000)], range(9**6)),
  ):
    with pytest.raises(ValueError, match="The genotype has") as error:
      genotype_lib.validate(g)
    assert len(str(error.value)) <= 2000
