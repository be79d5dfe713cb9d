"""The command that counts, against numbers of the published PyTorch code."""

import json

import jax
import jax.numpy as jnp
import pytest

from jnas import config as config_lib
from jnas import genotype
from jnas.runs import cost, latency
from jnas.spaces import cnn
from jnas.spaces import cost as counts
from jnas.spaces.spec import S2, supernet

ON_IMAGENET = "--stem=imagenet --layers=14 --channels=48 --classes=1000"


PLAIN = (
  "Genotype(normal=[('skip_connect',0),('sep_conv_3x3',1)],normal_concat=[2],"
  "reduce=[('max_pool_3x3',0),('skip_connect',1)],reduce_concat=[2])"
)


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
    ("", "expected a genotype or a run, --config=PATH.py or --operators=SPACE"),
    ("DARTS_V2 --operators=s1", "and one of them, got DARTS_V2, s1"),
    ("DARTS_V2 --supernet", "--supernet: expected the folder of a search"),
    ("DARTS_V2 --config.space.width=4", "fields go with --config"),
    ("--config=configs/dart.py", "did you mean"),
    ("--config=configs/rnn/darts.py", "expected an image network"),
    ("--operators=s9", "expected one of s1"),
    ("--operators=", "expected one of s1"),
    ("~nobody-of-this-name", "Expected a genotype"),
    ("--operators=sep_conv_3x3,conv_9x9", "expected an operator out of"),
    ("--operators=s1 --layers=3", "--layers: not of single operators"),
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


# Search networks.

def test_the_search_network_of_darts(capsys):
  found = told(capsys, "--config=configs/darts.py")
  parts = {part["name"]: part["params"] for part in found["parts"]}
  cells = 45888, 46144, 144000, 137856, 139904, 484608, 460032, 468224
  assert parts == {  # of the published code, as it is instantiated
    "stem": 1392,
    **{f"cell{i}": each for i, each in enumerate(cells)},
    "classifier": 2570,
  }
  assert found["params"] == 1_930_618 and found["genotype"] is None
  assert found["macs"]["conv_linear"] == 300_255_744


@pytest.mark.slow
@pytest.mark.parametrize(
  "words, params",
  [
    # Without a folder of images it is ImageNet.
    ("--config=configs/imagenet_search.py:pcdarts", 926_736),
    ("--config=configs/imagenet_search.py:pcdarts --config.data.classes=100",
     926_736 - 900 * 257),
    ("--config=configs/darts.py --classes=100", 1_953_748),
    ("--config=configs/darts.py --layers=5", 1_275_834),
    ("--config=configs/darts.py --layers=17", 3_894_202),
    ("--config=configs/darts.py --channels=36 --layers=20", 19_932_310),
    ("--config=configs/pcdarts.py --config.space.partial=4", 299_578),
  ],
)
def test_parameters_of_search_networks(capsys, words, params):
  assert told(capsys, words)["params"] == params


def test_shared_features_are_counted_once(capsys):
  fields = "name=s2 width=8 cells=3 nodes=1 engines=all bottleneck=4".split()
  fields = " ".join(f"--config.space.{field}" for field in fields)
  found = told(capsys, f"--config=configs/entrannas.py {fields}")
  spec = supernet(
    S2, cells=3, width=8, classes=10, nodes=1, sharing=True, bottleneck=4
  )
  own = jax.eval_shape(
    lambda: cnn.Network(spec).init(
      jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False
    )
  )["params"]
  for part in found["parts"]:
    trees = [tree for n, tree in own.items() if n.startswith(part["name"])]
    assert part["params"] == cnn.count({"": trees})
  assert found["params"] == cnn.count(own)
  assert found["macs"]["conv_linear"] == counts.network_flops(spec, (32, 32))


# Runs.


def run(folder, task="search", about=True, **fields):
  """A folder as a run leaves it."""
  config = config_lib.base()
  given = {"task": task, "space.width": 4, "space.cells": 3}
  given |= {"space.name": "s2", "space.nodes": 1}
  config.update_from_flattened_dict(given | fields)
  folder.mkdir()
  cell = [("sep_conv_3x3", 0), ("skip_connect", 1)]
  found = genotype.to_json(genotype.Genotype(cell, [2], cell, [2]))
  (folder / "config.json").write_text(json.dumps(config.to_dict()))
  (folder / "genotype.json").write_text(json.dumps({"genotype": found}))
  if about:
    record = {"classes": list("abcdefg"), "shape": [12, 10, 1]}
    (folder / "data.json").write_text(json.dumps(record))
  return str(folder)


