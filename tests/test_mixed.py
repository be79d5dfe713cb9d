"""A node's edges together against each edge alone, in float64."""

import functools

import equations
import jax
import jax.numpy as jnp
import numpy as np
import plain_cells
import pytest

from jnas.ops import backend, table
from jnas.spaces.mixed import MixedOps
from jnas.spaces.spec import S1, S3

DEEP = ("conv_7x1_1x7", "sep_conv_7x7", "skip_connect", "conv_3x1_1x3")
EVERY = tuple(op for op in S1 if op != "none")
POOLS = ("max_pool_3x3", "avg_pool_3x3")


def normal(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def build(names, kept, *, stride=1, train=True, backend=backend.CPU):
  return MixedOps(names, kept, stride, train, backend=backend)


def shapes(module, *, affine=False, pool_norm=True, channels=4):
  """For each operator what it learns, and its moments, by name: shapes."""
  found = {}, {}
  for op in module.names:
    if edges := len(module.where(op)):
      each = table.arrays(
        op, channels, module.stride, affine=affine, pool_norm=pool_norm
      )
      for tree, own in zip(found, each, strict=True):
        if own:
          tree[op] = {n: (edges, *leaf.shape) for n, leaf in own.items()}
  return found


def drawn(module, **options):
  """What the operators keep, from a generator; variances above zero."""
  rng, found = np.random.default_rng(5), {}
  for tree in shapes(module, **options):
    for op, own in tree.items():
      for name, shape in own.items():
        value = rng.normal(size=shape)
        if name.startswith("var"):
          value = np.abs(value) + 0.1
        if op in POOLS:
          # What edges share has the same moments on each.
          value[:] = value[:1]
        found.setdefault(op, {})[name] = jnp.asarray(value)
  return found


def apart(module, arrays, x, weights, drop):
  """Edge by edge, and the moments of the last batch alone."""
  outputs, moments = [], {}
  for t, kept in enumerate(module.kept):
    y = 0.0
    for op in kept:
      seen = {}
      z = plain_cells.operator(
        op,
        x,
        arrays,
        module.where(op).index(t),
        module.stride,
        "mean1" in arrays.get(op, {}),
        train=module.train,
        seen=seen,
      )
      for name, value in seen.get(op, {}).items():
        moments.setdefault(op, {}).setdefault(name, []).append(value)
      o = module.names.index(op)
      if weights is not None:
        z = weights[t, o] * z
      if drop is not None:
        z = drop[:, t, o][:, None, None, None] * z
      y = y + z
    outputs.append(y)
  return outputs, {
    op: {name: jnp.stack(values) for name, values in own.items()}
    for op, own in moments.items()
  }


def check(module, *, weighted, dropped, **options):
  t, o = len(module.kept), len(module.names)
  weights = normal(t, o, seed=1) if weighted else None
  drop = normal(2, t, o, seed=2) if dropped else None
  arrays = drawn(module, **options)

  @jax.jit
  def both(arrays, x):
    return [
      module(x, arrays, weights, drop),
      apart(module, arrays, x, weights, drop),
    ]

  (got, running), (expected, now) = both(arrays, normal(2, 6, 5, 4))
  assert len(got) == len(expected) == t
  for y, z in zip(got, expected, strict=True):
    assert y.dtype == jnp.float64
    np.testing.assert_allclose(y, z, rtol=1e-10, atol=1e-10)
  _, stats = shapes(module, **options)
  assert jax.tree.map(jnp.shape, running) == stats
  for op, own in running.items():
    for name, value in own.items():
      old = arrays[op][name]
      after = 0.9 * old + 0.1 * now[op][name] if module.train else old
      np.testing.assert_allclose(value, after, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("weighted,dropped", [(True, True), (False, False)])
@pytest.mark.parametrize("stride", [1, 2])
def test_edges_that_keep_different_operators(stride, weighted, dropped, x64):
  kept = (
    ("skip_connect", "sep_conv_3x3"),
    ("max_pool_3x3", "sep_conv_5x5", "dil_conv_3x3"),
    ("max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3"),
    ("dil_conv_5x5",),
  )
  module = build(S1, kept, stride=stride)
  check(module, weighted=weighted, dropped=dropped, affine=not weighted)


@pytest.mark.parametrize("weighted,dropped", [(True, False), (False, True)])
def test_edges_that_keep_everything(weighted, dropped, x64):
  module = build(S1, (EVERY,) * 2, stride=2)
  check(module, weighted=weighted, dropped=dropped, pool_norm=not dropped)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_other_operators_of_published_cells(stride, x64):
  # Out of the order of the list of operators, so that columns count.
  kept = (DEEP[:2], DEEP[1:], DEEP[3:])
  module = build(DEEP, kept, stride=stride)
  check(module, weighted=True, dropped=False, affine=True)


@pytest.mark.parametrize("affine", [False, True])
def test_evaluation_uses_the_running_moments_and_leaves_them(affine, x64):
  kept = (EVERY[:5], ("skip_connect", "conv_3x1_1x3", "dil_conv_3x3"), EVERY)
  names = (*S1, "conv_3x1_1x3")
  module = build(names, kept, stride=2 if affine else 1, train=False)
  check(module, weighted=True, dropped=not affine, affine=affine)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("form", [backend.PLAIN, backend.ACCELERATOR])
def test_other_backends_compute_the_same(form, stride, x64):
  # Two edges without an operator keep the stacks different in length.
  kept = (EVERY, ("sep_conv_3x3", "dil_conv_5x5"), ("sep_conv_5x5",))
  module = build(S1, kept, stride=stride, backend=form)
  check(module, weighted=True, dropped=False)


def test_one_edge_with_one_operator(x64):
  for op in ("skip_connect", "max_pool_3x3"):
    module = build(S3[:1] + (op,), ((op,),))
    assert shapes(module, pool_norm=False) == ({}, {})
    check(module, weighted=True, dropped=True, pool_norm=False)


def test_a_dropped_example_leaves_the_others_alone(x64):
  names, kept = ("avg_pool_3x3",), (("avg_pool_3x3",),) * 2
  module, x = build(names, kept), normal(2, 4, 4, 4)
  drop = jnp.asarray([[[0.0], [2.0]], [[1.0], [0.0]]])
  arrays = drawn(module)
  run = jax.jit(lambda x, drop: module(x, arrays, None, drop)[0])
  plain, got = run(x, None), run(x, drop)
  for t in range(2):
    expected = plain[t] * drop[:, t, 0][:, None, None, None]
    np.testing.assert_allclose(got[t], expected, rtol=1e-12)


def test_derivatives_by_features_arrays_and_weights(x64):
  shared = ("max_pool_3x3", "skip_connect", "sep_conv_3x3")
  module = build(S1, (shared, (*shared, "avg_pool_3x3", "dil_conv_3x3")))
  arrays, weights = drawn(module), normal(2, len(S1), seed=1)
  names, _ = shapes(module)
  learnt = {op: {n: arrays[op][n] for n in own} for op, own in names.items()}

  def whole(learnt):
    return {op: own | learnt.get(op, {}) for op, own in arrays.items()}
  probe = normal(2, 2, 4, 5, 4, seed=3)

  def loss(function, *args):
    outputs = function(*args)[0]
    return sum(
      jnp.sum(p * y * y) for p, y in zip(probe, outputs, strict=True)
    )

  def together(x, learnt, weights):
    return module(x, whole(learnt), weights)

  def alone(x, learnt, weights):
    return apart(module, whole(learnt), x, weights, None)

  @jax.jit
  def both(*args):
    return [
      jax.grad(functools.partial(loss, f), (0, 1, 2))(*args)
      for f in (together, alone)
    ]

  got, expected = both(normal(2, 4, 5, 4), learnt, weights)

  def near(x, y):
    np.testing.assert_allclose(x, y, rtol=0, atol=1e-10 * abs(y).max())

  jax.tree.map(near, got, expected)


@pytest.mark.parametrize(
  "op,stride,counts",
  [
    ("sep_conv_3x3", 1, (800, 864, 3240, 3384)),
    ("sep_conv_5x5", 2, (1312, 1376, 4392, 4536)),
    ("sep_conv_7x7", 1, (2080, 2144, 6120, 6264)),
    ("dil_conv_3x3", 2, (400, 432, 1620, 1692)),
    ("dil_conv_5x5", 1, (656, 688, 2196, 2268)),
    ("skip_connect", 2, (256, 288, 1296, 1368)),
    ("conv_7x1_1x7", 1, (3584, 3616, 18144, 18216)),
    ("skip_connect", 1, (0, 0, 0, 0)),
    ("max_pool_3x3", 1, (0, 0, 0, 0)),
    ("avg_pool_3x3", 2, (0, 0, 0, 0)),
  ],
)
def test_parameters_of_one_operator(op, stride, counts):
  # Counted on the published PyTorch operators.
  got = []
  for channels in (16, 36):
    for affine in (False, True):
      learnt, _ = shapes(
        build((op,), ((op,),), stride=stride), affine=affine, channels=channels
      )
      own = learnt.get(op, {}).values()
      got.append(sum(np.prod(shape) for shape in own))
  assert tuple(got) == counts


# What the module is for; the program is where it shows.


def program(derived=False, backend=backend.CPU):
  module = build(S1, (EVERY,) * 3, backend=backend)
  arrays = drawn(module)
  x, weights = jnp.ones((2, 6, 6, 4)), jnp.ones((3, len(S1)))

  def loss(x, arrays, weights):
    return sum(y.sum() for y in module(x, arrays, weights)[0])

  return equations.counted(
    jax.grad(loss, (0, 1, 2)) if derived else loss, x, arrays, weights
  )


def test_pools_and_stages_are_computed_once_a_node():
  assert equations.of(
    program(),
    "depthwise", "pointwise", "max_pool", "max", "affine", "moments",
    "conv_general_dilated",
  ) == {
    # Four first stages and two second ones, the sum of the mean's windows, and
    # the identity times its weights.
    "depthwise": 4 + 2 + 1 + 1,
    "pointwise": 4 + 2,
    "max_pool": 1,
    # One ReLU before first stages, two before second ones; a variance is at
    # least zero, of pools, of first and of second stages.
    "max": 1 + 2 + 3,
    # Two pools, four first and two second stages.
    "affine": 2 + 4 + 2,
    "moments": 2 + 4 + 2,
    "conv_general_dilated": 0,
  }


def test_so_are_their_gradients():
  assert equations.of(
    program(derived=True),
    "depthwise_kernel", "depthwise_back", "pointwise_kernel", "pointwise_back",
    "max_pool_gather", "max_pool_scatter",
  ) == {
    # Of the mean's windows there is a gradient of the features alone.
    "depthwise_kernel": 4 + 2 + 1,
    # And what passes a normalisation is carried back by its scale.
    "depthwise_back": 4 + 2 + 1 + 1 + 8,
    "pointwise_kernel": 4 + 2,
    "pointwise_back": 4 + 2,
    "max_pool_gather": 0,
    "max_pool_scatter": 1,
  }


def test_on_accelerators_first_stages_are_one_convolution():
  # Four first stages, and a second one per edge for two operators.
  found = program(backend=backend.ACCELERATOR)
  assert equations.of(found, "conv_general_dilated", "pointwise") == {
    "conv_general_dilated": 4 + 2 * 3, "pointwise": 0
  }
