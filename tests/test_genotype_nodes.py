"""Tests of cells whose nodes have any number of pairs, in all their forms."""

import collections
import functools
import itertools
import json
import re

import jax
import jax.numpy as jnp
from made_up_runs import write_search
import pytest
import test_layout

from jnas import genotype as genotype_lib
from jnas.genotype import Genotype, StackGenotype
from jnas.report import draw, findings, layout, measures, records
from jnas.spaces import cnn, discrete

SKIP, SEP = "skip_connect", "sep_conv_3x3"
FLAT = [(SEP, 0), (SKIP, 1), (SKIP, 0), (SKIP, 0)]
PAIRED = [FLAT[:2], FLAT[2:]]  # the same cell, written with its nodes
MANY = [[(SKIP, 0), (SEP, 0), ("dil_conv_5x5", 1)], [(SEP, 2)]]
FEW = [[(SEP, 1)], [(SKIP, 0)]]
FULL = [[(op, j) for j in range(i + 2) for op in (SKIP, SEP)] for i in range(4)]
LONG = [row[i % 2 :: 1 + i % 2] for i, row in enumerate(FULL)]

GENOTYPES = {
  "both": Genotype(MANY, (2, 3), FEW, (3,)),
  "normal": Genotype(MANY, (2, 3), FLAT, (2, 3)),
  "reduce": Genotype(FLAT, (2, 3), MANY, (2, 3)),
  "fixed": Genotype(FEW, (2,), None),
  "one pair": Genotype([[(SKIP, 0)]], (2,), None),
  "full": Genotype(FULL, range(2, 6), LONG, range(2, 6)),
  "stack": StackGenotype([MANY, FEW, MANY], (2, 3)),
  "mixed stack": StackGenotype([FLAT, FULL, MANY], (2, 3)),
  "stack of one": StackGenotype([FEW], (3,)),
}
EVERY = [pytest.param(g, id=name) for name, g in GENOTYPES.items()]


def tuples(cell):
  return tuple(map(tuple, cell))


def problems(cell, other=FLAT):
  with pytest.raises(ValueError) as error:
    genotype_lib.validate(Genotype(cell, (2,), other, (2,)))
  return str(error.value).splitlines()[1:]


@pytest.mark.parametrize("g", EVERY)
def test_every_form_round_trips(g):
  assert genotype_lib.validate(g) is g
  assert genotype_lib.parse(genotype_lib.format_text(g)) == g
  assert genotype_lib.parse(repr(g)) == g
  assert genotype_lib.load(genotype_lib.format_text(g)) == g
  data = json.loads(json.dumps(genotype_lib.to_json(g)))
  assert genotype_lib.from_json(data) == g
  assert genotype_lib.load(json.dumps(data)) == g
  assert hash(genotype_lib.from_json(data)) == hash(g)


def test_two_pairs_a_node_are_stored_flat():
  flat = Genotype(FLAT, (2, 3), FLAT, (2, 3))
  for normal, reduce in itertools.product((FLAT, PAIRED), repeat=2):
    assert Genotype(normal, [2, 3], reduce, [2, 3]) == flat
  assert flat.normal == tuple(FLAT)
  stack = StackGenotype([FLAT, PAIRED, MANY], (2, 3))
  assert stack.cells == (tuple(FLAT), tuple(FLAT), tuples(MANY))
  assert stack == StackGenotype([PAIRED, FLAT, MANY], (2, 3))
  # One node with another number is enough to list the nodes of all.
  other = [*PAIRED, [(SKIP, 0)]]
  assert Genotype(other, (2,), None).normal == tuples(other)
  for g in genotype_lib.ZOO.values():
    normal = genotype_lib.nodes(g.normal)
    reduce = g.reduce and genotype_lib.nodes(g.reduce)
    assert {len(node) for node in normal} == {2}
    again = Genotype(normal, g.normal_concat, reduce, g.reduce_concat)
    assert again == g
    assert genotype_lib.format_text(again) == genotype_lib.format_text(g)


