"""Genotypes: the discrete cells that a search ends with.

A cell is a list of (operator, input) pairs. In image cells each node adds up
two of them: pairs 2i and 2i+1 belong to node i. Inputs 0 and 1 are the outputs
of the two cells before, c_{k-2} and c_{k-1}; input 2+i is node i. In recurrent
cells each node has one pair, input 0 is the initial state and input 1+i is
node i. The concat lists the nodes that make up the output of the cell.

The text form is the one that the field has pasted around since DARTS:

  Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=range(2, 6),
           reduce=[...], reduce_concat=range(2, 6))
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import difflib
import json
import os
from types import MappingProxyType
from typing import Any

from jnas import zoo

# The order of the first eight is the one of DARTS: rows of alpha, and ties.
OPERATIONS = (
  *("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect"),
  *("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"),
  *("sep_conv_7x7", "conv_7x1_1x7", "conv_3x1_1x3"),
)
RECURRENT_OPERATIONS = ("none", "tanh", "relu", "sigmoid", "identity")

Pairs = tuple[tuple[str, int], ...]


@dataclasses.dataclass(frozen=True)
class Genotype:
  """The normal and the reduction cell of an image network.

  Lists and ranges become tuples, so a pasted text form is also valid Python.
  Nothing is checked here: call `validate`.
  `reduce=None` means the fixed reduction cell of GDAS.

  >>> Genotype([("skip_connect", 0), ("skip_connect", 1)], range(2, 3), None)
  Genotype(normal=(('skip_connect', 0), ('skip_connect', 1)), \
normal_concat=(2,), reduce=None, reduce_concat=None)
  """

  normal: Pairs
  normal_concat: tuple[int, ...]
  reduce: Pairs | None
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


AnyGenotype = Genotype | RecurrentGenotype


def parse(text: str) -> AnyGenotype:
  """Returns the genotype written in `text`, validated; nothing is evaluated.

  Takes keywords or positions, lists, tuples, `range(a, b)` and None, and skips
  what stands before `Genotype(`, so a line of a log can be pasted whole.
  Raises ValueError for anything else, naming the line and every problem.

  >>> g = parse("best = Genotype(normal=[('skip_connect', 0), "
  ...           "('sep_conv_3x3', 1)], normal_concat=range(2, 3), "
  ...           "reduce=None, reduce_concat=None)")
  >>> g.normal
  (('skip_connect', 0), ('sep_conv_3x3', 1))
  >>> parse("Genotype(recurrent=[('tanh', 0), ('relu', 1)], concat=[1, 2])")
  RecurrentGenotype(recurrent=(('tanh', 0), ('relu', 1)), concat=(1, 2))
  """
  fields = _read_call(text)
  if set(fields) & {"recurrent", "concat"}:
    return _build(RecurrentGenotype, fields)
  return _build(Genotype, fields)


def format_text(g: AnyGenotype) -> str:
  """Returns the text form of the field, on one line; `parse` reads it back.

  >>> format_text(ZOO["GDAS_F1"])[-39:]
  'reduce=None, reduce_concat=range(2, 6))'
  >>> format_text(RecurrentGenotype([("tanh", 0), ("relu", 1)], [1, 2]))
  "Genotype(recurrent=[('tanh', 0), ('relu', 1)], concat=range(1, 3))"
  """
  parts = []
  for name, value in _fields(g).items():
    if value is None:
      shown = "None"
    elif name.endswith("concat"):
      shown = _format_concat(value)
    else:
      shown = repr([tuple(pair) for pair in value])
    parts.append(f"{name}={shown}")
  return f"Genotype({', '.join(parts)})"


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
  if set(data) & {"recurrent", "concat"}:
    return _build(RecurrentGenotype, data)
  return _build(Genotype, data)


def load(
  source: str | os.PathLike[str], recurrent: bool = False
) -> AnyGenotype:
  """Returns the genotype that `source` names or holds, validated.

  `source` is a name of the zoo, the text or JSON form itself, or a path: the
  workdir of a run, a `genotype.json`, a file with the text form. Image and
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
  if "Genotype(" in text:
    return parse(text)
  if text.startswith("{"):
    return _from_json_text(text, "the JSON text")
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
    if "Genotype(" in content and not content.lstrip().startswith("{"):
      return parse(content)
    return _from_json_text(content, path)
  raise ValueError(
    "Expected a genotype: a path, the text Genotype(...) or a name of the zoo "
    f"({', '.join(cells)}), got {text[:60]!r}{_near(text, cells) or '.'}"
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
  if isinstance(g, RecurrentGenotype):
    problems = [
      *_pair_problems("recurrent", g.recurrent, RECURRENT_OPERATIONS, 1, 1),
      *_concat_problems("concat", g.concat, g.recurrent, 1, 1),
    ]
  else:
    problems = [
      *_pair_problems("normal", g.normal, OPERATIONS, 2, 2),
      *_concat_problems("normal_concat", g.normal_concat, g.normal, 2, 2),
    ]
    if g.reduce is not None:
      problems += [
        *_pair_problems("reduce", g.reduce, OPERATIONS, 2, 2),
        *_concat_problems("reduce_concat", g.reduce_concat, g.reduce, 2, 2),
      ]
  if problems:
    _refuse(problems)
  return g


def _refuse(problems: Sequence[str]) -> None:
  count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
  lines = "\n".join(f"  {problem}" for problem in problems)
  raise ValueError(f"The genotype has {count}:\n{lines}")


def _near(word: Any, known: Sequence[str] | Mapping[str, Any]) -> str:
  lowered = {name.lower(): name for name in known}
  close = difflib.get_close_matches(str(word).lower(), lowered, n=1)
  return f"; did you mean {lowered[close[0]]!r}?" if close else ""


def _is_int(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool)


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
      f"{len(pairs)}"
    )
  for i, pair in enumerate(pairs):
    where = f"{name}[{i}] = {pair!r}"
    if not isinstance(pair, tuple) or len(pair) != 2:
      yield f"{where}: expected a pair (operator, input)"
      continue
    op, source = pair
    if op not in operations:
      hint = _near(op, operations) or f"; known are {', '.join(operations)}"
      yield f"{where}: unknown operator {op!r}{hint}"
    node = i // per_node
    last = node + inputs - 1
    if not _is_int(source) or not 0 <= source <= last:
      yield f"{where}: node {node} may read inputs 0 to {last}, got {source!r}"


