"""Tests of genotypes: text form, JSON, validation, the zoo."""

import dataclasses
import json
import subprocess
import sys

import pytest

from jnas import genotype as genotype_lib
from jnas.genotype import (
  Genotype,
  NasBench201Genotype,
  RecurrentGenotype,
  StackGenotype,
)

# Line 0 of the table of NAS-Bench-201.
NODES = (
  "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+"
  "|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
)
NAS_BENCH_201 = NasBench201Genotype(
  [
    [("avg_pool_3x3", 0)],
    [("nor_conv_1x1", 0), ("skip_connect", 1)],
    [("nor_conv_1x1", 0), ("skip_connect", 1), ("skip_connect", 2)],
  ]
)
STACK_TEXT = (
  "Genotype(cells=[[('sep_conv_3x3', 0), ('skip_connect', 1)], "
  "[('none', 1), ('none', 1)]], concat=[2])"
)
STACK = StackGenotype(
  [
    [("sep_conv_3x3", 0), ("skip_connect", 1)],
    [("none", 1), ("none", 1)],
  ],
  range(2, 3),
)

EVERY = [
  pytest.param(NAS_BENCH_201, id="nas-bench-201"),
  pytest.param(STACK, id="stack"),
  *(pytest.param(g, id=n) for n, g in genotype_lib.ZOO.items()),
  *(
    pytest.param(g, id=f"{n}-rnn")
    for n, g in genotype_lib.RECURRENT_ZOO.items()
  ),
]

SMALL = "Genotype(normal=[('skip_connect', 0), ('sep_conv_3x3', 1)], "
SMALL += "normal_concat=range(2, 3), reduce=None, reduce_concat=None)"

# As printed by the authors' code, in the README of the DARTS repository.
DARTS_V2 = (
  "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
  "('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 1), "
  "('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], "
  "normal_concat=range(2, 6), reduce=[('max_pool_3x3', 0), "
  "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), "
  "('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), "
  "('max_pool_3x3', 1)], reduce_concat=range(2, 6))"
)


def changed(**fields):
  return dataclasses.replace(genotype_lib.ZOO["DARTS_V2"], **fields)


def test_text_form_is_the_one_of_the_field():
  assert genotype_lib.format_text(genotype_lib.ZOO["DARTS_V2"]) == DARTS_V2
  assert genotype_lib.parse(DARTS_V2) == genotype_lib.ZOO["DARTS_V2"]
  # The pasted form is valid Python, too.
  assert eval(DARTS_V2) == genotype_lib.ZOO["DARTS_V2"]


@pytest.mark.parametrize("g", EVERY)
def test_zoo_round_trips(g):
  assert genotype_lib.validate(g) is g
  assert genotype_lib.parse(genotype_lib.format_text(g)) == g
  data = json.loads(json.dumps(genotype_lib.to_json(g)))
  assert genotype_lib.from_json(data) == g
  hash(g)


def test_zoo_holds_what_the_papers_print():
  assert (
    list(genotype_lib.ZOO)
    == (
      "DARTS_V1 DARTS_V2 PDARTS PC_DARTS_cifar PC_DARTS_image NASNet AmoebaNet "
      "GDAS_V1 GDAS_F1 GDAS_FG GDAS_GF PNASNet ENASNet SETN"
    ).split()
  )
  assert (
    list(genotype_lib.RECURRENT_ZOO) == "DARTS_V1 DARTS_V2 GDAS ENAS".split()
  )
  nasnet = genotype_lib.ZOO["NASNet"]
  assert len(nasnet.normal) == 10
  assert nasnet.reduce_concat == (4, 5, 6)
  # Both operators of a node may read the same input.
  assert nasnet.normal[6:8] == (("avg_pool_3x3", 0), ("avg_pool_3x3", 0))
  assert genotype_lib.ZOO["GDAS_F1"].reduce is None
  assert genotype_lib.RECURRENT_ZOO["ENAS"].concat == (2, 5, 6, 9, 10, 11)


@pytest.mark.parametrize(
  "text",
  [
    f"genotype = {SMALL}",
    f"2026-01-01 12:00:00 INFO genotype = {SMALL}\n",
    f"genotypes.{SMALL}",
    SMALL.replace(", ", ",\n      "),
    SMALL.replace("[", "(").replace("]", ")"),
    SMALL.replace("range(2, 3)", "[2]"),
    SMALL.replace("range(2, 3)", "list(range(2, 3))"),
    SMALL.replace(", reduce_concat=None", ""),
    "Genotype([('skip_connect', 0), ('sep_conv_3x3', 1)], [2], None, None)",
    "Genotype([('skip_connect', 0), ('sep_conv_3x3', 1)], [2], reduce=None)",
  ],
)
def test_parse_takes_what_people_paste(text):
  pairs = [("skip_connect", 0), ("sep_conv_3x3", 1)]
  assert genotype_lib.parse(text) == Genotype(pairs, [2], None, None)


