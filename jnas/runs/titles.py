"""What a run calls its algorithm and its metrics, for the report on it.

It is written into run.json; the form is that of `jnas.report.records`.
"""

from collections.abc import Mapping
from typing import Any

from jnas.algorithms import registry


def titles(
  name: str, hypergrad: str = "", one_level: bool = False
) -> dict[str, Any]:
  """Returns the titles of an algorithm, by its name in a config.

  >>> titles("darts", "first_order")["algorithm"]
  'DARTS, first order'
  """
  method = registry.find(name)
  title = method.title
  if one_level:
    title += ", one level"
  elif method.one_level or not method.learns:
    pass  # there is no hypergradient
  elif hypergrad not in ("", "amended"):
    title += f", {hypergrad.replace('_', ' ')}"
  found = {"algorithm": title, "sections": list(method.sections)}
  return found | ({"weights": method.weights} if method.weights else {})


def metrics(found: Mapping[str, Any]) -> set[str]:
  """Returns the metrics that sections of titles draw: those of a paper.

  >>> sorted(metrics(titles("oles")))
  ['frozen_operators', 'gradient_cosine']
  """
  figures = [figure for own in found["sections"] for figure in own["figures"]]
  return {name for figure in figures for name in figure["metrics"]}
