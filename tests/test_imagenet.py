"""Searching and training on a folder of images that stay in their files."""

import json
import pathlib
import random
import subprocess
import sys
import time

from made_up_images import folder
import numpy as np
import pytest
import test_hosts

import jnas
from jnas import config as config_lib
from jnas.runs import retrain, search

ROOT = pathlib.Path(__file__).parents[1]
PLAIN = (
  "Genotype(normal=[('skip_connect', 0), ('skip_connect', 1)], "
  "normal_concat=[2], reduce=[('max_pool_3x3', 0), ('skip_connect', 1)], "
  "reduce_concat=[2])"
)
SHORT = (
  *("data.size=32", "data.workers=2", "train.batch=8", "train.length=2 epochs"),
  *("space.cells=3", "space.width=4", "log.every=1 steps"),
  *("log.progress=false", "data.name=imagenet"),
)
TRAINED = (*SHORT, f"retrain.genotype={PLAIN}", "train.auxiliary=0.0")
TRAINED += ("data.colour_jitter=0", "data.hue_jitter=0", "train.ema=0.9")
TRAINED += ("weights.warmup=1 epochs",)


def load(file, *fields):
  overrides = [f"--config.{field}" for field in fields]
  return config_lib.load(f"{ROOT / 'configs' / file}", overrides)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
  return folder(tmp_path_factory.mktemp("images") / "set")


@pytest.mark.parametrize(
  "argument,expected",
  [
    ("darts", (128, 0.1, "exponential", False, 48, "DARTS_V2")),
    ("pdarts", (1024, 0.5, "linear", True, 48, "PDARTS")),
    ("pcdarts", (1024, 0.5, "linear", False, 48, "PC_DARTS_image")),
    ("gdas", (128, 0.1, "exponential", False, 52, "GDAS_F1")),
    ("gold_nas", (1024, 0.5, "linear", True, 48, "DARTS_V2")),
  ],
)
def test_papers_have_their_own_recipes(argument, expected):
  config = load(f"imagenet.py:{argument}")
  weights, space = config.weights, config.space
  assert expected == (
    config.train.batch, weights.lr, weights.schedule, space.auxiliary_norm,
    space.width, config.retrain.genotype,
  )
  assert (space.stem, space.cells, weights.decay) == ("imagenet", 14, 3e-5)
  assert config.train.length == "250 epochs" and config.data.size == 224
  assert (config.train.label_smoothing, config.train.auxiliary) == (0.1, 0.4)
  assert config.data.crop_area == 0.08 and config.train.drop_path == 0


@pytest.mark.parametrize(
  "argument,expected",
  [
    # 10 % of each class for the weights, 2.5 % for alpha.
    ("pcdarts", ("pcdarts", 0, 0.125, 0.8, 1024, 0.5, 6e-3, 2)),
    ("entrannas", ("entrannas", 100, 1.0, 0.5, 1024, 0.5, 6e-3, 1)),
    ("dst", ("dst", 100, 1.0, 0.5, 1024, 0.5, 6e-3, 1)),
    ("gold_nas", ("goldnas", 100, 1.0, 1.0, 96, 0.01, 1.0, 1)),
  ],
)
def test_papers_search_on_their_own_subsets(argument, expected):
  config = load(f"imagenet_search.py:{argument}")
  data, space = config.data, config.space
  assert expected == (
    config.algo.name, data.classes, data.portion, data.share,
    config.train.batch, config.weights.lr, config.arch.lr, space.partial,
  )
  assert (space.stem, data.crop_area) == ("imagenet", 0.08)


def test_a_network_is_trained_and_tested_and_says_what_it_could_not_read(
  tmp_path,
):
  root = folder(tmp_path / "set")
  bad = root / "train" / "n02" / "n02_5.JPEG"
  bad.write_bytes(b"\xff\xd8 no image")
  config = load(
    "imagenet.py:quick", f"data.path={root}", "data.corrupt=skip", *TRAINED
  )
  result = retrain.run(config, tmp_path / "run")
  assert np.isfinite(result["test_loss"]) and 0 <= result["test_accuracy"] <= 1
  network = jnas.load(tmp_path / "run")
  assert network.module.spec.imagenet
  lines = (tmp_path / "run" / "corrupt.jsonl").read_text().splitlines()
  names = {name for line in lines for name in json.loads(line)["files"]}
  assert names == {"train/n02/n02_5.JPEG"}
  again = retrain.run(config, tmp_path / "run")
  assert again == result


