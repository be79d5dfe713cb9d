"""Tests of the drawings' layout, on every published cell."""

import itertools

import pytest

from jnas import genotype as genotype_lib
from jnas.report import draw, layout


def nas_bench_201(ops):
  nodes = [
    [(ops[i * (i - 1) // 2 + j], j) for j in range(i)] for i in (1, 2, 3)
  ]
  return genotype_lib.NasBench201Genotype(nodes)


def all_cells():
  normal = [g.normal for g in genotype_lib.ZOO.values() if len(g.normal) == 8]
  stack = genotype_lib.StackGenotype(normal, range(2, 6))
  for title, arguments in layout.cells(stack).items():
    yield pytest.param(arguments, id=title)
  # Every way in which edges of NAS-Bench-201 may be left out.
  for present in itertools.product((True, False), repeat=6):
    g = nas_bench_201(["avg_pool_3x3" if p else "none" for p in present])
    (arguments,) = layout.cells(g).values()
    yield pytest.param(arguments, id="".join("01"[p] for p in present))
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


def test_nas_bench_201_has_four_nodes_and_no_none():
  ops = ["none", "nor_conv_3x3", "skip_connect"] * 2
  (arguments,) = layout.cells(nas_bench_201(ops)).values()
  boxes = layout.layout(*arguments).boxes
  assert [b.text for b in boxes if b.kind == "port"] == ["0"]
  assert [b.text for b in boxes if b.kind == "node"] == ["1", "2", "3"]
  kinds = [b.kind for b in boxes if b.kind not in ("port", "node")]
  assert sorted(kinds) == ["nor_conv_3x3"] * 2 + ["skip_connect"] * 2
  # The output stands to the right of everything, be it fed by node 0 alone.
  for last in (ops[3:], ["skip_connect", "none", "none"]):
    (arguments,) = layout.cells(nas_bench_201(ops[:3] + last)).values()
    boxes = layout.layout(*arguments).boxes
    far = max(box.x for box in boxes)
    assert [box.text for box in boxes if box.x == far] == ["3"]


def test_equal_cells_of_a_stack_are_drawn_once():
  one, two = [[(op, 0), (op, 1)] for op in ("skip_connect", "none")]
  stack = genotype_lib.StackGenotype([one, one, one, two, one, one], [2])
  assert list(layout.cells(stack)) == [
    "Layers 0, 1, 5 (normal)",
    "Layers 2, 4 (reduction)",
    "Layer 3 (normal)",
  ]


def test_every_operator_has_a_family():
  known = genotype_lib.OPERATIONS + genotype_lib.RECURRENT_OPERATIONS
  known += genotype_lib.NAS_BENCH_201_OPERATIONS
  fixed = layout.cells(genotype_lib.ZOO["GDAS_F1"]).values()
  known += tuple(op for rows, *_ in fixed for row in rows for op, _ in row)
  found = {draw.family(op) for op in known}
  assert found <= set(draw.FAMILIES) - {"other operator"}


def test_spread_is_the_least_squares_answer():
  wanted, least = [3.0, 1.0, 2.0, 9.0], [1.0, 2.0, 1.0]
  found = layout.spread(wanted, least)
  assert found == pytest.approx([2 / 3, 5 / 3, 11 / 3, 9.0])
