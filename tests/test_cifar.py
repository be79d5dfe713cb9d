"""The official CIFAR archives, made small; and pickles that mean harm."""

import os
import pickle
import struct
import types

from made_up_files import pack, tree_files, unpack
import numpy as np
import pytest

from jnas.data import cifar, pickles, sources

RNG = np.random.default_rng(0)


@pytest.fixture
def small(monkeypatch):
  """The official layouts with a few images in each file."""
  forms = {
      "cifar10": cifar.FORMS["cifar10"]._replace(rows=4, test_rows=6),
      "cifar100": cifar.FORMS["cifar100"]._replace(rows=200, test_rows=6)}
  monkeypatch.setattr(cifar, "FORMS", forms)


def python2_pickle(pixels, labels, labels_key):
  """The bytes that Python 2 and numpy 1 wrote: str, not bytes; protocol 2."""
  def text(s):
    return b"T" + struct.pack("<i", len(s)) + s

  def number(i):
    return b"J" + struct.pack("<i", i)

  dtype = (b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" +
           text(b"|") + b"NNN" + number(-1) + number(-1) + b"K\x00tb")
  array = (b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" +
           text(b"b") + b"\x87R(K\x01" + number(pixels.shape[0]) +
           number(pixels.shape[1]) + b"\x86" + dtype + b"\x89" +
           text(pixels.tobytes()) + b"tb")
  return (b"\x80\x02}(" + text(b"data") + array + text(labels_key) + b"](" +
          b"".join(map(number, labels)) + b"e" + text(b"batch_label") +
          text(b"training batch 1 of 5") + b"u.")


