"""What a trained network gets wrong, for the report on it."""

import base64
import io
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jnas.data import augment, sources
from jnas.spaces import cnn
from jnas.training.state import State, evaluated

_WORST = 24  # mistakes that are kept as images
_SIDE = 96  # pixels, the most that such an image has


def find(
  network: cnn.Network, state: State, data: sources.ImageData, batch: int
) -> dict[str, Any]:
  """Returns what mistakes.json holds, as `jnas.report.retraining` reads it.

  Args:
    network: that was trained.
    state: with its weights and batch statistics; of an edge's weights, if they
      are fixed.
    data: whose test images are judged.
    batch: so many at a time.
  """
  own = evaluated(state), state.arch or None
  (weights, stats), edges = jax.device_get(own)

  @jax.jit
  def judge(weights: Any, stats: Any, edges: Any, x: jax.Array) -> jax.Array:
    x = augment.normalise(x, data.mean, data.std, jnp.float32)
    variables = {"params": weights, "batch_stats": stats}
    logits, _ = network.apply(variables, x, edges, train=False)
    return jax.nn.softmax(logits.astype(jnp.float32))

  parts = []
  for start in range(0, len(data.test_x), batch):
    x = data.test_x[start : start + batch]
    # The last batch is filled up: one program serves all.
    full = np.concatenate([x, np.repeat(x[-1:], batch - len(x), 0)])
    parts.append(np.asarray(judge(weights, stats, edges, full))[: len(x)])
  return summary(np.concatenate(parts), data)


def summary(
  probabilities: np.ndarray, data: sources.ImageData
) -> dict[str, Any]:
  """Returns the confusion matrix and the surest mistakes.

  Args:
    probabilities: of each test image, [N, classes].
    data: with the images and labels.
  """
  count = len(data.classes)
  predicted, sure = probabilities.argmax(-1), probabilities.max(-1)
  confusion = np.zeros((count, count), int)
  np.add.at(confusion, (data.test_y, predicted), 1)
  wrong = np.flatnonzero(predicted != data.test_y)
  worst = wrong[np.argsort(-sure[wrong], kind="stable")][:_WORST]
  return {
    "classes": list(map(str, data.classes)),
    "confusion": confusion,
    "worst": [
      {
        "image": png(data.test_x[i], _SIDE),
        "label": int(data.test_y[i]),
        "predicted": int(predicted[i]),
        "probability": float(sure[i]),
      }
      for i in worst
    ],
  }


def png(image: np.ndarray, most: int) -> str:
  """Returns an image, uint8 [H, W, C], as a PNG file in base64.

  It has at most so many pixels on a side.
  """
  gray = image.shape[-1] not in (3, 4)
  picture = Image.fromarray(image[..., 0] if gray else image)
  picture.thumbnail((most, most))
  file = io.BytesIO()
  picture.save(file, "PNG")
  return base64.b64encode(file.getvalue()).decode()
