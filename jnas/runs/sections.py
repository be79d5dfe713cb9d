"""Sections of the report on one run, as HTML."""

import json
import re
import shlex
import statistics
from typing import Any

from jnas import genotype as genotype_lib
from jnas.runs import draw, layout, page, records

COLLAPSE = 0.75  # share of skip connections that is called a collapse
PERCENT = "{:.1%}"

_RED, _GREEN, _BLUE, _ORANGE = "#d93a3a", "#1f9d4d", "#3576e8", "#e07b1a"


def algorithm(run: records.Run) -> str:
  """Returns the name of what was run, for a heading."""
  name = records.get(run.config, "algo.name")
  if run.task == "retrain" or not name:
    return "retraining" if run.task == "retrain" else "unknown algorithm"
  order = str(records.get(run.config, "algo.hypergrad", "")).replace("_", " ")
  known = {"darts": "DARTS", "amended": "Amended DARTS"}
  name = known.get(name, str(name))
  return name if order in ("", "amended") else f"{name}, {order}"


def data(run: records.Run) -> str:
  """Returns the name of the data set."""
  return str(records.get(run.config, "data.name", "unknown data"))


def headline(run: records.Run) -> str:
  """Returns the title of a run: what, on which data."""
  what = algorithm(run)
  return f"{what[:1].upper()}{what[1:]} on {data(run)}"


def last_known(run: records.Run, name: str) -> float | None:
  """Returns a metric's final value: of result.json, or the last recorded."""
  if records.is_number(run.result.get(name)):
    return run.result[name]
  found = records.curve(run, name)
  return found[-1][1] if found else None


def facts_of(run: records.Run) -> list[tuple[str, str]]:
  """Returns (name, value) of what one wants to know first."""
  facts = []
  for name, title in (
    ("test_accuracy", "test accuracy"),
    ("valid_accuracy", "validation accuracy"),
  ):
    if (value := last_known(run, name)) is not None:
      facts.append((title, f"{value:.2%}"))
  if records.is_number(params := run.result.get("params")):
    facts.append(("parameters", f"{params:,.0f}"))
  if shares := records.skip_shares(run):
    facts.append(("skip connections", f"{100 * shares[-1][1]:.3g}%"))
  epochs = max((line.get("epoch", 0) for line in run.metrics), default=None)
  if records.is_number(epochs):
    facts.append(("epochs", f"{epochs:.4g}"))
  facts.append(("seed", str(run.config.get("seed", "unknown"))))
  if (seconds := records.wall_seconds(run)) is not None:
    facts.append(("wall time", page.duration(seconds)))
  return facts


def warning(run: records.Run) -> str:
  """Returns a banner if the last genotype is mostly skip connections."""
  shares = records.skip_shares(run)
  if run.task == "retrain" or not shares or shares[-1][1] < COLLAPSE:
    return ""
  return page.banner(
    "This search has collapsed to skip connections.",
    f"{shares[-1][1]:.0%} of the operators in the normal cell do nothing but "
    "copy their input. Such a network has few weights and usually trains to "
    "poor accuracy. Take a genotype of an earlier epoch (genotypes.jsonl), "
    "stop earlier, or search with the amended hypergradient.",
  )


def missing(run: records.Run) -> str:
  """Returns the list of what could not be read, if anything."""
  return page.notes("What is missing", run.notes) if run.notes else ""


def genotype_section(run: records.Run) -> str:
  """Returns the genotype as text, and how to train it."""
  if run.genotype is None:
    return page.section("Genotype", page.absent("no genotype was written yet"))
  body = page.code(_broken(genotype_lib.format_text(run.genotype)))
  if run.task != "retrain":
    body += "<h3>To train it from scratch</h3>"
    body += page.code(_retrain_command(run))
  return page.section(
    "Genotype",
    body,
    "One click selects all of it. Pairs are (operator, input): inputs 0 and 1 "
    "are the two cells before, 2 and up the nodes of the cell.",
  )


def _broken(text: str) -> str:
  """Returns the text form on several lines, two pairs a line."""
  for name in ("normal_concat", "reduce", "reduce_concat", "concat"):
    text = text.replace(f", {name}=", f",\n  {name}=")
  text = text.replace("Genotype(", "Genotype(\n  ", 1)
  lines = []
  for line in text.splitlines():
    margin = "\n" + " " * (line.find("[(") + 1)
    pair = r"\('\w+', \d+\)"
    lines.append(re.sub(rf"({pair}, {pair},) (?=\()", rf"\1{margin}", line))
  return "\n".join(lines)


