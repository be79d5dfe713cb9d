"""The static description of a network of cells.

Everything here is frozen and hashable: two equal specs compile to one program,
and whatever changes the program (kept operators, depth, width) is in here.

Shape letters used throughout the package:

  N examples    H, W pixels     C channels    K classes
  E edges       O operators     T targets (edges that leave one node)

Nodes of a cell are numbered as the field does (Liu et al. 2019): 0 is
c_{k-2}, 1 is c_{k-1}, and 2, 3, ... are the intermediate nodes.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import enum
from typing import Any

from jnas.genotype.operators import SETS

S1, S2, S3 = (SETS[name] for name in ("s1", "s2", "s3"))
NAS_BENCH_201 = SETS["nas_bench_201"]

TRANSIT = "_transit"  # ends the name of a transit cell
ENGINES = ("all", "half", "first", "last")


class Block(enum.Enum):
  """What stands in a stack and is not searched."""

  FIXED_REDUCTION = "fixed_reduction"  # of GDAS, section 3.3
  RESIDUAL = "residual"  # what halves the resolution in NAS-Bench-201


@dataclasses.dataclass(frozen=True)
class Cell:
  """A directed acyclic graph whose edges each carry some operators.

  Attributes:
    ops: the operators of the space; the O columns of a weight matrix.
    edges: (source, target) pairs; the E rows of a weight matrix. A pair may
      occur more than once.
    kept: for each edge, the operators that are still computed.
    concat: the nodes whose features are concatenated to the cell's output.
    inputs: nodes that are the outputs of cells before: 2, or 1 for the
      previous cell alone, whose features then enter as they are.
    degree: edges that a node keeps when a cell is derived; 0 for all.
    without_none: the edges whose relaxation `none` has been dropped from.
    transit: whether it has no logits of its own but the sub-graph that is
      derived from another cell at every step (EnTranNAS): "reduce_transit"
      follows "reduce".
  """

  ops: tuple[str, ...]
  edges: tuple[tuple[int, int], ...]
  kept: tuple[tuple[str, ...], ...]
  concat: tuple[int, ...]
  inputs: int = 2
  degree: int = 2
  without_none: tuple[int, ...] = ()
  transit: bool = False

  @property
  def nodes(self) -> int:
    """The number of nodes, the two inputs included."""
    return max(target for _, target in self.edges) + 1

  @property
  def shape(self) -> tuple[int, int]:
    """The shape (E, O) of this cell's edge weights."""
    return len(self.edges), len(self.ops)


@dataclasses.dataclass(frozen=True)
class Layer:
  """One cell of the stack: which cell it instantiates, and how.

  Attributes:
    cell: name of an entry of `Spec.cells`.
    reduction: whether it halves the resolution and doubles the width.
  """

  cell: str
  reduction: bool


