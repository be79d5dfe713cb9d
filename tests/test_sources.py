"""The other sources, and what is done alike to the data of all of them."""

import gzip
import struct
import sys
import types

from made_up_files import unpack
import numpy as np
import pytest

from jnas.data import sources

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("JNAS_CACHE", str(tmp_path / "cache"))
  return tmp_path / "cache"


def idx_files(train=20, test=10, dot="-", compress=gzip.compress, end=".gz"):
  files, arrays = {}, []
  for part, n in (("train", train), ("t10k", test)):
    x = RNG.integers(0, 256, (n, 5, 4), np.uint8)
    y = (np.arange(n) % 3).astype(np.uint8)
    arrays += [x[..., None], y]
    files[f"{part}-images{dot}idx3-ubyte{end}"] = compress(
        bytes((0, 0, 8, 3)) + struct.pack(">3I", n, 5, 4) + x.tobytes())
    files[f"{part}-labels{dot}idx1-ubyte{end}"] = compress(
        bytes((0, 0, 8, 1)) + struct.pack(">I", n) + y.tobytes())
  return files, arrays


@pytest.mark.parametrize("form", [
    {}, {"compress": bytes, "end": ""},
    {"compress": bytes, "end": "", "dot": "."}])
def test_idx(tmp_path, form):
  files, arrays = idx_files(**form)
  data = sources.load("idx", unpack(tmp_path, files))
  for found, expected in zip(data[:4], arrays, strict=True):
    np.testing.assert_array_equal(found, expected)
  assert data.classes == ("0", "1", "2")


def test_wrong_idx_files(tmp_path):
  files, _ = idx_files(compress=bytes, end="")
  name = "train-images-idx3-ubyte"
  for i, wrong in enumerate((
      files[name][:-1], files[name] + b"x", files[name][:7], b"",
      files["train-labels-idx1-ubyte"], b"\0\0\x0d\3" + files[name][4:])):
    with pytest.raises(ValueError, match="3 axes in .*train-images"):
      sources.load("idx", unpack(tmp_path / str(i), {**files, name: wrong}))
  packed, _ = idx_files()
  packed[name + ".gz"] = packed[name + ".gz"][:-20]
  with pytest.raises(ValueError, match="truncated, damaged"):
    sources.load("idx", unpack(tmp_path / "gz", packed))
  with pytest.raises(ValueError, match="one integer label for each of 20"):
    sources.load("idx", unpack(tmp_path / "n", {
        **files, "train-labels-idx1-ubyte":
            idx_files(19, 10, compress=bytes, end="")[0][
                "train-labels-idx1-ubyte"]}))
  del files["t10k-labels-idx1-ubyte"]
  with pytest.raises(FileNotFoundError, match="t10k-labels-idx1-ubyte.gz or"):
    sources.load("idx", unpack(tmp_path / "m", files))


def test_npz(tmp_path):
  x = RNG.integers(0, 256, (20, 5, 4), np.uint8)
  y = np.arange(20) % 2
  np.savez(tmp_path / "four.npz", train_x=x, train_y=y[:, None], test_x=x[:7],
           test_y=y[:7].astype(np.uint8), classes=["no", "yes"])
  data = sources.load("npz", tmp_path / "four.npz")
  np.testing.assert_array_equal(data.train_x, x[..., None])
  np.testing.assert_array_equal(data.test_y, y[:7])
  assert data.classes == ("no", "yes")
  np.savez(tmp_path / "two.npz", x=x, y=y)
  data = sources.load("npz", tmp_path / "two.npz")
  assert data.train_x.shape == (16, 5, 4, 1) and data.classes == ("0", "1")


def test_wrong_npz(tmp_path):
  x, y = np.zeros((6, 4, 4, 3), np.uint8), np.arange(6) % 2

  def raises(match, **arrays):
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises(ValueError, match=match):
      sources.load("npz", tmp_path / "w.npz")

  raises("found images, y", images=x, y=y)
  raises("multiply by 255", x=x / 255, y=y)
  raises("uint8 \\[N, H, W, C\\], at least one", x=x[:0], y=y[:0])
  raises("uint8 \\[N, H, W, C\\]", x=x[0, 0], y=y)
  raises("one integer label for each of 6", x=x, y=y[:5])
  raises("one integer label", x=x, y=y / 2)
  raises("found none of 1", x=x, y=2 * y)
  raises("found -1 to 0", x=x, y=-y)
  raises("two classes", x=x, y=0 * y)
  raises("numbered from 0; found 4000000000", x=x, y=y * 4_000_000_000)
  raises("of one shape", train_x=x, train_y=y, test_x=x[:, 1:], test_y=y)
  raises("between 0 and 1; found 2 to 2", train_x=x, train_y=y, test_x=x,
         test_y=0 * y + 2)
  raises("plain arrays", x=np.array([{}], object), y=y)
  (tmp_path / "w.npz").write_bytes((tmp_path / "w.npz").read_bytes()[:-9])
  with pytest.raises(ValueError, match="damaged"):
    sources.load("npz", tmp_path / "w.npz")


