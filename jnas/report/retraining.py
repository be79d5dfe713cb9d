"""The section on a network that was trained: what it gets wrong."""

from collections.abc import Sequence
import re

from jnas.report import parts, records

_MOST_CLASSES = 20  # of a matrix that one can read
_MOST_PAIRS = 12
_MOST_IMAGES = 48
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


def mistakes(run: records.Run) -> parts.Section | None:
  """Returns the confusion matrix and the worst mistakes, as images.

  They stand in mistakes.json: {"classes": names, "confusion": [true][predicted]
  counts, "worst": [{"image": PNG in base64, "label", "predicted": numbers of
  classes, "probability": of the predicted}], the surest first}.
  """
  counts, names = _matrix(run)
  if not counts:
    return None
  body: list[parts.Part] = []
  if len(names) <= _MOST_CLASSES:
    body.append(_confusion(counts, names))
  body.append(_pairs(counts, names))
  found = run.mistakes.get("worst")
  images = []
  for one in found if isinstance(found, list) else []:
    known = isinstance(one, dict) and all(
      isinstance(one.get(key), int) and 0 <= one[key] < len(names)
      for key in ("label", "predicted")
    )
    image = one.get("image") if known else None
    if isinstance(image, str) and _BASE64.fullmatch(image):
      words = f"{names[one['predicted']]}, not {names[one['label']]}"
      if records.is_number(one.get("probability")):
        words += f" ({one['probability']:.0%} sure)"
      images.append((image, words))
  if images:
    title = "The worst mistakes, the surest first"
    body.append(parts.Images(title, images[:_MOST_IMAGES]))
  wrong = sum(map(sum, counts)) - sum(row[i] for i, row in enumerate(counts))
  note = f"{wrong:,} of {sum(map(sum, counts)):,} test images are misjudged."
  return parts.Section("Mistakes", body, note)


def _matrix(run: records.Run) -> tuple[list[list[int]], list[str]]:
  """Returns the confusion matrix and the classes; empty if there is none."""
  counts, names = (run.mistakes.get(key) for key in ("confusion", "classes"))
  whole = (
    isinstance(names, list)
    and isinstance(counts, list)
    and len(counts) == len(names) > 0
    and all(isinstance(row, list) and len(row) == len(names) for row in counts)
    and all(records.is_number(v) and v >= 0 for row in counts for v in row)
  )
  return (counts, list(map(str, names))) if whole else ([], [])


def _confusion(
  counts: Sequence[Sequence[int]], names: Sequence[str]
) -> parts.Table:
  rows = []
  for i, row in enumerate(counts):
    total = sum(row) or 1
    cells = [
      parts.Cell(
        f"{count:,}" if count else "",
        count,
        colour=_tint(count / total, right=i == k),
        filled=True,
      )
      for k, count in enumerate(row)
    ]
    rows.append([names[i], *cells, parts.share(row[i] / total)])
  heads = ["true \\ predicted", *names, "right"]
  return parts.Table(rows, heads, "Confusion matrix")


def _tint(part: float, right: bool) -> str:
  """Returns green for what is right and red for what is not; deeper is more."""
  # Few mistakes are many: their colour grows with the root of their share.
  strength = 0.45 * part if right else 0.85 * part**0.5
  colour = "31, 157, 77" if right else "217, 58, 58"
  return f"rgba({colour}, {strength:.3f})"


def _pairs(
  counts: Sequence[Sequence[int]], names: Sequence[str]
) -> parts.Table:
  """Returns the classes that are most often taken for others."""
  pairs = [
    (count, names[i], names[k], count / (sum(row) or 1))
    for i, row in enumerate(counts)
    for k, count in enumerate(row)
    if i != k and count
  ]
  pairs.sort(key=lambda pair: (-pair[0], pair[1:3]))
  rows = [
    (true, predicted, f"{count:,}", f"{share:.1%}")
    for count, true, predicted, share in pairs[:_MOST_PAIRS]
  ]
  heads = ("class", "taken for", "images", "of the class")
  return parts.Table(rows, heads, "Most frequent confusions", half=True)
