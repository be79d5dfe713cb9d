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
from typing import Any

import ml_collections


def base() -> ml_collections.ConfigDict:
  """Returns the default configuration: digits, first-order DARTS.

  It is locked: a config file sets fields, it cannot invent any.
  """
  fields = {
    "task": "search",  # search | retrain
    "seed": 0,  # all randomness is a function of (seed, name, step)
    "data": {
      "name": "digits",  # data set; see jnas/data/sources.py
      "path": "",  # file or folder that holds it, if it needs one
      "limit": 0,  # at most this many training images; 0 = all
      "share": 0.5,  # of them train the weights in search, the rest alpha
      "crop_pad": 0,  # random crop after padding by so many pixels; 0 = off
      "flip": False,  # random horizontal flip
      "cutout": 0,  # side in pixels of the square that is erased; 0 = off
    },
    "space": {
      "name": "s1",  # s1: all 8 DARTS operators | s3: none, skip, sep 3x3
      "cells": 8,  # depth
      "width": 16,  # channels of the first cell
      "nodes": 4,  # intermediate nodes of a cell; edges = n (n + 3) / 2
    },
    "algo": {
      "name": "darts",  # darts | amended
      "hypergrad": "first_order",  # see CHOICES for the others
      "form": "exact",  # exact | finite_difference (unrolled, amended only)
      "eta": 0.1,  # of the amended term; unrolled steps by the current lr
      "solver_steps": 10,  # of conjugate gradients or the Neumann series
      "solver_damping": 0.01,  # added to the Hessian's diagonal by the solver
      "solver_scale": 0.1,  # step of the Neumann series
      "warmup": "0 epochs",  # alpha is left alone for this long
      "diagnose": "0 epochs",  # period of cosine_implicit; 0 = never
    },
    "train": {
      "length": "50 epochs",  # of the whole run
      "batch": 64,  # images a step, over all devices
      "dtype": "float32",  # of the arithmetic: float32 | bfloat16
      "drop_path": 0.0,  # rate at the end; it rises linearly from 0
      "auxiliary": 0.0,  # weight of the auxiliary loss; 0 = no head
      "label_smoothing": 0.0,  # share of the target spread over all classes
      "sync_batch_norm": False,  # batch statistics over all devices
      "remat": False,  # recompute cells backwards: less memory, more time
      "steps_per_dispatch": 0,  # 0 = chosen by platform (1 on CPU)
    },
    "weights": {  # SGD with cosine decay, of the network's weights
      "lr": 0.025,  # at the start
      "lr_end": 0.001,  # at the end of the cosine
      "momentum": 0.9,  # without Nesterov
      "decay": 3e-4,  # L2, part of the gradient
      "clip": 5.0,  # largest global norm of the gradient; 0 = no clipping
      "warmup": "0 epochs",  # linear rise of the learning rate
    },
    "arch": {  # Adam, of alpha
      "lr": 3e-4,  # constant
      "b1": 0.5,  # decay of the first moment
      "b2": 0.999,  # decay of the second moment
      "decay": 1e-3,  # L2, part of the gradient
      "init": 1e-3,  # standard deviation of the first alpha; 0 = all equal
    },
    "retrain": {
      "genotype": "",  # zoo name, run directory, JSON or text file, or text
    },
    "log": {
      "every": "10 steps",  # period of the lines in metrics.jsonl
      "save": "1 epochs",  # period of checkpoints
      "keep": 2,  # newest checkpoints that are kept
      "evaluate": "1 epochs",  # period of evaluation; 0 = only at the end
      "tensorboard": False,  # also write TensorBoard event files
      "progress": True,  # progress bar, where there is a terminal
    },
  }
  return ml_collections.ConfigDict(fields).lock()


CHOICES = {
  "task": ("search", "retrain"),
  "space.name": ("s1", "s3"),
  "algo.name": ("darts", "amended"),
  "algo.hypergrad": tuple(
    "first_order unrolled amended implicit_cg implicit_neumann".split()
  ),
  "algo.form": ("exact", "finite_difference"),
  "train.dtype": ("float32", "bfloat16"),
}

