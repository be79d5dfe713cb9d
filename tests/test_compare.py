"""Comparisons: what runs, what it is summed up to, and what is shown of it."""

import json
import math
import re
import types

import jax
from made_up_comparisons import comparison, write_config
from made_up_runs import make_search
import numpy as np
import pytest
from test_report import Page

from jnas import main as main_lib
from jnas.report import comparison as comparison_page
from jnas.report import groups
from jnas.runs import build, compare, problem, report, search, seeds, session
from jnas.runs import workdir as workdir_lib


@pytest.fixture
def searches(monkeypatch):
  """Stands for the search: writes made-up runs, remembers what was asked.

  `results` holds the validation accuracies in order, `stop` what is raised
  before the search of that number.
  """
  record = types.SimpleNamespace(folders=[], results=[], stop={}, more={})

  def run(config, workdir):
    workdir_lib.check(config, workdir)
    number = len(record.folders)
    record.folders.append("/".join(workdir.parts[-2:]))
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "config.json").write_text(json.dumps(config.to_dict()))
    if number in record.stop:
      raise record.stop[number]
    make_search(workdir, seed=config.seed)
    (workdir / "config.json").write_text(json.dumps(config.to_dict()))
    result = json.loads((workdir / "result.json").read_text())
    if record.results:
      result["valid_accuracy"] = record.results[number]
    result |= {name: values[number] for name, values in record.more.items()}
    (workdir / "result.json").write_text(json.dumps(result))
    report.write([workdir])
    return result

  monkeypatch.setattr(search, "run", run)
  monkeypatch.setattr(build, "load", lambda config: None)
  return record


# Runs.


def test_a_stopped_comparison_goes_on(tmp_path, searches, capsys):
  path = write_config(tmp_path)
  config = comparison(path, f"{path}:two")
  workdir = tmp_path / "run"
  searches.stop = {2: SystemExit(session.TERMINATED)}
  with pytest.raises(SystemExit) as stopped:
    compare.run(config, workdir)
  assert stopped.value.code == session.TERMINATED
  assert not (workdir / "result.json").exists()
  assert "2 of 4 searches have ended" in (workdir / "report.html").read_text()
  searches.folders.clear()
  searches.stop = {}
  compared = compare.run(config, workdir)
  assert searches.folders == ["tiny_two/seed0", "tiny_two/seed1"]
  output = capsys.readouterr().out
  assert "4 searches, of which 2 have ended" in output
  assert "[4 of 4] tiny_two/seed1: validation accuracy" in output
  assert output.endswith(f"report: {workdir / 'report.html'}\n")
  # All have ended; then one seed more.
  searches.folders.clear()
  assert compare.run(config, workdir) == compared
  assert not searches.folders
  compare.run(comparison(path, f"{path}:two", seeds=3), workdir)
  assert searches.folders == ["tiny/seed2", "tiny_two/seed2"]
  # A result without a report: it was killed between the two.
  (workdir / "tiny" / "seed0" / "report.html").unlink()
  searches.folders.clear()
  compare.run(config, workdir)
  assert searches.folders == ["tiny/seed0"]


def test_what_was_traced_is_let_go_between_runs(
  tmp_path, searches, monkeypatch
):
  after = []
  monkeypatch.setattr(compare, "_FORGET", 2)
  monkeypatch.setattr(
    jax, "clear_caches", lambda: after.append(len(searches.folders))
  )
  compare.run(comparison(write_config(tmp_path), seeds=5), tmp_path / "run")
  assert after == [2, 4]


@pytest.fixture
def joint(monkeypatch, searches):
  """Stands for searches in one program: folders, and what is raised."""
  record = types.SimpleNamespace(folders=[], error=None)

  def run(config, workdir):
    record.folders.append((workdir.name, config.seed, config.seeds))
    if record.error:
      raise record.error
    for seed in range(config.seed, config.seed + config.seeds):
      search.run(problem.alone(config, seed), workdir / f"seed{seed}")

  monkeypatch.setattr(seeds, "run", run)
  return record


