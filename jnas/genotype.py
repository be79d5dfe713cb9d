"""Genotypes: the discrete cells that a search ends with.

A cell is a list of (operator, input) pairs. In image cells each node adds up
two of them: pairs 2i and 2i+1 belong to node i. Inputs 0 and 1 are the outputs
of the two cells before, c_{k-2} and c_{k-1}; input 2+i is node i. Where nodes
add up other numbers of pairs (GOLD-NAS), the cell is a list of nodes, each a
list of its pairs. In recurrent cells each node has one pair, input 0 is the
initial state and input 1+i is node i. The concat lists the nodes that make up
the output of the cell. Cells of NAS-Bench-201 have every edge, so there `none`
is an operator like others.

The text form is the one that the field has pasted around since DARTS:

  Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=range(2, 6),
           reduce=[...], reduce_concat=range(2, 6))

or, with nodes, normal=[[('sep_conv_3x3', 1)], [('skip_connect', 0), ...], ...].
"""

from collections.abc import Container, Mapping, Sequence
import dataclasses
import json
import os
from types import MappingProxyType
from typing import Any

from jnas import genotype_rules, genotype_text, zoo

OPERATIONS = genotype_rules.OPERATIONS
RECURRENT_OPERATIONS = genotype_rules.RECURRENT_OPERATIONS
NAS_BENCH_201_OPERATIONS = genotype_rules.NAS_BENCH_201_OPERATIONS

Pairs = tuple[tuple[str, int], ...]
ImageCell = Pairs | tuple[Pairs, ...]


@dataclasses.dataclass(frozen=True)
class Genotype:
  """The normal and the reduction cell of an image network.

  Lists and ranges become tuples, so a pasted text form is also valid Python.
  A cell whose nodes have two pairs each is stored flat, however it is given:
  equal cells are equal. Nothing is checked here: call `validate`.
  `reduce=None` means the fixed reduction cell of GDAS.

  >>> Genotype([("skip_connect", 0), ("skip_connect", 1)], range(2, 3), None)
  Genotype(normal=(('skip_connect', 0), ('skip_connect', 1)), \
normal_concat=(2,), reduce=None, reduce_concat=None)
  >>> Genotype([[("skip_connect", 0)]], range(2, 3), None).normal
  ((('skip_connect', 0),),)
  """

  normal: ImageCell
  normal_concat: tuple[int, ...]
  reduce: ImageCell | None
  reduce_concat: tuple[int, ...] | None = None

  def __post_init__(self) -> None:
    _freeze_fields(self)


@dataclasses.dataclass(frozen=True)
class RecurrentGenotype:
  """A recurrent cell; lists and ranges become tuples.

  >>> RecurrentGenotype([("tanh", 0)], [1])
  RecurrentGenotype(recurrent=(('tanh', 0),), concat=(1,))
  """

  recurrent: Pairs
  concat: tuple[int, ...]

  def __post_init__(self) -> None:
    _freeze_fields(self)


@dataclasses.dataclass(frozen=True)
class StackGenotype:
  """Independent cells of an image network: one for each layer of the stack.

  The concat is the same in all cells. Lists and ranges become tuples, and cells
  are stored as in `Genotype`.

  >>> pairs = [("skip_connect", 0), ("skip_connect", 1)]
  >>> StackGenotype([pairs], [2])
  StackGenotype(cells=((('skip_connect', 0), ('skip_connect', 1)),), \
concat=(2,))
  """

  cells: tuple[ImageCell, ...]
  concat: tuple[int, ...]

  def __post_init__(self) -> None:
    _freeze_fields(self)


@dataclasses.dataclass(frozen=True)
class NasBench201Genotype:
  """The cell of NAS-Bench-201 (Dong & Yang 2020); lists become tuples.

  Node 0 is the input and node 3 the output; nodes 1, 2 and 3 add up one pair
  for each node before them, in order: `nodes[0]` are the pairs of node 1.

  >>> NasBench201Genotype([[("none", 0)]]).nodes
  ((('none', 0),),)
  """

  nodes: tuple[Pairs, ...]

  def __post_init__(self) -> None:
    _freeze_fields(self)