def test_text_and_json_list_the_nodes():
  g = Genotype(FEW, (2, 3), None)
  assert genotype_lib.format_text(g) == (
    "Genotype(normal=[[('sep_conv_3x3', 1)], [('skip_connect', 0)]], "
    "normal_concat=range(2, 4), reduce=None, reduce_concat=None)"
  )
  assert genotype_lib.to_json(g)["normal"] == [[[SEP, 1]], [[SKIP, 0]]]
  stack = StackGenotype([FEW, PAIRED], (2,))
  assert genotype_lib.format_text(stack) == (
    "Genotype(cells=[[[('sep_conv_3x3', 1)], [('skip_connect', 0)]], "
    "[('sep_conv_3x3', 0), ('skip_connect', 1), ('skip_connect', 0), "
    "('skip_connect', 0)]], concat=[2])"
  )


@pytest.mark.parametrize(
  "text, want",
  [
    (f"Genotype({MANY}, [2], {FEW}, [2])", Genotype(MANY, [2], FEW, [2])),
    (f"Genotype({FLAT}, [2], {FEW}, [2])", Genotype(FLAT, [2], FEW, [2])),
    (f"Genotype({MANY}, [2], None)", Genotype(MANY, [2], None)),
    (f"Genotype({PAIRED}, [2], None)", Genotype(FLAT, [2], None)),
    (f"Genotype({MANY}, [2], reduce=None)", Genotype(MANY, [2], None)),
    (f"Genotype({tuples(MANY)}, [2], None)", Genotype(MANY, [2], None)),
    (
      f"g = Genotype(normal={MANY}, normal_concat=range(2, 4), reduce=None)",
      Genotype(MANY, [2, 3], None),
    ),
    (f"Genotype({[MANY, FEW]}, [2])", StackGenotype([MANY, FEW], [2])),
    (f"Genotype({[FEW, FLAT]}, [2])", StackGenotype([FEW, FLAT], [2])),
    (f"Genotype({[FLAT, FEW]}, [2])", StackGenotype([FLAT, FEW], [2])),
    (f"Genotype({[FEW]}, concat=[2])", StackGenotype([FEW], [2])),
    # As before: lists of pairs are the cells of a stack, pairs recurrent.
    (f"Genotype({PAIRED}, [2])", StackGenotype(PAIRED, [2])),
    (
      "Genotype([('tanh', 0)], [1])",
      genotype_lib.RecurrentGenotype([("tanh", 0)], [1]),
    ),
  ],
)
def test_positions_tell_the_kinds_apart(text, want):
  assert genotype_lib.parse(text) == want


