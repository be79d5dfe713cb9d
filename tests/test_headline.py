"""What a task calls its result is what reports and comparisons go by."""

import json

from made_up_runs import make_search
import pytest

from jnas.report import comparison, groups, headline, records, sections
from jnas.runs import compare, derived
from jnas.training.task import Task

MEAN_IOU = {"headline": "mean_iou", "larger_is_better": True}
MEAN_IOU |= {"shares": ["mean_iou"]}
BITS = {"headline": "bits", "larger_is_better": False, "shares": []}


def run_of(path, about, value):
  """A made-up search whose result is told by another headline."""
  make_search(path)
  name = about["headline"]
  config = path / "config.json"
  config.write_text(config.read_text().replace("cifar10", name))
  for file in ("metrics.jsonl", "result.json"):
    text = (path / file).read_text()
    (path / file).write_text(text.replace("_accuracy", f"_{name}"))
  result = json.loads((path / "result.json").read_text())
  result |= about | {f"valid_{name}": value}
  (path / "result.json").write_text(json.dumps(result))
  return records.read(path)


def test_records_name_it_and_older_ones_need_not():
  task = Task(objective=None, evaluate=None)
  assert headline.of(task.about) == headline.Headline()
  assert headline.of({"a": 1}) == headline.Headline()
  assert headline.of({}, BITS).score({"valid_bits": 2.0}, "valid") == -2.0
  assert headline.of({"valid_perplexity": 9.0}).name == "perplexity"
  broken = {"headline": 3, "larger_is_better": "yes", "test_perplexity": 9.0}
  assert headline.of(broken).best == "lowest"
  assert headline.of(BITS).score({"valid_bits": True}, "valid") is None


def chosen(about, *values):
  name = f"valid_{about['headline']}"
  runs = [
    {"seed": i, "folder": str(i), "result": {**about, name: value}}
    for i, value in enumerate(values)
  ]
  return compare.choose(runs)


def test_a_comparison_chooses_by_what_its_runs_name():
  assert chosen(MEAN_IOU, 0.1, 0.3, 0.2)["seed"] == 1
  assert chosen(BITS, 1.5, 1.2, 1.9) == {
    "seed": 1, "folder": "1", "valid_bits": 1.2
  }
  mixed = [
    {"seed": 0, "folder": "0", "result": {"valid_accuracy": 0.5}},
    {"seed": 1, "folder": "1", "result": BITS | {"valid_bits": 1.0}},
  ]
  with pytest.raises(ValueError, match="some with accuracy and some with bits"):
    compare.choose(mixed)


def test_what_derived_networks_lose_and_how_they_rank(tmp_path):
  found = [
    BITS | {"valid_bits": v, "retrained_bits": r}
    for v, r in ((1.0, 0.9), (2.0, 1.8), (3.0, 2.7))
  ]
  assert derived.kendall(found) == {"seeds": 3, "tau": 1.0}
  bad = found[0] | {"retrained_bits": 9.0}
  assert derived.kendall([bad, *found[1:]])["tau"] < 0


def test_words_and_forms_are_those_of_the_headline(tmp_path):
  result = BITS | {"valid_bits": 1.234, "retrained_bits": 1.5, "seconds": 3}
  assert groups.facts(result) == [
    *("validation bits 1.23", "retrained bits 1.50", "3 s"),
  ]
  text = {"valid_perplexity": 57.25, "seconds": 3}  # of an older run
  assert groups.facts(text) == ["validation perplexity 57.25", "3 s"]
  run = run_of(tmp_path / "run", MEAN_IOU, 0.625)
  assert ("validation mean iou", "62.50%") in sections.facts(run)
  learnt = {part.title: part.svg for part in sections.learning(run).parts}
  assert "%" in learnt["Mean iou"] and "%" not in learnt["Loss (nats)"]
  (figure, *_) = sections.collapse(run).parts
  assert figure.title.endswith("mean iou")
  bits = run_of(tmp_path / "bits", BITS, 1.25)
  assert ("validation bits", "1.25") in sections.facts(bits)
  (figure, *_) = sections.collapse(bits).parts
  assert figure.title.endswith("share of skips")  # it has another scale


def test_runs_of_several_kinds_are_compared_each_by_its_own(tmp_path):
  runs = [
    records.read(make_search(tmp_path / "images")),
    run_of(tmp_path / "bits", BITS, 1.25),
  ]
  found = groups.of_runs(runs)
  heads, rows = groups.table(found)
  cells = [dict(zip(heads, row, strict=True)) for row in rows]
  assert cells[0]["validation bits"] == cells[1]["validation accuracy"] == "–"
  assert cells[1]["validation bits"] == "1.25"
  _, _, body = comparison.document_of(runs, tmp_path)
  titles = [part.title for one in body if one for part in one.parts
            if hasattr(part, "svg")]
  assert {"Validation accuracy by epoch", "Validation bits by epoch"} <= {
    *titles
  }
