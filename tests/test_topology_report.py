"""Tests of the report on searches whose topology changes."""

import json
import re

from made_up_runs import (
  make_entrannas,
  make_gold,
  make_retrain,
  make_search,
  write_json,
  write_lines,
)
import numpy as np
import pytest
from test_report import page_of

from jnas import genotype as genotype_lib
from jnas.runs import findings, records, report, scatter, sections, topology

SECTIONS = ("Pareto set", "Pruning", "Transit cells")


def lines_of(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def marks(svg, colour):
  """The coordinates of the points of a colour."""
  found = re.findall(rf"<use [^>]*fill: {colour}[^>]*>", svg)
  number = r'="(-?[\d.]+)"'
  places = [
    tuple(float(re.search(rf"\b{axis}{number}", use)[1]) for axis in "xy")
    for use in found
  ]
  return places


def card(text, title):
  """The HTML of the figure with a title."""
  return re.search(rf"<figure[^>]*><h3>{title}</h3>.*?</figure>", text, re.S)[0]


def test_pareto_set_as_a_table(tmp_path):
  run = make_gold(tmp_path / "run")
  text = report.write([run]).read_text()
  rows = re.findall(r"<tr>(.*?)</tr>", card(text, "Networks"))
  table = [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in rows]
  heads = ["", "epoch", "FLOPs (M)", "params (M)", "operators", "accuracy", "λ"]
  assert table[0] == heads
  front = lines_of(run / "pareto.jsonl")
  assert len(table) == 1 + len(front) == 5
  for letter, row, line in zip("ABCD", table[1:], front, strict=True):
    assert row[0] == letter
    want = [line["epoch"], line["flops"], line["params"], line["operators"]]
    want += [100 * line["accuracy"], line["lambda"]]
    got = [float(cell.rstrip("%")) for cell in row[1:]]
    assert got == pytest.approx(want, rel=5e-3)
  assert "4 networks recorded by one search" in text
  assert "retraining from scratch gives the paper" in text
  assert "<th>retrained" not in text
  assert "retrained" not in card(text, "Accuracy against FLOPs")


def test_pareto_set_as_points(tmp_path):
  run = make_gold(tmp_path / "run", retrained=True)
  text = report.write([run]).read_text()
  drawn = card(text, "Accuracy against FLOPs")
  assert 'aria-label="accuracy against FLOPs of the Pareto set"' in drawn
  front = lines_of(run / "pareto.jsonl")
  flops = [line["flops"] for line in front]
  heights, accuracies = [], []
  for colour, key in (("blue", "accuracy"), ("green", "retrained")):
    places = marks(drawn, getattr(sections, colour.upper()))
    places = [p for p in places if p[1] > 40]  # without the legend
    places.sort(reverse=True)
    assert len(places) == len(front)
    # Along both axes what is drawn is the number, scaled and moved.
    xs, ys = zip(*places, strict=True)
    assert np.corrcoef(xs, flops)[0, 1] > 0.99999
    heights += ys
    accuracies += [line[key] for line in front]
  assert np.corrcoef(heights, accuracies)[0, 1] < -0.99999
  for words in ("search network", "retrained", "96.60%"):
    assert words in text


def test_the_front_is_apart_from_what_was_recorded(tmp_path):
  run = make_gold(tmp_path / "run")
  lines = lines_of(run / "pareto.jsonl")
  # D costs least and is best: it dominates all; then B joins it on the front.
  for line, accuracy in zip(lines, (0.5, 0.6, 0.7, 0.9), strict=True):
    line["accuracy"] = accuracy
  write_lines(run / "pareto.jsonl", lines)
  found = topology.networks(records.read(run))
  assert [n.letter for n in topology.front(found)] == ["D"]
  text = report.write([run]).read_text()
  assert "On the Pareto front, the line, is D;" in text
  drawn = card(text, "Accuracy against FLOPs")
  for title in ("FLOPs (millions an image)", "accuracy"):
    assert f">{title}</text>" in drawn
  lines[1]["accuracy"] = 0.95
  lines[0]["accuracy"] = 0.95  # costs more than B and is no better
  write_lines(run / "pareto.jsonl", lines)
  found = topology.networks(records.read(run))
  assert [n.letter for n in topology.front(found)] == ["D", "B"]
  (drawn,) = topology.series(found, "x", "#000000")
  assert drawn.line == [(n.flops, n.accuracy) for n in topology.front(found)]
  assert len(drawn.xs) == 4


def test_genotypes_of_the_set_can_be_pasted(tmp_path):
  run = make_gold(tmp_path / "run", nodes=4)
  front = lines_of(run / "pareto.jsonl")
  twice = front[-1] | {"step": 999}
  write_lines(run / "pareto.jsonl", [*front, twice])
  text = report.write([run]).read_text()
  folded = re.findall(
    r"<summary>([A-E, ]+): .*?</summary><pre class=\"copy\"[^>]*>(.*?)</pre>",
    text,
    re.S,
  )
  assert [letters for letters, _ in folded] == ["A", "B", "C", "D, E"]
  for (_, shown), line in zip(folded, front, strict=True):
    g = genotype_lib.parse(shown.replace("&#x27;", "'"))
    assert g == genotype_lib.parse(line["text"])


def test_half_a_set_is_survived(tmp_path):
  run = make_gold(tmp_path / "run")
  front = lines_of(run / "pareto.jsonl")
  front[0]["accuracy"] = None
  front[1] |= {"text": "Genotype(", "genotype": {"cells": "<b>"}}
  front[2] = {"step": 50, "flops": "x", "lambda": float("nan"), "text": 7}
  write_lines(run / "pareto.jsonl", front)
  with open(run / "pareto.jsonl", "a") as file:
    file.write('{"step": 99, "flo')
  found = topology.networks(records.read(run))
  assert [n.letter for n in found] == ["A", "B", "C", "D"]
  assert (found[1].text, found[2].text) == ("", "")
  assert found[2][1:-1] == (None,) * 7
  (drawn,) = topology.series(found, "x", "#000000")
  assert list(drawn.labels) == ["B", "D"]
  text = report.write([run]).read_text()
  assert "The last line of pareto.jsonl is half-written" in text
  assert text.count("<td>–</td>") == 1 + 6
  # Nothing to draw: then the table alone.
  for line in front:
    line["flops"] = None
  write_lines(run / "pareto.jsonl", front)
  text = report.write([run]).read_text()
  assert "Accuracy against FLOPs" not in text
  assert "<h3>Networks</h3>" in text


@pytest.mark.parametrize("content", ["", "7\n", "{}\n", '{"step": 1}\n'])
def test_empty_sets(tmp_path, content):
  run = make_gold(tmp_path / "run")
  (run / "pareto.jsonl").write_text(content)
  text = page_of(run).text
  assert ("Pareto set" in text) == content.startswith("{")
  assert "Pruning" in text


def test_pruning(tmp_path):
  run = make_gold(tmp_path / "run")
  text = report.write([run]).read_text()
  metrics = lines_of(run / "metrics.jsonl")
  for title in (
    "Weight of the FLOPs in the loss, λ",
    "FLOPs \\(millions an image\\)",
    "Operators pruned after the epoch before",
    "Operators left",
  ):
    assert "<svg" in card(text, title)
  first, last = metrics[0]["operators"], metrics[-1]["operators"]
  assert f"Of {first} operators {last} are left in epoch 8." in text
  assert "The search ends at 0.9 M FLOPs." in text
  assert "<td>68% of the time</td>" in text
  assert "λ  0.00064" in text
  for words in ("built  0.9375", "left  0.9375", f"operators left  {last}"):
    assert words in text
  bars = card(text, "Operators pruned after the epoch before")
  axis = bars[bars.index("patch_") :]
  assert axis.count("#2563eb") >= sum(line["pruned"] > 0 for line in metrics)


def test_pruning_without_numbers(tmp_path):
  run = make_gold(tmp_path / "run")
  lines = lines_of(run / "metrics.jsonl")
  for line in lines:
    line |= {"lambda": 0.0, "flops": None, "built_flops": "x", "pruned": 0}
    del line["operators"]
  write_lines(run / "metrics.jsonl", lines)
  config = json.loads((run / "config.json").read_text())
  write_json(run / "config.json", config | {"gold": 3})
  text = page_of(run).text
  assert "Operators pruned" in text
  for words in ("loss, λ", "are left in", "search ends at", "built"):
    assert words not in text.replace("built anew", "")


def test_pruned_operators_are_blank(tmp_path, monkeypatch):
  run = make_gold(tmp_path / "run", layers=2)
  seen = []

  def heat_svg(title, ops, epochs, weights, *rest, shared):
    seen.append((weights, shared))
    return ""

  monkeypatch.setattr(findings.draw, "heat_svg", heat_svg)
  found = findings.weights_section(records.read(run))
  assert "Each weight is a sigmoid" in found
  arch = lines_of(run / "arch.jsonl")
  assert len(seen) == 2
  blank = 0
  for i, (weights, shared) in enumerate(seen):
    assert not shared
    for e, edge in enumerate(arch[0]["edges"]):
      want = np.array([line["weights"][f"cell{i}"][e] for line in arch]).T
      got = weights[tuple(edge)]
      np.testing.assert_array_equal(np.isnan(got), want == 0)
      np.testing.assert_array_equal(got[want > 0], want[want > 0])
      blank += (want == 0).sum()
  assert blank
  # A weight of 0 in a search that does not prune is a weight.
  other = make_search(tmp_path / "other")
  lines = lines_of(other / "arch.jsonl")
  for line in lines:
    line["weights"]["normal"][0][0] = 0.0
  write_lines(other / "arch.jsonl", lines)
  seen.clear()
  assert "add up to one" not in findings.weights_section(records.read(other))
  assert all(shared for _, shared in seen)
  assert not any(np.isnan(w).any() for ws, _ in seen for w in ws.values())


def test_a_scale_of_sigmoids_begins_at_0():
  weights = {(0, 2): np.array([[0.3, 0.4], [0.3, 0.5]])}
  arguments = ("x", ["a", "b"], [1, 2], weights, [])
  assert "weight  0.3" in findings.draw.heat_svg(*arguments)
  assert "weight  0<" in findings.draw.heat_svg(*arguments, shared=False)


def test_every_cell_of_a_stack_is_drawn(tmp_path):
  run = make_gold(tmp_path / "run", layers=14, nodes=3, epochs=5)
  found = records.read(run)
  text = findings.cells(found)
  cells = findings.layout.cells(found.genotype).values()
  layers = re.findall(r"<h3>Layers? ([^<]*) \(", text)
  numbers = set()
  for part in ", ".join(layers).split(", "):
    first, *last = map(int, part.split("–"))
    numbers |= set(range(first, (last or [first])[0] + 1))
  assert numbers == set(range(14))
  chips = [op for rows, *_ in cells for row in rows for op, _ in row]
  for op in ("sep_conv_3x3", "skip_connect"):
    assert text.count(f">{findings.layout.label(op)}<") == chips.count(op) > 0
  # Three nodes in a row want a row of the page.
  chain = [[("skip_connect", i)] for i in (0, 2, 3)]
  flat = [[("skip_connect", 0)], [("skip_connect", 1)], [("skip_connect", 0)]]
  g = genotype_lib.StackGenotype([chain, flat], range(2, 5))
  line = {"genotype": genotype_lib.format_text(g)}
  write_json(run / "result.json", line)
  text = findings.cells(records.read(run))
  assert re.findall(r'class="row"><h3>([^<]*)', text) == ["Layer 0 (normal)"]


def test_entrannas(tmp_path):
  run = make_entrannas(tmp_path / "run")
  text = report.write([run]).read_text()
  count = lines_of(run / "metrics.jsonl")[-1]["connections"]
  for words in (
    "EnTranNAS-DST on cifar10",
    "Transit cells",
    f"connections  {count}",
    "settled  60.0%",
    "<dt>derived paths alone</dt><dd>75.31%</dd>",
    "derived paths  75.3%",
    "34% of the time",
    "Derived paths: validation accuracy",
  ):
    assert words in text, words
  drawn = card(text, "Normal cell")
  rows = records.read(run).genotype.normal
  chips = [op for row in rows for op, _ in row]
  assert len(set(map(len, rows))) > 1
  assert sum(drawn.count(f">{op}<") for op in labels(chips)) == len(chips)


def labels(ops):
  return {findings.layout.label(op) for op in ops}


def test_sections_appear_only_with_data(tmp_path):
  titles = {
    make_search(tmp_path / "search"): (),
    make_retrain(tmp_path / "retrain"): (),
    make_gold(tmp_path / "gold"): SECTIONS[:2],
    make_entrannas(tmp_path / "entrannas"): SECTIONS[2:],
  }
  for run, want in titles.items():
    text = report.write([run]).read_text()
    found = tuple(name for name in SECTIONS if f"<h2>{name}</h2>" in text)
    assert found == want, run
    assert ("Share of compilation" in text) == bool(want)
    assert ("erived paths" in text) == (run.name == "entrannas")
    assert "What is missing" not in text


def test_collapsed_search_with_a_pareto_set(tmp_path):
  run = make_gold(tmp_path / "run")
  skips = [[("skip_connect", 0)], [("skip_connect", 2)]]
  g = genotype_lib.StackGenotype([skips] * 4, range(2, 4))
  line = {"epoch": 9, "step": 99, "genotype": genotype_lib.to_json(g)}
  with open(run / "genotypes.jsonl", "a") as file:
    file.write(json.dumps(line) + "\n")
  assert "Take a network of the Pareto set" in page_of(run).text
  (run / "pareto.jsonl").unlink()
  assert "Take a genotype of an earlier epoch" in page_of(run).text


def test_pareto_sets_are_compared(tmp_path):
  runs = [make_gold(tmp_path / f"run{i}", seed=i) for i in range(2)]
  runs.append(make_entrannas(tmp_path / "other"))
  text = report.write(runs, tmp_path / "all.html").read_text()
  drawn = card(text, "Pareto sets, accuracy of the search networks")
  for colour in ("#3576e8", "#e07b1a"):
    assert len(marks(drawn, colour)) == 4
  assert "Accuracy through derived paths" in text
  assert "derived paths alone" in text


def test_labels_that_touch_are_joined():
  def texts(xs, ys, labels="ABCD"):
    one = scatter.Series("x", xs, ys, labels[: len(xs)], "#000000")
    svg = scatter.svg("x", [one], "cost", "worth")
    return re.findall(r">([A-D][A-D, –]*)</text>", svg)

  assert texts([1, 2, 3], [0.1, 0.2, 0.3]) == ["A", "B", "C"]
  assert texts([3, 3, 1], [0.3, 0.3, 0.1]) == ["A, B", "C"]
  assert texts([3, 3, 3.01, 1], [0.3, 0.3, 0.3, 0.1]) == ["A–C", "D"]
  # No room beside each other, but above.
  assert texts([3, 3, 3], [0.1, 0.2, 0.3]) == ["A", "B", "C"]
  assert texts([1], [0.5]) == ["A"]