def _concat_problems(
  name: str, concat: Any, pairs: Any, inputs: int, per_node: int
) -> Iterator[str]:
  """Yields what is wrong with the concat of one cell."""
  if not isinstance(concat, tuple) or not concat:
    yield f"{name}: expected the nodes to join, as range(2, 6), got {concat!r}"
    return
  nodes = len(pairs) // per_node if isinstance(pairs, tuple) else 0
  last = inputs + nodes - 1
  wrong = [n for n in concat if not _is_int(n) or not inputs <= n <= last]
  if wrong:
    shown = ", ".join(map(repr, wrong))
    yield f"{name}: expected nodes out of {inputs} to {last}, got {shown}"
  elif len(set(concat)) < len(concat):
    yield f"{name}: expected each node once, got {list(concat)}"


def _build(kind: type, values: Mapping[str, Any]) -> Any:
  """Returns a validated `kind` from named fields; all of them, no other."""
  names = [field.name for field in dataclasses.fields(kind)]
  known = f"; the fields are {', '.join(names)}"
  unknown = [name for name in values if name not in names]
  problems = [f"unknown field {n!r}{_near(n, names) or known}" for n in unknown]
  for name in names:
    if name not in values and name != "reduce_concat":
      hint = " (None for GDAS's fixed cell)" if name == "reduce" else ""
      problems.append(f"missing field {name!r}{hint}")
  if problems:
    _refuse(problems)
  return validate(kind(**values))