def fake_tfds(monkeypatch, splits, error=None):
  """Puts a stand-in for TFDS (which needs TensorFlow) in its place."""
  info = types.SimpleNamespace(
      supervised_keys=("image", "label"), splits=splits,
      features={"label": types.SimpleNamespace(names=["cat", "dog"])})
  calls = []

  def builder(name, data_dir):
    calls.append((name, data_dir))
    if error:
      raise error
    return types.SimpleNamespace(
        info=info, download_and_prepare=lambda: None,
        as_dataset=lambda split, **_: splits[split])

  module = types.SimpleNamespace(builder=builder, as_numpy=iter)
  monkeypatch.setitem(sys.modules, "tensorflow", types.ModuleType("tensorflow"))
  monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)
  return calls


def test_tfds_is_needed_once(monkeypatch, cache):
  pairs = [(np.full((2, 2, 3), i, np.uint8), i % 2) for i in range(10)]
  calls = fake_tfds(monkeypatch, {
      "train": pairs, "validation": pairs[:2], "test": pairs[:4]})
  first = sources.load("tfds:some/set:1.0.0")
  monkeypatch.setitem(sys.modules, "tensorflow", None)
  second = sources.load("tfds:some/set:1.0.0")
  assert calls == [("some/set:1.0.0", None)]
  for data in (first, second):
    np.testing.assert_array_equal(data.train_x[:, 0, 0, 0], np.arange(10))
    np.testing.assert_array_equal(data.train_y, np.arange(10) % 2)
    assert len(data.test_x) == 4 and data.classes == ("cat", "dog")


def test_wrong_tfds_sets(monkeypatch):
  fake_tfds(monkeypatch, {"train": [(np.zeros((2, i, 3), np.uint8), i)
                                    for i in (1, 2)]})
  with pytest.raises(ValueError, match="its images differ in shape"):
    sources.load("tfds:uneven")
  fake_tfds(monkeypatch, {"all": []})
  with pytest.raises(ValueError, match=r"splits \['all'\], no 'train'"):
    sources.load("tfds:whole")
  fake_tfds(monkeypatch, {}, ConnectionError(
      "host unreachable\nstack\nDid you mean: minst -> mnist ?"))
  with pytest.raises(ValueError, match="unreachable Did you mean.* network"):
    sources.load("tfds:minst")
  monkeypatch.setitem(sys.modules, "tensorflow", None)
  with pytest.raises(ValueError, match="pip install tensorflow"):
    sources.load("tfds:mnist")


def test_digits():
  data = sources.load("digits")
  assert data.train_x.shape == (1438, 8, 8, 1) and len(data.test_x) == 359
  assert data.train_x.min() == 0 and data.train_x.max() == 255
  from sklearn.datasets import load_digits
  true = load_digits()
  everything = np.concatenate([data.train_x, data.test_x])[..., 0]
  np.testing.assert_array_equal(
      np.sort(everything.reshape(1797, 64).astype(int) @ np.arange(64)),
      np.sort(np.round(true.images * 255 / 16).reshape(1797, 64).astype(int)
              @ np.arange(64)))
  assert np.bincount(data.test_y).min() >= 34


def test_synthetic_can_be_learnt():
  data, other = sources.load("synthetic"), sources.load("synthetic", seed=1)
  assert data.train_x.shape == (2000, 16, 16, 3) and len(data.classes) == 10
  assert (data.train_x[0] != other.train_x[0]).any()
  means = np.stack([data.train_x[data.train_y == i].mean(0) for i in range(10)])
  distance = ((data.test_x[:, None] - means) ** 2).sum((2, 3, 4))
  assert (distance.argmin(1) == data.test_y).mean() > 0.9


@pytest.mark.parametrize("limit", [10, 33, 500])
def test_limit(limit):
  data, again, other = (
      sources.load("digits", limit=limit, seed=seed) for seed in (0, 0, 1))
  assert len(data.train_x) == len(data.train_y) == limit
  assert len(data.test_x) == min(limit, 359)
  counts = np.bincount(data.train_y, minlength=10)
  assert counts.min() >= 1 and np.ptp(counts) <= 3
  np.testing.assert_array_equal(data.train_x, again.train_x)
  assert (data.train_x != other.train_x).any()
  whole = sources.load("digits")
  assert data.mean == whole.mean
  rows = {x.tobytes(): y for x, y in zip(whole.train_x, whole.train_y,
                                         strict=True)}
  assert all(rows[x.tobytes()] == y
             for x, y in zip(data.train_x, data.train_y, strict=True))


