"""Sections of the page on one run: what it found."""

from collections.abc import Sequence
import re
import shlex
from typing import Any

from jnas import genotype as genotype_lib
from jnas.report import chart, draw, layout, measures, parts, records, sections

_MOST_CELLS = 4  # whose weights are drawn: each is a large picture
_BESIDE = 560  # points, the widest cell that is legible beside another
_MOST_FRAMES, _MOST_PICTURES = 60, 200  # of the slider: some 4 kB each


def genotype(run: records.Run) -> parts.Section:
  """Returns the genotype as text, and how to train it."""
  g = run.genotype
  if g is None:
    absent = [parts.Text("No genotype was written yet.")]
    return parts.Section("Genotype", absent)
  body: list[parts.Part] = [parts.Code(broken(genotype_lib.format_text(g)))]
  if not run.trained:
    body += _training(run)
  words = (
    "Pairs are (operator, input): inputs 0 and 1 are the two cells before, 2 "
    "and up the nodes of the cell."
  )
  if isinstance(g, genotype_lib.StackGenotype):
    inside = ", in it a list for each node" if _nested(g.cells) else ""
    words = f"A list of pairs for each layer{inside}. {words}"
  elif isinstance(g, genotype_lib.Genotype):
    inside = _nested((g.normal, g.reduce or ()))
    words = f"A list of pairs for each node. {words}" if inside else words
  elif isinstance(g, genotype_lib.NasBench201Genotype):
    words = (
      "As NAS-Bench-201 writes it, operator~input: the pairs of node 1, then "
      "of 2, then of 3, the output. Input 0 is the input of the cell."
    )
  elif isinstance(g, genotype_lib.RecurrentGenotype):
    words = (
      "Pairs are (operator, input): input 0 is the initial state, 1 and up are "
      "the nodes of the cell."
    )
  note = f"One click selects all of it. {words}"
  return parts.Section("Genotype", body, note)


def _nested(cells: Sequence[genotype_lib.ImageCell]) -> bool:
  """Returns whether the text form lists the nodes of some of the cells."""
  rows = [row for cell in cells for row in genotype_lib.nodes(cell)]
  return any(len(row) != 2 for row in rows)


def broken(text: str) -> str:
  """Returns the text form on several lines: two pairs, a node or a cell each.

  >>> print(broken("Genotype(cells=[[('relu', 0)], [[('relu', 1)]]])"))
  Genotype(
    cells=[[('relu', 0)],
           [[('relu', 1)]]])
  """
  if not text.startswith("Genotype("):
    return text
  for name in ("normal_concat", "reduce", "reduce_concat", "concat"):
    text = text.replace(f", {name}=", f",\n  {name}=")
  text = text.replace("Genotype(", "Genotype(\n  ", 1)
  lines = []
  for line in text.splitlines():
    margin = "\n" + " " * (line.find("[(") + 1)
    pair = r"\('\w+', \d+\)"
    if "[[" in line:
      line = _one_a_line(line)
    else:
      line = re.sub(rf"({pair}, {pair},) (?=\()", rf"\1{margin}", line)
    lines.append(line)
  return "\n".join(lines)


def _one_a_line(line: str) -> str:
  """Returns a line with its lists of pairs below each other."""
  first, *others = re.split(r"(?<=\]), (?=\[)", line)
  start, lines = first.find("["), [first]
  depth = first.count("[") - first.count("]")
  for part in others:
    lines.append(" " * (start + depth) + part)
    depth += part.count("[") - part.count("]")
  return ",\n".join(lines)


def _training(run: records.Run) -> list[parts.Part]:
  """Returns a command that trains the genotype, and what it does."""
  if isinstance(run.genotype, genotype_lib.RecurrentGenotype):
    return _training_on_text(run)
  if not isinstance(
    run.genotype, genotype_lib.Genotype | genotype_lib.StackGenotype
  ):
    return []  # of cells that no recipe is for
  name = sections.data(run)
  large = records.get(run.config, "space.stem") == "imagenet"
  whole = name in (("imagenet",) if large else ("cifar10", "cifar100"))
  config = "configs/imagenet.py" if large else "configs/retrain.py"
  fields = ["data.name", "data.path"]
  note = (
    "DARTS's recipe for ImageNet: 14 cells, 48 channels, 250 epochs: days to "
    "weeks on a GPU."
    if large
    else "DARTS's recipe for CIFAR: 20 cells, 36 channels, 600 epochs: hours "
    "on a GPU, days to weeks on a CPU."
  )
  if name == "digits":
    config, note = f"{config}:quick", "A small network, for a minute."
  elif not whole or records.get(run.config, "data.limit"):
    fields += ["data.limit", "data.size"]
    fields += "space.cells space.width train.length train.batch".split()
    if not large:  # ImageNet's augmentation is meant for any photographs
      config = f"{config}:quick"
      fields += ["data.crop_pad", "data.flip", "data.cutout"]
    note = (
      "What is set here is as in the search: a beginning, not a recipe for "
      "this data. A deeper and wider network that is trained for longer is "
      "usually better."
    )
  if isinstance(run.genotype, genotype_lib.StackGenotype):
    # A stack of independent cells is as deep as it was searched.
    fields.append("space.cells")
    note = re.sub("(20|14) cells", "as many cells as were searched", note)
  flags = [("retrain.genotype", str(run.path))]
  for field in dict.fromkeys(fields):
    value = records.get(run.config, field)
    if value or field == "data.cutout":  # CIFAR's recipe has another
      flags.append((field, str(value)))
  return _command(config, flags, note)


