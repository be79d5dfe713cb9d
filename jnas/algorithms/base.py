"""What a search algorithm is, and what several of them share."""

from collections.abc import Callable, Mapping
import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from jnas import hypergrad, relax, solve
from jnas.genotype import Genotype
from jnas.hypergrad import Hypergradient
from jnas.spaces import arch as arch_lib
from jnas.spaces.spec import Cell, Spec

Array = jax.Array
Arch = dict[str, Array]
Weights = Mapping[str, Array]


class Algorithm(NamedTuple):
  """A search algorithm as pure functions.

  Attributes:
    relax: (arch, key) -> edge weights, [E, O] for each cell. What the losses
      of training see; `key` is None where the weights are to be evaluated.
    estimate: (train, valid, w, alpha, virtual, mean) -> Hypergradient, with
      the losses and `mean` of `jnas.hypergrad` and `virtual` the weight
      optimizer's next step (w, gradient) -> w'.
    derive: edge weights, as numpy -> Genotype.
  """

  relax: Callable[[Arch, Array | None], Weights]
  estimate: Callable[..., Hypergradient]
  derive: Callable[[Mapping[str, np.ndarray]], Genotype]


def softmax_relaxation(
  spec: Spec,
) -> Callable[[Arch, Array | None], Weights]:
  """The softmax on each edge over the operators that the spec keeps."""
  masks = {name: arch_lib.mask(cell) for name, cell in spec.searched}
  full = {name: None if m.all() else m for name, m in masks.items()}

  def relaxed(arch: Arch, key: Array | None) -> Weights:
    return {name: relax.softmax(a, full[name], key) for name, a in arch.items()}

  return relaxed


def estimator(
  name: str,
  *,
  form: str = "exact",
  eta: float = 0.1,
  steps: int = 10,
  damping: float = 0.01,
  scale: float = 0.1,
  unroll: bool = False,
) -> Callable[..., Hypergradient]:
  """A hypergradient with the signature of `Algorithm.estimate`.

  Args:
    name: first_order, unrolled, amended, implicit_cg or implicit_neumann.
    form: "exact", or "finite_difference" for unrolled and amended.
    eta: coefficient of the amended term.
    steps: products with the Hessian, for the implicit ones.
    damping: added to the Hessian's diagonal, for the implicit ones.
    scale: step of the Neumann series.
    unroll: whether the solver's loop is written out.

  Raises:
    ValueError: no such estimate, or none of this form.
  """
  exact = form == "exact"
  solvers = {
    "implicit_cg": functools.partial(
      solve.conjugate_gradients, steps=steps, damping=damping,
      unroll=unroll,
    ),
    "implicit_neumann": functools.partial(
      solve.neumann, steps=steps, damping=damping, scale=scale,
      unroll=unroll,
    ),
  }
  if form not in ("exact", "finite_difference"):
    raise ValueError(f"form {form!r} is neither exact nor finite_difference")
  if not exact and name not in ("unrolled", "amended"):
    raise ValueError(
      f"there is a finite_difference form of unrolled and amended, not of "
      f"{name!r}"
    )
  if name == "first_order":
    return _without_virtual(hypergrad.first_order)
  if name == "amended":
    form = hypergrad.amended if exact else hypergrad.amended_difference
    return _without_virtual(functools.partial(form, eta=eta))
  if name == "unrolled":
    form = hypergrad.unrolled if exact else hypergrad.unrolled_difference
    return lambda train, valid, w, alpha, virtual, mean: form(
      train, valid, w, alpha, virtual=virtual, mean=mean
    )
  if name in solvers:
    return _without_virtual(
      functools.partial(hypergrad.implicit, solve=solvers[name])
    )
  raise ValueError(
    f"no hypergradient {name!r}; there are first_order, unrolled, amended, "
    f"{', '.join(solvers)}"
  )


def _without_virtual(form: Callable[..., Any]) -> Callable[..., Any]:
  def estimate(train, valid, w, alpha, virtual, mean):
    del virtual
    return form(train, valid, w, alpha, mean=mean)

  return estimate


def strongest_edges(
  cell: Cell, weights: np.ndarray, inputs: int = 2
) -> tuple[tuple[str, int], ...]:
  """DARTS's derivation: (operator, predecessor) pairs, `inputs` per node.

  An edge is as strong as its strongest operator other than `none`. Each node
  keeps its `inputs` strongest edges, listed by strength. Ties go to the lower
  predecessor and to the lower operator, as in the published code.

  Args:
    cell: the cell.
    weights: [E, O] relaxed weights. Softmax first: ranking logits across
      edges would be another rule.
    inputs: edges kept per node.
  """
  columns = [o for o, op in enumerate(cell.ops) if op != "none"]
  best = [max(columns, key=lambda o, row=row: row[o]) for row in weights]
  pairs = []
  for target in range(2, cell.nodes):
    rows = [e for e, (_, t) in enumerate(cell.edges) if t == target]
    rows.sort(key=lambda e: -weights[e, best[e]])
    pairs += [(cell.ops[best[e]], cell.edges[e][0]) for e in rows[:inputs]]
  return tuple(pairs)


def darts_genotype(
  spec: Spec, weights: Mapping[str, np.ndarray]
) -> Genotype:
  """The genotype of shared normal and reduction cells by DARTS's rule."""
  parts = {}
  for name in ("normal", "reduce"):
    cell = spec.cell(name)
    parts[name] = strongest_edges(cell, np.asarray(weights[name]))
    parts[f"{name}_concat"] = cell.concat
  return Genotype(**parts)
