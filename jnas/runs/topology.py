"""Sections on searches whose topology changes: GOLD-NAS and EnTranNAS."""

from collections.abc import Sequence
from typing import NamedTuple

from jnas import genotype as genotype_lib
from jnas.runs import draw, findings, page, records, scatter, sections


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
_HEADS = {
  "": lambda n: n.letter,
  "epoch": lambda n: _number(n.epoch),
  "FLOPs (M)": lambda n: _number(n.flops),
  "params (M)": lambda n: _number(n.params),
  "operators": lambda n: _number(n.operators),
  "accuracy": lambda n: _share(n.accuracy),
  "λ": lambda n: _number(n.weight),
}


def networks(run: records.Run) -> list[Network]:
  """Returns the Pareto set of a run in the order in which it was found."""
  found = []
  for i, line in enumerate(run.pareto):
    values = {
      key: line[key] if records.is_number(line.get(key)) else None
      for key in (*_KEYS, "retrained")
    }
    weight = values.pop("lambda")
    text = _text(line)
    found.append(Network(_letter(i), weight=weight, text=text, **values))
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


def _letter(index: int) -> str:
  """Returns a letter, or two from the 27th on.

  >>> _letter(0), _letter(25), _letter(26)
  ('A', 'Z', 'AA')
  """
  first, second = divmod(index, 26)
  return (_letter(first - 1) if first else "") + chr(ord("A") + second)


def _number(value: float | None) -> str:
  """Returns a number for a table.

  >>> _number(546.14), _number(0.1839), _number(1048.7), _number(None)
  ('546', '0.184', '1,049', '–')
  """
  if value is None:
    return "–"
  whole = 100 <= abs(value) < 1e6
  return f"{value:,.0f}" if whole else f"{value:.3g}"


def _share(value: float | None) -> str:
  return "–" if value is None else f"{value:.2%}"


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


def series(
  found: Sequence[Network], name: str, colour: str, key: str = "accuracy"
) -> list[scatter.Series]:
  """Returns the recorded networks as points, their front as a line.

  None if no network has both numbers.

  Args:
    found: the set.
    name: for the legend.
    colour: of the points.
    key: the accuracy that is drawn, "accuracy" or "retrained".
  """
  points = [
    (n.flops, getattr(n, key), n.letter)
    for n in found
    if n.flops is not None and getattr(n, key) is not None
  ]
  if not points:
    return []
  line = [(n.flops, getattr(n, key)) for n in front(found, key)]
  return [scatter.Series(name, *zip(*points, strict=True), colour, line)]


def pareto_section(run: records.Run) -> str:
  """Returns GOLD-NAS's figure 1: the Pareto set, drawn and as a table."""
  found = networks(run)
  if not found:
    return ""
  shown = series(found, "search network", sections.BLUE)
  shown += series(found, "retrained", sections.GREEN, "retrained")
  heads = dict(_HEADS)
  if any(n.retrained is not None for n in found):
    heads["retrained"] = lambda n: _share(n.retrained)
    heads["λ"] = heads.pop("λ")  # last
  rows = [[tell(n) for tell in heads.values()] for n in found]
  figures = []
  if shown:
    svg = scatter.svg(
      "accuracy against FLOPs of the Pareto set",
      shown,
      scatter.FLOPS,
      "accuracy",
    )
    figures.append(page.figure("Accuracy against FLOPs", svg))
  figures.append(
    page.figure("Networks", page.columns(list(heads), rows), wide=True)
  )
  lines = len(found)
  words = f"{lines} networks" if lines > 1 else "One network"
  words += " recorded by one search, as in figure 1 of the GOLD-NAS paper."
  best = front(found)
  if best and len(best) < lines:
    letters = ", ".join(n.letter for n in best)
    words += (
      f" On the Pareto front, the line, {'is' if len(best) == 1 else 'are'} "
      f"{letters}; each of the others costs more than one of these and is no "
      "better."
    )
  return page.section(
    "Pareto set",
    page.grid(figures) + _texts(found),
    f"{words} The "
    "accuracy is that of the search network with its own weights; retraining "
    "from scratch gives the paper's. FLOPs (multiply-adds of an image) and "
    "parameters are those of the derived network.",
  )


