"""Batches chosen inside the step: what each epoch sees, and what it costs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas.data import device

KEY = jax.random.key(5)


def epoch(key, number, size, batch):
  steps = device.steps_per_epoch(size, batch)
  choose = jax.jit(device.indices, static_argnums=(2, 3))
  return np.concatenate([
      choose(key, number * steps + i, size, batch) for i in range(steps)])


@pytest.mark.parametrize(("size", "batch"), [(12, 4), (13, 4), (7, 7), (5, 1)])
def test_each_example_comes_once_an_epoch(size, batch):
  seen = [epoch(KEY, e, size, batch) for e in range(3)]
  for order in seen:
    assert order.dtype == np.int32
    assert len(order) == size // batch * batch
    assert len(set(order)) == len(order) and set(order) <= set(range(size))
  assert (seen[0] != seen[1]).any() and (seen[1] != seen[2]).any()


def test_epochs_differ_also_in_what_they_drop():
  dropped = {(set(range(13)) - set(epoch(KEY, e, 13, 4))).pop()
             for e in range(20)}
  assert len(dropped) > 5


def test_every_place_is_equally_likely():
  orders = jax.vmap(lambda e: device.permutation(KEY, e, 5))(jnp.arange(4000))
  for place in range(5):
    share = np.bincount(np.asarray(orders[:, place]), minlength=5) / 4000
    np.testing.assert_allclose(share, 0.2, atol=0.03)


def test_a_step_can_be_replayed_alone():
  order = epoch(KEY, 2, 20, 6)
  np.testing.assert_array_equal(device.indices(KEY, 7, 20, 6), order[6:12])
  other = device.indices(jax.random.key(6), 7, 20, 6)
  assert (other != order[6:12]).any()


def test_steps_share_one_program():
  traces = []

  @jax.jit
  def choose(key, step):
    traces.append(step)
    return device.indices(key, step, 50, 8)

  for step in (0, 1, 6, 100, jnp.int32(7)):
    choose(KEY, step)
  assert len(traces) <= 2  # a weak and a strong type of step


def test_take():
  split = jax.device_put(
    device.split(
      np.arange(24, dtype=np.uint8).reshape(6, 2, 2, 1),
      np.arange(6, dtype=np.int32),
    )
  )
  assert split.x.shape == (6, 4) and len(split) == 6
  x, y = jax.jit(device.take)(split, jnp.array([5, 0, 5]))
  np.testing.assert_array_equal(y, [5, 0, 5])
  np.testing.assert_array_equal(x[0, :, :, 0], [[20, 21], [22, 23]])
  np.testing.assert_array_equal(x[:, 0, 0, 0], [20, 0, 20])
  assert x.dtype == jnp.uint8 and x.shape == (3, 2, 2, 1)


def test_a_split_is_placed_as_a_whole():
  last = jax.devices()[-1]
  split = device.split(np.zeros((3, 1)), np.zeros(3, np.int32))
  split = jax.device_put(split, last)
  assert split.x.devices() == split.y.devices() == {last}


@pytest.mark.parametrize(("size", "batch"), [
    (10, 4), (8, 4), (3, 8), (1, 1), (9, 10)])
def test_eval_batches_cover_everything_once(size, batch):
  index, weight = device.eval_batches(size, batch)
  assert index.shape == weight.shape == (-(-size // batch), batch)
  assert index.dtype == np.int32 and weight.dtype == np.float32
  np.testing.assert_array_equal(index[weight == 1], np.arange(size))
  assert set(np.unique(weight)) <= {0, 1} and weight.sum() == size
  assert 0 <= index.min() and index.max() < size


def test_wrong_arguments():
  for batch in (0, -1, 11):
    with pytest.raises(ValueError, match="between 1 and the 10 examples"):
      device.indices(KEY, 0, 10, batch)
  with pytest.raises(ValueError, match="at least one example"):
    device.eval_batches(0, 4)
  with pytest.raises(ValueError, match="at least one example"):
    device.eval_batches(4, 0)
  with pytest.raises(ValueError, match="one typed key"):
    device.indices(jax.random.split(KEY), 0, 10, 2)
  with pytest.raises(ValueError, match="one typed key"):
    device.indices(jax.random.key_data(KEY), 0, 10, 2)
  for x, y in ((np.zeros((3, 1)), np.zeros(2)), (np.zeros((0, 1)), np.zeros(0)),
               (np.zeros((3, 1)), np.zeros((3, 1)))):
    with pytest.raises(ValueError, match="as many images as labels"):
      device.split(x, y)
