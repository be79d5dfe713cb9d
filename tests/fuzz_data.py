"""Data files with mistakes in them, for the fuzzer."""

from collections.abc import Iterator, Mapping
import contextlib
import gzip
import io
import pathlib
import pickle
import pickletools
import tarfile
import tempfile

from hypothesis import strategies as st
import numpy as np
from PIL import Image

from jnas.data import benchmark, cifar, decoding, sources, stream, text
from jnas.data import files as files_lib

# What is given is mostly something sound with a few mistakes in it.

EDITS = st.lists(
  st.tuples(
    st.sampled_from("set insert delete repeat cut".split()),
    st.integers(0, 2**16),
    st.binary(min_size=1, max_size=6)
    | st.sampled_from((b"\0", b"\xff" * 4, b"\xff\xff\xff\x7f", b"9" * 20)),
  ),
  max_size=5,
)
EDITS = st.just([]) | EDITS
ODD = st.sampled_from(
  (
    "",
    "\0",
    "\ud800",
    "\uff11",
    "~nobody-of-this-name",
    "/dev/zero",
    "a" * 4000,
  )
)


def edited(contents: bytes, edits: list[tuple[str, int, bytes]]) -> bytes:
  """Returns contents with mistakes in them."""
  found = bytearray(contents)
  for kind, place, value in edits:
    at = place % (len(found) + 1)
    if kind == "set":
      found[at : at + len(value)] = value
    elif kind == "insert":
      found[at:at] = value
    elif kind == "delete":
      del found[at : at + len(value)]
    elif kind == "repeat":
      found[at:at] = found[at : at + 100 * len(value)]
    else:
      del found[at:]
  return bytes(found)


def _png(value: int, kind: str) -> bytes:
  buffer = io.BytesIO()
  Image.new("RGB", (4, 3), (value, 0, 9)).save(buffer, kind)
  return buffer.getvalue()


_IMAGES = tuple(map(_png, range(7), "PNG BMP GIF JPEG PPM TIFF WEBP".split()))


@st.composite
def tars(draw: st.DrawFn, before: str = "") -> bytes:
  """Tar files; what is wrong in a header has the right checksum."""
  buffer = io.BytesIO()
  names = [f"{before}{c}/{i}.png" for c in ("cat", "dog") for i in (0, 1)]
  names += draw(st.just([]) | st.just(["a.tar", f"{before}cat.tar"]))
  names += draw(st.just([]) | st.lists(st.text(max_size=20) | ODD, max_size=2))
  for name in names:
    name = name.replace("\0", "").encode(errors="replace").decode()
    member = tarfile.TarInfo(name)
    contents = edited(draw(st.sampled_from(_IMAGES)), draw(EDITS))
    member.size = draw(
      st.sampled_from([len(contents)] * 9 + [0, 700, 2**33, 2**40])
    )
    member.type = draw(
      st.sampled_from([b"0"] * 60 + [b"%c" % i for i in b"123567xgLKSV"])
    )
    form = draw(st.sampled_from((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)))
    header = member.tobuf(form, "utf-8", "surrogateescape")
    header = bytearray(edited(header, draw(EDITS))[:512].ljust(512, b"\0"))
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % (sum(header) % 8**6)
    buffer.write(header + contents + bytes(-len(contents) % 512))
  buffer.write(bytes(1024))
  return buffer.getvalue()


_ARRAYS = st.one_of(
  st.tuples(
    st.sampled_from("u1 i4 u8 f4 f8 b1 c8 U3 S2 O M8[s] i4,f8".split()),
    st.lists(st.integers(0, 4), max_size=5),
  ).map(lambda given: np.zeros(given[1], given[0])),
  st.just(np.zeros((4, 3, 3, 1), np.uint8)),
  st.lists(st.integers(-1, 2**63), min_size=1, max_size=4).map(np.array),
  st.just(np.arange(4) % 2),
)


@st.composite
def npz_files(draw: st.DrawFn) -> bytes:
  """Files of numpy.savez: of odd arrays, or with mistakes."""
  buffer = io.BytesIO()
  name = st.sampled_from("x y train_x train_y test_x test_y classes z".split())
  arrays = draw(st.dictionaries(name, _ARRAYS, max_size=5))
  if draw(st.booleans()):
    arrays |= {"x": np.zeros((4, 3, 3, 1), np.uint8), "y": np.arange(4) % 2}
  draw(st.sampled_from((np.savez, np.savez_compressed)))(buffer, **arrays)
  return edited(buffer.getvalue(), draw(EDITS))


