"""CIFAR-10 and CIFAR-100 from their official archives, both versions."""

import io
import os
import pickle
from typing import Any, NamedTuple

import numpy as np

from jnas.data import archives


class Form(NamedTuple):
  """One of the two official data sets and both of its versions."""
  url_stem: str  # <stem>-python.tar.gz and <stem>-binary.tar.gz
  train: tuple[str, ...]  # files of the python version; binary adds ".bin"
  test: str
  rows: int  # images in each training file
  test_rows: int
  labels: str  # key of the labels in the python version
  label_bytes: int  # before each image of the binary version; the last counts
  meta: str  # file of the names in the python version, and the key in it
  meta_key: str
  names: str  # file of the names in the binary version
  classes: int
  mean: tuple[float, ...]
  std: tuple[float, ...]


# Mean and deviation as in DARTS (cnn/utils.py) for CIFAR-10 and P-DARTS
# (utils.py) for CIFAR-100, so that results compare.
FORMS = {
    "cifar10": Form(
        "cifar-10", tuple(f"data_batch_{i}" for i in range(1, 6)),
        "test_batch", 10_000, 10_000, "labels", 1, "batches.meta",
        "label_names", "batches.meta.txt", 10,
        (0.49139968, 0.48215827, 0.44653124),
        (0.24703233, 0.24348505, 0.26158768)),
    "cifar100": Form(
        "cifar-100", ("train",), "test", 50_000, 10_000, "fine_labels", 2,
        "meta", "fine_label_names", "fine_label_names.txt", 100,
        (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}


def read(
    name: str, path: str | os.PathLike,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[str]]:
  """Returns train_x, train_y, test_x, test_y and the class names.

  `path` is an official archive, the folder it unpacks to, or a folder that
  holds one of the two. Images are uint8 [N, 32, 32, 3].

  Raises:
    FileNotFoundError, ValueError: with what was expected and found.
  """
  form = FORMS[name]
  expected = (f"{form.url_stem}-python.tar.gz or {form.url_stem}-binary.tar.gz "
              "(www.cs.toronto.edu/~kriz/cifar.html), packed or unpacked")
  found = archives.existing(path, expected)
  if found.is_dir():
    inside = [found / f"{form.url_stem}-{version}.tar.gz"
              for version in ("python", "binary")]
    found = next((p for p in inside if p.exists()), found)
  parts = (*form.train, form.test)
  python = {*parts, form.meta}
  binary = {*(f"{part}.bin" for part in parts), form.names}
  files, seen = {}, []
  for member, contents in archives.members(
      found, lambda name: name.split("/")[-1] in python | binary):
    base = member.split("/")[-1]
    if contents is None:
      continue
    seen.append(member)
    if base in python | binary:
      if base in files:
        raise ValueError(f"expected one file {base!r} in {str(found)!r}; found "
                         "two. Give the path of one data set.")
      files[base] = contents
  is_binary = f"{form.test}.bin" in files
  wanted = binary if is_binary else python
  if missing := sorted(wanted - files.keys()):
    raise ValueError(
        f"expected the files {', '.join(sorted(wanted))} in {str(found)!r}, "
        f"from {expected}; {', '.join(missing)} missing among {len(seen):,} "
        f"files ({', '.join(seen[:3])} ...). If these are images with a folder "
        "a class, load them as 'folder'; if not, download the archive again.")
  if is_binary:
    classes = files[form.names].decode().split()
  else:
    meta = unpickle(form.meta, files[form.meta])
    classes = [c.decode() if isinstance(c, bytes) else str(c)
               for c in meta.get(form.meta_key, ())]
  if len(classes) != form.classes:
    raise ValueError(f"expected {form.classes} class names in {str(found)!r}; "
                     f"found {len(classes)}. Download the archive again.")
  rows = [form.rows] * len(form.train) + [form.test_rows]
  parse = _binary if is_binary else _python
  batches = [parse(form, part, files[f"{part}.bin" if is_binary else part], n)
             for part, n in zip(parts, rows, strict=True)]
  return (np.concatenate([x for x, _ in batches[:-1]]),
          np.concatenate([y for _, y in batches[:-1]]), *batches[-1], classes)


def _planes(pixels: np.ndarray) -> np.ndarray:
  return np.ascontiguousarray(
      pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def _binary(form, part, contents, rows) -> tuple[np.ndarray, np.ndarray]:
  width = form.label_bytes + 3072
  if len(contents) != rows * width:
    raise ValueError(
        f"expected {rows:,} records of {width:,} bytes in {part}.bin; found "
        f"{len(contents):,} bytes. Download the archive again.")
  records = np.frombuffer(contents, np.uint8).reshape(rows, width)
  y = records[:, form.label_bytes - 1].astype(np.int32)
  return _planes(records[:, form.label_bytes:]), y


def _python(form, part, contents, rows) -> tuple[np.ndarray, np.ndarray]:
  batch = unpickle(part, contents)
  pixels, labels = batch.get("data"), batch.get(form.labels)
  labels = np.asarray(() if labels is None else labels)
  if (not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or
      pixels.shape != (rows, 3072) or labels.shape != (rows,) or
      labels.dtype.kind not in "ui"):
    raise ValueError(
        f"expected uint8 'data' ({rows}, 3072) and {rows} integer "
        f"{form.labels!r} in {part}; found the keys {sorted(map(str, batch))}, "
        f"data {getattr(pixels, 'shape', None)} and {labels.shape} labels. "
        "Download the archive again.")
  return _planes(pixels), labels.astype(np.int32)


# CIFAR's pickles name numpy's constructors, under the module names of numpy 1
# or 2. They are given these stand-ins, never the real ones: what can be built
# is numbers, and arrays of numbers whose bytes have the right length.


class _Dtype:
  """A numpy dtype as pickled: a code, then a state with the byte order."""

  def __init__(self, code: Any, *_: Any):
    code = code.decode("latin1") if isinstance(code, bytes) else code
    if not (isinstance(code, str) and code[:1] in "buif" and
            code[1:] in ("1", "2", "4", "8")):
      raise pickle.UnpicklingError(f"dtype {code!r} is not one of numbers")
    self.dtype = np.dtype(code)

  def __setstate__(self, state: tuple) -> None:
    order = state[1].decode() if isinstance(state[1], bytes) else state[1]
    if order not in ("<", ">", "|", "="):
      raise pickle.UnpicklingError(f"byte order {order!r}")
    self.dtype = self.dtype.newbyteorder(order)


class _Array:
  """A numpy array as pickled: empty, then filled by its state."""

  def __init__(self, *_: Any):
    self.value = np.zeros((0,), np.uint8)

  def __setstate__(self, state: tuple) -> None:
    _, shape, dtype, fortran, raw = state
    self.value = _array(raw, dtype, shape, "F" if fortran else "C")


def _array(raw: Any, dtype: Any, shape: Any, order: str = "C") -> np.ndarray:
  if isinstance(raw, str):
    raw = raw.encode("latin1")
  if not (isinstance(dtype, _Dtype) and isinstance(raw, bytes | bytearray)):
    raise pickle.UnpicklingError("an array of something else than numbers")
  return np.frombuffer(raw, dtype.dtype).reshape(shape, order=order)


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> _Array:
  array = _Array()
  array.value = _array(raw, dtype, shape, "F" if order in ("F", b"F") else "C")
  return array


def _scalar(dtype: Any, raw: Any) -> Any:
  return _array(raw, dtype, ())[()]


def _latin1(text: Any, encoding: Any) -> bytes:
  # How Python 3 writes bytes under the pickle protocols 0 to 2.
  if encoding not in ("latin1", b"latin1"):
    raise pickle.UnpicklingError(f"encoding {encoding!r}")
  return text if isinstance(text, bytes) else text.encode("latin1")


_ADMITTED = {("_codecs", "encode"): _latin1}
for _numpy in ("numpy", "numpy.core", "numpy._core"):
  _ADMITTED |= {
      (f"{_numpy}.multiarray", "_reconstruct"): _Array,
      (f"{_numpy}.multiarray", "scalar"): _scalar,
      (f"{_numpy}.numeric", "_frombuffer"): _from_buffer,
      (_numpy, "ndarray"): _Array,
      (_numpy, "dtype"): _Dtype,
  }


class _Unpickler(pickle.Unpickler):

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) not in _ADMITTED:
      raise pickle.UnpicklingError(f"it asks for {module}.{name}")
    return _ADMITTED[module, name]


def unpickle(name: str, contents: bytes) -> dict[str, Any]:
  """Returns the dict in a pickle of arrays, lists, strings and numbers.

  Keys are decoded to str; Python 2 strings among the values stay bytes.

  Raises:
    ValueError: anything else is in it (no code of it was run), or it is cut.
  """
  try:
    found = _Unpickler(io.BytesIO(contents), encoding="bytes").load()
    return {
        k.decode() if isinstance(k, bytes) else k:
            v.value if isinstance(v, _Array) else v for k, v in found.items()}
  except Exception as error:  # a damaged pickle raises nearly anything
    raise ValueError(
        f"expected a pickled dict of arrays, lists, strings and numbers in "
        f"{name!r}; found something else or a damaged one ({error}). None of "
        "its code was run. Download the official archive again.") from error
