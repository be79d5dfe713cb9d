"""Sets that TFDS has prepared, read while training, without TensorFlow."""

import io
import json
import shutil
import subprocess
import sys

from made_up_images import CLASSES, folder
import numpy as np
from PIL import Image
import pytest

from jnas.data import decoding, prepared, sources, stream
from jnas.data import files as files_lib
from jnas.data.fingerprint import fingerprint

pytest.importorskip("array_record")
tfds = pytest.importorskip("tensorflow_datasets")


def prepare(root, place, splits=("train", "validation"), blank=False):
  """Returns the folder of a set with the images of a folder."""

  class Tiny(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
      return tfds.core.DatasetInfo(
        builder=self,
        features=tfds.features.FeaturesDict(
          {
            "image": tfds.features.Image(
              shape=(None, None, 3), encoding_format="jpeg"
            ),
            "label": tfds.features.ClassLabel(names=CLASSES),
          }
        ),
        supervised_keys=("image", "label"),
      )

    def _split_generators(self, manager):
      names = {"train": "train", "validation": "val", "test": "val"}
      return {s: self._generate_examples(names[s], s) for s in splits}

    def _generate_examples(self, part, split):
      for path in sorted((root / part).rglob("*.JPEG")):
        label = -1 if blank and split == "test" else path.parent.name
        contents = path.read_bytes()
        yield path.name, {"image": io.BytesIO(contents), "label": label}

  builder = Tiny(data_dir=str(place), file_format="array_record")
  builder.download_and_prepare()
  return place / "tiny" / "1.0.0"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  place = tmp_path_factory.mktemp("tfds")
  root = folder(place / "set")
  for path in root.rglob("*_1.JPEG"):  # TFDS has colour in all
    Image.open(path).convert("RGB").save(path)
  splits = "train", "validation", "test"
  return prepare(root, place / "data", splits, blank=True), root, place


def load(made, **reading):
  return sources.load(
    "imagenet", made[0], cache_dir=made[2] / "cache", size=16, **reading
  )


def test_a_set_holds_what_was_put_in(made):
  data = load(made)
  assert data.classes == CLASSES and len(data.train_y) == 24
  # The test split has no labels.
  assert len(data.test_y) == 9 and data.test_x.names[0] == b"validation/0"
  reply = decoding.decode(stream.request(data.test_x))
  assert not reply.failed
  sums = sorted(reply.images.sum((1, 2, 3)).tolist())
  plain = sources.load("imagenet", made[1], size=16)
  others = decoding.decode(stream.request(plain.test_x)).images
  assert sums == sorted(others.sum((1, 2, 3)).tolist())
  for label in range(3):  # of its colour
    own = reply.images[data.test_y == label].mean((0, 1, 2))
    assert own.argmax() == label
  assert "tensorflow" not in sys.modules


@pytest.mark.slow
def test_any_number_of_processes_and_any_step(made):
  def reader(workers):
    data = load(made, workers=workers)
    return stream.Batches(
      files_lib.FileSplit(data.train_x, data.train_y), batch=5,
      rows=slice(0, 5), seed=1, name="train", least=0.08, ahead=2,
    )

  own = reader(1)
  expected = [own.fetch(step, 9) for step in range(5)]
  for workers in (2, 4):
    other = reader(workers)
    for step in (*range(5), 3, 0):
      for a, b in zip(other.fetch(step, 9), expected[step], strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_knows_it_by_its_files(made, tmp_path):
  data = load(made)
  copy = tmp_path / "1.0.0"
  shutil.copytree(made[0], copy)
  same = sources.load("imagenet", copy, cache_dir=tmp_path / "a", size=16)
  assert fingerprint(*same) == fingerprint(*data)
  with open(next(copy.glob("*train*")), "ab") as file:
    file.write(b"\0")
  assert fingerprint(*same) != fingerprint(*data)


def test_labels_are_read_once(made, monkeypatch):
  load(made)
  monkeypatch.setattr(prepared, "_labels", None)  # a call would fail
  load(made)


@pytest.mark.parametrize(
  "change, message",
  [
    (lambda d: d.__setitem__("fileFormat", "tfrecord"), "kept as tfrecord"),
    (lambda d: d.pop("supervisedKeys"), "no pair of an image and a class"),
    (lambda d: d.pop("name"), "expected an image-classification set"),
  ],
)
def test_other_sets_are_refused(made, tmp_path, change, message):
  copy = shutil.copytree(made[0], tmp_path / "1.0.0")
  path = copy / "dataset_info.json"
  record = json.loads(path.read_text())
  change(record)
  path.write_text(json.dumps(record))
  with pytest.raises(ValueError, match=message) as error:
    sources.load("imagenet", copy, cache_dir=tmp_path)
  assert "\n" not in str(error.value)


def test_code_of_others_is_not_imported(made, tmp_path):
  copy = shutil.copytree(made[0], tmp_path / "1.0.0")
  path = copy / "features.json"
  text = path.read_text()
  path.write_text(text.replace("tensorflow_datasets.core.features.image", "my"))
  with pytest.raises(ValueError, match="my_feature.Image, which is not TFDS"):
    sources.load("imagenet", copy, cache_dir=tmp_path)


def test_without_tfds_it_is_named(made, monkeypatch):
  prepared._builder.cache_clear()
  prepared._source.cache_clear()
  monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
  with pytest.raises(ValueError, match="Run pip install tensorflow-datasets"):
    prepared._labels(made[0])


@pytest.mark.slow
def test_without_array_record_it_is_named(made):
  program = f"""import pathlib, sys
sys.modules["array_record"] = None
from jnas.data import prepared
prepared._labels(pathlib.Path({str(made[0])!r}))"""
  ended = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, text=True
  )
  assert "Run pip install array_record." in ended.stderr.splitlines()[-1]


def test_damage_is_told(made, tmp_path):
  prepared._builder.cache_clear()
  copy = shutil.copytree(made[0], tmp_path / "1.0.0")
  (record,) = copy.glob("*train*")
  record.write_bytes(record.read_bytes()[:100])
  with pytest.raises(ValueError) as error:
    sources.load("imagenet", copy, cache_dir=tmp_path)
  assert "\n" not in str(error.value)
