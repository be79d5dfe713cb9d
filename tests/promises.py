"""What relaxations promise of the weights [E, O] of a cell: asserted.

All take (name of the cell, cell, arch on the host, weights).
"""

import itertools

import numpy as np


def into(cell):
  """For each node the edges that enter it."""
  return [
    [e for e, (_, target) in enumerate(cell.edges) if target == node]
    for node in range(cell.inputs, cell.nodes)
  ]


def distribution(name, cell, arch, weights):
  """Each edge's operators share one; what is pruned has exactly nothing."""
  del name, arch
  left = np.asarray([[op in kept for op in cell.ops] for kept in cell.kept])
  if "none" in cell.ops:
    rest = [e not in cell.without_none for e in range(len(cell.edges))]
    left[:, cell.ops.index("none")] = rest
  assert (weights[left] > 0).all() and (weights[~left] == 0).all()
  np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)


def auxiliary_skip(name, cell, arch, weights):
  """A distribution, and the same more for each skip connection."""
  beta = (weights.sum(-1) - 1).mean()
  assert 0 < beta < 1
  rest = weights.copy()
  rest[:, cell.ops.index("skip_connect")] -= beta
  distribution(name, cell, arch, rest)


def edge_norms(name, cell, arch, weights):
  """Each edge's operators share its norm, the edges into a node share one."""
  assert (weights > 0).all()
  edges = weights.sum(-1)
  for rows in into(cell):
    np.testing.assert_allclose(edges[rows].sum(), 1, atol=1e-6)
    beta = np.exp(arch[f"{name}_edges"][rows])
    np.testing.assert_allclose(edges[rows], beta / beta.sum(), atol=1e-6)


def edge_pairs(name, cell, arch, weights):
  """The edges into a node share two: each has the share of its pairs."""
  assert (weights > 0).all()
  edges, left = weights.sum(-1), list(arch[f"{name}_edges"])
  for rows in into(cell):
    np.testing.assert_allclose(edges[rows].sum(), 2, atol=1e-6)
    pairs = list(itertools.combinations(rows, 2))
    beta = np.exp([left.pop(0) for _ in pairs])
    for e in rows:
      share = sum(b for b, p in zip(beta, pairs, strict=True) if e in p)
      np.testing.assert_allclose(edges[e], share / beta.sum(), atol=1e-6)
  assert not left


def one_hot(name, cell, arch, weights):
  """One operator on each edge, with exactly one."""
  del name, cell, arch
  assert set(np.unique(weights)) == {0, 1}
  np.testing.assert_array_equal(weights.sum(-1), 1)


def derived_cell(name, cell, arch, weights):
  """One operator on two edges into each node, and never `none`."""
  del name, arch
  assert set(np.unique(weights)) == {0, 1} and not weights[:, 0].any()
  assert weights.sum(-1).max() == 1
  for rows in into(cell):
    assert weights[rows].sum() == 2


def sparse(name, cell, arch, weights):
  """An edge's operators share one or nothing; no node has nothing."""
  assert (weights >= 0).all() and not weights[:, cell.ops.index("none")].any()
  np.testing.assert_allclose(weights.sum(-1), weights.any(-1), atol=1e-6)
  for rows, beta in zip(into(cell), arch[f"{name}_thresholds"], strict=True):
    own, alpha = weights[rows], arch[name][rows][:, 1:]
    assert own.any()
    # Of two operators one has a half or more: a threshold below that is for
    # none of the edges. The largest weight of all is for no threshold.
    assert beta >= 0 or own.any(-1).all()
    strongest = np.ptp(alpha, axis=-1).argmax()
    assert own[strongest, 1 + alpha[strongest].argmax()] > 0


def sigmoids(name, cell, arch, weights):
  """Each operator has the sigmoid of its own logit."""
  assert not weights[:, cell.ops.index("none")].any()
  own = 1 / (1 + np.exp(-arch[name][:, 1:]))
  np.testing.assert_allclose(weights[:, 1:], own, atol=1e-6)
