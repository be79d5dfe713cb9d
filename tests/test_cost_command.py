"""The command that counts, against numbers of the published PyTorch code."""

import json

import pytest

from jnas import genotype
from jnas.runs import cost

ON_IMAGENET = "--stem=imagenet --layers=14 --channels=48 --classes=1000"


def told(capsys, words):
  assert cost.main([*words.split(), "--json"]) == 0
  return json.loads(capsys.readouterr().out)


# The whole networks on CIFAR are in test_cnn_counts.py.
@pytest.mark.parametrize(
  "words, params, auxiliary",
  [
    ("DARTS_V2 --channels=16 --layers=8", 246_106, 0),
    ("DARTS_V2 --channels=16 --layers=8 --auxiliary", 681_572, 435_466),
    (f"DARTS_V1 {ON_IMAGENET}", 4_510_432, 0),
    (f"PDARTS {ON_IMAGENET} --auxiliary", 6_206_664, 1_262_312),
    (f"GDAS_F1 {ON_IMAGENET}", 3_841_888, 0),
    (f"GDAS_F1 {ON_IMAGENET} --channels=52", 4_430_386, 0),
  ],
)
def test_parameters(capsys, words, params, auxiliary):
  found = told(capsys, words)
  assert found["params"] == params
  assert found["params_auxiliary"] == auxiliary


def test_darts_second_order_on_cifar_cell_by_cell(capsys):
  found = told(capsys, "DARTS_V2")
  cells = [
    *(26532, 27828, *[29124] * 4, 21024, 97128, *[107496] * 5, 83520),
    *(370512, *[411984] * 5),
  ]
  assert found["params"] == 3_349_342
  parts = {part.pop("name"): part for part in found["parts"]}
  assert [parts[f"cell{i}"]["params"] for i in range(20)] == cells
  for name in ("conv_linear", "thop"):
    assert found["macs"][name] == sum(part[name] for part in parts.values())


def test_cells_each_its_own(capsys):
  own = genotype.ZOO["DARTS_V2"]
  cells = [own.reduce if i in (2, 5) else own.normal for i in range(8)]
  text = genotype.format_text(genotype.StackGenotype(cells, own.normal_concat))
  assert cost.main([text, "--channels=16", "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  assert (found["layers"], found["params"]) == (8, 246_106)
  assert cost.main([text, "--layers=9"]) == 2
  assert "--layers: the genotype describes 8 cells" in capsys.readouterr().err


def test_multiply_adds_by_convention(capsys):
  found = told(capsys, f"PDARTS {ON_IMAGENET} --image-size=224")
  assert found["params"] == 4_944_352
  assert found["macs"]["conv_linear"] == 542_819_328
  assert round(found["macs"]["thop"] / 1e6, 2) == 557.12  # published: 557
  assert sum(part["params"] for part in found["parts"]) == found["params"]


def test_nas_bench_201(capsys):
  text = (
    "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+"
    "|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
  )
  found = told(capsys, text)
  assert found["params"] == 129_306
  assert found["macs"]["nas_bench_201"] == 15_647_370


@pytest.mark.parametrize(
  "budget, convention, width",
  [
    ("529911552", "conv_linear", 48),
    ("529911551", "conv_linear", 46),
    ("573.48e6", "conv_linear", 50),  # it takes 573.47 million
    ("573.48e6", "thop", 48),
  ],
)
def test_the_widest_within_a_budget(capsys, budget, convention, width):
  found = told(
    capsys,
    "DARTS_V2 --stem=imagenet --layers=14 --classes=1000 --image-size=224 "
    f"--max-macs={budget} --convention={convention}",
  )
  assert found["channels"] == width


def test_the_table_of_a_run(capsys, tmp_path):
  cell = [("sep_conv_3x3", 0), ("skip_connect", 1)]
  found = genotype.to_json(genotype.Genotype(cell, [2], cell, [2]))
  (tmp_path / "genotype.json").write_text(json.dumps({"genotype": found}))
  words = [str(tmp_path), "--layers=3", "--channels=4", "--auxiliary"]
  assert cost.main(words) == 0
  lines = [line.split() for line in capsys.readouterr().out.splitlines()]
  names = "stem cell0 cell1 cell2 auxiliary whole".split()
  names.insert(4, "classifier")
  assert [line[0] for line in lines[3:-1]] == names
  params = [int(line[1].replace(",", "")) for line in lines[3:-1]]
  assert sum(params[:-1]) == params[-1]


@pytest.mark.parametrize(
  "words, message",
  [
    ("DARTS_V3", "did you mean"),
    ("DARTS_V2 --layers=0", "--layers: expected a whole number"),
    ("DARTS_V2 --leyers=8", "unrecognized arguments: --leyers=8"),
    ("DARTS_V2 --max-macs=5", "--max-macs: the network of 2 channels takes"),
    ("DARTS_V2 --max-macs=nan", "--max-macs: expected a number of multiply"),
    ("DARTS_V2 --max-macs=", "such as 600e6, got ''"),
    ("DARTS_V2 --stem=imagenet --channels=9", "needs an even number, got 9"),
    ("|skip_connect~0|+|none~0|none~1|+|none~0|none~1|none~2| --stem=imagenet",
     "--stem: that of ImageNet is for stacks"),
    ("DARTS_V2 --max-macs=6e8 --channels=9", "expected no --channels"),
  ],
)
def test_a_mistake_is_one_sentence(capsys, words, message):
  try:
    status = cost.main(words.split())
  except SystemExit as stopped:
    status = stopped.code
  assert status == 2
  output = capsys.readouterr()
  assert output.out == "" and output.err.count("\n") == 1
  assert output.err.startswith("cost: ") and message in output.err


@pytest.mark.parametrize("given", ["--image-size=224", "--stem=imagenet"])
def test_large_images_are_those_of_imagenet(capsys, given):
  assert cost.main(["PDARTS", given, "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  size = found["layers"], found["channels"], found["classes"]
  assert size == (14, 48, 1000)
  assert (found["stem"], found["image_size"]) == ("imagenet", 224)
  assert found["macs"]["conv_linear"] == 542_819_328