@pytest.mark.parametrize(
  "cell, want",
  [
    (
      [[(SKIP, 0), (SEP, 2)]] * 2 + [[(SKIP, 0)]],
      ["normal[0][1] = ('sep_conv_3x3', 2): node 0 may read inputs 0 to 1, "
       "got 2"],
    ),
    (
      [[(SKIP, 0)], [(SKIP, -1), (SKIP, True), ("sep_cnv_3x3", 3)]],
      [
        "normal[1][0] = ('skip_connect', -1): node 1 may read inputs 0 to 2, "
        "got -1",
        "normal[1][1] = ('skip_connect', True): node 1 may read inputs 0 to 2, "
        "got True",
        "normal[1][2] = ('sep_cnv_3x3', 3): unknown operator 'sep_cnv_3x3'; "
        "did you mean 'sep_conv_3x3'?",
        "normal[1][2] = ('sep_cnv_3x3', 3): node 1 may read inputs 0 to 2, got "
        "3",
      ],
    ),
    (
      [[(SEP, 0), (SKIP, 1), (SEP, 0)]],
      ["normal[0][2] = ('sep_conv_3x3', 0): node 0 has this pair already"],
    ),
    (
      [[(SKIP, 0)], [], (SKIP, 1), 7],
      [
        "normal[1] = (): expected one or more (operator, input) pairs of node "
        "1, in a list",
        "normal[2] = ('skip_connect', 1): expected one or more (operator, "
        "input) pairs of node 2, in a list",
        "normal[3] = 7: expected one or more (operator, input) pairs of node "
        "3, in a list",
      ],
    ),
    (
      [[(SKIP, 0), (SKIP,), ((), 0, 1)]],
      [
        "normal[0][1] = ('skip_connect',): expected a pair (operator, input)",
        "normal[0][2] = ((), 0, 1): expected a pair (operator, input)",
      ],
    ),
    (
      [[]],
      ["normal[0] = (): expected one or more (operator, input) pairs of node "
       "0, in a list"],
    ),
    (
      [[[(SKIP, 0)]]],
      ["normal[0][0] = (('skip_connect', 0),): expected a pair (operator, "
       "input)"],
    ),
    (
      FLAT[:3],
      ["normal: expected 2 pairs a node, so an even number, got 3; for other "
       "numbers give each node a list of its pairs"],
    ),
    # What is stored flat is checked as that, its positions are flat ones.
    (
      [[(SKIP, 0), (SKIP, 9)]],
      ["normal[1] = ('skip_connect', 9): node 0 may read inputs 0 to 1, got 9"],
    ),
  ],
)
def test_validate_names_what_is_wrong_in_a_node(cell, want):
  assert problems(cell) == [f"  {line}" for line in want]
  # The same, and no less, in the other cell and in a stack.
  named = [f"  {line}".replace("normal", "reduce") for line in want]
  both = [f"  {line}" for line in want] + named
  assert problems(cell, cell) == both
  with pytest.raises(ValueError) as error:
    genotype_lib.validate(StackGenotype([MANY, cell], (2,)))
  named = [f"  {line}".replace("normal", "cells[1]") for line in want]
  assert str(error.value).splitlines()[1:] == named


@pytest.mark.parametrize(
  "concat, words",
  [
    ((2, 4), "expected nodes out of 2 to 3, got 4"),
    ((1,), "expected nodes out of 2 to 3, got 1"),
    ((3, 3), r"expected each node once, got \[3, 3\]"),
  ],
)
def test_concat_joins_the_nodes_that_there_are(concat, words):
  # Four pairs, but not two nodes of two: the nodes are counted, not the pairs.
  with pytest.raises(ValueError, match=f"normal_concat: {words}"):
    genotype_lib.validate(Genotype(MANY, concat, None))
  with pytest.raises(ValueError, match=f"  concat: {words}"):
    genotype_lib.validate(StackGenotype([FULL, MANY, FULL], concat))
  # Of the shortest cell there are more pairs.
  with pytest.raises(ValueError, match=f"  concat: {words}"):
    genotype_lib.validate(StackGenotype([FLAT + FLAT[2:], MANY], concat))


@pytest.mark.parametrize("cell", [MANY, PAIRED, [[]]])
def test_recurrent_cells_have_no_lists_of_nodes(cell):
  with pytest.raises(ValueError, match=r"recurrent\[0\] = .*: expected a pair"):
    genotype_lib.validate(genotype_lib.RecurrentGenotype(cell, (1,)))


@pytest.mark.parametrize(
  "data",
  [
    {"normal": {"a": 1}, "normal_concat": [2], "reduce": None},
    {"normal": [{}], "normal_concat": [2], "reduce": [[]]},
    {"cells": [[[[]]]], "concat": [2]},
    {"cells": [None, [[[SKIP, 0]]]], "concat": [2]},
  ],
)
def test_from_json_refuses(data):
  with pytest.raises(ValueError, match="The genotype has"):
    genotype_lib.from_json(data)


