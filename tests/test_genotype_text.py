"""Text and JSON forms of genotypes: written, read, refused."""

from made_up_genotypes import (
  DARTS_V2,
  NAS_BENCH_201,
  NODES,
  SMALL,
  STACK,
  STACK_TEXT,
)
import pytest

from jnas import genotype as genotype_lib
from jnas.genotype import Genotype, RecurrentGenotype, StackGenotype


def test_text_form_is_the_one_of_the_field():
  assert genotype_lib.format_text(genotype_lib.ZOO["DARTS_V2"]) == DARTS_V2
  assert genotype_lib.parse(DARTS_V2) == genotype_lib.ZOO["DARTS_V2"]
  # The pasted form is valid Python, too.
  assert eval(DARTS_V2) == genotype_lib.ZOO["DARTS_V2"]


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


@pytest.mark.parametrize(
  "data",
  [None, [], {}, {"normal": 3}, {"concat": 1}, {"cells": 1}, {"nodes": {}}],
)
def test_from_json_refuses(data):
  with pytest.raises(ValueError):
    genotype_lib.from_json(data)


@pytest.mark.parametrize(
  "text",
  [
    "Genotype(normal=[" + "('x', 0), " * 10**6 + "])",
    "Genotype(normal=[" + "('x', 0), " * 10**4 + "], normal_concat=[2], "
    "reduce=None)",
    f"Genotype([('{'x' * 10**5}', 0)], [1])",
    "Genotype(" + "1, " * 10**4 + ")",
    "Genotype(" + "".join(f"x{i}=1, " for i in range(10**4)) + ")",
    "Genotype(" + "x" * 10**5 + "=1)",
    "Genotype([('tanh', 0)], range(10000000000000000000000000))",
    "Genotype([('tanh', 0)], range(-10000000000000000000000, 1))",
    "Genotype([('tanh', 0)], [" + "range(1000)," * 10**4 + "])",
    "Genotype([('tanh', " + "9" * 5000 + ")], [1])",
    "Genotype([('tanh', " + "9" * 4000 + ")], [1])",
    "Genotype(" + "a." * 10**5 + "b)",
    "Genotype(" + "-" * 10**5 + "1)",
    "Genotype(" + "f'{x!r:{y}}' " * 100 + ")",
    "Genotype(\0)",
    "|" + "~" * 10**5,
    "|" + "~" * 10**5 + "|",
    "|~" * 10**5,
    "|x~0" * 10**4 + "|",
    "x" * 10**7,
  ],
  ids=range(20),
)
def test_long_and_odd_texts_are_one_short_message(text):
  with pytest.raises(ValueError, match="Expected|The genotype has") as error:
    genotype_lib.parse(text)
  assert type(error.value) is ValueError and len(str(error.value)) <= 2000


def nested(depth, value):
  for _ in range(depth):
    value = [value]
  return value


@pytest.mark.parametrize(
  "data",
  [
    {"recurrent": nested(900, 3), "concat": [1]},
    {"recurrent": nested(9000, 3), "concat": [1]},
    {"recurrent": [["tanh", 10**4000]], "concat": [1]},
    {"recurrent": [["tanh", 0]], "concat": {"a": 1}},
    {"recurrent": [[{"a": 1}, [[]]]], "concat": [1]},
    {
      "normal": [[["skip_connect", 0], [{}, 0]]],
      "normal_concat": [2],
      "reduce": None,
    },
    {f"x{i}": 1 for i in range(10**5)},
    {3: 4, None: 5, (): 6},
  ],
  ids=range(8),
)
def test_odd_json_is_one_short_message(data):
  with pytest.raises(ValueError, match="Expected|The genotype has") as error:
    genotype_lib.from_json(data)
  assert len(str(error.value)) <= 2000
