"""The forms in which genotypes are written: text and JSON, and back.

Two text forms are in use. Cells of the DARTS family are pasted around as a
call,

  Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=range(2, 6), ...)

and cells of NAS-Bench-201 as one list of `operator~input` for each node,

  |nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|none~2|
"""

import ast
from collections.abc import Container, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import itertools
import json
import re
from typing import Any

from jnas.genotype import rules
from jnas.genotype.types import (
  AnyGenotype,
  Genotype,
  NasBench201Genotype,
  RecurrentGenotype,
  SpaceGenotype,
  StackGenotype,
  fields,
  refuse,
  validate,
)

# Characters of a text, and nodes of a range: of what is read, not of cells.
MOST_TEXT = 2**18
_MOST_NODES = 100


def parse(text: str) -> AnyGenotype:
  """Returns the genotype written in `text`, validated; nothing is evaluated.

  Takes keywords or positions, lists, tuples, `range(a, b)` and None, and skips
  what stands before `Genotype(`, so a line of a log can be pasted whole. Takes
  a line with a cell of NAS-Bench-201 in that benchmark's own form, too.
  Raises ValueError for anything else, naming the line and every problem, and
  for more than 262,144 characters.

  >>> g = parse("best = Genotype(normal=[('skip_connect', 0), "
  ...           "('sep_conv_3x3', 1)], normal_concat=range(2, 3), "
  ...           "reduce=None, reduce_concat=None)")
  >>> g.normal
  (('skip_connect', 0), ('sep_conv_3x3', 1))
  >>> parse("Genotype(recurrent=[('tanh', 0), ('relu', 1)], concat=[1, 2])")
  RecurrentGenotype(recurrent=(('tanh', 0), ('relu', 1)), concat=(1, 2))
  >>> parse("Genotype(space='mine:it', edges=[['a', [['mb3', 0, 1]]]])").edges
  (('a', (('mb3', 0, 1),)),)
  >>> cell = parse("|none~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|")
  >>> cell.nodes[2]
  (('none', 0), ('none', 1), ('skip_connect', 2))
  """
  with _bounded(text):
    return _parse(text)


def _parse(text: str) -> AnyGenotype:
  if _has_nodes(text):
    return validate(NasBench201Genotype(_read_nodes(text)))
  values, named = _read_call(text)
  two = len(values) == 2 and not named
  kind = RecurrentGenotype if two else _kind(named)
  # Pairs are recurrent; lists of pairs, or of nodes, are the cells of a stack.
  nested = bool(values) and rules.is_nested(values[0])
  if kind is RecurrentGenotype and nested:
    kind = StackGenotype
  names = [f.name for f in dataclasses.fields(kind)]
  # Positions after the last field keep a name that _build refuses.
  names += [f"value {i + 1}" for i in range(len(names), len(values))]
  given = dict(zip(names, values, strict=False))
  if twice := given.keys() & named.keys():
    raise _again(min(twice))
  return _build(kind, given | named)


@contextlib.contextmanager
def _bounded(text: str) -> Iterator[None]:
  """Refuses text that is too long, and what is nested too deep."""
  if len(text) > MOST_TEXT:
    raise ValueError(
      f"Expected a genotype of at most {MOST_TEXT:,} characters, got "
      f"{len(text):,}, from {text[:60]!r} on; paste one genotype only."
    )
  try:
    yield
  except (RecursionError, MemoryError) as error:
    raise ValueError(
      f"Expected lists of pairs, got ones that are nested very deep in "
      f"{text[:60]!r}; paste one genotype."
    ) from error


def format_text(g: AnyGenotype) -> str:
  """Returns the text form of the field, on one line; `parse` reads it back.

  >>> format_text(RecurrentGenotype([("tanh", 0), ("relu", 1)], [1, 2]))
  "Genotype(recurrent=[('tanh', 0), ('relu', 1)], concat=range(1, 3))"
  >>> format_text(parse("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"))
  '|none~0|+|none~0|none~1|+|none~0|none~1|none~2|'
  """
  if isinstance(g, NasBench201Genotype):
    return _format_nodes(g.nodes)
  return _format_call(fields(g))


