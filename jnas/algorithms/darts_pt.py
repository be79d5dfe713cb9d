"""DARTS-PT (Wang et al. 2021, "Rethinking Architecture Selection in
Differentiable NAS"): operators are chosen by perturbation.

The search is DARTS's. What is derived does not follow alpha, whose size says
little of what an operator is worth: at the end, edge by edge in random order,
each operator is left out of the supernet in turn, and the edge keeps the one
whose absence costs most held-out accuracy (Algorithm 1). Then, node by node in
random order, the two edges stay whose absence costs most (section 4.1,
"topology"), and the others are gone for the nodes that follow. All of the
held-out images are measured on, normalised by the moments of their batch: those
of the whole supernet are not those of what is left.

The paper trains the supernet for five epochs after each decision; here the
weights stay as the search left them. Cells of NAS-Bench-201 keep all edges, and
may choose `none`.
"""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jnas.algorithms import base
from jnas.algorithms.method import Method
from jnas.hypergrad import Hypergradient
from jnas.spaces import arch as arch_lib
from jnas.spaces.spec import Cell, Spec

Array = jax.Array
Measure = Callable[[base.Weights], float]
_CHOSEN = 30.0  # a logit that leaves nothing to the others


def darts_pt(
  spec: Spec, estimate: Callable[..., Hypergradient] | None = None
) -> base.Algorithm:
  """DARTS-PT on a spec.

  Args:
    spec: the search network.
    estimate: the hypergradient; by default that of the first order.
  """
  algorithm = base.softmax_algorithm(
    spec, estimate or base.estimator("first_order")
  )
  cells = dict(spec.searched)

  def select(arch: base.Arch, key: Array, measure: Measure) -> base.Arch:
    found = {name: np.array(value) for name, value in arch.items()}
    weights = {
      name: np.array(w) for name, w in algorithm.mixture(arch).items()
    }

    def without(name: str, at: int | tuple[int, int]) -> float:
      """The accuracy of the supernet without an operator, or an edge."""
      less = dict(weights)
      less[name] = weights[name].copy()
      less[name][at] = 0
      return measure({n: jnp.asarray(w) for n, w in less.items()})

    rows = [(name, e) for name in cells for e in range(len(cells[name].edges))]
    for i in np.asarray(jax.random.permutation(key, len(rows))):
      name, e = rows[i]
      columns = candidates(cells[name], e)
      if not columns:
        continue
      costs = [without(name, (e, o)) for o in columns]
      hot = np.eye(weights[name].shape[1])[columns[int(np.argmin(costs))]]
      weights[name][e], found[name][e] = hot, _CHOSEN * hot
    nodes = [
      (name, node)
      for name, cell in cells.items()
      for node in range(cell.inputs, cell.nodes)
    ]
    order = jax.random.permutation(jax.random.fold_in(key, 1), len(nodes))
    for i in np.asarray(order):
      name, node = nodes[i]
      less = functools.partial(without, name)
      for e in dispensable(cells[name], node, less):
        weights[name][e] = 0
        found[name][e] = 0  # weaker than any that was chosen
    return {name: jnp.asarray(value) for name, value in found.items()}

  return algorithm._replace(select=select, selects_last=True)


def candidates(cell: Cell, e: int) -> list[int]:
  """The columns of an edge's operators that may be derived."""
  left = np.flatnonzero(np.asarray(arch_lib.mask(cell))[e] > 0)
  every = cell.inputs == 1  # NAS-Bench-201 may derive none
  return [int(o) for o in left if every or cell.ops[o] != "none"]


def dispensable(
  cell: Cell, node: int, without: Callable[[int], float], inputs: int = 2
) -> list[int]:
  """The edges into a node that it does without: all but `inputs`.

  Args:
    cell: the cell; one of one input keeps all edges.
    node: of the cell.
    without: the accuracy without an edge; ties keep the earlier one.
    inputs: edges that are kept.
  """
  rows = [e for e, (_, target) in enumerate(cell.edges) if target == node]
  if cell.inputs == 1 or len(rows) <= inputs:
    return []
  return sorted(rows, key=without)[inputs:]


METHOD = Method(
  "DARTS-PT", lambda setting: darts_pt(setting.spec, setting.estimate)
)
