"""Files of named arrays: safetensors; PyTorch's, of which nothing is run."""

from collections.abc import Mapping
import os
import pathlib
import re
from typing import Any
import warnings

import numpy as np

Arrays = dict[str, np.ndarray]

_MOST = 200  # characters of another library's error


def read(path: pathlib.Path) -> tuple[Arrays, dict[str, str]]:
  """The arrays in a file by their names, and what else it says.

  Args:
    path: of a safetensors file, or of what torch.save made of a state_dict,
      alone or as the entry "state_dict" of a checkpoint. A prefix "module." of
      all names is left out.

  Raises:
    ValueError: it is none of them, is damaged, or holds something else, which
      was not run; or PyTorch is missing.
    OSError: it cannot be read.
  """
  with open(path, "rb") as file:
    head = file.read(9)
  if head[8:] == b"{":
    return _safetensors(path)
  if head.startswith((b"PK", b"\x80")):
    return _torch(path), {}
  raise ValueError(
    f"expected a file of safetensors or of torch.save, got {path}, which "
    f"begins with {head!r}"
  )


def _safetensors(path: pathlib.Path) -> tuple[Arrays, dict[str, str]]:
  import safetensors

  try:
    with safetensors.safe_open(path, framework="np") as file:
      arrays = {name: file.get_tensor(name) for name in file.keys()}
      return arrays, dict(file.metadata() or {})
  except (safetensors.SafetensorError, TypeError, ValueError) as error:
    raise ValueError(
      f"expected a whole file of safetensors, got {path}: "
      f"{str(error)[:_MOST]}"
    ) from error


def _torch(path: pathlib.Path) -> Arrays:
  try:
    import torch
  except ImportError as error:
    raise ValueError(
      f"{path} is a file of PyTorch, which reads it: pip install 'jnas[torch]'"
    ) from error
  try:
    with warnings.catch_warnings(action="ignore"):  # of how it was pickled
      found = torch.load(path, map_location="cpu", weights_only=True)
  except Exception as error:  # zip, pickle and torch raise all there is
    # The line that names the culprit, of a message of ten.
    told = re.search(r"[^\n.]*(?:GLOBAL|Unsupported)[^\n]*", str(error))
    told = told[0].strip() if told else str(error).partition("\n")[0]
    raise ValueError(
      f"expected a whole file with the state_dict of a network and nothing "
      f"but arrays, got {path}, of which nothing was run: {told[:_MOST]}; "
      "save model.state_dict()"
    ) from error
  return _plain(found, path)


def _plain(found: Any, path: pathlib.Path) -> Arrays:
  """The arrays of a state_dict, or of the checkpoint that it is in."""
  import torch

  if isinstance(found, Mapping) and isinstance(
    found.get("state_dict"), Mapping
  ):
    found = found["state_dict"]
  named = found if isinstance(found, Mapping) else {}
  odd = [
    f"{name}: {type(value).__name__}"
    for name, value in named.items()
    if not isinstance(name, str) or not isinstance(value, torch.Tensor)
  ]
  if odd or not named:
    what = ", ".join(odd) or f"a {type(found).__name__} without any"
    raise ValueError(
      f"expected arrays by name in {path}, got {what[: 4 * _MOST]}; save "
      "model.state_dict()"
    )
  # A view can have more numbers than there are in the file.
  size, arrays = os.path.getsize(path), {}
  for name, value in named.items():
    try:
      if value.numel() > size:
        raise ValueError(f"a view of {value.numel():,} numbers")
      value = value.detach()
      real = value.to(torch.float32) if value.is_floating_point() else value
      arrays[name] = real.numpy()
    except (RuntimeError, TypeError, ValueError) as error:
      raise ValueError(
        f"expected plain arrays in {path}, got {name}: {str(error)[:_MOST]}"
      ) from error
  if all(name.startswith("module.") for name in arrays):
    arrays = {n.removeprefix("module."): a for n, a in arrays.items()}
  return arrays
