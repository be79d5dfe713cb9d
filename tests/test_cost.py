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

# Weights of four edges; of the masked ones nothing may be seen. The third edge
# keeps one operator, the last none.
WEIGHTS = np.array(
  [[0.9, 0.2, 0.5], [0.05, 0.6, 0.3], [0.7, 0.4, 0.1], [0.3, 0.2, 0.8]]
)
KEPT = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]])
FLOPS = np.array(
  [[0.0, 7.0, 3.0], [2.0, 9.0, 5.0], [4.0, 6.0, 1.0], [8.0, 2.0, 2.0]]
)
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


def plain(weights, flops, kept):
  """Equation 5, edge by edge."""
  total = 0.0
  for w, f, k in zip(weights, flops, kept, strict=True):
    w, f = w[k > 0], f[k > 0]
    if len(w):
      total += (np.log(1 + w / w.mean()) * f).sum()
  return total


@pytest.mark.parametrize("kept", [None, KEPT], ids=["all", "some"])
def test_expected_flops_are_equation_5(kept, x64):
  every = np.ones_like(KEPT) if kept is None else kept
  got = cost.expected_flops(jnp.asarray(WEIGHTS), FLOPS, kept)
  assert got.shape == () and got.dtype == jnp.float64
  np.testing.assert_allclose(got, plain(WEIGHTS, FLOPS, every), rtol=1e-14)
  got = cost.uniform_flops(jnp.asarray(WEIGHTS), kept, 4.0)
  expected = plain(WEIGHTS, np.full((4, 3), 4.0), every)
  np.testing.assert_allclose(got, expected, rtol=1e-14)
  one = cost.uniform_flops(jnp.asarray(WEIGHTS), kept)
  np.testing.assert_allclose(4 * one, expected, rtol=1e-14)


@pytest.mark.parametrize("kept", [None, KEPT], ids=["all", "some"])
def test_gradient_of_expected_flops(kept, x64):
  every = np.ones_like(KEPT) if kept is None else kept
  weights = jnp.asarray(WEIGHTS)
  got = jax.jit(jax.grad(cost.expected_flops))(weights, FLOPS, kept)
  differences = np.zeros_like(WEIGHTS)
  for index in np.ndindex(WEIGHTS.shape):
    step = np.zeros_like(WEIGHTS)
    step[index] = 1e-6
    above, below = (
      plain(WEIGHTS + sign * step, FLOPS, every) for sign in (1, -1)
    )
    differences[index] = (above - below) / 2e-6
  np.testing.assert_allclose(got, differences, atol=2e-8)
  assert abs(differences).max() > 1
  # The formula of the docstring.
  formula = np.zeros_like(WEIGHTS)
  for e, k in enumerate(every > 0):
    if k.any():
      mean = WEIGHTS[e, k].mean()
      r, f = WEIGHTS[e, k] / mean, FLOPS[e, k]
      formula[e, k] = (f / (1 + r) - (f * r / (1 + r)).mean()) / mean
  np.testing.assert_allclose(got, formula, atol=1e-13)


def test_gradient_where_the_mean_is_a_constant(x64):
  loss = functools.partial(cost.expected_flops, through_mean=False)
  value, got = jax.value_and_grad(loss)(jnp.asarray(WEIGHTS), FLOPS, KEPT)
  np.testing.assert_allclose(value, plain(WEIGHTS, FLOPS, KEPT), rtol=1e-14)
  count = np.maximum(KEPT.sum(-1, keepdims=True), 1)
  mean = (WEIGHTS * KEPT).sum(-1, keepdims=True) / count
  np.testing.assert_allclose(got, KEPT * FLOPS / (mean + WEIGHTS), rtol=1e-13)
  assert (np.asarray(got)[(KEPT * FLOPS) > 0] > 0).all()


@pytest.mark.parametrize("beyond", [0.0, 1e30, np.inf, np.nan])
def test_what_is_not_kept_has_no_part(beyond, x64):
  weights = jnp.asarray(np.where(KEPT > 0, WEIGHTS, beyond))
  flops = np.where(KEPT > 0, FLOPS, beyond)
  got, gradient = jax.value_and_grad(cost.expected_flops)(weights, flops, KEPT)
  np.testing.assert_allclose(got, plain(WEIGHTS, FLOPS, KEPT), rtol=1e-14)
  assert np.isfinite(gradient).all()
  np.testing.assert_array_equal(np.asarray(gradient)[KEPT == 0], 0)
  assert abs(gradient).max() > 1


