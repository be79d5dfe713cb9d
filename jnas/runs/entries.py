"""What a comparison is to run: config files times seeds, checked beforehand.

Nothing here loads JAX, so that a mistake is told at once.
"""

import pathlib
import re
from typing import Any, NamedTuple

import ml_collections

from jnas import config as config_lib

# Fields of the comparison that replace those of its config files: whole groups
# where the name ends in a dot. They are what makes runs comparable, or cheap.
IMPOSED = (
  *("data.", "log.", "train.length", "train.batch"),
  *("space.cells", "space.width", "space.table"),
)
_OWN = ("task", "seed", "compare.")
_ROOT = pathlib.Path(__file__).parents[2]


class Entry(NamedTuple):
  """One search of a comparison.

  Attributes:
    spec: the config file, with its argument, as the comparison names it.
    name: of the algorithm in tables; see `run_name`.
    config: checked and locked, with its seed and what the comparison imposes.
  """

  spec: str
  name: str
  config: ml_collections.ConfigDict

  @property
  def folder(self) -> str:
    """Where the search runs, below the comparison's workdir."""
    return f"{self.name}/seed{self.config.seed}"


def run_name(spec: str) -> str:
  """Returns what a run of a config file is called.

  >>> run_name("configs/darts.py:quick"), run_name("configs/darts.py")
  ('darts_quick', 'darts')
  """
  stem, _, argument = spec.partition(".py:")
  name = pathlib.Path(stem.removesuffix(".py")).name
  argument = re.sub(r"[^\w.-]+", "_", argument)
  return f"{name}_{argument}" if argument else name


def entries(config: ml_collections.ConfigDict) -> tuple[Entry, ...]:
  """Returns the searches of a comparison, in the order in which they run.

  Raises:
    ValueError: with all problems of the comparison and of all config files.
  """
  problems = _own_problems(config)
  loaded = {}
  for spec in filter(_is_text, config.compare.configs):
    try:
      loaded[spec] = _load(spec, imposed(config))
    except (ValueError, FileNotFoundError) as error:
      problems.append(f"{spec}: " + str(error).replace("\n", "\n    "))
  for spec, found in loaded.items():
    if found.task != "search":
      problems.append(
        f"{spec}: expected a config of task search, got task {found.task}; a "
        "comparison runs searches only"
      )
  names = {found.data.name for found in loaded.values()}
  if len(names) > 1:
    problems.append(
      "data.name: expected one data set for all, got "
      + ", ".join(f"{v.data.name} of {k}" for k, v in loaded.items())
      + "; set data.name of the comparison, or compare these apart"
    )
  if problems:
    count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = "".join(f"\n  - {problem}" for problem in problems)
    raise ValueError(f"the comparison has {count}:{lines}")
  return tuple(
    Entry(spec, run_name(spec), _seeded(found, config.seed + k))
    for spec, found in loaded.items()
    for k in range(config.compare.seeds)
  )


def imposed(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns dotted name -> value of what the comparison imposes on its runs.

  A value that is base()'s own cannot be told from one that nobody has set, so
  it is not imposed.
  """
  changed = _changed(config)
  return {k: v for k, v in changed.items() if k.startswith(IMPOSED)}


def _changed(config: ml_collections.ConfigDict) -> dict[str, Any]:
  default = config_lib.flatten(config_lib.base())
  flat = config_lib.flatten(config)
  return {k: v for k, v in flat.items() if v != default[k]}


def _own_problems(config: ml_collections.ConfigDict) -> list[str]:
  """Returns what is wrong with the comparison's own fields."""
  problems = [
    f"{name}: set for the comparison, but only "
    f"{', '.join(part + '*' * part.endswith('.') for part in IMPOSED)} reach "
    "its runs; set it in a config file of your own"
    for name in _changed(config)
    if not name.startswith(IMPOSED + _OWN)
  ]
  specs = config.compare.configs
  if not specs:
    problems.append("compare.configs: expected one config file or more, got ()")
  if odd := [spec for spec in specs if not _is_text(spec)]:
    problems.append(
      f"compare.configs: expected texts such as 'configs/darts.py', got {odd}"
    )
  names: dict[str, list[str]] = {}
  for spec in filter(_is_text, specs):
    names.setdefault(run_name(spec), []).append(spec)
  problems += [
    f"compare.configs: {' and '.join(same)} would both be called {name}; "
    "leave one out, or rename its file"
    for name, same in names.items()
    if len(same) > 1
  ]
  last = config.seed + config.compare.seeds - 1
  if last >= 2**32:
    problems.append(
      f"seed: the last of {config.compare.seeds} seeds must be at most "
      f"{2**32 - 1}, got {last}; start lower"
    )
  return problems


def _is_text(spec: Any) -> bool:
  return isinstance(spec, str)


def _load(spec: str, changes: dict[str, Any]) -> ml_collections.ConfigDict:
  config = config_lib.load(_found(spec))
  config.update_from_flattened_dict(changes)
  config_lib.validate(config)
  return config


def _found(spec: str) -> str:
  """Returns the spec with the path of a file that is there, if one is."""
  stem, has_argument, argument = spec.partition(".py:")
  path = pathlib.Path(f"{stem}.py" if has_argument else spec)
  if path.is_file() or not (_ROOT / path).is_file():
    return spec
  return f"{_ROOT / path}:{argument}" if has_argument else str(_ROOT / path)


def _seeded(
  config: ml_collections.ConfigDict, seed: int
) -> ml_collections.ConfigDict:
  copy = ml_collections.ConfigDict(config.to_dict())
  copy.seed = seed
  return copy.lock()

