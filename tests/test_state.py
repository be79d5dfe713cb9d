"""The totals of a state, and where its parts lie."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np
import pytest

from jnas.runtime import parallel
from jnas.training import state


def test_totals_give_means_over_steps():
  totals = state.zero_totals()
  for loss, accuracy in ((2.0, 0.5), (1.0, 0.25), (0.0, 0.75)):
    totals = jax.jit(state.add)(
      totals, jnp.float32(loss), {"accuracy": jnp.float32(accuracy)}
    )
  assert totals.steps == 3
  means = state.means(totals)
  assert means == {
    "loss": pytest.approx(1.0), "accuracy": pytest.approx(0.5)
  }
  assert all(type(value) is float for value in means.values())


def test_totals_of_nothing_have_no_means():
  assert state.means(state.zero_totals()) == {}
  # A task may have no scores, such as a language model.
  totals = state.add(state.zero_totals(()), jnp.float32(2), {})
  assert state.means(totals) == {"loss": 2.0}


def test_totals_keep_their_structure_and_type():
  before = state.zero_totals()
  after = state.add(before, jnp.float32(1), {"accuracy": jnp.float32(1)})
  assert jax.tree.structure(before) == jax.tree.structure(after)
  for leaf in jax.tree.leaves((before, after)):
    assert leaf.dtype == jnp.float32 and leaf.shape == ()
  # No two leaves may share memory where the state is donated.
  leaves = jax.tree.leaves(before)
  pointers = {leaf.unsafe_buffer_pointer() for leaf in leaves}
  assert len(pointers) == 3


def test_the_carry_alone_is_split_over_the_devices():
  mesh = parallel.mesh()
  now = state.State(
    step=jnp.int32(3), weights={"w": jnp.ones(8)}, stats=(), arch=(),
    weights_opt=(), arch_opt=(), totals=state.zero_totals(),
    carry=state.Carry(train={"h": jnp.arange(8.0)}),
  )
  found = state.place(now, mesh)
  whole, split = PartitionSpec(), PartitionSpec(parallel.AXIS)
  assert found.weights["w"].sharding.spec == whole
  assert found.carry.train["h"].sharding.spec == split
  assert found.carry.train["h"].addressable_shards[1].data.shape == (2,)
  np.testing.assert_array_equal(found.carry.train["h"], np.arange(8))
