"""The task of segmentation: to say the class of each pixel."""

from collections.abc import Callable
from typing import Any

import chex
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from jnas import hypergrad
from jnas.data import augment, device, scaled_crops
from jnas.data.segmentation import IGNORED
from jnas.runtime import keys
from jnas.spaces import cnn, segment
from jnas.training import losses
from jnas.training.batches import Draw
from jnas.training.losses import Outcome

Array = jax.Array
Mean = Callable[[Any], Any]


def cross_entropy(logits: Array, labels: Array) -> tuple[Array, Array]:
  """The cross entropy of each pixel in nats, and whether it counts.

  Args:
    logits: [N, H, W, K].
    labels: [N, H, W] class numbers, or IGNORED.

  Returns:
    [N, H, W], zero where a pixel is ignored; and [N, H, W] of zeros and ones.
  """
  chex.assert_rank(logits, 4)
  chex.assert_shape(labels, logits.shape[:3])
  counts = labels != IGNORED
  known = jnp.where(counts, labels, 0).astype(jnp.int32)
  log_p = jax.nn.log_softmax(logits)
  right = jnp.take_along_axis(log_p, known[..., None], axis=-1)[..., 0]
  return jnp.where(counts, -right, 0), counts.astype(logits.dtype)


def objective(
  network: segment.Network, mean: Mean = hypergrad.identity
) -> losses.Objective:
  """The training objective: the mean cross entropy of the pixels that count.

  That is their mean in the whole batch, so a replica's sum is divided by the
  mean number of them over the replicas.

  Args:
    network: what is trained.
    mean: over replicas.
  """

  def of_batch(params, stats, edge_weights, batch, rates):
    del edge_weights
    drop = None
    if rates is not None:
      drop = cnn.drop_factors(batch.keys, network.backbone.spec, **rates)
    own = jax.vmap(jax.random.fold_in, (0, None))(batch.keys, 1)
    logits, new = network.apply(
      {"params": params, "batch_stats": stats},
      batch.x,
      drop,
      own,
      train=True,
      mutable=["batch_stats"],
    )
    loss, counts = cross_entropy(logits, batch.y)
    total = jnp.maximum(mean(counts.sum()), 1)
    right = (logits.argmax(-1) == batch.y).sum()
    scores = {"accuracy": right / total}
    return loss.sum() / total, Outcome(new["batch_stats"], scores)

  return of_batch


def confusion(predicted: Array, labels: Array, classes: int) -> Array:
  """How many pixels of each class are taken for each: int32 [K, K].

  Args:
    predicted: [N, H, W] class numbers; the columns.
    labels: [N, H, W] class numbers, the rows, or IGNORED.
    classes: K.
  """
  counts = labels != IGNORED
  pairs = jnp.where(counts, labels, 0).astype(jnp.int32) * classes + predicted
  found = jnp.zeros(classes**2, jnp.int32)
  found = found.at[pairs.ravel()].add(counts.ravel().astype(jnp.int32))
  return found.reshape(classes, classes)


def intersections_over_unions(confusion: np.ndarray) -> np.ndarray:
  """The IoU of each class [K]; NaN of one that is neither there nor predicted.

  True positives over true and false positives and false negatives, all of the
  whole set (Everingham et al. 2010, section 4.1.2), not a mean over images.

  Args:
    confusion: [K, K] counts by [true, predicted].

  >>> intersections_over_unions(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]))
  array([0.75, 0.8 ,  nan])
  """
  both = np.diag(confusion).astype(float)
  either = confusion.sum(0) + confusion.sum(1) - both
  return np.divide(
    both, either, out=np.full_like(both, np.nan), where=either > 0
  )


def means(confusion: np.ndarray, loss: float) -> dict[str, float]:
  """What is written of an evaluation.

  Args:
    confusion: over the whole set.
    loss: sum over the pixels that count.
  """
  total = max(int(confusion.sum()), 1)
  found = intersections_over_unions(confusion)
  return {
    "loss": loss / total,
    "accuracy": float(np.trace(confusion)) / total,
    "mean_IoU": float(np.nanmean(found)) if confusion.any() else 0.0,
  }


def eval_step(
  network: segment.Network,
  *,
  mean: tuple[float, ...],
  std: tuple[float, ...],
  total: Mean = hypergrad.identity,
  joined: Mean = hypergrad.identity,
) -> Callable[..., dict[str, Array]]:
  """A function (weights, stats, split, index, present) -> sums over a batch.

  They are the "loss" of all pixels that count, their "confusion" [K, K], and
  what is "predicted": uint8 [N, H, W]. Images are evaluated whole, at one
  scale, with running statistics.

  Args:
    network: what is evaluated.
    mean: of each colour, for the normalisation.
    std: of each colour.
    total: the sum over replicas.
    joined: the batch of all replicas.
  """

  def step(weights, stats, split, index, present):
    x, _ = device.take(split, index)
    labels = jnp.where(present[:, None, None] > 0, x[..., 3], IGNORED)
    logits = network.apply(
      {"params": weights, "batch_stats": stats},
      augment.normalise(x[..., :3], mean, std),
      train=False,
    )
    predicted = logits.argmax(-1)
    counts = confusion(predicted, labels, network.classes)
    loss = cross_entropy(logits, labels)[0].sum()
    sums = total({"loss": loss, "confusion": counts})
    return sums | {"predicted": joined(predicted.astype(jnp.uint8))}

  return step


def draw(
  *,
  seed: int | Array,
  batch: int,
  local: int,
  offset: Callable[[int], Array],
  mean: tuple[float, ...],
  std: tuple[float, ...],
  crop: int,
  scales: tuple[float, float],
  flip: bool,
) -> Draw:
  """Random views of the images of a split, with their classes.

  Args:
    seed, batch, local, offset: as of `batches.image_draw`.
    mean, std: of each colour, for the normalisation.
    crop, scales, flip: as of `scaled_crops.draw`.
  """

  def drawn(split: device.Split, name: str, step: Array) -> losses.Batch:
    order = device.indices(
      keys.stream(seed, f"{name}/order"), step, len(split), batch
    )
    start = offset(local)
    x, sizes = device.take(split, lax.dynamic_slice(order, (start,), (local,)))
    positions = start + jnp.arange(local)
    noise, paths = (
      keys.per_example(keys.stream(seed, f"{name}/{what}", step), positions)
      for what in ("augment", "paths")
    )
    x, y = scaled_crops.scaled_crops(
      noise, x, sizes, mean, std, crop=crop, scales=scales, flip=flip
    )
    return losses.Batch(x, y, paths)

  return drawn
