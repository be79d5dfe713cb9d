"""What a trained network gets wrong: found, and shown."""

import base64
import io
import json

from made_up_runs import make_retrain, make_search, write_json
import numpy as np
from PIL import Image
import pytest
from test_report import page_of

from jnas.data import sources
from jnas.runs import mistakes


def data(count=6, channels=3, classes=("ant", "bee", "cat")):
  rng = np.random.default_rng(0)
  x = rng.integers(0, 256, (count, 4, 4, channels)).astype(np.uint8)
  y = np.arange(count, dtype=np.int32) % len(classes)
  return sources.ImageData(x, y, x, y, classes, (0.5,), (0.5,))


def test_summary_by_hand():
  found = data()
  # Images 0 to 5 are ant, bee, cat, ant, bee, cat; 1, 2 and 5 are misjudged.
  judged = np.array([0, 2, 1, 0, 1, 0])
  probabilities = np.full((6, 3), 0.1)
  probabilities[np.arange(6), judged] = [0.9, 0.6, 0.8, 0.9, 0.9, 0.7]
  result = mistakes.summary(probabilities, found)
  assert result["classes"] == ["ant", "bee", "cat"]
  assert result["confusion"].tolist() == [[2, 0, 0], [0, 1, 1], [1, 1, 0]]
  worst = [(w["label"], w["predicted"]) for w in result["worst"]]
  assert worst == [(2, 1), (2, 0), (1, 2)]
  assert [w["probability"] for w in result["worst"]] == [0.8, 0.7, 0.6]
  png = io.BytesIO(base64.b64decode(result["worst"][0]["image"]))
  np.testing.assert_array_equal(np.asarray(Image.open(png)), found.test_x[2])


@pytest.mark.parametrize("channels, mode", [(1, "L"), (2, "L"), (3, "RGB")])
def test_images_of_any_channels_are_kept(channels, mode):
  (first, *_) = mistakes.summary(np.eye(3)[[1] * 6], data(6, channels))["worst"]
  png = io.BytesIO(base64.b64decode(first["image"]))
  assert Image.open(png).mode == mode


def test_they_are_shown(tmp_path):
  run = make_retrain(tmp_path / "run")
  assert "Mistakes" not in page_of(run).text
  probabilities = np.eye(3)[[0, 2, 2, 0, 1, 2]]
  found = mistakes.summary(probabilities, data())
  write_json(run / "mistakes.json", found | {
    "confusion": found["confusion"].tolist()
  })
  page = page_of(run)
  for words in (
    "1 of 6 test images are misjudged",
    "Confusion matrix",
    "beecat150.0%",  # a pair, its count and its share
    "cat, not bee (100% sure)",
  ):
    assert words in page.text, words
  images = [x for x in page.links if x.startswith("data:image/png")]
  assert f"data:image/png;base64,{found['worst'][0]['image']}" in images
  # Of many classes there are the pairs alone.
  names = tuple(map(str, range(30)))
  found = mistakes.summary(np.eye(30)[[3] * 60], data(60, 1, names))
  write_json(run / "mistakes.json", found | {
    "confusion": found["confusion"].tolist()
  })
  page = page_of(run).text
  assert "Confusion matrix" not in page and "Most frequent confusions" in page


@pytest.mark.parametrize(
  "content",
  [
    *("[]", "{", "{}", '{"classes": ["a"], "confusion": [[1, 2]]}'),
    '{"classes": ["a"], "confusion": [["x"]], "worst": 7}',
    '{"classes": ["a"], "confusion": [[1]], "worst": [{"image": "a"}]}',
  ],
)
def test_half_a_record_is_survived(tmp_path, content):
  run = make_retrain(tmp_path / "run")
  (run / "mistakes.json").write_text(content)
  assert "Confusion matrix" not in page_of(run).text


def test_what_a_record_smuggles_in_is_escaped(tmp_path):
  run = make_retrain(tmp_path / "run")
  image = {"image": 'aa"><script>alert(1)</script>', "label": 0, "predicted": 0}
  record = {"classes": ["<b>"], "confusion": [[4]]}
  record["worst"] = [image | {"probability": 0.5}]
  write_json(run / "mistakes.json", record)
  page = page_of(run)
  assert "<b>, not <b> (50% sure)" in page.text
  assert "<script>alert" not in (run / "report.html").read_text()


def test_a_retraining_leads_to_its_search_and_its_comparison(tmp_path):
  search = make_search(tmp_path / "all" / "darts" / "seed0")
  page_of(search)
  own = make_retrain(tmp_path / "own")
  assert "the search" not in page_of(own).text
  g = json.loads((search / "genotype.json").read_text())
  write_json(own / "genotype.json", g | {"source": "../all/darts/seed0"})
  page = page_of(own)
  assert "the search of its genotype" in page.text
  assert "../all/darts/seed0/report.html" in page.links
  # As a comparison lays it out.
  write_json(tmp_path / "all" / "config.json", {"task": "compare"})
  page = page_of(make_retrain(search / "retrain"))
  assert {"../report.html", "../../../report.html"} <= set(page.links)
  assert "../../report.html" in page_of(search).links
  assert "its comparison" in page_of(search).text