@pytest.mark.parametrize("through_mean", [True, False])
def test_weights_of_zero_have_finite_gradients(through_mean):
  loss = functools.partial(cost.expected_flops, through_mean=through_mean)
  value, gradient = jax.value_and_grad(loss)(jnp.zeros((4, 3)), FLOPS, KEPT)
  assert value == 0 and value.dtype == jnp.float32
  assert np.isfinite(gradient).all()
  tiny = jnp.array([[1e-30, 2e-30]])
  value = loss(tiny, np.ones((1, 2)))
  np.testing.assert_allclose(value, np.log(5 / 3) + np.log(7 / 3), rtol=1e-6)


@pytest.mark.parametrize("others", [(0.5,), (0.1, 0.9), (0.01, 0.4, 0.7)])
def test_the_term_of_one_operator_grows_ever_slower(others, x64):
  """Claims (i) and (iii) of the paper, of an operator's own term."""
  flops = np.zeros((1, len(others) + 1))
  flops[0, 0] = 5.0

  def own(w):
    weights = jnp.concatenate([w[None], jnp.asarray(others)])
    return cost.expected_flops(weights[None], flops)

  w = jnp.linspace(0.01, 1.0, 40)
  slope = jax.vmap(jax.grad(own))(w)
  assert (slope > 0).all()
  assert (jnp.diff(slope) < 0).all()
  # The mean leaves 1 - r / n of the gradient of the logarithm alone.
  n = len(others) + 1
  mean = (w + sum(others)) / n
  np.testing.assert_allclose(
    slope, 5 / (mean + w) * (1 - w / mean / n), rtol=1e-12
  )


def test_the_sum_over_an_edge_does_not_grow_with_every_weight(x64):
  weights = jnp.asarray(WEIGHTS)
  gradient = jax.grad(cost.expected_flops)(weights, FLOPS)
  # Scaling an edge's weights changes nothing.
  scaled = weights * jnp.array([[0.1], [1.0], [3.0], [0.7]])
  np.testing.assert_allclose(
    cost.expected_flops(scaled, FLOPS),
    cost.expected_flops(weights, FLOPS),
    rtol=1e-14,
  )
  np.testing.assert_allclose((gradient * weights).sum(-1), 0, atol=1e-13)
  assert (gradient.min(-1) < -0.1).all() and (gradient.max(-1) > 0.1).all()
  # A convolution beside an identity: it falls, the identity rises.
  free = jax.grad(cost.expected_flops)(weights[:, :2], np.array([[0, 5.0]] * 4))
  assert (free[:, 0] < 0).all() and (free[:, 1] > 0).all()
  # Two that cost the same: the weaker falls, the stronger rises; at equal
  # weights neither does.
  same = jax.grad(cost.uniform_flops)(jnp.array([[0.3, 0.7], [0.4, 0.4]]))
  assert same[0, 0] > 0.1 and same[0, 1] < -0.1
  np.testing.assert_allclose(same[1], 0, atol=1e-15)


def test_the_last_operator_of_an_edge_has_no_gradient(x64):
  def loss(w, **options):
    flops, kept = np.array([[0.0, 9.0]]), np.array([[0, 1]])
    return cost.expected_flops(w, flops, kept, **options)

  for w in (0.01, 0.4, 1.0):
    weights = jnp.array([[0.5, w]])
    np.testing.assert_allclose(loss(weights), 9 * np.log(2), rtol=1e-14)
    np.testing.assert_allclose(jax.grad(loss)(weights), 0, atol=1e-12)
    fixed = jax.grad(loss)(weights, through_mean=False)
    np.testing.assert_allclose(fixed, [[0, 9 / (2 * w)]], rtol=1e-14)


def test_unequal_shapes_are_told():
  with pytest.raises(ValueError, match=r"flops .*\(4, 3\).*\(3, 4\)"):
    cost.expected_flops(jnp.asarray(WEIGHTS), FLOPS.T)
  with pytest.raises(ValueError, match=r"kept .*\(4, 3\).*\(4,\)"):
    cost.expected_flops(jnp.asarray(WEIGHTS), FLOPS, KEPT[:, 0])


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
