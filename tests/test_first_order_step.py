"""One program for both levels against two, over several steps in float64."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np
import pytest
import test_steps

from jnas.runtime import parallel
from jnas.training import steps


@pytest.fixture(scope="module")
def parts():
  with jax.enable_x64(True):
    return test_steps.build()


def shared(parts, draw=test_steps.draw, **options):
  return steps.first_order_step(
    test_steps.algorithm(),
    test_steps.objective,
    parts.weights_optimizer,
    parts.arch_optimizer,
    draw,
    seed=0,
    **options,
  )


def after(step, parts, count):
  step, state, metrics = jax.jit(step), parts.state, []
  for _ in range(count):
    state, numbers = step(state, parts.train, parts.valid)
    metrics.append(numbers)
  return state, metrics


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
  "rate", [None, lambda step: {"path": 0.1 * (step + 1)}]
)
def test_states_and_metrics_are_those_of_the_search_step(parts, rate):
  got = after(shared(parts, rate=rate), parts, 3)
  expected = after(parts.step("first_order", rate=rate), parts, 3)
  assert jax.tree.structure(got) == jax.tree.structure(expected)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14),
    got,
    expected,
  )
  moved = got[0].arch["cell"] - parts.state.arch["cell"]
  assert float(jnp.abs(moved).min()) > 0.02


@pytest.mark.usefixtures("x64")
def test_two_replicas_are_one(parts):
  def half(split, name, step):
    batch = test_steps.draw(split, name, step)
    start = parallel.offset(2)
    return batch._replace(
      x=jax.lax.dynamic_slice_in_dim(batch.x, start, 2),
      y=jax.lax.dynamic_slice_in_dim(batch.y, start, 2),
    )

  whole = PartitionSpec()
  step = parallel.shard_step(
    shared(parts, half, mean=parallel.mean),
    parallel.mesh(jax.devices()[:2]),
    (whole,) * 3,
    whole,
  )
  got = step(parts.state, parts.train, parts.valid)
  expected = jax.jit(shared(parts))(parts.state, parts.train, parts.valid)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14),
    got,
    expected,
  )
