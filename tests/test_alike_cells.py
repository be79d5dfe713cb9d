"""Equal cells in one loop, as on accelerators, against one after the other."""

import dataclasses
import functools

import equations
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas.ops.backend import ACCELERATOR, PLAIN
from jnas.spaces import cnn
from jnas.spaces import spec as spec_lib

OPS = ("none", "skip_connect", "conv_1x1")


def build(layers, **options):
  """Networks of normal cells, of which all but the first two are alike."""
  spec = spec_lib.supernet(
    OPS, cells=layers, width=4, classes=2, nodes=1, **options
  )
  normal = [spec_lib.Layer(layer.cell, False) for layer in spec.layers]
  if "normal" in dict(spec.cells):
    normal = [spec_lib.Layer("normal", False)] * layers
  spec = dataclasses.replace(spec, layers=tuple(normal))
  return spec, both_forms(spec)


def stack(layers, **options):
  """Networks of so many normal cells before a reduction, and after it.

  The first cell reads a stem of fewer channels than cells give.
  """
  spec = spec_lib.supernet(
    OPS, cells=3, width=4, classes=2, nodes=2, **options
  )
  normal = (spec_lib.Layer("normal", False),) * layers
  reduce = spec_lib.Layer("reduce", True)
  spec = dataclasses.replace(
    spec, stem=1, layers=(*normal, reduce, *normal)
  )
  return spec, both_forms(spec)


def both_forms(spec):
  return [
    cnn.Network(spec, loop=loop, backend=backend)
    for loop, backend in ((True, ACCELERATOR), (False, PLAIN))
  ]


def given(spec, network, size=4):
  x = jax.random.normal(jax.random.key(0), (2, size, size, 3))
  weights = {
    name: jax.random.normal(jax.random.key(i), cell.shape)
    for i, (name, cell) in enumerate(spec.searched)
  }
  shapes = jax.eval_shape(
    functools.partial(network.init, train=False), jax.random.key(0), x, weights
  )
  rng = np.random.default_rng(1)
  variables = jax.tree.map(
    lambda leaf: jnp.asarray(np.abs(rng.normal(size=leaf.shape)) + 0.1), shapes
  )
  drop = [
    jnp.asarray(rng.uniform(0.5, 1.5, (2, *spec.cell(layer.cell).shape)))
    for layer in spec.layers
  ]
  return x, variables, weights, drop


def cases():
  # The head is after the fourth cell, and the fifth is not in the loop.
  yield "alone", build, dict(layers=5, shared=False, auxiliary=True), 4
  # Two loops: the first cell reads the stem, another one twice its resolution,
  # of an odd size.
  yield "reduction", stack, dict(layers=2), 5
  yield "shared", stack, dict(layers=2, sharing=True), 4


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
  "kind, options, size",
  [pytest.param(*case, id=name) for name, *case in cases()],
)
def test_a_loop_over_cells_changes_nothing(kind, options, size):
  spec, networks = kind(**options)
  x, variables, weights, drop = given(spec, networks[0], size)
  if spec.sharing:
    drop = None
  stats = variables["batch_stats"]

  def loss(network, params, weights):
    (y, head), updated = network.apply(
      {"params": params, "batch_stats": stats},
      x, weights, drop, train=True, mutable="batch_stats",
    )
    extra = 0 if head is None else jnp.sum(jnp.sin(head))
    return jnp.sum(jnp.sin(3 * y)) + extra, (y, updated)

  @jax.jit
  def both(params, weights):
    args = params, weights
    tangents = jax.tree.map(lambda a: jnp.cos(3 * a), args)
    found = []
    for network in networks:
      gradient = jax.grad(
        functools.partial(loss, network), (0, 1), has_aux=True
      )
      (first, extra), (product, _) = jax.jvp(gradient, args, tangents)
      still = network.apply(variables, x, weights, train=False)[0]
      found.append((first, extra, product, still))
    return found

  got, expected = both(variables["params"], weights)
  assert jax.tree.structure(got) == jax.tree.structure(expected)
  gradients = expected[0]
  assert max(abs(leaf).max() for leaf in jax.tree.leaves(gradients)) > 1e-3
  jax.tree.map(
    lambda y, z: np.testing.assert_allclose(
      y, z, rtol=0, atol=1e-9 * max(1.0, float(abs(z).max()))
    ),
    got,
    expected,
  )


@pytest.mark.parametrize(
  "kind, layers, options",
  [
    (build, (4, 7), {}),
    (stack, (2, 3), {}),
    (stack, (2, 3), {"sharing": True}),
  ],
)
def test_depth_does_not_make_the_program_longer(kind, layers, options):
  def loops(layers):
    spec, (network, _) = kind(layers, **options)
    x, variables, weights, _ = given(spec, network)
    apply = functools.partial(network.apply, train=True, mutable="batch_stats")
    return equations.counted(apply, variables, x, weights)

  short, deep = map(loops, layers)
  names = "scan", "conv_general_dilated", "dot_general"
  assert equations.of(short, *names) == equations.of(deep, *names)