AnyGenotype = Genotype | RecurrentGenotype | StackGenotype | NasBench201Genotype


def parse(text: str) -> AnyGenotype:
  """Returns the genotype written in `text`, validated; nothing is evaluated.

  Takes keywords or positions, lists, tuples, `range(a, b)` and None, and skips
  what stands before `Genotype(`, so a line of a log can be pasted whole. Takes
  a line with a cell of NAS-Bench-201 in that benchmark's own form, too.
  Raises ValueError for anything else, naming the line and every problem.

  >>> g = parse("best = Genotype(normal=[('skip_connect', 0), "
  ...           "('sep_conv_3x3', 1)], normal_concat=range(2, 3), "
  ...           "reduce=None, reduce_concat=None)")
  >>> g.normal
  (('skip_connect', 0), ('sep_conv_3x3', 1))
  >>> parse("Genotype(recurrent=[('tanh', 0), ('relu', 1)], concat=[1, 2])")
  RecurrentGenotype(recurrent=(('tanh', 0), ('relu', 1)), concat=(1, 2))
  >>> cell = parse("|none~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|")
  >>> cell.nodes[2]
  (('none', 0), ('none', 1), ('skip_connect', 2))
  """
  if genotype_text.has_nodes(text):
    return validate(NasBench201Genotype(genotype_text.read_nodes(text)))
  values, named = genotype_text.read_call(text)
  two = len(values) == 2 and not named
  kind = RecurrentGenotype if two else _kind(named)
  # Pairs are recurrent; lists of pairs, or of nodes, are the cells of a stack.
  nested = bool(values) and genotype_rules.is_nested(values[0])
  if kind is RecurrentGenotype and nested:
    kind = StackGenotype
  names = [f.name for f in dataclasses.fields(kind)]
  # Positions after the last field keep a name that _build refuses.
  names += [f"value {i + 1}" for i in range(len(names), len(values))]
  fields = dict(zip(names, values, strict=False))
  if twice := fields.keys() & named.keys():
    raise genotype_text.again(min(twice))
  return _build(kind, fields | named)


def format_text(g: AnyGenotype) -> str:
  """Returns the text form of the field, on one line; `parse` reads it back.

  >>> format_text(ZOO["GDAS_F1"])[-39:]
  'reduce=None, reduce_concat=range(2, 6))'
  >>> format_text(RecurrentGenotype([("tanh", 0), ("relu", 1)], [1, 2]))
  "Genotype(recurrent=[('tanh', 0), ('relu', 1)], concat=range(1, 3))"
  >>> format_text(parse("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"))
  '|none~0|+|none~0|none~1|+|none~0|none~1|none~2|'
  """
  if isinstance(g, NasBench201Genotype):
    return genotype_text.format_nodes(g.nodes)
  return genotype_text.format_call(_fields(g))


def to_json(g: AnyGenotype) -> dict[str, Any]:
  """Returns lists and strings only; `from_json` reads it back.

  >>> to_json(RecurrentGenotype([("tanh", 0)], [1]))
  {'recurrent': [['tanh', 0]], 'concat': [1]}
  """
  return json.loads(json.dumps(_fields(g)))


def from_json(data: Mapping[str, Any]) -> AnyGenotype:
  """Returns the genotype of `to_json`'s dictionary, validated.

  Raises ValueError for a missing or unknown field and for an invalid cell.

  >>> from_json({"recurrent": [["tanh", 0]], "concat": [1]})
  RecurrentGenotype(recurrent=(('tanh', 0),), concat=(1,))
  """
  if not isinstance(data, Mapping):
    raise ValueError(
      "Expected a JSON object with the fields of a genotype, got "
      f"{type(data).__name__}; write it with jnas.genotype.to_json."
    )
  return _build(_kind(data), data)


