"""Evaluation in batches and on devices against all examples at once."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np
import pytest

from jnas.data import device
from jnas.runtime import parallel
from jnas.training import evaluation

IMAGES = dict(mean=(0.5, 0.4), std=(0.2, 0.3))


@pytest.fixture(scope="module")
def images():
  rng = np.random.default_rng(0)
  x = rng.integers(256, size=(10, 6, 6, 2)).astype(np.uint8)
  y = np.arange(10, dtype=np.int32)
  return jax.device_put(device.split(x, y))


class Linear:
  """Stands for a network: linear logits, counting the weights it was given."""

  def apply(self, variables, x, edge_weights, *, train, mutable):
    assert not train and mutable == ["batch_stats"]
    logits = x.reshape(len(x), -1) @ variables["params"]
    stats = variables["batch_stats"]
    return (edge_weights * logits + stats, None), {"batch_stats": stats}


@pytest.mark.parametrize("devices", (1, 2))
@pytest.mark.parametrize("batch", (2, 4, 16))
def test_evaluation_has_each_example_once(images, batch, devices):
  rng = np.random.default_rng(1)
  w = jnp.asarray(rng.normal(size=(72, 10)), jnp.float32)
  stats = jnp.asarray(rng.normal(size=(1, 10)), jnp.float32)
  mesh = parallel.mesh(jax.devices()[:devices])
  whole, shared = PartitionSpec(), PartitionSpec(parallel.AXIS)
  step = parallel.shard_step(
    evaluation.eval_step(Linear(), average=parallel.mean, **IMAGES),
    mesh,
    (whole, whole, whole, whole, shared, shared),
    whole,
  )
  total = {"loss": 0.0, "accuracy": 0.0}
  for index, present in zip(*device.eval_batches(10, batch), strict=True):
    found = step(w, stats, jnp.float32(0.5), images, index, present)
    total = {k: v + batch * float(found[k]) / 10 for k, v in total.items()}

  x = np.asarray(images.x).reshape(10, *images.shape) / 255
  x = (x - np.array(IMAGES["mean"])) / np.array(IMAGES["std"])
  logits = 0.5 * x.reshape(10, -1) @ np.asarray(w) + np.asarray(stats)
  log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  loss = -log_p[np.arange(10), np.asarray(images.y)].mean()
  assert total["loss"] == pytest.approx(loss, rel=1e-4)
  accuracy = (logits.argmax(-1) == np.asarray(images.y)).mean()
  assert total["accuracy"] == pytest.approx(accuracy, abs=1e-6)


def test_statistics_are_those_of_the_batch_if_they_are_to_be(images):
  seen = []

  class Watched(Linear):
    def apply(self, *args, train, mutable):
      seen.append(train)
      return super().apply(*args, train=False, mutable=mutable)

  args = jnp.zeros((72, 10)), jnp.zeros((1, 10)), jnp.float32(1), images
  for own in (False, True):
    step = evaluation.eval_step(Watched(), own_statistics=own, **IMAGES)
    step(*args, jnp.arange(4), jnp.ones(4))
  assert seen == [False, True]
