"""What the derivatives of trilinear forms are made of."""

import derivatives
from derivatives import normal
import equations
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas.ops.cpu import primitives, trilinear


def part(subscripts):
  """A part of F(x, k, g) = s * sum k[d,c] x[n,c] g[n,d]."""

  def rule(a, b, *, s):
    return s * jnp.einsum(subscripts, a, b)

  def shape(a, b, s):
    found = jax.eval_shape(lambda a, b: rule(a, b, s=s), a, b)
    return found.shape, found.dtype

  return trilinear.Part(rule, shape)


FORM = trilinear.form(
  "tri", part("nc,dc->nd"), part("nd,dc->nc"), part("nc,nd->dc")
)
SKIPPED = primitives.primitive(
  "skipped",
  lambda x: 2 * x,
  lambda x: (x.shape, x.dtype),
  may_skip=True,
)


def forward(x, k, *flag):
  return FORM.forward.bind(x, k, *flag, s=2)


def test_derivatives_of_every_part_to_second_order(x64):
  x, k, g = normal(4, 3), normal(2, 3, seed=1), normal(4, 2, seed=2)
  for primitive, args, subscripts in (
    (FORM.forward, (x, k), "nc,dc->nd"),
    (FORM.back, (g, k), "nd,dc->nc"),
    (FORM.kernel, (x, g), "nc,nd->dc"),
  ):
    derivatives.check(
      lambda a, b, primitive=primitive: primitive.bind(a, b, s=2),
      lambda a, b, spec=subscripts: 2 * jnp.einsum(spec, a, b),
      *args,
    )


def test_a_derivative_in_both_arguments_is_one_primitive():
  x, k = jnp.ones((4, 3)), jnp.ones((2, 3))

  def product(x, k):
    gradient = jax.grad(lambda x, k: jnp.sum(forward(x, k) ** 2), (0, 1))
    return jax.jvp(gradient, (x, k), (x, k))[1]

  found = equations.counted(product, x, k)
  names = ("tri_along", "tri_back_along", "tri_kernel_along")
  assert equations.of(found, *names) == dict.fromkeys(names, 1)
  assert not found["add_any"]
  alone = equations.counted(
    lambda x: jax.jvp(lambda x: forward(x, k), (x,), (x,)), x
  )
  assert alone["tri"] == 2 and not alone["tri_along"]


@pytest.mark.parametrize("wanted", [True, False])
def test_kernels_gradients_that_are_not_wanted_are_zeros(wanted):
  x, k = normal(4, 3), normal(2, 3, seed=1)

  @jax.jit
  def both(wanted):
    """The gradient and its derivative, by features and by kernel."""
    found = []
    for flag in ((wanted,), ()):
      gradient = jax.grad(
        lambda x, k, flag=flag: jnp.sum(jnp.sin(forward(x, k, *flag))), (0, 1)
      )
      found.append(jax.jvp(gradient, (x, k), (x, k)))
    return found

  (got, exact) = both(wanted)
  for (by_x, by_k), (exact_x, exact_k) in zip(got, exact, strict=True):
    np.testing.assert_array_equal(by_x, exact_x)
    np.testing.assert_array_equal(by_k, exact_k if wanted else 0 * exact_k)


def test_what_is_not_wanted_is_not_computed():
  def conditions(*flag):
    lowered = jax.jit(lambda x: SKIPPED.bind(x, *flag)).lower(jnp.ones(3))
    return lowered.as_text().count("stablehlo.case")

  assert conditions(jnp.asarray(False)) == 1
  assert conditions() == 0
