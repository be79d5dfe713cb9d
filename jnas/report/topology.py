"""Sections on searches that record several networks: a Pareto set."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jnas import genotype as genotype_lib
from jnas.report import chart, findings, parts, records
from jnas.report.headline import Headline

FLOPS = "FLOPs (millions an image)"  # what networks cost
_ACCURACY = Headline()


def _columns(goal: Headline) -> dict[str, tuple[str, Callable[..., str]]]:
  """Returns heading and wording of what a line of pareto.jsonl has.

  FLOPs and parameters are in millions.
  """
  tell = parts.share if goal.name in goal.shares else parts.number
  return {
    "letter": ("", str),
    "epoch": ("epoch", parts.number),
    "flops": ("FLOPs (M)", parts.number),
    "params": ("params (M)", parts.number),
    "operators": ("operators", parts.number),
    goal.name: (goal.words, tell),
    "retrained": ("retrained", tell),
    "lambda": ("λ", parts.number),
  }


def networks(run: records.Run) -> list[dict[str, Any]]:
  """Returns the recorded networks in the order in which they were found.

  Each has the keys of `_columns`, None where its line has no number, and the
  "text" of its genotype, "" where the line has none.
  """
  found = []
  for i, line in enumerate(run.pareto):
    numbers = {
      key: line[key] if records.is_number(line.get(key)) else None
      for key in _columns(run.headline)
    }
    found.append(numbers | {"letter": parts.letter(i), "text": _text(line)})
  return found


def _text(line: Mapping[str, Any]) -> str:
  for data in (line.get("text"), line.get("genotype")):
    try:
      if isinstance(data, dict):
        return genotype_lib.format_text(genotype_lib.from_json(data))
      if data:
        return genotype_lib.format_text(genotype_lib.parse(str(data)))
    except ValueError:
      continue
  return ""


def front(
  found: Sequence[Mapping[str, Any]],
  goal: Headline = _ACCURACY,
  key: str = "",
  cost: str = "flops",
) -> list[Mapping[str, Any]]:
  """Returns the networks that no other one dominates, by what they cost.

  A network is dominated by one that costs no more and is no worse, and is
  better in one of the two. Of equal ones the first stays.

  Args:
    found: the networks.
    goal: the headline of their search.
    key: what is compared, by default the headline.
    cost: "flops" or "params".
  """
  key, sign = key or goal.name, 1 if goal.larger_is_better else -1
  known = [n for n in found if None not in (n[cost], n[key])]
  best: list[Mapping[str, Any]] = []
  for n in sorted(known, key=lambda n: (n[cost], -sign * n[key])):
    if not best or sign * n[key] > sign * best[-1][key]:
      best.append(n)
  return best


def marks(
  found: Sequence[Mapping[str, Any]],
  name: str,
  colour: str,
  goal: Headline = _ACCURACY,
  key: str = "",
  cost: str = "flops",
) -> list[chart.Mark]:
  """Returns what was recorded as points, and its front as a line.

  Args:
    found: the networks; nothing is drawn of those without both numbers.
    name: for the legend.
    colour: of the points.
    goal: the headline of their search.
    key: what is drawn, "retrained" or, by default, the headline.
    cost: against which, "flops" or "params".
  """
  best, key = front(found, goal, key, cost), key or goal.name
  others = [n for n in found if n not in best]
  shown = []
  for kind, some in (("line", best), ("dots", best), ("hollow", others)):
    some = [n for n in some if None not in (n[cost], n[key])]
    points = [(n[cost], n[key]) for n in some]
    labels = [n["letter"] for n in some] if kind != "line" else ()
    if points:
      shown.append(chart.Mark(name, points, colour, kind, labels))
  return shown


def figure(
  title: str,
  marks: Sequence[chart.Mark],
  goal: Headline = _ACCURACY,
  x: str = FLOPS,
) -> parts.Figure:
  """Returns headlines against costs, those of the axis x."""
  form = dict(form=goal.form(), x_form="{:,.4g}", last=False)
  return chart.figure(title, marks, x=x, y=goal.words, **form)


def pareto(run: records.Run) -> parts.Section | None:
  """Returns the networks of one search, drawn and as a table."""
  found = networks(run)
  if not found:
    return None
  goal = run.headline
  shown = marks(found, "search network", parts.BLUE, goal)
  shown += marks(found, "retrained", parts.GREEN, goal, "retrained")
  columns = _columns(goal)
  if all(n["retrained"] is None for n in found):
    del columns["retrained"]
  heads = [head for head, _ in columns.values()]
  rows = [[tell(n[key]) for key, (_, tell) in columns.items()] for n in found]
  table = parts.Table(rows, heads, "Networks", half=True)
  title = f"{goal.words.capitalize()} against FLOPs"
  body = [figure(title, shown, goal)] if shown else []
  words = f"{len(found)} networks" if len(found) > 1 else "One network"
  words += " recorded by one search."
  best = front(found, goal)
  if best and len(best) < len(found):
    letters = ", ".join(n["letter"] for n in best)
    words += (
      f" On the Pareto front, the line, {'is' if len(best) == 1 else 'are'} "
      f"{letters}; each of the others costs more than one of these and is no "
      "better."
    )
  return parts.Section(
    "Pareto set",
    [*body, table, *_texts(found)],
    f"{words} The {goal.words} is that of the search network with its own "
    "weights; retraining from scratch gives the one to publish. FLOPs "
    "(multiply-adds of an image) and parameters are those of the derived "
    "network.",
  )


def _texts(found: Sequence[Mapping[str, Any]]) -> list[parts.Part]:
  """Returns the genotypes, each of which opens on a click."""
  groups: dict[str, list[Mapping[str, Any]]] = {}
  for network in found:
    groups.setdefault(network["text"], []).append(network)
  groups.pop("", None)
  words = "To train one, give its text, in double quotes, as retrain.genotype "
  body: list[parts.Part] = [
    parts.Text(words + "to the command below.", "Genotypes")
  ]
  for text, same in groups.items():
    letters = ", ".join(n["letter"] for n in same)
    facts = f"{parts.number(same[0]['operators'])} operators, "
    facts += f"{parts.number(same[0]['flops'])} M FLOPs"
    body.append(parts.Code(findings.broken(text), f"{letters}: {facts}"))
  return body if groups else []
