"""What is told of a wrong configuration: short, whatever is in it."""

from collections.abc import Sequence
import difflib
from typing import Any

LONGEST = 2000  # characters of a message
KINDS = {
  bool: "true or false",
  int: "a whole number",
  float: "a number",
  str: "text",
  tuple: "a tuple",
}


def complain(problems: Sequence[str]) -> None:
  """Raises ValueError with all problems, if there are any."""
  if problems:
    count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = [f"\n  - {cut(problem, 600)}" for problem in problems]
    text = f"the configuration has {count}:{''.join(lines)}"
    while len(text) > LONGEST:
      lines.pop()
      rest = len(problems) - len(lines)
      text = f"the configuration has {count}:{''.join(lines)}"
      text += f"\n  - and {rest} more; correct these first"
    raise ValueError(text)


def cut(text: str, longest: int) -> str:
  """The text, its middle left out where it is too long."""
  if len(text) <= longest:
    return text
  half = (longest - 5) // 2
  return f"{text[:half]} ... {text[-half:]}"


def shown(value: Any) -> str:
  """What a message shows of a value, whatever it is."""
  try:
    return cut(repr(value), 100)
  except Exception:  # a number too long to be written, a __repr__ that fails
    return f"something of type {type(value).__name__}"


def did_you_mean(name: str, known: Sequence[str]) -> str:
  """What to add to a message about a name that is not known."""
  name = name[:100]  # to compare long texts takes long
  close = difflib.get_close_matches(name, known, n=3, cutoff=0.7)
  same = [k for k in known if k.split(".")[-1] == name.split(".")[-1]]
  close = same + [k for k in close if k not in same]
  return f"; did you mean {' or '.join(close[:3])}?" if close else ""
