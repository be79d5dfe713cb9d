"""What a search space has to be.

A space is a few functions around a static description, its `Spec`: cells of
edges, each of which chooses one of the cell's operators. An algorithm learns
the logits [edges, operators] of `Spec.searched` and sees nothing else of it; a
network receives their weights. So a space of one's own is searched by every
algorithm that neither prunes nor changes the stack of cells.

`jnas.spaces.registry` has those that have names, and takes others by import
path; `examples/choice_blocks.py` is one.
"""

from collections.abc import Callable, Mapping
import dataclasses
import math
from types import MappingProxyType
from typing import Any, NamedTuple

from flax import linen as nn

from jnas.genotype import AnyGenotype, SpaceGenotype, chosen
from jnas.ops import backend as backend_lib
from jnas.ops import table
from jnas.ops.backend import Backend
from jnas.spaces.spec import Cell, Spec

Fields = Mapping[str, Any]  # a configuration, dotted name -> value
Pairs = tuple[Any, ...]  # of one cell, as `jnas.genotype` has them
_NONE: Fields = MappingProxyType({})


class Size(NamedTuple):
  """How large a network shall be.

  Attributes:
    cells: depth.
    width: channels at the beginning.
    classes: that it tells apart.
    auxiliary: whether it has an auxiliary head.
    options: the fields of the configuration's group `space`, by their names
      without the group.
  """

  cells: int
  width: int
  classes: int
  auxiliary: bool = False
  options: Mapping[str, Any] = _NONE


class Execution(NamedTuple):
  """How a network is computed.

  Attributes:
    dtype: of features; None for that of the parameters.
    axis: mesh axis over which batch statistics are shared, or None.
    remat: whether features are computed again in the backward pass.
    backend: how operators are computed on the devices.
    skip_zero_ops: whether operators whose weight is zero need not be computed.
    frozen: transit cells that are computed as they are (`cnn.Network`).
  """

  dtype: Any = None
  axis: str | None = None
  remat: bool = False
  backend: Backend = backend_lib.CPU
  skip_zero_ops: bool = False
  frozen: tuple[Any, ...] = ()


class Layout(NamedTuple):
  """How much of a network there is, to tell what it needs before it is built.

  Attributes:
    cells: of the whole network.
    edges: of a cell.
    nodes: of a cell whose features are kept for the backward pass.
    before: convolutions from C to C channels in front of a cell.
  """

  cells: int
  edges: int = 1
  nodes: int = 0
  before: int = 0


class EdgeSize(NamedTuple):
  """What one edge has in a search, as far as `jnas.ops.table` knows it.

  Attributes:
    operators: how many.
    convolutions: in them, from C to C channels.
    weights: of these convolutions, in units of C^2.
  """

  operators: int
  convolutions: int
  weights: int


def edge_size(operators: tuple[str, ...], channels: int = 64) -> EdgeSize:
  """The size of an edge with these operators.

  >>> edge_size(("none", "sep_conv_3x3", "conv_3x3", "mine"))
  EdgeSize(operators=4, convolutions=3, weights=11)
  """
  shapes = [
    parameter.shape
    for op in operators
    if op in table.OPERATORS
    for parameter in table.get(op).parameters(channels, 1).values()
  ]
  square = [s for s in shapes if s[-2:] == (channels, channels)]
  weights = sum(math.prod(shape[:-2]) for shape in square)
  return EdgeSize(len(operators), len(square), weights)


class Space(NamedTuple):
  """A search space.

  Attributes:
    operators: out of which an edge chooses: the columns of its logits. Those
      that are rows of `jnas.ops.table` are known with their costs.
    spec: a `Size` -> the search network. For a space of one's own `cells`,
      `width` and `classes` of it are enough, `layers` may be empty.
    network: (spec, `Execution`) -> a linen module. Called with images
      [N, H, W, C], edge weights ([E, O] by cell, or None where every operator
      that is kept counts once), factors of dropout or None and `train`, it
      gives logits [N, classes], and those of an auxiliary head or None.
    genotype: (spec, (operator, source) pairs of each cell) -> genotype.
    derived: (genotype, `Size`) -> the spec of its network; None: that of the
      search with the chosen operators alone.
    flops: (spec, (H, W), channels) -> multiply-adds on one image; None: as the
      network's program has them (`jnas.spaces.traced`).
    choose: (cell, weights [E, O]) -> the pairs of a cell, where that is not up
      to the algorithm.
    fields: of the configuration that it knows beside its cells and width;
      others of groups `space` and `train` that change networks are refused.
    problems: a configuration -> what of it does not go with this space.
    layout: (configuration, cells) -> its size in closed form.
    stack: whether it is a stack of DARTS's cells, which algorithms may prune,
      deepen or let transit.
    data: what its networks are trained on, images or text; `jnas.runs.dispatch`
      has the programs of each.
    single_input: whether its cells read one input, not two.
    tabular: whether a benchmark (`space.table`) has trained all its networks.
    slow_in_loops: whether XLA on CPU computes a network slowly in a loop.
    name: by which it is known; whoever finds it fills it in.
  """

  operators: tuple[str, ...]
  spec: Callable[[Size], Spec]
  network: Callable[[Spec, Execution], nn.Module]
  genotype: Callable[[Spec, Mapping[str, Pairs]], AnyGenotype] | None = None
  derived: Callable[[AnyGenotype, Size], Spec] | None = None
  flops: Callable[[Spec, tuple[int, int], int], int] | None = None
  choose: Callable[[Cell, Any], Pairs] | None = None
  fields: frozenset[str] = frozenset()
  problems: Callable[[Fields], list[str]] = lambda flat: []
  layout: Callable[[Fields, int], Layout] = lambda flat, cells: Layout(cells)
  stack: bool = False
  data: str = "images"
  single_input: bool = False
  tabular: bool = False
  slow_in_loops: Callable[[Spec], bool] = lambda spec: True
  name: str = ""

  @property
  def edge(self) -> EdgeSize:
    """What one edge has in a search."""
    return edge_size(self.operators)


