"""DARTS-PT (Wang et al. 2021, "Rethinking Architecture Selection in
Differentiable NAS"): operators are chosen by perturbation.

The search is DARTS's. What is derived does not follow alpha, whose size says
little of what an operator is worth: at the end, edge by edge in random order,
each operator is left out of the supernet in turn, and the edge keeps the one
whose absence costs most held-out accuracy (Algorithm 1). Then every node keeps
the two edges whose absence costs most (section 4.1, "topology").

The paper trains the supernet for some epochs after each decision; here the
weights stay as the search left them. Cells of NAS-Bench-201 keep all edges, and
may choose `none`.
"""

from collections.abc import Callable

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

    def without(name: str, at: tuple[int, ...]) -> float:
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
    for name, cell in cells.items():
      for dropped in dispensable(cell, lambda e, n=name: without(n, (e,))):
        found[name][dropped] = 0  # weaker than any that was chosen
    return {name: jnp.asarray(value) for name, value in found.items()}

  return algorithm._replace(select=select, selects_last=True)


def candidates(cell: Cell, e: int) -> list[int]:
  """The columns of an edge's operators that may be derived."""
  left = np.flatnonzero(np.asarray(arch_lib.mask(cell))[e] > 0)
  every = cell.inputs == 1  # NAS-Bench-201 may derive none
  return [int(o) for o in left if every or cell.ops[o] != "none"]


def dispensable(
  cell: Cell, without: Callable[[int], float], inputs: int = 2
) -> list[int]:
  """The edges that nodes of a cell do without: all but `inputs` of each.

  Args:
    cell: the cell; one of one input keeps all edges.
    without: the accuracy without an edge; ties keep the earlier one.
    inputs: edges kept per node.
  """
  found: list[int] = []
  if cell.inputs == 1:
    return found
  for target in range(cell.inputs, cell.nodes):
    rows = [e for e, (_, t) in enumerate(cell.edges) if t == target]
    if len(rows) > inputs:
      found += sorted(rows, key=without)[inputs:]
  return found


METHOD = Method(
  "DARTS-PT", lambda setting: darts_pt(setting.spec, setting.estimate)
)
