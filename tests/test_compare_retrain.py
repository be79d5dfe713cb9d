"""Comparisons that train what they have found: stopped, gone on, failed."""

import json
import types

from made_up_comparisons import RECIPE, comparison, write_config
from made_up_runs import make_retrain, write_json
import numpy as np
import pytest
from test_compare import searches  # noqa: F401, a fixture
from test_report import Page

from jnas import main as main_lib
from jnas.runs import build, compare, report, retrain, session
from jnas.runs import workdir as workdir_lib


@pytest.fixture
def retrained(monkeypatch):
  """Stands for retraining, as `searches` does for searching."""
  record = types.SimpleNamespace(folders=[], results=[], stop={}, texts=[])

  def run(config, workdir):
    workdir_lib.check(config, workdir)
    number = len(record.folders)
    record.folders.append("/".join(workdir.parts[-3:]))
    record.texts.append(config.retrain.genotype)
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / "config.json", config.to_dict())
    if number in record.stop:
      raise record.stop[number]
    make_retrain(workdir)
    write_json(workdir / "config.json", config.to_dict())
    result = json.loads((workdir / "result.json").read_text())
    result["test_accuracy"] = record.results[number]
    write_json(workdir / "result.json", result)
    report.write([workdir])
    return result

  monkeypatch.setattr(retrain, "run", run)
  return record


@pytest.fixture
def data(monkeypatch, searches):  # noqa: F811
  """Data of which only the shape is asked; says how often it was loaded."""
  record = types.SimpleNamespace(loads=0)

  def load(config):
    record.loads += 1
    return types.SimpleNamespace(
      classes=range(10), train_x=np.zeros((1, 8, 8, 1), np.uint8)
    )

  monkeypatch.setattr(build, "load", load)
  return record


def test_a_stopped_retraining_goes_on(
  tmp_path, data, searches, retrained, capsys  # noqa: F811
):
  path = write_config(tmp_path)
  config = comparison(path, seeds=3, **{"compare.retrain": "2 epochs"})
  workdir = tmp_path / "run"
  searches.results = [0.6, 0.8, 0.7, 0.9]
  retrained.results = [0.91, 0.0, 0.93, 0.92]
  retrained.stop = {1: SystemExit(session.TERMINATED)}
  with pytest.raises(SystemExit):
    compare.run(config, workdir)
  assert searches.folders == ["tiny/seed0", "tiny/seed1"]
  assert not (workdir / "result.json").exists()
  found = compare.run(config, workdir)["algorithms"]["tiny"]
  # Neither search is repeated, nor the retraining that had ended.
  assert searches.folders == [f"tiny/seed{k}" for k in (0, 1, 2)]
  assert retrained.folders == [f"tiny/seed{k}/retrain" for k in (0, 1, 1, 2)]
  text = found["runs"][1]["result"]["genotype"]
  assert retrained.texts[1:3] == [text, text]
  # Searched 0.6 0.8 0.7, retrained 0.91 0.93 0.92: the same order.
  assert found["kendall"] == {"seeds": 3, "tau": pytest.approx(1)}
  mean = found["numbers"]["retrained_accuracy"]
  assert (mean["mean"], mean["sd"]) == pytest.approx((0.92, 0.01))
  assert found["chosen"]["retrained_accuracy"] == 0.93
  assert (workdir / "tiny/seed2/retrain/report.html").exists()
  result = json.loads((workdir / "result.json").read_text())
  assert result["algorithms"]["tiny"]["kendall"] == found["kendall"]
  spent = [one["result"] for one in found["runs"]]
  assert result["seconds"] == pytest.approx(
    sum(one["seconds"] for one in spent) + 3 * 1234.5
  )
  output = capsys.readouterr().out
  assert "each then trained for 2 epochs as by its search" in output
  assert "[3 of 3] tiny/seed2: validation accuracy 70.00%, retrained" in output
  # All have ended; the sizes are known, so no data are needed.
  before = data.loads
  compare.run(config, workdir)
  assert len(searches.folders) == 3 and len(retrained.folders) == 4
  assert data.loads == before
  # Another length of the retraining is another run.
  other = comparison(path, seeds=3, **{"compare.retrain": "3 epochs"})
  with pytest.raises(ValueError) as error:
    compare.run(other, workdir)
  message = str(error.value)
  assert message.count("train.length: '2 epochs' there, '3 epochs' here") == 1
  assert "The same holds for" in message


