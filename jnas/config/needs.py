"""What a configuration will need, told before anything is built.

Everything is in closed form, from dotted name -> value: a depth of 10^9 costs
no more to refuse than one of 10. The figures are lower bounds, rough ones: of
what is computed, the convolutions are counted alone. What is refused here
could not have worked; what passes may still not fit.
"""

from collections.abc import Mapping
import math
from typing import Any

Fields = Mapping[str, Any]
Image = tuple[int, int, int]  # (H, W, C)

MOST_OPERATORS = 100_000  # over all edges and cells; DARTS has 896
_MOST_BYTES = 2**40  # on one device, whichever
_SIZES = {"digits": (8, 8, 1), "synthetic": (16, 16, 3)}
_SIZES |= dict.fromkeys(("cifar10", "cifar100"), (32, 32, 3))
_SMALLEST = (8, 8, 1)  # images of a data set that is not known yet

# Of each space: operators on an edge, convolutions from C to C channels in
# them, and their weights / C^2.
_SETS = {
  "s1": (8, 6, 6),
  "s1_7": (7, 6, 6),
  "s1_12": (12, 14, 46),
  "s2": (2, 2, 2),
  "s3": (3, 2, 2),
  "nas_bench_201": (5, 2, 10),
}


def problems(flat: Fields, method: Any) -> list[str]:
  """What no machine could build, of a configuration whose values are sound.

  Args:
    flat: the configuration.
    method: of its algorithm.
  """
  if flat["space.name"] == "rnn":
    return _recurrent_problems(flat)
  count = operators(flat, method)
  if count > MOST_OPERATORS:
    return [
      f"space: {_depth(flat, method)} cells of {_edges(flat):,} edges have "
      f"{count:,} operators, more than the {MOST_OPERATORS:,} that are ever "
      "built; lower space.cells or space.nodes"
    ]
  need = memory(flat, method)
  if need > _MOST_BYTES:
    return [
      f"space: one image needs at least {need / 2**30:,.0f} GiB on a device, "
      "more than any has; lower space.width, space.cells or data.crop_pad"
    ]
  return []


def _recurrent_problems(flat: Fields) -> list[str]:
  """The same of a recurrent cell, one node of which reads all before it."""
  nodes, width = flat["space.nodes"], flat["space.width"]
  edges = nodes * (nodes + 1) // 2
  if flat["task"] == "search" and 5 * edges > MOST_OPERATORS:
    return [
      f"space: {edges:,} edges have {5 * edges:,} operators, more than the "
      f"{MOST_OPERATORS:,} that are ever built; lower space.nodes"
    ]
  # Weights, gradient, average and best; hidden states of a window.
  weights = 4 * 2 * width**2 * (2 + nodes * (flat["task"] == "search"))
  need = 4 * (weights + width * flat["language.bptt"])
  if need > _MOST_BYTES:
    return [
      f"space: the cell needs at least {need / 2**30:,.0f} GiB on a device, "
      "more than any has; lower space.width, space.nodes or language.bptt"
    ]
  return []


def operators(flat: Fields, method: Any) -> int:
  """The number of operators of the network, over all edges and cells."""
  each = 1 if flat["task"] == "retrain" else _SETS[flat["space.name"]][0]
  return _depth(flat, method) * _edges(flat) * each


def parameters(flat: Fields, method: Any) -> int:
  """At least so many parameters."""
  *_, square = _SETS[flat["space.name"]]
  c = flat["space.width"]
  inside = c // (flat["space.partial"] * flat["space.bottleneck"])
  if flat["task"] == "retrain":
    square = 0  # all of its operators may be skip connections
  # Before each cell, two convolutions bring what the cells before it give to
  # its channels; that of NAS-Bench-201 has none.
  before = 0 if flat["space.name"] == "nas_bench_201" else 2
  a_cell = _computed_edges(flat) * square * inside**2 + before * c**2
  n0, n1, n2 = _levels(flat, method)
  return a_cell * (n0 + 4 * n1 + 16 * n2)


def memory(
  flat: Fields, method: Any, image: Image | None = None, images: int = 1
) -> int:
  """At least so many bytes on a device that trains on `images` at once.

  Weights, their gradient and its momentum, and what the backward pass keeps:
  what each convolution gives or, where cells are computed again or a step has
  one path alone, what each node does.

  Args:
    flat: the configuration.
    method: of its algorithm.
    image: shape of an image; of an unknown data set, a small one.
    images: of a batch, on this device.
  """
  h, w, channels = image or _SIZES.get(flat["data.name"], _SMALLEST)
  c = flat["space.width"]
  inside = c / (flat["space.partial"] * flat["space.bottleneck"])
  paths = flat["task"] == "retrain" or method.samples_paths
  nodes = 1 if flat["space.name"] == "nas_bench_201" else flat["space.nodes"]
  kept = 1 * c if flat["task"] == "retrain" else nodes * c
  if not (paths or flat["train.remat"]):
    kept += _computed_edges(flat) * _SETS[flat["space.name"]][1] * inside
  n0, n1, n2 = _levels(flat, method)
  features = h * w * (c + kept * (n0 + n1 / 2 + n2 / 4))
  size = 2 if flat["train.dtype"] == "bfloat16" else 4
  pad = 2 * flat["data.crop_pad"]
  padded = (h + pad) * (w + pad) * channels if pad else 0
  return math.ceil(
    3 * 4 * parameters(flat, method) + images * (size * features + padded)
  )


def _depth(flat: Fields, method: Any) -> int:
  if flat["task"] == "search":
    cells = max(method.depths(flat))
  else:
    cells = flat["space.cells"]
  three = flat["space.name"] == "nas_bench_201" and flat["task"] != "retrain"
  return cells * (3 if three else 1)


def _edges(flat: Fields) -> int:
  """Edges of a cell; of a derived one, whose nodes are not known, two."""
  nodes = flat["space.nodes"]
  if flat["task"] == "retrain":
    return 2
  if flat["space.name"] == "nas_bench_201":
    return 6
  return (
    2 * nodes if flat["space.edges"] == "fixed" else nodes * (nodes + 3) // 2
  )


def _computed_edges(flat: Fields) -> int:
  """Edges with operators of their own."""
  if flat["space.engines"] != "all" or flat["space.fixed_reduction"]:
    return 0  # of some cells; of which does not matter here
  return flat["space.nodes"] if flat["space.sharing"] else _edges(flat)


def _levels(flat: Fields, method: Any) -> tuple[int, int, int]:
  """Cells at C, 2 C and 4 C channels."""
  cells = _depth(flat, method)
  first, second = cells // 3, 2 * cells // 3
  return first, second - first, cells - second
