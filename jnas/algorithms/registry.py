"""The algorithms that have names, and those that are named by import path."""

from typing import Any

from jnas import imports
from jnas.algorithms import (
  amended,
  darts,
  darts_minus,
  darts_pt,
  drnas,
  entrannas,
  gdas,
  goldnas,
  oles,
  pcdarts,
  pdarts,
  random,
  snas,
)
from jnas.algorithms.method import Method, method

METHODS: dict[str, Method] = {
  "darts": darts.METHOD,
  "amended": amended.METHOD,
  "pcdarts": pcdarts.METHOD,
  "darts_minus": darts_minus.METHOD,
  "darts_pt": darts_pt.METHOD,
  "drnas": drnas.METHOD,
  "oles": oles.METHOD,
  "gdas": gdas.METHOD,
  "snas": snas.METHOD,
  "pdarts": pdarts.METHOD,
  "random": random.METHOD,
  "entrannas": entrannas.METHOD,
  "dst": entrannas.DST,
  "goldnas": goldnas.METHOD,
}


_own: dict[str, Method] = {}  # of programs that use the package


def find(name: str) -> Method:
  """The method of a name, or of an import path such as mine:fair_darts.

  Raises:
    ValueError: there is none; the message says what there is.
  """
  known = METHODS | _own
  if name in known:
    return known[name]
  if ":" not in name:
    raise ValueError(
      f"expected one of {', '.join(METHODS)}, or an import path such as "
      f"mine:fair_darts, got {name!r}"
    )
  return method(imports.find(name))


def register(found: Any, name: str = "") -> str:
  """Makes a method, or a function as `method` takes it, known; gives its name.

  Args:
    found: of a program of one's own.
    name: by which `algo.name` shall know it; by default its import path.
  """
  own = method(found)
  place = f"{getattr(found, '__module__', 'own')}"
  name = name or f"{place}:{getattr(found, '__qualname__', own.title)}"
  _own[name] = own
  return name
