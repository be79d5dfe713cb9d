"""Evaluation of one batch on one replica's share of it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jnas import hypergrad
from jnas.data import augment, device
from jnas.spaces import cnn
from jnas.training import losses

Array = jax.Array
Metrics = dict[str, Array]
Mean = Callable[[Any], Any]


def eval_step(
  network: cnn.Network,
  *,
  mean: tuple[float, ...],
  std: tuple[float, ...],
  average: Mean = hypergrad.identity,
  own_statistics: bool = False,
) -> Callable[..., Metrics]:
  """A function (weights, stats, edge weights, split, index, present) -> means.

  Evaluates one batch; each of loss and accuracy is the mean over the whole
  batch of what is `present`, so that the sum over all batches, times the batch
  size, is the total.

  Args:
    network: what is evaluated.
    mean: of each channel, for the normalisation.
    std: of each channel.
    average: over replicas.
    own_statistics: whether normalisations use those of the batch, and not the
      running ones.
  """

  def step(weights, stats, edge_weights, split, index, present):
    x, y = device.take(split, index)
    x = augment.normalise(x, mean, std, jnp.float32)
    (logits, _), _ = network.apply(
      {"params": weights, "batch_stats": stats},
      x,
      edge_weights,
      train=own_statistics,
      mutable=["batch_stats"],
    )
    loss = losses.cross_entropy(logits, y)
    right = losses.correct(logits, y)
    return average(
      {"loss": (loss * present).mean(), "accuracy": (right * present).mean()}
    )

  return step
