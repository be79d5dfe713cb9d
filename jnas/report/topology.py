"""Sections on searches that record several networks: a Pareto set."""

from collections.abc import Sequence
from typing import NamedTuple

from jnas import genotype as genotype_lib
from jnas.report import chart, findings, parts, records

FLOPS = "FLOPs (millions an image)"  # what networks cost


class Network(NamedTuple):
  """A network of a Pareto set: a line of pareto.jsonl, with its letter.

  Numbers are None where the line has none, and the text is "" where it has no
  genotype.
  """

  letter: str
  epoch: float | None
  weight: float | None  # lambda
  operators: float | None
  flops: float | None  # in millions, as the parameters
  params: float | None
  accuracy: float | None
  retrained: float | None
  text: str


_KEYS = ("epoch", "lambda", "operators", "flops", "params", "accuracy")


def networks(run: records.Run) -> list[Network]:
  """Returns the recorded networks in the order in which they were found."""
  found = []
  for i, line in enumerate(run.pareto):
    values = {
      key: line[key] if records.is_number(line.get(key)) else None
      for key in (*_KEYS, "retrained")
    }
    weight, text = values.pop("lambda"), _text(line)
    found.append(Network(parts.letter(i), weight=weight, text=text, **values))
  return found


def _text(line: dict) -> str:
  """Returns the genotype of a line of pareto.jsonl in its text form."""
  for data in (line.get("text"), line.get("genotype")):
    try:
      if isinstance(data, dict):
        return genotype_lib.format_text(genotype_lib.from_json(data))
      if data:
        return genotype_lib.format_text(genotype_lib.parse(str(data)))
    except ValueError:
      continue
  return ""


def front(found: Sequence[Network], key: str = "accuracy") -> list[Network]:
  """Returns the networks that no other one dominates, by FLOPs.

  A network is dominated by one that costs no more and is no less accurate, and
  is better in one of the two. Of equal ones the first stays.
  """
  known = [
    n for n in found if n.flops is not None and getattr(n, key) is not None
  ]
  best: list[Network] = []
  for n in sorted(known, key=lambda n: (n.flops, -getattr(n, key))):
    if not best or getattr(n, key) > getattr(best[-1], key):
      best.append(n)
  return best


def marks(
  found: Sequence[Network], name: str, colour: str, key: str = "accuracy"
) -> list[chart.Mark]:
  """Returns what was recorded as points, and its front as a line.

  Args:
    found: the networks; nothing is drawn of those without both numbers.
    name: for the legend.
    colour: of the points.
    key: the accuracy that is drawn, "accuracy" or "retrained".
  """
  best = front(found, key)
  shown = []
  for kind, some in (
    ("line", best),
    ("dots", best),
    ("hollow", [n for n in found if n not in best]),
  ):
    points = [
      (n.flops, getattr(n, key), n.letter)
      for n in some
      if n.flops is not None and getattr(n, key) is not None
    ]
    if points:
      *places, labels = zip(*points, strict=True)
      labels = () if kind == "line" else labels
      pairs = list(zip(*places, strict=True))
      shown.append(chart.Mark(name, pairs, colour, kind, labels))
  return shown


def pareto(run: records.Run) -> parts.Section | None:
  """Returns the networks of one search, drawn and as a table."""
  found = networks(run)
  if not found:
    return None
  shown = marks(found, "search network", parts.BLUE)
  shown += marks(found, "retrained", parts.GREEN, "retrained")
  body: list[parts.Part] = []
  if shown:
    title = "Accuracy against FLOPs"
    form = dict(form="{:.2%}", x_form="{:,.4g}", last=False)
    body.append(chart.figure(title, shown, x=FLOPS, y="accuracy", **form))
  body += [_table(found), *_texts(found)]
  words = f"{len(found)} networks" if len(found) > 1 else "One network"
  words += " recorded by one search."
  best = front(found)
  if best and len(best) < len(found):
    letters = ", ".join(n.letter for n in best)
    words += (
      f" On the Pareto front, the line, {'is' if len(best) == 1 else 'are'} "
      f"{letters}; each of the others costs more than one of these and is no "
      "better."
    )
  return parts.Section(
    "Pareto set",
    body,
    f"{words} The accuracy is that of the search network with its own weights; "
    "retraining from scratch gives the one to publish. FLOPs (multiply-adds of "
    "an image) and parameters are those of the derived network.",
  )


def _table(found: Sequence[Network]) -> parts.Table:
  columns = {
    "": lambda n: n.letter,
    "epoch": lambda n: parts.number(n.epoch),
    "FLOPs (M)": lambda n: parts.number(n.flops),
    "params (M)": lambda n: parts.number(n.params),
    "operators": lambda n: parts.number(n.operators),
    "accuracy": lambda n: parts.share(n.accuracy),
    "retrained": lambda n: parts.share(n.retrained),
    "λ": lambda n: parts.number(n.weight),
  }
  if all(n.retrained is None for n in found):
    del columns["retrained"]
  rows = [[tell(n) for tell in columns.values()] for n in found]
  return parts.Table(rows, list(columns), "Networks", half=True)


def _texts(found: Sequence[Network]) -> list[parts.Part]:
  """Returns the genotypes, each of which opens on a click."""
  groups: dict[str, list[Network]] = {}
  for network in found:
    if network.text:
      groups.setdefault(network.text, []).append(network)
  if not groups:
    return []
  words = "To train one, give its text, in double quotes, as retrain.genotype "
  body: list[parts.Part] = [
    parts.Text(words + "to the command below.", "Genotypes")
  ]
  for text, same in groups.items():
    letters = ", ".join(n.letter for n in same)
    facts = f"{parts.number(same[0].operators)} operators, "
    facts += f"{parts.number(same[0].flops)} M FLOPs"
    body.append(parts.Code(findings.broken(text), f"{letters}: {facts}"))
  return body
