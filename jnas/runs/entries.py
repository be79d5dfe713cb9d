"""What a comparison is to run: config files times seeds, checked beforehand.

Nothing here loads Flax, so that a mistake is told at once.
"""

import pathlib
import re
from typing import Any, NamedTuple

import ml_collections

from jnas import config as config_lib
from jnas.algorithms import registry
from jnas.spaces import registry as spaces

# Fields of the comparison that replace those of its config files: whole groups
# where the name ends in a dot. They are what makes runs comparable, or cheap.
IMPOSED = (
  *("data.", "log.", "train.length", "train.batch"),
  *("space.cells", "space.width", "space.table"),
)
_OWN = ("task", "seed", "compare.")
# A config file, its argument, and fields: darts.py:first algo.eta=0.5
_SPEC = re.compile(r"(.+?\.py(?::\S*)?)((?:\s+[\w.]+=\S+)*)\s*")


class Entry(NamedTuple):
  """One search of a comparison.

  Attributes:
    spec: the config file, with its argument and fields that are set, as the
      comparison names it.
    name: of the algorithm in tables; see `run_name`.
    config: checked and locked, with its seed and what the comparison imposes.
    network: of task "retrain", all but its genotype: how deep and wide the
      derived network is, and how it is trained; None if nobody asks.
    trained: whether it is trained, or only measured.
  """

  spec: str
  name: str
  config: ml_collections.ConfigDict
  network: ml_collections.ConfigDict | None = None
  trained: bool = False

  @property
  def folder(self) -> str:
    """Where the search runs, below the comparison's workdir."""
    return f"{self.name}/seed{self.config.seed}"


def run_name(spec: str) -> str:
  """Returns what a run of a config file is called.

  >>> run_name("configs/darts.py:quick"), run_name("configs/rnn/darts.py")
  ('darts_quick', 'rnn_darts')
  >>> run_name("configs/amended_darts.py:s1 algo.eta=0.01")
  'amended_darts_s1_eta_0.01'
  """
  spec, fields = split(spec)
  stem, _, argument = spec.partition(".py:")
  *folders, name = pathlib.Path(stem.removesuffix(".py")).parts
  if "configs" in folders:
    name = "_".join([*folders[folders.index("configs") + 1 :], name])
  fields = [re.sub(r"^[\w.]+\.", "", field) for field in fields]
  argument = re.sub(r"[^\w.-]+", "_", "_".join([argument, *fields])).strip("_")
  return f"{name}_{argument}" if argument else name


def split(spec: str) -> tuple[str, list[str]]:
  """Returns the config file with its argument, and the fields that are set.

  >>> split("my configs/darts.py:first algo.eta=0.5 train.length=9epochs")
  ('my configs/darts.py:first', ['algo.eta=0.5', 'train.length=9epochs'])
  """
  found = _SPEC.fullmatch(spec)
  return (found[1], found[2].split()) if found else (spec, [])


def entries(config: ml_collections.ConfigDict) -> tuple[Entry, ...]:
  """Returns the searches of a comparison, in the order in which they run.

  Raises:
    ValueError: with all problems of the comparison and of all config files.
  """
  problems = _own_problems(config)
  recipe = _recipe(config, problems)
  loaded, networks = {}, {}
  for spec in filter(_is_text, config.compare.configs):
    try:
      loaded[spec] = load(spec, imposed(config))
    except (ValueError, FileNotFoundError) as error:
      problems.append(f"{spec}: " + str(error).replace("\n", "\n    "))
  for spec, found in loaded.items():
    if found.task != "search":
      problems.append(
        f"{spec}: expected a config of task search, got task {found.task}; a "
        "comparison runs searches only"
      )
    networks[spec] = _network(config, spec, found, recipe, problems)
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
    Entry(
      spec,
      run_name(spec),
      _seeded(found, seed),
      networks[spec] and _seeded(networks[spec], seed),
      _retrains(config),
    )
    for spec, found in loaded.items()
    for seed in range(config.seed, config.seed + config.compare.seeds)
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


