"""Files that mean harm, or are merely odd: one short sentence each."""

import bz2
import gzip
import io
import os
import pickle
import struct
import tarfile
import tracemalloc
import zipfile

from made_up_files import pack, png, tree_files, unpack
import numpy as np
from PIL import Image
import pytest
from test_cifar import cifar_files, python2_pickle, small

from jnas.data import benchmark, limits, pickles, sources, text

__all__ = ["small"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
  monkeypatch.setenv("JNAS_CACHE", str(tmp_path / "cache"))
  return tmp_path / "cache"


@pytest.fixture
def tight(monkeypatch):
  """Budgets of a mebibyte, so that little is too much."""
  few = {what: min(most, 2**20) for what, most in limits._BUDGETS.items()}
  few["files of a data set"] = 1000
  monkeypatch.setattr(limits, "_BUDGETS", few)


def refused(call, *args, **kwargs):
  """Returns the message of a ValueError, which is short."""
  tracemalloc.start()
  try:
    with pytest.raises((ValueError, FileNotFoundError)) as error:
      call(*args, **kwargs)
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  assert peak < 2**26
  message = str(error.value)
  assert type(error.value) in (ValueError, FileNotFoundError)
  assert len(message) <= 2000
  return message


def test_budget_is_multiplied(monkeypatch):
  monkeypatch.setenv("JNAS_DATA_BUDGET", "0.5")
  assert limits.budget("lines of a table") == 500_000
  with pytest.raises(ValueError, match="JNAS_DATA_BUDGET to 2 or more"):
    limits.spend("lines of a table", 1_500_000, "x")
  for wrong in ("-1", "much", "nan", "inf", "0"):
    monkeypatch.setenv("JNAS_DATA_BUDGET", wrong)
    with pytest.raises(ValueError, match="number above 0 in the environment"):
      limits.budget("lines of a table")


@pytest.mark.parametrize(
  "name", ["folder", "npz", "idx", "cifar10", "table", "text"]
)
@pytest.mark.parametrize("kind", ["pipe", "device", "~nobody", "long", "nul"])
def test_no_regular_file(tmp_path, name, kind):
  path = {
    "pipe": tmp_path / "pipe",
    "device": "/dev/zero",
    "~nobody": "~nobody-of-this-name/x",
    "long": "x" * 10**5,
    "nul": "a\0b",
  }[kind]
  os.mkfifo(tmp_path / "pipe")
  load = {"table": benchmark.load, "text": text.load}.get(name)
  refusal = refused(load, path) if load else refused(sources.load, name, path)
  assert "xpected" in refusal


def test_a_pipe_among_the_images(tmp_path):
  folder = unpack(tmp_path / "d", tree_files())
  os.mkfifo(folder / "train" / "cat" / "9.png")
  assert "regular file" in refused(sources.load, "folder", folder)


def test_a_folder_with_a_dangling_link(tmp_path):
  folder = unpack(tmp_path / "d", tree_files())
  (folder / "note").symlink_to("nowhere")
  assert len(sources.load("folder", folder).train_x) == 6


@pytest.mark.parametrize("packing", [gzip.compress, bz2.compress])
def test_a_bomb(tmp_path, tight, packing):
  (tmp_path / "t.csv").write_bytes(packing(bytes(2**22)))
  assert "bytes of a table" in refused(benchmark.load, tmp_path / "t.csv")
  for head, words in (
    (b"", "the header 00000000"),
    (b"\0\0\x08\3\0\0\2\0\0\0\2\0\0\0\2\0", "bytes of a data set"),
    (b"\0\0\x08\3\0\0\0\1\0\0\0\1\0\0\0\1", "2 bytes of data or more"),
  ):
    bomb = packing(head + bytes(2**22))
    unpack(tmp_path, {"train-images-idx3-ubyte": bomb})
    assert words in refused(sources.load, "idx", tmp_path)
  path = pack(tmp_path / "t.tar", {"a/b.txt": bytes(2**22)}, "w")
  path.write_bytes(packing(path.read_bytes()))
  assert "bytes of a data set" in refused(sources.load, "folder", path)


def test_a_large_file_in_an_archive(tmp_path, tight):
  files = tree_files() | {"train/cat/8.png": bytes(2**20 + 1)}
  path = pack(tmp_path / "t.tar", files, "w")
  assert "JNAS_DATA_BUDGET" in refused(sources.load, "folder", path)
  folder = unpack(tmp_path / "d", files)
  assert "bytes of a file" in refused(sources.load, "folder", folder)


def test_a_sparse_member(tmp_path):
  member = tarfile.TarInfo("cat/a.png")
  header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
  header[156:157] = tarfile.GNUTYPE_SPARSE
  header[483:495] = b"0100000000000"[:12]  # 64 GiB and more, of holes
  header[148:156] = b" " * 8
  header[148:156] = b"%06o\0 " % sum(header)
  (tmp_path / "t.tar").write_bytes(bytes(header) + bytes(10240 - 512))
  message = refused(sources.load, "folder", tmp_path / "t.tar")
  assert "sparse" in message


def test_a_header_that_claims_much(tmp_path):
  member = tarfile.TarInfo("x")
  member.type, member.size = tarfile.XHDTYPE, 2**33
  (tmp_path / "t.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) * 2)
  assert "claims" in refused(sources.load, "folder", tmp_path / "t.tar")


def test_many_members(tmp_path, tight):
  path = pack(tmp_path / "t.tar", {f"{i}": b"" for i in range(1100)}, "w")
  limits._BUDGETS["bytes of a data set"] = 2**24
  assert "files of a data set" in refused(sources.load, "folder", path)
  folder = unpack(tmp_path / "d", {f"{i}": b"" for i in range(1100)})
  assert "files of a data set" in refused(sources.load, "folder", folder)


def test_a_large_image(tmp_path):
  buffer = io.BytesIO()
  Image.new("1", (13000, 13000)).save(buffer, "PNG")
  folder = unpack(tmp_path, {"a/0.png": buffer.getvalue(), "b/0.png": png(0)})
  assert "pixels of an image" in refused(sources.load, "folder", folder)


def test_an_image_of_another_format(tmp_path):
  buffer = io.BytesIO()
  Image.new("RGB", (4, 4)).save(buffer, "EPS")  # which Ghostscript would read
  folder = unpack(tmp_path, {"a/0.png": buffer.getvalue(), "b/0.png": png(0)})
  assert "cannot be decoded" in refused(sources.load, "folder", folder)


def npz(path, change=None, **arrays):
  np.savez(path, **arrays)
  contents = bytearray(path.read_bytes())
  if change:
    change(contents)
  path.write_bytes(bytes(contents))
  return path


def set_everywhere(mark, offset, value):
  def change(contents):
    at = contents.find(mark)
    while at >= 0:
      contents[at + offset : at + offset + len(value)] = value
      at = contents.find(mark, at + 1)

  return change


@pytest.mark.parametrize(
  "mark, offset, value",
  [
    (b"PK\1\2", 10, struct.pack("<H", 99)),  # compression
    (b"PK\1\2", 8, b"\1"),  # encrypted
    (b"PK\1\2", 6, struct.pack("<H", 999)),  # version
    (b"\x93NUMPY", 0, b"something"),
    (b"\x93NUMPY", 6, b"\x09"),
    (b"(40, ", 0, b"(10**12, "[:5]),
  ],
  ids=str,
)
def test_a_broken_npz(tmp_path, mark, offset, value):
  x, y = np.zeros((40, 4, 4, 3), np.uint8), np.arange(40) % 2
  path = npz(tmp_path / "x.npz", set_everywhere(mark, offset, value), x=x, y=y)
  refused(sources.load, "npz", path)


def test_an_npz_that_claims_much(tmp_path):
  header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (10%s,), }\n"
  for zeros in (12, 30):
    head = header % (b"0" * zeros)
    member = b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as packed:
      packed.writestr("x.npy", member)
    assert "smaller than" in refused(sources.load, "npz", tmp_path / "x.npz")
  with zipfile.ZipFile(tmp_path / "x.npz", "w") as packed:
    packed.writestr("x", b"no array")
  refused(sources.load, "npz", tmp_path / "x.npz")


def test_an_npz_bomb(tmp_path, tight):
  np.savez_compressed(tmp_path / "x.npz", x=np.zeros(2**22, np.uint8), y=[0])
  message = refused(sources.load, "npz", tmp_path / "x.npz")
  assert "bytes of a data set" in message


@pytest.mark.parametrize(
  "classes",
  [3, [1.5, 2.5], ["a", "\ud800"], [["a"], ["b"]], [True, False], [1j, 2j]],
  ids=str,
)
def test_classes_that_are_no_names(tmp_path, classes):
  x, y = np.zeros((6, 4, 4, 3), np.uint8), np.arange(6) % 2
  path = npz(tmp_path / "x.npz", x=x, y=y, classes=np.array(classes))
  assert "list of" in refused(sources.load, "npz", path)


@pytest.mark.parametrize("kind", [np.uint8, np.uint64, np.int64])
def test_labels_of_any_whole_type(tmp_path, kind):
  x, y = np.zeros((10, 4, 4, 3), np.uint8), (np.arange(10) % 2).astype(kind)
  data = sources.load("npz", npz(tmp_path / "x.npz", x=x, y=y))
  assert data.train_y.dtype == np.int32 and set(data.train_y) == {0, 1}


def cifar(tmp_path, **changed):
  files, _, _ = cifar_files("cifar10", "python")
  files |= {f"cifar/{name}": contents for name, contents in changed.items()}
  return refused(sources.load, "cifar10", unpack(tmp_path, files))


@pytest.mark.parametrize("big", [2**32, 2**40, 10**30, -(2**32)])
def test_labels_do_not_wrap(tmp_path, small, big):
  pixels = np.zeros((6, 3072), np.uint8)
  labels = pickle.dumps({"data": pixels, "labels": [big] * 6}, 2)
  assert "test_batch" in cifar(tmp_path, test_batch=labels)
  if abs(big) < 2**63:
    array = np.full(6, big)
    labels = pickle.dumps({"data": pixels, "labels": array}, 2)
    assert "between 0 and 9" in cifar(tmp_path, test_batch=labels)


def shared(depth):
  value = (1,)
  for _ in range(depth):
    value = (value, value)
  return value


@pytest.mark.parametrize(
  "value",
  [
    {"label_names": 3},
    {"label_names": shared(60)},
    {"label_names": [shared(60)] * 10},
    {"labels": shared(60), "data": 3},
    {"data": 1, 3: 4},
  ],
  ids=["int", "shared", "list of shared", "labels", "number as key"],
)
def test_odd_values_of_a_pickle(tmp_path, small, value):
  contents = pickle.dumps(value)
  cifar(tmp_path, **{"batches.meta": contents})
  cifar(tmp_path, test_batch=contents)


def test_a_key_that_takes_forever_to_hash():
  nested = b"K\1\x85" + b"q\0h\0\x86" * 60
  for contents in (
    b"\x80\2}" + nested + b"K\1s.",  # a key
    b"\x80\2" + nested + b")R.",  # a function
    b"\x80\4" + nested + b"\x8c\1x\x93.",  # the name of one
    b"\x80\2cnumpy\ndtype\n" + nested + b"\x85R.",  # the code of a dtype
  ):
    assert "None of its code" in refused(pickles.read, "x", contents)


@pytest.mark.parametrize(
  "contents",
  [
    b"\x80\2]r\xff\xff\xff\x0f.",  # puts it far out in the memo
    b"\x80\5\x96\xff\xff\xff\xff\0\0\0\0.",  # 4 GiB of bytes
    b"\x80\4B\xff\xff\xff\x7fabc.",
    b"\x80\2\x8b\xff\xff\xff\x7f1.",  # an integer
    b"\x80\2(" + b"U\1a" * 3 + b"d.",
    b"\x80\2N(N(s.",
    b"\x80\2Nb.",
    b"\x80\2e.",
    b"\x80\2}(",
    b"\x80\2c_codecs\nencode\n}b.",  # sets attributes of a function
  ],
  ids=range(10),
)
def test_a_short_pickle_is_little_work(contents):
  refused(pickles.read, "x", contents)


def test_many_values(monkeypatch):
  monkeypatch.setenv("JNAS_DATA_BUDGET", "0.001")
  contents = b"\x80\2" + b"]" * 1001 + b"."
  assert "values of a pickle" in refused(pickles.read, "x", contents)


def test_text_that_is_encoded_again_and_again():
  text = b"X" + struct.pack("<I", 10**6) + b"a" * 10**6
  again = b"h\0h\1X\6\0\0\0latin1\x86R"
  contents = b"\x80\2(c_codecs\nencode\nq\0" + text + b"q\1" + again * 100
  assert "more bytes" in refused(pickles.read, "x", contents + b"l.")


def test_values_that_are_many_still_pass():
  pixels = np.zeros((50_000, 2), np.uint8)
  contents = python2_pickle(pixels, [3] * 50_000, b"labels")
  assert pickles.read("x", contents)["labels"] == [3] * 50_000


@pytest.mark.parametrize(
  "content, words",
  [
    (b"architecture,x\n" + b"a" * 200_000 + b",5", "field larger"),
    (b"architecture,x\0y\n|a~0|,5", "architecture"),
    (b"architecture," + b"x" * 100_000 + b"\n|a~0|,5,5", "Expected 2 values"),
    (
      b"architecture,x\n" + b"a" * 10**5 + b",5\n" + b"a" * 10**5 + b",5",
      "again in line 3",
    ),
    (b"\x1f\x8b\x08" + b"x" * 100, "truncated, damaged"),
  ],
  ids=range(5),
)
def test_an_odd_table(tmp_path, content, words):
  (tmp_path / "t.csv").write_bytes(content)
  assert words in refused(benchmark.load, tmp_path / "t.csv")


def test_a_cache_that_others_can_write_is_not_used(tmp_path, cache):
  path = pack(tmp_path / "d.tar", tree_files())
  sources.load("folder", path)
  (entry,) = cache.iterdir()
  np.savez(entry, train_x=np.zeros(3))  # what they might put there
  cache.chmod(0o777)
  with pytest.warns(UserWarning, match="others can write"):
    data = sources.load("folder", path)
  assert len(data.train_x) == 6


def test_a_cache_of_nobody(tmp_path):
  path = pack(tmp_path / "d.tar", tree_files())
  with pytest.warns(UserWarning, match="Set JNAS_CACHE"):
    data = sources.load("folder", path, cache_dir="~nobody-of-this-name/x")
  assert len(data.train_x) == 6


def test_long_names_are_cut():
  refused(sources.load, "x" * 10**6)
  refused(sources.load, "digits", "x" * 10**6)
