"""A node's edges together against each edge alone, in float64."""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import plain_cells
import pytest

from jnas.spaces import ops
from jnas.spaces.mixed import Fan
from jnas.spaces.spec import S1, S3

DEEP = ("conv_7x1_1x7", "sep_conv_7x7", "skip_connect", "conv_3x1_1x3")
EVERY = tuple(op for op in S1 if op != "none")


def normal(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def fan(names, kept, *, stride=1, affine=False, pool_norm=True, channels=4):
  norm = functools.partial(
    nn.BatchNorm,
    use_running_average=False,
    momentum=0.9,
    epsilon=1e-5,
    use_scale=affine,
    use_bias=affine,
  )
  return Fan(names, kept, channels, stride, norm, pool_norm)


def shapes(module, channels=4):
  x = jnp.zeros((2, 6, 6, channels))
  init = functools.partial(module.init, weights=None, drop=None)
  return jax.eval_shape(init, jax.random.key(0), x).get("params", {})


def drawn(module):
  """Parameters from a generator, which compiles nothing."""
  rng = np.random.default_rng(5)
  return jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape)),
                      shapes(module))


def apart(module, params, x, weights, drop):
  outputs = []
  for t, kept in enumerate(module.kept):
    y = 0.0
    for op in kept:
      z = plain_cells.operator(
        op, x, params, module.names, module.kept, t, module.stride,
        module.pool_norm,
      )
      o = module.names.index(op)
      if weights is not None:
        z = weights[t, o] * z
      if drop is not None and not (op == "skip_connect" and module.stride == 1):
        z = drop[:, t, o][:, None, None, None] * z
      y = y + z
    outputs.append(y)
  return outputs


def together(module, params, x, weights, drop):
  variables = {"params": params} if params else {}
  return module.apply(variables, x, weights, drop, mutable="batch_stats")[0]


def check(module, *, weighted, dropped):
  t, o = len(module.kept), len(module.names)
  weights = normal(t, o, seed=1) if weighted else None
  drop = normal(2, t, o, seed=2) if dropped else None

  @jax.jit
  def both(params, x):
    return [f(module, params, x, weights, drop) for f in (together, apart)]

  got, expected = both(drawn(module), normal(2, 6, 5, 4))
  assert len(got) == len(expected) == t
  for y, z in zip(got, expected, strict=True):
    assert y.dtype == jnp.float64
    np.testing.assert_allclose(y, z, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("weighted,dropped", [(True, True), (False, False)])
@pytest.mark.parametrize("stride", [1, 2])
def test_edges_that_keep_different_operators(stride, weighted, dropped, x64):
  kept = (
    ("skip_connect", "sep_conv_3x3"),
    ("max_pool_3x3", "sep_conv_5x5", "dil_conv_3x3"),
    ("max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3"),
    ("dil_conv_5x5",),
  )
  module = fan(S1, kept, stride=stride, affine=not weighted)
  check(module, weighted=weighted, dropped=dropped)


@pytest.mark.parametrize("weighted,dropped", [(True, False), (False, True)])
def test_edges_that_keep_everything(weighted, dropped, x64):
  module = fan(S1, (EVERY,) * 2, stride=2, pool_norm=not dropped)
  check(module, weighted=weighted, dropped=dropped)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_other_operators_of_published_cells(stride, x64):
  # Out of the order of the list of operators, so that columns count.
  kept = (DEEP[:2], DEEP[1:], DEEP[3:])
  module = fan(DEEP, kept, stride=stride, affine=True)
  check(module, weighted=True, dropped=False)


def test_one_edge_with_one_operator(x64):
  for op in ("skip_connect", "max_pool_3x3"):
    module = fan(S3[:1] + (op,), ((op,),), pool_norm=False)
    assert not shapes(module)
    check(module, weighted=True, dropped=True)


def test_the_identity_of_stride_one_alone_is_never_dropped(x64):
  x, drop = normal(2, 4, 4, 4), jnp.zeros((2, 1, 1))
  names, kept = ("skip_connect",), (("skip_connect",),)
  module = fan(names, kept)
  np.testing.assert_array_equal(together(module, {}, x, None, drop)[0], x)
  module = fan(names, kept, stride=2)
  y = together(module, drawn(module), x, None, drop)[0]
  np.testing.assert_array_equal(y, jnp.zeros((2, 2, 2, 4)))


def test_a_dropped_example_leaves_the_others_alone(x64):
  names, kept = ("avg_pool_3x3",), (("avg_pool_3x3",),) * 2
  module, x = fan(names, kept), normal(2, 4, 4, 4)
  drop = jnp.asarray([[[0.0], [2.0]], [[1.0], [0.0]]])
  run = jax.jit(functools.partial(together, module, {}))
  plain, got = run(x, None, None), run(x, None, drop)
  for t in range(2):
    expected = plain[t] * drop[:, t, 0][:, None, None, None]
    np.testing.assert_allclose(got[t], expected, rtol=1e-12)


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
      module = fan(
        (op,), ((op,),), stride=stride, affine=affine, channels=channels
      )
      tree = shapes(module, channels)
      got.append(sum(leaf.size for leaf in jax.tree.leaves(tree)))
  assert tuple(got) == counts


def test_initial_weights_have_the_bounds_of_the_published_code(monkeypatch):
  # PyTorch since 1.0: the fan-in of a depthwise convolution is one window.
  seen = {}

  def spy(fan_in):
    def init(key, shape, dtype=jnp.float32):
      del key
      seen[shape] = fan_in
      return jnp.zeros(shape, dtype)

    return init

  monkeypatch.setattr(ops, "fan_in_uniform", spy)
  shapes(fan(("sep_conv_5x5",), (("sep_conv_5x5",),)))
  shapes(fan(("skip_connect",), (("skip_connect",),), stride=2))
  shapes(fan(("conv_7x1_1x7",), (("conv_7x1_1x7",),)))
  assert seen == {
    (1, 5, 5, 4): 25,
    (1, 4, 4): 4,
    (2, 1, 4, 2): 4,
    (1, 1, 7, 4, 4): 28,
    (1, 7, 1, 4, 4): 28,
  }


def test_pools_are_computed_once_a_node_and_first_stages_are_one_convolution():
  # What the module is for; the lowered program is where it shows.
  module = fan(S1, (EVERY,) * 3)
  params = shapes(module)
  x = jax.ShapeDtypeStruct((2, 6, 6, 4), jnp.float32)
  weights = jax.ShapeDtypeStruct((3, len(S1)), jnp.float32)
  text = str(
    jax.make_jaxpr(functools.partial(together, module))(
      params, x, weights, None
    )
  )
  # Four first stages, and a second one per edge for two operators.
  assert text.count("conv_general_dilated[") == 4 + 2 * 3
  # Three views on each of two axes, for each of two pools.
  assert text.count("= pad[") <= 4