def test_a_run_says_itself_how_large_it_is(capsys, tmp_path):
  folder = run(tmp_path / "run")
  found = told(capsys, folder)
  size = found["channels"], found["layers"], found["classes"]
  assert size == (4, 3, 7) and found["image_size"] == [12, 10]
  assert found["parts"][0]["params"] == 9 * 1 * 12 + 2 * 12  # grey images
  wide = told(capsys, f"{folder} --channels=8 --classes=9 --image-size=8")
  assert (wide["channels"], wide["layers"], wide["classes"]) == (8, 3, 9)
  assert wide["image_size"] == 8
  whole = told(capsys, f"{folder} --supernet")
  assert whole["genotype"] is None and whole["expected_macs"] is None
  assert whole["params"] > found["params"]
  # Every edge has the last of two operators, a convolution, a quarter of it.
  rows = [[0.75, 0.25]] * 2
  line = {"step": 1, "weights": {"normal": rows, "reduce": rows}}
  (tmp_path / "run" / "arch.jsonl").write_text(json.dumps(line) + "\n")
  macs = told(capsys, f"{folder} --supernet")["expected_macs"]
  spec = supernet(S2, cells=3, width=4, classes=7, nodes=1)
  costs = counts.edge_flops(spec, (12, 10))
  fixed = whole["macs"]["conv_linear"] - sum(c.sum() for c in costs.values())
  assert macs == fixed + sum((c * rows).sum() for c in costs.values())
  # Before data.json was kept of searches: what the data are known to be.
  old = run(tmp_path / "old", about=False, **{"data.name": "cifar100"})
  assert told(capsys, old)["classes"] == 100


def test_a_run_whose_config_does_not_fit_is_told_of(capsys, tmp_path):
  folder = run(tmp_path / "run")
  path = tmp_path / "run" / "config.json"
  record = json.loads(path.read_text())
  record["space"]["width"] = "wide"
  path.write_text(json.dumps(record))
  assert cost.main([folder]) == 2
  message = capsys.readouterr().err
  assert "config.json that does not fit" in message
  assert message.count("\n") == 1


# Operators.


def test_operators_one_by_one(capsys):
  found = told(capsys, "--operators=s1 --channels=16 --image-size=8")
  rows = {(r["operator"], r["stride"]): r for r in found["operators"]}
  assert len(rows) == 16
  sizes = {
    op: (rows[op, s]["params_search"], rows[op, s]["params_derived"])
    for op, s in (
      ("sep_conv_3x3", 1), ("sep_conv_5x5", 2), ("dil_conv_3x3", 1),
      ("dil_conv_5x5", 2), ("skip_connect", 2),
    )
  }
  assert sizes == {  # of the published code at C = 16
    "sep_conv_3x3": (800, 864),
    "sep_conv_5x5": (1312, 1376),
    "dil_conv_3x3": (400, 432),
    "dil_conv_5x5": (656, 688),
    "skip_connect": (256, 288),
  }
  for name in ("none", "max_pool_3x3", "avg_pool_3x3"):
    assert rows[name, 2]["params_search"] == rows[name, 2]["conv_linear"] == 0
  more = told(capsys, "--operators=sep_conv_7x7,conv_7x1_1x7 --channels=36")
  assert [r["params_search"] for r in more["operators"][::2]] == [6120, 18144]


@pytest.mark.parametrize("stride", [1, 2])
def test_operators_of_gold_nas_are_its_appendix_a_3(capsys, stride):
  found = told(capsys, "--operators=s2 --channels=36 --image-size=32")
  rows = {r["operator"]: r for r in found["operators"] if r["stride"] == stride}
  c, h, w = 36, 32 // stride, 32 // stride
  skip = 0 if stride == 1 else c * c * h * w
  assert rows["skip_connect"]["conv_linear"] == skip
  # Parentheses that the print lacks: there are two depthwise convolutions.
  separable = 2 * (c * c * h * w + 9 * c * h * w)
  assert rows["sep_conv_3x3"]["conv_linear"] == separable
  assert rows["sep_conv_3x3"]["nas_bench_201"] == separable
  elements = 2 * 2 * c * h * w + c * 32 * 32 + c * h * w
  assert rows["sep_conv_3x3"]["thop"] == separable + elements


def test_the_table_of_operators(capsys, monkeypatch):
  monkeypatch.setattr(latency, "milliseconds", lambda op, *rest: len(op) / 4)
  assert cost.main(["--operators=s2", "--latency", "--batch=8"]) == 0
  lines = capsys.readouterr().out.splitlines()
  assert lines[0] == "channels 36, image size 32"
  assert lines[1].startswith("milliseconds an image, batch 8, ")
  assert lines[-2].split() == [
    *("sep_conv_3x3", "1", "3,240", "3,384", "3,317,760", "3,538,944"),
    "3.0000",
  ]
  assert len({len(line) for line in lines[2:]}) == 1


# On the device.


def test_memory_and_time_on_this_device(capsys):
  words = f"{PLAIN} --layers=1 --channels=4 --image-size=4 --memory"
  one, two = told(capsys, words), told(capsys, f"{words} --batch=2 --latency")
  # All but some numbers a channel are of each image.
  assert one["activation_bytes"] > 4 * 16 * 12
  ratio = two["activation_bytes"] / one["activation_bytes"]
  assert 1.7 < ratio < 2 and (one["batch"], two["batch"]) == (1, 2)
  assert two["milliseconds"] > 0 and two["device"]
  memory, time = list(cost._table(two))[-2:]
  assert memory.startswith("kept for the backward pass: ")
  assert time.startswith("forward pass: ") and "batch of 2 on" in time


def test_operators_are_timed(capsys):
  found = told(
    capsys, "--operators=skip_connect,conv_1x1 --channels=4 --image-size=4 "
    "--latency"
  )
  assert [row["milliseconds"] > 0 for row in found["operators"]] == [
    False, True, True, True,
  ]