_RANGES = (
  (
    lambda v: v > 0,
    "greater than 0",
    "space.cells space.width space.nodes algo.solver_steps algo.solver_scale "
    "train.batch weights.lr arch.lr log.keep",
  ),
  (
    lambda v: v >= 0,
    "0 or greater",
    "data.limit data.crop_pad data.cutout algo.eta algo.solver_damping "
    "train.auxiliary train.steps_per_dispatch weights.lr_end weights.decay "
    "weights.clip arch.decay arch.init",
  ),
  (
    lambda v: 0 <= v < 1,
    "at least 0 and less than 1",
    "train.drop_path train.label_smoothing weights.momentum arch.b1 arch.b2",
  ),
  (lambda v: 0 < v < 1, "between 0 and 1, both excluded", "data.share"),
  (lambda v: 0 <= v < 2**32, "from 0 to 4294967295", "seed"),
)

_POSITIVE_DURATIONS = ("train.length", "log.every", "log.save")
_DURATIONS = _POSITIVE_DURATIONS + tuple(
  "algo.warmup algo.diagnose weights.warmup log.evaluate".split()
)

_DURATION = re.compile(r"\s*(\d+\.?\d*|\.\d+)\s*(epochs?|steps?|percent|%)\s*")


def duration(text: str, steps_per_epoch: int, total: int | None = None) -> int:
  """Returns the number of steps in "100 epochs", "500 steps" or "10 %".

  A percentage is of `total` steps. What is not zero is at least one step, so
  that a short run does not turn "1 %" into "never".

  >>> duration("2 epochs", steps_per_epoch=50)
  100
  >>> duration("0.5 epoch", 50), duration("7steps", 50), duration("5%", 50, 200)
  (25, 7, 10)

  Raises ValueError when the text is none of these, or when it is a percentage
  and there is no total.
  """
  number, unit = _parse_duration(text)
  if unit == "%" and total is None:
    raise ValueError(
      f"{text!r} is a percentage, but here is nothing to take it of; "
      'write epochs or steps, as in "5 epochs" or "500 steps"'
    )
  scale = {"epochs": steps_per_epoch, "steps": 1, "%": (total or 0) / 100}
  return max(round(number * scale[unit]), 1) if number else 0


def _parse_duration(text: str) -> tuple[float, str]:
  match = _DURATION.fullmatch(text) if isinstance(text, str) else None
  if not match:
    raise ValueError(
      f'expected a duration such as "100 epochs", "500 steps" or "10 %", '
      f"got {text!r}"
    )
  unit = match[2].rstrip("s")
  units = {"epoch": "epochs", "step": "steps", "percent": "%", "%": "%"}
  return float(match[1]), units[unit]