def _retrain_command(run: records.Run) -> str:
  small = ":quick" if data(run) == "digits" else ""
  flags = [("retrain.genotype", str(run.path)), ("data.name", data(run))]
  if path := records.get(run.config, "data.path"):
    flags.append(("data.path", str(path)))
  parts = [f"--config.{name}={shlex.quote(value)}" for name, value in flags]
  command = [f"python -m jnas.main --config=configs/retrain.py{small}", *parts]
  return " \\\n  ".join(command)


def cells(run: records.Run) -> str:
  """Returns the drawings of the cells, with their legend."""
  if run.genotype is None:
    return page.absent("no genotype, so no cells")
  cells = layout.cells(run.genotype)
  ops = [
    box.kind
    for arguments in cells.values()
    for box in layout.layout(*arguments).boxes
    if box.kind not in ("port", "node")
  ]
  families = dict.fromkeys(draw.family(op) for op in ops)
  legend = [(draw.FAMILIES[name], name) for name in families]
  body = page.legend([*legend, ("", "concatenation")])
  for title, arguments in cells.items():
    body += page.figure(title, draw.cell_svg(title, arguments), wide=True)
  return body


def cells_section(run: records.Run) -> str:
  """Returns the section on the cells."""
  return page.section(
    "Cells",
    cells(run),
    "From left to right. Each node adds up its two operators; the dashed lines "
    "are concatenated to the output.",
  )


def learning_section(run: records.Run) -> str:
  """Returns losses and accuracies against epochs."""
  figures = []
  for what, form in (("loss", "{:.3g}"), ("accuracy", PERCENT)):
    curves = []
    for name, word, colour in (
      (f"train_{what}", "training", _BLUE),
      (f"valid_{what}", "validation", _ORANGE),
      (f"test_{what}", "test", _GREEN),
    ):
      steps = records.points(run, name, "step")
      if len(steps) > 1:
        curves.append(draw.Curve(word, *zip(*steps, strict=True), colour, True))
      if found := records.curve(run, name):
        curves.append(draw.Curve(word, *zip(*found, strict=True), colour))
    if curves:
      svg = draw.lines_svg(what, curves, form)
      unit = " (nats)" if what == "loss" else ""
      figures.append(page.figure(what.capitalize() + unit, svg))
  body = page.grid(figures) or page.absent("no losses or accuracies recorded")
  note = "Thick: by epoch. Thin: single training steps, where recorded."
  return page.section("Learning curves", body, note)


def collapse_section(run: records.Run) -> str:
  """Returns the paper's figure 1 and the history of the genotype."""
  curves = []
  for name, found, colour in (
    ("none", records.none_weights(run), _RED),
    ("skips", records.skip_shares(run), _GREEN),
    ("accuracy", records.curve(run, "valid_accuracy"), _BLUE),
  ):
    if found:
      curves.append(draw.Curve(name, *zip(*found, strict=True), colour))
  figures, words = [], ""
  if curves:
    svg = draw.lines_svg("collapse", curves, PERCENT, (-0.02, 1.02))
    figures.append(
      page.figure("Mean weight of none, share of skips, accuracy", svg)
    )
  if moved := records.changes(run):
    svg = draw.bars_svg("genotype changes", *zip(*moved, strict=True))
    figures.append(page.figure("Operators changed since the last epoch", svg))
    times = [epoch for epoch, count in moved if count]
    words = f" The genotype changed in {len(times)} of {len(moved)} epochs"
    words += f", last in epoch {times[-1]:g}." if times else "."
  return page.section(
    "Is it collapsing?",
    page.grid(figures) or page.absent("no architecture was recorded"),
    "Figure 1 of the amended-DARTS paper: when none (red) and skip connections "
    "(green) take over, the cells found are poor. Accuracy (blue) is the "
    "search network's on validation images, not a retrained one's." + words,
  )


def weights_section(run: records.Run) -> str:
  """Returns the heat maps of the arch weights."""
  figures = []
  for cell in dict.fromkeys(c for line in run.arch for c in line["weights"]):
    try:
      panels = _heat(run, cell)
    except (KeyError, IndexError, TypeError, ValueError) as error:
      figures.append(page.absent(f"{cell}: unreadable weights ({error})"))
      continue
    if panels:
      title = {"normal": "Normal cell", "reduce": "Reduction cell"}
      figures.append(page.figure(title.get(cell, cell), panels, wide=True))
  return page.section(
    "Architecture weights",
    "".join(figures) or page.absent("no arch.jsonl, so no weights"),
    "One panel an edge (source → target), one row an operator, epochs from "
    "left to right. Dots mark the operators that the genotype keeps. A scale "
    "that does not begin at 0 magnifies weights that have hardly moved.",
  )