def cifar_files(name, version):
  """Returns the files of a small official archive, and x and y by file."""
  form = cifar.FORMS[name]
  start = 0
  files, arrays = {}, {}
  for part in (*form.train, form.test):
    rows = form.test_rows if part == form.test else form.rows
    pixels = RNG.integers(0, 256, (rows, 3072), np.uint8)
    labels = np.arange(start, start + rows) % form.classes
    start += rows
    arrays[part] = (
        np.stack([p.reshape(3, 1024).T.reshape(32, 32, 3) for p in pixels]),
        labels)
    if version == "python":
      files[part] = python2_pickle(
          pixels, labels.tolist(), form.labels.encode())
    else:
      head = [labels[:, None]] if form.classes == 10 else [
          labels[:, None] // 5, labels[:, None]]
      files[f"{part}.bin"] = np.concatenate(
          [*head, pixels], axis=1).astype(np.uint8).tobytes()
  names = [f"class{i}" for i in range(form.classes)]
  if version == "python":
    files[form.meta] = pickle.dumps({form.meta_key: names}, 2)
  else:
    files[form.names] = ("\n".join(names) + "\n\n").encode()
  return {f"cifar/{k}": v for k, v in files.items()}, arrays, names


@pytest.mark.parametrize("packing", ["tar.gz", "folder", "archive in folder"])
@pytest.mark.parametrize("version", ["python", "binary"])
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar(small, tmp_path, name, version, packing):
  files, arrays, names = cifar_files(name, version)
  form = cifar.FORMS[name]
  if packing == "folder":
    path = unpack(tmp_path / "data", files)
  else:
    path = pack(tmp_path / f"{form.url_stem}-{version}.tar.gz", files)
    path = path if packing == "tar.gz" else tmp_path
  data = sources.load(name, path)
  train = [arrays[part] for part in form.train]
  np.testing.assert_array_equal(
      data.train_x, np.concatenate([x for x, _ in train]))
  np.testing.assert_array_equal(
      data.train_y, np.concatenate([y for _, y in train]))
  np.testing.assert_array_equal(data.test_x, arrays[form.test][0])
  np.testing.assert_array_equal(data.test_y, arrays[form.test][1])
  assert data.train_x.dtype == np.uint8 and data.train_y.dtype == np.int32
  assert data.classes == tuple(names)
  assert data.mean == form.mean and data.std == form.std


def test_official_numbers():
  ten, hundred = cifar.FORMS["cifar10"], cifar.FORMS["cifar100"]
  assert len(ten.train) * ten.rows == hundred.rows == 50_000
  assert ten.test_rows == hundred.test_rows == 10_000
  np.testing.assert_allclose(np.multiply(ten.mean, 255), (125.3, 123.0, 113.9),
                             atol=0.06)
  np.testing.assert_allclose(np.multiply(ten.std, 255), (63.0, 62.1, 66.7),
                             atol=0.06)
  assert hundred.std == (0.2675, 0.2565, 0.2761)


@pytest.mark.parametrize(("protocol", "module"), [
    *((p, m) for p in range(4) for m in (b"numpy.core", b"numpy._core")),
    (4, None), (5, None)])
def test_pickles_of_numpy_1_and_2(protocol, module):
  big_endian = np.arange(6, dtype=">i4").reshape(2, 3)
  value = {"a": big_endian, b"b": np.asfortranarray(big_endian),
           "c": np.float32(2.5), "d": [1, 2.5, "x", b"y", None, True]}
  contents = pickle.dumps(value, protocol)
  if module:  # from protocol 4 on the length of a name stands before it
    own = np.arange(0).__reduce__()[0].__module__.rpartition(".")[0].encode()
    contents = contents.replace(own, module)
    assert module in contents
  found = pickles.read("batch", contents)
  np.testing.assert_array_equal(found["a"], big_endian)
  np.testing.assert_array_equal(found["b"], big_endian)
  assert found["c"] == 2.5
  if protocol >= 3:
    assert found["d"] == value["d"]


class Call:
  """Pickles as a call of `function`."""

  def __init__(self, function, *args):
    self.call = function, args

  def __reduce__(self):
    return self.call


@pytest.mark.parametrize("function", [
    os.system, eval, exec, getattr, __import__, np.load, np.dtype,
    types.SimpleNamespace])
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_pickle_runs_nothing(tmp_path, small, function, protocol):
  mark = tmp_path / "mark"
  command = (f"touch {mark}" if function is os.system else
             f"open({str(mark)!r}, 'w')")
  files, _, _ = cifar_files("cifar10", "python")
  files["cifar/data_batch_2"] = pickle.dumps(
      {"data": Call(function, command), "labels": []}, protocol)
  with pytest.raises(ValueError, match="data_batch_2"):
    sources.load("cifar10", pack(tmp_path / "c.tar.gz", files))
  assert not mark.exists()


@pytest.mark.parametrize("contents", [
    pickle.dumps({"data": np.array([{}], object)}),
    pickle.dumps({"data": np.zeros(2, "U3")}),
    pickle.dumps({"data": np.arange(9)})[:-40],
    pickle.dumps([1, 2]), b"", b"cos\nsystem\n(S'true'\ntR.",
    b"\x80\x02}U\x01acnumpy\nndarray\nJ\xff\xff\xff\x7f\x85Rs.garbage"[:9],
])
def test_a_pickle_holds_numbers_only(contents):
  with pytest.raises(ValueError, match="None of its code was run"):
    pickles.read("batch", contents)


def test_a_pickled_array_has_its_bytes():
  contents = python2_pickle(np.zeros((2, 3), np.uint8), [1, 2], b"labels")
  assert pickles.read("b", contents)["data"].shape == (2, 3)
  longer = contents.replace(struct.pack("<i", 3) + b"\x86",
                            struct.pack("<i", 4) + b"\x86")
  assert longer != contents
  with pytest.raises(ValueError, match="damaged"):
    pickles.read("b", longer)


def test_wrong_cifar_files(small, tmp_path):
  files, _, _ = cifar_files("cifar10", "binary")
  short = {**files, "cifar/data_batch_3.bin": bytes(3 * 3073)}
  with pytest.raises(ValueError, match="4 records .* found 9,219 bytes"):
    sources.load("cifar10", unpack(tmp_path / "a", short))
  del files["cifar/data_batch_3.bin"]
  with pytest.raises(ValueError, match="data_batch_3.bin missing among 6"):
    sources.load("cifar10", unpack(tmp_path / "b", files))
  high = {**cifar_files("cifar10", "binary")[0],
          "cifar/test_batch.bin": b"\x0b" * 6 * 3073}
  with pytest.raises(ValueError, match="between 0 and 9 .* found 11 to 11"):
    sources.load("cifar10", unpack(tmp_path / "c", high))
  lacking = {**cifar_files("cifar10", "binary")[0]}
  for i in range(1, 6):
    lacking[f"cifar/data_batch_{i}.bin"] = bytes(4 * 3073)
  with pytest.raises(ValueError, match="found none of class1, class2"):
    sources.load("cifar10", unpack(tmp_path / "d", lacking))
  files, _, _ = cifar_files("cifar10", "python")
  files["cifar/test_batch"] = python2_pickle(
      np.zeros((6, 3071), np.uint8), [0] * 6, b"labels")
  with pytest.raises(ValueError, match=r"found the keys .*\(6, 3071\)"):
    sources.load("cifar10", unpack(tmp_path / "e", files))
  with pytest.raises(ValueError, match="load them as 'folder'"):
    sources.load("cifar10", pack(tmp_path / "t.tar", tree_files()))