def test_seeds_are_searched_together_where_they_can_be(
  tmp_path, searches, joint
):
  one = write_config(tmp_path)
  stages = write_config(tmp_path, "stages", "config.space.update("
                        "edges='searched', nodes=2)")
  config = comparison(one, stages, **{"compare.together": "yes"})
  compared = compare.run(config, tmp_path / "run")
  assert joint.folders == [("tiny", 0, 2)]
  assert searches.folders == [
    "tiny/seed0", "tiny/seed1", "stages/seed0", "stages/seed1"
  ]
  found = compared["algorithms"]
  assert [len(own["runs"]) for own in found.values()] == [2, 2]
  # A seed more goes by itself: those before have ended.
  more = comparison(one, stages, seeds=3, **{"compare.together": "yes"})
  compare.run(more, tmp_path / "run")
  assert searches.folders[4:] == ["tiny/seed2", "stages/seed2"]
  assert len(joint.folders) == 1


def test_seeds_that_fail_together_are_searched_apart(
  tmp_path, searches, joint, capsys
):
  joint.error = ValueError("train_loss of seed 1 = nan")
  searches.stop = {0: ValueError("own")}
  config = comparison(write_config(tmp_path), **{"compare.together": "yes"})
  with pytest.raises(ValueError, match="1 of 2 searches failed"):
    compare.run(config, tmp_path / "run")
  assert len(joint.folders) == 1
  assert searches.folders == ["tiny/seed0", "tiny/seed1"]
  assert (
    "tiny: one seed after the other, because train_loss of seed 1 = nan"
  ) in capsys.readouterr().out


def test_on_cpu_seeds_are_searched_apart_unless_it_is_asked(
  tmp_path, searches, joint
):
  compare.run(comparison(write_config(tmp_path)), tmp_path / "run")
  assert not joint.folders and len(searches.folders) == 2


def test_a_failed_search_does_not_stop_the_others(tmp_path, searches):
  path = write_config(tmp_path)
  config = comparison(path, f"{path}:two")
  searches.stop = {0: ValueError("train_loss is nan")}
  with pytest.raises(ValueError) as error:
    compare.run(config, tmp_path / "run")
  assert "1 of 4 searches failed:\n  - tiny/seed0: train_loss is nan" in str(
    error.value
  )
  assert len(searches.folders) == 4
  assert not (tmp_path / "run" / "result.json").exists()
  found = json.loads((tmp_path / "run" / "comparison.json").read_text())
  assert [len(x["runs"]) for x in found["algorithms"].values()] == [1, 2]
  page = Page((tmp_path / "run" / "report.html").read_text())
  assert "tiny/seed0: train_loss is nan" in page.text


def test_all_searches_failed(tmp_path, searches):
  searches.stop = {i: ValueError("no") for i in range(2)}
  with pytest.raises(ValueError, match="2 of 2 searches failed"):
    compare.run(comparison(write_config(tmp_path)), tmp_path / "run")
  assert "tiny/seed1: no" in (tmp_path / "run" / "report.html").read_text()


def test_runs_of_another_configuration_are_refused(tmp_path, searches):
  path = write_config(tmp_path)
  compare.run(comparison(path), tmp_path / "run")
  with pytest.raises(ValueError) as error:
    compare.run(comparison(path, **{"train.batch": 8}), tmp_path / "run")
  message = str(error.value)
  assert message.count("train.batch: 16 there, 8 here") == 1
  assert f"The same holds for {tmp_path}/run/tiny/seed1." in message
  (tmp_path / "letters.txt").write_text("keep me")
  with pytest.raises(ValueError, match="is not empty and holds no run"):
    compare.run(comparison(path), tmp_path)
  with pytest.raises(ValueError, match="task: 'search' there, 'compare' here"):
    compare.run(comparison(path), tmp_path / "run" / "tiny" / "seed0")