def load(spec: str, overrides: Sequence[str] = ()) -> ml_collections.ConfigDict:
  """Returns the checked, locked config of a file with overrides on top.

  Args:
    spec: "PATH.py" or "PATH.py:argument".
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
    lines = "".join(f"\n  - {problem}" for problem in problems)
    raise ValueError(f"the configuration has {count}:{lines}")


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
  close = difflib.get_close_matches(name, known, n=3, cutoff=0.7)
  same = [k for k in known if k.split(".")[-1] == name.split(".")[-1]]
  close = same + [k for k in close if k not in same]
  return f"; did you mean {' or '.join(close[:3])}?" if close else ""


# Config files.


def _from_file(spec: str) -> ml_collections.ConfigDict:
  stem, found, argument = spec.partition(".py:")
  path = pathlib.Path(f"{stem}.py" if found else spec)
  if path.suffix != ".py":
    raise ValueError(
      f"expected a config file as PATH.py or PATH.py:argument, got {spec!r}"
    )
  if not path.is_file():
    beside = [p.name for p in path.parent.glob("*.py")]
    close = difflib.get_close_matches(path.name, beside, n=1)
    hint = f"; did you mean {path.parent / close[0]}?" if close else ""
    raise FileNotFoundError(f"there is no config file {path}{hint}")
  module_spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(module_spec)
  module_spec.loader.exec_module(module)
  if not hasattr(module, "get_config"):
    raise ValueError(f"{path} does not define get_config(argument)")
  known = getattr(module, "ARGUMENTS", None)
  if argument and known is not None and argument not in known:
    raise ValueError(
      f"{path} has no argument {argument!r}{_did_you_mean(argument, known)}\n"
      f"  its arguments are: {', '.join(known) or 'none'}"
    )
  try:
    config = module.get_config(argument) if argument else module.get_config()
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    # ml_collections names the field, inside an error inside an error.
    message = error
    while isinstance(message, Exception):
      message = message.args[0] if message.args else type(message).__name__
    raise ValueError(f"{path}: {message}") from error
  if not isinstance(config, ml_collections.ConfigDict):
    raise ValueError(f"{path}: get_config returned {type(config).__name__}")
  return config.lock()


# Overrides.


def _override(config: ml_collections.ConfigDict, text: str) -> str | None:
  """Applies "--config.a.b=value"; returns what is wrong with it, if any."""
  name, has_value, value = text.partition("=")
  if not name.startswith("--config."):
    return f"{text}: expected --config.FIELD=VALUE"
  name = name.removeprefix("--config.")
  fields = flatten(config)
  if name not in fields:
    inside = [field for field in fields if field.startswith(f"{name}.")]
    if inside:
      return f"{name}: a group of fields, set one of {', '.join(inside)}"
    return f"{name}: no such field{_did_you_mean(name, list(fields))}"
  if not has_value and not isinstance(fields[name], bool):
    return f"{name}: needs a value, as in --config.{name}={fields[name]}"
  try:
    parsed = _parse_value(value if has_value else "true", fields[name])
  except (ValueError, SyntaxError):
    kind = _KINDS[type(fields[name])]
    return f"{name}: expected {kind}, as in {fields[name]!r}, got {value!r}"
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
  return type(like)(text)


# Values.


def _problems(config: ml_collections.ConfigDict) -> list[str]:
  flat, known = flatten(config), flatten(base())
  odd = sorted(set(flat) ^ set(known))
  if odd:
    # Only a file that does not start from base() comes here.
    return [f"{n}: {'unknown' if n in flat else 'missing'}" for n in odd]
  wrong = {
    name: f"{name}: expected {_KINDS[type(known[name])]}, got {value!r}"
    for name, value in flat.items()
    if not _same_kind(value, known[name])
  }
  problems = list(wrong.values())
  sound = {name: v for name, v in flat.items() if name not in wrong}
  for name, choices in CHOICES.items():
    if name in sound and sound[name] not in choices:
      problems.append(
        f"{name}: {sound[name]!r} is not one of {', '.join(choices)}"
        f"{_did_you_mean(sound[name], choices)}"
      )
  for accepts, wording, names in _RANGES:
    problems += [
      f"{name}: must be {wording}, got {sound[name]}"
      for name in names.split()
      if name in sound and not accepts(sound[name])
    ]
  problems += _duration_problems(sound)
  return problems + ([] if wrong else _cross_problems(sound))


def _same_kind(value: Any, like: Any) -> bool:
  if isinstance(like, float):
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)
  return type(value) is type(like)


def _duration_problems(flat: dict[str, Any]) -> list[str]:
  problems, parsed = [], {}
  for name in (name for name in _DURATIONS if name in flat):
    try:
      parsed[name] = _parse_duration(flat[name])
    except ValueError as error:
      problems.append(f"{name}: {error}")
      continue
    if not parsed[name][0] and name in _POSITIVE_DURATIONS:
      problems.append(f"{name}: must be longer than 0, got {flat[name]!r}")
  number, unit = parsed.get("train.length", (math.inf, ""))
  if unit == "%":
    problems.append("train.length: must be in epochs or steps, not in %")
  for name in ("algo.warmup", "weights.warmup"):
    amount, its_unit = parsed.get(name, (0, ""))
    limit = {unit: number, "%": 100}.get(its_unit, math.inf)
    if amount and amount >= limit:
      problems.append(
        f"{name}: must be shorter than train.length ({flat['train.length']}), "
        f"got {flat[name]!r}"
      )
  return problems


def _cross_problems(flat: dict[str, Any]) -> list[str]:
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
  few = flat["space.cells"]
  if flat["task"] == "search" and 0 < few < 3:
    problems.append(f"space.cells: a search needs 3 or more, got {few}")
  if flat["task"] == "retrain" and not flat["retrain.genotype"].strip():
    problems.append(
      "retrain.genotype: task retrain needs one: a zoo name such as DARTS_V2, "
      "the directory of a search, a JSON or text file, or the text itself"
    )
  return problems
