"""Config files: their arguments, and overrides on the command line.

A config file is a Python file with `get_config(argument="")`, a short delta on
`base()`, and optionally `ARGUMENTS`, the arguments that it understands.
"""

import ast
from collections.abc import Sequence
import difflib
import importlib.util
import pathlib
import traceback
from typing import Any

import ml_collections

import jnas
from jnas.config import checks, schema
from jnas.config.messages import (
  KINDS,
  LONGEST,
  complain,
  cut,
  did_you_mean,
  shown,
)

# The configs that come with the package; wherever a program is started,
# configs/NAME.py is one of them if there is no such file.
CONFIGS = (pathlib.Path(jnas.__file__).parent / "configs").resolve()


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
  # An algorithm that is named by an import path brings fields of its own.
  named = "--config.algo.name="
  first = [text for text in overrides if text.startswith(named)]
  rest = [text for text in overrides if not text.startswith(named)]
  problems = [_override(config, text) for text in first]
  problems += adopt(config)
  problems += [_override(config, text) for text in rest]
  complain([p for p in problems if p] + checks.problems(config))
  return config


def adopt(config: ml_collections.ConfigDict) -> list[str]:
  """Adds the fields of the config's algorithm; returns what is wrong with it.

  What is wrong with the name itself is told by the checks.
  """
  flat = schema.flatten(config)
  try:
    own = schema.method(flat["algo.name"]).options
  except (ValueError, TypeError, KeyError):
    return []
  known = schema.options()
  new = {name: one for name, one in own.items() if name not in known}
  taken = [name for name in new if name in schema.flatten(schema.base())]
  for name in new:
    if name not in flat and name not in taken:
      group, _, last = name.rpartition(".")
      with config.unlocked():
        if group not in config:
          config[group] = ml_collections.ConfigDict()
        config[group][last] = own[name].default
  return [
    f"{name}: {flat['algo.name']} cannot have an option of that name, it is a "
    "field of the configuration"
    for name in taken
  ]


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
      f"{shown(spec)}{hint}"
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
        f"it has no argument {shown(argument)}"
        f"{did_you_mean(argument, known)}\n"
        f"  its arguments are: {', '.join(known) or 'none'}"
      )
    config = module.get_config(argument) if argument else module.get_config()
    if not isinstance(config, ml_collections.ConfigDict):
      raise ValueError(f"get_config returned {type(config).__name__}")
    schema.flatten(config.lock())  # a config in itself has no end
    return config
  except (Exception, SystemExit) as error:
    raise ValueError(cut(f"{path}{_said(error, path)}", LONGEST)) from error


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
    return f"{cut(text, 200)}: expected --config.FIELD=VALUE"
  name = name.removeprefix("--config.")
  fields = schema.flatten(config)
  if name not in fields:
    inside = [field for field in fields if field.startswith(f"{name}.")]
    if inside:
      return f"{name}: a group of fields, set one of {', '.join(inside)}"
    near = did_you_mean(name, list(fields))
    return f"{cut(name, 200)}: no such field{near}"
  if not has_value and not isinstance(fields[name], bool):
    return f"{name}: needs a value, as in --config.{name}={fields[name]}"
  try:
    parsed = _parse_value(value if has_value else "true", fields[name])
  except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
    kind = KINDS[type(fields[name])]
    return (
      f"{name}: expected {kind}, as in {fields[name]!r}, got {shown(value)}"
    )
  config.update_from_flattened_dict({name: parsed})
  return None


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
