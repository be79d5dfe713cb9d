"""From the state of a network to that of what is left after pruning."""

from typing import Any

import jax
import numpy as np

from jnas.spaces.cells import op_arrays
from jnas.spaces.spec import Cell, Spec

Tree = Any


def prune_params(tree: Tree, old: Spec, new: Spec) -> Tree:
  """The parts of a tree that belong to operators which a new spec keeps.

  Nothing of what survives is changed.

  Args:
    tree: whatever holds arrays of parameters or of batch statistics of a
      network, by the names of its modules: a collection of variables, or an
      optimizer's state with moments of parameters in it.
    old: spec of that network.
    new: the same spec, with cells that keep fewer operators.

  Raises:
    ValueError: the specs differ in more than that, or the new one keeps more.
  """
  rows = _rows(old, new)

  def is_network(part: Any) -> bool:
    return isinstance(part, dict) and any(name in part for name in rows)

  def network(part: Any) -> Any:
    if not is_network(part):
      return part
    return {
      module: _pruned(own, rows[module]) if module in rows else own
      for module, own in part.items()
    }

  return jax.tree.map(network, tree, is_leaf=is_network)


def _pruned(cell: Tree, rows: dict[str, np.ndarray]) -> Tree:
  """What a cell holds, of each operator the rows that stay."""
  if not isinstance(cell, dict):
    return cell
  return {
    name: jax.tree.map(lambda value, name=name: value[rows[name]], own)
    if name in rows
    else own
    for name, own in cell.items()
    if name not in rows or len(rows[name])
  }


def _rows(old: Spec, new: Spec) -> dict[str, dict[str, np.ndarray]]:
  """For each cell's module and operator the rows that stay."""
  if [layer.cell for layer in old.layers] != [
    layer.cell for layer in new.layers
  ] or old.sharing:
    raise ValueError(
      "expected two specs that differ in what their cells keep, without "
      "shared features; got other layers or shared features"
    )
  rows = {}
  for i, layer in enumerate(old.layers):
    cells = old.cell(layer.cell), new.cell(layer.cell)
    if not all(isinstance(cell, Cell) for cell in cells):
      continue
    before, after = (
      {
        op: own.edges
        for op, own in op_arrays(
          cell,
          1,  # channels do not matter to who owns what
          layer.reduction,
          affine=old.affine,
          pool_norm=old.pool_norm,
        ).items()
      }
      for cell in cells
    )
    more = [
      e for op in after for e in after[op] if e not in before.get(op, ())
    ]
    if more:
      raise ValueError(
        f"layer {i}: the new spec keeps operators on edges {more[:3]} that the "
        "old one has pruned"
      )
    rows[f"cell{i}"] = {
      op: np.asarray(
        [edges.index(e) for e in after.get(op, ())], dtype=np.int32
      )
      for op, edges in before.items()
    }
  return rows
