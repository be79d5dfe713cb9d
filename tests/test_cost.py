"""Costs against published numbers, parameters' shapes, and numpy."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas.genotype import ZOO, NasBench201Genotype
from jnas.ops import table
from jnas.ops.table import OpCounts
from jnas.spaces import cnn, cost, discrete
from jnas.spaces import spec as spec_lib
from jnas.spaces.spec import S1, S2, Cell

CONVOLUTIONAL = tuple(op for op in table.OPERATORS if "conv" in op)
CONVOLUTIONAL += ("skip_connect",)
HALVED = [(9, 12), (5, 6), (3, 3)]  # what cells see, of an odd size
STEM = [(36, 48), (18, 24), (9, 12)]  # of ImageNet, of images eight times that


@pytest.mark.parametrize(
  "op,stride,expected",
  [
    # C = 6, H = 5, W = 4: a 1 x 1 convolution costs 36 * 20 = 720.
    ("none", 1, 0),
    ("max_pool_3x3", 2, 0),
    ("avg_pool_3x3", 1, 0),
    ("skip_connect", 1, 0),
    ("skip_connect", 2, 720),
    ("sep_conv_3x3", 1, 2 * (720 + 9 * 120)),
    ("sep_conv_7x7", 2, 2 * (720 + 49 * 120)),
    ("dil_conv_5x5", 2, 720 + 25 * 120),
    ("conv_7x1_1x7", 1, 2 * 7 * 720),
    ("conv_7x1_1x7", 2, 3 * 7 * 720),  # the first at 10 x 4, the other 5 x 4
    ("nor_conv_3x3", 2, 9 * 720),
  ],
)
def test_multiply_adds_of_operators(op, stride, expected):
  assert cost.operator_flops(op, 6, 5, 4, stride) == expected


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("op", CONVOLUTIONAL)
def test_each_weight_of_an_operator_is_used_once_a_pixel(op, stride):
  learnt, _ = table.arrays(op, 6, stride, affine=True, pool_norm=True)
  expected = sum(
    math.prod(own.shape) * 20 * (stride if name == "row" else 1)
    for name, own in learnt.items()
    if len(own.shape) > 1
  )
  assert cost.operator_flops(op, 6, 5, 4, stride) == expected
  # Odd sizes are rounded up: nothing but the first of two factors sees it.
  if table.get(op).form != "factorized":
    size = (5, 4) if stride == 1 else (9, 7)
    assert table.get(op).counts(6, size, stride).macs == expected


def test_the_printed_count_has_one_depthwise_convolution():
  c, h, w = 36, 32, 16
  for op, k in (("sep_conv_3x3", 3), ("sep_conv_5x5", 5)):
    printed = cost.operator_flops(op, c, h, w, printed=True)
    assert printed == 2 * c * c * h * w + k * k * c * h * w
    assert cost.operator_flops(op, c, h, w) - printed == k * k * c * h * w
  for op in {*CONVOLUTIONAL, *S1} - {f"sep_conv_{k}x{k}" for k in (3, 5, 7)}:
    printed = cost.operator_flops(op, c, h, w, 2, printed=True)
    assert printed == cost.operator_flops(op, c, h, w, 2)


def test_an_operator_that_is_not_known():
  with pytest.raises(ValueError, match="none.*dil_conv_3x3.*'conv_9x9'"):
    cost.operator_flops("conv_9x9", 4, 8, 8)


@pytest.mark.parametrize(
  "name,products,with_elements",
  [
    ("DARTS_V2", 529_911_552, 543.99),
    ("PDARTS", 542_819_328, 557.12),  # published: 557 M
  ],
)
def test_published_networks_on_imagenet(name, products, with_elements):
  spec = discrete.derived(
    ZOO[name], cells=14, width=48, classes=1000, imagenet=True
  )
  size = 224, 224
  stack = cost.layer_shapes(spec, size)
  # Three convolutions of stride two; the cells read the last two.
  assert stack[0].inputs == ((56, 56, 48), (28, 28, 48))
  assert stack[-1].output == (7, 7, 768)
  a, b, c = 24 * 112**2, 48 * 56**2, 48 * 28**2
  stem = OpCounts(9 * (3 * a + 24 * b + 48 * c), a + b + c, a + b)
  assert cost.network_counts(spec, size)["stem"] == stem
  assert cost.network_flops(spec, size) == products
  found = cost.network_flops(spec, size, elementwise=True)
  assert round(found / 1e6, 2) == with_elements


def test_the_count_of_nas_bench_201():
  nodes = [
    [("avg_pool_3x3", 0)],
    [("nor_conv_1x1", 0), ("skip_connect", 1)],
    [("nor_conv_1x1", 0), ("skip_connect", 1), ("skip_connect", 2)],
  ]
  genotype = NasBench201Genotype(nodes)
  spec = discrete.derived(genotype, cells=5, width=16, classes=10)
  # Its API adds the classifier's bias.
  assert cost.network_flops(spec, (32, 32)) + 10 == 15_647_370


def specs():
  """Networks of all forms, by a name."""
  varied = spec_lib.supernet(S1, cells=3, width=8, classes=7, nodes=2)
  cell = varied.cell("reduce")
  kept = (("sep_conv_3x3",), ("max_pool_3x3", "skip_connect"), S1[1:], (), ())
  cell = dataclasses.replace(cell, kept=kept)
  cells = varied.cells[0], ("reduce", cell)
  options = dict(cells=3, width=8, classes=7)
  named = {"varied": dataclasses.replace(varied, cells=cells)}
  named["partial"] = spec_lib.supernet(S1, nodes=2, partial=4, **options)
  named["imagenet"] = spec_lib.supernet(
    S1, nodes=2, imagenet=True, **options
  )
  for name, bottleneck in (("shared features", 1), ("bottleneck", 4)):
    named[name] = spec_lib.supernet(
      S1, nodes=3, sharing=True, bottleneck=bottleneck, engines="half",
      **options | {"cells": 6},
    )
  named["stages"] = spec_lib.nas_bench_201(cells=1, width=8, classes=7)
  for name in ("DARTS_V2", "AmoebaNet", "GDAS_F1"):
    named[name] = discrete.derived(ZOO[name], auxiliary=True, **options)
  return named


def image(spec):
  """The size of images of which cells see `HALVED`."""
  return (72, 96) if spec.imagenet else HALVED[0]


def by_shapes(spec):
  """Products and normalised elements: each weight's size times its pixels."""
  init = functools.partial(cnn.Network(spec).init, train=False)
  x = jnp.zeros((1, *image(spec), 2))
  variables = jax.eval_shape(init, jax.random.key(0), x)
  found = {"params": 0, "batch_stats": 0}
  reached = [i for i, layer in enumerate(spec.layers) if layer.reduction]
  for kind, tree in variables.items():
    for path, leaf in jax.tree.leaves_with_path(tree):
      names = [key.key for key in path]
      layer, name = names[0], names[-1]
      last = name.split("_")[-1].rstrip("12")
      if layer == "auxiliary" or last in ("scale", "bias", "shift", "var"):
        continue
      if layer == "classifier":
        pixels = 1
      elif layer == "head_norm":
        pixels = math.prod(HALVED[2])
      elif layer.startswith("stem"):
        i = int(layer.removesuffix("_norm").removeprefix("stem") or 0)
        pixels = math.prod(STEM[i] if spec.imagenet else HALVED[0])
      else:
        i = int(layer.removeprefix("cell"))
        before = HALVED[sum(r < i for r in reached)]
        after = HALVED[sum(r <= i for r in reached)]
        if names[1] in ("input0", "input1"):
          pixels = math.prod(before)
        elif names[1] == "narrow":  # a row each for the inputs, for the nodes
          pixels = 2 * math.prod(before) + (len(leaf) - 2) * math.prod(after)
          pixels /= len(leaf)
        elif name.endswith("row") and i in reached:
          pixels = before[0] * after[1]
        else:
          pixels = math.prod(after)
      found[kind] += leaf.size * pixels
  return found["params"], found["batch_stats"]


