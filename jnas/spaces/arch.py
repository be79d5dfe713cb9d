"""The architecture parameters: a pytree of their own, one array a cell."""

import jax
import numpy as np

from jnas.spaces.spec import Cell, Spec

Array = jax.Array


def init(key: Array, spec: Spec, scale: float) -> dict[str, Array]:
  """Logits drawn from N(0, scale^2), [E, O] for each searched cell.

  Args:
    key: typed key.
    spec: the network.
    scale: standard deviation; zero gives every operator the same weight.
  """
  arch = {}
  for i, (name, cell) in enumerate(spec.searched):
    drawn = jax.random.normal(jax.random.fold_in(key, i), cell.shape)
    arch[name] = scale * drawn
  return arch


def mask(cell: Cell) -> np.ndarray:
  """Ones where an operator is in the space: [E, O].

  `none` is never computed, but where the space has it and it has not been
  dropped, it takes part in the relaxation.
  """
  return np.array(
    [
      [
        op in kept or (op == "none" and e not in cell.without_none)
        for op in cell.ops
      ]
      for e, kept in enumerate(cell.kept)
    ],
    np.float32,
  )