def test_quota_leaves_no_class_out():
  counts = np.array([1000, 1, 1, 0, 50])
  for total in (4, 5, 20, 1000, 1052):
    quota = sources._quota(counts, total)
    assert quota.sum() == total and (quota <= counts).all()
    assert (quota[counts > 0] >= 1).all()
  np.testing.assert_array_equal(
      sources._quota(np.array([5000] * 10), 25_000), [2500] * 10)


@pytest.mark.parametrize("share", [0.5, 0.8, 0.1])
def test_split(share):
  y = np.repeat(np.arange(5), [40, 40, 41, 7, 12])  # in class order
  a, b = sources.split(y, share, 3)
  np.testing.assert_array_equal(np.sort(np.concatenate([a, b])), np.arange(140))
  assert len(a) == round(share * 140)
  counts = np.bincount(y[a], minlength=5)
  assert (abs(counts - share * np.bincount(y)) < 1).all()
  for part in (a, b):  # no prefix of either half is in class order
    assert len(np.unique(y[part[:len(part) // 2]])) >= 3
  np.testing.assert_array_equal(a, sources.split(y, share, 3)[0])
  assert set(a) != set(sources.split(y, share, 4)[0])


@pytest.mark.parametrize("share", [0, 1, -1, 2, 0.001, 0.999])
def test_a_split_has_two_parts(share):
  with pytest.raises(ValueError, match="leaves both parts an image"):
    sources.split(np.zeros(10, int), share, 0)


def test_moments():
  x = RNG.integers(0, 256, (300, 5, 4, 3), np.uint8)
  x[..., 2] = 51
  mean, std = sources.moments(x)
  np.testing.assert_allclose(mean, (x / 255).mean((0, 1, 2)), rtol=1e-12)
  np.testing.assert_allclose(
      std, [*(x / 255).std((0, 1, 2))[:2], 1.0], rtol=1e-12)


def test_wrong_arguments(tmp_path):
  for name, hint in (("cifar", "cifar10"), ("digit", "digits"),
                     ("synthetik", "synthetic"), ("tfds:", "tfds:<name>")):
    with pytest.raises(ValueError, match=f"Did you mean '{hint}'"):
      sources.load(name)
  with pytest.raises(ValueError, match="one of the data sets"):
    sources.load("qqq")
  with pytest.raises(ValueError, match="expected no path for digits"):
    sources.load("digits", tmp_path)
  with pytest.raises(ValueError, match="at least one image for each of 10"):
    sources.load("digits", limit=9)
  with pytest.raises(ValueError, match="limit >= 0 and seed >= 0"):
    sources.load("digits", limit=-1)
  for name in ("cifar10", "idx", "folder", "npz"):
    with pytest.raises(FileNotFoundError, match="empty path"):
      sources.load(name)
    with pytest.raises(FileNotFoundError, match="nearest folder that exists"):
      sources.load(name, tmp_path / "no" / "where")


def test_search_subsets_are_drawn_by_class(tmp_path):
  rng = np.random.default_rng(0)
  y = np.repeat(np.arange(5), [40, 40, 80, 80, 160])
  x = rng.integers(0, 256, (len(y), 2, 2, 1), np.uint8)
  x[..., 0] = y[:, None, None]
  path = tmp_path / "data.npz"
  np.savez(path, train_x=x, train_y=y, test_x=x, test_y=y)
  tenth = sources.load("npz", path, portion=0.125)
  assert np.bincount(tenth.train_y).tolist() == [5, 5, 10, 10, 20]
  assert len(tenth.test_y) == len(y)
  # PC-DARTS: 10 % for the weights, 2.5 % for alpha.
  first, second = sources.split(tenth.train_y, 0.8, 0)
  assert np.bincount(tenth.train_y[first]).tolist() == [4, 4, 8, 8, 16]
  assert np.bincount(tenth.train_y[second]).tolist() == [1, 1, 2, 2, 4]
  three = sources.load("npz", path, classes=3)
  again = sources.load("npz", path, classes=3, portion=0.5)
  with pytest.raises(ValueError, match="at most the 5 classes .* got 6"):
    sources.load("npz", path, classes=6)
  assert three.classes == again.classes and len(three.classes) == 3
  for part in (three, again):
    old = [int(part.classes[label]) for label in part.train_y]
    np.testing.assert_array_equal(part.train_x[:, 0, 0, 0], old)
    assert sorted(np.unique(part.test_y)) == [0, 1, 2]
  assert 2 * len(again.train_y) == len(three.train_y)
