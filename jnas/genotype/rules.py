"""What makes a genotype invalid.

An image cell is flat, pairs of which each node has two, or nested, nodes that
each have any number of pairs: what tells them apart is here, too.
The kind of a genotype is told by the names of its fields: see `jnas.genotype`.
"""

from collections.abc import Iterator, Mapping, Sequence
import difflib
from typing import Any

from jnas.genotype.operators import (
  NAS_BENCH_201_OPERATIONS,
  OPERATIONS,
  RECURRENT_OPERATIONS,
  is_own,
)

MOST_PROBLEMS = 30  # that are looked for in one genotype


def problems(fields: Mapping[str, Any]) -> Iterator[str]:
  """Yields what is wrong with a genotype, given its fields by name.

  >>> list(problems({"recurrent": (("rellu", 0),), "concat": (1,)}))
  ["recurrent[0] = ('rellu', 0): unknown operator 'rellu'; did you mean \
'relu'?"]
  """
  if "space" in fields:
    yield from _space_problems(fields["space"], fields["edges"])
    return
  if "nodes" in fields:
    yield from _nas_bench_201_problems(fields["nodes"])
    return
  if "cells" in fields:
    yield from _stack_problems(fields["cells"], fields["concat"])
    return
  if "recurrent" in fields:
    pairs = fields["recurrent"]
    yield from _pair_problems("recurrent", pairs, RECURRENT_OPERATIONS, 1, 1)
    yield from _concat_problems("concat", fields["concat"], pairs, 1, 1)
    return
  for name in ("normal", "reduce"):
    cell, concat = fields[name], f"{name}_concat"
    if name == "normal" or cell is not None:
      yield from _image_problems(name, cell)
      yield from _concat_problems(concat, fields[concat], cell, 2, 2)


def is_nested(cell: Any) -> bool:
  """Returns whether a cell has nodes that have pairs, rather than pairs.

  One node is enough, so that what is wrong with the others can be told. A
  stack of flat cells has the same form.

  >>> is_nested(((("tanh", 0),), ("relu", 0))), is_nested((("tanh", 0),))
  (True, False)
  """
  return isinstance(cell, tuple) and any(map(_is_node, cell))


def canonical(cell: Any) -> Any:
  """Returns a nested cell of two pairs a node as a flat one, others as is.

  >>> canonical(((("tanh", 0), ("relu", 1)),))
  (('tanh', 0), ('relu', 1))
  """
  two = is_nested(cell) and all(_is_node(n) and len(n) == 2 for n in cell)
  return tuple(pair for node in cell for pair in node) if two else cell


def _stack_problems(cells: Any, concat: Any) -> Iterator[str]:
  """Yields what is wrong with a stack of independent cells."""
  if not isinstance(cells, tuple) or not cells:
    yield f"cells: expected a list of pairs for each layer, got {cells!r}"
    return
  for i, cell in enumerate(cells):
    yield from _image_problems(f"cells[{i}]", cell)
  # What the shortest cell can join, all of them can.
  known = [cell for cell in cells if isinstance(cell, tuple)]
  shortest = min(known, key=lambda cell: _count(cell, 2), default=())
  yield from _concat_problems("concat", concat, shortest, 2, 2)


def _image_problems(name: str, cell: Any) -> Iterator[str]:
  """Yields what is wrong with one image cell, of pairs or of nodes."""
  if not is_nested(cell):
    yield from _pair_problems(name, cell, OPERATIONS, 2, 2)
    return
  for i, node in enumerate(cell):
    if not _is_node(node) or not node:
      yield (
        f"{name}[{i}] = {node!r}: expected one or more (operator, input) pairs "
        f"of node {i}, in a list"
      )
      continue
    seen = set()
    for j, pair in enumerate(node):
      where = f"{name}[{i}][{j}] = {pair!r}"
      wrong = list(_one_pair_problems(where, pair, OPERATIONS, i, 2))
      yield from wrong
      if not wrong and pair in seen:
        yield f"{where}: node {i} has this pair already"
      seen |= set() if wrong else {pair}


def _space_problems(space: Any, cells: Any) -> Iterator[str]:
  """Yields what is wrong with a genotype whose operators are not known here."""
  if not isinstance(space, str) or not space:
    yield f"space: expected the name of a search space, got {space!r}"
  named = isinstance(cells, tuple) and all(
    _is_pair(cell) and isinstance(cell[0], str) for cell in cells
  )
  if not named or not cells or len(dict(cells)) < len(cells):
    yield (
      "edges: expected [(cell, [(operator, source, target), ...]), ...] with "
      f"each cell once, got {cells!r}"
    )
    return
  for name, triples in cells:
    for i, triple in enumerate(triples if isinstance(triples, tuple) else [0]):
      sound = isinstance(triple, tuple) and len(triple) == 3
      if not sound or not (
        isinstance(triple[0], str)
        and all(map(_is_int, triple[1:]))
        and 0 <= triple[1] < triple[2]
      ):
        yield (
          f"edges, {name}[{i}] = {triple!r}: expected (operator, source, "
          "target) with 0 <= source < target"
        )


