"""Edges first, then their operators, in a search of two stages.

Bi et al. (Amended DARTS), appendix B.2: which two edges enter each node is
learnt in the first stage, which operators they have in the second, which
begins anew.
"""

from collections.abc import Callable, Mapping
import dataclasses
import itertools

import numpy as np

from jnas import relax
from jnas.algorithms import base
from jnas.algorithms import stages as stages_lib
from jnas.hypergrad import Hypergradient
from jnas.spaces.spec import Cell, Spec


def stages(spec: Spec, total: int) -> stages_lib.Stages:
  """The two stages.

  Args:
    spec: with all edges.
    total: steps of the run.
  """
  return stages_lib.restarted(
    spec, total, 2, lambda stage, arch, _: select_edges(stage.spec, arch)
  )


def edge_search(
  spec: Spec, estimate: Callable[..., Hypergradient] | None = None
) -> base.Algorithm:
  """The first of two stages: which two edges enter each node (equation 16).

  Beside alpha every cell has a logit for each pair of edges into one node. An
  edge weighs what the pairs weigh that it is part of. The genotype on the
  way is DARTS's of these weights; the second stage gets `select_edges`.

  Args:
    spec: the search network, with all edges.
    estimate: the hypergradient; by default that of Amended DARTS.
  """
  return base.weighted_edges(
    spec,
    estimate or base.estimator("amended", eta=0.1),
    count=lambda cell: len(pairs(cell)),
    factor=lambda beta, cell: relax.edge_pairs(
      beta, pairs(cell), [target for _, target in cell.edges]
    ),
  )


def select_edges(spec: Spec, arch: Mapping[str, np.ndarray]) -> Spec:
  """The spec of the second stage: the strongest pair of each node alone.

  Args:
    spec: of `edge_search`.
    arch: its architecture parameters at the end of the first stage. Ties go
      to the earlier pair.
  """

  def selected(name: str, cell: Cell) -> Cell:
    beta, found = np.asarray(arch[base.edge_logits(name)]), []
    for target in range(cell.inputs, cell.nodes):
      into = [
        (beta[i], -i, pair)
        for i, pair in enumerate(pairs(cell))
        if cell.edges[pair[0]][1] == target
      ]
      found += max(into)[2]
    return dataclasses.replace(
      cell,
      edges=tuple(cell.edges[e] for e in found),
      kept=tuple(cell.kept[e] for e in found),
      without_none=tuple(
        i for i, e in enumerate(found) if e in cell.without_none
      ),
    )

  searched = dict(spec.searched)
  return dataclasses.replace(
    spec,
    cells=tuple(
      (name, selected(name, cell) if name in searched else cell)
      for name, cell in spec.cells
    ),
  )


def pairs(cell: Cell) -> tuple[tuple[int, int], ...]:
  """All pairs of edges that enter one node, node by node.

  Args:
    cell: the cell; each node is entered by two edges or more.
  """
  found = []
  for target in range(cell.inputs, cell.nodes):
    into = [e for e, (_, t) in enumerate(cell.edges) if t == target]
    found += itertools.combinations(into, 2)
  return tuple(found)