def test_a_corrupt_image_ends_the_run_in_a_sentence(tmp_path):
  root = folder(tmp_path / "set", per_class=3)
  (root / "train" / "n02" / "n02_2.JPEG").write_bytes(b"")
  config = load("imagenet.py:quick", f"data.path={root}", *TRAINED)
  with pytest.raises(ValueError, match="n02_2.JPEG.*\n.*data.corrupt to skip"):
    retrain.run(config, tmp_path / "run")


@pytest.mark.slow
def test_a_search_takes_both_streams_from_files(images, tmp_path):
  config = load(
    "darts.py:quick", f"data.path={images}", *SHORT,
    "data.crop_area=0.3", "data.portion=0.8", "data.classes=2",
    "space.name=s2", "space.stem=imagenet", "train.length=3 steps",
    "train.batch=4", "space.nodes=1",
  )
  result = search.run(config, tmp_path / "search")
  assert np.isfinite(result["valid_loss"])
  assert result["genotype"].startswith("Genotype(")


@pytest.mark.slow
def test_two_processes_train_as_one_on_two_devices(images, tmp_path):
  port = test_hosts.free_port()
  fields = (f"data.path={images}", *TRAINED, "train.sync_batch_norm=true")

  def command(name, *more):
    words = [sys.executable, "-m", "jnas.main", f"--workdir={tmp_path / name}"]
    words.append(f"--config={ROOT}/configs/imagenet.py:quick")
    return words + [f"--config.{field}" for field in fields] + list(more)

  alone = [test_hosts.start(command("one"), 2)]
  assert test_hosts.ended(alone, 400)[0] == [0]
  both = ["--distributed", f"--coordinator=127.0.0.1:{port}", "--processes=2"]
  statuses, outputs = test_hosts.ended(
    [
      test_hosts.start(command("two", *both, f"--process_id={i}"), 1)
      for i in (0, 1)
    ],
    400,
  )
  assert statuses == [0, 0], outputs
  one, two = (
    json.loads((tmp_path / name / "result.json").read_text())
    for name in ("one", "two")
  )
  assert two["test_loss"] == pytest.approx(one["test_loss"], rel=1e-4)
  assert two["test_accuracy"] == one["test_accuracy"]


@pytest.mark.slow
def test_killed_five_times_it_ends_with_the_same_numbers(tmp_path):
  images = folder(tmp_path / "set", per_class=40)

  def command(workdir):
    words = [sys.executable, "-m", "jnas.main", f"--workdir={workdir}"]
    words.append(f"--config={ROOT}/configs/imagenet.py:quick")
    fields = (f"data.path={images}", *TRAINED, "train.length=12 epochs")
    fields += ("log.save=2 steps",)
    return words + [f"--config.{field}" for field in fields]

  subprocess.run(command(tmp_path / "whole"), check=True, cwd=ROOT)
  metrics, kills = tmp_path / "killed" / "metrics.jsonl", 0
  rng = random.Random(0)

  def lines():
    return len(metrics.read_text().splitlines()) if metrics.exists() else 0

  while kills < 5:
    before = lines()
    with subprocess.Popen(command(tmp_path / "killed"), cwd=ROOT) as process:
      most = before + rng.randint(5, 30)
      while process.poll() is None and lines() < most:
        time.sleep(0.01)
      assert process.poll() is None, "it ended before it was killed"
      process.kill()
    kills += 1
  subprocess.run(command(tmp_path / "killed"), check=True, cwd=ROOT)
  results = [
    json.loads((tmp_path / name / "result.json").read_text())
    for name in ("whole", "killed")
  ]
  for result in results:
    del result["seconds"]
  assert results[0] == results[1]
