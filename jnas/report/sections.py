"""Sections of the page on one run: how it went.

What it found is told by `findings`. Every section is a function of a run that
returns a `parts.Section`, or None where there is nothing to tell.
"""

from collections.abc import Mapping
import json
import shlex
import statistics
from typing import Any

from jnas.report import chart, measures, parts, records
from jnas.report.parts import BLUE, GREEN, ORANGE, PURPLE, RED

COLLAPSE = 0.75  # share of skip connections that is called a collapse
# Entropy of the arch weights, as a share of its maximum, above which the best
# operator is best by chance: of eight, logits then differ by 0.1 or so.
UNDECIDED = 0.997
PERCENT = "{:.1%}"

# Which split a metric is of, by the beginning of its name, and how it is drawn.
_SPLITS = (
  ("train", "training", BLUE),
  ("valid", "validation", ORANGE),
  ("child", "derived paths", PURPLE),
  ("test", "test", GREEN),
)
# Metrics that have a section of their own, or none; all others have titles of
# the run, or are drawn by their names.
_KNOWN = (
  *("skip_share", "none_weight", "true_accuracy", "entropy"),
  *("step_seconds", "epoch_seconds", "eval_seconds", "compile_seconds"),
  *("compile_share", "images_per_second", "tokens_per_second"),
  *("kind", "step", "epoch"),
)
_TRAINING = {
  "title": "Schedules and gradients",
  "figures": [
    {"title": "Learning rate", "metrics": {"lr": "learning rate"}},
    {
      "title": "Rates of dropping",
      "metrics": {"drop_path_rate": "paths", "drop_skip_rate": "skips"},
    },
    {"title": "Norm of the gradient", "metrics": {"gradient_norm": "norm"}},
    {"title": "Penalty in the loss", "metrics": {"penalty": "penalty"}},
    {
      "title": "Whether the weights are averaged",
      "metrics": {"averaging": "1: they are"},
      "form": "{:.0f}",
      "limits": [-0.02, 1.02],
    },
  ],
}
_TERMS = {"first_order_norm": "first order"}
_TERMS |= {"second_order_norm": "second order"}
_HYPERGRADIENT = {
  "title": "Hypergradient",
  "note": "The hypergradient is the sum of a first- and a second-order term.",
  "figures": [
    {"title": "Norms of the two terms", "metrics": _TERMS, "log": True},
    {
      "title": "Cosine to the implicit gradient",
      "metrics": {"cosine_implicit": "cosine"},
      "limits": [-1.05, 1.05],
    },
  ],
}


def algorithm(run: records.Run) -> str:
  """Returns the name of what was run, for a heading."""
  if run.trained:
    return {"retrain": "retraining"}.get(run.task, "segmentation")
  titled = run.titles.get("algorithm")
  if isinstance(titled, str) and titled:
    return titled
  name = records.get(run.config, "algo.name")
  return str(name) if name else "unknown algorithm"


def data(run: records.Run) -> str:
  """Returns the name of the data set."""
  return str(records.get(run.config, "data.name", "unknown data"))


def title(run: records.Run) -> str:
  """Returns the title of a run: what, on which data."""
  what = algorithm(run)
  return f"{what[:1].upper()}{what[1:]} on {data(run)}"


def line(run: records.Run) -> str:
  """Returns what stands under the title of a run: its name and its start."""
  return " · ".join(filter(None, [run.name, records.started(run)]))


def facts(run: records.Run) -> list[tuple[str, str]]:
  """Returns (name, value) of what one wants to know first."""
  found = []
  goal = run.headline
  whats = sorted(
    {goal.name, *_measures(run)} - {"loss"},
    key=lambda what: (what != goal.name, what),
  )
  for what in whats:
    for split, word in (
      ("test", "test {}"),
      ("valid", "validation {}"),
      ("child", "derived paths alone"),
      ("true", "true {}"),
    ):
      value = measures.last_known(run, f"{split}_{what}")
      if value is not None:
        tell = parts.share if what in goal.shares else parts.number
        found.append((word.format(what.replace("_", " ")), tell(value)))
  if records.is_number(params := run.result.get("params")):
    found.append(("parameters", f"{params:,.0f}"))
  if shares := measures.skip_shares(run):
    found.append(("skip connections", f"{100 * shares[-1][1]:.3g}%"))
  if epochs := run.series.get("epoch"):
    found.append(("epochs", f"{max(value for *_, value in epochs):.4g}"))
  found.append(("seed", run.seed))
  if (seconds := measures.wall_seconds(run)) is not None:
    found.append(("wall time", parts.duration(seconds)))
  return found