def _heat(run: records.Run, cell: str) -> str:
  """Returns the heat maps of one cell; operators may vanish on the way."""
  import numpy as np

  lines = [line for line in run.arch if line["weights"].get(cell)]
  ops = list(dict.fromkeys(op for line in lines for op in line["ops"]))
  weights: dict[tuple[int, int], Any] = {}
  for t, line in enumerate(lines):
    for edge, row in zip(line["edges"], line["weights"][cell], strict=True):
      empty = np.full((len(ops), len(lines)), np.nan)
      values = weights.setdefault((int(edge[0]), int(edge[1])), empty)
      for op, value in zip(line["ops"], row, strict=True):
        values[ops.index(op), t] = np.nan if value is None else value
  pairs = getattr(run.genotype, cell, None) or ()
  kept = [(op, source, i // 2 + 2) for i, (op, source) in enumerate(pairs)]
  kept = [item for item in kept if item[0] in ops]
  epochs = [line.get("epoch", t) for t, line in enumerate(lines)]
  return draw.heat_svg(f"{cell} weights", ops, epochs, weights, kept)


def terms_section(run: records.Run) -> str:
  """Returns the norms of the hypergradient's terms, and its cosine."""
  figures = []
  terms = []
  for name, word, colour in (
    ("first_order_norm", "first order", _BLUE),
    ("second_order_norm", "second order", _ORANGE),
  ):
    if found := [(x, y) for x, y in records.curve(run, name) if y > 0]:
      terms.append(draw.Curve(word, *zip(*found, strict=True), colour))
  if terms:
    svg = draw.lines_svg("hypergradient norms", terms, "{:.3g}", log=True)
    figures.append(page.figure("Norms of the two terms", svg))
  if found := records.points(run, "cosine_implicit"):
    line = draw.Curve("cosine", *zip(*found, strict=True), _GREEN)
    svg = draw.lines_svg("cosine", [line], "{:.2f}", (-1.05, 1.05))
    figures.append(page.figure("Cosine to the implicit gradient", svg))
  if not figures:
    return ""
  note = "The hypergradient is the sum of a first- and a second-order term."
  return page.section("Hypergradient", page.grid(figures), note)


def timing_section(run: records.Run) -> str:
  """Returns how long things took, and on which machine."""
  rows = []
  if (seconds := records.compile_seconds(run)) is not None:
    rows.append(("Compilation", page.duration(seconds)))
  if steps := sorted(v for _, v in records.points(run, "step_seconds")):
    low, high = (steps[round(q * (len(steps) - 1))] for q in (0.1, 0.9))
    middle = f"{page.duration(statistics.median(steps))}, median"
    spread = f"{page.duration(low)} to {page.duration(high)}"
    rows.append(("A step", f"{middle}; 80% of them {spread}"))
  if rates := [v for _, v in records.points(run, "images_per_second")]:
    rows.append(("Images a second", f"{statistics.median(rates):,.0f}, median"))
  wall = records.wall_seconds(run)
  evals = [v for _, v in records.points(run, "eval_seconds")]
  if wall and evals:
    rows.append(("Share of evaluation", f"{sum(evals) / wall:.0%} of the time"))
  if wall is not None:
    rows.append(("In all", page.duration(wall)))
  machine = [
    (name.replace("_", " "), str(value))
    for name, value in run.machine.items()
    if name not in ("command", "task", "started")
  ]
  body = page.grid(
    [
      page.figure("Time", page.table(rows)) if rows else "",
      page.figure("Machine", page.table(machine)) if machine else "",
    ]
  )
  return page.section("Time and machine", body or page.absent("not recorded"))


def config_section(run: records.Run) -> str:
  """Returns the command and the configuration of the run."""
  body = ""
  if command := run.machine.get("command"):
    body += page.code(
      shlex.join(map(str, command))
      if isinstance(command, list)
      else str(command)
    )
  if run.config:
    body += page.folded("All fields", _flat(run))
  return page.section("Command and configuration", body) if body else ""


def _flat(run: records.Run) -> str:
  """Returns the configuration, a dotted field a line, as for the flags."""

  def walk(prefix, value):
    if isinstance(value, dict) and value:
      for key, inner in value.items():
        yield from walk(f"{prefix}.{key}" if prefix else str(key), inner)
    else:
      yield f"{prefix} = {json.dumps(value, ensure_ascii=False)}"

  return "\n".join(walk("", run.config))