def _training_on_text(run: records.Run) -> list[parts.Part]:
  """Returns the same of a recurrent cell."""
  path = str(records.get(run.config, "data.path") or "")
  flags = [("retrain.genotype", str(run.path))]
  if path:
    flags += [("data.path", path)]
    level = records.get(run.config, "language.level")
    flags += [("language.level", str(level))]
    note = (
      "DARTS's recipe for Penn Treebank: 850 units, 8,000 epochs, weeks on a "
      "GPU of its time. :wt2 is that for WikiText-2."
    )
    return _command("configs/rnn/retrain.py:ptb", flags, note)
  note = "A small network, for a few minutes."
  return _command("configs/rnn/retrain.py:quick", flags, note)


def _command(
  config: str, flags: Sequence[tuple[str, str]], note: str
) -> list[parts.Part]:
  words = [f"--config.{name}={shlex.quote(value)}" for name, value in flags]
  command = " \\\n  ".join(
    [f"python -m jnas.main --config={config}", *words]
  )
  return [parts.Text(note, "To train it from scratch"), parts.Code(command)]


def sample(run: records.Run) -> parts.Section | None:
  """Returns text that a language model says, if the run has one."""
  text = run.result.get("sample")
  if not isinstance(text, str) or not text:
    return None
  return parts.Section(
    "What it says",
    [parts.Code(text)],
    "Each token is drawn from what the trained model expects after those "
    "before it.",
  )


def cells(run: records.Run, history: bool = False) -> list[parts.Part]:
  """Returns the drawings of the cells, with their legend.

  Args:
    run: whose genotype is drawn.
    history: whether a slider shows the genotypes of earlier epochs.
  """
  if run.genotype is None:
    return [parts.Text("There is no genotype, so there are no cells.")]
  found = layout.cells(run.genotype)
  ops = [op for rows, *_ in found.values() for row in rows for op, _ in row]
  families = dict.fromkeys(draw.family(op) for op in ops)
  legend = [(draw.FAMILIES[name], name) for name in families]
  if any(concat for *_, concat in found.values()):
    legend.append(("", "concatenation"))
  # A stack may have as many cells as layers: side by side, where there is room.
  stack = isinstance(run.genotype, genotype_lib.StackGenotype)
  pruned = stack and _nested(run.genotype.cells)
  body: list[parts.Part] = [parts.Legend(legend)]
  if history and (slider := _history(run, len(found))):
    body.append(slider)
  for title, arguments in found.items():
    svg = draw.cell_picture(title, arguments)
    wide = pruned and layout.layout(*arguments).width > _BESIDE
    half = stack and not wide
    body.append(parts.Figure(title, svg, scroll=True, half=half))
  return body