def to_json(g: AnyGenotype) -> dict[str, Any]:
  """Returns lists and strings only; `from_json` reads it back.

  >>> to_json(RecurrentGenotype([("tanh", 0)], [1]))
  {'recurrent': [['tanh', 0]], 'concat': [1]}
  """
  return json.loads(json.dumps(fields(g)))


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
  with _bounded(""):
    return _build(_kind(data), data)


def _build(kind: type, values: Mapping[str, Any]) -> Any:
  """Returns a validated `kind` from named fields; all of them, no other."""
  names = [field.name for field in dataclasses.fields(kind)]
  known = f"; the fields are {', '.join(names)}"
  problems = [
    f"unknown field {name!r}{rules.near(name, names) or known}"
    for name in itertools.islice(values, len(names) + rules.MOST_PROBLEMS)
    if name not in names
  ]
  for name in names:
    if name not in values and name != "reduce_concat":
      hint = " (None for GDAS's fixed cell)" if name == "reduce" else ""
      problems.append(f"missing field {name!r}{hint}")
  if problems:
    refuse(problems)
  return validate(kind(**values))


def _kind(names: Container[str]) -> type:
  """Returns the kind of genotype that has fields of these names."""
  for name, kind in (
    ("space", SpaceGenotype),
    ("nodes", NasBench201Genotype),
    ("cells", StackGenotype),
    ("recurrent", RecurrentGenotype),
    ("concat", RecurrentGenotype),
  ):
    if name in names:
      return kind
  return Genotype


# The syntax.

# From the first bar of a word with a tilde to its last bar: the word may stand
# in a line of a log or of a csv file, and may be wrong inside.
_NODES = re.compile(r"\|[^|\s~]*~\S*\|")


def _read_call(text: str) -> tuple[list[Any], dict[str, Any]]:
  """Returns the positional and the named arguments of `Genotype(...)`.

  What stands before `Genotype(` is skipped; nothing is evaluated. Raises
  ValueError unless `text` holds one call whose arguments are literals.

  >>> _read_call("best = Genotype([('tanh', 0)], concat=range(1, 3))")
  ([(('tanh', 0),)], {'concat': (1, 2)})
  """
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
      "Expected one Genotype(normal=[...], ...), or a cell of NAS-Bench-201 "
      f"|op~0|+|op~0|op~1|+|...|, got {text[:60]!r}: {str(error)[:200]}; "
      "paste one genotype, from 'Genotype(' to the last ')'."
    ) from error
  values = [_literal(arg) for arg in call.args]
  named: dict[str, Any] = {}
  for keyword in call.keywords:
    if keyword.arg is None or keyword.arg in named:
      raise _again(keyword.arg or "**")
    named[keyword.arg] = _literal(keyword.value)
  return values, named


def _again(name: str) -> ValueError:
  """Returns the error for a field that is given twice."""
  return ValueError(
    f"Expected each field once, got {name[:100]} again; write each as "
    "name=value."
  )


def has_text(text: str) -> bool:
  """Returns whether one of the text forms is in `text`, or a part of one.

  >>> has_text("best = Genotype(normal=["), has_text("best")
  (True, False)
  """
  return "Genotype(" in text or _has_nodes(text)


def _has_nodes(text: str) -> bool:
  """Returns whether `_read_nodes` is to read `text`, rather than `_read_call`.

  >>> _has_nodes("0,|none~0|+|none~0|none~1|,69.55"), _has_nodes("~/a|b|")
  (True, False)
  """
  return "Genotype(" not in text and _NODES.search(text) is not None


def _read_nodes(text: str) -> tuple[tuple[tuple[str, int], ...], ...]:
  """Returns the (operator, input) pairs of each node of a NAS-Bench-201 cell.

  Raises ValueError unless there is one such cell in `text`.

  >>> _read_nodes("arch: |none~0|+|skip_connect~0|none~1|")
  ((('none', 0),), (('skip_connect', 0), ('none', 1)))
  """
  found = _NODES.findall(text)
  if len(found) != 1:
    raise ValueError(
      f"Expected one cell |op~0|+|op~0|op~1|+|op~0|op~1|op~2|, got "
      f"{len(found)} in {text[:60]!r}; paste one of them."
    )
  nodes = found[0].removeprefix("|").removesuffix("|").split("|+|")
  return tuple(
    tuple(_node_pair(item, found[0]) for item in node.split("|"))
    for node in nodes
  )


