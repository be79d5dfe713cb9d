"""Data of one's own: by import path, as arrays, and the example of it."""

import pathlib
import sys

import numpy as np
import pytest

from jnas.data import sources

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"
X = np.random.default_rng(0).integers(0, 256, (20, 5, 4, 3), np.uint8)
Y = np.arange(20) % 2


@pytest.fixture
def module(tmp_path, monkeypatch):
  """Writes mine.py into the working directory."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, "path", list(sys.path))

  def write(body):
    (tmp_path / "mine.py").write_text("import numpy as np\n" + body)
    monkeypatch.delitem(sys.modules, "mine", raising=False)

  yield write
  sys.modules.pop("mine", None)


def test_a_function_by_its_import_path(module):
  module(
    "def data(path):\n  n = int(path)\n  return {'x': np.zeros((n, 4, 4),"
    " np.uint8), 'y': [i % 2 for i in range(n)], 'classes': ['no', 'yes']}"
  )
  data = sources.load("mine:data", "30", limit=10)
  assert data.train_x.shape == (10, 4, 4, 1) and data.train_y.shape == (10,)
  assert data.classes == ("no", "yes") and len(data.test_x) == 6


@pytest.mark.parametrize(
  "body, message",
  [
    ("", "has no attribute 'data'"),
    ("1 / 0", "ZeroDivisionError: division by zero"),
    ("def data(path):\n  raise RuntimeError('x' * 9999)", "RuntimeError: xxx"),
    ("def data(): pass", "TypeError"),
    ("def data(path): return 3", "expected a dict of arrays .* found a int"),
    ("def data(path): return {'z': 3}", "x, y.* in 'mine:data'; found z"),
    ("def data(path): return {'x': 3, 'y': 4}", "uint8 .N, H, W, C."),
  ],
)
def test_a_function_that_gives_no_data(module, body, message):
  module(body)
  with pytest.raises(ValueError, match=message) as error:
    sources.load("mine:data")
  assert len(str(error.value)) <= 2000


def test_a_module_that_is_not_there(module):
  with pytest.raises(ValueError, match="No module named 'nowhere_at_all'"):
    sources.load("nowhere_at_all:data")
  for name in ("mine:", ":data", "a b:c"):
    with pytest.raises(ValueError, match="one of the data sets"):
      sources.load(name)


def test_arrays():
  data = sources.from_arrays(X, Y, X[:7], Y[:7], ["no", "yes"])
  np.testing.assert_array_equal(data.train_x, X)
  np.testing.assert_array_equal(data.test_y, Y[:7])
  assert data.classes == ("no", "yes") and data.train_y.dtype == np.int32
  assert data.mean == sources.moments(X)[0]
  data = sources.from_arrays(X[..., 0], Y.tolist(), limit=10)
  assert data.train_x.shape == (10, 5, 4, 1) and len(data.test_x) == 4
  assert data.classes == ("0", "1")


@pytest.mark.parametrize(
  "arrays, message",
  [
    ((X / 255, Y), "multiply by 255"),
    ((X, Y[:5]), "one integer label"),
    ((X, Y, X), "found object|one integer label"),
    ((X, Y, X[:, 1:], Y), "images of one shape"),
    ((X, Y, None, None, ["only one"]), "between 0 and 0"),
    (("text", Y), "uint8"),
  ],
  ids=range(6),
)
def test_arrays_that_are_no_data(arrays, message):
  with pytest.raises(ValueError, match=message):
    sources.from_arrays(*arrays)


def test_the_example(monkeypatch):
  monkeypatch.syspath_prepend(EXAMPLES)
  data = sources.load("own_data:stripes", "6")
  assert data.train_x.shape == (1600, 12, 12, 1)
  assert data.classes == ("flat", "steep", "up", "down")
  assert len((EXAMPLES / "own_data.py").read_text().splitlines()) < 100
  means = np.abs(np.fft.fft2(data.train_x[..., 0] - 128.0))
  means = np.stack([means[data.train_y == i].mean(0) for i in range(4)])
  test = np.abs(np.fft.fft2(data.test_x[:, None, :, :, 0] - 128.0))
  found = ((test - means) ** 2).sum((2, 3)).argmin(1)
  assert (found == data.test_y).mean() > 0.95  # there is something to learn
