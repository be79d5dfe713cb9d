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
_TRAINED = ("retrain", "segment")  # networks of genotypes
_SMALLEST = (8, 8, 1)  # images of a data set that is not known yet

def problems(flat: Fields, method: Any, space: Any) -> list[str]:
  """What no machine could build, of a configuration whose values are sound.

  Args:
    flat: the configuration.
    method: of its algorithm.
    space: that it names.
  """
  if space.data == "text":
    return _recurrent_problems(flat)
  count, layout = operators(flat, method, space), _layout(flat, method, space)
  if count > MOST_OPERATORS:
    return [
      f"space: {layout.cells} cells of {layout.edges:,} edges have "
      f"{count:,} operators, more than the {MOST_OPERATORS:,} that are ever "
      "built; lower space.cells or space.nodes"
    ]
  need = memory(flat, method, space)
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


def operators(flat: Fields, method: Any, space: Any) -> int:
  """The number of operators of the network, over all edges and cells."""
  layout = _layout(flat, method, space)
  each = 1 if flat["task"] in _TRAINED else len(space.operators)
  return layout.cells * layout.edges * each


def parameters(flat: Fields, method: Any, space: Any) -> int:
  """At least so many parameters."""
  square = space.edge.weights
  c = flat["space.width"]
  inside = c // (flat["space.partial"] * flat["space.bottleneck"])
  if flat["task"] in _TRAINED:
    square = 0  # all of its operators may be skip connections
  layout = _layout(flat, method, space)
  edges = _computed_edges(flat, layout)
  a_cell = edges * square * inside**2 + layout.before * c**2
  n0, n1, n2 = _levels(layout.cells)
  return a_cell * (n0 + 4 * n1 + 16 * n2)


def memory(
  flat: Fields,
  method: Any,
  space: Any,
  image: Image | None = None,
  images: int = 1,
) -> int:
  """At least so many bytes on a device that trains on `images` at once.

  Weights, their gradient and its momentum, and what the backward pass keeps:
  what each convolution gives or, where cells are computed again or a step has
  one path alone, what each node does.

  Args:
    flat: the configuration.
    method: of its algorithm.
    space: that it names.
    image: shape of an image; of an unknown data set, a small one.
    images: of a batch, on this device.
  """
  sizes = _SIZES | {"imagenet": (flat["data.size"],) * 2 + (3,)}
  image = image or sizes.get(flat["data.name"], _SMALLEST)
  h, w, channels = image
  c = flat["space.width"]
  inside = c / (flat["space.partial"] * flat["space.bottleneck"])
  paths = flat["task"] in _TRAINED or method.samples_paths
  layout = _layout(flat, method, space)
  kept = layout.nodes * c
  if not (paths or flat["train.remat"]):
    kept += _computed_edges(flat, layout) * space.edge.convolutions * inside
  n0, n1, n2 = _levels(layout.cells)
  stem = h * w * c
  if flat["space.stem"] == "imagenet":  # C / 2, C, C channels; halved each time
    stem, h, w = stem * (1 / 8 + 1 / 16 + 1 / 64), h / 8, w / 8
  features = stem + h * w * kept * (n0 + n1 / 2 + n2 / 4)
  size = 2 if flat["train.dtype"] == "bfloat16" else 4
  padded = 0
  if pad := 2 * flat["data.crop_pad"]:
    padded = (image[0] + pad) * (image[1] + pad) * channels
  weights = 3 * 4 * parameters(flat, method, space)
  return math.ceil(weights + images * (size * features + padded))


def _layout(flat: Fields, method: Any, space: Any) -> Any:
  """How much there is; of a derived cell, whose nodes are not known, little."""
  if flat["task"] in _TRAINED:
    found = space.layout(flat, flat["space.cells"])
    least = found._replace(cells=flat["space.cells"])
    return least._replace(edges=min(2, found.edges), nodes=min(1, found.nodes))
  if flat["task"] == "search":
    return space.layout(flat, max(method.depths(flat)))
  return space.layout(flat, flat["space.cells"])


def _computed_edges(flat: Fields, layout: Any) -> int:
  """Edges with operators of their own."""
  if flat["space.engines"] != "all" or flat["space.fixed_reduction"]:
    return 0  # of some cells; of which does not matter here
  return layout.nodes if flat["space.sharing"] else layout.edges


def _levels(cells: int) -> tuple[int, int, int]:
  """Cells at C, 2 C and 4 C channels."""
  first, second = cells // 3, 2 * cells // 3
  return first, second - first, cells - second