def load(
  source: str | os.PathLike[str], recurrent: bool = False
) -> AnyGenotype:
  """Returns the genotype that `source` names or holds, validated.

  `source` is a name of the zoo, the text or JSON form itself, or a path: the
  workdir of a run, a `genotype.json`, a file with a text form. Image and
  recurrent cells share names in the literature; `recurrent` chooses the zoo.
  Raises ValueError if it is none of these, with the nearest name.

  >>> load("DARTS_V2").normal[0]
  ('sep_conv_3x3', 0)
  >>> load("DARTS_V2", recurrent=True).recurrent[0]
  ('sigmoid', 0)
  >>> load(format_text(ZOO["PDARTS"])) == ZOO["PDARTS"]
  True
  """
  cells = RECURRENT_ZOO if recurrent else ZOO
  text = os.fspath(source).strip()
  if text in cells:
    return cells[text]
  if genotype_text.has_text(text):
    return parse(text)
  if text.startswith("{"):
    return from_json(genotype_text.read_json(text, "the JSON text"))
  path = os.path.expanduser(text)
  if os.path.isdir(path):
    path = os.path.join(path, "genotype.json")
    if not os.path.isfile(path):
      raise ValueError(
        f"Expected a genotype in the directory, got no file {path}; give the "
        "workdir of a search that has finished at least one epoch."
      )
  if os.path.isfile(path):
    with open(path, encoding="utf-8", errors="replace") as file:
      content = file.read()
    if genotype_text.has_text(content) and not content.lstrip().startswith("{"):
      return parse(content)
    return from_json(genotype_text.read_json(content, path))
  raise ValueError(
    "Expected a genotype: a path, the text Genotype(...) or a name of the zoo "
    f"({', '.join(cells)}), got {text[:60]!r}"
    f"{genotype_rules.near(text, cells) or '.'}"
  )


def validate(g: AnyGenotype) -> AnyGenotype:
  """Returns `g` itself if it describes cells that can be built.

  Raises ValueError that names every problem: operators, with the nearest known
  name; inputs that are not before their node; pairs a node; the concat.

  >>> validate(RecurrentGenotype([("tanh", 1), ("rellu", 0)], [3]))
  Traceback (most recent call last):
    ...
  ValueError: The genotype has 3 problems:
    recurrent[0] = ('tanh', 1): node 0 may read inputs 0 to 0, got 1
    recurrent[1] = ('rellu', 0): unknown operator 'rellu'; did you mean 'relu'?
    concat: expected nodes out of 1 to 2, got 3
  """
  if problems := list(genotype_rules.problems(_fields(g))):
    _refuse(problems)
  return g


def nodes(cell: ImageCell) -> tuple[Pairs, ...]:
  """Returns the pairs of each node of an image cell, whichever its form.

  >>> nodes((("skip_connect", 0), ("sep_conv_3x3", 1)))
  ((('skip_connect', 0), ('sep_conv_3x3', 1)),)
  >>> nodes(((("skip_connect", 0),),))
  ((('skip_connect', 0),),)
  """
  if genotype_rules.is_nested(cell):
    return cell
  return tuple(cell[i : i + 2] for i in range(0, len(cell), 2))


def chosen(g: AnyGenotype) -> dict[str, tuple[tuple[str, int, int], ...]]:
  """Returns the (operator, source, target) triples of each cell, by its name.

  Names and numbers are those of the supernet: "normal" and "reduce", "cell0"
  and on for the layers of a stack, "cell" of NAS-Bench-201, "recurrent".

  >>> chosen(RecurrentGenotype([("tanh", 0), ("relu", 1)], [2]))
  {'recurrent': (('tanh', 0, 1), ('relu', 1, 2))}
  >>> chosen(ZOO["GDAS_F1"])["normal"][:3]
  (('skip_connect', 0, 2), ('skip_connect', 1, 2), ('skip_connect', 0, 3))
  """
  if isinstance(g, RecurrentGenotype):
    pairs = enumerate(g.recurrent, 1)
    return {"recurrent": tuple((*pair, i) for i, pair in pairs)}
  if isinstance(g, NasBench201Genotype):
    return {"cell": _triples(g.nodes, 1)}
  if isinstance(g, StackGenotype):
    cells = {f"cell{i}": cell for i, cell in enumerate(g.cells)}
  else:
    cells = {"normal": g.normal} | ({"reduce": g.reduce} if g.reduce else {})
  return {name: _triples(nodes(cell), 2) for name, cell in cells.items()}