def _from_json_text(text: str, where: str) -> AnyGenotype:
  try:
    data = json.loads(text)
  except (json.JSONDecodeError, RecursionError) as error:
    raise ValueError(
      f"Expected a genotype as JSON or as Genotype(...) in {where}, got text "
      f"that is neither ({error}); write it with jnas.genotype.to_json."
    ) from error
  # genotype.json of a run wraps the cells with the step and the epoch.
  if isinstance(data, dict) and isinstance(data.get("genotype"), dict):
    data = data["genotype"]
  return from_json(data)


def _fields(g: AnyGenotype) -> dict[str, Any]:
  return {f.name: getattr(g, f.name) for f in dataclasses.fields(g)}


def _freeze(value: Any) -> Any:
  if isinstance(value, list | tuple | range):
    return tuple(_freeze(item) for item in value)
  return value


def _freeze_fields(g: AnyGenotype) -> None:
  for name, value in _fields(g).items():
    object.__setattr__(g, name, _freeze(value))


def _format_concat(concat: Sequence[int]) -> str:
  first, last = concat[0], concat[-1]
  if list(concat) == list(range(first, last + 1)) and len(concat) > 1:
    return f"range({first}, {last + 1})"
  return repr(list(concat))


def _read_call(text: str) -> dict[str, Any]:
  """Returns the arguments of the one `Genotype(...)` in `text`, by name."""
  start = text.find("Genotype(")
  try:
    if start < 0:
      raise ValueError("there is no 'Genotype(' in it")
    body = ast.parse(text[start:]).body
    call = body[0].value if isinstance(body[0], ast.Expr) else None
    if len(body) > 1 or not isinstance(call, ast.Call):
      raise ValueError("there is more than one thing in it")
  except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
    raise ValueError(
      f"Expected one Genotype(normal=[...], ...), got {text[:60]!r}: {error}; "
      "paste one genotype, from 'Genotype(' to the last ')'."
    ) from error
  recurrent = len(call.args) == 2 and not call.keywords
  kind = RecurrentGenotype if recurrent else Genotype
  names = [f.name for f in dataclasses.fields(kind)]
  # Positions after the last field keep a name that _build refuses.
  names += [f"value {i + 1}" for i in range(len(names), len(call.args))]
  fields = dict(zip(names, map(_literal, call.args), strict=False))
  for keyword in call.keywords:
    if keyword.arg is None or keyword.arg in fields:
      raise ValueError(
        f"Expected each field once, got {keyword.arg or '**'} again; write "
        "each as name=value."
      )
    fields[keyword.arg] = _literal(keyword.value)
  return fields


def _literal(node: ast.AST) -> Any:
  """Returns the value of a literal: text, integer, None, list, range."""
  if isinstance(node, ast.Constant) and (
    node.value is None or isinstance(node.value, str) or _is_int(node.value)
  ):
    return node.value
  if isinstance(node, ast.List | ast.Tuple):
    return tuple(_literal(item) for item in node.elts)
  if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
    value = _literal(node.operand)
    if _is_int(value):
      return -value
  if isinstance(node, ast.Call) and not node.keywords:
    name, args = ast.unparse(node.func), [_literal(arg) for arg in node.args]
    if name in ("list", "tuple") and [type(arg) for arg in args] == [tuple]:
      return args[0]
    if name == "range" and len(args) in (1, 2) and all(map(_is_int, args)):
      # A concat is a handful of nodes; range(2, 10**12) is a typing error.
      if len(values := range(*args)) <= 1000:
        return tuple(values)
  raise ValueError(
    f"Expected text, whole numbers, None, lists, tuples or range(a, b), got "
    f"{ast.unparse(node)[:60]!r} at line {node.lineno}, column "
    f"{node.col_offset + 1}; write the value out."
  )


ZOO: Mapping[str, Genotype] = MappingProxyType(
  {name: parse(text) for name, text in zoo.IMAGES.items()}
)
RECURRENT_ZOO: Mapping[str, RecurrentGenotype] = MappingProxyType(
  {name: parse(text) for name, text in zoo.RECURRENT.items()}
)
