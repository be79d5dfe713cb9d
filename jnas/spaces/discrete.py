"""Networks of genotypes: one operator an edge, no mixture."""

import dataclasses

from jnas.genotype import (
  AnyGenotype,
  Genotype,
  NasBench201Genotype,
  StackGenotype,
  chosen,
)
from jnas.spaces import spec as spec_lib
from jnas.spaces.spec import Block, Cell, Spec


def derived(
  genotype: AnyGenotype,
  *,
  cells: int,
  width: int,
  classes: int,
  auxiliary: bool = False,
  auxiliary_norm: bool = True,
  imagenet: bool = False,
) -> Spec:
  """The evaluation network of a genotype: one operator an edge, no mixture.

  Args:
    genotype: what a search derived, or a published cell.
    cells: depth of the stack; of NAS-Bench-201, cells of each stage.
    width: channels C of the first cells' nodes.
    classes: number of classes.
    auxiliary: whether to add an auxiliary head.
    auxiliary_norm: whether a normalisation follows its last convolution.
    imagenet: whether the stem and that head are those of ImageNet.

  Raises:
    ValueError: the genotype has another number of cells, or no such stem.
  """
  if isinstance(genotype, NasBench201Genotype):
    if imagenet:
      raise ValueError(
        "the stem of ImageNet is for stacks of cells of two inputs, got a cell "
        "of NAS-Bench-201"
      )
    spec = spec_lib.nas_bench_201(
      cells=cells, width=width, classes=classes, affine=True
    )
    cell = spec.cell("cell")
    fed, kept = {0}, []
    for op, source, target in chosen(genotype)["cell"]:
      # What leaves a node that nothing enters is a constant: left out.
      kept.append(_only(op) if source in fed else ())
      fed |= {target} if kept[-1] else set()
    cell = dataclasses.replace(cell, kept=tuple(kept))
    return dataclasses.replace(
      spec, cells=(("cell", cell), spec.cells[1]), auxiliary=auxiliary
    )
  layers = spec_lib.stack(cells, isinstance(genotype, Genotype))
  if isinstance(genotype, StackGenotype):
    if len(genotype.cells) != cells:
      raise ValueError(
        f"the genotype describes a stack of {len(genotype.cells)} cells, each "
        f"its own, and cannot be built with {cells}; set space.cells to "
        f"{len(genotype.cells)}"
      )
    concat = dict.fromkeys((layer.cell for layer in layers), genotype.concat)
  else:
    concat = {
      "normal": genotype.normal_concat,
      "reduce": genotype.reduce_concat,
    }
  found = chosen(genotype)
  named = {n: _discrete(found.get(n), joined) for n, joined in concat.items()}
  used = dict.fromkeys(layer.cell for layer in layers)
  return Spec(
    cells=tuple((name, named[name]) for name in sorted(used)),
    layers=layers,
    width=width,
    classes=classes,
    affine=True,
    pool_norm=False,
    imagenet=imagenet,
    auxiliary=auxiliary,
    auxiliary_norm=auxiliary_norm,
  )


def _only(op: str) -> tuple[str, ...]:
  return () if op == "none" else (op,)


def _discrete(
  triples: tuple[tuple[str, int, int], ...] | None,
  concat: tuple[int, ...],
) -> Cell | Block:
  """One row of edges an (operator, source, target); None: the fixed cell."""
  if triples is None:
    return Block.FIXED_REDUCTION
  return Cell(
    ops=tuple(dict.fromkeys(op for op, *_ in triples)),
    edges=tuple((source, target) for _, source, target in triples),
    kept=tuple(_only(op) for op, *_ in triples),
    concat=concat,
  )
