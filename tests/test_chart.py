"""Charts: where marks and numbers stand, worked out by hand."""

import base64
import io
import re

from PIL import Image
import pytest

from jnas.report import chart, draw


def test_a_line_stands_where_its_numbers_say():
  mark = chart.Mark("a", [(0, 0.0), (5, 1.0), (10, 0.5)], "#123456")
  figure = chart.figure("x", [mark], limits=(0.0, 2.0))
  left, top, width, height = figure.data["chart"]["box"]
  path = re.search(r'class="line" stroke="#123456" d="M([^"]*)"', figure.svg)[1]
  found = [tuple(map(float, point.split())) for point in path.split("L")]
  # One percent of the range beside the curve, on either side.
  at = [width * (x + 0.1) / 10.2 for x in (0, 5, 10)]
  want = zip(at, (height, height / 2, height * 3 / 4), strict=True)
  for one, two in zip(found, want, strict=True):
    assert one == pytest.approx(two, abs=0.06)


def test_a_line_of_one_point_is_a_dot():
  mark = chart.Mark("a", [(3, 1.0)], "#123456")
  assert 'class="dots" fill="#123456"' in chart.figure("x", [mark]).svg


def test_a_logarithm_makes_factors_distances():
  mark = chart.Mark("a", [(k, 10.0**-k) for k in range(4)], "#123456")
  svg = chart.figure("x", [mark], log=True).svg
  path = re.search(r'class="line"[^>]* d="M([^"]*)"', svg)[1]
  ys = [float(point.split()[1]) for point in path.split("L")]
  steps = [b - a for a, b in zip(ys, ys[1:], strict=False)]
  assert steps == pytest.approx([steps[0]] * 3, abs=0.1)
  assert re.findall(r">(0\.\d+|1)</text>", svg)[:4] == [
    *("0.001", "0.01", "0.1", "1"),
  ]


@pytest.mark.parametrize(
  "values",
  [
    *([0.0], [5.0, 5.0], [-1e300, 1e300], [1e-300, 2e-300], [0.0, 0.0, 1e-9]),
    *([1e20, 1e20 + 1e5], [-3.0, -3.0], list(range(5000))),
  ],
)
@pytest.mark.parametrize("kind", ["line", "faint", "bars", "dots", "hollow"])
def test_any_numbers_are_drawn(values, kind):
  points = list(enumerate(values))
  svg = chart.figure("x", [chart.Mark("a", points, kind=kind)]).svg
  assert "nan" not in svg and "inf" not in svg
  assert len(svg) < 100_000 or kind not in ("line", "faint")


def test_percentages_have_the_decimals_that_tell_them_apart():
  def ticks(*values):
    mark = chart.Mark("a", list(enumerate(values)))
    svg = chart.figure("x", [mark], form="{:.1%}", last=False).svg
    return re.findall(r">([\d.]+%)</text>", svg)

  assert ticks(0.1, 0.9)[:2] == ["20%", "40%"]
  assert ticks(0.931, 0.935)[:2] == ["93.1%", "93.2%"]
  assert len(set(ticks(0.90001, 0.90002))) == len(ticks(0.90001, 0.90002)) > 2


def test_names_of_levels_overlap_nothing():
  levels = [0.9447, 0.935, 0.9349, 0.8706]
  marks = [
    chart.Mark(f"name {i}", [(0, value)], kind="level")
    for i, value in enumerate(levels)
  ]
  marks.append(chart.Mark("a", [(1, 0.3), (4, 0.93)], "#123456"))
  svg = chart.figure("x", marks, half=False).svg
  ys = re.findall(r'y="([\d.]+)"[^>]*>name \d<', svg)
  ys = sorted(map(float, ys))
  assert len(ys) == 4 and ys[0] >= 9
  assert all(b - a >= 11 for a, b in zip(ys, ys[1:], strict=False))


def test_a_legend_goes_on_in_another_line():
  marks = [chart.Mark("a" * 20 + str(i), [(0, i)]) for i in range(6)]
  svg = chart.figure("x", marks).svg
  places = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" class="ink"', svg)
  assert len({y for _, y in places}) >= 3
  assert all(float(x) + 21 * 6 < chart.WIDTH for x, _ in places)


def test_pixels_of_weights():
  weights = {(0, 2): [[0.0, 0.5], [None, 1.0]]}
  svg = draw.heat("x", ["a", "b"], [1, 2], weights, [], shared=False).svg
  data, scale = re.findall(r"base64,([^\"]*)", svg)
  image = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA")
  shown = [image.getpixel((x, y)) for y in (0, 1) for x in (0, 1)]
  white, middle, gone, dark = shown
  assert (white, dark) == ((255, 255, 255, 255), (13, 18, 63, 255))
  assert gone[3] == 64 and middle[3] == 255
  assert white > middle > dark
  # The scale goes from the least to the most.
  ends = Image.open(io.BytesIO(base64.b64decode(scale))).convert("RGBA")
  assert (ends.getpixel((0, 0)), ends.getpixel((63, 0))) == (white, dark)


def test_text_is_escaped():
  mark = chart.Mark("<b>", [(0, 1)], '"><script>')
  svg = chart.figure("<i>", [mark], x="<u>", y="<s>", rows=["<p>"]).svg
  assert not re.search("<(b|i|u|s|p|script)>", svg)
