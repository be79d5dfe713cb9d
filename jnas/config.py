"""The configuration: `base()`, config files, overrides, durations, checks.

A config file is a Python file with `get_config(argument="")`, a short delta on
`base()`, and optionally `ARGUMENTS`, the arguments that it understands. Only
`runs` and `main` see a ConfigDict; everything below takes plain arguments.
"""

import ast
from collections.abc import Mapping, Sequence
import difflib
import importlib.util
import math
import pathlib
import re
import sys
import traceback
from typing import Any

import ml_collections

import jnas
from jnas import conflicts, needs
from jnas.fields import CHOICES, DURATIONS, POSITIVE_DURATIONS, RANGES, base

# The configs that come with the package; wherever a program is started,
# configs/NAME.py is one of them if there is no such file.
CONFIGS = (pathlib.Path(jnas.__file__).parent / "configs").resolve()

_Lengths = Mapping[str, tuple[float, str]]  # number and unit by field
_DURATION = re.compile(
  r"\s*([0-9]+\.?[0-9]*|\.[0-9]+)\s*(epochs?|steps?|percent|%)\s*"
)
_LONGEST_DURATION = 10**9  # epochs, steps or percent
_MOST_STEPS = 2**31 - 1  # steps are counted in 32 bits
_LONGEST = 2000  # characters of a message


def duration(text: str, steps_per_epoch: int, total: int | None = None) -> int:
  """Returns the number of steps in "100 epochs", "500 steps" or "10 %".

  A percentage is of `total` steps. What is not zero is at least one step, so
  that a short run does not turn "1 %" into "never".

  >>> duration("2 epochs", steps_per_epoch=50)
  100
  >>> duration("0.5 epoch", 50), duration("7steps", 50), duration("5%", 50, 200)
  (25, 7, 10)

  Raises ValueError when the text is none of these, when it is a percentage
  and there is no total, or when the steps are more than 32 bits can count.
  """
  number, unit = _parse_duration(text)
  if unit == "%" and total is None:
    raise ValueError(
      f"{text!r} is a percentage, but here is nothing to take it of; "
      'write epochs or steps, as in "5 epochs" or "500 steps"'
    )
  scale = {"epochs": steps_per_epoch, "steps": 1, "%": (total or 0) / 100}
  steps = max(round(number * scale[unit]), 1) if number else 0
  if steps > _MOST_STEPS:
    raise ValueError(
      f"{text!r} are {steps:,} steps; expected at most {_MOST_STEPS:,}"
    )
  return steps


def _parse_duration(text: str) -> tuple[float, str]:
  match = _DURATION.fullmatch(text) if isinstance(text, str) else None
  if not match:
    raise ValueError(
      f'expected a duration such as "100 epochs", "500 steps" or "10 %", '
      f"got {_shown(text)}"
    )
  if float(match[1]) > _LONGEST_DURATION:
    raise ValueError(
      f"expected a duration of at most {_LONGEST_DURATION:,} {match[2]}, got "
      f"{_shown(text)}"
    )
  unit = match[2].rstrip("s")
  units = {"epoch": "epochs", "step": "steps", "percent": "%", "%": "%"}
  return float(match[1]), units[unit]


def load(spec: str, overrides: Sequence[str] = ()) -> ml_collections.ConfigDict:
  """Returns the checked, locked config of a file with overrides on top.

  Args:
    spec: "PATH.py" or "PATH.py:argument"; see also CONFIGS.
    overrides: "--config.a.b=value"; the value is read as the type that the
      field has. Of a boolean "=value" may be left out, it is then true.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: with all problems: of overrides and of values.
  """
  config = _from_file(spec)
  problems = [_override(config, text) for text in overrides]
  _complain([p for p in problems if p] + _problems(config))
  return config


def validate(config: ml_collections.ConfigDict) -> None:
  """Returns nothing; raises one ValueError that names all impossible values."""
  _complain(_problems(config))


def _complain(problems: Sequence[str]) -> None:
  if problems:
    count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = [f"\n  - {_cut(problem, 600)}" for problem in problems]
    text = f"the configuration has {count}:{''.join(lines)}"
    while len(text) > _LONGEST:
      lines.pop()
      rest = len(problems) - len(lines)
      text = f"the configuration has {count}:{''.join(lines)}"
      text += f"\n  - and {rest} more; correct these first"
    raise ValueError(text)


def _cut(text: str, longest: int) -> str:
  """The text, its middle left out where it is too long."""
  if len(text) <= longest:
    return text
  half = (longest - 5) // 2
  return f"{text[:half]} ... {text[-half:]}"


