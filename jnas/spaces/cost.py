"""What networks cost: multiply-adds; and sizes of spaces.

A multiply-add is one multiplication of a convolution or of the classifier, on
one image, biases left out, as most papers count. The library thop adds two for
each normalised element and one for each that goes through a ReLU: so the 557
million of P-DARTS on ImageNet. NAS-Bench-201 adds the classifier's bias.
"""

from collections.abc import Callable, Iterable
import dataclasses
import itertools
import math
import operator
from typing import NamedTuple

import numpy as np

from jnas.ops import table
from jnas.ops.plain import strided
from jnas.ops.table import OpCounts
from jnas.spaces.spec import Block, Cell, Layer, Spec

Shape = tuple[int, int, int]  # (H, W, C) of one image's features


def _sum(parts: Iterable[OpCounts]) -> OpCounts:
  return OpCounts(*map(sum, zip(*parts, strict=True)))


def operator_flops(
  op: str,
  channels: int,
  height: int,
  width: int,
  stride: int = 1,
  *,
  printed: bool = False,
) -> int:
  """Multiply-adds of an operator on one image.

  Those of sep_conv_3x3 are 2 (C^2 + 9 C) H W, since it is two pairs of a
  depthwise and a pointwise convolution. GOLD-NAS (Bi et al. 2020, appendix
  A.3) prints 2 C^2 H W + 9 C H W, with the depthwise convolution once: 9 C H W
  less, which is a tenth of the count at C = 36. The paper wants what thop
  counts, which is the exact one: the printed one seems to lack parentheses.

  Args:
    op: an operator.
    channels: C, of its input and its output.
    height: H of its output.
    width: W of its output.
    stride: 1, or 2 where the input is 2 H by 2 W.
    printed: whether a sep_conv, of any size, is counted as printed. All other
      operators are the same either way.

  Raises:
    ValueError: the operator is not known.

  >>> operator_flops("sep_conv_3x3", 36, 32, 32)
  3317760
  >>> operator_flops("sep_conv_3x3", 36, 32, 32, printed=True)
  2985984
  """
  size = stride * height, stride * width
  row = table.get(op)
  exact, form = row.counts(channels, size, stride).macs, row.form
  if printed and isinstance(form, table.Separable):
    exact -= (form.repeats - 1) * form.size**2 * channels * height * width
  return exact


class LayerShapes(NamedTuple):
  """One layer of the stack and the shapes of what it reads and gives."""

  layer: Layer
  channels: int  # C of its nodes
  inputs: tuple[Shape, Shape]  # the cell before the previous one's comes first
  output: Shape


def stem_shapes(spec: Spec, size: tuple[int, int]) -> tuple[Shape, ...]:
  """What each convolution of the stem gives, for images of H and W.

  >>> from jnas.spaces.spec import S1, supernet
  >>> spec = supernet(S1, cells=3, width=16, classes=10, imagenet=True)
  >>> stem_shapes(spec, (224, 224))
  ((112, 112, 8), (56, 56, 16), (28, 28, 16))
  """
  shapes = []
  for channels, stride in spec.stem_convolutions:
    size = strided(size, stride)
    shapes.append((*size, channels))
  return tuple(shapes)


def layer_shapes(
  spec: Spec, size: tuple[int, int]
) -> tuple[LayerShapes, ...]:
  """The layers of a stack, with the shapes of their features.

  Args:
    spec: the network.
    size: H and W of the images.

  >>> from jnas.spaces.spec import S1, supernet
  >>> spec = supernet(S1, cells=3, width=16, classes=10)
  >>> [each.output for each in layer_shapes(spec, (9, 8))]
  [(9, 8, 64), (5, 4, 128), (3, 2, 256)]
  """
  *_, s0, s1 = 2 * stem_shapes(spec, size)
  found, c = [], spec.width
  for layer in spec.layers:
    c *= 2 if layer.reduction else 1
    out = strided(s1[:2], 2 if layer.reduction else 1)
    cell = spec.cell(layer.cell)
    if isinstance(cell, Block):
      joined = 4 if cell is Block.FIXED_REDUCTION else 1
    else:
      joined = len(cell.concat)
    found.append(LayerShapes(layer, c, (s0, s1), (*out, joined * c)))
    s0, s1 = s1, found[-1].output
  return tuple(found)