def opening(run: records.Run) -> parts.Section:
  """Returns what stands at the top: warnings, what is missing, figures."""
  found: list[parts.Part] = list(warnings(run))
  if run.notes:
    found.append(parts.Notes("What is missing", run.notes))
  return parts.Section("", [*found, parts.Facts(facts(run))])


def warnings(run: records.Run) -> list[parts.Banner]:
  """Returns a banner if the last genotype is chance, or collapsed."""
  if (found := measures.entropy(run)) and found[0] > UNDECIDED * found[1]:
    return [
      parts.Banner(
        "This genotype is chance.",
        "The architecture weights have hardly moved: their entropy is "
        f"{found[0]:.4f} nats on an edge, of {found[1]:.4f} where all "
        "operators weigh the same. Another seed would give other cells. Search "
        "longer (train.length), or with a higher arch.lr.",
      )
    ]
  shares = measures.skip_shares(run)
  if run.trained or not shares or shares[-1][1] < COLLAPSE:
    return []
  advice = (
    "Take a genotype of an earlier epoch (genotypes.jsonl), stop earlier, or "
    "search with the amended hypergradient."
  )
  if run.pareto:
    advice = (
      "Take a network of the Pareto set whose cells hold other operators, or "
      "end the pruning at more FLOPs."
    )
  return [
    parts.Banner(
      "This search has collapsed to skip connections.",
      f"{shares[-1][1]:.0%} of the operators in the normal cells do nothing "
      "but copy their input. Such a network has few weights and usually trains "
      f"to poor accuracy. {advice}",
    )
  ]


def learning(run: records.Run) -> parts.Section:
  """Returns losses and the other measures against epochs."""
  figures = []
  for what in _measures(run):
    form = run.headline.form(PERCENT, "{:.4g}", what)
    marks = []
    for split, word, colour in _SPLITS:
      name = f"{split}_{what}"
      steps = measures.points(run, name, "step")
      if len(steps) > 1:
        marks.append(chart.Mark(word, steps, colour, "faint"))
      if found := measures.curve(run, name):
        marks.append(chart.Mark(word, found, colour))
    unit = " (nats)" if what == "loss" else ""
    title = f"{what[:1].upper()}{what[1:]}".replace("_", " ") + unit
    figures.append(chart.figure(title, marks, form=form))
  note = "Thick: by epoch. Thin: single training steps, where recorded."
  if measures.curve(run, f"child_{run.headline.name}"):
    note += (
      f" Derived paths: validation {run.headline.words} of the search network "
      "through these alone, with its own weights."
    )
  absent = [parts.Text("No losses were recorded.")]
  return parts.Section("Learning curves", figures or absent, note)


def _measures(run: records.Run) -> list[str]:
  """Returns what is measured of several splits: loss, accuracy, ..."""
  splits = [split for split, *_ in _SPLITS]
  pairs = [name.partition("_")[::2] for name in run.series]
  found = {what for split, what in pairs if what and split in splits}
  return sorted(found, key=lambda what: (what != "loss", what))


def collapse(run: records.Run) -> parts.Section:
  """Returns figure 1 of Bi et al. (2019), and the history of the genotype."""
  goal = run.headline
  curves = [
    ("mean weight of none", "none", measures.curve(run, "none_weight"), RED),
    ("share of skips", "skips", measures.skip_shares(run), GREEN),
  ]
  if goal.name in goal.shares:  # what is none has another scale
    found = measures.curve(run, f"valid_{goal.name}")
    curves.append((goal.words, goal.words, found, BLUE))
  curves = [one for one in curves if one[2]]
  figures = []
  words = (
    "Figure 1 of the amended-DARTS paper: when none (red) and skip connections "
    "(green) take over, the cells found are poor."
  )
  if curves:
    title = ", ".join(name for name, *_ in curves)
    marks = [chart.Mark(*one) for _, *one in curves]
    figures.append(
      chart.figure(
        title[0].upper() + title[1:],
        marks,
        form=PERCENT,
        limits=(-0.02, 1.02),
      )
    )
    if curves[-1][-1] == BLUE:
      words += (
        f" {goal.words.capitalize()} (blue) is the search network's on "
        "validation images, not a retrained one's."
      )
  if moved := measures.changes(run):
    mark = chart.Mark("operators", moved, BLUE, "bars", legend=False)
    title = "Operators changed since the last epoch"
    figures.append(chart.figure(title, [mark], form="{:.0f}"))
    times = [epoch for epoch, count in moved if count]
    words += f" The genotype changed in {len(times)} of {len(moved)} epochs"
    words += f", last in epoch {times[-1]:.4g}." if times else "."
  return parts.Section(
    "Is it collapsing?",
    figures or [parts.Text("No architecture was recorded.")],
    words,
  )