def _nas_bench_201_problems(nodes: Any) -> Iterator[str]:
  """Yields what is wrong with the nodes of a cell of NAS-Bench-201."""
  if not isinstance(nodes, tuple) or len(nodes) != 3:
    yield f"nodes: expected the pairs of nodes 1, 2 and 3, got {nodes!r}"
    return
  for i, pairs in enumerate(nodes):
    name, inputs = f"nodes[{i}]", list(range(i + 1))
    if not isinstance(pairs, tuple) or not all(map(_is_pair, pairs)):
      yield f"{name}: expected a list of (operator, input) pairs, got {pairs!r}"
      continue
    for j, (op, _) in enumerate(pairs):
      where = f"{name}[{j}] = {pairs[j]!r}"
      yield from _operator_problems(where, op, NAS_BENCH_201_OPERATIONS)
    sources = [source for _, source in pairs]
    if sources != inputs or not all(map(_is_int, sources)):
      yield (
        f"{name}: node {i + 1} reads each of the inputs {inputs} once, in this "
        f"order, got {sources}"
      )


def cut(text: str, longest: int) -> str:
  """Returns a text, its middle left out where it is longer than `longest`.

  >>> cut("a" * 9 + "b" * 9, 11)
  'aaa ... bbb'
  """
  half = (longest - 5) // 2
  return text if len(text) <= longest else f"{text[:half]} ... {text[-half:]}"


def near(word: Any, known: Sequence[str] | Mapping[str, Any]) -> str:
  """Returns a question for the known name nearest to `word`, or nothing.

  >>> near("tahn", RECURRENT_OPERATIONS), near("conv", RECURRENT_OPERATIONS)
  ("; did you mean 'tanh'?", '')
  """
  lowered = {name.lower(): name for name in known}
  word = word[:100].lower() if isinstance(word, str) else ""
  close = difflib.get_close_matches(word, lowered, n=1)
  return f"; did you mean {lowered[close[0]]!r}?" if close else ""


def _is_int(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool)


def _is_pair(value: Any) -> bool:
  return isinstance(value, tuple) and len(value) == 2 and not _is_node(value)


def _is_node(value: Any) -> bool:
  # A pair holds no tuples, a node nothing else.
  return isinstance(value, tuple) and all(isinstance(v, tuple) for v in value)


def _count(cell: tuple, per_node: int) -> int:
  """Returns how many nodes a cell has."""
  return len(cell) if is_nested(cell) else len(cell) // per_node


def _operator_problems(
  where: str, op: Any, operations: Sequence[str]
) -> Iterator[str]:
  """Yields that an operator is not one of `operations`, if so."""
  if op not in operations and not (isinstance(op, str) and is_own(op)):
    hint = near(op, operations) or f"; known are {', '.join(operations)}"
    yield f"{where}: unknown operator {op!r}{hint}"


def _pair_problems(
  name: str, pairs: Any, operations: Sequence[str], inputs: int, per_node: int
) -> Iterator[str]:
  """Yields what is wrong with the pairs of one cell."""
  if not isinstance(pairs, tuple) or not pairs:
    yield f"{name}: expected a list of (operator, input) pairs, got {pairs!r}"
    return
  if len(pairs) % per_node:
    yield (
      f"{name}: expected {per_node} pairs a node, so an even number, got "
      f"{len(pairs)}; for other numbers give each node a list of its pairs"
    )
  for i, pair in enumerate(pairs):
    where, node = f"{name}[{i}] = {pair!r}", i // per_node
    yield from _one_pair_problems(where, pair, operations, node, inputs)


def _one_pair_problems(
  where: str, pair: Any, operations: Sequence[str], node: int, inputs: int
) -> Iterator[str]:
  """Yields what is wrong with one pair of a node."""
  if not _is_pair(pair):
    yield f"{where}: expected a pair (operator, input)"
    return
  op, source = pair
  yield from _operator_problems(where, op, operations)
  last = node + inputs - 1
  if not _is_int(source) or not 0 <= source <= last:
    yield f"{where}: node {node} may read inputs 0 to {last}, got {source!r}"


def _concat_problems(
  name: str, concat: Any, cell: Any, inputs: int, per_node: int
) -> Iterator[str]:
  """Yields what is wrong with the concat of one cell."""
  if not isinstance(concat, tuple) or not concat:
    yield f"{name}: expected the nodes to join, as range(2, 6), got {concat!r}"
    return
  nodes = _count(cell, per_node) if isinstance(cell, tuple) else 0
  last = inputs + nodes - 1
  wrong = [n for n in concat if not _is_int(n) or not inputs <= n <= last]
  if wrong:
    shown = ", ".join(map(repr, wrong[:MOST_PROBLEMS]))
    yield f"{name}: expected nodes out of {inputs} to {last}, got {shown}"
  elif len(set(concat)) < len(concat):
    yield f"{name}: expected each node once, got {list(concat)}"