def _texts(found: Sequence[Network]) -> str:
  """Returns the genotypes, each of which opens on a click."""
  groups: dict[str, list[Network]] = {}
  for network in found:
    if network.text:
      groups.setdefault(network.text, []).append(network)
  if not groups:
    return ""
  body = '<p class="note">To train one, give its text, in double quotes, as '
  body += "retrain.genotype to the command below.</p>"
  for text, same in groups.items():
    letters = ", ".join(n.letter for n in same)
    facts = [f"{_number(same[0].operators)} operators"]
    facts += [f"{_number(same[0].flops)} M FLOPs"]
    title = f"{letters}: {', '.join(facts)}"
    body += page.folded(title, findings.broken(text), copy=True)
  return page.figure("Genotypes", body)


def pruning_section(run: records.Run) -> str:
  """Returns GOLD-NAS's figure 4: lambda and FLOPs against epochs."""
  figures = []
  weights = [p for p in records.points(run, "lambda", "epoch") if p[1] > 0]
  if weights:
    curve = draw.Curve("λ", *zip(*weights, strict=True), sections.BLUE)
    svg = draw.lines_svg("lambda", [curve], "{:,.4g}", log=True)
    figures.append(page.figure("Weight of the FLOPs in the loss, λ", svg))
  curves = []
  for name, word, colour in (
    ("built_flops", "built", sections.ORANGE),
    ("flops", "left", sections.BLUE),
  ):
    if points := records.points(run, name, "epoch"):
      curves.append(draw.Curve(word, *zip(*points, strict=True), colour))
  if curves:
    svg = draw.lines_svg("FLOPs of the search network", curves, "{:,.4g}")
    figures.append(page.figure("FLOPs (millions an image)", svg))
  pruned = records.points(run, "pruned", "epoch")
  if pruned:
    svg = draw.bars_svg("operators pruned", *zip(*pruned, strict=True))
    title = "Operators pruned after the epoch before"
    figures.append(page.figure(title, svg))
  if left := records.points(run, "operators", "epoch"):
    figures.append(_counts("operators left", "Operators left", left))
  if not figures:
    return ""
  return page.section("Pruning", page.grid(figures), _pruning_words(run))


def _pruning_words(run: records.Run) -> str:
  words = (
    "As in figure 4 of the GOLD-NAS paper. While few operators are pruned λ "
    "grows, by more each epoch; once enough are, it falls (0 is left out). "
    "Pruned operators are masked until the network is built anew without them."
  )
  if left := records.points(run, "operators", "epoch"):
    counts = f" Of {left[0][1]:,.0f} operators {left[-1][1]:,.0f} are left"
    words += f"{counts} in epoch {left[-1][0]:g}."
  end = records.get(run.config, "gold.flops_min")
  if records.is_number(end):
    words += f" The search ends at {_number(end)} M FLOPs."
  return words


def _counts(name: str, title: str, found: records.Points) -> str:
  """Returns the figure of a number of operators against epochs."""
  curve = draw.Curve(name, *zip(*found, strict=True), sections.BLUE)
  limits = (0, 1.1 * max(1, *(value for _, value in found)))
  svg = draw.lines_svg(name, [curve], "{:,.0f}", limits)
  return page.figure(title, svg)


def transit_section(run: records.Run) -> str:
  """Returns EnTranNAS's connections and settled steps against epochs."""
  figures = []
  if found := records.points(run, "connections", "epoch"):
    title = "Operators in the derived cells"
    figures.append(_counts("connections", title, found))
  if found := records.points(run, "settled", "epoch"):
    curve = draw.Curve("settled", *zip(*found, strict=True), sections.GREEN)
    svg = draw.lines_svg(
      "share of settled steps", [curve], sections.PERCENT, (-0.02, 1.02)
    )
    figures.append(page.figure("Share of settled steps so far", svg))
  if not figures:
    return ""
  return page.section(
    "Transit cells",
    page.grid(figures),
    "Transit cells compute the derived operators alone. Once these have stayed "
    "the same for a while, the steps are settled: compiled for them, until "
    "they move again.",
  )