def layer_counts(spec: Spec, shapes: LayerShapes) -> OpCounts:
  """What a layer of those shapes does on its inputs and in its operators.

  >>> from jnas.spaces.spec import S2, supernet
  >>> spec = supernet(S2, cells=3, width=4, classes=10)
  >>> layer_counts(spec, layer_shapes(spec, (1, 1))[0])
  OpCounts(macs=1552, norm_elements=120, relu_elements=136)
  """
  c, (_, s1) = shapes.channels, shapes.inputs
  cell = spec.cell(shapes.layer.cell)
  outside = c * math.prod(shapes.output[:2])
  if cell is Block.RESIDUAL:
    products = (9 * s1[2] + 9 * c + s1[2]) * outside
    return OpCounts(products, 2 * outside, math.prod(s1) + outside)
  # A convolution 1 x 1 to C channels, or the factorized reduction, which has
  # as many products and reads more.
  inside = c * math.prod(s1[:2])
  parts = [OpCounts(s[2] * inside, inside, math.prod(s)) for s in shapes.inputs]
  if cell is Block.FIXED_REDUCTION:
    row = 3 * (c // 8) * c * s1[0] * shapes.output[1]
    products = row + 3 * (c // 8) * outside + c * outside
    # Two normalisations beside the convolutions, one after the pool.
    parts += 2 * [OpCounts(products, 3 * outside, inside + outside)]
    return _sum(parts)
  if cell.inputs == 1:
    parts = []
  works = edge_counts(spec, shapes, cell)
  parts += [works[e][op] for (e, *_), op in _computed(spec, cell)]
  if spec.sharing and spec.bottleneck > 1:
    parts += _bottlenecks(spec, shapes, cell)
  return _sum(parts)


def edge_counts(
  spec: Spec, shapes: LayerShapes, cell: Cell
) -> list[dict[str, OpCounts]]:
  """For each edge of a layer what each operator of the space does.

  Args:
    spec: the network.
    shapes: of the layer.
    cell: that it is of.
  """
  c = shapes.channels // (spec.bottleneck if spec.sharing else spec.partial)
  out, by_stride = shapes.output[:2], {}
  for stride, size in ((1, out), (2, shapes.inputs[1][:2])):
    works = {op: table.get(op).counts(c, size, stride) for op in cell.ops}
    if spec.pool_norm:
      pool = OpCounts(norm_elements=c * math.prod(out))
      works |= {op: pool for op in cell.ops if table.get(op).pool}
    by_stride[stride] = works
  return [
    by_stride[2 if shapes.layer.reduction and source < cell.inputs else 1]
    for source, _ in cell.edges
  ]


def _computed(spec: Spec, cell: Cell) -> list[tuple[list[int], str]]:
  """The (edges, operator) of all that a cell computes once.

  It is for one edge, or with shared features for all that leave a node and
  keep the operator.
  """
  found: dict[tuple[int, str], list[int]] = {}
  for e, (source, _) in enumerate(cell.edges):
    for op in cell.kept[e]:
      found.setdefault((source if spec.sharing else e, op), []).append(e)
  return [(edges, op) for (_, op), edges in found.items()]


def _bottlenecks(
  spec: Spec, shapes: LayerShapes, cell: Cell
) -> list[OpCounts]:
  """The convolutions 1 x 1 around the operators of shared features.

  One narrows each node that is read, another widens each that is made; a
  normalisation follows them, no ReLU goes before.
  """
  c, d = shapes.channels, shapes.channels // spec.bottleneck
  out, inputs = math.prod(shapes.output[:2]), math.prod(shapes.inputs[1][:2])
  read = {cell.edges[e][0] for (e, *_), _ in _computed(spec, cell)}
  pixels = [inputs if node < cell.inputs else out for node in read]
  narrow = [OpCounts(c * d * n, d * n) for n in pixels]
  made = cell.nodes - cell.inputs
  return narrow + made * [OpCounts(d * c * out, c * out)]


def network_counts(
  spec: Spec, size: tuple[int, int], image_channels: int = 3
) -> dict[str, OpCounts]:
  """What each part of a network does on one image, from stem to classifier.

  Args:
    spec: the network; its auxiliary head, there in training only, is left out.
    size: H and W of the images.
    image_channels: channels of the images.

  >>> from jnas.spaces.spec import S1, supernet
  >>> network_counts(supernet(S1, cells=3, width=4, classes=9), (1, 1))["stem"]
  OpCounts(macs=324, norm_elements=12, relu_elements=0)
  """
  shapes = stem_shapes(spec, size)
  elements = [math.prod(shape) for shape in shapes]
  read = image_channels, *(shape[2] for shape in shapes[:-1])
  macs = 9 * sum(map(operator.mul, read, elements))
  stem = OpCounts(macs, sum(elements), sum(elements[:-1]))
  stack = layer_shapes(spec, size)
  last = stack[-1].output
  head = math.prod(last) if spec.head_norm else 0
  cells = {
    f"cell{i}": layer_counts(spec, each) for i, each in enumerate(stack)
  }
  return {
    "stem": stem,
    **cells,
    "classifier": OpCounts(last[2] * spec.classes, head, head),
  }


def thop_flops(work: OpCounts) -> int:
  """Multiply-adds as thop counts them, with the elementwise ones."""
  return work.macs + 2 * work.norm_elements + work.relu_elements


def network_flops(
  spec: Spec,
  size: tuple[int, int],
  image_channels: int = 3,
  *,
  elementwise: bool = False,
) -> int:
  """Multiply-adds of a network on one image.

  Of what is kept: the stem, the convolutions before and between cells, the
  operators, the classifier; not of the auxiliary head, which exists in
  training only. Weighing and adding the operators costs nothing here.

  Args:
    spec: the network.
    size: H and W of the images.
    image_channels: channels of the images.
    elementwise: whether to add two for each element that is normalised and
      one for each that goes through a ReLU, as thop does.

  >>> from jnas.spaces.spec import S1, supernet
  >>> network_flops(supernet(S1, cells=8, width=16, classes=10), (32, 32))
  300255744
  """
  work = _sum(network_counts(spec, size, image_channels).values())
  return thop_flops(work) if elementwise else work.macs


def gradient_floor(
  spec: Spec, size: tuple[int, int], itemsize: int
) -> tuple[int, int]:
  """Operations and bytes that a gradient by the weights takes, on one image.

  A convolution's two gradients have as many products as it has itself, and
  each product is two operations. What a normalisation reads, y, is written,
  and read when its moments are known; its gradient is written, too, and read
  when its sums with one and with y are known, and y is read for both. So these
  six passes are necessary where features are larger than what a chip keeps
  beside its memory. Pools and sums, whose features edges share, are left out.

  Args:
    spec: the network; edges do not share features (`Spec.sharing`), and every
      operator is computed.
    size: H and W of the images.
    itemsize: bytes of a feature.

  >>> from jnas.spaces.spec import S1, supernet
  >>> spec = supernet(S1, cells=8, width=16, classes=10)
  >>> [128 * n // 10**9 for n in gradient_floor(spec, (32, 32), 4)]
  [230, 19]
  """
  without_pools = dataclasses.replace(spec, pool_norm=False)
  work = _sum(network_counts(without_pools, size).values())
  return 6 * work.macs, 6 * work.norm_elements * itemsize


def edge_flops(spec: Spec, size: tuple[int, int]) -> dict[str, np.ndarray]:
  """Multiply-adds of each operator on each edge, for each searched cell.

  They are summed over the layers that name the cell, for all operators of the
  space, whether an edge keeps them or not.

  Args:
    spec: the network.
    size: H and W of the images.

  Returns:
    float64 [E, O] by the cell's name; zero for what has no convolution.

  >>> from jnas.spaces.spec import S2, supernet
  >>> spec = supernet(S2, cells=3, width=4, classes=10, nodes=1)
  >>> edge_flops(spec, (8, 8))["normal"]
  array([[   0., 6656.],
         [   0., 6656.]])
  """
  return edge_costs(
    spec, size, lambda op, *where: table.get(op).counts(*where).macs
  )


def edge_costs(
  spec: Spec,
  size: tuple[int, int],
  cost: Callable[[str, int, tuple[int, int], int], float],
) -> dict[str, np.ndarray]:
  """What each operator costs on each edge, as `edge_flops` has it.

  Args:
    spec: the network.
    size: H and W of the images.
    cost: (operator, channels, (H, W) of what it reads, stride) -> its cost.
  """
  found = {name: np.zeros(cell.shape) for name, cell in spec.searched}
  for shapes in layer_shapes(spec, size):
    cell = spec.cell(shapes.layer.cell)
    if isinstance(cell, Cell):
      c, layer = shapes.channels // spec.partial, shapes.layer
      inside = {1: shapes.output[:2], 2: shapes.inputs[1][:2]}
      for e, (source, _) in enumerate(cell.edges):
        stride = 2 if layer.reduction and source < cell.inputs else 1
        found[layer.cell][e] += [
          cost(op, c, inside[stride], stride) for op in cell.ops
        ]
  return found


def _incoming(cell: Cell) -> list[list[int]]:
  """Of each node but the inputs: how many operators each edge into it keeps."""
  counts = {i: [] for i in range(cell.inputs, cell.nodes)}
  for (_, target), kept in zip(cell.edges, cell.kept, strict=True):
    counts[target].append(len(kept))
  return list(counts.values())


def architectures(cell: Cell) -> int:
  """The number of discrete cells where any set of operators may remain.

    prod_i (2^(operators kept on all edges into node i) - 1)

  Each node has at least one operator on one edge (GOLD-NAS, Bi et al. 2020,
  appendix A.1): zero where a node has none to keep.

  >>> from jnas.spaces.spec import S2, supernet
  >>> architectures(supernet(S2, cells=3, width=4, classes=2).cell("normal"))
  246517425
  """
  return math.prod(2 ** sum(counts) - 1 for counts in _incoming(cell))


def darts_architectures(cell: Cell) -> int:
  """The number of discrete cells where nodes keep two edges, one operator each.

  DARTS's rule (Liu et al. 2019, section 2.4).

  >>> from jnas.spaces.spec import S1, supernet
  >>> spec = supernet(S1, cells=3, width=4, classes=2)
  >>> darts_architectures(spec.cell("normal"))
  1037664180
  """
  return math.prod(
    sum(a * b for a, b in itertools.combinations(counts, 2))
    for counts in _incoming(cell)
  )
