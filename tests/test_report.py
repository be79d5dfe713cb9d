"""Tests of the report: what it shows, and that broken runs don't break it."""

import base64
import hashlib
from html.parser import HTMLParser
import json
import re
import subprocess
import sys

from made_up_runs import (
  make_nas_bench_201,
  make_retrain,
  make_search,
  make_stack,
  write_json,
  write_lines,
  write_restricted,
)
import pytest

from jnas import genotype as genotype_lib
from jnas.report import draw, findings, layout, page, parts, records
from jnas.runs import report


class Page(HTMLParser):
  """The text, ids and addresses of a page; fails on unbalanced tags."""

  EMPTY = {"meta", "path", "image", "img", "rect", "circle"}

  def __init__(self, text):
    super().__init__()
    self.stack, self.ids, self.links, self.text = [], [], [], ""
    self.feed(text)
    assert not self.stack

  def handle_starttag(self, tag, attributes):
    for name, value in attributes:
      if name == "id":
        self.ids.append(value)
      if name in ("src", "href", "xlink:href"):
        self.links.append(value)
    if tag not in self.EMPTY:
      self.stack.append(tag)

  def handle_startendtag(self, tag, attributes):
    self.handle_starttag(tag, attributes)
    if tag not in self.EMPTY:
      self.stack.pop()

  def handle_endtag(self, tag):
    if tag not in self.EMPTY:
      assert self.stack.pop() == tag

  def handle_data(self, data):
    if self.stack and self.stack[-1] in ("script", "style"):
      return
    self.text += data.replace("\N{NO-BREAK SPACE}", " ")


def test_values_of_a_table_break_before_spreads_and_between_parts():
  value = "1 min 2 s ± 3 s: 4 of 5, 6 %"
  table = parts.Table([["x y", value]], ["", "a"])
  text = page.document("", "", [parts.Section("", [table])])
  table = re.search("<table.*?</table>", text, re.S)[0]
  assert Page(table).text.split() == ["a", *f"x y{value}".split()]
  kept = "1_min_2_s ±_3_s: 4_of_5, 6_%".replace("_", "\N{NO-BREAK SPACE}")
  assert f"<td>{kept}</td>" in table


def page_of(*dirs, out=None):
  return Page(report.write(dirs, out).read_text())


def test_search_report(tmp_path):
  run = make_search(tmp_path / "run")
  found = page_of(run)
  for words in (
    "Amended DARTS on cifar10",
    "1,930,618",
    "validation accuracy",
    "Normal cell",
    "Reduction cell",
    "sep conv 3×3",
    "NVIDIA H200",
    "2025-11-22 01:28 UTC",
    "47.3 s",
    "--config=configs/retrain.py",
    f"--config.retrain.genotype={run}",
    'algo.name = "amended"',
    "Norms of the two terms",
    "Cosine to the implicit gradient",
  ):
    assert words in found.text, words
  assert "What is missing" not in found.text
  assert "collapsed" not in found.text
  assert not list(run.glob(".report.html*"))
  # What is printed can be pasted back.
  text = re.search(r"Genotype\(.*?range\(2, 6\)\)", found.text, re.S)[0]
  result = json.loads((run / "result.json").read_text())
  assert genotype_lib.parse(text) == genotype_lib.parse(result["genotype"])


@pytest.mark.parametrize(
  "data, words",
  [
    ({}, "imagenet.py --config.retrain.genotype=RUN --config.data.name=imagenet"
     " --config.data.path=ILSVRC2012 Cells"),
    ({"limit": 1000, "size": 64}, "imagenet.py --config.retrain.genotype=RUN "
     "--config.data.name=imagenet --config.data.path=ILSVRC2012 "
     "--config.data.limit=1000 --config.data.size=64 --config.space.cells=3 "
     "--config.train.length='4 epochs' --config.train.batch=96 Cells"),
  ],
)
def test_what_is_found_on_large_images_is_trained_on_them(
  tmp_path, data, words
):
  run = make_search(tmp_path / "run")
  config = json.loads((run / "config.json").read_text())
  config["space"] = {"stem": "imagenet", "cells": 3}
  config["data"] |= {"name": "imagenet", "path": "ILSVRC2012"} | data
  (run / "config.json").write_text(json.dumps(config))
  found = re.sub(r"[\s\\]+", " ", page_of(run).text)
  assert f"--config=configs/{words.replace('RUN', str(run))}" in found


