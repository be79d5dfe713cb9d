"""A trained classifier as the beginning of another network."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas.runs import loading

_OWN = ("classifier", "auxiliary")  # of a classifier alone


class Start(NamedTuple):
  """What a network begins with.

  Attributes:
    variables: of it.
    taken: how many arrays are the classifier's.
    left: names of the arrays that are as they were drawn, and why.
  """

  variables: Any
  taken: int
  left: tuple[str, ...]


def read(path: str) -> Mapping[str, Any]:
  """Weights and batch statistics of a classifier.

  Args:
    path: of the folder of its run, or of a file of weights (`loading.load`).

  Raises:
    ValueError: there is none.
  """
  try:
    return loading.load(path).variables
  except ValueError as error:
    raise ValueError(f"segment.init: {error}") from error


def begin(variables: Any, found: Mapping[str, Any], path: str) -> Start:
  """A network's variables, its backbone's from a classifier where they fit.

  Args:
    variables: as drawn; the backbone's are under "backbone".
    found: as `read` gives it.
    path: of the classifier, for a message.

  Raises:
    ValueError: nothing fits.
  """
  taken, left = [], []

  def chosen(names: tuple[Any, ...], own: jax.Array) -> jax.Array:
    kind, *names = (str(part.key) for part in names)
    if names[0] != "backbone":
      return own
    other = found.get(kind, {})
    for name in names[1:]:
      other = other.get(name) if isinstance(other, Mapping) else None
    where = "/".join(names[1:])
    if other is None:
      left.append(f"{where}: not in the classifier")
    elif np.shape(other) != own.shape:
      shapes = f"{list(np.shape(other))} there, {list(own.shape)} here"
      left.append(f"{where}: {shapes}")
    else:
      taken.append(where)
      return jnp.asarray(other, own.dtype)
    return own

  variables = jax.tree_util.tree_map_with_path(chosen, variables)
  if not taken:
    raise ValueError(
      f"segment.init: nothing of the classifier in {path!r} fits the "
      f"network: {left[0]}; give it the same genotype, space.width and "
      "space.stem"
    )
  used = {name.partition("/")[0] for name in taken}
  left += [
    f"{name}: of the classifier alone"
    for name in found["params"]
    if name not in used and name not in _OWN
  ]
  return Start(variables, len(taken), tuple(left))