def _triples(rows: Sequence[Pairs], first: int) -> tuple:
  """Returns (operator, source, target) of nodes that count from `first`."""
  return tuple((*pair, i) for i, row in enumerate(rows, first) for pair in row)


def normal_names(names: Sequence[str]) -> list[str]:
  """Returns which of the cells of one supernet or genotype are normal ones.

  All but "reduce" and, in a stack of L independent cells, those at L//3 and
  2L//3, which reduce in the stack of DARTS; all if nothing is left.

  >>> normal_names(["normal", "reduce"]), normal_names(["cell"])
  (['normal'], ['cell'])
  >>> normal_names([f"cell{i}" for i in range(6)])
  ['cell0', 'cell1', 'cell3', 'cell5']
  """
  count = len(names)
  reduce = {"reduce", f"cell{count // 3}", f"cell{2 * count // 3}"}
  return [name for name in names if name not in reduce] or list(names)


def skip_share(g: AnyGenotype) -> float:
  """Returns the share of skip connections among the normal cells' operators.

  >>> skip_share(ZOO["DARTS_V2"])
  0.25
  """
  cells = chosen(g)
  ops = [op for name in normal_names(list(cells)) for op, *_ in cells[name]]
  return ops.count("skip_connect") / len(ops) if ops else 0.0


def _refuse(problems: Sequence[str]) -> None:
  count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
  lines = "\n".join(f"  {problem}" for problem in problems)
  raise ValueError(f"The genotype has {count}:\n{lines}")


def _build(kind: type, values: Mapping[str, Any]) -> Any:
  """Returns a validated `kind` from named fields; all of them, no other."""
  names = [field.name for field in dataclasses.fields(kind)]
  known = f"; the fields are {', '.join(names)}"
  unknown = [name for name in values if name not in names]
  problems = [
    f"unknown field {n!r}{genotype_rules.near(n, names) or known}"
    for n in unknown
  ]
  for name in names:
    if name not in values and name != "reduce_concat":
      hint = " (None for GDAS's fixed cell)" if name == "reduce" else ""
      problems.append(f"missing field {name!r}{hint}")
  if problems:
    _refuse(problems)
  return validate(kind(**values))


def _kind(names: Container[str]) -> type:
  """Returns the kind of genotype that has fields of these names."""
  for name, kind in (
    ("nodes", NasBench201Genotype),
    ("cells", StackGenotype),
    ("recurrent", RecurrentGenotype),
    ("concat", RecurrentGenotype),
  ):
    if name in names:
      return kind
  return Genotype


def _fields(g: AnyGenotype) -> dict[str, Any]:
  return {f.name: getattr(g, f.name) for f in dataclasses.fields(g)}


def _freeze(value: Any) -> Any:
  if isinstance(value, list | tuple | range):
    return tuple(_freeze(item) for item in value)
  return value


def _freeze_fields(g: AnyGenotype) -> None:
  for name, value in _fields(g).items():
    value = _freeze(value)
    if name in ("normal", "reduce"):
      value = genotype_rules.canonical(value)
    elif name == "cells" and isinstance(value, tuple):
      value = tuple(map(genotype_rules.canonical, value))
    object.__setattr__(g, name, value)


ZOO: Mapping[str, Genotype] = MappingProxyType(
  {name: parse(text) for name, text in zoo.IMAGES.items()}
)
RECURRENT_ZOO: Mapping[str, RecurrentGenotype] = MappingProxyType(
  {name: parse(text) for name, text in zoo.RECURRENT.items()}
)
