"""The section on a network that segments: IoU by class, and pictures."""

import re

from jnas.report import parts, records

_MOST_PICTURES = 24


def predictions(run: records.Run) -> parts.Section | None:
  """Returns the IoU of each class, and images, truths and predictions.

  They stand in segmentation.json: {"classes": names, "colours": of each,
  "IoU": of each or null, "confusion": [true][predicted] pixels, "pictures":
  [{"image": PNG in base64, "accuracy"}], "epoch"}. The IoU on a test split is
  that of result.json, by the name of the class.
  """
  if not run.segmentation:
    return None
  try:
    tested = dict(run.result.get("test_IoU", {}))
    body = [_table(run.segmentation, tested)]
    pictures = [
      (str(one["image"]), f"{one['accuracy']:.1%} of the pixels are right")
      for one in run.segmentation["pictures"]
    ]
    epoch = f"{run.segmentation['epoch']:.4g}"
  except parts.UNREADABLE as error:
    return parts.unreadable("Segmentation", "segmentation.json", error)
  if pictures:
    title = "Image, truth and prediction"
    body.append(parts.Images(title, pictures[:_MOST_PICTURES], wide=True))
  note = (
    f"After epoch {epoch}, over all validation images at one scale. IoU: of "
    "the pixels that are of a class or are taken for it, the share where both "
    "hold. Grey pixels count nowhere."
  )
  if tested:
    note += " Test images were measured once, at the end."
  return parts.Section("Segmentation", body, note)


def _table(record: dict, tested: dict) -> parts.Table:
  """Returns the classes with their IoU, size and most frequent mistake."""
  names = [str(name) for name in record["classes"]]
  counts = [[int(v) for v in row] for row in record["confusion"]]
  total = sum(map(sum, counts)) or 1
  rows = []
  for i, (name, colour, iou, row) in enumerate(
    zip(names, record["colours"], record["IoU"], counts, strict=True)
  ):
    others = [(n, -k) for k, n in enumerate(row) if k != i and n]
    most, k = max(others, default=(0, 0))
    found = f"{names[-k]} ({most / sum(row):.1%})" if most else "–"
    if not re.fullmatch("#[0-9a-f]{6}", str(colour)):
      raise ValueError(f"expected a colour such as #3576e8, got {colour!r}")
    share = parts.Cell(f"{sum(row) / total:.2%}", sum(row))
    values = [iou, *([tested[name]] if tested else ())]
    shown = [
      parts.Cell(parts.share(v), -1.0 if v is None else float(v))
      for v in values
    ]
    rows.append([parts.Cell(name, colour=str(colour)), *shown, share, found])
  heads = ["class", "IoU", "of the pixels", "mostly taken for"]
  if tested:
    heads[1:2] = ["validation IoU", "test IoU"]
  return parts.Table(rows, heads, "IoU by class")