def _history(run: records.Run, count: int) -> parts.History | None:
  """Returns the cells of each epoch, or of some if they are many.

  Args:
    run: with its history.
    count: of the cells that are drawn of a genotype.
  """
  most = min(_MOST_FRAMES, max(_MOST_PICTURES // count, 2))
  every = max(1, -(-len(run.history) // most))
  pictures: dict[Any, int] = {}
  svgs, frames = [], []
  # From the last one back, which is what the page shows without a script.
  for epoch, g in run.history[::-1][::every]:
    frame = []
    for title, arguments in layout.cells(g).items():
      key = title, repr(arguments)
      if key not in pictures:
        pictures[key] = len(svgs)
        svgs.append(draw.cell_picture(title, arguments))
      frame.append((title, pictures[key]))
    frames.append((epoch, frame))
  return parts.History(svgs, frames[::-1]) if len(frames) > 1 else None


def drawings(run: records.Run) -> parts.Section:
  """Returns the section on the cells."""
  note = (
    "From left to right. Each node adds up its operators; the dashed lines are "
    "concatenated to the output."
  )
  if isinstance(run.genotype, genotype_lib.NasBench201Genotype):
    note = (
      "From left to right: 0 is the input and 3 the output. Each node adds up "
      "its operators; none, which gives nothing, is left out."
    )
  elif isinstance(run.genotype, genotype_lib.RecurrentGenotype):
    note = (
      "From left to right. Each node has one operator; the dashed lines are "
      "averaged to the new state."
    )
  return parts.Section("Cells", cells(run, history=True), note)


def weights(run: records.Run) -> parts.Section:
  """Returns the heat maps of the arch weights."""
  names = list(dict.fromkeys(c for line in run.arch for c in line["weights"]))
  drawn, normal = names, genotype_lib.normal_names(names)
  if len(names) > _MOST_CELLS:
    others = [name for name in names if name not in normal]
    some = (others[: _MOST_CELLS // 2] + normal)[:_MOST_CELLS]
    drawn = [name for name in names if name in some]
  body: list[parts.Part] = []
  for cell in drawn:
    try:
      body.append(_heat(run, cell, _title(cell, normal)))
    except (
      *(AttributeError, IndexError, KeyError, TypeError, ValueError),
      OverflowError,
    ) as error:
      body.append(parts.Text(f"{cell}: unreadable weights ({error})"))
  if len(drawn) < len(names):
    body.append(
      parts.Text(
        f"{len(names)} cells have weights, {len(drawn)} are drawn; arch.jsonl "
        "has them all."
      )
    )
  scale = (
    "A scale that does not begin at 0 magnifies weights that have hardly moved."
  )
  if not run.shares:
    scale = "Each weight is a sigmoid: those of an edge don't add up to one."
  return parts.Section(
    "Architecture weights",
    body or [parts.Text("There is no arch.jsonl, so there are no weights.")],
    "One panel an edge (source → target), one row an operator, epochs from "
    "left to right; grey where the operator is no longer there. Dots mark the "
    f"operators that the genotype keeps. {scale}",
  )


def _title(cell: str, normal: Sequence[str]) -> str:
  known = {"normal": "Normal cell", "reduce": "Reduction cell"}
  known |= {"recurrent": "Recurrent cell", "cell": "Cell"}
  if re.fullmatch(r"cell\d+", cell):
    kind = "normal" if cell in normal else "reduction"
    return f"Layer {cell.removeprefix('cell')} ({kind})"
  return known.get(cell, cell)


def _heat(run: records.Run, cell: str, title: str) -> parts.Figure:
  """Returns the heat maps of one cell; operators and edges may vanish.

  Where operators don't share a weight, one of exactly 0 is pruned.
  """
  lines = [line for line in run.arch if cell in line["weights"]]
  ops = list(dict.fromkeys(op for line in lines for op in line["ops"]))
  found: dict[tuple[int, int], list[list[float | None]]] = {}
  for t, line in enumerate(lines):
    edges = line.get("edges_of", {}).get(cell, line.get("edges"))
    for edge, row in zip(edges, line["weights"][cell], strict=True):
      empty = [[None] * len(lines) for _ in ops]
      values = found.setdefault((int(edge[0]), int(edge[1])), empty)
      for op, value in zip(line["ops"], row, strict=True):
        gone = not records.is_number(value) or (not run.shares and value == 0)
        values[ops.index(op)][t] = None if gone else value
  if not found:
    raise ValueError("there are none")
  chosen = genotype_lib.chosen(run.genotype) if run.genotype else {}
  kept = [item for item in chosen.get(cell, ()) if item[0] in ops]
  epochs = [line.get("epoch", t) for t, line in enumerate(lines)]
  # Nodes are called as in the drawing of the cell.
  inputs = {"cell": (), "recurrent": ("x, h",)}.get(cell, ("c k−2", "c k−1"))
  return draw.heat(title, ops, epochs, found, kept, inputs, shared=run.shares)


def truth(run: records.Run) -> parts.Section | None:
  """Returns the benchmark's accuracy of each epoch's genotype, if known."""
  found = measures.points(run, "true_accuracy", "epoch")
  if not found:
    return None
  marks = [chart.Mark("this run", found, parts.BLUE)]
  for name, value in measures.references([run]).items():
    name = f"{name} of all" if name in ("best", "mean") else name
    marks.append(chart.Mark(f"{name}  {value:.2%}", [(0, value)], kind="level"))
  title = str(run.benchmark.get("name", "the benchmark of the search space"))
  figure = chart.figure(title, marks, form="{:.2%}", half=False)
  return parts.Section(
    "True accuracy",
    [figure],
    "Test accuracy of each epoch's genotype when trained from scratch, looked "
    "up: the search does not see it. Dashed: the best and the mean of all "
    "cells of the space, and what its authors report of this very search.",
  )


def skips(run: records.Run) -> parts.Section | None:
  """Returns the genotypes by their number of skip connections, if recorded."""
  if not run.restricted:
    return None
  rows, texts = [], []
  for found in run.restricted:
    text = genotype_lib.format_text(found.genotype)
    name = f"at most {found.skips:g}{', chosen' if found.chosen else ''}"
    rows.append((name, _normal_cell(found.genotype)))
    texts.append(f"# {name}\n{text}")
  return parts.Section(
    "Skip connections",
    [
      parts.Table(rows, title="Normal cell, node by node"),
      parts.Code("\n".join(texts), "All of them as text"),
    ],
    "What the search finds if the normal cell may have no more than so many "
    "skip connections: weaker ones are taken out, and what comes next moves "
    "up. In brackets the inputs, as in the text form.",
  )


def _normal_cell(g: genotype_lib.AnyGenotype) -> str:
  """Returns the operators of the first normal cell, by node."""
  found = genotype_lib.chosen(g)
  nodes: dict[int, list[str]] = {}
  for op, source, node in found[genotype_lib.normal_names(list(found))[0]]:
    nodes.setdefault(node, []).append(f"{layout.label(op)} ({source})")
  return " | ".join(", ".join(pairs) for pairs in nodes.values())