def hypergradient(run: records.Run) -> parts.Section | None:
  """Returns the norms of the hypergradient's terms, and its cosine."""
  return described(run, _HYPERGRADIENT)


def training(run: records.Run) -> parts.Section | None:
  """Returns what follows a schedule, and the size of the gradient."""
  return described(run, _TRAINING)


def titled(run: records.Run) -> list[parts.Section | None]:
  """Returns the sections that the run itself describes in its titles."""
  return [described(run, one) for one in run.described]


def others(run: records.Run) -> parts.Section | None:
  """Returns the metrics that nothing else draws, by their names."""
  drawn = set(_KNOWN)
  for one in (_TRAINING, _HYPERGRADIENT, *run.described):
    for figure in one["figures"]:
      drawn.update(figure["metrics"])
  splits = [split for split, *_ in _SPLITS]
  figures = [
    chart.figure(name, [chart.Mark(name, found, BLUE)])
    for name in run.series
    if name not in drawn and name.partition("_")[0] not in splits
    if (found := measures.curve(run, name))
  ]
  note = "Recorded under these names."
  return parts.Section("Other metrics", figures, note) if figures else None


def described(
  run: records.Run, description: Mapping[str, Any]
) -> parts.Section | None:
  """Returns a section of charts, as `records` says that they are described."""
  figures = []
  for one in description["figures"]:
    log, limits = one.get("log", False), one.get("limits")
    shown = {
      word: [p for p in measures.curve(run, name) if p[1] > 0 or not log]
      for name, word in one["metrics"].items()
    }
    shown = {word: found for word, found in shown.items() if found}
    marks = [
      chart.Mark(word, found, colour, one.get("kind", "line"))
      for colour, (word, found) in zip(
        parts.colours(len(shown)), shown.items(), strict=True
      )
    ]
    if marks:
      form = one.get("form", "{:.4g}")
      limits = tuple(limits) if limits and not log else None
      figures.append(
        chart.figure(one["title"], marks, form=form, log=log, limits=limits)
      )
  note = description.get("note", "")
  title = description["title"]
  return parts.Section(title, figures, note) if figures else None


def timing(run: records.Run) -> parts.Section:
  """Returns how long things took, and on which machine."""
  rows = []
  if (seconds := measures.compile_seconds(run)) is not None:
    rows.append(("Compilation", parts.duration(seconds)))
  if shares := measures.points(run, "compile_share", "epoch"):
    share = f"{shares[-1][1]:.0%} of the time"
    rows.append(("Share of compilation", share))
  if steps := sorted(v for _, v in measures.points(run, "step_seconds")):
    low, high = (steps[round(q * (len(steps) - 1))] for q in (0.1, 0.9))
    middle = f"{parts.duration(statistics.median(steps))}, median"
    spread = f"{parts.duration(low)} to {parts.duration(high)}"
    rows.append(("A step", f"{middle}; 80% of them {spread}"))
  for unit in ("images", "tokens"):
    if rates := [v for _, v in measures.points(run, f"{unit}_per_second")]:
      middle = f"{statistics.median(rates):,.0f}, median"
      rows.append((f"{unit.capitalize()} a second", middle))
  wall = measures.wall_seconds(run)
  evals = [v for _, v in measures.points(run, "eval_seconds")]
  if wall and evals:
    rows.append(("Share of evaluation", f"{sum(evals) / wall:.0%} of the time"))
  if wall is not None:
    rows.append(("In all", parts.duration(wall)))
  machine = [
    (name.replace("_", " "), str(value))
    for name, value in run.machine.items()
    if name not in ("command", "task", "started", "titles")
  ]
  tables = [
    parts.Table(rows, title=title, half=True)
    for title, rows in (("Time", rows), ("Machine", machine))
    if rows
  ]
  absent = [parts.Text("It was not recorded.")]
  return parts.Section("Time and machine", tables or absent)


def configuration(run: records.Run) -> parts.Section | None:
  """Returns the command and the configuration of the run."""
  found = []
  if command := run.machine.get("command"):
    listed = isinstance(command, list)
    text = shlex.join(map(str, command)) if listed else str(command)
    found.append(parts.Code(text))
  if run.config:
    lines = [
      f"{name} = {json.dumps(value, ensure_ascii=False)}"
      for name, value in records.flat(run.config).items()
    ]
    found.append(parts.Code("\n".join(lines), "All fields"))
  title = "Command and configuration"
  return parts.Section(title, found) if found else None
