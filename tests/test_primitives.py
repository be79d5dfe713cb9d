"""Primitives of our own: how they are called, mapped and differentiated."""

import equations
import jax
from jax.interpreters import ad
import jax.numpy as jnp
import numpy as np
import pytest

from jnas.ops.cpu import primitives

# Their values go into what XLA reads, so a test has its own.
SCALED = primitives.primitive(
  "scaled",
  lambda x, y, *, by: by * x * y,
  lambda x, y, by: (x.shape, x.dtype),
)
PLAIN = primitives.primitive(
  "plain_scaled",
  lambda x, y, *, by: by * x * y,
  lambda x, y, by: (x.shape, x.dtype),
  no_inline=lambda by: by < 0,
)


@pytest.mark.parametrize("primitive", [SCALED, PLAIN])
def test_it_computes_its_rule_alone_and_in_a_program(primitive):
  x, y = jnp.arange(6.0).reshape(2, 3), jnp.full((2, 3), 2.0)

  def call(x, y):
    return primitive.bind(x, y, by=3)

  for run in (call, jax.jit(call)):
    np.testing.assert_array_equal(run(x, y), 6 * x)
  found = equations.counted(call, x, y)
  assert dict(found) == {primitive.name: 1}


def test_on_cpu_what_is_not_inlined_is_a_call_that_is_not_inlined():
  x = jnp.ones((2, 3))
  for primitive, no_inline in ((SCALED, True), (PLAIN, False)):
    lowered = jax.jit(lambda x, p=primitive: p.bind(x, x, by=3)).lower(x)
    assert ('inlineable = "false"' in lowered.as_text()) == no_inline


@pytest.mark.parametrize("axes", [(0, 0), (1, 0), (None, 2), (1, None)])
def test_mapping_is_a_loop_over_what_is_mapped(axes):
  rng = np.random.default_rng(0)
  shapes = [(2, 3), (2, 3)]
  for i, axis in enumerate(axes):
    if axis is not None:
      shapes[i] = (*shapes[i][:axis], 4, *shapes[i][axis:])
  x, y = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in shapes)
  got = jax.vmap(lambda x, y: SCALED.bind(x, y, by=3), axes)(x, y)
  expected = jax.vmap(lambda x, y: 3 * x * y, axes)(x, y)
  assert got.shape == (4, 2, 3)
  np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_a_primitive_has_no_derivative_that_was_not_stated():
  x = jnp.ones((2, 3))
  with pytest.raises(NotImplementedError, match="scaled"):
    jax.grad(lambda x: SCALED.bind(x, x, by=3).sum())(x)
  assert SCALED not in ad.primitive_jvps


def test_fusion_barrier_is_the_identity_with_all_its_derivatives(x64):
  x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3)))

  def loss(x):
    return jnp.sum(jnp.sin(primitives.fusion_barrier(x) * x))

  def plain(x):
    return jnp.sum(jnp.sin(x * x))

  @jax.jit
  def all_of(x):
    tangent = jnp.cos(x)
    return [
      (
        f(x),
        jax.jvp(jax.grad(f), (x,), (tangent,)),
        jax.grad(lambda x, f=f: jnp.sum(tangent * jax.grad(f)(x)))(x),
        jax.vmap(jax.grad(f))(x[:, None]),
      )
      for f in (loss, plain)
    ]

  got, expected = all_of(x)
  jax.tree.map(
    lambda y, z: np.testing.assert_allclose(y, z, rtol=1e-13), got, expected
  )
  assert primitives.fusion_barrier(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_a_fusion_barrier_is_a_call():
  text = jax.jit(lambda x: primitives.fusion_barrier(2 * x) + 1).lower(1.0)
  assert 'inlineable = "false"' in text.as_text()


@pytest.mark.parametrize(
  "kind,result",
  [
    (jnp.bfloat16, jnp.float32),
    (jnp.float32, jnp.float32),
    (jnp.float64, jnp.float64),
  ],
)
def test_sums_of_several_arrays(kind, result, x64):
  rng = np.random.default_rng(0)
  terms = [
    jnp.asarray(rng.normal(size=(2, 3, 4, 6, 5)), kind) for _ in range(3)
  ]
  got = primitives.sums(terms)
  assert len(got) == 3
  for total, term in zip(got, terms, strict=True):
    assert total.dtype == result and total.shape == (2, 5)
    exact = np.asarray(term, np.float64).sum((1, 2, 3))
    tolerance = 1e-12 if kind == jnp.float64 else 2e-5
    np.testing.assert_allclose(total, exact, rtol=0, atol=tolerance)


@pytest.mark.parametrize("width", [1, 7, 8, 13, 28, 97])
@pytest.mark.parametrize("count", [1, 9, 25])
def test_sums_of_any_width(width, count):
  rng = np.random.default_rng(0)
  terms = [
    jnp.asarray(rng.normal(size=(1, 2, 3, width, 4)), jnp.float32)
    for _ in range(count)
  ]
  for total, term in zip(primitives.sums(terms), terms, strict=True):
    exact = np.asarray(term, np.float64).sum((1, 2, 3))
    np.testing.assert_allclose(total, exact, rtol=0, atol=2e-5)


def test_sums_go_over_several_arrays_at_once():
  terms = [jnp.ones((1, 2, 4, 32, 16)) for _ in range(9)]
  found = equations.counted(lambda *t: primitives.sums(t), *terms)
  assert found["reduce"] == 1


def test_sums_round_little():
  x = np.random.default_rng(0).normal(size=(1, 64, 32, 32, 16)) + 1
  x = x.astype(np.float32)
  exact = x.astype(np.float64).sum((1, 2, 3))
  # Added up one after the other they are off by 6e-6.
  total = primitives.sums([jnp.asarray(x), jnp.asarray(-x)])[0]
  np.testing.assert_allclose(total, exact, rtol=3e-7)
