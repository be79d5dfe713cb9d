"""Training of Pareto sets: what is trained, how it goes on, and its page."""

import json
import pathlib
import re

import pytest

from jnas import config as config_lib
from jnas import main as main_lib
from jnas.report import pages
from jnas.runs import front, random_pruning, recipe, retrain, search
from jnas.spaces import cost
from tests.made_up_runs import make_gold, write_json, write_lines

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
SPACE = {"space.cells": 4, "space.width": 4, "space.nodes": 2}


def searched(folder, count=4):
  """The folder of a search that has recorded networks; the last one twice."""
  config = config_lib.load(f"{CONFIGS / 'gold_nas.py'}:quick")
  config.update_from_flattened_dict(SPACE)
  folder.mkdir()
  write_json(folder / "config.json", config.to_dict())
  spec = recipe.spec(config, 10)
  whole = cost.network_flops(spec, (8, 8), 1) / 1e6
  lines = [
    random_pruning.draw(spec, (8, 8, 1), share * whole, (7, k))
    | {"step": k, "epoch": k, "accuracy": 0.5 + 0.1 * k, "lambda": 0.1}
    for k, share in enumerate([0.9, 0.8, 0.7, 0.6][:count])
  ]
  write_lines(folder / "pareto.jsonl", [*lines, lines[-1] | {"step": 9}])
  return lines


def config_of(*searches, **fields):
  config = config_lib.load(f"{CONFIGS / 'pareto.py'}:quick")
  config.update_from_flattened_dict(
    {
      "pareto.searches": tuple(map(str, searches)),
      "pareto.most": 0,
      "train.length": "2 steps",
      "train.batch": 16,
      "data.limit": 64,
      "log.progress": False,
    }
    | fields
  )
  config_lib.validate(config)
  return config


@pytest.fixture
def trained(monkeypatch):
  """The (folder, config) of trainings, which take no time."""
  calls = []

  def run(config, folder):
    calls.append((folder, config))
    result = {
      "task": "retrain", "test_accuracy": 0.9 - 0.01 * len(calls), "seconds": 2
    }
    folder.mkdir()
    (folder / "report.html").touch()
    write_json(folder / "result.json", result)
    return result

  monkeypatch.setattr(retrain, "run", run)
  return calls


def record_of(workdir):
  return json.loads((workdir / "pareto.json").read_text())


def test_each_network_is_trained_once_and_as_in_the_search(tmp_path, trained):
  lines = searched(tmp_path / "gold")
  config, workdir = config_of(tmp_path / "gold"), tmp_path / "run"
  result = front.run(config, workdir)
  networks = record_of(workdir)["networks"]
  # By cost; random ones within.
  names = ["gold_D", "gold_C", "gold_B", "gold_A", "random_A", "random_B"]
  assert [n["name"] for n in networks] == names
  assert [n["text"] for n in networks[3::-1]] == [one["text"] for one in lines]
  assert [folder.name for folder, _ in trained] == names
  assert result["best"]["name"] == "gold_D" and result["seconds"] == 12
  for network, (_, own) in zip(networks, trained, strict=True):
    assert own.task == "retrain" and own.train.length == "2 steps"
    assert own.retrain.genotype == network["text"]
    flat = config_lib.flatten(own)
    assert {name: flat[name] for name in SPACE} == SPACE
  flops = [n["flops"] for n in networks]
  assert flops[0] * 0.6 < flops[4] < flops[5] < flops[3] * 1.1
  # Again: nothing is trained; after a kill, what is missing.
  front.run(config, workdir)
  assert len(trained) == 6
  (workdir / "gold_B" / "result.json").unlink()
  (workdir / "gold_B" / "report.html").unlink()
  (workdir / "gold_B").rmdir()
  (workdir / "result.json").unlink()
  (tmp_path / "gold" / "pareto.jsonl").write_text("")  # nobody asks again
  front.run(config, workdir)
  assert [folder.name for folder, _ in trained[6:]] == ["gold_B"]
  assert record_of(workdir)["networks"][2]["retrained"] == 0.9 - 0.07


def test_a_budget_of_networks_spans_the_set(tmp_path, trained):
  searched(tmp_path / "gold")
  fields = {"pareto.most": 2, "pareto.random": 0}
  front.run(config_of(tmp_path / "gold", **fields), tmp_path / "run")
  assert [f.name for f, _ in trained] == ["gold_D", "gold_A"]


