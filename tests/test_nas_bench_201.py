"""NAS-Bench-201: the counts of its code, its cell and block written out."""

import functools

import jax
import jax.numpy as jnp
from made_up_cells import drawn as made_up
from made_up_cells import normal
import numpy as np
import plain_cells
import pytest

from jnas import config as config_lib
from jnas import genotype as genotype_lib
from jnas.algorithms import base
from jnas.algorithms.darts import darts
from jnas.data import benchmark
from jnas.ops import plain
from jnas.runs import evaluation
from jnas.spaces import arch as arch_lib
from jnas.spaces import cnn, discrete
from jnas.spaces import spec as spec_lib
from jnas.spaces.blocks import Residual
from jnas.spaces.cells import SearchCell
from jnas.spaces.norm import BatchNorm

FULL = dict(cells=5, width=16, classes=10)
# Architecture 0 of the benchmark.
FIRST = (
  "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+"
  "|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
)


def shapes(spec, size=32):
  init = functools.partial(cnn.Network(spec).init, train=False)
  x = jnp.zeros((1, size, size, 3))
  return jax.eval_shape(init, jax.random.key(0), x)["params"]


def size(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_the_supernet_has_the_published_count():
  spec = spec_lib.nas_bench_201(**FULL)
  params = shapes(spec)
  assert cnn.count(params) == size(params) == 1_692_826
  # An edge has convolutions of C^2 and 9 C^2 numbers with a bias each; a
  # normalisation of the search has none.
  for i, c in ((0, 16), (4, 16), (6, 32), (16, 64)):
    assert size(params[f"cell{i}"]) == 6 * (10 * c * c + 2 * c)
  assert [layer.reduction for layer in spec.layers] == [
    i in (5, 11) for i in range(17)
  ]


def test_alpha_is_five_operators_on_each_of_six_edges():
  spec = spec_lib.nas_bench_201(**FULL)
  arch = arch_lib.init(jax.random.key(0), spec, 1e-3)
  assert {name: a.shape for name, a in arch.items()} == {"cell": (6, 5)}
  assert spec.cell("cell").ops == (
    "none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"
  )
  assert arch_lib.mask(spec.cell("cell")).all()


def test_the_first_architecture_has_the_published_count():
  spec = discrete.derived(genotype_lib.parse(FIRST), **FULL)
  params = shapes(spec)
  # The published number has the stem, the blocks, the last normalisation and
  # the classifier in it, with every scale and shift.
  assert cnn.count(params) == size(params) == 129_306
  expected = {
    "stem": 432, "stem_norm": 32, "head_norm": 128, "classifier": 650
  }
  for i, c in enumerate([16] * 5 + [32] * 6 + [64] * 6):
    # Two 1 x 1 convolutions; where the width doubles, two 3 x 3 ones and the
    # 1 x 1 beside them. All but the last with a scale and a shift.
    cell, block = 2 * (c * c + 2 * c), 9 * c * c * 3 // 2 + c * c // 2 + 4 * c
    expected[f"cell{i}"] = block if i in (5, 11) else cell
  assert {name: size(part) for name, part in params.items()} == expected


def test_the_genotype_is_the_strongest_operator_of_each_edge():
  spec = spec_lib.nas_bench_201(cells=1, width=4, classes=2)
  weights = np.zeros((6, 5), np.float32)
  weights[0] = [0.1, 0.3, 0.3, 0.2, 0.1]  # a tie: the lower operator
  weights[1] = [0.5, 0.1, 0.2, 0.1, 0.1]  # `none` is an operator like others
  weights[2] = [0.1, 0.1, 0.4, 0.4, 0.0]
  weights[3] = [0.0, 0.1, 0.2, 0.3, 0.4]
  weights[4] = [0.1, 0.1, 0.1, 0.6, 0.1]
  weights[5] = [0.2, 0.2, 0.2, 0.2, 0.2]  # `none` in a tie is the lowest
  expected = (
    "|skip_connect~0|+|none~0|nor_conv_1x1~1|+"
    "|avg_pool_3x3~0|nor_conv_3x3~1|none~2|"
  )
  genotype = base.genotype_of(spec, {"cell": weights})
  assert genotype_lib.format_text(genotype) == expected
  assert genotype_lib.parse(expected) == genotype_lib.validate(genotype)
  # And so it is by the softmax of logits.
  algorithm = darts(spec)
  logits = {"cell": jnp.log(weights + 1e-9)}
  assert algorithm.derive(
    jax.device_get(algorithm.mixture(logits))
  ) == genotype
  cell = discrete.derived(genotype, cells=1, width=4, classes=2).cell("cell")
  assert cell.edges == ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
  assert cell.kept == (
    ("skip_connect",), (), ("nor_conv_1x1",),
    ("avg_pool_3x3",), ("nor_conv_3x3",), (),
  )


# Values.


def close(x, y):
  assert x.dtype == y.dtype == jnp.float64
  np.testing.assert_allclose(x, y, rtol=0, atol=1e-11 * abs(y).max())


def moments(tree):
  """Moments from a generator; variances above zero."""
  rng = np.random.default_rng(8)

  def draw(path, leaf):
    value = rng.normal(size=leaf.shape)
    positive = "var" in path[-1].key
    return jnp.asarray(np.abs(value) + 0.5 if positive else value)

  return jax.tree_util.tree_map_with_path(draw, tree)


def operator(op, x, params, stats, row):
  """One operator; `stats` None in training. `row` is its place among edges."""
  arrays = {op: params.get(op, {}) | (stats or {}).get(op, {})}
  return plain_cells.operator(
    op, x, arrays, row, 1, False, train=stats is None
  )


def plain_cell(cell, params, stats, x, weights):
  nodes = [x]
  for target in (1, 2, 3):
    total = jnp.zeros_like(x)
    for source in range(target):
      e = cell.edges.index((source, target))
      for op in cell.kept[e]:
        row = plain_cells.place(cell, op, e)
        y = operator(op, nodes[source], params, stats, row)
        o = cell.ops.index(op)
        total = total + (y if weights is None else weights[e, o] * y)
    nodes.append(total)
  return nodes[3]


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("searched", [True, False], ids=["mixture", "derived"])
def test_a_cell_is_the_sum_over_all_edges_before_each_node(
  searched, train, x64
):
  spec = spec_lib.nas_bench_201(cells=1, width=4, classes=2)
  if not searched:
    spec = discrete.derived(
      genotype_lib.parse(
        "|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+"
        "|skip_connect~0|none~1|nor_conv_3x3~2|"
      ),
      cells=1, width=4, classes=2,
    )
  cell, x = spec.cell("cell"), normal(2, 4, 5, 4)
  module = SearchCell(
    cell=cell, channels=4, reduction=False, halve_first=False, train=train,
    affine=spec.affine, pool_norm=spec.pool_norm, axis=None, loop=True,
  )
  weights = normal(6, 5, seed=2) if searched else None
  # The output of the cell before the previous one is not read.
  away = jnp.full_like(x, jnp.nan)
  params = made_up(module, away, x, None, None)
  assert ("shift" in params["nor_conv_3x3"]) == searched
  stats = moments(
    jax.eval_shape(module.init, jax.random.key(0), away, x, None, None)[
      "batch_stats"
    ]
  )

  def loss(plain, params, weights):
    if plain:
      y = plain_cell(cell, params, None if train else stats, x, weights)
    else:
      y, _ = module.apply(
        {"params": params, "batch_stats": stats},
        away, x, weights, None, mutable="batch_stats",
      )
    return jnp.sum(normal(*y.shape, seed=4) * jnp.sin(y)), y

  @jax.jit
  def both(params, weights):
    number = (0, 1) if searched else 0
    return [
      jax.grad(functools.partial(loss, plain), number, has_aux=True)(
        params, weights
      )
      for plain in (False, True)
    ]

  (got, y), (expected, z) = both(params, weights)
  close(y, z)
  # In training a normalisation takes a shift away again.
  shifted = [op for op, own in params.items() if train and "shift" in own]
  for part in (got, expected):
    for op in shifted:
      zero = (part[0] if searched else part)[op].pop("shift")
      assert abs(zero).max() < 1e-12
  jax.tree.map(close, got, expected)


def plain_block(params, stats, x):
  """ReLU, 3 x 3 of stride two, norm, ReLU, 3 x 3, norm; mean and 1 x 1."""
  y = x
  for i, stride in ((0, 2), (1, 1)):
    norm = params[f"norm{i}"]
    running = stats and [stats[f"norm{i}"][k] for k in ("mean", "var")]
    y = plain.convolution(jax.nn.relu(y), params[f"conv{i}"], stride)
    y = plain_cells.batch_norm(y, norm["scale"], norm["bias"], running)
  h, w = (n // 2 * 2 for n in x.shape[1:3])
  four = [x[:, i:h:2, j:w:2] for i in range(2) for j in range(2)]
  return y, plain.convolution(sum(four) / 4, params["shortcut"])


@pytest.mark.parametrize("loop,skip", [(False, False), (True, False),
                                       (True, True)])
def test_another_column_of_weights_is_added_to_the_features(loop, skip, x64):
  spec = spec_lib.nas_bench_201(cells=1, width=4, classes=2)
  cell = spec.cell("cell")
  module = SearchCell(
    cell=cell, channels=4, reduction=False, halve_first=False, train=True,
    affine=spec.affine, pool_norm=spec.pool_norm, axis=None, loop=loop,
    skip_zero_ops=skip,
  )
  x, weights = normal(2, 4, 5, 4), np.eye(5)[[1, 3, 4, 0, 1, 2]]
  params = made_up(module, x, x, None, None)
  stats = jax.eval_shape(module.init, jax.random.key(0), x, x, None, None)
  stats = moments(stats["batch_stats"])

  def got(scalars):
    y, _ = module.apply(
      {"params": params, "batch_stats": stats},
      x, x, jnp.concatenate([weights, scalars[:, None]], -1), None,
      mutable="batch_stats",
    )
    return y

  def wanted(scalars):
    nodes = [x]
    for target in (1, 2, 3):
      total = jnp.zeros_like(x)
      for source in range(target):
        e = cell.edges.index((source, target))
        one = cell.ops[int(weights[e].argmax())]
        if one != "none":
          row = plain_cells.place(cell, one, e)
          total += operator(one, nodes[source], params, None, row)
        total += scalars[e]
      nodes.append(total)
    return nodes[3]

  def slopes(y, scalars):
    total = jax.value_and_grad(lambda scalars: jnp.sum(jnp.sin(y(scalars))))
    return jax.jit(total)(scalars)

  for scalars in (jnp.zeros(6), normal(6)):
    for found, expected in zip(
      slopes(got, scalars), slopes(wanted, scalars), strict=True
    ):
      close(found, expected)


@pytest.mark.parametrize("height,width,train", [(4, 6, True), (5, 3, False)])
def test_the_block_between_two_stages(height, width, train, x64):
  module = Residual(6, functools.partial(BatchNorm, train=train))
  x = normal(2, height, width, 4)
  params = made_up(module, x)
  stats = moments(
    jax.eval_shape(module.init, jax.random.key(0), x)["batch_stats"]
  )

  @jax.jit
  def both(params):
    got, _ = module.apply(
      {"params": params, "batch_stats": stats}, x, mutable="batch_stats"
    )
    return got, *plain_block(params, None if train else stats, x)

  got, y, beside = both(params)
  assert got.shape == y.shape == (2, (height + 1) // 2, (width + 1) // 2, 6)
  assert np.isfinite(got).all()
  # A window that an odd size cuts off is left out.
  h, w = height // 2, width // 2
  close(got[:, :h, :w], y[:, :h, :w] + beside)
  assert abs(beside).max() > 0.1


def test_a_network_joins_its_stages_and_ends_in_a_normalisation(x64):
  genotype = genotype_lib.parse(
    "|nor_conv_1x1~0|+|none~0|skip_connect~1|+"
    "|avg_pool_3x3~0|none~1|skip_connect~2|"
  )
  spec = discrete.derived(genotype, cells=1, width=2, classes=3)
  cell, network, x = spec.cell("cell"), cnn.Network(spec), normal(2, 8, 8, 3)
  tree = jax.eval_shape(
    functools.partial(network.init, train=False), jax.random.key(0), x
  )
  rng = np.random.default_rng(9)
  params = jax.tree.map(
    lambda s: jnp.asarray(rng.normal(size=s.shape)), tree["params"]
  )
  stats = moments(tree["batch_stats"])

  def norm(name, x):
    own, seen = params[name], stats[name]
    return plain_cells.batch_norm(
      x, own["scale"], own["bias"], (seen["mean"], seen["var"])
    )

  @jax.jit
  def both(x):
    got, auxiliary = network.apply(
      {"params": params, "batch_stats": stats}, x, train=False
    )
    assert auxiliary is None
    y = norm("stem_norm", plain.convolution(x, params["stem"]))
    for i in range(5):
      own, seen = params[f"cell{i}"], stats[f"cell{i}"]
      if i % 2:
        y = sum(plain_block(own, seen, y))
      else:
        y = plain_cell(cell, own, seen, y, None)
    y = jax.nn.relu(norm("head_norm", y)).mean((1, 2))
    last = params["classifier"]
    return got, y @ last["kernel"] + last["bias"][None]

  got, expected = both(x)
  assert got.shape == (2, 3)
  close(got, expected)


def test_an_edge_of_none_has_no_parameters():
  text = "|none~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|skip_connect~2|"
  spec = discrete.derived(genotype_lib.parse(text), **FULL)
  params = shapes(spec)
  for i, c in ((0, 16), (6, 32), (12, 64)):
    assert size(params[f"cell{i}"]) == 9 * c * c + 2 * c


def searched_as(argument, **more):
  config = config_lib.load(f"configs/nas_bench_201.py:{argument}")
  return config_lib.flatten(config) | more


@pytest.mark.parametrize("argument,expected", [
  ("darts", {"DARTS": 0.543}),
  ("darts_second", {"DARTS, second order": 0.543}),
  ("gdas", {"GDAS": 0.935}),
  ("amended", {}),
  ("pcdarts", {}),
  ("random", {}),
  ("quick_gdas", {}),
])
def test_published_numbers_stand_beside_the_benchmarks_searches(
  argument, expected
):
  table = benchmark.Table(
    "made up", ("cifar10_200",), {FIRST: (0.7,), FIRST + " ": (0.9,)}
  )
  found = evaluation.reference(table, searched_as(argument))
  assert found["published"] == expected
  assert (found["best"], found["mean"]) == (0.9, 0.8)
  for field, value in (
    ("train.length", "12 epochs"), ("weights.nesterov", False),
    ("weights.decay", 3e-4), ("data.name", "digits"), ("data.limit", 100),
  ):
    flat = searched_as(argument, **{field: value})
    assert evaluation.reference(table, flat)["published"] == {}


def test_the_benchmarks_searches_have_its_settings():
  flat = searched_as("gdas")
  expected = {
    "weights.nesterov": True, "weights.decay": 5e-4, "weights.lr": 0.025,
    "weights.lr_end": 0.001, "weights.clip": 5.0, "train.batch": 64,
    "algo.tau": 10.0, "algo.tau_end": 0.1, "algo.undrawn": True,
    "arch.lr": 3e-4, "arch.decay": 1e-3,
  }
  assert {name: flat[name] for name in expected} == expected
