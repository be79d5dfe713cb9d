"""The kinds of genotypes, what is asked of them, and what is valid."""

from collections.abc import Sequence
import dataclasses
import itertools
from typing import Any

from jnas.genotype import rules

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


@dataclasses.dataclass(frozen=True)
class SpaceGenotype:
  """What was chosen in a search space that is not one of this package.

  Attributes:
    space: by which the space is known: its import path.
    edges: (cell, its (operator, source, target) triples); lists become tuples.

  >>> SpaceGenotype("mine:space", [["chain", [["mb3", 0, 1]]]])
  SpaceGenotype(space='mine:space', edges=(('chain', (('mb3', 0, 1),)),))
  """

  space: str
  edges: tuple[tuple[str, tuple[tuple[str, int, int], ...]], ...]

  def __post_init__(self) -> None:
    _freeze_fields(self)


AnyGenotype = (
  Genotype
  | RecurrentGenotype
  | StackGenotype
  | NasBench201Genotype
  | SpaceGenotype
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
  found = itertools.islice(rules.problems(fields(g)), rules.MOST_PROBLEMS)
  if problems := list(found):
    refuse(problems)
  return g


def nodes(cell: ImageCell) -> tuple[Pairs, ...]:
  """Returns the pairs of each node of an image cell, whichever its form.

  >>> nodes((("skip_connect", 0), ("sep_conv_3x3", 1)))
  ((('skip_connect', 0), ('sep_conv_3x3', 1)),)
  >>> nodes(((("skip_connect", 0),),))
  ((('skip_connect', 0),),)
  """
  if rules.is_nested(cell):
    return cell
  return tuple(cell[i : i + 2] for i in range(0, len(cell), 2))


def chosen(g: AnyGenotype) -> dict[str, tuple[tuple[str, int, int], ...]]:
  """Returns the (operator, source, target) triples of each cell, by its name.

  Names and numbers are those of the supernet: "normal" and "reduce", "cell0"
  and on for the layers of a stack, "cell" of NAS-Bench-201, "recurrent"; of a
  space of one's own they are its own.

  >>> chosen(RecurrentGenotype([("tanh", 0), ("relu", 1)], [2]))
  {'recurrent': (('tanh', 0, 1), ('relu', 1, 2))}
  >>> from jnas.genotype import ZOO
  >>> chosen(ZOO["GDAS_F1"])["normal"][:3]
  (('skip_connect', 0, 2), ('skip_connect', 1, 2), ('skip_connect', 0, 3))
  """
  if isinstance(g, SpaceGenotype):
    return dict(g.edges)
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

  >>> from jnas.genotype import ZOO
  >>> skip_share(ZOO["DARTS_V2"])
  0.25
  """
  cells = chosen(g)
  ops = [op for name in normal_names(list(cells)) for op, *_ in cells[name]]
  return ops.count("skip_connect") / len(ops) if ops else 0.0


def refuse(problems: Sequence[str]) -> None:
  """Raises a ValueError with the problems, of at most 2,000 characters."""
  count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
  if len(problems) >= rules.MOST_PROBLEMS:
    count = f"{rules.MOST_PROBLEMS} problems or more"
  lines = [rules.cut(problem, 400) for problem in problems]
  while sum(len(line) + 3 for line in lines) > 1900:
    lines.pop()
  if len(lines) < len(problems):
    lines.append("...")
  text = "\n".join(f"  {line}" for line in lines)
  raise ValueError(f"The genotype has {count}:\n{text}")


def fields(g: AnyGenotype) -> dict[str, Any]:
  """Returns the fields of a genotype by name.

  >>> fields(RecurrentGenotype([("tanh", 0)], [1]))
  {'recurrent': (('tanh', 0),), 'concat': (1,)}
  """
  return {f.name: getattr(g, f.name) for f in dataclasses.fields(g)}


def _freeze(value: Any) -> Any:
  if isinstance(value, list | tuple | range):
    return tuple(_freeze(item) for item in value)
  return value


def _freeze_fields(g: AnyGenotype) -> None:
  for name, value in fields(g).items():
    value = _freeze(value)
    if name in ("normal", "reduce"):
      value = rules.canonical(value)
    elif name == "cells" and isinstance(value, tuple):
      value = tuple(map(rules.canonical, value))
    object.__setattr__(g, name, value)
