"""The totals of a state."""

import jax
import jax.numpy as jnp
import pytest

from jnas.training import state


def test_totals_give_means_over_steps():
  sums = state.zero_sums()
  for loss, accuracy in ((2.0, 0.5), (1.0, 0.25), (0.0, 0.75)):
    sums = jax.jit(state.add)(sums, jnp.float32(loss), jnp.float32(accuracy))
  assert sums["steps"] == 3
  means = state.means(sums)
  assert means == {
    "train_loss": pytest.approx(1.0), "train_accuracy": pytest.approx(0.5)
  }
  assert all(type(value) is float for value in means.values())


def test_totals_of_nothing_have_no_means():
  assert state.means(state.zero_sums()) == {}


def test_totals_keep_their_structure_and_type():
  before = state.zero_sums()
  after = state.add(before, jnp.float32(1), jnp.float32(1))
  assert jax.tree.structure(before) == jax.tree.structure(after)
  for leaf in jax.tree.leaves((before, after)):
    assert leaf.dtype == jnp.float32 and leaf.shape == ()
  # No two leaves may share memory where the state is donated.
  pointers = {leaf.unsafe_buffer_pointer() for leaf in before.values()}
  assert len(pointers) == 3
