"""Tests of the report on searches whose topology changes."""

import html
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
from jnas.report import chart, draw, findings, parts, records, topology
from jnas.runs import report

AXES = ("cx", "cy")
SECTIONS = ("Pareto set", "Pruning", "Transit cells")


def lines_of(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def marks(svg, colour):
  """The coordinates of the points of a colour, on the front and not."""
  found = re.findall(rf'<circle [^>]*(?:fill|stroke)="{colour}"[^>]*>', svg)
  number = r'="(-?[\d.e+]+)"'
  return [
    tuple(float(re.search(rf"\b{axis}{number}", use)[1]) for axis in AXES)
    for use in found
  ]


def card(text, title):
  """The HTML of the figure with a title."""
  return re.search(
    rf"<figure[^>]*>\n<h3>{title}</h3>.*?</figure>", text, re.S
  )[0]


def test_pareto_set_as_a_table(tmp_path):
  run = make_gold(tmp_path / "run")
  text = report.write([run]).read_text()
  rows = re.findall(r"<tr>(.*?)</tr>", card(text, "Networks"), re.S)
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
  assert "retraining from scratch gives the one to publish" in text
  assert "<th>retrained" not in text
  assert "retrained" not in card(text, "Accuracy against FLOPs")


def test_pareto_set_as_points(tmp_path):
  run = make_gold(tmp_path / "run", retrained=True)
  text = report.write([run]).read_text()
  drawn = card(text, "Accuracy against FLOPs")
  assert 'aria-label="Accuracy against FLOPs"' in drawn
  front = lines_of(run / "pareto.jsonl")
  flops = [line["flops"] for line in front]
  heights, accuracies = [], []
  for colour, key in (("blue", "accuracy"), ("green", "retrained")):
    places = marks(drawn, getattr(parts, colour.upper()))
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
  assert [n["letter"] for n in topology.front(found)] == ["D"]
  text = report.write([run]).read_text()
  assert "On the Pareto front, the line, is D;" in text
  drawn = card(text, "Accuracy against FLOPs")
  for title in ("FLOPs (millions an image)", "accuracy"):
    assert f">{title}</text>" in drawn
  lines[1]["accuracy"] = 0.95
  lines[0]["accuracy"] = 0.95  # costs more than B and is no better
  write_lines(run / "pareto.jsonl", lines)
  found = topology.networks(records.read(run))
  assert [n["letter"] for n in topology.front(found)] == ["D", "B"]
  line, full, hollow = topology.marks(found, "x", "#000000")
  front = [(n["flops"], n["accuracy"]) for n in topology.front(found)]
  assert line.points == full.points == front
  assert (full.labels, hollow.labels) == (["D", "B"], ["A", "C"])


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
    g = genotype_lib.parse(html.unescape(shown))
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
  assert [n["letter"] for n in found] == ["A", "B", "C", "D"]
  assert (found[1]["text"], found[2]["text"]) == ("", "")
  known = {key for key, value in found[2].items() if value is not None}
  assert known == {"letter", "text"}
  _, full = topology.marks(found, "x", "#000000")
  assert full.labels == ["D", "B"]
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
  last = metrics[-1]["operators"]
  assert "68% of the time" in text
  assert "λ  0.00064" in text
  for words in ("built  0.9375", "left  0.9375", f"operators left  {last}"):
    assert words in text
  bars = card(text, "Operators pruned after the epoch before")
  assert bars.count("<rect") == len(metrics)


def test_pruning_without_numbers(tmp_path):
  run = make_gold(tmp_path / "run")
  lines = lines_of(run / "metrics.jsonl")
  for line in lines:
    line |= {"lambda": 0.0, "flops": None, "built_flops": "x", "pruned": 0}
    del line["operators"]
  write_lines(run / "metrics.jsonl", lines)
  text = page_of(run).text
  assert "Operators pruned" in text
  for words in ("loss, λ", "Operators left", "built"):
    assert words not in text.replace("built anew", "")


def test_pruned_operators_are_blank(tmp_path):
  run = make_gold(tmp_path / "run", layers=2)
  found = findings.weights(records.read(run))
  assert "Each weight is a sigmoid" in found.note
  arch = lines_of(run / "arch.jsonl")
  assert len(found.parts) == 2
  blank = 0
  for i, figure in enumerate(found.parts):
    assert "weight  0<" in figure.svg  # a scale of sigmoids begins at 0
    for e, panel in enumerate(figure.data["heat"]["panels"]):
      want = np.array([line["weights"][f"cell{i}"][e] for line in arch]).T
      got = np.array(panel["values"], float)
      np.testing.assert_array_equal(np.isnan(got), want == 0)
      np.testing.assert_allclose(got[want > 0], want[want > 0], rtol=5e-3)
      blank += (want == 0).sum()
  assert blank
  # A weight of 0 in a search that does not prune is a weight.
  other = make_search(tmp_path / "other")
  lines = lines_of(other / "arch.jsonl")
  for line in lines:
    line["weights"]["normal"][0][0] = 0.0
  write_lines(other / "arch.jsonl", lines)
  found = findings.weights(records.read(other))
  assert "add up to one" not in found.note
  values = found.parts[0].data["heat"]["panels"][0]["values"]
  assert values[0] == [0.0] * len(lines)


def test_a_scale_of_weights_that_have_hardly_moved_is_narrow():
  weights = {(0, 2): [[0.3, 0.4], [0.3, 0.5]]}
  arguments = ("x", ["a", "b"], [1, 2], weights, [])
  assert "weight  0.3" in draw.heat(*arguments).svg
  assert "weight  0<" in draw.heat(*arguments, shared=False).svg


def test_every_cell_of_a_stack_is_drawn(tmp_path):
  run = make_gold(tmp_path / "run", layers=14, nodes=3, epochs=5)
  found = records.read(run)
  shown = findings.cells(found)[1:]
  text = "".join(figure.svg for figure in shown)
  cells = findings.layout.cells(found.genotype).values()
  titles = [figure.title for figure in shown]
  layers = re.findall(r"Layers? ([^(]*) \(", "\n".join(titles))
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
  _, *shown = findings.cells(records.read(run))
  wide = [figure.title for figure in shown if not figure.half]
  assert wide == ["Layer 0 (normal)"]


def test_entrannas(tmp_path):
  run = make_entrannas(tmp_path / "run")
  text = report.write([run]).read_text()
  count = lines_of(run / "metrics.jsonl")[-1]["connections"]
  for words in (
    "EnTranNAS-DST on cifar10",
    "Transit cells",
    f"operators  {count}",
    "frozen  60.0%",
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
  drawn = card(text, "Accuracy of the search networks against FLOPs")
  assert len(marks(drawn, "#3576e8")) == 8  # two runs of one group
  assert "Accuracy through derived paths" in text
  assert "derived paths alone" in text


def test_labels_overlap_nothing():
  def places(points):
    mark = chart.Mark("x", points, kind="dots", labels="ABCDEFGH")
    svg = chart.figure("x", [mark], x="cost", y="worth").svg
    found = re.findall(r'<text x="(\S+)" y="(\S+)"[^>]*>([A-H])</text>', svg)
    return [(float(x), float(y)) for x, y, _ in found]

  assert len(places([(1, 0.1), (2, 0.2), (3, 0.3)])) == 3
  assert len(places([(1, 0.5)])) == 1
  # Around a point there is room for four; the others are told by the pointer.
  found = places([(3, 0.3)] * 6 + [(1, 0.1), (5, 0.5)])
  assert len(found) == 6
  for i, a in enumerate(found):
    for b in found[:i]:
      assert abs(a[0] - b[0]) > 6 or abs(a[1] - b[1]) >= 9
