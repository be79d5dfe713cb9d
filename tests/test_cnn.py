"""Whole networks: what they compute, statistics, types, drop path."""

import functools

import equations
import jax
import jax.numpy as jnp
import numpy as np
import plain_cells
import pytest

from jnas.genotype import Genotype
from jnas.ops import plain
from jnas.spaces import cnn, discrete
from jnas.spaces import spec as spec_lib
from jnas.spaces.norm import BatchNorm
from jnas.spaces.spec import S3

SMALL = spec_lib.supernet(
  ("none", "skip_connect", "dil_conv_3x3"),
  cells=3,
  width=4,
  classes=5,
  nodes=1,
  auxiliary=True,
)
TINY = Genotype(
  [("sep_conv_3x3", 0), ("skip_connect", 1)],
  (2,),
  [("max_pool_3x3", 0), ("skip_connect", 1)],
  (2,),
)


def normal(*shape, seed=0, dtype=np.float32):
  drawn = np.random.default_rng(seed).normal(size=shape).astype(dtype)
  return jnp.asarray(drawn)


def shapes(spec, size=32, channels=3, **options):
  network = cnn.Network(spec, **options)
  x = jnp.zeros((1, size, size, channels))
  return jax.eval_shape(
    functools.partial(network.init, train=False), jax.random.key(0), x
  )


def drawn(tree, dtype=np.float32):
  """Variables from a generator, which compiles nothing; variances above 0."""
  rng = np.random.default_rng(5)

  def draw(path, leaf):
    values = np.abs(rng.normal(size=leaf.shape)) * 0.3 + 0.1
    signed = leaf.ndim > 1 and "var" not in path[-1].key
    signs = rng.choice((-1, 1), size=leaf.shape) if signed else 1
    return jnp.asarray((values * signs).astype(dtype))

  return jax.tree_util.tree_map_with_path(draw, tree)


def plain_network(spec, params, x, weights=None, drop=None):
  """Training-mode logits and features of the auxiliary layer."""

  def stem(x, name, stride):
    norm, y = params[f"{name}_norm"], plain.convolution(x, params[name], stride)
    return plain_cells.batch_norm(y, norm["scale"], norm["bias"])

  if spec.imagenet:
    s0 = stem(jax.nn.relu(stem(x, "stem", 2)), "stem1", 2)
    s1 = stem(jax.nn.relu(s0), "stem2", 2)
  else:
    s0 = s1 = stem(x, "stem", 1)
  halved, auxiliary = spec.imagenet, None
  for i, layer in enumerate(spec.layers):
    y = plain_cells.cell_output(
      spec.cell(layer.cell),
      params[f"cell{i}"],
      s0,
      s1,
      None if weights is None else weights[layer.cell],
      None if drop is None else drop[i],
      reduction=layer.reduction,
      halve_first=halved,
      pool_norm=spec.pool_norm,
    )
    s0, s1, halved = s1, y, layer.reduction
    if i == spec.auxiliary_layer:
      auxiliary = plain_head(params["auxiliary"], y)
  return linear(params["classifier"], s1.mean((1, 2))), auxiliary


def plain_head(params, x):
  """Of an image below 8 x 8, so without its pool."""
  norm0, norm1 = params["norm0"], params.get("norm1")
  x = plain.convolution(jax.nn.relu(x), params["point"])
  x = plain_cells.batch_norm(x, norm0["scale"], norm0["bias"])
  x = plain.convolution(jax.nn.relu(x), params["square"])
  if norm1:
    x = plain_cells.batch_norm(x, norm1["scale"], norm1["bias"])
  return linear(params["classifier"], jax.nn.relu(x).mean((1, 2)))


def linear(params, x):
  return x @ params["kernel"] + params["bias"][None]


