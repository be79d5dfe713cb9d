"""Random pruning: what is drawn, trained and chosen, and how it goes on."""

import json
import pathlib

import pytest

from jnas import config as config_lib
from jnas import genotype as genotype_lib
from jnas import main as main_lib
from jnas.runs import random_pruning, recipe, retrain, session
from jnas.spaces import cost, discrete

CONFIG = pathlib.Path(__file__).parents[1] / "configs" / "random_pruning.py"
SHAPE = (8, 8, 1)


def tiny(**fields):
  config = config_lib.load(f"{CONFIG}:quick")
  config.space.update(cells=3, width=4, nodes=1)
  config.gold.update(flops_min=0.04, candidates=3, trial="0 epochs")
  config.train.update(length="4 steps", batch=16)
  config.data.limit = 96
  config.log.progress = False
  config.update_from_flattened_dict(fields)
  config_lib.validate(config)
  return config


def lines_of(workdir):
  text = (workdir / "random.jsonl").read_text()
  return [json.loads(line) for line in text.splitlines()]


def test_draw():
  spec = recipe.spec(tiny(**{"space.cells": 4, "space.nodes": 2}), 10)
  full = cost.network_flops(spec, SHAPE[:2], 1) / 1e6
  drawn = [
    random_pruning.draw(spec, SHAPE, 0.8 * full, (0, k)) for k in range(4)
  ]
  for one in drawn:
    genotype = genotype_lib.parse(one["text"])
    network = discrete.derived(genotype, cells=4, width=4, classes=10)
    flops = cost.network_flops(network, SHAPE[:2], 1) / 1e6
    assert one["flops"] == pytest.approx(flops) and flops <= 0.8 * full
    # Pruning stops at the budget: another operator would fit beside it.
    assert one["flops"] > 0.6 * full
    cells = genotype_lib.chosen(genotype).values()
    assert one["operators"] == sum(map(len, cells))
  assert len({one["text"] for one in drawn}) == 4
  again = random_pruning.draw(spec, SHAPE, 0.8 * full, (0, 2))
  assert again == drawn[2]


def test_networks_are_drawn_once(tmp_path):
  result = random_pruning.run(tiny(), tmp_path / "run")
  assert "best" not in result and result["networks"] == 3
  drawn = lines_of(tmp_path / "run")
  flops = [one["flops"] for one in drawn]
  assert result["flops"]["mean"] == pytest.approx(sum(flops) / 3)
  path = tmp_path / "run" / "random.jsonl"
  text = path.read_text()
  # Killed while it wrote the second line; the first is another's, to tell that
  # it is not drawn again.
  first, second, _ = text.splitlines()
  first = json.dumps(drawn[0] | {"operators": 99})
  path.write_text(f"{first}\n{second[:40]}")
  random_pruning.run(tiny(), tmp_path / "run")
  found = lines_of(tmp_path / "run")
  assert found == [drawn[0] | {"operators": 99}, *drawn[1:]]


def test_what_does_not_fit_is_told_at_once():
  wrong = {"space.name": "s1", "space.shared": True, "data.share": 1.0}
  with pytest.raises(ValueError) as error:
    tiny(**wrong, **{"gold.trial": "1 epochs", "log.save": "soon"})
  words = ("space.name: operators", "space: expected 3", "data.share: 1")
  for part in (*words, "log.save: expected"):
    assert part in str(error.value)
  # Networks that are not trained need no images to be chosen by.
  tiny(**{"data.share": 1.0})


def test_a_budget_that_nothing_meets(tmp_path):
  with pytest.raises(ValueError, match="no valid network of at most"):
    random_pruning.run(tiny(**{"gold.flops_min": 1e-3}), tmp_path / "run")


def test_the_best_by_validation_is_trained(tmp_path, monkeypatch):
  scores = {"network00": 0.5, "network01": 0.8, "network02": 0.7}
  tried, trained = [], []

  def trial(config, data, text, folder):
    tried.append((folder.name, text))
    return {"valid_accuracy": scores[folder.name]}

  def train(config, workdir):
    trained.append((workdir.name, config.retrain.genotype, config.train.length))
    return {"test_accuracy": 0.97}

  monkeypatch.setattr(random_pruning, "_trial", trial)
  monkeypatch.setattr(retrain, "run", train)
  config = tiny(**{"gold.trial": "2 steps"})
  result = random_pruning.run(config, tmp_path / "run")
  drawn = lines_of(tmp_path / "run")
  assert tried == [(f"network0{k}", drawn[k]["text"]) for k in range(3)]
  assert trained == [("best", drawn[1]["text"], "4 steps")]
  best = result["best"]
  assert (best["network"], best["valid_accuracy"]) == (1, 0.8)
  assert (best["test_accuracy"], best["text"]) == (0.97, drawn[1]["text"])


def test_run(tmp_path, monkeypatch):
  """The real thing, through the command line: killed, and gone on with."""
  workdir = tmp_path / "run"
  words = [f"--config={CONFIG}:quick", f"--workdir={workdir}"]
  words += [
    f"--config.{name}={value}"
    for name, value in {
      **{"space.cells": 3, "space.width": 4, "space.nodes": 1},
      **{"gold.flops_min": 0.04, "gold.candidates": 1, "gold.trial": "3 steps"},
      **{"train.length": "2 steps", "train.batch": 16, "data.limit": 96},
      **{"log.progress": "false", "data.share": 0.75},
    }.items()
  ]
  command = ["jnas", "--compile_cache=", *words]
  real = retrain.run

  def killed(config, workdir):
    raise SystemExit(session.TERMINATED)

  monkeypatch.setattr(retrain, "run", killed)
  with pytest.raises(SystemExit):
    main_lib.main(command)
  assert not (workdir / "result.json").exists()
  trial = (workdir / "network00" / "metrics.jsonl").read_bytes()
  last = json.loads(trial.splitlines()[-1])
  # Chosen by what it was not trained on, and no test image was looked at.
  assert last["step"] == 3 and "valid_accuracy" in last
  assert b"test_" not in trial
  monkeypatch.setattr(retrain, "run", real)
  assert main_lib.main(command) == 0
  assert (workdir / "network00" / "metrics.jsonl").read_bytes() == trial
  result = json.loads((workdir / "result.json").read_text())
  best = json.loads((workdir / "best" / "result.json").read_text())
  assert result["best"]["test_accuracy"] == best["test_accuracy"]
  assert result["best"]["valid_accuracy"] == last["valid_accuracy"]
  used = json.loads((workdir / "best" / "config.json").read_text())
  assert used["retrain"]["genotype"] == lines_of(workdir)[0]["text"]
