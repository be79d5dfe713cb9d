"""Durations: "100 epochs", "500 steps" or "10 %"."""

import re

from jnas.config.messages import shown

_DURATION = re.compile(
  r"\s*([0-9]+\.?[0-9]*|\.[0-9]+)\s*(epochs?|steps?|percent|%)\s*"
)
_LONGEST = 10**9  # epochs, steps or percent
_MOST_STEPS = 2**31 - 1  # steps are counted in 32 bits


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
  number, unit = parse(text)
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


def parse(text: str) -> tuple[float, str]:
  """Returns number and unit, epochs, steps or %, of a duration."""
  match = _DURATION.fullmatch(text) if isinstance(text, str) else None
  if not match:
    raise ValueError(
      f'expected a duration such as "100 epochs", "500 steps" or "10 %", '
      f"got {shown(text)}"
    )
  if float(match[1]) > _LONGEST:
    raise ValueError(
      f"expected a duration of at most {_LONGEST:,} {match[2]}, got "
      f"{shown(text)}"
    )
  unit = match[2].rstrip("s")
  units = {"epoch": "epochs", "step": "steps", "percent": "%", "%": "%"}
  return float(match[1]), units[unit]