@pytest.mark.parametrize(
  "searched,loop,imagenet",
  [
    (True, False, False),
    (True, True, False),
    (True, True, True),
    (False, False, False),
    (False, False, True),
  ],
)
def test_a_network_is_its_cells_one_after_the_other(
  searched, loop, imagenet, x64
):
  options = dict(cells=4, width=2, classes=3, auxiliary=True)
  options |= dict(imagenet=imagenet, auxiliary_norm=not imagenet)
  if searched:
    spec = spec_lib.supernet(S3[:2], nodes=1, **options)
  else:
    spec = discrete.derived(TINY, **options)
  pixels = 64 if imagenet else 8
  variables = drawn(shapes(spec, size=pixels), np.float64)
  x = normal(4, pixels, pixels, 3, dtype=np.float64)
  weights = drop = None
  if searched:
    weights = {
      name: normal(*cell.shape, seed=i, dtype=np.float64)
      for i, (name, cell) in enumerate(spec.searched)
    }
  else:
    drop = [
      normal(4, *spec.cell(layer.cell).shape, seed=i, dtype=np.float64)
      for i, layer in enumerate(spec.layers)
    ]

  @jax.jit
  def both(variables):
    got, _ = cnn.Network(spec, loop=loop).apply(
      variables, x, weights, drop, train=True, mutable="batch_stats"
    )
    return got, plain_network(spec, variables["params"], x, weights, drop)

  for got, expected in zip(*both(variables), strict=True):
    assert got.shape == (4, 3)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size,stride", [(8, 3), (7, 2)])
def test_the_auxiliary_head_pools_to_two_by_two(size, stride, x64):
  # One linear layer away from the end, by the code of DARTS: ReLU, mean of
  # 5 x 5 with stride 3 (of 2 on ImageNet), 1 x 1, 2 x 2, which leaves a pixel.
  norm = functools.partial(BatchNorm, train=True)
  head = cnn.Auxiliary(3, norm, stride)
  x = normal(4, size, size, 6, dtype=np.float64)
  tree = jax.eval_shape(head.init, jax.random.key(0), x)["params"]
  params = drawn(tree, np.float64)
  windows = np.maximum(np.asarray(x), 0)
  rows = [
    [windows[:, i : i + 5, j : j + 5].mean((1, 2)) for j in (0, stride)]
    for i in (0, stride)
  ]
  pooled = jnp.asarray(np.stack([np.stack(row, 1) for row in rows], 1))

  @jax.jit
  def both(params):
    got = head.apply({"params": params}, x, mutable="batch_stats")[0]
    return got, plain_head(params, pooled)

  np.testing.assert_allclose(*both(params), rtol=1e-9, atol=1e-9)


def test_running_statistics_move_by_a_tenth_and_serve_evaluation():
  network, x = cnn.Network(SMALL), normal(4, 8, 8, 3)
  variables = drawn(shapes(SMALL, size=8))

  @functools.partial(jax.jit, static_argnames="train")
  def run(variables, x, train):
    return network.apply(variables, x, train=train, mutable="batch_stats")

  (trained, head), after = run(variables, x, train=True)
  assert trained.shape == head.shape == (4, 5)
  stem = np.asarray(
    plain.convolution(x, variables["params"]["stem"])
  )
  before, moved = (
    tree["batch_stats"]["stem_norm"] for tree in (variables, after)
  )
  for name, value in (("mean", stem.mean((0, 1, 2))),
                      ("var", stem.var((0, 1, 2), ddof=1))):
    expected = 0.9 * np.asarray(before[name]) + 0.1 * value
    np.testing.assert_allclose(moved[name], expected, rtol=1e-4, atol=1e-6)
  changed = jax.tree.map(
    lambda a, b: bool(np.any(a != b)), variables["batch_stats"],
    after["batch_stats"],
  )
  assert all(jax.tree.leaves(changed))

  (logits, none), same = run(variables, x, train=False)
  assert none is None  # the head exists in training only
  assert np.all(np.isfinite(logits))
  jax.tree.map(
    np.testing.assert_array_equal, same["batch_stats"],
    variables["batch_stats"],
  )
  # In evaluation an example does not see the others, in training it does.
  others = x.at[1:].multiply(3.0)
  alone = run(variables, others, train=False)[0][0]
  np.testing.assert_allclose(alone[0], logits[0], rtol=1e-5, atol=1e-5)
  (again, _), _ = run(variables, others, train=True)
  assert np.abs(again[0] - trained[0]).max() > 1e-3
  # And it uses the statistics that training left.
  variables = {"params": variables["params"], **after}
  (later, _), _ = run(variables, x, train=False)
  assert np.abs(later - logits).max() > 1e-3


