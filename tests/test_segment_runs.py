"""Runs that segment: resumed, begun with a classifier, reported, refused."""

import functools
import json
import re
import shutil

from made_up_runs import make_retrain, write_json
import numpy as np
import pytest
from test_report import page_of
from test_resume import TINY as RETRAIN
from test_runs import last_state, records
from test_stages import cut

from jnas import cli
from jnas import config as config_lib
from jnas.data import segmentation
from jnas.runs import classifier, predictions, retrain, segment, watch
from jnas.runtime import checkpoint

RECURRENT = "Genotype(recurrent=[('tanh', 0)], concat=[1])"
CONFIG = "configs/segment.py:quick"
GENOTYPE = RETRAIN["retrain.genotype"]
TINY = {
  "segment.genotype": GENOTYPE,
  "segment.crop": 32,
  "segment.output_stride": 8,
  "segment.channels": 4,
  "segment.test": "test",
  "space.cells": 3,
  "space.stem": "imagenet",
  "space.width": 4,
  "data.limit": 16,
  "train.batch": 8,
  "train.length": "6 steps",
  "train.drop_path": 0.2,
  "weights.lr": 0.05,
  "log.every": "1 steps",
  "log.evaluate": "4 steps",
  "log.save": "2 steps",
  "log.keep": 100,
  "log.progress": False,
}


def config_of(**more):
  config = config_lib.load(CONFIG)
  with config.unlocked():
    config.update_from_flattened_dict(TINY | more)
  config_lib.validate(config)
  return config


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """A run that nothing interrupted, and what it returned."""
  workdir = tmp_path_factory.mktemp("segment") / "whole"
  return workdir, segment.run(config_of(), workdir)


def test_a_run_leaves_what_it_measured(whole):
  workdir, result = whole
  record = json.loads((workdir / "segmentation.json").read_text())
  counts = np.asarray(record["confusion"])
  data = segmentation.load("shapes", limit=16)
  known = (data.valid.x[..., 3] != segmentation.IGNORED).sum()
  assert counts.sum() == known and record["step"] == 6
  iou = [
    counts[k, k] / (counts[k].sum() + counts[:, k].sum() - counts[k, k])
    for k in range(4)
  ]
  assert [result["IoU"][name] for name in data.classes] == pytest.approx(iou)
  assert result["valid_mean_IoU"] == pytest.approx(np.mean(iou))
  assert (result["headline"], result["task"]) == ("mean_IoU", "segment")
  assert len(record["pictures"]) == 6
  lines = records(workdir, "metrics.jsonl")
  rates = [line["lr"] for line in lines if line["kind"] == "step"]
  # Two steps an epoch, of six.
  expected = [0.05 * (1 - t / 6) ** 0.9 for t in range(6)]
  assert rates == pytest.approx(expected, rel=1e-5)
  assert [x["step"] for x in lines if x["kind"] == "epoch"] == [4, 6]


