"""Sections of the report on one run, as HTML: how it went.

What it found is told by `findings`.
"""

import json
import shlex
import statistics

from jnas.runs import draw, page, records

COLLAPSE = 0.75  # share of skip connections that is called a collapse
# Entropy of the arch weights, as a share of its maximum, above which the best
# operator is best by chance: of eight, logits then differ by 0.1 or so.
UNDECIDED = 0.997
PERCENT = "{:.1%}"

RED, GREEN, BLUE, ORANGE = "#d93a3a", "#1f9d4d", "#3576e8", "#e07b1a"
PURPLE = "#8b45d6"


def algorithm(run: records.Run) -> str:
  """Returns the name of what was run, for a heading."""
  name = records.get(run.config, "algo.name")
  if run.task == "retrain" or not name:
    return "retraining" if run.task == "retrain" else "unknown algorithm"
  order = str(records.get(run.config, "algo.hypergrad", "")).replace("_", " ")
  known = {"darts": "DARTS", "amended": "Amended DARTS", "gdas": "GDAS"}
  known |= {"pcdarts": "PC-DARTS", "pdarts": "P-DARTS"}
  known |= {"entrannas": "EnTranNAS", "dst": "EnTranNAS-DST"}
  if name == "goldnas":  # one level, so no hypergradient
    return "GOLD-NAS"
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
    ("child_accuracy", "derived paths alone"),
    ("true_accuracy", "true accuracy"),
  ):
    if (value := last_known(run, name)) is not None:
      facts.append((title, f"{value:.2%}"))
  if records.is_number(params := run.result.get("params")):
    facts.append(("parameters", f"{params:,.0f}"))
  if shares := records.skip_shares(run):
    facts.append(("skip connections", f"{100 * shares[-1][1]:.3g}%"))
  epochs = [line.get("epoch") for line in run.metrics]
  if epochs := list(filter(records.is_number, epochs)):
    facts.append(("epochs", f"{max(epochs):.4g}"))
  facts.append(("seed", str(run.config.get("seed", "unknown"))))
  if (seconds := records.wall_seconds(run)) is not None:
    facts.append(("wall time", page.duration(seconds)))
  return facts


def warning(run: records.Run) -> str:
  """Returns a banner if the last genotype is chance, or collapsed."""
  if (found := records.entropy(run)) and found[0] > UNDECIDED * found[1]:
    return page.banner(
      "This genotype is chance.",
      f"The architecture weights have hardly moved: their entropy is "
      f"{found[0]:.4f} nats on an edge, of {found[1]:.4f} where all operators "
      "weigh the same. Another seed would give other cells. Search longer "
      "(train.length), or with a higher arch.lr.",
    )
  shares = records.skip_shares(run)
  if run.task == "retrain" or not shares or shares[-1][1] < COLLAPSE:
    return ""
  advice = (
    "Take a genotype of an earlier epoch (genotypes.jsonl), stop earlier, or "
    "search with the amended hypergradient."
  )
  if run.pareto:
    advice = (
      "Take a network of the Pareto set whose cells hold other operators, or "
      "end the pruning at more FLOPs."
    )
  return page.banner(
    "This search has collapsed to skip connections.",
    f"{shares[-1][1]:.0%} of the operators in the normal cells do nothing but "
    "copy their input. Such a network has few weights and usually trains to "
    f"poor accuracy. {advice}",
  )


def missing(run: records.Run) -> str:
  """Returns the list of what could not be read, if anything."""
  return page.notes("What is missing", run.notes) if run.notes else ""


def learning_section(run: records.Run) -> str:
  """Returns losses and accuracies against epochs."""
  figures = []
  for what, form in (("loss", "{:.3g}"), ("accuracy", PERCENT)):
    curves = []
    for name, word, colour in (
      (f"train_{what}", "training", BLUE),
      (f"valid_{what}", "validation", ORANGE),
      (f"child_{what}", "derived paths", PURPLE),
      (f"test_{what}", "test", GREEN),
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
  if records.curve(run, "child_accuracy"):
    note += (
      " Derived paths: validation accuracy of the search network through these "
      "alone, with its own weights."
    )
  return page.section("Learning curves", body, note)


def collapse_section(run: records.Run) -> str:
  """Returns the paper's figure 1 and the history of the genotype."""
  curves = []
  for name, found, colour in (
    ("none", records.none_weights(run), RED),
    ("skips", records.skip_shares(run), GREEN),
    ("accuracy", records.curve(run, "valid_accuracy"), BLUE),
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


def terms_section(run: records.Run) -> str:
  """Returns the norms of the hypergradient's terms, and its cosine."""
  figures = []
  terms = []
  for name, word, colour in (
    ("first_order_norm", "first order", BLUE),
    ("second_order_norm", "second order", ORANGE),
  ):
    if found := [(x, y) for x, y in records.curve(run, name) if y > 0]:
      terms.append(draw.Curve(word, *zip(*found, strict=True), colour))
  if terms:
    svg = draw.lines_svg("hypergradient norms", terms, "{:.3g}", log=True)
    figures.append(page.figure("Norms of the two terms", svg))
  if found := records.points(run, "cosine_implicit"):
    line = draw.Curve("cosine", *zip(*found, strict=True), GREEN)
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
  if shares := records.points(run, "compile_share", "epoch"):
    share = f"{shares[-1][1]:.0%} of the time"
    rows.append(("Share of compilation", share))
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
