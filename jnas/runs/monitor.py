"""How an architecture develops: numbers, records, and a warning in time."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jnas import genotype as genotype_lib
from jnas import relax
from jnas.genotype import AnyGenotype
from jnas.report import sections
from jnas.spaces import arch as arch_lib
from jnas.spaces.spec import Spec

Records = tuple[tuple[str, Mapping[str, Any]], ...]  # see trainer.Evaluation


def metrics(
  spec: Spec, weights: Mapping[str, np.ndarray], found: AnyGenotype
) -> dict[str, float]:
  """The numbers by which a collapse to skip connections is seen.

  `skip_share` is the share of skip connections among the operators of the
  derived normal cells; `none_weight` the mean weight of `none` on their edges;
  `entropy` that of the operators' weights on an edge of any cell, in nats,
  averaged. The weights of an edge are taken to add up to one, whatever the
  edge itself weighs.

  Args:
    spec: what is searched.
    weights: the mixture, [E, O] by cell.
    found: the genotype that is derived from it.
  """
  shares = {
    name: w / np.maximum(w.sum(-1, keepdims=True), 1e-30)
    for name, w in weights.items()
  }
  rows = np.concatenate(list(shares.values()))
  values = {
    "skip_share": genotype_lib.skip_share(found),
    "entropy": float(relax.entropy(rows).mean()),
  }
  columns = [
    shares[name][:, cell.ops.index("none")]
    for name, cell in _normal_cells(spec)
    if "none" in cell.ops
  ]
  if columns:
    values["none_weight"] = float(np.concatenate(columns).mean())
  return values


def _normal_cells(spec: Spec) -> list[tuple[str, Any]]:
  normal = {layer.cell for layer in spec.layers if not layer.reduction}
  return [(name, cell) for name, cell in spec.searched if name in normal]


def warning(spec: Spec, values: Mapping[str, float]) -> str | None:
  """What to tell of a search that collapses; None of one that does not.

  As long as the weights are nearly equal what is derived is chance.

  Args:
    spec: what is searched.
    values: as from `metrics`.
  """
  share = values["skip_share"]
  undecided = values["entropy"] > 0.98 * _most(spec)
  if share < sections.COLLAPSE or undecided:
    return None
  return (
    f"warning: {share:.0%} of the operators in the normal cells are skip "
    "connections. The search is collapsing: such cells train fast and end "
    "weak. Stop earlier, take the genotype of an earlier epoch "
    "(genotypes.jsonl), or search with the amended hypergradient."
  )


def chance(spec: Spec, values: Mapping[str, float]) -> str | None:
  """What to tell of a search that ends where it began; None of any other.

  Args:
    spec: what was searched, with weights that the operators of an edge share.
    values: as from `metrics`, at the end.
  """
  if values["entropy"] <= sections.UNDECIDED * _most(spec):
    return None
  return (
    "warning: the architecture weights have hardly moved (entropy "
    f"{values['entropy']:.4f} of {_most(spec):.4f}), so this genotype is "
    "chance: search longer (train.length), or with a higher arch.lr"
  )


def _most(spec: Spec) -> float:
  """The entropy where all operators of an edge weigh the same."""
  counts = [arch_lib.mask(cell).sum(-1) for _, cell in spec.searched]
  return float(np.log(np.concatenate(counts).clip(1)).mean())


def records(
  spec: Spec,
  weights: Mapping[str, np.ndarray],
  found: AnyGenotype,
  step: int,
  per_epoch: int,
) -> Records:
  """The genotype, its history, and the weights that it came from."""
  epoch = step / per_epoch
  when = {"step": step, "epoch": int(epoch) if epoch % 1 == 0 else epoch}
  cells = dict(spec.searched)
  first = next(iter(cells.values()))
  line = when | {
    "genotype": genotype_lib.to_json(found),
    "text": genotype_lib.format_text(found),
  }
  architecture = when | {
    "ops": first.ops, "edges": first.edges, "weights": dict(weights)
  }
  if any(cell.edges != first.edges for cell in cells.values()):
    architecture["edges_of"] = {name: c.edges for name, c in cells.items()}
  return (
    ("genotype.json", line),
    ("genotypes.jsonl", line),
    ("arch.jsonl", architecture),
  )