def test_parse_takes_recurrent_cells():
  want = RecurrentGenotype([("tanh", 0), ("relu", 1)], [1, 2])
  for text in (
    "Genotype(recurrent=[('tanh', 0), ('relu', 1)], concat=range(1, 3))",
    "Genotype([('tanh', 0), ('relu', 1)], range(1, 3))",
  ):
    assert genotype_lib.parse(text) == want


def test_text_forms_of_the_other_kinds():
  assert genotype_lib.format_text(NAS_BENCH_201) == NODES
  assert genotype_lib.format_text(STACK) == STACK_TEXT
  data = genotype_lib.to_json(NAS_BENCH_201)
  assert data["nodes"][0] == [["avg_pool_3x3", 0]]
  cells = [g.normal for g in list(genotype_lib.ZOO.values())[:3]]
  text = genotype_lib.format_text(StackGenotype(cells, range(2, 6)))
  assert text.startswith("Genotype(cells=[[('sep_conv_3x3', 1), (")
  assert text.endswith("('dil_conv_5x5', 4)]], concat=range(2, 6))")


@pytest.mark.parametrize(
  "text, want",
  [
    (f"0,{NODES},69.55,86.18", NAS_BENCH_201),
    (f"INFO cell: {NODES} after 3 epochs\n", NAS_BENCH_201),
    (f"genotype='{NODES}'", NAS_BENCH_201),
    (repr(NAS_BENCH_201), NAS_BENCH_201),
    (f"best = {STACK_TEXT}", STACK),
    (STACK_TEXT.replace("[2]", "range(2, 3)"), STACK),
    (STACK_TEXT.replace("cells=", "").replace("concat=", ""), STACK),
    (STACK_TEXT.replace("cells=", ""), STACK),
    (repr(STACK), STACK),
    (f"|epoch~3| {STACK_TEXT}", STACK),
  ],
)
def test_parse_takes_the_other_kinds(text, want):
  assert genotype_lib.parse(text) == want
  assert genotype_lib.load(text) == want


@pytest.mark.parametrize(
  "text, words",
  [
    (NODES.replace("nor_conv_1x1", "nor_conv1x1"), "mean 'nor_conv_1x1'"),
    (
      NODES.replace("avg_pool", "max_pool"),
      r"nodes\[0\]\[0\] .*'max_pool_3x3'",
    ),
    (NODES.replace("sk", "sep_conv_3x3~0|sk", 1), r"nodes\[1\]: node 2 reads"),
    (NODES.replace("~2", "~3"), r"inputs \[0, 1, 2\] once.*\[0, 1, 3\]"),
    (
      NODES.replace("~0", "~", 1),
      "Expected operator~input.*got 'avg_pool_3x3~'",
    ),
    (NODES.replace("~0|+|", "~0+|", 1), "Expected operator~input"),
    (NODES[: NODES.rindex("+")], "nodes 1, 2 and 3"),
    (f"{NODES}\n{NODES}", "Expected one cell .* got 2"),
    (STACK_TEXT.replace("none", "nne", 1), r"cells\[1\]\[0\] .* mean 'none'"),
    (STACK_TEXT.replace(", concat=[2]", ""), "missing field 'concat'"),
    (
      STACK_TEXT.replace("[2]", "[2, 3]"),
      "concat: expected nodes out of 2 to 2",
    ),
    (STACK_TEXT.replace("[2]", "[2], concat=[2]"), "concat again"),
    ("Genotype(cells=[], concat=[2])", "a list of pairs for each layer"),
    ("Genotype(cells=[], normal=[], concat=[2])", "unknown field 'normal'"),
    ("Genotype(cells=[[]], concat=[2])", r"cells\[0\]: expected a list"),
    ("Genotype(nodes=[3, [3], None])", r"nodes\[2\]: expected a list of"),
    (
      "Genotype([('tanh', 0)], [1], concat=[1])",
      "missing field 'recurrent'|unknown field|again",
    ),
  ],
)
def test_mistakes_in_the_other_kinds_are_explained(text, words):
  with pytest.raises(ValueError, match=words):
    genotype_lib.parse(text)


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


def test_chosen_numbers_nodes_as_the_supernet_does():
  assert genotype_lib.chosen(NAS_BENCH_201) == {
    "cell": (
      ("avg_pool_3x3", 0, 1),
      ("nor_conv_1x1", 0, 2),
      ("skip_connect", 1, 2),
      ("nor_conv_1x1", 0, 3),
      ("skip_connect", 1, 3),
      ("skip_connect", 2, 3),
    )
  }
  assert genotype_lib.chosen(STACK) == {
    "cell0": (("sep_conv_3x3", 0, 2), ("skip_connect", 1, 2)),
    "cell1": (("none", 1, 2), ("none", 1, 2)),
  }
  found = genotype_lib.chosen(genotype_lib.ZOO["DARTS_V2"])
  assert list(found) == ["normal", "reduce"]
  assert found["normal"][-1] == ("dil_conv_3x3", 2, 5)


