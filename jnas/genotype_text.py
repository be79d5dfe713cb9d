"""The text forms of genotypes: from text to plain values, and back.

Two forms are in use. Cells of the DARTS family are pasted around as a call,

  Genotype(normal=[('sep_conv_3x3', 1), ...], normal_concat=range(2, 6), ...)

and cells of NAS-Bench-201 as one list of `operator~input` for each node,

  |nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|none~2|

This module knows their syntax; what the values mean is `jnas.genotype`'s.
"""

import ast
from collections.abc import Mapping, Sequence
import json
import re
from typing import Any

# From the first bar of a word with a tilde to its last bar: the word may stand
# in a line of a log or of a csv file, and may be wrong inside.
_NODES = re.compile(r"\|[^|\s]*~\S*\|")


def read_call(text: str) -> tuple[list[Any], dict[str, Any]]:
  """Returns the positional and the named arguments of `Genotype(...)`.

  What stands before `Genotype(` is skipped; nothing is evaluated. Raises
  ValueError unless `text` holds one call whose arguments are literals.

  >>> read_call("best = Genotype([('tanh', 0)], concat=range(1, 3))")
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
      f"|op~0|+|op~0|op~1|+|...|, got {text[:60]!r}: {error}; paste one "
      "genotype, from 'Genotype(' to the last ')'."
    ) from error
  values = [_literal(arg) for arg in call.args]
  named: dict[str, Any] = {}
  for keyword in call.keywords:
    if keyword.arg is None or keyword.arg in named:
      raise again(keyword.arg or "**")
    named[keyword.arg] = _literal(keyword.value)
  return values, named


def again(name: str) -> ValueError:
  """Returns the error for a field that is given twice."""
  return ValueError(
    f"Expected each field once, got {name} again; write each as name=value."
  )


def has_text(text: str) -> bool:
  """Returns whether one of the text forms is in `text`, or a part of one.

  >>> has_text("best = Genotype(normal=["), has_text("best")
  (True, False)
  """
  return "Genotype(" in text or has_nodes(text)


def has_nodes(text: str) -> bool:
  """Returns whether `read_nodes` is to read `text`, rather than `read_call`.

  >>> has_nodes("0,|none~0|+|none~0|none~1|,69.55"), has_nodes("~/a|b|")
  (True, False)
  """
  return "Genotype(" not in text and _NODES.search(text) is not None


def read_nodes(text: str) -> tuple[tuple[tuple[str, int], ...], ...]:
  """Returns the (operator, input) pairs of each node of a NAS-Bench-201 cell.

  Raises ValueError unless there is one such cell in `text`.

  >>> read_nodes("arch: |none~0|+|skip_connect~0|none~1|")
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
      f"Expected operator~input, as in skip_connect~1, got {item!r} in "
      f"{where[:100]!r}; separate pairs by '|' and nodes by '|+|'."
    )
  return op, int(source)


def read_json(text: str, where: str) -> Any:
  """Returns the fields of a genotype from JSON; `where` is for the error.

  genotype.json of a run wraps them with the step and the epoch.

  >>> read_json('{"step": 3, "genotype": {"concat": [1]}}', "a string")
  {'concat': [1]}
  """
  try:
    data = json.loads(text)
  except (json.JSONDecodeError, RecursionError) as error:
    raise ValueError(
      f"Expected a genotype as JSON or as Genotype(...) in {where}, got text "
      f"that is neither ({error}); write it with jnas.genotype.to_json."
    ) from error
  if isinstance(data, dict) and isinstance(data.get("genotype"), dict):
    data = data["genotype"]
  return data


def format_call(fields: Mapping[str, Any]) -> str:
  """Returns the call with these fields; `read_call` reads it back.

  >>> format_call({"recurrent": (("tanh", 0),), "concat": (1, 2)})
  "Genotype(recurrent=[('tanh', 0)], concat=range(1, 3))"
  >>> format_call({"cells": (((("relu", 0),), (("relu", 1),)),)})
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


def format_nodes(nodes: Sequence[Sequence[tuple[str, int]]]) -> str:
  """Returns the text form of NAS-Bench-201; `read_nodes` reads it back.

  >>> format_nodes([[("none", 0)], [("skip_connect", 0), ("none", 1)]])
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