def test_page_is_self_contained(tmp_path):
  found = page_of(make_search(tmp_path / "run"))
  assert found.links
  assert all(link.startswith(("#", "data:image/")) for link in found.links)
  targets = {link[1:] for link in found.links if link.startswith("#")}
  assert targets <= set(found.ids)
  assert len(found.ids) == len(set(found.ids))
  text = (tmp_path / "run" / "report.html").read_text()
  assert not re.search(r"url\((?!#)|@import|https?://(?!www.w3.org)", text)
  # One script runs: the page's own, by its digest.
  scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
  assert len(scripts) == 1
  digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest())
  assert f"script-src 'sha256-{digest.decode()}'" in text


def test_report_is_reproducible(tmp_path):
  run = make_search(tmp_path / "run")
  assert report.write([run]).read_text() == report.write([run]).read_text()


def test_collapse_is_called_by_its_name(tmp_path):
  run = make_search(tmp_path / "run", skip=3.0)
  assert "has collapsed to skip connections" in page_of(run).text


@pytest.mark.parametrize("name", ["DARTS_V2", "GDAS_F1", "NASNet"])
def test_retrain_report(tmp_path, name):
  found = page_of(make_retrain(tmp_path / "run", name))
  assert "Retraining on cifar10" in found.text
  assert "97.24%" in found.text
  assert "Architecture weights" not in found.text
  assert "What is missing" not in found.text
  assert ("fixed, as in GDAS" in found.text) == (name == "GDAS_F1")


def test_chance_is_called_by_its_name(tmp_path):
  run = make_search(tmp_path / "run")
  assert "is chance" not in page_of(run).text
  arch = [json.loads(x) for x in (run / "arch.jsonl").read_text().splitlines()]

  def write(spread):
    row = [1 + spread, 1 - spread, *[1] * 6]
    arch[-1]["weights"] = {"normal": [[v / 80 for v in row]] * 14}
    write_lines(run / "arch.jsonl", arch)

  write(0.01)
  found = page_of(run).text
  assert "This genotype is chance." in found
  assert "2.0794 nats on an edge, of 2.0794" in found
  assert "train.length" in found
  write(0.9)
  assert "is chance" not in page_of(run).text
  # Chance is no collapse.
  collapsed = make_search(tmp_path / "collapsed", skip=3.0)
  assert "has collapsed" in page_of(collapsed).text
  write_lines(collapsed / "arch.jsonl", arch)
  write(0.01)
  (collapsed / "arch.jsonl").write_bytes((run / "arch.jsonl").read_bytes())
  found = page_of(collapsed).text
  assert "is chance" in found and "has collapsed" not in found


@pytest.mark.parametrize("name", ["cifar10", "digits", "folder"])
def test_training_fits_the_data(tmp_path, name):
  run = make_search(tmp_path / "run")
  config = json.loads((run / "config.json").read_text())
  config["data"] = {"name": name, "path": "my images", "limit": 0}
  config["data"] |= {"crop_pad": 2, "flip": True, "cutout": 0}
  config["space"] = {"cells": 5, "width": 12}
  config["train"] = {"length": "30 epochs", "batch": 16}
  write_json(run / "config.json", config)
  found = page_of(run).text
  assert (":quick" in found) == (name != "cifar10")
  assert ("20 cells, 36 channels, 600 epochs" in found) == (name == "cifar10")
  assert "--config.data.path='my images'" in found
  for flag in (
    *("space.cells=5", "space.width=12", "train.batch=16", "data.cutout=0"),
    *("train.length='30 epochs'", "data.crop_pad=2", "data.flip=True"),
  ):
    assert (f"--config.{flag}" in found) == (name == "folder"), flag
  # A part of CIFAR is other data.
  config["data"]["limit"] = 512
  write_json(run / "config.json", config)
  limited = "--config.data.limit=512" in page_of(run).text
  assert limited == (name != "digits")


