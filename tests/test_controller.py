"""Stages of a search, on tables of weights written down by hand."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas import genotype as genotype_lib
from jnas.algorithms import amended, base, edges, pdarts
from jnas.algorithms import stages as stages_lib
from jnas.algorithms.method import Setting
from jnas.algorithms.stages import Stage
from jnas.genotype import StackGenotype
from jnas.spaces import arch as arch_lib
from jnas.spaces import cnn, discrete
from jnas.spaces import spec as spec_lib
from jnas.spaces.spec import S1, S2, Block

WIDE = dict(cells=5, width=16, classes=10)
FIRST = spec_lib.supernet(S1, **WIDE)
NONE, MAX, AVG, SKIP, SEP3, SEP5, DIL3, DIL5 = S1


def rows(text):
  """Fourteen rows of weights, from operators listed by strength."""
  ranked = [line.split() for line in text.strip().splitlines()]
  names = dict(zip("n m a i 3 5 d e".split(), range(8), strict=True))
  table = np.zeros((len(ranked), 8))
  for e, line in enumerate(ranked):
    for rank, letter in enumerate(line):
      table[e, names[letter]] = 0.3 - 0.02 * rank - 0.001 * e
  return table


# By strength; letters are those of `rows`, in the order of S1: none, max, avg,
# identity, sep 3 and 5, dil 3 and e for dil 5.
NORMAL = rows("""
  3 i 5 m a d e n
  n 3 i d e m 5 a
  e d 5 3 i a m n
  i 3 m a n 5 d e
  3 5 d e i m a n
  m a i n 3 5 d e
  5 3 n e d i a m
  i 3 5 m a d e n
  d n i 3 5 m a e
  a m i 3 5 d e n
  3 i n 5 m a d e
  e i 3 5 m a d n
  5 i d 3 m a n e
  n i m a 3 5 d e
