"""The static description of a network of cells.

Everything here is frozen and hashable: two equal specs compile to one program,
and whatever changes the program (kept operators, depth, width) is in here.

Shape letters used throughout the package:

  N examples    H, W pixels     C channels    K classes
  E edges       O operators     T targets (edges that leave one node)

Nodes of a cell are numbered as the field does (Liu et al. 2019): 0 is
c_{k-2}, 1 is c_{k-1}, and 2, 3, ... are the intermediate nodes.
"""

from collections.abc import Sequence
import dataclasses

from jnas.genotype import Genotype

S1 = (
  "none",
  "max_pool_3x3",
  "avg_pool_3x3",
  "skip_connect",
  "sep_conv_3x3",
  "sep_conv_5x5",
  "dil_conv_3x3",
  "dil_conv_5x5",
)
S3 = ("none", "skip_connect", "sep_conv_3x3")
OPERATOR_SETS = {"s1": S1, "s3": S3}


@dataclasses.dataclass(frozen=True)
class Cell:
  """A directed acyclic graph whose edges each carry some operators.

  Attributes:
    ops: the operators of the space; the O columns of a weight matrix.
    edges: (source, target) pairs; the E rows of a weight matrix. A pair may
      occur more than once.
    kept: for each edge, the operators that are still computed.
    concat: the nodes whose features are concatenated to the cell's output.
  """

  ops: tuple[str, ...]
  edges: tuple[tuple[int, int], ...]
  kept: tuple[tuple[str, ...], ...]
  concat: tuple[int, ...]

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
      weights. The cell is None for GDAS's fixed reduction cell.
    layers: the stack, from the stem to the classifier.
    width: channels C of the first cells' nodes.
    classes: number of classes K.
    stem: channels of the stem are `stem * width`.
    affine: whether the normalisations inside cells have a learnable scale and
      shift (evaluation networks) or none (search networks).
    pool_norm: whether a normalisation follows each pooling (search networks).
    auxiliary: whether there is an auxiliary head.
  """

  cells: tuple[tuple[str, Cell | None], ...]
  layers: tuple[Layer, ...]
  width: int
  classes: int
  stem: int = 3
  affine: bool = False
  pool_norm: bool = True
  auxiliary: bool = False

  def cell(self, name: str) -> Cell | None:
    """The cell with this name."""
    return dict(self.cells)[name]

  @property
  def searched(self) -> tuple[tuple[str, Cell], ...]:
    """The (name, cell) pairs that have edge weights."""
    return tuple((name, cell) for name, cell in self.cells if cell is not None)

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


def stack(cells: int) -> tuple[Layer, ...]:
  """The DARTS stack: `cells` layers, reductions at one and two thirds.

  A stack of fewer than three cells has its reductions where the rule puts
  them, which for one cell means a single reduction.
  """
  reductions = (cells // 3, 2 * cells // 3)
  return tuple(
    Layer("reduce" if i in reductions else "normal", i in reductions)
    for i in range(cells)
  )


def supernet(
  ops: Sequence[str],
  *,
  cells: int,
  width: int,
  classes: int,
  nodes: int = 4,
  auxiliary: bool = False,
) -> Spec:
  """The search network of DARTS: shared normal and reduction cells.

  Args:
    ops: the operators of every edge, e.g. `S1`.
    cells: depth of the stack.
    width: channels C of the first cells' nodes.
    classes: number of classes.
    nodes: number of intermediate nodes of a cell.
    auxiliary: whether to add an auxiliary head.
  """
  edges = darts_edges(nodes)
  kept = tuple(op for op in ops if op != "none")
  cell = Cell(
    ops=tuple(ops),
    edges=edges,
    kept=(kept,) * len(edges),
    concat=tuple(range(2, nodes + 2)),
  )
  layers = stack(cells)
  used = dict.fromkeys(sorted(layer.cell for layer in layers))
  return Spec(
    cells=tuple((name, cell) for name in used),
    layers=layers,
    width=width,
    classes=classes,
    auxiliary=auxiliary,
  )


def derived(
  genotype: Genotype,
  *,
  cells: int,
  width: int,
  classes: int,
  auxiliary: bool = False,
) -> Spec:
  """The evaluation network of a genotype: one operator an edge, no mixture.

  Args:
    genotype: what a search derived, or a published cell.
    cells: depth of the stack.
    width: channels C of the first cells' nodes.
    classes: number of classes.
    auxiliary: whether to add an auxiliary head.
  """
  layers = stack(cells)
  named = {
    "normal": _discrete(genotype.normal, genotype.normal_concat),
    "reduce": _discrete(genotype.reduce, genotype.reduce_concat),
  }
  used = dict.fromkeys(sorted(layer.cell for layer in layers))
  return Spec(
    cells=tuple((name, named[name]) for name in used),
    layers=layers,
    width=width,
    classes=classes,
    affine=True,
    pool_norm=False,
    auxiliary=auxiliary,
  )


def _discrete(pairs, concat) -> Cell | None:
  if pairs is None:
    return None
  return Cell(
    ops=tuple(dict.fromkeys(op for op, _ in pairs)),
    edges=tuple((source, 2 + i // 2) for i, (_, source) in enumerate(pairs)),
    kept=tuple(() if op == "none" else (op,) for op, _ in pairs),
    concat=tuple(concat),
  )
