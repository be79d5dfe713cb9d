"""What a network that segments predicts, for the report on it."""

from collections.abc import Sequence
import colorsys
from typing import Any

import numpy as np

from jnas.data.segmentation import IGNORED, SegmentationData
from jnas.runs import mistakes
from jnas.training.segmentation import intersections_over_unions

_WIDEST = 256  # pixels of one of three pictures
_GAP = 4  # pixels between them
_GREY = 200


def record(
  data: SegmentationData,
  confusion: np.ndarray,
  shown: Sequence[int],
  predicted: Sequence[np.ndarray],
) -> dict[str, Any]:
  """What segmentation.json holds, as `jnas.report.segmentation` reads it.

  Args:
    data: with the validation images.
    confusion: [K, K] pixels by [true, predicted].
    shown: numbers of validation images.
    predicted: of each of them the class numbers, [H, W].
  """
  palette = colours(data.classes)
  return {
    "classes": list(data.classes),
    "colours": [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in palette.tolist()],
    "IoU": by_class(confusion),
    "confusion": confusion.tolist(),
    "pictures": [
      {
        "image": mistakes.png(
          side_by_side(
            data.valid.x[i], data.valid.sizes[i], found, palette
          ),
          3 * _WIDEST + 2 * _GAP,
        ),
        "accuracy": _accuracy(data.valid.x[i][..., 3], found),
      }
      for i, found in zip(shown, predicted, strict=True)
    ],
  }


def by_class(confusion: np.ndarray) -> list[float | None]:
  """The IoU of each class, as JSON has it: None where there is none.

  >>> by_class(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]))
  [0.75, 0.8, None]
  """
  iou = intersections_over_unions(confusion)
  return [None if np.isnan(v) else float(v) for v in iou]


def _accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
  """The share of pixels that are right, of those that count."""
  right = (labels == predicted)[labels != IGNORED]
  return float(right.mean()) if right.size else 0.0


def colours(classes: Sequence[str]) -> np.ndarray:
  """A colour a class, far from those before it: uint8 [K, 3].

  The background is nearly black; grey is left for what counts nowhere.
  """
  found, hue = [], 0.58
  for i, name in enumerate(classes):
    if name == "background":
      found.append((0.13, 0.14, 0.17))
      continue
    hue = (hue + 0.618034) % 1
    saturation, value = (0.85, 0.6)[i % 2], (0.95, 0.95, 0.7)[i % 3]
    found.append(colorsys.hsv_to_rgb(hue, saturation, value))
  return np.round(255 * np.asarray(found)).astype(np.uint8)


def side_by_side(
  example: np.ndarray,
  size: Sequence[int],
  predicted: np.ndarray,
  palette: np.ndarray,
) -> np.ndarray:
  """Image, truth and prediction: uint8 [h, 3 w + 2 gaps, 3].

  Args:
    example: [H, W, 4], colours and class numbers.
    size: h and w of the image on it.
    predicted: [H, W] class numbers.
    palette: [K, 3].
  """
  h, w = size
  table = np.full((256, 3), _GREY, np.uint8)
  table[: len(palette)] = palette
  gap = np.full((h, _GAP, 3), 255, np.uint8)
  image, truth = example[:h, :w, :3], table[example[:h, :w, 3]]
  return np.concatenate(
    [image, gap, truth, gap, table[predicted[:h, :w]]], axis=1
  )