""")
TABLES = {"normal": NORMAL, "reduce": NORMAL[::-1] + 0.0005}
AFTER_ONE = pdarts.next_stage(FIRST, TABLES, cells=11, operators=5)


def check_cell(cell, table, count):
  """Every edge has its strongest operators, in the order of S1."""
  best = [sorted(range(8), key=lambda o, row=row: -row[o]) for row in table]
  wanted = [[S1[o] for o in sorted(own[:count])] for own in best]
  assert cell.kept == tuple(
    tuple(op for op in own if op != NONE) for own in wanted
  )
  assert cell.without_none == tuple(
    e for e, own in enumerate(wanted) if NONE not in own
  )
  mask = arch_lib.mask(cell)
  np.testing.assert_array_equal(
    mask, [[op in own for op in S1] for own in wanted]
  )
  # `none` is dropped as any other: every edge keeps the same number.
  assert (mask.sum(-1) == count).all()


# P-DARTS.


def stages():
  own = {"cells": (5, 11, 17), "operators": (8, 5, 3)}
  return pdarts.stages(Setting(FIRST, None, own, total=3 * 50))


def test_the_stages_of_pdarts_grow_deeper_and_drop_the_weakest_operators():
  plan = stages()
  one = plan.first
  assert (one.index, one.start, one.stop, one.spec) == (0, 0, 50, FIRST)
  two = plan.decide(one, {}, TABLES).following
  assert two.spec == AFTER_ONE
  assert (two.index, two.start, two.stop) == (1, 50, 100)
  assert two.spec.layers == spec_lib.stack(11)
  # Another order of what is left in the next stage.
  after = {"normal": NORMAL[:, ::-1], "reduce": NORMAL}
  three = plan.decide(two, {}, after).following
  assert (three.index, three.start, three.stop) == (2, 100, 150)
  assert three.spec.layers == spec_lib.stack(17)
  assert plan.decide(three, {}, after).following is None
  for name, table in TABLES.items():
    check_cell(two.spec.cell(name), table, 5)
    left = np.where(arch_lib.mask(two.spec.cell(name)) > 0, after[name], -1)
    check_cell(three.spec.cell(name), left, 3)
  # By hand, the first two edges: 3 i 5 m a of the one, n 3 i d e of the other.
  normal = two.spec.cell("normal")
  assert normal.kept[:2] == (
    (MAX, AVG, SKIP, SEP3, SEP5), (SKIP, SEP3, DIL3, DIL5)
  )
  assert 0 in normal.without_none and 1 not in normal.without_none
  assert len(set(normal.kept)) > 5
  assert two.spec.cell("reduce").kept != normal.kept
  # All else of the network stays.
  for stage in (two, three):
    assert dataclasses.replace(
      stage.spec, cells=FIRST.cells, layers=FIRST.layers
    ) == FIRST


def test_what_has_been_dropped_takes_no_part_in_the_next_stage():
  arch = {name: jnp.zeros((14, 8)) for name in TABLES}
  mixture = pdarts.pdarts(AFTER_ONE).mixture(arch)
  for name, weights in mixture.items():
    mask = arch_lib.mask(AFTER_ONE.cell(name))
    np.testing.assert_allclose(weights, mask / 5, rtol=1e-6)
    # It stays out, however large its number is.
    table = np.where(mask > 0, TABLES[name], 9.0)
    again = pdarts.drop(AFTER_ONE.cell(name), table, 3)
    assert (arch_lib.mask(again) <= mask).all()
    assert (arch_lib.mask(again).sum(-1) == 3).all()


def test_of_equal_weights_the_later_operator_is_dropped():
  cell = pdarts.drop(FIRST.cell("normal"), np.ones((14, 8)), 5)
  assert set(cell.kept) == {(MAX, AVG, SKIP, SEP3)}
  assert cell.without_none == ()
  cell = pdarts.drop(cell, np.tile([0, 1, 1, 1, 1, 1, 1, 1], (14, 1)), 3)
  assert set(cell.kept) == {(MAX, AVG, SKIP)}
  assert cell.without_none == tuple(range(14))


def test_parts_of_a_run_are_as_equal_as_they_can_be():
  assert stages_lib.equal_parts(150, 3) == (50, 100, 150)
  assert stages_lib.equal_parts(11, 3) == (4, 7, 11)
  assert stages_lib.equal_parts(7, 1) == (7,)
  plan = stages_lib.single(FIRST, 7)
  stage = plan.first
  assert stage == Stage(0, FIRST, 0, 7)
  assert plan.decide(stage, {}, {}).following is None


def small(names, table, nodes=2):
  spec = spec_lib.supernet(names, cells=3, width=4, classes=2, nodes=nodes)
  return spec, np.array(table, np.float64)


def test_pdarts_keeps_the_later_of_equal_edges_and_lists_by_predecessor():
  spec, table = small(
    (NONE, SKIP, SEP3),
    [
      [0.9, 0.1, 0.0],
      [0.1, 0.2, 0.7],
      [0.0, 0.3, 0.3],  # as strong as the next two; its first operator
      [0.8, 0.1, 0.3],
      [0.0, 0.3, 0.2],
    ],
  )
  cell = spec.cell("normal")
  assert pdarts.strongest_edges(cell, table) == (
    (SKIP, 0), (SEP3, 1), (SEP3, 1), (SKIP, 2)
  )
  # DARTS keeps the earlier ones, and lists by strength.
  assert base.strongest_edges(cell, table) == (
    (SEP3, 1), (SKIP, 0), (SKIP, 0), (SEP3, 1)
  )
  # What an edge has lost is not chosen.
  lost = dataclasses.replace(cell, kept=((SKIP,), *cell.kept[1:4], (SEP3,)))
  assert pdarts.strongest_edges(lost, table) == (
    (SKIP, 0), (SEP3, 1), (SKIP, 0), (SEP3, 1)
  )


def four(text):
  """Fourteen rows over (none, identity, sep 3, sep 5), from two-digit text."""
  return np.array([[int(v) / 100 for v in r.split()] for r in text.split(",")])


# Edges (0,2) (1,2) | (0,3) (1,3) (2,3) | (0,4) (1,4) (2,4) (3,4) | (0..4, 5).
# Columns: none, identity, sep 3, sep 5.
SKIPS = four(
  "99 60 10 05, 0 55 20 05,"
  "0 50 30 05, 0 45 15 05, 0 44 05 25,"
  "0 41 02 01, 0 40 38 01, 0 39 01 37, 0 36 03 02,"
  "0 06 22 01, 0 58 12 01, 0 57 01 02, 0 07 01 24, 0 02 08 03"
)


def worked_out():
  """By hand: the normal cell for M = 8, 7, ... 0.

  All four nodes: node 2 keeps both edges. Node 3 keeps 50 and 45 of 50 45 44,
  node 4 keeps 41 and 40 of 41 40 39 36, node 5 keeps 58 and 57.
  """
  i, three, five = SKIP, SEP3, SEP5
  two = [(i, 0), (i, 1)]
  found = {8: two + [(i, 0), (i, 1)] + [(i, 0), (i, 1)] + [(i, 1), (i, 2)]}
  # 7: the weakest identity kept is 40, on (1, 4). Zero, the edge is worth 38
  # (sep 3) and loses to 39, an identity on (2, 4): eight again. That one goes
  # next; its edge is worth 37 (sep 5), and so 41 and 38 are kept.
  found[7] = two + [(i, 0), (i, 1)] + [(i, 0), (three, 1)] + [(i, 1), (i, 2)]
  # 6: 41 on (0, 4) goes; the edge is worth 2 and is lost to 38 and 37; both
  # are convolutions. 36, an identity, was weaker.
  found[6] = (
    two + [(i, 0), (i, 1)] + [(three, 1), (five, 2)] + [(i, 1), (i, 2)]
  )
  # 5: 45 on (1, 3) goes, worth 15; 44 on (2, 3), an identity, comes in: six.
  # It goes, worth 25; kept are 50 and 25.
  found[5] = (
    two + [(i, 0), (five, 2)] + [(three, 1), (five, 2)] + [(i, 1), (i, 2)]
  )
  # 4: 50 on (0, 3) goes, worth 30: still the strongest of its node.
  found[4] = (
    two + [(three, 0), (five, 2)] + [(three, 1), (five, 2)] + [(i, 1), (i, 2)]
  )
  # 3: 55 on (1, 2) goes, worth 20; node 2 has no other edge.
  found[3] = [(i, 0), (three, 1)] + found[4][2:]
  # 2: 57 on (2, 5) goes, worth 2; the edge (3, 5) is worth 24.
  found[2] = found[3][:6] + [(i, 1), (five, 3)]
  # 1: 58 on (1, 5) goes, worth 12; (0, 5) is worth 22.
  found[1] = found[3][:6] + [(three, 0), (five, 3)]
  # 0: 60 on (0, 2) goes, worth 10. `none` at 99 counts for nothing.
  found[0] = [(three, 0), (three, 1)] + found[1][2:]
  return {most: tuple(pairs) for most, pairs in found.items()}


def test_skip_connections_are_taken_out_from_the_weakest_on():
  spec = spec_lib.supernet(
    (NONE, SKIP, SEP3, SEP5), cells=5, width=8, classes=10
  )
  weights = {"normal": SKIPS, "reduce": SKIPS}
  before = SKIPS.copy()
  found = pdarts.restricted(spec, weights)
  np.testing.assert_array_equal(SKIPS, before)
  expected = worked_out()
  assert list(found) == list(range(8, -1, -1))
  for most, genotype in found.items():
    assert genotype.normal == expected[most], most
    # The reduction cell stays as it is.
    assert genotype.reduce == expected[8]
    assert [op for op, _ in genotype.normal].count(SKIP) == most
    assert genotype.normal_concat == genotype.reduce_concat == (2, 3, 4, 5)
    genotype_lib.validate(genotype)
  for skips in (2, 5):
    derive = pdarts.pdarts(spec, skips=skips).derive
    assert derive(weights) == found[skips]
  assert pdarts.pdarts(spec).derive(weights) == found[8]


def test_a_cell_of_nothing_but_skip_connections_keeps_them():
  spec, table = small((NONE, SKIP, MAX), np.full((5, 3), 0.3))
  cell = dataclasses.replace(spec.cell("normal"), kept=((SKIP,),) * 5)
  spec = dataclasses.replace(
    spec, cells=(("normal", cell), ("reduce", spec.cell("reduce")))
  )
  found = pdarts.restricted(spec, {"normal": table, "reduce": table})
  assert list(found) == [4, 3, 2, 1, 0]
  for genotype in found.values():
    assert [op for op, _ in genotype.normal] == [SKIP] * 4


# Amended DARTS.


def test_the_second_stage_has_the_strongest_pair_of_each_node():
  first = spec_lib.supernet(S2, cells=3, width=8, classes=10)
  # Pairs of node 2; of 3: 01 02 12; of 4: 01 02 03 12 13 23; of 5, the rest.
  beta = {
    "normal_edges": np.array(
      [-3.0, 0, 2, 1, 0, 0, 0, 5, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    ),
    "reduce_edges": np.zeros(20),
  }
  table = {name: np.zeros((14, 2)) for name in ("normal", "reduce")}
  plan = edges.stages(first, 9)
  one = plan.first
  assert (one.spec, one.start, one.stop) == (first, 0, 4)
  two = plan.decide(one, beta | table, {}).following
  assert (two.index, two.start, two.stop) == (1, 4, 9)
  assert plan.decide(two, beta, {}).following is None
  # Ties go to the earlier pair: (1, 2) of node 4 and not (1, 3).
  assert two.spec.cell("normal").edges == (
    (0, 2), (1, 2), (0, 3), (2, 3), (1, 4), (2, 4), (3, 5), (4, 5)
  )
  assert two.spec.cell("reduce").edges == (
    (0, 2), (1, 2), (0, 3), (1, 3), (0, 4), (1, 4), (0, 5), (1, 5)
  )
  for _, cell in two.spec.searched:
    assert cell.kept == (S2,) * 8
    assert cell.ops == S2 and cell.concat == (2, 3, 4, 5)
  assert dataclasses.replace(two.spec, cells=first.cells) == first


def test_a_selected_edge_keeps_its_own_operators():
  spec = spec_lib.supernet(S2, cells=3, width=8, classes=10, nodes=2)
  kept = ((SKIP,), (SEP3,), (SKIP,), (SEP3,), S2)
  cell = dataclasses.replace(spec.cell("normal"), kept=kept)
  spec = dataclasses.replace(spec, cells=(("normal", cell),) + spec.cells[1:])
  beta = {"normal_edges": np.array([0, 0, 0, 1.0]), "reduce_edges": np.zeros(4)}
  found = edges.select_edges(spec, beta).cell("normal")
  assert found.edges == ((0, 2), (1, 2), (1, 3), (2, 3))
  assert found.kept == ((SKIP,), (SEP3,), (SEP3,), S2)


def test_fixed_edges_come_from_the_first_input_and_from_the_node_before():
  assert spec_lib.fixed_edges(4) == (
    (0, 2), (1, 2), (0, 3), (2, 3), (0, 4), (3, 4), (0, 5), (4, 5)
  )


def test_a_space_of_twenty_independent_cells_gives_a_genotype_of_twenty():
  spec = spec_lib.supernet(
    S2, cells=20, width=36, classes=10, fixed=True, shared=False
  )
  names = [f"cell{i}" for i in range(20)]
  assert [layer.cell for layer in spec.layers] == names
  assert [name for name, _ in spec.searched] == names
  assert {len(cell.edges) for _, cell in spec.searched} == {8}
  halves = [i for i, layer in enumerate(spec.layers) if layer.reduction]
  assert halves == [6, 13]
  algorithm = amended.amended(spec)
  arch = jax.eval_shape(
    functools.partial(algorithm.init, scale=1.0), jax.random.key(0)
  )
  assert {name: a.shape for name, a in arch.items()} == dict.fromkeys(
    names, (8, 2)
  )
  # Cell i has a skip connection on its edge i % 8 alone.
  weights = {name: np.tile([0.2, 0.8], (8, 1)) for name in names}
  for i, name in enumerate(names):
    weights[name][i % 8] = [0.9, 0.1]
  genotype = algorithm.derive(weights)
  assert isinstance(genotype, StackGenotype)
  assert len(genotype.cells) == 20 and genotype.concat == (2, 3, 4, 5)
  for i, pairs in enumerate(genotype.cells):
    source, target = spec_lib.fixed_edges(4)[i % 8]
    skips = [
      (s, 2 + j // 2) for j, (op, s) in enumerate(pairs) if op == SKIP
    ]
    assert skips == [(source, target)]
  text = genotype_lib.format_text(genotype_lib.validate(genotype))
  assert genotype_lib.parse(text) == genotype
  derived = discrete.derived(genotype, cells=20, width=4, classes=10)
  assert derived.layers == spec.layers
  for name, pairs in zip(names, genotype.cells, strict=True):
    assert derived.cell(name).kept == tuple((op,) for op, _ in pairs)
  network = cnn.Network(derived)
  (logits, _), variables = jax.eval_shape(
    functools.partial(network.init_with_output, train=False),
    jax.random.key(0), jnp.zeros((2, 8, 8, 3)),
  )
  assert logits.shape == (2, 10)
  # Seven sep convs of edges without a stride, twice dw and pw, and two norms.
  first = variables["params"]["cell0"]
  assert first["sep_conv_3x3"]["depthwise1"].shape == (7, 3, 3, 4)
  assert "skip_connect" not in first
  last = variables["params"]["cell13"]["sep_conv_3x3"]
  assert last["pointwise2"].shape[0] == 7
  with pytest.raises(ValueError, match="a stack of 20 cells.*with 8; set"):
    discrete.derived(genotype, cells=8, width=4, classes=10)


# Checkpoints.


@pytest.mark.parametrize(
  "spec,blocks,dropped",
  [
    (AFTER_ONE, False, True),
    (spec_lib.supernet(S1, **WIDE, fixed_reduction=True), True, False),
    (spec_lib.nas_bench_201(**WIDE), True, False),
    (spec_lib.supernet(S2, **WIDE, fixed=True, shared=False), False, False),
  ],
  ids=["pdarts", "gdas", "nas_bench_201", "independent"],
)
def test_a_stage_comes_back_from_json_as_it_was(spec, blocks, dropped):
  stage = Stage(2, spec, 30, 70)
  back = stages_lib.from_json(json.loads(json.dumps(stage.to_json())))
  assert back == stage and hash(back) == hash(stage)
  for name, cell in spec.cells:
    assert type(back.spec.cell(name)) is type(cell)
  assert any(isinstance(cell, Block) for _, cell in spec.cells) == blocks
  assert any(c.without_none for _, c in back.spec.searched) == dropped