def test_data_that_is_not_there_is_told_first(tmp_path):
  path = write_config(tmp_path)
  config = comparison(path, **{"data.name": "npz", "data.path": "nowhere.npz"})
  with pytest.raises(ValueError, match="data.path='nowhere.npz'"):
    compare.run(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_searches(tmp_path):
  """The real thing, through the command line."""
  path = write_config(tmp_path)
  config = tmp_path / "both.py"
  config.write_text(f"""
from jnas import config as config_lib

def get_config():
  config = config_lib.base()
  config.task = "compare"
  config.compare.update(configs=("{path}:two",), seeds=2)
  return config
""")
  workdir = tmp_path / "run"
  words = [f"--config={config}", f"--workdir={workdir}"]
  words += ["--config.train.length=6 steps", "--config.data.limit=128"]
  words += ["--config.seed=3"]
  assert main_lib.main(["jnas", "--compile_cache=", *words]) == 0
  result = json.loads((workdir / "result.json").read_text())
  assert result["task"] == "compare"
  ((name, found),) = result["algorithms"].items()
  assert name == "tiny_two"
  runs = []
  for seed in (3, 4):
    folder = workdir / name / f"seed{seed}"
    runs.append(json.loads((folder / "result.json").read_text()))
    used = json.loads((folder / "config.json").read_text())
    assert (used["seed"], used["data"]["limit"]) == (seed, 128)
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 6
  a, b = (one["valid_accuracy"] for one in runs)
  assert found["valid_accuracy"]["mean"] == pytest.approx((a + b) / 2)
  sd = abs(a - b) / math.sqrt(2)
  assert found["valid_accuracy"]["sd"] == pytest.approx(sd, abs=1e-12)
  assert found["params"]["sd"] == 0
  assert found["chosen"]["seed"] == (4 if b > a else 3)
  before = (workdir / "comparison.json").read_bytes()
  assert main_lib.main(["jnas", "--compile_cache=", *words]) == 0
  assert (workdir / "comparison.json").read_bytes() == before


# What it is summed up to.


def test_numbers_by_hand(tmp_path, searches):
  searches.results = [0.6, 0.8, 0.7]
  searches.more = {"params": [10, 10, 10], "loss": [1.0, None, 2.0]}
  workdir = tmp_path / "run"
  compare.run(comparison(write_config(tmp_path), seeds=3), workdir)
  found = json.loads((workdir / "comparison.json").read_text())
  assert (found["data"], found["planned"]) == ("digits", 3)
  found = found["algorithms"]["tiny"]
  accuracy = found["numbers"]["valid_accuracy"]
  # Squares of the distances to 0.7: 0.01, 0.01 and 0, over n - 1 = 2.
  expected = {"mean": 0.7, "sd": 0.1, "min": 0.6, "max": 0.8}
  assert accuracy == pytest.approx(expected, abs=1e-12)
  assert found["numbers"]["params"]["mean"] == 10
  assert "loss" not in found["numbers"] and "task" not in found["numbers"]
  best = json.loads((workdir / "tiny/seed1/result.json").read_text())
  assert found["chosen"] == {
    "seed": 1,
    "folder": "tiny/seed1",
    "valid_accuracy": 0.8,
    "genotype": best["genotype"],
  }
  assert [one["result"]["valid_accuracy"] for one in found["runs"]] == [
    *(0.6, 0.8, 0.7),
  ]


def test_a_single_seed_has_no_spread(tmp_path, searches):
  found = compare.run(
    comparison(write_config(tmp_path), seeds=1), tmp_path / "run"
  )
  found = found["algorithms"]["tiny"]["numbers"]["valid_accuracy"]
  assert found["sd"] is None and found["mean"] == found["min"] == found["max"]
  page = Page((tmp_path / "run" / "report.html").read_text())
  assert "±" not in page.text.split("Spread")[0].split("chosen")[1]


def test_of_equals_the_first_is_chosen_and_without_accuracies_none():
  runs = [
    {"seed": k, "folder": str(k), "result": {"valid_accuracy": 0.5}}
    for k in range(3)
  ]
  assert compare.choose(runs)["seed"] == 0
  assert compare.choose([runs[0] | {"result": {}}]) is None


def test_band_by_hand():
  curves = [[(1, 0.1), (2, 0.2), (3, 0.5)], [(1, 0.3), (2, 0.2)]]
  area, line = comparison_page.band("a", curves, "#000000")
  assert np.ravel(line.points) == pytest.approx([1, 0.2, 2, 0.2])
  sd = 0.1 * math.sqrt(2)
  corners = [1, 0.2 - sd, 2, 0.2, 2, 0.2, 1, 0.2 + sd]
  assert np.ravel(area.points) == pytest.approx(corners)
  (line,) = comparison_page.band("a", [[(1, 0.1)], []], "")
  assert line.points == [(1, 0.1)]
  assert comparison_page.band("a", [[(1, 0.1)], [(2, 0.1)]], "") == []


def test_times_are_a_range(tmp_path, searches):
  searches.more = {"seconds": [50.0, 8.0]}
  compared = compare.run(comparison(write_config(tmp_path)), tmp_path / "run")
  assert "8 s to 50 s" in groups.text(compared)
  text = (tmp_path / "run" / "report.html").read_text()
  page = Page(text).text
  assert "8 s to 50 s" in page and "29 s" not in page


# What is shown.


def test_report(tmp_path, searches):
  searches.results = [0.6, 0.8, 0.9, 0.91]
  path = write_config(tmp_path)
  workdir = tmp_path / "run"
  compare.run(comparison(path, f"{path}:two"), workdir)
  text = (workdir / "report.html").read_text()
  page = Page(text)
  for words in (
    *("2 algorithms on digits", "tiny_two", "70.00% ± 14.14%", "1,930,618"),
    *("seed 1: 80.00%", "seed 1: 91.00%", "Validation accuracy by epoch"),
    *("Validation accuracy of each seed", "Share of skip connections by epoch"),
  ):
    assert words in page.text, words
  assert text.count('<svg class="plot"') == 8
  assert "rue accuracy" not in page.text
  links = [link for link in page.links if not link.startswith("#")]
  assert links == [
    f"{folder}/report.html"
    for folder in "tiny/seed0 tiny/seed1 tiny_two/seed0 tiny_two/seed1".split()
  ]
  assert all((workdir / link).exists() for link in links)
  assert len(page.ids) == len(set(page.ids))
  assert not re.search(r"url\((?!#)|@import", text)
  # Written anew it is the same, and elsewhere its links still lead to the runs.
  assert report.write([workdir]).read_text() == text
  other = report.write([workdir], tmp_path / "elsewhere" / "page.html")
  links = [x for x in Page(other.read_text()).links if x.endswith(".html")]
  assert all((other.parent / link).exists() for link in links)
  (workdir / "comparison.json").unlink()
  with pytest.raises(ValueError, match="Expected a comparison in"):
    report.write([workdir])


@pytest.mark.parametrize(
  "change", [{"planned": "x"}, {"algorithms": 3}, {"failed": [1]}]
)
def test_a_broken_comparison_is_refused_in_a_sentence(
  tmp_path, searches, change
):
  workdir = tmp_path / "run"
  compare.run(comparison(write_config(tmp_path), seeds=1), workdir)
  record = json.loads((workdir / "comparison.json").read_text())
  record["algorithms"]["none"] = {"runs": [], "chosen": 3, "kendall": 3}
  record["algorithms"]["tiny"] |= {"chosen": {}, "kendall": {"tau": "x"}}
  (workdir / "comparison.json").write_text(json.dumps(record))
  assert "none: None" in report.write([workdir]).read_text()
  (workdir / "comparison.json").write_text(json.dumps(record | change))
  with pytest.raises(ValueError, match="Expected a comparison in"):
    report.write([workdir])


def test_report_where_true_accuracy_is_known(tmp_path, searches):
  searches.results = [0.6, 0.8]
  searches.more = {"true_accuracy": [0.93, 0.91]}
  workdir = tmp_path / "run"
  compare.run(comparison(write_config(tmp_path)), workdir)
  for seed in (0, 1):
    path = workdir / "tiny" / f"seed{seed}" / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
      if line["kind"] == "epoch":
        line["true_accuracy"] = 0.9 + 0.01 * seed
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
  known = {"name": "table 5", "best": 0.9437, "mean": 0.8706}
  known["published"] = {"DARTS": 0.543, "GDAS": 0.9351}
  (workdir / "tiny/seed1/benchmark.json").write_text(json.dumps(known))
  text = report.write([workdir]).read_text()
  page = Page(text)
  for words in (
    *("92.00% ± 1.41%", "seed 1: 80.00%, true 91.00%", "best 94.37%"),
    *("mean 87.06%", "True accuracy by epoch", "True accuracy of each seed"),
    "Published for it: DARTS 54.30%, GDAS 93.51%.",
  ):
    assert words in page.text, words
  assert text.count('<svg class="plot"') == 10


def test_text_is_escaped(tmp_path, searches):
  path = write_config(tmp_path, "<b>&")
  compare.run(comparison(path), tmp_path / "run")
  text = (tmp_path / "run" / "report.html").read_text()
  Page(text)
  assert "<b>" not in text and "%3Cb%3E%26/seed0/report.html" in text