def _shown(value: Any) -> str:
  """What a message shows of a value, whatever it is."""
  try:
    return _cut(repr(value), 100)
  except Exception:  # a number too long to be written, a __repr__ that fails
    return f"something of type {type(value).__name__}"


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns dotted name -> value, of a config or of its nested JSON."""
  flat = {}
  for key, value in config.items():
    if isinstance(value, dict | ml_collections.ConfigDict):
      flat |= {f"{key}.{name}": v for name, v in flatten(value).items()}
    else:
      flat[key] = value
  return flat


def _did_you_mean(name: str, known: Sequence[str]) -> str:
  name = name[:100]  # to compare long texts takes long
  close = difflib.get_close_matches(name, known, n=3, cutoff=0.7)
  same = [k for k in known if k.split(".")[-1] == name.split(".")[-1]]
  close = same + [k for k in close if k not in same]
  return f"; did you mean {' or '.join(close[:3])}?" if close else ""


# Config files.


def _from_file(spec: str) -> ml_collections.ConfigDict:
  stem, found, argument = spec.partition(".py:")
  path = pathlib.Path(f"{stem}.py" if found else spec)
  if path.suffix != ".py":
    stem, colon, argument = spec.partition(":")
    near = _nearest(pathlib.Path(f"{stem}.py"))
    hint = f"; did you mean {near}{colon}{argument}?"
    raise ValueError(
      "expected a config file as PATH.py or PATH.py:argument, got "
      f"{_shown(spec)}{hint}"
    )
  if not path.is_file() and path.parts[:1] == (CONFIGS.name,):
    path = CONFIGS.parent / path
  if not path.is_file():
    hint = f"; did you mean {_nearest(path)}?"
    raise FileNotFoundError(f"there is no config file {path}{hint}")
  try:
    module_spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    if not callable(getattr(module, "get_config", None)):
      raise ValueError("it does not define get_config(argument)")
    known = getattr(module, "ARGUMENTS", None)
    if argument and known is not None and argument not in known:
      raise ValueError(
        f"it has no argument {_shown(argument)}"
        f"{_did_you_mean(argument, known)}\n"
        f"  its arguments are: {', '.join(known) or 'none'}"
      )
    config = module.get_config(argument) if argument else module.get_config()
    if not isinstance(config, ml_collections.ConfigDict):
      raise ValueError(f"get_config returned {type(config).__name__}")
    flatten(config.lock())  # a config in itself has no end
    return config
  except (Exception, SystemExit) as error:
    raise ValueError(_cut(f"{path}{_said(error, path)}", _LONGEST)) from error


def _nearest(path: pathlib.Path) -> str:
  """The config file that `path` may mean: beside it, or one of jnas's own."""
  for folder in (path.parent, CONFIGS):
    try:
      names = [found.name for found in folder.glob("*.py")]
    except (OSError, ValueError):
      continue
    if close := difflib.get_close_matches(path.name[:100], names, n=1):
      return str(folder / close[0])
  return f"one of those in {CONFIGS}"


def _said(error: BaseException, path: pathlib.Path) -> str:
  """In which line of a config file an error is, and what it says."""
  if isinstance(error, SystemExit):
    return ": it ends the program; expected get_config(argument)"
  lines = [
    frame.lineno
    for frame in traceback.extract_tb(error.__traceback__, limit=-100)
    if frame.filename == str(path)
  ]
  # ml_collections names the field, inside an error inside an error.
  message = error
  while isinstance(message, Exception):
    if not message.args or isinstance(message, SyntaxError | OSError):
      break
    message = message.args[0]
  try:
    text = str(message) or type(error).__name__
  except Exception:
    text = type(error).__name__
  if type(error) is not ValueError and isinstance(message, str):
    text = f"{type(error).__name__}: {text}"
  return f", line {lines[-1]}: {text}" if lines else f": {text}"


# Overrides.


def _override(config: ml_collections.ConfigDict, text: str) -> str | None:
  """Applies "--config.a.b=value"; returns what is wrong with it, if any."""
  name, has_value, value = text.partition("=")
  if not name.startswith("--config."):
    return f"{_cut(text, 200)}: expected --config.FIELD=VALUE"
  name = name.removeprefix("--config.")
  fields = flatten(config)
  if name not in fields:
    inside = [field for field in fields if field.startswith(f"{name}.")]
    if inside:
      return f"{name}: a group of fields, set one of {', '.join(inside)}"
    near = _did_you_mean(name, list(fields))
    return f"{_cut(name, 200)}: no such field{near}"
  if not has_value and not isinstance(fields[name], bool):
    return f"{name}: needs a value, as in --config.{name}={fields[name]}"
  try:
    parsed = _parse_value(value if has_value else "true", fields[name])
  except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
    kind = _KINDS[type(fields[name])]
    return (
      f"{name}: expected {kind}, as in {fields[name]!r}, got {_shown(value)}"
    )
  config.update_from_flattened_dict({name: parsed})
  return None


