"""What others bring along, named by import path: MODULE:NAME."""

import importlib
import os
import sys
from typing import Any

_LONGEST = 600  # characters of an error that is not ours


def find(path: str) -> Any:
  """The object that an import path names.

  The module is also looked for in the working directory, where the command
  `jnas` does not look by itself.

  Args:
    path: MODULE:NAME.

  Raises:
    ValueError: it is no such path, or cannot be imported.

  >>> find("math:pi") > 3
  True
  """
  module, colon, name = path.partition(":")
  if not (colon and module and name):
    raise ValueError(
      f"expected an import path such as mine:name, got {path[:200]!r}"
    )
  if os.getcwd() not in sys.path:
    sys.path.insert(0, os.getcwd())
  try:
    return getattr(importlib.import_module(module), name)
  except Exception as error:  # whatever a module raises when it is run
    raise ValueError(
      f"{path!r} cannot be imported: {type(error).__name__}: "
      f"{str(error)[:_LONGEST]}"
    ) from error
