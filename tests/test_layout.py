"""Tests of the drawings' layout, on every published cell."""

import pytest

from jnas import genotype as genotype_lib
from jnas.runs import draw, layout


def all_cells():
  for zoo in (genotype_lib.ZOO, genotype_lib.RECURRENT_ZOO):
    for name, g in zoo.items():
      for title, arguments in layout.cells(g).items():
        yield pytest.param(arguments, id=f"{type(g).__name__}-{name}-{title}")


@pytest.mark.parametrize("arguments", list(all_cells()))
def test_layout_overlaps_nothing(arguments):
  plan = layout.layout(*arguments)
  for i, a in enumerate(plan.boxes):
    assert a.width / 2 <= a.x <= plan.width - a.width / 2
    assert a.height / 2 <= a.y <= plan.height - a.height / 2
    if a.kind not in ("node", "port"):
      assert layout.text_width(a.text) < a.width
    for b in plan.boxes[:i]:
      apart = abs(a.x - b.x) > (a.width + b.width) / 2
      assert apart or abs(a.y - b.y) > (a.height + b.height) / 2
  rows = arguments[0]
  links = sum(map(len, rows))
  assert len(plan.edges) == 2 * links + len(arguments[3])
  for kind, points in plan.edges:
    if kind != "concat" and len(points) == 2:
      continue  # may be the link from a chip to its own node
    for (xa, ya), (xb, yb) in zip(points, points[1:], strict=False):
      for box in plan.boxes:
        half = box.width / 2 - 1e-6  # an edge touches where it ends
        beside = xb <= box.x - half or xa >= box.x + half
        over = max(ya, yb) < box.y - box.height / 2
        under = min(ya, yb) > box.y + box.height / 2
        assert beside or over or under, (kind, box)


def test_every_operator_has_a_family():
  known = genotype_lib.OPERATIONS + genotype_lib.RECURRENT_OPERATIONS
  assert {draw.family(op) for op in known} <= set(draw.FAMILIES)


def test_spread_is_the_least_squares_answer():
  wanted, least = [3.0, 1.0, 2.0, 9.0], [1.0, 2.0, 1.0]
  found = layout._spread(wanted, least)
  assert found == pytest.approx([2 / 3, 5 / 3, 11 / 3, 9.0])
