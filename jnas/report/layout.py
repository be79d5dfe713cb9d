"""The places of a cell's nodes and edges, in a drawing of our own.

Plain arithmetic on points (1/72 inch), y downwards; nothing is drawn here.
Nodes stand in layers from left to right. An operator is a chip in front of the
node that adds it up, so that its label has a place of its own and can overlap
nothing; an edge that passes a layer gets a lane of its own there, so that it
crosses no node.
"""

from collections.abc import Sequence
import dataclasses
import re
import statistics
from typing import Any

from jnas import genotype as genotype_lib

CHIP_HEIGHT, CHIP_GAP, RADIUS = 17.0, 4.0, 11.0
PORT_WIDTH, LAYER_GAP = 40.0, 58.0
_LINK, _CARD_GAP, _LANE, _MARGIN = 9.0, 15.0, 9.0, 8.0


@dataclasses.dataclass(frozen=True)
class Box:
  """A rectangle with its label; x, y is its centre."""

  x: float
  y: float
  width: float
  height: float
  text: str
  kind: str  # "port" (input or output of the cell), "node" or an operator


@dataclasses.dataclass(frozen=True)
class Layout:
  """Where everything is: boxes, and edges as (kind, corner points)."""

  width: float
  height: float
  boxes: tuple[Box, ...]
  edges: tuple[tuple[str, tuple[tuple[float, float], ...]], ...]


def label(op: str) -> str:
  """Returns an operator's name as people write it.

  >>> label("sep_conv_3x3"), label("conv_7x1_1x7"), label("skip_connect")
  ('sep conv 3×3', 'conv 7×1 1×7', 'skip connect')
  """
  op = op.rpartition(":")[2]  # of an import path
  return re.sub(r"(\d)x(\d)", r"\1×\2", op).replace("_", " ")


def cells(g: genotype_lib.AnyGenotype) -> dict[str, tuple]:
  """Returns {title: arguments of `layout`} for each cell of a genotype.

  Layers of a stack whose cells are the same share one, named after them all.

  >>> list(cells(genotype_lib.ZOO["GDAS_F1"]))
  ['Normal cell', 'Reduction cell (fixed, as in GDAS)']
  >>> one, two = [[(op, 0), (op, 1)] for op in ("skip_connect", "none")]
  >>> list(cells(genotype_lib.StackGenotype([one] * 4 + [two], [2])))
  ['Layers 0, 2 (normal)', 'Layers 1, 3 (reduction)', 'Layer 4 (normal)']
  """
  if isinstance(g, genotype_lib.RecurrentGenotype):
    rows = [[pair] for pair in g.recurrent]
    return {"Recurrent cell": (rows, ("x, h",), "h′", g.concat)}
  if isinstance(g, genotype_lib.NasBench201Genotype):
    # What `none` leads to is what nothing leads to.
    rows = [[pair for pair in row if pair[0] != "none"] for row in g.nodes]
    return {"Cell": (rows, ("0",), None, ())}
  if isinstance(g, genotype_lib.SpaceGenotype):
    return {name: _graph(triples) for name, triples in g.edges}
  ports = (("c", "k−2"), ("c", "k−1")), ("c", "k")
  rows_of = genotype_lib.nodes
  if isinstance(g, genotype_lib.StackGenotype):
    names = [f"cell{i}" for i in range(len(g.cells))]
    normal_names = genotype_lib.normal_names(names)
    layers: dict[tuple, list[int]] = {}
    for i, pairs in enumerate(g.cells):
      kind = "normal" if names[i] in normal_names else "reduction"
      layers.setdefault((pairs, kind), []).append(i)
    return {
      f"{_layers(numbers)} ({kind})": (rows_of(pairs), *ports, g.concat)
      for (pairs, kind), numbers in layers.items()
    }
  normal = (rows_of(g.normal), *ports, g.normal_concat)
  if g.reduce is not None:
    reduction = (rows_of(g.reduce), *ports, g.reduce_concat)
    return {"Normal cell": normal, "Reduction cell": reduction}
  rows = [[("conv_1x3_3x1", 0)], [("conv_1x3_3x1", 1)]]
  rows += [[("max_pool_3x3", 0)], [("max_pool_3x3", 1)]]
  fixed = (rows, *ports, (2, 3, 4, 5))
  return {"Normal cell": normal, "Reduction cell (fixed, as in GDAS)": fixed}


def _graph(triples: Sequence[tuple[str, int, int]]) -> tuple:
  """Returns the arguments of `layout` for edges of any graph.

  Nodes that nothing leads to are inputs, with their numbers.

  >>> _graph([("relu", 0, 1), ("tanh", 1, 3), ("relu", 0, 3)])
  ([[('relu', 0)], [('tanh', 1), ('relu', 0)]], ('0',), None, ())
  """
  targets = sorted({target for *_, target in triples})
  inputs = sorted({source for _, source, _ in triples} - set(targets))
  at = {node: i for i, node in enumerate(inputs + targets)}
  rows = [
    [(op, at[source]) for op, source, to in triples if to == target]
    for target in targets
  ]
  return rows, tuple(map(str, inputs)), None, ()