def test_config_files_are_searched_first(tmp_path, trained, monkeypatch):
  searches = []

  def run(config, folder):
    searches.append(config)
    searched(folder)

  monkeypatch.setattr(search, "run", run)
  file = CONFIGS / "gold_nas.py"
  config = config_of(f"{file}:quick", **{"pareto.random": 0})
  front.run(config, tmp_path / "run")
  (found,) = searches
  assert found.task == "search" and found.data.limit == 64
  assert found.train.length == "30 epochs"  # its own
  assert {n["search"] for n in record_of(tmp_path / "run")["networks"]} == {
    "gold_nas_quick"
  }


def test_a_network_is_really_trained(tmp_path):
  searched(tmp_path / "gold", count=1)
  config = config_of(tmp_path / "gold", **{"pareto.random": 0})
  result = front.run(config, tmp_path / "run")
  own = json.loads((tmp_path / "run" / "gold_A" / "result.json").read_text())
  assert result["best"]["test_accuracy"] == own["test_accuracy"]
  page = (tmp_path / "run" / "gold_A" / "report.html").read_text()
  assert "../report.html" in page
  page = (tmp_path / "run" / "report.html").read_text()
  assert "gold_A/report.html" in page and "Accuracy against parameters" in page


@pytest.mark.parametrize(
  "change, message",
  [
    (lambda folder: [folder / "none"], "expected config files, or folders of"),
    (lambda folder: [folder, folder], "gold: is there twice"),
    (lambda folder: [CONFIGS / "darts.py:quick"], "that records a Pareto set"),
    (lambda folder: [CONFIGS / "gold_nas.py:mu=0"], "searches cifar10, but"),
    (lambda folder: [CONFIGS / "gold_nas.py:quik"], "quik"),
  ],
)
def test_searches_that_do_not_fit(tmp_path, capsys, change, message):
  searched(folder := tmp_path / "gold")
  searches = tuple(map(str, change(folder)))
  command = ["jnas", f"--config={CONFIGS / 'pareto.py'}:quick"]
  command += [f"--workdir={tmp_path / 'run'}"]
  assert main_lib.main([*command, f"--config.pareto.searches={searches}"]) == 2
  told = capsys.readouterr().err
  assert message in told and not (tmp_path / "run").exists()


# The page.


def page_of(tmp_path, count=3, known=("A", "B", "C"), random=True):
  make_gold(tmp_path / "gold")
  run = tmp_path / "run"
  run.mkdir()
  networks = [
    {
      "name": f"{source}_{letter}",
      "search": source,
      "letter": letter,
      "text": "Genotype(cells=[[('skip_connect', 0)]], concat=[2])",
      "flops": 100.0 + 50 * i,
      "params": 1.0 + i,
      "operators": 5,
      "accuracy": 0.8,
      **({"retrained": accuracy} if letter in known else {}),
    }
    for source, accuracies in (("gold", (0.9, 0.92, 0.91)), ("random", (0.85,)))
    for i, (letter, accuracy) in enumerate(zip("ABC", accuracies, strict=False))
    if source == "gold" or random
  ]
  write_json(run / "config.json", {"task": "pareto"})
  record = {"searches": [{"name": "gold", "folder": "../gold"}]}
  record |= {"data": "cifar10", "networks": networks}
  write_json(run / "pareto.json", record)
  return pages.write([run]).read_text()


def test_the_page_draws_figures_1_and_4(tmp_path):
  text = page_of(tmp_path)
  assert "4 networks, trained under one budget" in text
  for title in (
    "Accuracy against multiply-adds",
    "Accuracy against parameters",
    "Weight of the cost in the loss, λ",
    "Multiply-adds that are left (millions an image)",
  ):
    assert f'aria-label="{title}"' in text
  assert "Of 1 pruned at random 1 is dominated" in text
  # The front of the search is a line; that of random networks is none.
  figure = text[text.index('aria-label="Accuracy against multiply-adds"') :]
  figure = figure[: figure.index("</figure>")]
  lines = re.findall(r'"name":"(\w+)","colour":"[^"]*","kind":"line"', figure)
  assert lines == ["gold"]
  assert "92.00%" in text


def test_the_page_of_what_is_not_done_or_there(tmp_path):
  text = page_of(tmp_path, known=("B",), random=False)
  assert "1 of 3 networks are trained" in text
  (tmp_path / "run" / "pareto.json").write_text("{")
  with pytest.raises(ValueError, match="start the same command again"):
    pages.write([tmp_path / "run"])


def test_the_page_without_the_searches(tmp_path):
  page_of(tmp_path)
  (tmp_path / "gold" / "metrics.jsonl").unlink()
  text = pages.write([tmp_path / "run"]).read_text()
  assert "figure 1" in text and "figure 4" not in text