@st.composite
def pickle_programs(draw: st.DrawFn) -> bytes:
  """Any operations of pickle, one after the other."""
  codes = st.sampled_from(
    [o.code.encode("latin1") for o in pickletools.opcodes]
  )
  steps = st.tuples(codes, st.binary(max_size=5))
  parts = draw(st.lists(steps, max_size=30))
  head = b"\x80\2" + draw(
    st.sampled_from((b"", b"}", b"](", b"cnumpy\ndtype\n"))
  )
  return head + b"".join(code + value for code, value in parts) + b"."


@st.composite
def pickle_files(draw: st.DrawFn) -> bytes:
  """Pickles of plain values, some of them those of CIFAR."""
  plain = st.one_of(
    st.integers(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.none(),
    st.just(np.zeros((2, 3072), np.uint8)),
    _ARRAYS,
  )
  values = st.recursive(
    plain,
    lambda inner: (
      st.lists(inner, max_size=3)
      | st.tuples(inner, inner)
      | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
  )
  key = st.sampled_from(("data", "labels", "label_names", "batch_label", 3))
  value = draw(st.dictionaries(key, values, max_size=4))
  if draw(st.booleans()):
    value |= {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1]}
  contents = pickle.dumps(value, draw(st.integers(0, 5)))
  return edited(contents, draw(EDITS))


_TABLE = (
  b"index,architecture,cifar10_12,cifar10_200\n0,|a~0|,50.5,90\n"
  b"1,|b~0|,40,80.25\n"
)
_IDX = {
  "train-images-idx3-ubyte": b"\0\0\x08\3\0\0\0\4\0\0\0\2\0\0\0\2" + bytes(16),
  "train-labels-idx1-ubyte": b"\0\0\x08\1\0\0\0\4\0\1\0\1",
  "t10k-images-idx3-ubyte": b"\0\0\x08\3\0\0\0\2\0\0\0\2\0\0\0\2" + bytes(8),
  "t10k-labels-idx1-ubyte": b"\0\0\x08\1\0\0\0\2\0\1",
}


@st.composite
def data(draw: st.DrawFn) -> tuple[str, dict[str, bytes]]:
  """A name of data, "table" or "text", and the files that hold it."""
  kinds = "folder tar imagenet npz idx cifar10 table text"
  kind = draw(st.sampled_from(kinds.split()))
  if kind == "folder":
    folders = st.sampled_from(("a", "b", "train/a", "test/b"))
    names = [f"{draw(folders)}/{i}.png" for i in range(4)]
    images = st.sampled_from(_IMAGES)
    return kind, {n: edited(draw(images), draw(EDITS)) for n in names}
  if kind == "idx":
    return kind, {n: edited(c, draw(EDITS)) for n, c in _IDX.items()}
  if kind == "cifar10":
    files = {f"data_batch_{i}": draw(pickle_files()) for i in range(1, 6)}
    files["test_batch"] = draw(pickle_programs() | pickle_files())
    files["batches.meta"] = draw(
      st.just(pickle.dumps({"label_names": list("ab")})) | pickle_files()
    )
    return kind, files
  if kind in ("table", "text"):
    contents = edited(_TABLE, draw(EDITS))
  else:
    packed = {"tar": tars(), "imagenet": tars("train/"), "npz": npz_files()}
    contents = draw(packed[kind])
  if kind != "npz" and draw(st.booleans()):
    contents = edited(gzip.compress(contents), draw(EDITS))
  return {"tar": "folder"}.get(kind, kind), {"": contents}


def read_data(given: tuple[str, Mapping[str, bytes]]) -> None:
  """Reads data as a run does."""
  name, files = given
  small = cifar.FORMS["cifar10"]._replace(rows=2, test_rows=2, classes=2)
  with tempfile.TemporaryDirectory() as folder, _forms({"cifar10": small}):
    path = pathlib.Path(folder) / "data"
    for file, contents in files.items():
      target = path / file if file else path
      target.parent.mkdir(parents=True, exist_ok=True)
      target.write_bytes(contents)
    if name == "table":
      table = benchmark.load(path)
      table.best("cifar10_200")
    elif name == "text":
      text.load(path, "character")
    else:
      found = sources.load(name, path, cache_dir=pathlib.Path(folder) / "cache")
      for x in (found.train_x, found.test_x):
        if isinstance(x, files_lib.Files):
          decoding.decode(stream.request(x))


@contextlib.contextmanager
def _forms(forms: Mapping[str, cifar.Form]) -> Iterator[None]:
  """Official archives of a few images."""
  whole = cifar.FORMS
  cifar.FORMS = forms
  try:
    yield
  finally:
    cifar.FORMS = whole