def test_statistics_can_be_those_of_all_replicas(x64):
  spec = spec_lib.supernet(S3[:2], cells=3, width=2, classes=3, nodes=1)
  variables = drawn(shapes(spec, size=8), np.float64)
  x = normal(4, 8, 8, 3, dtype=np.float64)

  def run(x, axis):
    network = cnn.Network(spec, axis=axis)
    return network.apply(variables, x, train=True, mutable="batch_stats")

  @jax.jit
  def all_three(x):
    split = x.reshape(2, 2, 8, 8, 3)
    return (
      run(x, None),
      jax.vmap(lambda x: run(x, "data"), axis_name="data")(split),
      jax.vmap(lambda x: run(x, None), axis_name="data")(split),
    )

  whole, shared, own = all_three(x)
  logits = shared[0][0].reshape(4, 3)
  np.testing.assert_allclose(logits, whole[0][0], rtol=1e-9, atol=1e-9)
  for replica in range(2):
    part = jax.tree.map(lambda leaf, i=replica: leaf[i], shared[1])
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=1e-9), part, whole[1]
    )
  assert np.abs(own[0][0].reshape(4, 3) - whole[0][0]).max() > 1e-3


def test_bfloat16_is_the_type_of_features_and_of_nothing_else():
  network, x = cnn.Network(SMALL, dtype=jnp.bfloat16), normal(4, 8, 8, 3)
  variables = shapes(SMALL, size=8, dtype=jnp.bfloat16)
  for leaf in jax.tree.leaves(variables):
    assert leaf.dtype == jnp.float32
  weights = {n: jnp.ones(cell.shape) for n, cell in SMALL.searched}
  keys = jax.random.split(jax.random.key(0), 4)
  drop = cnn.drop_factors(keys, SMALL, path=0.5)

  def run(variables, network, drop=drop):
    return network.apply(
      variables, x, weights, drop, train=True, mutable="batch_stats"
    )

  (logits, head), after = jax.eval_shape(
    functools.partial(run, network=network), variables
  )
  assert logits.dtype == head.dtype == jnp.float32
  for leaf in jax.tree.leaves(after):
    assert leaf.dtype == jnp.float32
  types = {}
  for equation in equations.every(
    functools.partial(run, network=network), variables
  ):
    (out, *_) = equation.outvars
    types.setdefault(equation.primitive.name, []).append(out.aval.dtype)
  convolutions = ("conv_general_dilated", "depthwise", "pointwise")
  assert all(len(types[name]) >= 3 for name in convolutions)
  for name in (*convolutions, "affine"):
    assert set(types[name]) == {jnp.dtype("bfloat16")}
  assert set(types["moments"]) == {jnp.dtype("float32")}

  values = drawn(variables)

  @jax.jit
  def both(values):
    networks = network, cnn.Network(SMALL)
    return [run(values, n, drop=None)[0][0] for n in networks]

  rounded, exact = both(values)
  error = np.abs(rounded - exact).max() / np.abs(exact).max()
  assert 0 < error < 0.1


