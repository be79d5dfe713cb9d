"""Losses, and the objective that a network and a loss make together."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from jnas.spaces import cnn

Array = jax.Array


class Batch(NamedTuple):
  """Examples as a network takes them.

  Attributes:
    x: inputs; [N, H, W, C] normalised images.
    y: targets; [N] class numbers.
    keys: [N], one typed key an example, for what is drawn per example.
    carry: what the batch before has handed on, [N, ...]; of images nothing.
  """

  x: Array
  y: Array
  keys: Array
  carry: Any = ()


class Outcome(NamedTuple):
  """What comes out of a training batch beside the loss.

  Attributes:
    stats: new batch statistics.
    scores: scalars by name.
    carry: for the next batch.
    scale: of the optimizer's step, for batches that are smaller than others;
      None where all are alike.
  """

  stats: Any
  scores: Mapping[str, Array]
  carry: Any = ()
  scale: Array | None = None


# (params, batch statistics, edge weights or None, batch, rates by name of
# `cnn.drop_factors` or None) -> (loss, outcome).
Objective = Callable[..., tuple[Array, Outcome]]


def cross_entropy(
  logits: Array, labels: Array, smoothing: float = 0.0
) -> Array:
  """The cross entropy of each example in nats: [N].

  With smoothing s the target is (1 - s) one-hot + s / K.

  Args:
    logits: [N, K].
    labels: [N] class numbers.
    smoothing: s in [0, 1).
  """
  _check(logits, labels)
  log_p = jax.nn.log_softmax(logits)
  right = jnp.take_along_axis(log_p, labels[:, None], axis=-1)[:, 0]
  return -(1 - smoothing) * right - smoothing * log_p.mean(-1)


def correct(logits: Array, labels: Array) -> Array:
  """One where the largest logit is the label's, else zero: [N]."""
  _check(logits, labels)
  return (logits.argmax(-1) == labels).astype(logits.dtype)


def _check(logits: Array, labels: Array) -> None:
  """Raises at trace time where labels would be compared with other examples."""
  chex.assert_rank(logits, 2)
  chex.assert_shape(labels, logits.shape[:1])
  chex.assert_type(labels, int)


def classification(
  network: cnn.Network, *, auxiliary: float = 0.0, smoothing: float = 0.0
) -> Objective:
  """The training objective of an image network.

  The loss is the mean cross entropy, plus `auxiliary` times that of the
  auxiliary head. Normalisations use the statistics of the batch, through which
  every derivative goes, second ones too; the running statistics come out
  beside the loss and only a weight step keeps them.

  Args:
    network: what is trained.
    auxiliary: weight of the auxiliary loss; the spec has the head if not 0.
    smoothing: label smoothing of both losses.
  """

  def objective(params, stats, edge_weights, batch, rates):
    drop = None
    if rates is not None:
      drop = cnn.drop_factors(batch.keys, network.spec, **rates)
    (logits, extra), new = network.apply(
      {"params": params, "batch_stats": stats},
      batch.x,
      edge_weights,
      drop,
      train=True,
      mutable=["batch_stats"],
    )
    loss = cross_entropy(logits, batch.y, smoothing).mean()
    if auxiliary:
      loss += auxiliary * cross_entropy(extra, batch.y, smoothing).mean()
    accuracy = correct(logits, batch.y).mean()
    return loss, Outcome(new["batch_stats"], {"accuracy": accuracy})

  return objective
