"""Rows of a stack in a loop, against JAX's own indexing, in float64."""

import derivatives
from derivatives import normal
import equations
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas.ops.cpu import rows

ENDS = jnp.asarray([(0, 1), (0, 2), (1, 2), (2, 3), (0, 3)])


def looped(read, write):
  """A graph whose edges read a node and add to another."""

  def program(nodes, weights):
    def body(nodes, turn):
      (source, target), w = turn
      x, nodes = read(nodes, source)
      return write(nodes, target, jnp.sin(w * x)), None

    return lax.scan(body, nodes, (ENDS, weights))[0]

  return program


INDEXING = (lambda s, i: (s[i], s)), (lambda s, i, y: s.at[i].add(y))
OURS = looped(rows.take, rows.add)
PLAIN = looped(*INDEXING)


def test_a_loop_and_its_derivatives_to_second_order(x64):
  derivatives.check(OURS, PLAIN, normal(4, 3), normal(5, 3, seed=1))


@pytest.mark.parametrize("number", [0, 1])
def test_gradients_by_one_of_the_two(number, x64):
  """Where the other has none there are zeros of each kind on the way."""

  def once(read, write):
    def program(stack, y):
      row, stack = read(stack, 1)
      return jnp.sum(write(jnp.ones((4, 3)), 2, y) ** 2 * stack) + jnp.sum(row)

    return program

  args = normal(4, 3), normal(3, seed=1)
  got, exact = (
    jax.grad(once(*both), number)(*args)
    for both in ((rows.take, rows.add), INDEXING)
  )
  np.testing.assert_allclose(got, exact, rtol=1e-13)


def test_a_gradient_adds_rows_and_never_a_whole_stack():
  found = equations.counted(
    jax.grad(lambda n, w: jnp.sum(OURS(n, w) ** 2), (0, 1)),
    jnp.ones((4, 3)),
    jnp.ones((5, 3)),
  )
  assert not found["dynamic_update_slice"] and not found["add_any"]
  assert equations.of(found, "take_row", "add_row") == {
    "take_row": 2, "add_row": 2
  }


def test_mapping_over_any_of_the_arguments(x64):
  nodes, weights = normal(2, 4, 3), normal(2, 5, 3, seed=1)
  for axes, args in (
    ((0, 0), (nodes, weights)), ((None, 0), (nodes[0], weights))
  ):
    got, exact = (jax.vmap(f, axes)(*args) for f in (OURS, PLAIN))
    np.testing.assert_allclose(got, exact, rtol=1e-13)


def test_a_row_that_is_kept_needs_no_copy_of_the_stack():
  def program(nodes):
    def body(nodes, ends):
      x, nodes = rows.take(nodes, ends[0])
      return rows.add(nodes, ends[1], jnp.sin(x)), x

    return lax.scan(body, nodes, ENDS)

  text = jax.jit(program).lower(jnp.ones((4, 8, 8))).compile().as_text()
  copies = [line for line in text.splitlines() if "f32[4,8,8]" in line]
  copies = [line for line in copies if " copy(" in line]
  assert len(copies) == 1, copies  # of the argument, before the loop