def test_skip_share_is_that_of_the_normal_cells():
  assert genotype_lib.skip_share(NAS_BENCH_201) == 0.5
  assert genotype_lib.skip_share(genotype_lib.ZOO["GDAS_F1"]) == 5 / 8
  skip = [("skip_connect", 0), ("skip_connect", 1)]
  none = [("none", 0), ("none", 1)]
  # Layers 2 and 4 of six reduce.
  stack = StackGenotype([none, skip, skip, none, skip, none], [2])
  assert genotype_lib.skip_share(stack) == 0.25
  # A stack of one or two has no normal cell, so all count.
  assert genotype_lib.skip_share(StackGenotype([skip, none], [2])) == 0.5


@pytest.mark.parametrize(
  "text, words",
  [
    ("", "no 'Genotype"),
    ("DARTS_V2", "no 'Genotype"),
    (SMALL[:-1], "was never closed"),
    (f"{SMALL}\n{SMALL}", "more than one thing"),
    ("Genotype(" + "[" * 100000, "Expected one Genotype"),
    ("Genotype(**fields)", "each field once"),
    ("Genotype(normal=[], normal=[])", "normal again"),
    (SMALL.replace("normal_", "nomal_"), "did you mean 'normal_concat'"),
    (SMALL.replace("reduce=None, ", ""), "missing field 'reduce'"),
    ("Genotype(1, 2, 3, 4, 5)", "unknown field 'value 5'"),
    (SMALL.replace("range(2, 3)", "range(10**12)"), r"10 \*\* 12"),
    (SMALL.replace("range(2, 3)", "range(10000000000)"), "range"),
    (SMALL.replace("0)", "0.5)"), "0.5.* at line 1, column 35"),
    (SMALL.replace("0)", "True)"), "True"),
    (SMALL.replace("'skip_connect'", "skip_connect"), "'skip_connect'"),
    (SMALL.replace("range(2, 3)", "[x for x in y]"), "for x in y"),
  ],
)
def test_parse_explains_what_is_wrong(text, words):
  with pytest.raises(ValueError, match=words):
    genotype_lib.parse(text)


def test_parse_evaluates_nothing(tmp_path):
  path = tmp_path / "made"
  attack = f"__import__('pathlib').Path({str(path)!r}).touch()"
  with pytest.raises(ValueError, match="write the value out"):
    genotype_lib.parse(f"Genotype(normal={attack}, normal_concat=range(2, 6))")
  assert not path.exists()


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


@pytest.mark.parametrize(
  "data",
  [None, [], {}, {"normal": 3}, {"concat": 1}, {"cells": 1}, {"nodes": {}}],
)
def test_from_json_refuses(data):
  with pytest.raises(ValueError):
    genotype_lib.from_json(data)


def test_load_finds_all_kinds_of_sources(tmp_path):
  g = genotype_lib.ZOO["PDARTS"]
  text, data = genotype_lib.format_text(g), genotype_lib.to_json(g)
  run = tmp_path / "run"
  run.mkdir()
  line = {"genotype": data, "text": text, "step": 3, "epoch": 1}
  (run / "genotype.json").write_text(json.dumps(line))
  (tmp_path / "plain.json").write_text(json.dumps(data))
  (tmp_path / "cell.txt").write_text(f"best so far:\n{text}\n")
  for source in (
    "PDARTS",
    text,
    json.dumps(data),
    run,
    str(run / "genotype.json"),
    tmp_path / "plain.json",
    tmp_path / "cell.txt",
  ):
    assert genotype_lib.load(source) == g
  for other in (NAS_BENCH_201, STACK):
    line = {"genotype": genotype_lib.to_json(other)}
    line["text"] = genotype_lib.format_text(other)
    (run / "genotype.json").write_text(json.dumps(line))
    (tmp_path / "cell.txt").write_text(f"best so far:\n{line['text']}\n")
    assert genotype_lib.load(run) == other
    assert genotype_lib.load(tmp_path / "cell.txt") == other
  assert genotype_lib.load("ENAS", recurrent=True).recurrent[0] == ("tanh", 0)


@pytest.mark.parametrize(
  "source, words",
  [
    ("DARTSV2", "did you mean 'DARTS_V2'"),
    ("", "Expected a genotype"),
    ("x" * 5000, "Expected a genotype"),
    ("\0", "Expected a genotype"),
    ('{"normal"', "the JSON text"),
    ("{tmp}", "no file .*genotype.json"),
    ("{tmp}/half.json", "half.json, got text that is neither"),
    ("{tmp}/wrong.json", "missing field 'normal_concat'"),
  ],
)
def test_load_explains_what_is_wrong(tmp_path, source, words):
  (tmp_path / "half.json").write_text('{"genotype": {"normal": [["skip_c')
  (tmp_path / "wrong.json").write_text('{"genotype": {"normal": []}}')
  with pytest.raises(ValueError, match=words):
    genotype_lib.load(source.replace("{tmp}", str(tmp_path)))


def test_importing_needs_no_jax():
  code = "import sys, jnas.genotype; print('jax' in sys.modules)"
  out = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert out.stdout.strip() == "False"