@dataclasses.dataclass(frozen=True)
class Spec:
  """A network: a stem, a stack of cells, global pooling and a classifier.

  Attributes:
    cells: (name, cell) pairs. Layers that name the same cell share its edge
      weights. A Block stands for what is not searched.
    layers: the stack, from the stem to the classifier.
    width: channels C of the first cells' nodes.
    classes: number of classes K.
    stem: channels of the stem are `stem * width`, unless it is ImageNet's.
    imagenet: whether stem and auxiliary head are DARTS's on ImageNet, made for
      images of 224 x 224. The first cell halves its first input.
    affine: whether the normalisations inside cells have a learnable scale and
      shift (evaluation networks) or none (search networks).
    pool_norm: whether a normalisation follows each pooling (search networks).
    auxiliary: whether there is an auxiliary head.
    auxiliary_norm: whether a normalisation follows its last convolution. On
      ImageNet DARTS, PC-DARTS and GDAS have none ("omitted due to a typo", as
      DARTS's code says), P-DARTS has one.
    partial: K; the operators of a cell see the first C / K channels, the rest
      passes by them (PC-DARTS). 1 for all channels.
    head_norm: whether normalisation and ReLU come before the classifier.
    sharing: whether edges from one node share an operator's features.
    bottleneck: with shared features, operators work on C / bottleneck channels.
    space: by which `jnas.spaces.registry` knows its space; "" for stacks of
      DARTS's cells. Other spaces have use for cells, width and classes alone.
  """

  cells: tuple[tuple[str, Cell | Block], ...]
  layers: tuple[Layer, ...]
  width: int
  classes: int
  stem: int = 3
  imagenet: bool = False
  affine: bool = False
  pool_norm: bool = True
  auxiliary: bool = False
  auxiliary_norm: bool = True
  partial: int = 1
  head_norm: bool = False
  sharing: bool = False
  bottleneck: int = 1
  space: str = ""

  def __post_init__(self) -> None:
    if self.imagenet and self.width % 2:
      raise ValueError(
        "the stem of ImageNet begins with half of the width, which must be "
        f"even, got {self.width}"
      )

  @property
  def stem_convolutions(self) -> tuple[tuple[int, int], ...]:
    """(channels, stride) of the stem's convolutions, all of 3 x 3.

    A normalisation follows each, and a ReLU goes between them. Of three the
    first cell reads the last two, of one both inputs are the same.
    """
    c = self.width
    if self.imagenet:
      return (c // 2, 2), (c, 2), (c, 2)
    return ((self.stem * c, 1),)

  def cell(self, name: str) -> Cell | Block:
    """The cell with this name."""
    return dict(self.cells)[name]

  @property
  def searched(self) -> tuple[tuple[str, Cell], ...]:
    """The (name, cell) pairs that have logits."""
    return tuple(
      (name, cell)
      for name, cell in self.cells
      if isinstance(cell, Cell) and not cell.transit
    )

  @property
  def transit(self) -> tuple[str, ...]:
    """The names of the cells that have transit cells following them."""
    return tuple(
      name.removesuffix(TRANSIT)
      for name, cell in self.cells
      if isinstance(cell, Cell) and cell.transit
    )

  @property
  def auxiliary_layer(self) -> int:
    """The layer that feeds the auxiliary head: 2L//3, the second reduction."""
    return 2 * len(self.layers) // 3


def darts_edges(nodes: int) -> tuple[tuple[int, int], ...]:
  """All (source, target) pairs of a DARTS cell, targets outermost.

  Args:
    nodes: number of intermediate nodes.

  >>> darts_edges(2)
  ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
  """
  return tuple((j, i) for i in range(2, nodes + 2) for j in range(i))


def fixed_edges(nodes: int) -> tuple[tuple[int, int], ...]:
  """Each node from c_{k-2} and from the node before it (Amended DARTS, 3.1.2).

  Args:
    nodes: number of intermediate nodes.

  >>> fixed_edges(2)
  ((0, 2), (1, 2), (0, 3), (2, 3))
  """
  return tuple((j, i) for i in range(2, nodes + 2) for j in (0, i - 1))


def reductions(cells: int) -> tuple[int, int]:
  """The layers that reduce: at one and two thirds of the depth."""
  return cells // 3, 2 * cells // 3


def stack(cells: int, shared: bool = True) -> tuple[Layer, ...]:
  """The DARTS stack: `cells` layers, reductions at one and two thirds.

  One cell alone is a reduction, as the rule has it.

  Args:
    cells: depth.
    shared: whether all layers of a kind name the same cell, "normal" or
      "reduce"; otherwise each has its own, "cell0" and so on.
  """
  halving = reductions(cells)

  def name(i: int) -> str:
    return ("reduce" if i in halving else "normal") if shared else f"cell{i}"

  return tuple(Layer(name(i), i in halving) for i in range(cells))


def supernet(
  ops: Sequence[str],
  *,
  cells: int,
  width: int,
  classes: int,
  nodes: int = 4,
  auxiliary: bool = False,
  auxiliary_norm: bool = True,
  imagenet: bool = False,
  fixed: bool = False,
  shared: bool = True,
  fixed_reduction: bool = False,
  partial: int = 1,
  engines: str = "all",
  sharing: bool = False,
  bottleneck: int = 1,
) -> Spec:
  """The search network of DARTS and of what descends from it.

  Args:
    ops: the operators of every edge, e.g. `S1`.
    cells: depth of the stack.
    width: channels C of the first cells' nodes.
    classes: number of classes.
    nodes: number of intermediate nodes of a cell.
    auxiliary: whether to add an auxiliary head.
    auxiliary_norm: whether a normalisation follows its last convolution.
    imagenet: whether the stem and that head are those of ImageNet.
    fixed: whether nodes have the two edges of `fixed_edges`, or all.
    shared: whether all cells of a kind share their edge weights.
    fixed_reduction: whether reduction cells are GDAS's fixed one.
    partial: K of partial channels.
    engines: which cells of each kind are engines, the others being transit
      cells: all of them, the first half, the first or the last.
    sharing: whether edges from one node share an operator's features.
    bottleneck: operators work on C / bottleneck channels.
  """
  edges = (fixed_edges if fixed else darts_edges)(nodes)
  kept = tuple(op for op in ops if op != "none")
  cell = Cell(
    ops=tuple(ops),
    edges=edges,
    kept=(kept,) * len(edges),
    concat=tuple(range(2, nodes + 2)),
  )
  layers = _with_transit(stack(cells, shared), engines)
  parts = {}
  for layer in layers:
    if layer.reduction and fixed_reduction:
      parts[layer.cell] = Block.FIXED_REDUCTION
    else:
      transit = layer.cell.endswith(TRANSIT)
      parts[layer.cell] = dataclasses.replace(cell, transit=transit)
  return Spec(
    cells=tuple(sorted(parts.items()) if shared else parts.items()),
    layers=layers,
    width=width,
    classes=classes,
    imagenet=imagenet,
    auxiliary=auxiliary,
    auxiliary_norm=auxiliary_norm,
    partial=partial,
    sharing=sharing,
    bottleneck=bottleneck,
  )


def _with_transit(
  layers: tuple[Layer, ...], engines: str
) -> tuple[Layer, ...]:
  """The layers, all but the engines naming the transit form of their cell."""
  found = list(layers)
  for kind in {layer.cell for layer in layers}:
    own = [i for i, layer in enumerate(layers) if layer.cell == kind]
    chosen = {
      "all": own,
      "half": own[: (len(own) + 1) // 2],
      "first": own[:1],
      "last": own[-1:],
    }[engines]
    for i in set(own) - set(chosen):
      found[i] = Layer(kind + TRANSIT, layers[i].reduction)
  return tuple(found)


def nas_bench_201(
  *,
  cells: int,
  width: int,
  classes: int,
  affine: bool = False,
  partial: int = 1,
) -> Spec:
  """The search network of NAS-Bench-201 (Dong & Yang 2020, section 2.1).

  Three stages of equal cells at C, 2 C and 4 C channels, residual blocks of
  stride two between them. A cell has one input, three nodes, the last of which
  is its output, and all six edges.

  Args:
    cells: N, the cells of a stage; 5 in the benchmark.
    width: C; 16 in the benchmark.
    classes: number of classes.
    affine: whether the normalisations inside cells have a scale and a shift.
    partial: K of partial channels.
  """
  edges = tuple((j, i) for i in range(1, 4) for j in range(i))
  cell = Cell(
    ops=NAS_BENCH_201,
    edges=edges,
    kept=(NAS_BENCH_201[1:],) * len(edges),
    concat=(3,),
    inputs=1,
    degree=0,
  )
  stage = (Layer("cell", False),) * cells
  between = (Layer("residual", True),)
  return Spec(
    cells=(("cell", cell), ("residual", Block.RESIDUAL)),
    layers=stage + between + stage + between + stage,
    width=width,
    classes=classes,
    stem=1,
    affine=affine,
    pool_norm=False,
    partial=partial,
    head_norm=True,
    space="nas_bench_201",
  )


def to_json(spec: Spec) -> dict[str, Any]:
  """The spec as JSON can hold it; `from_json` reads it back."""
  fields = dataclasses.asdict(spec)
  fields["cells"] = [
    [name, cell.value if isinstance(cell, Block) else dataclasses.asdict(cell)]
    for name, cell in spec.cells
  ]
  return fields


def from_json(fields: Mapping[str, Any]) -> Spec:
  """The spec that `to_json` wrote, lists back to tuples."""

  def cell(value: Any) -> Cell | Block:
    if isinstance(value, str):
      return Block(value)
    return Cell(**{name: _frozen(part) for name, part in value.items()})

  return Spec(
    **dict(fields)
    | {
      "cells": tuple((name, cell(value)) for name, value in fields["cells"]),
      "layers": tuple(Layer(**layer) for layer in fields["layers"]),
    }
  )


def _frozen(value: Any) -> Any:
  if isinstance(value, list | tuple):
    return tuple(_frozen(part) for part in value)
  return value
