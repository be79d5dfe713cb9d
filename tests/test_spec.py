"""The static description: edges, stacks, derived cells, hashes."""

import dataclasses

import pytest

from jnas.genotype import ZOO, Genotype
from jnas.genotype.operators import SETS
from jnas.spaces import discrete
from jnas.spaces import spec as spec_lib
from jnas.spaces.spec import S1, S3, Block

PLAIN = dict(cells=8, width=16, classes=10)


def test_the_operators_are_in_the_order_of_darts():
  assert S1 == (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
  )
  assert S3 == ("none", "skip_connect", "sep_conv_3x3")
  assert SETS == {
    "s1": S1,
    "s1_7": S1[1:],
    "s1_12": S1[1:] + (
      *("conv_1x1", "conv_3x3"),
      *("conv_3x1_1x3", "conv_5x1_1x5", "conv_7x1_1x7"),
    ),
    "s2": ("skip_connect", "sep_conv_3x3"),
    "s3": S3,
    "nas_bench_201": spec_lib.NAS_BENCH_201,
  }


def test_the_edges_are_in_the_order_of_darts():
  # Edge = offset of its node + predecessor, with offsets 0, 2, 5, 9.
  edges = spec_lib.darts_edges(4)
  assert len(edges) == 14
  for node, offset in enumerate((0, 2, 5, 9)):
    for source in range(2 + node):
      assert edges[offset + source] == (source, 2 + node)


@pytest.mark.parametrize(
  "cells,reductions",
  [
    (1, [0]),
    (2, [0, 1]),
    (3, [1, 2]),
    (5, [1, 3]),
    (8, [2, 5]),
    (11, [3, 7]),
    (14, [4, 9]),
    (17, [5, 11]),
    (20, [6, 13]),
  ],
)
def test_reductions_are_at_one_and_two_thirds(cells, reductions):
  layers = spec_lib.stack(cells)
  assert len(layers) == cells
  assert [i for i, layer in enumerate(layers) if layer.reduction] == reductions
  for layer in layers:
    assert layer.cell == ("reduce" if layer.reduction else "normal")


def test_the_auxiliary_head_follows_the_second_reduction():
  for cells in (3, 8, 14, 20):
    spec = spec_lib.supernet(S3, **(PLAIN | {"cells": cells}))
    last = [i for i, layer in enumerate(spec.layers) if layer.reduction][-1]
    assert spec.auxiliary_layer == last


def test_the_supernet_of_darts():
  spec = spec_lib.supernet(S1, **PLAIN)
  assert [name for name, _ in spec.searched] == ["normal", "reduce"]
  for _, cell in spec.searched:
    assert cell.shape == (14, 8)
    assert cell.nodes == 6
    assert cell.concat == (2, 3, 4, 5)
    assert set(cell.kept) == {S1[1:]}  # `none` is never computed
  assert (spec.stem, spec.affine, spec.pool_norm) == (3, False, True)
  assert not spec.auxiliary


def test_equal_specs_are_one_key_and_unequal_ones_are_two():
  a, b = (spec_lib.supernet(list(S1), **PLAIN) for _ in range(2))
  assert a == b and hash(a) == hash(b)
  others = [
    spec_lib.supernet(S3, **PLAIN),
    spec_lib.supernet(S1, nodes=3, **PLAIN),
    spec_lib.supernet(S1, auxiliary=True, **PLAIN),
    *(
      spec_lib.supernet(S1, **(PLAIN | {name: 7}))
      for name in ("cells", "width", "classes")
    ),
    *(discrete.derived(genotype, **PLAIN) for genotype in ZOO.values()),
  ]
  assert len({a, b, *others}) == 1 + len(others)
  with pytest.raises(dataclasses.FrozenInstanceError):
    a.width = 3


@pytest.mark.parametrize("name", ZOO)
def test_a_derived_network_has_the_pairs_of_its_genotype(name):
  genotype = ZOO[name]
  spec = discrete.derived(genotype, **PLAIN)
  assert (spec.affine, spec.pool_norm) == (True, False)
  for part in ("normal", "reduce"):
    pairs, cell = getattr(genotype, part), spec.cell(part)
    if pairs is None:
      assert cell is Block.FIXED_REDUCTION
      assert part not in dict(spec.searched)
      continue
    assert cell.concat == getattr(genotype, f"{part}_concat")
    assert cell.nodes == 2 + len(pairs) // 2
    found = zip(cell.edges, cell.kept, strict=True)
    for i, ((source, target), kept) in enumerate(found):
      assert (kept, source) == ((pairs[i][0],), pairs[i][1])
      assert target == 2 + i // 2


def test_a_derived_cell_may_have_an_edge_twice():
  pairs = (("sep_conv_3x3", 1), ("skip_connect", 1))
  genotype = Genotype(pairs, (2,), None, None)
  cell = discrete.derived(genotype, **PLAIN).cell("normal")
  assert cell.edges == ((1, 2), (1, 2))
  assert cell.kept == (("sep_conv_3x3",), ("skip_connect",))
  assert cell.shape == (2, 2)
