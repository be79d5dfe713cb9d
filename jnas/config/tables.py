"""Tables of papers as comparisons, at the paper's size and in small."""

from collections.abc import Mapping, Sequence

import ml_collections

from jnas.config import schema

_SMALL = "_quick"  # ends the argument of the small form


def comparison(
  tables: Mapping[str, tuple[int, Sequence[str]]], argument: str, recipe: str
) -> ml_collections.ConfigDict:
  """Returns the config of task "compare" for a table, or for its small form.

  Args:
    tables: by name the number of seeds and the rows, see `row`.
    argument: a table's name, perhaps with _quick behind.
    recipe: argument of configs/retrain.py by which what is found is trained;
      "" if nothing is.
  """
  quick = argument.endswith(_SMALL)
  seeds, rows = tables[argument.removesuffix(_SMALL)]
  config = schema.base()
  config.task, config.compare.seeds = "compare", 1 if quick else seeds
  config.compare.configs = tuple(filter(None, (row(r, quick) for r in rows)))
  if recipe:
    config.compare.recipe = f"configs/retrain.py:{'quick' if quick else recipe}"
    config.compare.retrain = "100 %"
  return config


def row(text: str, quick: bool) -> str:
  """Returns a row of `compare.configs`; "" if it has no small form.

  Args:
    text: "FILE:ARGUMENT|QUICK FIELD=VALUE ...": a config file, its argument,
      that of its small form or nothing, and fields. What begins with + is set
      at full size only, what begins with - in the small form only.
    quick: whether it is to be small.

  >>> text = "darts:first|quick +train.length=200epochs algo.eta=0.5"
  >>> row(text, False)
  'configs/darts.py:first train.length=200epochs algo.eta=0.5'
  >>> row(text, True), row("amended_darts:s3|", True)
  ('configs/darts.py:quick algo.eta=0.5', '')
  """
  name, *fields = text.split()
  file, _, arguments = name.partition(":")
  large, _, small = arguments.partition("|")
  if quick and not small:
    return ""
  other = "+" if quick else "-"
  fields = [f.lstrip("+-") for f in fields if not f.startswith(other)]
  return " ".join([f"configs/{file}.py:{small if quick else large}", *fields])