def test_a_drawing_has_colours_without_a_page():
  g = genotype_lib.ZOO["DARTS_V2"]
  svg = draw.cell_svg(g)
  assert svg.count('class="title"') == 2
  assert "prefers-color-scheme: dark" in svg and 'class="ground"' in svg
  # Every class has a colour in the picture itself, or it would be black.
  used = set(" ".join(re.findall(r'class="([^"]*)"', svg)).split())
  assert used and all(f".{name} " in svg or f".{name}," in svg for name in used)
  assert "var(" not in svg.replace('style="--w', "")
  one = draw.cell_svg(g, "Reduction cell")
  assert one.count('class="title"') == 1 and "max pool 3×3" in one
  with pytest.raises(ValueError, match="'Normal cell', 'Reduction cell', got"):
    draw.cell_svg(g, "normal")


def test_pruned_operators_leave_gaps(tmp_path):
  run = make_search(tmp_path / "run")
  lines = [json.loads(x) for x in (run / "arch.jsonl").read_text().splitlines()]
  for line in lines[2:]:
    line["ops"] = line["ops"][:5]
    rows = line["weights"]
    line["weights"] = {c: [row[:5] for row in rows[c]] for c in rows}
  write_lines(run / "arch.jsonl", lines)
  assert "unreadable" not in page_of(run).text


def test_command_line(tmp_path, capsys):
  run = make_retrain(tmp_path / "run")
  assert report.main([str(run)]) == 0
  assert capsys.readouterr().out.strip() == str(run / "report.html")
  out = tmp_path / "new" / "page.html"
  assert report.main([str(run), "--out", str(out)]) == 0
  assert out.exists()


def test_importing_is_cheap():
  code = "import sys, jnas.runs.report; print('jinja2' in sys.modules)"
  out = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  )
  assert out.stdout.strip() == "False"


def test_uniform_weights_are_told_apart(tmp_path):
  """After a short search all weights are 1 / O in the first two digits."""
  run = make_search(tmp_path / "run")
  lines = [json.loads(x) for x in (run / "arch.jsonl").read_text().splitlines()]
  for line in lines:
    rows = line["weights"]["normal"]
    line["weights"] = {"normal": [[0.124] * 7 + [0.132] for _ in rows]}
  write_lines(run / "arch.jsonl", lines)
  found = page_of(run).text
  assert "weight  0.124" in found
  assert "0.132" in found


def test_report_on_nas_bench_201(tmp_path):
  run = make_nas_bench_201(tmp_path / "run")
  found = page_of(run).text
  for words in (
    "|skip_connect~0|+|skip_connect~0|nor_conv_3x3~1|+",
    "0 is the input and 3 the output",
    "nor conv 3×3",
    "true accuracy",
    "92.12%",  # 0.94 - 0.3 / 16
    "NAS-Bench-201, cifar10_200",
    "best of all  94.47%",
    "mean of all  87.06%",
    "DARTS  54.30%",
    "2 → 3",
    "The genotype changed in",
  ):
    assert words in found, words
  for words in (
    *("unreadable", "What is missing", "collapsed", "concatenation"),
    "Skip connections",  # the section on restricted.json
  ):
    assert words not in found, words


def test_true_accuracy_needs_no_benchmark(tmp_path):
  run = make_nas_bench_201(tmp_path / "run")
  (run / "benchmark.json").unlink()
  found = page_of(run).text
  assert "True accuracy" in found
  assert "of all  " not in found
  assert "What is missing" not in found
  content = {"name": 3, "best": "x", "mean": None, "published": [1]}
  write_json(run / "benchmark.json", content)
  assert "True accuracy" in page_of(run).text


def test_collapse_in_every_kind(tmp_path):
  words = "has collapsed to skip connections"
  run = make_nas_bench_201(tmp_path / "run", skips=5)
  assert words in page_of(run).text
  run = make_nas_bench_201(tmp_path / "run", skips=4)
  assert words not in page_of(run).text
  run = make_stack(tmp_path / "stack")
  assert words not in page_of(run).text
  skip = [("skip_connect", 0), ("skip_connect", 1)] * 4
  none = [("sep_conv_3x3", 0), ("sep_conv_3x3", 1)] * 4
  # Six of eight layers are normal; the others do not count.
  cells = [skip, skip, none, skip, skip, none, skip, none]
  g = genotype_lib.StackGenotype(cells, range(2, 6))
  line = {"epoch": 5, "step": 50, "genotype": genotype_lib.to_json(g)}
  with open(run / "genotypes.jsonl", "a") as file:
    file.write(json.dumps(line) + "\n")
  assert "83% of the operators in the normal cells" in page_of(run).text


