"""Backends against the plain definitions, in float64."""

import functools

import derivatives
from derivatives import normal
import equations
import jax
import jax.numpy as jnp
import numpy as np
import plain_cells
import pytest

from jnas.ops import backend, plain, table
from jnas.ops.accelerator.separable import merge
from jnas.spaces.mixed import MixedOps

pytestmark = pytest.mark.usefixtures("x64")

IMAGE = (7, 6)  # an odd and an even size
FAST = backend.CPU, backend.ACCELERATOR


def close(got, expected, tolerance=1e-12):
  assert got.dtype == expected.dtype
  assert got.shape == expected.shape
  np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


def test_it_is_chosen_by_platform():
  found = {name: backend.of(name) for name in ("cpu", "gpu", "tpu")}
  assert found == {
    "cpu": backend.CPU,
    "gpu": backend.ACCELERATOR,
    "tpu": backend.ACCELERATOR,
  }


def rows():
  """All operators that compute; of those of one form the larger are slow."""
  large = ("sep_conv_5x5", "sep_conv_7x7", "dil_conv_5x5", "conv_5x1_1x5")
  for op in sorted(table.OPERATORS.keys() - {"none"}):
    rare = op in (*large, "conv_7x1_1x7", "nor_conv_1x1")
    yield pytest.param(op, marks=[pytest.mark.slow] if rare else [])


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("op", tuple(rows()))
def test_operators_are_their_definitions_to_second_derivatives(op, stride):
  learnt, stats = table.arrays(op, 4, stride, affine=True, pool_norm=True)
  shapes = {n: (1, *own.shape) for n, own in learnt.items()}
  arrays = {n: normal(*s, seed=i) for i, (n, s) in enumerate(shapes.items())}
  moments = {n: jnp.ones((1, *own.shape)) for n, own in stats.items()}

  def of(form):
    if form is None:
      return lambda x, own: plain_cells.operator(
        op, x, {op: own | moments}, 0, stride, True
      )
    module = MixedOps((op,), ((op,),), stride, True, backend=form)
    return lambda x, own: module(x, {op: own | moments})[0][0]

  def loss(form, *args):
    y = of(form)(*args)
    return jnp.sum(normal(*y.shape, seed=10) * jnp.sin(y)), y

  @jax.jit
  def all_of_them(*args):
    tangents = jax.tree.map(lambda a: jnp.cos(3 * a), args)
    return [
      jax.jvp(
        jax.grad(functools.partial(loss, form), (0, 1), has_aux=True),
        args,
        tangents,
      )
      for form in (None, *FAST)
    ]

  # Every other pixel is that of its window's first maximum, or shares it.
  x = jnp.round(2 * normal(2, 5, 4, 4)) if "max" in op else normal(2, 5, 4, 4)
  expected, *found = all_of_them(x, arrays)
  if op != "skip_connect" or stride == 2:
    assert abs(expected[1][0][0]).max() > 1e-3
  for got in found:
    jax.tree.map(
      lambda y, z: np.testing.assert_allclose(
        y, z, rtol=0, atol=1e-10 * max(1.0, float(abs(z).max()))
      ),
      got,
      expected,
    )


@pytest.mark.parametrize("form", FAST)
@pytest.mark.parametrize(
  "shared,size,stride,dilation",
  [(True, 5, 2, 2), (False, 3, 2, 1)],
)
def test_separable_convolutions_of_several_edges(
  form, shared, size, stride, dilation
):
  def of(form):
    def run(x, window, point):
      kernels = [backend.Separable(window, point, dilation)]
      return form.separable(x, kernels, stride)[0]

    return run

  edges = 1 if shared else 2
  derivatives.check(
    of(form),
    of(backend.PLAIN),
    normal(edges, 2, 5, 4, 3),
    normal(2, size, size, 3, seed=1),
    normal(2, 4, 3, seed=2),
  )


def test_the_plain_backend_is_the_definition_edge_by_edge():
  x = normal(2, 2, *IMAGE, 3)
  window, point = normal(2, 3, 3, 3), normal(2, 4, 3)

  @jax.jit
  def both(x):
    kernels = [backend.Separable(window, point, 2)]
    each = zip(x, window, point, strict=True)
    return backend.PLAIN.separable(x, kernels, 2)[0], jnp.stack(
      [plain.separable(*args, 2, 2) for args in each]
    )

  close(*both(x))


@pytest.mark.parametrize("size,dilation", [(3, 1), (5, 2)])
def test_merged_pairs_are_depthwise_then_pointwise(size, dilation):
  window = normal(3, size, size, 4, seed=1)
  point = normal(3, 6, 4, seed=2)

  @jax.jit
  def both(x):
    kernel = merge(window, point)
    pairs = zip(window, point, strict=True)
    separate = [plain.separable(x, w, p, 2, dilation) for w, p in pairs]
    return plain.convolution(x, kernel, 2, dilation), jnp.concatenate(
      separate, -1
    )

  close(*both(normal(2, *IMAGE, 4)))