@pytest.mark.parametrize("step", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_a_killed_run_ends_with_the_same_numbers(whole, step, tmp_path):
  workdir, result = whole
  copy = tmp_path / "copy"
  cut(workdir, copy, step)
  (copy / "segmentation.json").unlink()
  again = segment.run(config_of(), copy)
  assert last_state(copy) == last_state(workdir)
  assert records(copy, "metrics.jsonl") == records(workdir, "metrics.jsonl")
  name = "segmentation.json"
  assert (copy / name).read_text() == (workdir / name).read_text()
  assert again["IoU"] == result["IoU"]


def test_the_trained_network_is_measured_on_the_test_split(whole, capsys):
  workdir, result = whole
  problem = segment.read(config_of())
  assert len(problem.test) == 16 == len(problem.valid)
  found = segment.genotype_lib.load(GENOTYPE)
  module = segment.network(problem, found)
  with checkpoint.Checkpoints(workdir / "checkpoints", read_only=True) as saved:
    state = segment.build_plan(problem, module).init()
    own = saved.read(6)
    state = state._replace(weights=own["weights"], stats=own["stats"])
  values, counts, _ = segment.evaluator(problem, module)(state, problem.test)
  assert result["test_IoU"] == dict(
    zip(problem.data.classes, predictions.by_class(counts), strict=True)
  )
  assert result["test_mean_IoU"] == pytest.approx(values["mean_IoU"])
  known = problem.data.test.x[..., 3] != segmentation.IGNORED
  assert counts.sum() == known.sum()
  assert result["test_loss"] != result["valid_loss"]
  shape, *_ = [x for x in segment._lines(result).splitlines() if "disc" in x]
  assert shape.split() == [
    f"{result[name]['disc']:.2%}" for name in ("IoU", "test_IoU")
  ] + ["disc"]


def test_it_goes_on_with_the_genotype_it_began_with(whole, tmp_path):
  workdir, _ = whole
  copy = tmp_path / "copy"
  shutil.copytree(workdir, copy)
  other = GENOTYPE.replace("('skip_connect', 1)]", "('avg_pool_3x3', 1)]")
  with pytest.raises(ValueError, match="another configuration:\n.*genotype"):
    segment.run(config_of(**{"segment.genotype": other}), copy)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """A classifier of the same cells, depth and width."""
  workdir = tmp_path_factory.mktemp("classifier") / "run"
  config = config_lib.base()
  config.update_from_flattened_dict(
    RETRAIN | {"space.stem": "imagenet", "train.length": "3 steps"}
  )
  config.data.name = "synthetic"
  retrain.run(config, workdir)
  return workdir


def first(config):
  problem = segment.read(config)
  found = segment.genotype_lib.load(config.segment.genotype)
  return segment.build_plan(problem, segment.network(problem, found)).init()


def test_a_classifier_is_what_it_begins_with(trained, capsys):
  state = first(config_of(**{"segment.init": str(trained)}))
  said = capsys.readouterr().out
  with checkpoint.Checkpoints(trained / "checkpoints", read_only=True) as saved:
    own = saved.read(3)
  for ours, theirs in ((state.weights, own["weights"]),
                       (state.stats, own["stats"])):
    names = set(theirs) - {"classifier"}
    assert set(ours["backbone"]) == names and "stem" in own["weights"]
    for name in names:
      flat = [
        np.concatenate([np.ravel(v) for _, v in sorted(leaves(tree[name]))])
        for tree in (ours["backbone"], theirs)
      ]
      np.testing.assert_array_equal(*flat)
  assert "arrays of the classifier; the head is as drawn" in said
  assert "left out" not in said
  fresh = first(config_of())
  assert (fresh.weights["backbone"]["stem"] != own["weights"]["stem"]).any()


def leaves(tree, path=""):
  if not isinstance(tree, dict):
    return [(path, np.asarray(tree))]
  return [x for k, v in tree.items() for x in leaves(v, f"{path}/{k}")]


def test_what_does_not_fit_is_named(trained, capsys):
  first(config_of(**{"segment.init": str(trained), "space.cells": 4}))
  said = capsys.readouterr().out
  # Of four cells the second reduces, as the second of three does; the third
  # is no longer normal, the fourth is not in the classifier.
  assert "left out: cell3/input1/kernel: not in the classifier" in said
  first(config_of(**{"segment.init": str(trained), "space.stem": "cifar"}))
  said = capsys.readouterr().out
  assert "left out: stem: [3, 3, 3, 2] there, [3, 3, 3, 12] here" in said
  assert "left out: stem1: of the classifier alone" in said
  begin = functools.partial(classifier.begin, path="it")
  variables = {"params": {"backbone": {"stem": np.zeros(3)}}}
  with pytest.raises(ValueError, match=r"fits .* stem: \[2\] there, \[3\] her"):
    begin(variables, {"params": {"stem": np.zeros(2)}})


def test_what_is_no_classifier_is_told(whole, tmp_path):
  for folder, told in (
    (tmp_path / "nowhere", "of no task"),
    (whole[0], "of segment"),
    (make_retrain(tmp_path / "empty"), "with its config.json and data.json"),
  ):
    with pytest.raises(ValueError, match=f"segment.init: .*{told}"):
      classifier.read(str(folder))


def test_the_report_shows_classes_and_pictures(whole):
  workdir, result = whole
  page = page_of(workdir)
  assert "Segmentation on shapes" in page.text
  for words in (
    "IoU by class", "mostly taken for", "Image, truth and prediction",
    "Mean IoU", "validation mean IoU",
    f"triangle{result['IoU']['triangle']:.2%}",
    f"background{result['IoU']['background']:.2%}"
    f"{result['test_IoU']['background']:.2%}",
    "test mean IoU", "validation IoUtest IoU",
  ):
    assert words in page.text, words
  images = [x for x in page.links if x.startswith("data:image/png")]
  assert len(images) == 6
  assert "What is missing" not in page.text
  (row,) = (watch.row(path, "it", 0.0) for path in watch.find(workdir))
  assert row.title == "segment" and "mean IoU" in row.values


@pytest.mark.parametrize(
  "change",
  [
    {"classes": ["a"]},
    {"colours": ["red;background:url(x)"] * 4},
    {"pictures": [{"image": "a"}]},
    {"IoU": ["x"] * 4},
    {"confusion": 7},
    {"test_IoU": {"disc": 0.5}},
    {"test_IoU": 0.5},
  ],
)
def test_half_a_record_is_survived(whole, change, tmp_path):
  copy = tmp_path / "copy"
  shutil.copytree(whole[0], copy)
  for name in ("segmentation.json", "result.json"):
    record = json.loads((copy / name).read_text())
    known = {k: v for k, v in change.items() if k in record}
    write_json(copy / name, record | known)
  page = page_of(copy)
  assert "segmentation.json is unreadable" in page.text
  assert "url(x)" not in "".join(page.links)


def test_image_truth_and_prediction_stand_side_by_side():
  palette = predictions.colours(("background", "a", "b"))
  assert len({tuple(c) for c in palette.tolist()}) == 3
  example = np.full((5, 6, 4), 7, np.uint8)
  example[..., 3] = 1
  example[0, 0, 3] = segmentation.IGNORED
  predicted = np.full((5, 6), 2)
  found = predictions.side_by_side(example, (3, 4), predicted, palette)
  assert found.shape == (3, 3 * 4 + 2 * 4, 3)
  assert (found[:, :4] == 7).all()
  assert (found[1, 8:12] == palette[1]).all() and (found[:, 16:] == palette[2]
                                                   ).all()
  assert (found[0, 8] == 200).all()


def test_many_colours_are_all_different():
  palette = predictions.colours(segmentation.VOC).astype(int)
  apart = abs(palette[:, None] - palette[None]).sum(-1)
  np.fill_diagonal(apart, 1000)
  assert apart.min() > 30


@pytest.mark.parametrize(
  "fields, told",
  [
    ({"segment.genotype": " "}, "segment.genotype: task segment needs one"),
    ({"segment.output_stride": 12}, "expected a power of two such as 16, got"),
    ({"segment.scale_min": 3.0}, r"must not exceed segment.scale_max \(1.5\)"),
    ({"data.cutout": 4}, "data.cutout: segmentation has no use for it"),
    ({"train.auxiliary": 0.4}, "train.auxiliary: segmentation has no use"),
    ({"segment.crop": 0}, "segment.crop: must be greater than 0"),
    ({"segment.dropout": 1.0}, "segment.dropout: must be at least 0 and less"),
  ],
)
def test_impossible_fields_are_told(fields, told):
  with pytest.raises(ValueError, match=told):
    config_of(**fields)


@pytest.mark.parametrize(
  "words, told",
  [
    (["--config.data.name=voc"], "data.name='voc', data.path='': expected a f"),
    (["--config.data.name=imagenet"], "one of the data sets shapes, camvid"),
    (["--config.segment.genotype=DART_V2"], "Expected a genotype"),
    (["--config.train.batch=321"], "batch size|between 1 and the 320"),
    ([f"--config.segment.genotype={RECURRENT}"],
     "segment.genotype: expected a cell for images"),
  ],
)
def test_mistakes_of_a_command_are_sentences(words, told, tmp_path, capsys):
  words = ["segment", CONFIG, f"--workdir={tmp_path / 'w'}", *words]
  words.append("--compile_cache=")
  assert cli.main(words) == 2
  error = capsys.readouterr().err
  assert re.search(told, error) and "Traceback" not in error