@pytest.mark.parametrize(
  "height,width,channels", [(8, 8, 1), (28, 28, 1), (32, 32, 3), (7, 10, 2)]
)
def test_images_of_many_shapes(height, width, channels):
  network = cnn.Network(SMALL)
  x = jax.ShapeDtypeStruct((2, height, width, channels), jnp.float32)

  def run(key, x):
    variables = network.init(key, x, train=False)
    (logits, head), _ = network.apply(
      variables, x, train=True, mutable="batch_stats"
    )
    return logits, head

  logits, head = jax.eval_shape(run, jax.random.key(0), x)
  assert logits.shape == head.shape == (2, 5)


def test_the_network_of_the_fixed_reduction_cell_takes_drop_path():
  genotype = Genotype(TINY.normal, (2,), None)
  spec = discrete.derived(genotype, cells=3, width=4, classes=5)
  keys = jax.random.split(jax.random.key(0), 2)
  drop = cnn.drop_factors(keys, spec, path=0.2)
  assert [d.shape for d in drop] == [(2, 2, 2), (2, 4, 1), (2, 4, 1)]

  def run(key):
    x = jnp.zeros((2, 8, 8, 3))
    network = cnn.Network(spec)
    variables = network.init(key, x, train=False)
    return network.apply(
      variables, x, None, drop, train=True, mutable="batch_stats"
    )[0][0]

  assert jax.eval_shape(run, jax.random.key(0)).shape == (2, 5)


@pytest.mark.parametrize("options", [dict(remat=True), dict(loop=True)])
def test_remat_and_loops_have_the_same_variables(options):
  assert shapes(SMALL, size=8) == shapes(SMALL, size=8, **options)


# Drop path.


def test_drop_path_keeps_expectations():
  keys = jax.random.split(jax.random.key(3), 4000)
  factors = cnn.drop_factors(keys, SMALL, path=0.3, skip=0.3)
  assert [f.shape for f in factors] == [(4000, 2, 3)] * 3
  for f in map(np.asarray, factors):
    values = np.unique(f)
    np.testing.assert_allclose(values, [0, 1 / 0.7], rtol=1e-6)
    np.testing.assert_allclose((f == 0).mean(0), 0.3, atol=0.04)
    np.testing.assert_allclose(f.mean(0), 1, atol=0.06)
  # Every path of every layer is drawn on its own.
  paths = np.concatenate([f.reshape(4000, -1) for f in factors], -1)
  correlations = np.corrcoef(paths.T) - np.eye(paths.shape[-1])
  assert np.abs(correlations).max() < 0.08


@pytest.mark.parametrize("dropped", ["path", "skip"])
def test_the_identity_of_stride_one_has_a_rate_of_its_own(dropped):
  # Inner edges of a reduction cell have a stride of one, those from its
  # inputs of two. Cell 0 is normal: all skip connections are identities.
  spec = spec_lib.supernet(S3, cells=3, width=4, classes=5, nodes=2)
  keys = jax.random.split(jax.random.key(5), 4000)
  factors = cnn.drop_factors(keys, spec, **{dropped: 0.3})
  skip = S3.index("skip_connect")
  for layer, f in zip(spec.layers, map(np.asarray, factors), strict=True):
    for e, (source, _) in enumerate(spec.cell(layer.cell).edges):
      for o in range(len(S3)):
        identity = o == skip and not (layer.reduction and source < 2)
        if identity != (dropped == "skip"):
          np.testing.assert_array_equal(f[:, e, o], 1)
        else:
          np.testing.assert_allclose((f[:, e, o] == 0).mean(), 0.3, atol=0.04)


def test_drop_path_of_an_example_depends_on_its_key_alone():
  keys = jax.random.split(jax.random.key(4), 6)
  program = jax.jit(lambda keys, rate: cnn.drop_factors(keys, SMALL, path=rate))
  whole = program(keys, 0.5)
  for start in (0, 3):
    part = program(keys[start : start + 3], 0.5)
    for a, b in zip(whole, part, strict=True):
      np.testing.assert_array_equal(a[start : start + 3], b)
  for f in program(keys, 0.0):
    np.testing.assert_array_equal(f, np.ones_like(f))
  assert not np.array_equal(whole[0][0], whole[0][1])