def search_spec(space: Space, size: Size) -> Spec:
  """The search network of a space.

  Raises:
    ValueError: an edge keeps an operator that the space does not have, or what
      the space gives is no `Spec`.
  """
  spec = space.spec(size)
  if not isinstance(spec, Spec) or not spec.searched:
    raise ValueError(
      f"space.name: expected a jnas.spaces.spec.Spec with a cell to search "
      f"from {space.name}, got {spec!r}"
    )
  if space.genotype is None:  # genotypes and checkpoints name the space
    spec = dataclasses.replace(spec, space=space.name)
  for name, cell in spec.searched:
    odd = {op for kept in cell.kept for op in kept} - set(cell.ops)
    if odd or len(cell.kept) != len(cell.edges):
      raise ValueError(
        f"space.name: expected of {space.name} for each edge of {name} what it "
        f"keeps of {', '.join(cell.ops)}, got {cell.kept}"
      )
  return spec


def genotype_of(
  space: Space, spec: Spec, pairs: Mapping[str, Pairs]
) -> AnyGenotype:
  """The genotype of a spec's cells.

  Args:
    space: of the spec.
    spec: the search network.
    pairs: (operator, source) of each cell, the pairs of a node together.
  """
  if space.genotype is not None:
    return space.genotype(spec, pairs)
  found = []
  for name, cell in spec.searched:
    rest = iter(pairs[name])
    targets = [target for _, target in cell.edges]
    triples = [
      (*next(rest), target)
      for target in sorted(set(targets))
      for _ in range(min(cell.degree or len(targets), targets.count(target)))
    ]
    found.append((name, tuple(triples)))
  return SpaceGenotype(spec.space, tuple(found))


def derived_spec(space: Space, genotype: AnyGenotype, size: Size) -> Spec:
  """The network of a genotype: the chosen operators, and scales to learn.

  Args:
    space: that the genotype is of.
    genotype: what a search derived.
    size: of the network.

  Raises:
    ValueError: the space at this size has no such edges or operators.
  """
  if space.derived is not None:
    return space.derived(genotype, size)
  spec, picked = search_spec(space, size), chosen(genotype)
  cells = []
  for name, cell in spec.cells:
    if isinstance(cell, Cell):
      cell = dataclasses.replace(
        cell, kept=_kept(cell, picked.pop(name, ()), f"{name} of {space.name}")
      )
    cells.append((name, cell))
  if picked:
    raise ValueError(
      f"the genotype has cells that {space.name} has not: {', '.join(picked)}"
    )
  return dataclasses.replace(
    spec, cells=tuple(cells), affine=True, pool_norm=False
  )


def _kept(
  cell: Cell, triples: tuple[tuple[str, int, int], ...], where: str
) -> tuple[tuple[str, ...], ...]:
  """What each edge keeps of its operators: those that were chosen."""
  kept = {edge: () for edge in cell.edges}
  for op, source, target in triples:
    edge = source, target
    if op not in dict(zip(cell.edges, cell.kept, strict=True)).get(edge, ()):
      raise ValueError(
        f"the genotype has {op} from {source} to {target} in {where}, which "
        "is not there at this size; set space.cells to that of the search"
      )
    kept[edge] += (op,)
  bare = {to for _, to in cell.edges} - {to for _, _, to in triples}
  if bare:
    raise ValueError(
      f"the genotype has nothing that leads to node {min(bare)} in {where}; "
      "set space.cells to that of the search"
    )
  return tuple(kept.values())
