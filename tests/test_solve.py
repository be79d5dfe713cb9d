"""Trees as vectors, and the two solvers, against numpy."""

import functools

import jax
from jax.flatten_util import ravel_pytree
import jax.numpy as jnp
import numpy as np
import pytest

from jnas import solve

pytestmark = pytest.mark.usefixtures("x64")


def tree(x):
  """Six numbers as a tree of two leaves."""
  return {"a": jnp.asarray(x[:4]).reshape(2, 2), "b": jnp.asarray(x[4:])}


def flat(x):
  return np.asarray(ravel_pytree(x)[0])


def product_with(matrix):
  def product(u):
    return tree(jnp.asarray(matrix) @ ravel_pytree(u)[0])

  return product


@pytest.fixture(scope="module")
def problem():
  rng = np.random.default_rng(0)
  root = rng.normal(size=(6, 6))
  return root @ root.T / 6 + 0.2 * np.eye(6), rng.normal(size=6)


def test_trees_are_vectors():
  x, y = np.arange(6.0), np.array([1.0, -1.0, 2.0, 0.5, 0.0, 3.0])
  a, b = tree(x), tree(y)
  np.testing.assert_allclose(flat(solve.add_scaled(a, -2.0, b)), x - 2 * y)
  np.testing.assert_allclose(solve.dot(a, b), x @ y)
  np.testing.assert_allclose(solve.norm(a), np.sqrt(x @ x))
  cosine = x @ y / np.linalg.norm(x) / np.linalg.norm(y)
  np.testing.assert_allclose(solve.cosine(a, b), cosine)
  opposite = jax.tree.map(lambda leaf: -3 * leaf, a)
  np.testing.assert_allclose(solve.cosine(a, opposite), -1.0)


def test_the_cosine_with_a_zero_tree_is_zero():
  a, zero = tree(np.arange(6.0)), tree(np.zeros(6))
  assert solve.cosine(a, zero) == solve.cosine(zero, a) == 0.0
  assert solve.cosine(zero, zero) == 0.0


def test_trees_of_different_structure_are_refused():
  with pytest.raises(ValueError):
    solve.dot({"a": jnp.ones(2), "b": jnp.ones(2)}, {"a": jnp.ones(2)})


@pytest.mark.parametrize("damping", (0.0, 0.7))
@pytest.mark.parametrize("steps", (6, 20))
def test_conjugate_gradients_are_exact_in_as_many_steps_as_unknowns(
  problem, damping, steps
):
  h, b = problem
  x = solve.conjugate_gradients(
    product_with(h), tree(b), steps=steps, damping=damping
  )
  exact = np.linalg.solve(h + damping * np.eye(6), b)
  np.testing.assert_allclose(flat(x), exact, rtol=0, atol=1e-10)


def test_conjugate_gradients_are_best_in_each_krylov_space(problem):
  h, b = problem
  for steps in range(1, 6):
    x = solve.conjugate_gradients(product_with(h), tree(b), steps=steps)
    powers = [np.linalg.matrix_power(h, i) @ b for i in range(steps)]
    basis = np.linalg.qr(np.stack(powers, 1))[0]
    best = basis @ np.linalg.solve(basis.T @ h @ basis, basis.T @ b)
    np.testing.assert_allclose(flat(x), best, atol=1e-10)


def test_no_conjugate_gradients_give_zero(problem):
  h, b = problem
  found = solve.conjugate_gradients(product_with(h), tree(b), steps=0)
  np.testing.assert_array_equal(flat(found), 0)


def test_negative_curvature_truncates(problem):
  h, b = problem
  # From the start: nothing is done.
  found = solve.conjugate_gradients(product_with(-h), tree(b), steps=6)
  np.testing.assert_array_equal(flat(found), 0)
  # Later: the iterate before it stays.
  values = np.array([2.0, 1.0, 0.5, -0.4, -1.0, 3.0])
  indefinite, b = np.diag(values), np.array([1.0, 1.0, 1.0, 0.3, 0.2, 1.0])
  r, p, x, kept = b.copy(), b.copy(), np.zeros(6), 0
  for _ in range(6):
    curvature = p @ indefinite @ p
    if curvature <= 0:
      break
    step = r @ r / curvature
    x, new = x + step * p, r - step * indefinite @ p
    p, r, kept = new + new @ new / (r @ r) * p, new, kept + 1
  assert 0 < kept < 6
  for unroll in (False, True):
    found = solve.conjugate_gradients(
      product_with(indefinite), tree(b), steps=6, unroll=unroll
    )
    np.testing.assert_allclose(flat(found), x, atol=1e-12)
    assert flat(found) @ b >= 0
  # Damping that makes it definite lifts the truncation.
  found = solve.conjugate_gradients(
    product_with(indefinite), tree(b), steps=8, damping=1.5
  )
  np.testing.assert_allclose(flat(found), b / (values + 1.5), atol=1e-9)


@pytest.mark.parametrize("unroll", (False, True))
def test_a_zero_right_hand_side_gives_zero(problem, unroll):
  product, zero = product_with(problem[0]), tree(np.zeros(6))
  for form in (
    solve.conjugate_gradients, functools.partial(solve.neumann, scale=0.1)
  ):
    found = jax.jit(
      functools.partial(form, product, steps=3, unroll=unroll)
    )(zero)
    np.testing.assert_array_equal(flat(found), 0)


def test_an_eigenvector_is_solved_in_one_step_and_stays(problem):
  values, vectors = np.linalg.eigh(problem[0])
  b = tree(3 * vectors[:, 2])
  found = solve.conjugate_gradients(product_with(problem[0]), b, steps=9)
  exact = 3 * vectors[:, 2] / values[2]
  np.testing.assert_allclose(flat(found), exact, atol=1e-12)


@pytest.mark.parametrize("steps", (0, 1, 4))
def test_neumann_is_the_partial_sum(problem, steps):
  h, b = problem
  scale, damping = 0.3, 0.2
  shifted = h + damping * np.eye(6)
  powers = [
    np.linalg.matrix_power(np.eye(6) - scale * shifted, k)
    for k in range(steps + 1)
  ]
  for unroll in (False, True):
    found = solve.neumann(
      product_with(h), tree(b), steps=steps, scale=scale, damping=damping,
      unroll=unroll,
    )
    np.testing.assert_allclose(
      flat(found), scale * sum(powers) @ b, atol=1e-12
    )


def test_neumann_converges_to_the_solution(problem):
  h, b = problem
  scale = 1 / np.linalg.eigvalsh(h)[-1]
  found = solve.neumann(product_with(h), tree(b), steps=600, scale=scale)
  np.testing.assert_allclose(flat(found), np.linalg.solve(h, b), atol=1e-9)


def test_a_written_out_solver_is_the_loop(problem):
  h, b = problem
  loop, written = (
    solve.conjugate_gradients(
      product_with(h), tree(b), steps=4, damping=0.1, unroll=unroll
    )
    for unroll in (False, True)
  )
  np.testing.assert_allclose(flat(loop), flat(written), rtol=1e-12)


def test_the_number_of_products_is_that_of_the_steps(problem):
  h, b = problem
  seen = []

  def product(u):
    seen.append(u)
    return product_with(h)(u)

  for form in (
    solve.conjugate_gradients, functools.partial(solve.neumann, scale=0.1)
  ):
    seen.clear()
    form(product, tree(b), steps=5, unroll=True)
    assert len(seen) == 5
