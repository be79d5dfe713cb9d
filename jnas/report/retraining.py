"""The section on a network that was trained: what it gets wrong."""

from collections.abc import Sequence

from jnas.report import parts, records

_MOST_CLASSES = 20  # of a matrix that one can read
_MOST_PAIRS = 12
_MOST_IMAGES = 48


def mistakes(run: records.Run) -> parts.Section | None:
  """Returns the confusion matrix and the worst mistakes, as images.

  They stand in mistakes.json: {"classes": names, "confusion": [true][predicted]
  counts, "worst": [{"image": PNG in base64, "label", "predicted": numbers of
  classes, "probability": of the predicted}], the surest first}.
  """
  if not run.mistakes:
    return None
  try:
    names = [str(name) for name in run.mistakes["classes"]]
    counts = [[int(v) for v in row] for row in run.mistakes["confusion"]]
    body = _tables(counts, names)
    images = [
      (
        str(one["image"]),
        f"{names[one['predicted']]}, not {names[one['label']]} "
        f"({one['probability']:.0%} sure)",
      )
      for one in run.mistakes["worst"]
    ]
  except parts.UNREADABLE as error:
    return parts.unreadable("Mistakes", "mistakes.json", error)
  if images:
    title = "The worst mistakes, the surest first"
    body.append(parts.Images(title, images[:_MOST_IMAGES]))
  total = sum(map(sum, counts))
  wrong = total - sum(row[i] for i, row in enumerate(counts))
  note = f"{wrong:,} of {total:,} test images are misjudged."
  return parts.Section("Mistakes", body, note)


def _tables(
  counts: Sequence[Sequence[int]], names: Sequence[str]
) -> list[parts.Part]:
  """Returns the matrix, if one can read it, and the largest of it."""
  rows, pairs = [], []
  for i, (name, row) in enumerate(zip(names, counts, strict=True)):
    total, cells = sum(row) or 1, []
    for k, (other, count) in enumerate(zip(names, row, strict=True)):
      share = count / total
      # Few mistakes are many: their colour grows with the root of their share.
      strength = 0.45 * share if i == k else 0.85 * share**0.5
      colour = "31, 157, 77" if i == k else "217, 58, 58"
      tint = f"rgba({colour}, {strength:.3f})"
      text = f"{count:,}" if count else ""
      cells.append(parts.Cell(text, count, colour=tint, filled=True))
      if i != k and count:
        pairs.append((-count, name, other, f"{count:,}", f"{share:.1%}"))
    rows.append([name, *cells, parts.share(row[i] / total)])
  heads = ["true \\ predicted", *names, "right"]
  matrix = parts.Table(rows, heads, "Confusion matrix")
  heads = ("class", "taken for", "images", "of the class")
  most = [pair[1:] for pair in sorted(pairs)[:_MOST_PAIRS]]
  table = parts.Table(most, heads, "Most frequent confusions", half=True)
  return [matrix, table] if len(names) <= _MOST_CLASSES else [table]