def _retrains(config: ml_collections.ConfigDict) -> bool:
  return config_lib.duration(config.compare.retrain, 1, 100) > 0


def _length(text: str, whole: str) -> str:
  """Returns a duration; a percentage is taken of another one.

  >>> _length("50 %", "600 epochs"), _length("7 steps", "600 epochs")
  ('300 epochs', '7 steps')
  """
  if not text.strip().endswith(("%", "percent")):
    return text
  share = float(re.match(r"[\d.]+", text.strip())[0]) / 100
  number, unit = re.fullmatch(r"\s*([\d.]+)\s*(\w+)\s*", whole).groups()
  return f"{share * float(number):.12g} {unit}"


def _recipe(
  config: ml_collections.ConfigDict, problems: list[str]
) -> ml_collections.ConfigDict | None:
  """Returns the config that compare.recipe names, if it names one."""
  spec = config.compare.recipe
  if not spec:
    return None
  reaching = ("data.", "log.")  # depth, width and batch are the recipe's own
  changes = imposed(config)
  try:
    found = load(
      spec, {k: v for k, v in changes.items() if k.startswith(reaching)}
    )
  except (ValueError, FileNotFoundError) as error:
    told = str(error).replace("\n", "\n    ")
    problems.append(f"compare.recipe: {spec}: {told}")
    return None
  if found.task != "retrain":
    problems.append(
      f"compare.recipe: expected a config of task retrain such as "
      f"configs/retrain.py, got {spec} of task {found.task}"
    )
    return None
  return found


def _network(
  config: ml_collections.ConfigDict,
  spec: str,
  search: ml_collections.ConfigDict,
  recipe: ml_collections.ConfigDict | None,
  problems: list[str],
) -> ml_collections.ConfigDict | None:
  """Returns the config by which what a search derives is trained, or measured.

  It is the recipe's, or else the search's own. Cells that differ from each
  other cannot be repeated, so there the depth is always that of the search.
  """
  if search.task != "search" or (recipe is None and not _retrains(config)):
    return None
  name = search.space.name
  if spaces.find(name, search.space.operators).tabular:
    problems.append(
      f"{spec}: compare.retrain and compare.recipe are not for {name}, whose "
      "networks have been trained: see space.table"
    )
    return None
  copy = ml_collections.ConfigDict((recipe or search).to_dict())
  copy.task, copy.retrain.genotype = "retrain", "what the search derives"
  if _retrains(config):
    copy.train.length = _length(config.compare.retrain, copy.train.length)
  if recipe is None:
    depths = registry.find(search.algo.name).depths(config_lib.flatten(search))
    copy.space.cells = depths[-1]
  if not search.space.shared:
    copy.space.cells = search.space.cells
  if copy.data.name != search.data.name:
    problems.append(
      f"compare.recipe: {config.compare.recipe} is for {copy.data.name}, but "
      f"{spec} searches {search.data.name}; name another recipe, or set "
      "data.name of the comparison"
    )
  copy.data.update(path=search.data.path, limit=search.data.limit)
  try:
    config_lib.validate(copy)
  except ValueError as error:
    told = str(error).replace("\n", "\n    ")
    problems.append(f"retraining what {spec} derives: {told}")
  return copy


def _is_text(spec: Any) -> bool:
  return isinstance(spec, str)


def load(spec: str, changes: dict[str, Any]) -> ml_collections.ConfigDict:
  """Returns the checked config of a file.

  Args:
    spec: the file with its argument, and fields: "darts.py:first algo.eta=0.5".
    changes: dotted name -> value, on top of it.

  Raises:
    ValueError, FileNotFoundError: it does not fit, or is not there.
  """
  file, fields = split(spec)
  config = config_lib.load(file, [f"--config.{field}" for field in fields])
  config.update_from_flattened_dict(changes)
  config_lib.validate(config)
  return config


def _seeded(
  config: ml_collections.ConfigDict, seed: int
) -> ml_collections.ConfigDict:
  copy = ml_collections.ConfigDict(config.to_dict())
  copy.seed = seed
  return copy.lock()