def test_new_operators_come_last():
  assert genotype_lib.OPERATIONS[8:] == (
    *("sep_conv_7x7", "conv_7x1_1x7", "conv_3x1_1x3"),
    *("conv_1x1", "conv_3x3", "conv_5x1_1x5"),
  )
  ops = ("conv_1x1", "conv_3x3", "conv_5x1_1x5")
  assert {draw.family(op) for op in ops} == {"convolution"}
  genotype_lib.validate(Genotype([[(op, 0) for op in ops]], (2,), None))


def test_chosen_and_nodes_read_both_forms():
  g = GENOTYPES["both"]
  assert genotype_lib.chosen(g) == {
    "normal": (
      (SKIP, 0, 2), (SEP, 0, 2), ("dil_conv_5x5", 1, 2), (SEP, 2, 3)
    ),
    "reduce": ((SEP, 1, 2), (SKIP, 0, 3)),
  }
  found = genotype_lib.chosen(GENOTYPES["mixed stack"])
  assert list(found) == ["cell0", "cell1", "cell2"]
  assert found["cell0"][2:] == ((SKIP, 0, 3), (SKIP, 0, 3))
  assert found["cell1"][-1] == (SEP, 4, 5)
  assert genotype_lib.nodes(tuple(FLAT)) == tuples(PAIRED)
  assert genotype_lib.nodes(g.normal) == tuples(MANY)


def test_skip_share_counts_pairs():
  assert genotype_lib.skip_share(GENOTYPES["both"]) == 1 / 4
  # Layers 1 and 2 of three reduce.
  assert genotype_lib.skip_share(StackGenotype([MANY, FEW, FEW], (2,))) == 1 / 4
  assert genotype_lib.skip_share(Genotype(FEW, (2,), None)) == 1 / 2