def _layers(numbers: list[int]) -> str:
  """Returns the numbers of layers in words, with ranges.

  >>> _layers([0, 1, 2, 4, 6, 7]), _layers([3])
  ('Layers 0–2, 4, 6, 7', 'Layer 3')
  """
  runs: list[list[int]] = []
  for number in numbers:
    if runs and number == runs[-1][-1] + 1:
      runs[-1].append(number)
    else:
      runs.append([number])
  parts = []
  for run in runs:
    parts += [f"{run[0]}–{run[-1]}"] if len(run) > 2 else map(str, run)
  return f"Layer{'s' if len(numbers) > 1 else ''} {', '.join(parts)}"


def layout(
  rows: Sequence[Sequence[tuple[str, int]]],
  inputs: tuple[Any, ...],
  output: Any,
  concat: tuple[int, ...],
) -> Layout:
  """Returns the places of the boxes and edges of one cell.

  Args:
    rows: for each node its (operator, input) pairs.
    inputs: labels of the inputs; node i is number `len(inputs) + i`.
    output: label of the output, which joins the nodes in `concat`; None where
      the last node is the output, and nodes have the numbers of the text form.
    concat: numbers of the nodes that are joined.

  A label is text, or (text, subscript). Layers are longest paths (Sugiyama et
  al., 1981): order by barycentres, fewest crossings kept; then each layer is
  moved towards its neighbours by isotonic regression.
  """
  first, out = len(inputs), len(inputs) + len(rows)
  depth = [0] * first
  for row in rows:
    depth.append(1 + max((depth[source] for _, source in row), default=0))
  if output is None:
    depth[-1] = 1 + max(depth[:-1])  # the last node stands last, fed or not
  else:
    depth.append(1 + max(depth))
  # Vertices are numbers of nodes, or (edge, layer) for lanes.
  chains, lanes = [], {}
  edges = [
    (op, source, first + i, slot)
    for i, row in enumerate(rows)
    for slot, (op, source) in enumerate(row)
  ]
  edges += [("concat", source, out, 0) for source in sorted(concat)]
  layers: list[list[Any]] = [[] for _ in range(max(depth) + 1)]
  for vertex, layer in enumerate(depth):
    layers[layer].append(vertex)
  for number, (_, source, target, _) in enumerate(edges):
    lane = [(number, k) for k in range(depth[source] + 1, depth[target])]
    for key in lane:
      lanes[key] = number
      layers[key[1]].append(key)
    chains.append([source, *lane, target])
  links = [pair for c in chains for pair in zip(c, c[1:], strict=False)]
  layers = _ordered(layers, links)
  place = {v: i for layer in layers for i, v in enumerate(layer)}

  # Chips of a node stand in the order in which their edges arrive.
  offset, height = {}, {}
  for i, row in enumerate(rows):
    arriving = [n for n, edge in enumerate(edges) if edge[2] == first + i]
    arriving.sort(key=lambda n: place[chains[n][-2]])
    step = CHIP_HEIGHT + CHIP_GAP
    for slot, n in enumerate(arriving):
      offset[n] = (slot - (len(row) - 1) / 2) * step
    height[first + i] = max(step * len(row) - CHIP_GAP, 2 * RADIUS)
  ends = [*enumerate(inputs), *([] if output is None else [(out, output)])]
  for vertex, _ in ends:
    height[vertex] = 2 * RADIUS
  y = _heights(layers, chains, offset, height)

  chip = max([text_width(label(op)) for op, *_ in edges], default=0.0) + 14
  card = chip + _LINK + 2 * RADIUS
  widths = [PORT_WIDTH, *[card] * (len(layers) - 1)]
  if output is not None:
    widths[-1] = PORT_WIDTH
  left = [_MARGIN]
  for width in widths[:-1]:
    left.append(left[-1] + width + LAYER_GAP)
  top = min(y[v] - height.get(v, 0) / 2 for v in y) - _MARGIN
  bottom = max(y[v] + height.get(v, 0) / 2 for v in y) + _MARGIN

  boxes, paths = [], []
  for vertex, text in ends:
    x = left[depth[vertex]] + PORT_WIDTH / 2
    boxes.append(
      Box(x, y[vertex] - top, PORT_WIDTH, height[vertex], text, "port")
    )
  for i in range(len(rows)):
    x = left[depth[first + i]] + card - RADIUS
    size = 2 * RADIUS
    name = str(i if output is not None else first + i)
    boxes.append(Box(x, y[first + i] - top, size, size, name, "node"))
  for number, (op, source, target, _) in enumerate(edges):
    layer = depth[source]
    points = [(left[layer] + widths[layer], y[source] - top)]
    for key in chains[number][1:-1]:
      x = left[key[1]]
      points += [(x, y[key] - top), (x + widths[key[1]], y[key] - top)]
    at = y[target] - top + offset.get(number, 0.0)
    points.append((left[depth[target]], at))
    if op != "concat":
      x = left[depth[target]] + chip / 2
      boxes.append(Box(x, at, chip, CHIP_HEIGHT, label(op), op))
      paths.append(
        (
          op,
          (
            (x + chip / 2, at),
            (x + chip / 2 + _LINK + RADIUS, y[target] - top),
          ),
        )
      )
    paths.append((op, tuple(points)))
  width = left[-1] + widths[-1] + _MARGIN
  return Layout(width, bottom - top, tuple(boxes), tuple(paths))