@pytest.mark.parametrize(
  "size,stride", [((3, 3), 1), ((3, 3), 2), ((1, 7), (1, 2)), ((5, 1), (2, 1))]
)
def test_windows_times_a_kernel_are_its_convolution(size, stride):
  kernel, probe = normal(*size, 3, 4, seed=1), normal(2, *IMAGE, 4, seed=2)

  def outcome(x, kernel, form):
    y = form.convolution(x, kernel, stride)
    return (y * probe[:, : y.shape[1], : y.shape[2]]).sum(), y

  @jax.jit
  def both(*args):
    return [
      jax.grad(lambda *a, f=f: outcome(*a, f), (0, 1), has_aux=True)(*args)
      for f in (backend.CPU, backend.PLAIN)
    ]

  jax.tree.map(
    lambda x, y: close(x, y, 1e-11), *both(normal(2, *IMAGE, 3), kernel)
  )


def test_separable_convolutions_are_dense_on_accelerators_alone():
  x, window, point = normal(1, 2, 4, 4, 3), normal(2, 3, 3, 3), normal(2, 3, 3)
  for form, dense in zip(FAST, (0, 1), strict=True):
    found = equations.counted(
      lambda x, *pair, f=form: f.separable(x, [backend.Separable(*pair)]),
      x, window, point,
    )
    assert found["conv_general_dilated"] == dense
    assert found["depthwise"] == found["pointwise"] == 1 - dense


def test_seeds_mapped_over_are_batched_on_accelerators():
  """One wider operation for all seeds, never a loop over them."""
  ops = "max_pool_3x3", "avg_pool_3x3", "sep_conv_3x3", "dil_conv_3x3"

  def loss(x, *arrays):
    return sum(
      jnp.sum(jnp.sin(module(x, {op: own})[0][0]))
      for (op, module), own in zip(modules.items(), arrays, strict=True)
    )

  modules, arrays, seeds = {}, [], 3
  for i, op in enumerate(ops):
    learnt, stats = table.arrays(op, 2, 1, affine=True, pool_norm=True)
    own = {n: normal(seeds, 1, *a.shape, seed=i) for n, a in learnt.items()}
    arrays.append(
      own | {n: jnp.ones((seeds, 1, *a.shape)) for n, a in stats.items()}
    )
    form = backend.ACCELERATOR
    modules[op] = MixedOps((op,), ((op,),), 1, True, backend=form)
  gradient = jax.grad(loss, tuple(range(1 + len(ops))))
  args = normal(seeds, 2, 4, 3, 2), *arrays
  found = equations.counted(jax.vmap(gradient), *args)
  assert not {"while", "scan"} & set(found)
  alone = equations.counted(gradient, *jax.tree.map(lambda a: a[0], args))
  name = "conv_general_dilated"
  assert found[name] == alone[name] > 0
  one_by_one = [
    jax.jit(gradient)(*jax.tree.map(lambda a, k=k: a[k], args))
    for k in range(seeds)
  ]
  jax.tree.map(
    lambda all_seeds, *each: close(all_seeds, jnp.stack(each), 1e-11),
    jax.jit(jax.vmap(gradient))(*args),
    *one_by_one,
  )


@pytest.mark.parametrize("form", FAST)
def test_features_keep_their_type(form):
  x = normal(1, 4, 4, 2).astype(jnp.bfloat16)
  halves = normal(1, 2, 1, 2).astype(jnp.float32)
  y = jax.eval_shape(form.factorized_reduction, x, halves)
  assert y.dtype == jnp.bfloat16
  kernels = backend.Separable(
    *(normal(*s).astype(jnp.float32) for s in ((3, 3, 3, 2), (3, 4, 2)))
  )
  for edges in (1, 3):
    (y,) = jax.eval_shape(
      lambda x: form.separable(x, [kernels]), jnp.stack([x] * edges)
    )
    assert (y.shape, y.dtype) == ((3, 1, 4, 4, 4), jnp.bfloat16)


def test_factorized_reductions_of_several_edges():
  kernel = normal(3, 2, 5, 4, seed=1)

  @jax.jit
  def both(images):
    got = [backend.CPU.factorized_reduction(x, kernel) for x in images]
    expected = [
      jnp.stack([plain.factorized_reduction(x, each) for each in kernel])
      for x in images
    ]
    return got, expected

  sizes = (8, 8), (7, 5), (6, 9), (1, 2)
  got, expected = both([normal(2, *size, 4) for size in sizes])
  jax.tree.map(close, got, expected)
  for y, (h, w) in zip(got, sizes, strict=True):
    assert y.shape == (3, 2, (h + 1) // 2, (w + 1) // 2, 10)