_KINDS = {
  bool: "true or false",
  int: "a whole number",
  float: "a number",
  str: "text",
  tuple: "a tuple",
}
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def _parse_value(text: str, like: Any) -> Any:
  if isinstance(like, str):
    return text
  if isinstance(like, bool):
    if text.lower() not in _BOOLEANS:
      raise ValueError(text)
    return _BOOLEANS[text.lower()]
  if isinstance(like, tuple):
    value = ast.literal_eval(text)
    return tuple(value) if isinstance(value, tuple | list) else (value,)
  if not text.isascii():  # digits of other scripts
    raise ValueError(text)
  return type(like)(text)


# Values.


def _problems(config: ml_collections.ConfigDict) -> list[str]:
  flat, known = flatten(config), flatten(base())
  odd = sorted(set(flat) ^ set(known))
  if odd:
    # Only a file that does not start from base() comes here.
    return [f"{n}: {'unknown' if n in flat else 'missing'}" for n in odd]
  wrong = {
    name: f"{name}: expected {_kind(known[name])}, got {_shown(value)}"
    for name, value in flat.items()
    if not _same_kind(value, known[name])
  }
  problems = list(wrong.values())
  sound = {name: v for name, v in flat.items() if name not in wrong}
  for name, choices in CHOICES.items():
    if name in sound and sound[name] not in choices:
      problems.append(
        f"{name}: {_shown(sound[name])} is not one of {', '.join(choices)}"
        f"{_did_you_mean(sound[name], choices)}"
      )
  for accepts, wording, names in RANGES:
    problems += [
      f"{name}: must be {wording}, got {sound[name]}"
      for name in names.split()
      if name in sound and not accepts(sound[name])
    ]
  lengths, unread = _durations(sound)
  problems += unread + _duration_problems(sound, lengths)
  if not wrong:
    problems += _cross_problems(sound, lengths)
  return problems or needs.problems(sound)


def _kind(like: Any) -> str:
  """What a value like this one is called."""
  if isinstance(like, int) and not isinstance(like, bool):
    return "a whole number of 64 bits"
  if isinstance(like, tuple):
    return f"a tuple such as {like}"
  return _KINDS[type(like)]


def _same_kind(value: Any, like: Any) -> bool:
  if isinstance(like, bool | str):
    return type(value) is type(like)
  if isinstance(like, tuple):
    alike = type(value) is tuple and len(value) <= 1000
    return alike and all(_same_kind(part, like[0]) for part in value)
  if isinstance(value, bool) or not isinstance(value, int | float):
    return False
  if isinstance(like, int):
    return type(value) is int and abs(value) < 2**63
  return abs(value) <= sys.float_info.max  # a whole number may exceed it


def _durations(flat: dict[str, Any]) -> tuple[_Lengths, list[str]]:
  """Number and unit of each duration that is one; problems of the others."""
  lengths, problems = {}, []
  for name in (name for name in DURATIONS if name in flat):
    try:
      lengths[name] = _parse_duration(flat[name])
    except ValueError as error:
      problems.append(f"{name}: {error}")
  return lengths, problems


def _duration_problems(flat: dict[str, Any], lengths: _Lengths) -> list[str]:
  problems = [
    f"{name}: must be longer than 0, got {flat[name]!r}"
    for name in POSITIVE_DURATIONS
    if name in lengths and not lengths[name][0]
  ]
  number, unit = lengths.get("train.length", (math.inf, ""))
  if unit == "%":
    problems.append("train.length: must be in epochs or steps, not in %")
  for name in ("algo.warmup", "weights.warmup"):
    amount, its_unit = lengths.get(name, (0, ""))
    limit = {unit: number, "%": 100}.get(its_unit, math.inf)
    if amount and amount >= limit:
      problems.append(
        f"{name}: must be shorter than train.length ({flat['train.length']}), "
        f"got {flat[name]!r}"
      )
  return problems


def _cross_problems(flat: dict[str, Any], lengths: _Lengths) -> list[str]:
  problems = []
  if 0 < flat["weights.lr"] < flat["weights.lr_end"]:
    problems.append(
      f"weights.lr_end: must not exceed weights.lr ({flat['weights.lr']}), "
      f"got {flat['weights.lr_end']}"
    )
  hypergrad = flat["algo.hypergrad"]
  exact_only = hypergrad not in ("unrolled", "amended")
  if flat["algo.form"] == "finite_difference" and exact_only:
    problems.append(
      "algo.form: finite_difference exists for algo.hypergrad unrolled and "
      f"amended, not for {hypergrad}; use exact"
    )
  if flat["task"] == "search":
    problems += conflicts.search_problems(flat)
  if flat["task"] == "random_pruning":
    trial, _ = lengths.get("gold.trial", (0, ""))
    problems += conflicts.random_pruning_problems(flat, bool(trial))
  if flat["task"] == "retrain" and not flat["retrain.genotype"].strip():
    problems.append(
      "retrain.genotype: task retrain needs one: a zoo name such as DARTS_V2, "
      "the directory of a search, a JSON or text file, or the text itself"
    )
  return problems