def text_width(text: str, size: float = 8.0) -> float:
  """Returns at least the width of text of a size in the fonts of a page."""
  return 0.5875 * size * len(text)


def _crossings(
  layers: Sequence[Sequence[Any]], links: Sequence[Sequence[tuple[Any, Any]]]
) -> int:
  """Returns how many links cross between a layer and the next, in all."""
  at = {v: i for layer in layers for i, v in enumerate(layer)}
  count = 0
  for between in links:
    ends = [(at[u], at[v]) for u, v in between]
    for i, (a, b) in enumerate(ends):
      count += sum((a - c) * (b - d) < 0 for c, d in ends[:i])
  return count


def _ordered(
  layers: list[list[Any]], links: list[tuple[Any, Any]]
) -> list[list[Any]]:
  """Returns the layers, each in the order with the fewest crossings found."""
  layer_of = {v: k for k, layer in enumerate(layers) for v in layer}
  # All links lead from a layer to the next one.
  between: list[list[tuple[Any, Any]]] = [[] for _ in layers]
  before: dict[Any, list[Any]] = {v: [] for v in layer_of}
  after: dict[Any, list[Any]] = {v: [] for v in layer_of}
  for u, v in links:
    between[layer_of[u]].append((u, v))
    before[v].append(u)
    after[u].append(v)
  best = [list(layer) for layer in layers]
  fewest = _crossings(best, between)
  order = [list(layer) for layer in layers]
  for sweep in range(12):
    if not fewest:
      break
    forward = sweep % 2 == 0
    indices = range(1, len(order)) if forward else range(len(order) - 2, 0, -1)
    for k in indices:
      beside = order[k - 1 if forward else k + 1]
      place = {v: i for i, v in enumerate(beside)}
      near = before if forward else after
      mean = {
        v: statistics.fmean(place[u] for u in near[v]) if near[v] else 0.0
        for v in order[k]
      }
      order[k].sort(key=mean.__getitem__)
    # Barycentres stop in local optima that one exchange of neighbours leaves.
    for k, layer in enumerate(order[1:], 1):
      around, theirs = order[k - 1 : k + 2], between[k - 1 : k + 1]
      for i in range(len(layer) - 1):
        was = _crossings(around, theirs)
        layer[i], layer[i + 1] = layer[i + 1], layer[i]
        if _crossings(around, theirs) >= was:
          layer[i], layer[i + 1] = layer[i + 1], layer[i]
    if (count := _crossings(order, between)) < fewest:
      best, fewest = [list(layer) for layer in order], count
  return best


def _heights(
  layers: list[list[Any]],
  chains: list[list[Any]],
  offset: dict[int, float],
  height: dict[Any, float],
) -> dict[Any, float]:
  """Returns y of each vertex: close to its neighbours, nothing overlapping."""

  def apart(a, b):
    gap = _CARD_GAP if a in height and b in height else _CARD_GAP / 2
    sizes = height.get(a, 0.0) + height.get(b, 0.0)
    return max(sizes / 2 + gap, _LANE)

  y = {}
  for layer in layers:
    at = [0.0]
    for a, b in zip(layer, layer[1:], strict=False):
      at.append(at[-1] + apart(a, b))
    y.update({v: h - at[-1] / 2 for v, h in zip(layer, at, strict=True)})
  pulls: dict[Any, list[tuple[Any, float]]] = {v: [] for v in y}
  for number, chain in enumerate(chains):
    for a, b in zip(chain, chain[1:], strict=False):
      shift = offset.get(number, 0.0) if b == chain[-1] else 0.0
      pulls[a].append((b, shift))
      pulls[b].append((a, -shift))
  for sweep in range(24):
    for layer in layers if sweep % 2 else reversed(layers):
      wanted = [
        statistics.fmean(y[u] + s for u, s in pulls[v]) if pulls[v] else y[v]
        for v in layer
      ]
      least = [apart(a, b) for a, b in zip(layer, layer[1:], strict=False)]
      y.update(zip(layer, spread(wanted, least), strict=True))
  return y


def spread(wanted: list[float], least: list[float]) -> list[float]:
  """Returns increasing places, at least `least` apart, nearest to `wanted`.

  Least squares: isotonic regression by pooling adjacent violators.

  >>> spread([0.0, 0.0, 9.0], [2.0, 2.0])
  [-1.0, 1.0, 9.0]
  """
  shift = [0.0]
  for gap in least:
    shift.append(shift[-1] + gap)
  pools: list[list[float]] = []
  for value, moved in zip(wanted, shift, strict=True):
    pools.append([value - moved])
    while len(pools) > 1 and (
      statistics.fmean(pools[-2]) > statistics.fmean(pools[-1])
    ):
      last = pools.pop()
      pools[-1] += last
  flat = [statistics.fmean(pool) for pool in pools for _ in pool]
  return [value + moved for value, moved in zip(flat, shift, strict=True)]