@pytest.mark.parametrize("name", SPECS := specs())
def test_each_weight_of_a_network_is_used_once_a_pixel(name):
  spec = SPECS[name]
  products, normalised = by_shapes(spec)
  assert products > 0 and normalised > 0
  assert cost.network_flops(spec, image(spec), 2) == products
  places = cost.layer_shapes(spec, image(spec))
  rectified = sum(
    cost.layer_counts(spec, place).relu_elements for place in places
  )
  if spec.head_norm:
    rectified += math.prod(places[-1].output)
  if spec.imagenet:
    rectified += sum(map(math.prod, STEM[:2])) * 8 - math.prod(STEM[0]) * 4
  found = cost.network_flops(spec, image(spec), 2, elementwise=True)
  assert found == products + 2 * normalised + rectified


def test_elements_that_go_through_a_relu():
  spec = discrete.derived(ZOO["GDAS_F1"], cells=3, width=8, classes=7)
  _, place, _ = cost.layer_shapes(spec, (8, 8))
  assert place.inputs == ((8, 8, 24), (8, 8, 32))
  # Both inputs, then each before its convolutions and between them.
  found = cost.layer_counts(spec, place).relu_elements
  assert found == 64 * (24 + 32) + 2 * 16 * (64 + 16)
  spec = spec_lib.nas_bench_201(cells=1, width=8, classes=7)
  plain, residual, *_ = cost.layer_shapes(spec, (8, 8))
  assert cost.layer_counts(spec, residual).relu_elements == 64 * 8 + 16 * 16
  # Two convolutions on each of six edges; there is none before the cell.
  assert cost.layer_counts(spec, plain).relu_elements == 6 * 2 * 64 * 8