def _node_pair(item: str, where: str) -> tuple[str, int]:
  op, _, source = item.partition("~")
  # int() takes '+1', '1_0' and digits of other scripts, too.
  if not op or not re.fullmatch("[0-9]{1,3}", source):
    raise ValueError(
      f"Expected operator~input, as in skip_connect~1, got {item[:100]!r} in "
      f"{where[:100]!r}; separate pairs by '|' and nodes by '|+|'."
    )
  return op, int(source)


def read_json(text: str, where: str) -> AnyGenotype:
  """Returns the genotype in a JSON text; `where` is for the error.

  genotype.json of a run wraps its fields with the step and the epoch.

  >>> read_json('{"step": 3, "genotype": {"recurrent": [["tanh", 0]], '
  ...           '"concat": [1]}}', "a string").concat
  (1,)
  """
  with _bounded(text):
    try:
      data = json.loads(text)
    except (ValueError, RecursionError) as error:
      raise ValueError(
        f"Expected a genotype as JSON or as Genotype(...) in {where}, got text "
        f"that is neither ({str(error)[:200]}); write it with "
        "jnas.genotype.to_json."
      ) from error
    if isinstance(data, dict) and isinstance(data.get("genotype"), dict):
      data = data["genotype"]
    return from_json(data)


def _format_call(fields: Mapping[str, Any]) -> str:
  """Returns the call with these fields; `_read_call` reads it back.

  >>> _format_call({"recurrent": (("tanh", 0),), "concat": (1, 2)})
  "Genotype(recurrent=[('tanh', 0)], concat=range(1, 3))"
  >>> _format_call({"cells": (((("relu", 0),), (("relu", 1),)),)})
  "Genotype(cells=[[[('relu', 0)], [('relu', 1)]]])"
  """
  parts = []
  for name, value in fields.items():
    if value is None:
      shown = "None"
    elif name.endswith("concat"):
      shown = _format_concat(value)
    else:
      shown = repr(_lists(value))
    parts.append(f"{name}={shown}")
  return f"Genotype({', '.join(parts)})"


def _format_nodes(nodes: Sequence[Sequence[tuple[str, int]]]) -> str:
  """Returns the text form of NAS-Bench-201; `_read_nodes` reads it back.

  >>> _format_nodes([[("none", 0)], [("skip_connect", 0), ("none", 1)]])
  '|none~0|+|skip_connect~0|none~1|'
  """
  return "+".join(
    f"|{'|'.join(f'{op}~{source}' for op, source in node)}|" for node in nodes
  )


def _lists(value: Any) -> Any:
  """Returns cells and nodes as lists; pairs stay tuples."""
  if isinstance(value, tuple) and all(isinstance(v, tuple) for v in value):
    return [_lists(item) for item in value]
  return value


def _format_concat(concat: Sequence[int]) -> str:
  first, last = concat[0], concat[-1]
  if list(concat) == list(range(first, last + 1)) and len(concat) > 1:
    return f"range({first}, {last + 1})"
  return repr(list(concat))


def _is_int(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool)


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
    name, args = _source(node.func), [_literal(arg) for arg in node.args]
    if name in ("list", "tuple") and [type(arg) for arg in args] == [tuple]:
      return args[0]
    if name == "range" and len(args) in (1, 2) and all(map(_is_int, args)):
      first, last = (0, *args)[-2:]
      # A concat is a handful of nodes; range(2, 10**12) is a typing error.
      if last - first <= _MOST_NODES:
        return tuple(range(first, last))
  raise ValueError(
    f"Expected text, whole numbers, None, lists, tuples or range(a, b), got "
    f"{_source(node)!r} at line {node.lineno}, column {node.col_offset + 1}; "
    "write the value out."
  )


def _source(node: ast.AST) -> str:
  """Returns the beginning of what stands in the text."""
  try:
    return ast.unparse(node)[:60]
  except Exception:  # not everything that is parsed can be written again
    return "something else"
