"""One loop for both levels against two programs, over steps in float64."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import law_rows
import numpy as np
import pytest
import test_steps

from jnas import config as config_lib
from jnas import hypergrad
from jnas.algorithms import base
from jnas.ops.backend import ACCELERATOR, CPU
from jnas.runs import recipe
from jnas.runtime import parallel
from jnas.training import steps


@pytest.fixture(scope="module")
def parts():
  with jax.enable_x64(True):
    return test_steps.build()


def looped(parts, name="first_order", draw=test_steps.draw, **options):
  return steps.looped_step(
    test_steps.algorithm(name),
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
  "name,rate",
  [
    ("first_order", None),
    ("first_order", lambda step: {"path": 0.1 * (step + 1)}),
    ("amended", lambda step: {"path": 0.1 * (step + 1)}),
    ("implicit_cg", None),
  ],
)
def test_states_and_metrics_are_those_of_the_search_step(parts, name, rate):
  got = after(looped(parts, name, rate=rate), parts, 3)
  expected = after(parts.step(name, rate=rate), parts, 3)
  assert jax.tree.structure(got) == jax.tree.structure(expected)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14),
    got,
    expected,
  )
  moved = got[0].arch["cell"] - parts.state.arch["cell"]
  assert float(jnp.abs(moved).min()) > 0.02
  second = [float(numbers["second_order_norm"]) for numbers in got[1]]
  assert (min(second) > 1e-5) == (name != "first_order")


@pytest.mark.usefixtures("x64")
def test_a_known_loss_has_the_value_and_gradient_that_it_is_given():
  at = {"a": jnp.asarray([1.0, -jnp.inf])}, {"b": jnp.asarray(2.0)}
  gradient = {"a": jnp.asarray([3.0, 0.0])}, {"b": jnp.asarray(5.0)}
  loss = hypergrad.known(jnp.asarray(7.0), gradient)
  value, found = jax.value_and_grad(lambda *at: 2 * loss(*at), (0, 1))(*at)
  assert value == 14
  jax.tree.map(
    lambda x, y: np.testing.assert_array_equal(x, 2 * y), found, gradient
  )


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["first_order", "amended"])
def test_two_replicas_are_one(parts, name):
  def half(split, name, step):
    batch = test_steps.draw(split, name, step)
    start = parallel.offset(2)
    return batch._replace(
      x=jax.lax.dynamic_slice_in_dim(batch.x, start, 2),
      y=jax.lax.dynamic_slice_in_dim(batch.y, start, 2),
    )

  whole = PartitionSpec()
  step = parallel.shard_step(
    looped(parts, name, half, mean=parallel.mean),
    parallel.mesh(jax.devices()[:2]),
    (whole,) * 3,
    whole,
  )
  got = step(parts.state, parts.train, parts.valid)
  expected = jax.jit(looped(parts, name))(parts.state, parts.train, parts.valid)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14),
    got,
    expected,
  )


def test_only_what_asks_at_the_present_weights_is_given_a_known_loss():
  named = "first_order", "amended", "implicit_cg", "unrolled"
  given = [base.at_present_weights(base.estimator(name)) for name in named]
  assert given == [True, True, True, False]

  def own(*args):
    return base.estimator("first_order")(*args)

  config = config_lib.load("configs/darts.py:quick", [])
  spec = law_rows.SPEC
  for estimate, expected in ((base.estimator("first_order"), True),
                             (own, False), (None, False)):
    algorithm = test_steps.algorithm()._replace(estimate=estimate)
    for backend in (CPU, ACCELERATOR):
      assert recipe.looped(config, algorithm, spec, backend) == expected