def test_report_on_independent_cells(tmp_path):
  run = make_stack(tmp_path / "run", layers=8)
  found = page_of(run).text
  for words in (
    "Layers 0, 1 (normal)",
    "Layer 2 (reduction)",
    "Layers 6, 7 (normal)",
    "8 cells have weights, 4 are drawn",
    "Layer 0 (normal)",
    "Layer 1 (normal)",
    "Layer 5 (reduction)",
  ):
    assert words in found, words
  assert "unreadable" not in found
  assert "What is missing" not in found
  text = re.search(r"Genotype\(.*?range\(2, 6\)\)", found, re.S)[0]
  assert text.count("\n") == 9
  assert genotype_lib.parse(text) == records.read(run).genotype


def test_few_cells_are_all_drawn(tmp_path):
  found = page_of(make_stack(tmp_path / "run", layers=4)).text
  assert "are drawn" not in found
  for i in range(4):
    assert re.search(rf"Layer {i} \((normal|reduction)\)", found)


def test_edges_of_a_cell_of_its_own(tmp_path):
  run = make_search(tmp_path / "run")
  lines = [json.loads(x) for x in (run / "arch.jsonl").read_text().splitlines()]
  for t, line in enumerate(lines):
    count = 5 - t
    line["edges_of"] = {"reduce": [[0, 9], *line["edges"][1:count]]}
    line["weights"]["reduce"] = line["weights"]["reduce"][:count]
    line["weights"]["reduce"][0][3] = None
  write_lines(run / "arch.jsonl", lines)
  found = page_of(run).text
  assert "unreadable" not in found
  assert "c k−2 → 7" in found
  # No other list of edges: then the cell with one is still drawn.
  for line in lines:
    del line["edges"]
  write_lines(run / "arch.jsonl", lines)
  found = page_of(run).text
  assert "normal: unreadable weights" in found
  assert "c k−2 → 7" in found


def test_restricted_skip_connections(tmp_path):
  run = make_search(tmp_path / "run")
  assert "at most" not in page_of(run).text
  write_restricted(run, chosen=3)
  found = page_of(run).text
  assert "at most 3, chosen" in found
  assert "at most 2, chosen" not in found
  assert "skip connect (0), sep conv 3×3 (1) | " in found
  texts = re.findall(r"# at most .*\n(Genotype.*?None\))", found)
  entries = json.loads((run / "restricted.json").read_text())
  assert texts == [entry["genotype"] for entry in entries]


def test_metrics_without_a_title_are_drawn_by_their_names(tmp_path):
  run = make_search(tmp_path / "run")
  assert "Other metrics" not in page_of(run).text
  lines = (run / "metrics.jsonl").read_text().splitlines()
  lines = list(map(json.loads, lines))
  for line in lines:
    line["valid_perplexity"] = 70.0 - line["epoch"]
    line["my_metric"] = line["epoch"]
  write_lines(run / "metrics.jsonl", lines)
  found = page_of(run).text
  assert "Other metrics" in found and "my_metric" in found
  assert "Perplexity" in found and "validation perplexity66" in found


def test_a_slider_has_the_cells_of_each_epoch(tmp_path):
  for make in (make_search, make_stack):
    run = make(tmp_path / make.__name__, epochs=5)
    section = findings.drawings(records.read(run))
    (slider,) = [part for part in section.parts if part.kind == "history"]
    history = records.read(run).history
    assert [epoch for epoch, _ in slider.frames] == [e for e, _ in history]
    for (_, frame), (_, g) in zip(slider.frames, history, strict=True):
      cells = layout.cells(g)
      assert [title for title, _ in frame] == list(cells)
      for title, index in frame:
        wanted = draw.cell_picture(title, cells[title])
        assert slider.pictures[index] == wanted
    # Without a script the page shows the last epoch.
    shown = [part.svg for part in section.parts if part.kind == "figure"]
    assert shown == [slider.pictures[i] for _, i in slider.frames[-1][1]]
    assert "<svg" not in page_of(run).text
  # Of many epochs there are some, and the last.
  run = make_search(tmp_path / "long", epochs=130, steps=1)
  slider = findings._history(records.read(run), 2)
  assert 20 < len(slider.frames) <= 60 and slider.frames[-1][0] == 130