def test_retraining_of_a_comparison_that_has_ended(
  tmp_path, data, searches, retrained  # noqa: F811
):
  path = write_config(tmp_path)
  recipe = write_config(tmp_path, "recipe", RECIPE)
  workdir = tmp_path / "run"
  first = compare.run(comparison(path), workdir)["algorithms"]["tiny"]
  assert "kendall" not in first
  assert not any("derived" in name for name in first["numbers"])
  retrained.results = [0.9, 0.9]
  fields = {"compare.retrain": "2 epochs", "compare.recipe": str(recipe)}
  found = compare.run(comparison(path, **fields), workdir)
  found = found["algorithms"]["tiny"]
  assert len(searches.folders) == 2 and len(retrained.folders) == 2
  assert found["kendall"]["why"] == "2 seeds, 3 are needed"
  page = Page((workdir / "report.html").read_text())
  assert "none: 2 seeds, 3 are needed" in page.text
  assert "Retrained by validation accuracy" in page.text
  assert "Retrained accuracy of each seed" in page.text
  links = [x for x in page.links if x.endswith("retrain/report.html")]
  assert len(links) == 2 and all((workdir / x).exists() for x in links)


def test_a_failed_retraining_is_told(
  tmp_path, data, searches, retrained  # noqa: F811
):
  workdir = tmp_path / "run"
  retrained.results = [0.0, 0.9]
  retrained.stop = {0: ValueError("train_loss is nan\nmore")}
  config = comparison(
    write_config(tmp_path), **{"compare.retrain": "2 epochs"}
  )
  with pytest.raises(ValueError) as error:
    compare.run(config, workdir)
  assert (
    "1 of 2 searches and their retrainings failed:\n"
    "  - tiny/seed0/retrain: train_loss is nan"
  ) in str(error.value)
  found = json.loads((workdir / "comparison.json").read_text())
  # The search itself has ended; of one retraining there is no mean.
  (found,) = found["algorithms"].values()
  assert len(found["runs"]) == 2
  assert "retrained_accuracy" not in found["numbers"]
  assert found["kendall"]["seeds"] == 1


def test_retraining(tmp_path):
  """The real thing, through the command line; resumed it changes nothing."""
  recipe = write_config(tmp_path, "recipe", RECIPE)
  path = write_config(tmp_path)
  config = tmp_path / "all.py"
  config.write_text(f"""
from jnas import config as config_lib

def get_config():
  config = config_lib.base()
  config.task, config.data.limit = "compare", 96
  config.train.length = "4 steps"
  config.compare.update(configs=("{path}",), seeds=1, retrain="5 steps")
  config.compare.recipe = "{recipe}"
  return config
""")
  workdir = tmp_path / "run"
  words = [f"--config={config}", f"--workdir={workdir}"]
  assert main_lib.main(["jnas", "--compile_cache=", *words]) == 0
  folder = workdir / "tiny" / "seed0"
  searched = json.loads((folder / "result.json").read_text())
  trained = json.loads((folder / "retrain/result.json").read_text())
  assert trained["genotype"] == searched["genotype"]
  last = (folder / "retrain/metrics.jsonl").read_text().splitlines()[-1]
  assert json.loads(last)["step"] == 5
  found = json.loads((workdir / "comparison.json").read_text())
  numbers = found["algorithms"]["tiny"]["numbers"]
  assert numbers["retrained_accuracy"]["mean"] == trained["test_accuracy"]
  assert numbers["derived_params"]["mean"] == pytest.approx(
    trained["params"] / 1e6
  )
  drop = searched["valid_accuracy"] - searched["child_accuracy"]
  assert numbers["accuracy_drop"]["mean"] == pytest.approx(drop)
  before = (folder / "retrain/metrics.jsonl").read_bytes()
  assert main_lib.main(["jnas", "--compile_cache=", *words]) == 0
  assert (folder / "retrain/metrics.jsonl").read_bytes() == before
