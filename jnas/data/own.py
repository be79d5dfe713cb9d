"""Data of one's own: a function that returns arrays, named by import path."""

from collections.abc import Mapping
import os
from typing import Any

import numpy as np

from jnas import imports
from jnas.data import limits

_FOUR = ("train_x", "train_y", "test_x", "test_y")


def call(name: str, path: str | os.PathLike = "") -> dict[str, np.ndarray]:
  """Returns the arrays that a function gives for a path.

  Args:
    name: MODULE:FUNCTION; the module is also looked for in the working
      directory.
    path: what the function is called with, as text.

  Raises:
    ValueError: it cannot be imported, fails, or returns something else.
  """
  function = imports.find(name)
  try:
    found = function(str(path))
  except Exception as error:  # whatever the code of others raises
    raise ValueError(
      f"expected a function that is called with a path in {limits.shown(name)}"
      f"; calling it gave {type(error).__name__}: "
      f"{limits.cut(str(error), 600)}. Run with --traceback to see where."
    ) from error
  if not isinstance(found, Mapping):
    raise ValueError(
      f"expected a dict of arrays from {limits.shown(name)}, with "
      f"{', '.join(_FOUR)} or with x and y; found a {type(found).__name__}"
    )
  return {str(key): np.asarray(value) for key, value in found.items()}


def parts(
  arrays: Mapping[str, Any], where: str
) -> tuple[list[np.ndarray | None], np.ndarray | None]:
  """Returns train_x, train_y, test_x and test_y, and the names of the classes.

  Args:
    arrays: by name; x and y, of which some are held out, will do. Images may
      be [N, H, W], labels [N, 1] as Keras keeps them.
    where: where they come from, for messages.

  Raises:
    ValueError: there are others.
  """
  if all(name in arrays for name in _FOUR):
    found = [arrays[name] for name in _FOUR]
  elif "x" in arrays and "y" in arrays:
    found = [arrays["x"], arrays["y"], None, None]
  else:
    raise ValueError(
      f"expected the arrays {', '.join(_FOUR)} (or x, y) in {where}; found "
      f"{', '.join(sorted(arrays)) or 'none'}. Rename them."
    )
  for i, array in enumerate(found):
    if array is not None and i % 2 == 0 and array.ndim == 3:
      found[i] = array[..., None]
    elif array is not None and i % 2 and array.shape[1:] == (1,):
      found[i] = array[:, 0]
  return found, arrays.get("classes")
