"""Tests of the report on runs whose files are missing, broken or strange."""

import json
import re

from made_up_runs import (
  make_nas_bench_201,
  make_retrain,
  make_search,
  write_json,
  write_lines,
)
import pytest
from test_report import Page, page_of

from jnas.report import records
from jnas.runs import report


@pytest.mark.parametrize(
  "name",
  [
    "config.json",
    "run.json",
    "metrics.jsonl",
    "arch.jsonl",
    "genotypes.jsonl",
    "result.json",
  ],
)
def test_missing_file_is_named(tmp_path, name):
  run = make_search(tmp_path / "run")
  (run / name).unlink()
  found = page_of(run)
  assert f"There is no {name}" in found.text


def test_killed_run(tmp_path):
  run = make_search(tmp_path / "run")
  whole = len(records.read(run).metrics)
  for path in [*run.glob("*.jsonl"), *run.glob("*.json")]:
    path.write_bytes(path.read_bytes()[:-30])
  assert len(records.read(run).metrics) == whole - 1
  found = page_of(run)
  assert "The last line of metrics.jsonl is half-written" in found.text
  assert "result.json cannot be read" in found.text
  assert "Normal cell" in found.text


def test_empty_files(tmp_path):
  run = make_search(tmp_path / "run")
  for path in [*run.glob("*.jsonl"), *run.glob("*.json")]:
    path.write_bytes(b"")
  assert "No genotype was written yet" in page_of(run).text


def test_strange_lines_are_survived(tmp_path):
  run = make_search(tmp_path / "run")
  with open(run / "metrics.jsonl", "a") as file:
    file.write(
      '{"kind": "step", "step": 90, "epoch": 4.5, "train_loss": NaN}\n'
    )
    file.write('{"kind": "step", "step": null, "train_loss": "x"}\n[1, 2]\n7\n')
  with open(run / "arch.jsonl", "a") as file:
    file.write('{"epoch": 5, "step": 99, "weights": {"normal": [[1, 2]]}}\n')
  found = page_of(run)
  assert "2 lines of metrics.jsonl are unreadable" in found.text
  assert "normal: unreadable weights" in found.text
  assert "Reduction cell" in found.text


def test_numbers_that_are_none_are_survived(tmp_path):
  run = make_search(tmp_path / "run")
  lines = [json.loads(x) for x in (run / "arch.jsonl").read_text().splitlines()]
  lines[-1]["weights"]["normal"][0][:3] = [float("inf"), 10**400, "x"]
  write_lines(run / "arch.jsonl", lines)
  odd = {"kind": "epoch", "step": 99, "epoch": "x", "valid_loss": [1]}
  odd |= {"compile_seconds": {}, "valid_accuracy": "x", "step_seconds": "y"}
  strange = odd | {"step": "x", "epoch": 10**400, "train_loss": 10**400}
  with open(run / "metrics.jsonl", "a") as file:
    file.write(json.dumps(odd) + "\n" + json.dumps(strange) + "\n")
  found = page_of(run).text
  assert "epochs4" in found
  assert "unreadable" not in found


def test_halves_of_surrogate_pairs_are_survived(tmp_path):
  run = make_nas_bench_201(tmp_path / "run")
  for name in ("config.json", "run.json", "benchmark.json"):
    data = json.loads((run / name).read_text())
    data |= {"\udcff": "\ud800", "name": "\udfff", "seed": "\ud83d"}
    data["published"] = {"\ud800": 0.9}
    write_json(run / name, data)
  assert "?  90.00%" in page_of(run).text
  strange = tmp_path / "\udcff"  # a name of bytes that are no UTF-8
  run.rename(strange)
  assert report.main([str(strange)]) == 0
  assert "?" in (strange / "report.html").read_text()


def test_text_is_escaped(tmp_path):
  run = make_search(tmp_path / "<b>&run")
  config = json.loads((run / "config.json").read_text())
  config["data"]["name"] = "<script>alert(1)</script>"
  config["seed"] = "<img>"
  write_json(run / "config.json", config)
  machine = {"command": "<img src=x>", "device": "<i>", "started": "<b>"}
  write_json(run / "run.json", machine)
  report.write([run, make_retrain(tmp_path / "t")], tmp_path / "c.html")
  for path in (report.write([run]), tmp_path / "c.html"):
    text = path.read_text()
    Page(text)
    assert not re.search(r"<(script>alert|img|b>|i>)", text)


@pytest.mark.parametrize("kind", ["absent", "file", "empty"])
def test_no_run(tmp_path, kind, capsys):
  path = tmp_path / "there"
  if kind == "file":
    path.write_text("x")
  if kind == "empty":
    path.mkdir()
  with pytest.raises(
    ValueError, match="Expected the workdir .* got .*--workdir"
  ):
    report.write([path])
  assert report.main([str(path)]) == 2
  assert "Expected the workdir" in capsys.readouterr().err


def test_titles_that_describe_nothing_are_left_out(tmp_path):
  run = make_search(tmp_path / "run")
  figure = {"title": "Rates", "metrics": {"lr": "rate"}}
  good = {"title": "Mine", "figures": [figure | {"limits": [0, 1]}]}
  odd = [7, {}, {"title": "odd1"}, {"title": "odd2", "figures": [{}]}]
  odd += [
    {"title": f"odd {more}", "figures": [figure | more]}
    for more in (
      *({"form": "{:.99999999f}"}, {"form": "{0.x}"}, {"kind": "pie"}),
      *({"limits": [1, 0]}, {"limits": 3}, {"metrics": ["lr"]}, {"title": 3}),
    )
  ]
  machine = json.loads((run / "run.json").read_text())
  machine["titles"] = {"algorithm": "My search", "sections": [*odd, good]}
  write_json(run / "run.json", machine)
  found = page_of(run).text
  assert "My search on cifar10" in found and "Mine" in found
  assert "rate 0.000" in found.replace("  ", " ")
  assert "odd" not in found
  for sections in (None, 3, {"title": "odd"}):
    machine["titles"] = {"algorithm": 3, "sections": sections}
    write_json(run / "run.json", machine)
    assert "Amended on cifar10" in page_of(run).text