@pytest.mark.parametrize(
  "spec",
  [
    spec_lib.supernet(S1, cells=6, width=8, classes=7),
    spec_lib.supernet(S1, cells=4, width=8, classes=7, partial=4),
    spec_lib.supernet(S2, cells=4, width=8, classes=7, shared=False),
    spec_lib.supernet(S2, cells=6, width=8, classes=7, fixed_reduction=True),
    spec_lib.nas_bench_201(cells=2, width=8, classes=7),
  ],
  ids=["S1", "partial", "own", "fixed", "stages"],
)
def test_an_edge_costs_what_the_network_saves_without_it(spec):
  flops = cost.edge_flops(spec, (9, 12))
  assert list(flops) == [name for name, _ in spec.searched]
  whole = cost.network_flops(spec, (9, 12))
  for i, (name, cell) in enumerate(spec.cells):
    if name not in flops:
      continue
    assert flops[name].shape == cell.shape
    assert flops[name].dtype == np.float64
    for e, o in np.ndindex(cell.shape):
      kept = list(cell.kept)
      kept[e] = tuple(op for op in kept[e] if op != cell.ops[o])
      cells = list(spec.cells)
      cells[i] = name, dataclasses.replace(cell, kept=tuple(kept))
      less = dataclasses.replace(spec, cells=tuple(cells))
      saved = whole - cost.network_flops(less, (9, 12))
      assert flops[name][e, o] == saved


def test_the_space_of_gold_nas():
  spec = spec_lib.supernet(S2, cells=14, width=36, classes=10, shared=False)
  counts = [cost.architectures(cell) for _, cell in spec.searched]
  assert counts == [15 * 63 * 255 * 1023] * 14 == [246_517_425] * 14
  assert f"{math.prod(counts):.1e}" == "3.1e+117"
  assert f"{counts[0] ** 20:.1e}" == "6.9e+167"


def test_architectures_are_those_of_what_is_kept():
  edges = ((0, 2), (1, 2), (0, 3), (2, 3))
  kept = [S2, S2[:1], (), S2[1:]]

  def count(kept):
    return cost.architectures(Cell(S2, edges, tuple(kept), (2, 3)))

  assert count(kept) == 7 * 1
  assert count([(), (), S2, S2]) == 0
  # `none` is no operator that may be kept.
  spec = spec_lib.nas_bench_201(cells=1, width=4, classes=2)
  assert cost.architectures(spec.cell("cell")) == 15 * 255 * 4095


def test_the_cells_of_darts():
  cell = spec_lib.supernet(S1, cells=3, width=4, classes=2).cell("normal")
  assert cost.darts_architectures(cell) == 1 * 3 * 6 * 10 * 7**8
  # With unequal edges: node 2 one of 2 * 1 cells, node 3 two of its three.
  kept = (S2, S2[:1], S2, S2[1:], S2)
  edges = spec_lib.darts_edges(2)
  assert cost.darts_architectures(Cell(S2, edges, kept, (2, 3))) == 2 * 8