@pytest.mark.parametrize("g", EVERY)
def test_a_derived_network_has_a_row_a_pair(g):
  stack = isinstance(g, StackGenotype)
  depth = len(g.cells) if stack else 3
  spec = discrete.derived(g, cells=depth, width=4, classes=5)
  found = dict(spec.searched)
  chosen = genotype_lib.chosen(g)
  assert set(found) == set(chosen)
  for name, cell in found.items():
    rows = zip(cell.edges, cell.kept, strict=True)
    assert tuple((*ops, *edge) for edge, ops in rows) == chosen[name]
    degrees = collections.Counter(target for _, target in cell.edges)
    if stack:
      source, concat = g.cells[int(name[4:])], g.concat
    else:
      source, concat = getattr(g, name), getattr(g, f"{name}_concat")
    rows = genotype_lib.nodes(source)
    assert [degrees[2 + i] for i in range(len(rows))] == list(map(len, rows))
    assert cell.concat == concat
  assert [layer.reduction for layer in spec.layers] == [
    i in (depth // 3, 2 * depth // 3) for i in range(depth)
  ]


@pytest.mark.parametrize("stacked", [False, True])
def test_parameters_are_those_of_every_pair(stacked):
  c = 4
  separable = 2 * (9 * c + c * c + 2 * c)
  dilated = 25 * c + c * c + 2 * c
  inputs = 2 * (3 * c * c + 2 * c)  # the stem has 3 c channels
  g = Genotype(MANY, (2, 3), FEW, (2, 3))
  if stacked:
    g = StackGenotype([MANY, FEW, FEW], (2, 3))
  spec = discrete.derived(g, cells=3, width=c, classes=5)
  init = functools.partial(cnn.Network(spec).init, train=False)
  images = jnp.zeros((1, 16, 16, 3))
  params = jax.eval_shape(init, jax.random.key(0), images)["params"]
  first = 2 * separable + dilated + inputs  # a skip connection has none
  assert cnn.count(params["cell0"]) == first
  # Width 2 c; the first input is halved: two kernels of half the channels.
  d = 2 * c
  separable = 2 * (9 * d + d * d + 2 * d)
  skip = d * d + 2 * d
  inputs = (3 * c * d + 2 * d) + (2 * c * d + 2 * d)
  assert cnn.count(params["cell1"]) == separable + skip + inputs


def ends(plan):
  """(operator, source, target) of the edges of a drawn image cell."""
  # An edge goes from the right of its source to the left of a chip, and from
  # the right of the chip to the middle of the node.
  chips = [b for b in plan.boxes if b.kind not in ("port", "node")]
  places = [b for b in plan.boxes if b.kind == "port"][:2]
  places += [b for b in plan.boxes if b.kind == "node"]

  def at(x, y):
    return round(x, 3), round(y, 3)

  chip_of = {at(b.x - b.width / 2, b.y): b for b in chips}
  source_of = {at(b.x + b.width / 2, b.y): i for i, b in enumerate(places)}
  target_of = {at(b.x, b.y): i for i, b in enumerate(places)}
  links = {(k, at(*p[0])): at(*p[-1]) for k, p in plan.edges}
  for kind, points in plan.edges:
    if chip := chip_of.get(at(*points[-1])):
      assert chip.kind == kind
      end = links[kind, at(chip.x + chip.width / 2, chip.y)]
      yield kind, source_of[at(*points[0])], target_of[end]


@pytest.mark.parametrize("g", EVERY)
def test_a_drawing_has_every_pair(g):
  drawn = layout.cells(g)
  named = {"normal": "Normal cell", "reduce": "Reduction cell"}
  for name, triples in genotype_lib.chosen(g).items():
    number = name.removeprefix("cell")
    numbered = (t for t in drawn if number in re.findall(r"\d+", t))
    title = named.get(name) or next(numbered)
    assert sorted(ends(layout.layout(*drawn[title]))) == sorted(triples)
    svg = draw.cell_picture(title, drawn[title])
    for op, count in collections.Counter(op for op, *_ in triples).items():
      assert svg.count(f">{layout.label(op)}<") == count


@pytest.mark.parametrize("g", EVERY)
def test_a_drawing_overlaps_nothing(g):
  for arguments in layout.cells(g).values():
    test_layout.test_layout_overlaps_nothing(arguments)


def test_equal_cells_of_a_stack_are_drawn_once_in_either_form():
  stack = StackGenotype([FLAT, MANY, MANY, PAIRED], (2,))
  assert list(layout.cells(stack)) == [
    "Layers 0, 3 (normal)", "Layers 1, 2 (reduction)"
  ]


def test_the_report_has_a_node_a_line(tmp_path):
  history = [GENOTYPES[name] for name in ("full", "normal", "both")]
  arch = [{"ops": [SKIP, SEP], "edges": [], "weights": {}}] * 3
  metrics = [{"valid_accuracy": 0.5}] * 3
  path = write_search(tmp_path / "run", "darts", arch, history, metrics)
  run = records.read(path)
  section = findings.genotype(run)
  assert "A list of pairs for each node." in section.note
  text = section.parts[0].text
  assert genotype_lib.parse(text) == history[-1]
  assert text.splitlines()[2] == " " * 10 + "[('sep_conv_3x3', 2)]],"
  titles = [getattr(part, "title", "") for part in findings.cells(run)]
  assert "Reduction cell" in titles


def test_changes_are_pairs_gained_or_lost(tmp_path):
  replaced = [[(SKIP, 0), (SEP, 0), ("max_pool_3x3", 1)], [(SEP, 2)]]
  pruned = [[(SEP, 0)], [(SEP, 2)]]
  grown = [[(SEP, 1)], [(SEP, 2), (SKIP, 2)]]
  found = [Genotype(c, (2, 3), None) for c in (MANY, replaced, pruned, grown)]
  arch = [{"ops": [SKIP, SEP], "edges": [], "weights": {}}] * 4
  metrics = [{"valid_accuracy": 0.5}] * 4
  path = write_search(tmp_path / "run", "darts", arch, found, metrics)
  counts = [count for _, count in measures.changes(records.read(path))]
  # One for another; two fewer; one for another and, in a second node, one more.
  assert counts == [1, 2, 2]
