"""Image data sets as numpy arrays, from wherever they are: `load`."""

from collections.abc import Mapping, Sequence
import difflib
import math
import os
import pathlib
import re
from typing import Any, NamedTuple

import numpy as np

from jnas.data import archives, cifar, files, limits, own

NAMES = ("digits", "cifar10", "cifar100", "idx", "folder", "npz",
         "imagenet", "tfds:<name>", "synthetic", "<module>:<function>")


class ImageData(NamedTuple):
  """A classification data set: uint8 images [N, H, W, C], int32 labels [N].

  classes: the label names, in label order. mean, std: by channel, of the
  training images, on the scale 0 .. 1.
  """
  train_x: np.ndarray
  train_y: np.ndarray
  test_x: np.ndarray
  test_y: np.ndarray
  classes: tuple[str, ...]
  mean: tuple[float, ...]
  std: tuple[float, ...]


class _Raw(NamedTuple):
  """What a reader returns; without test images, some are held out."""
  train_x: np.ndarray
  train_y: np.ndarray
  test_x: np.ndarray | None
  test_y: np.ndarray | None
  classes: Sequence[str]


def load(
    name: str, path: str | os.PathLike = "", limit: int = 0, seed: int = 0,
    cache_dir: str | os.PathLike | None = None, *, classes: int = 0,
    portion: float = 1.0, **reading: Any,
) -> ImageData:
  """Returns the data set `name`, read from `path`.

  | name | path |
  | --- | --- |
  | digits | none: scikit-learn's 1,797 grey 8x8 images, in its wheel |
  | cifar10, cifar100 | the official archive, python or binary version, as
    .tar.gz or unpacked, or the folder that holds it |
  | idx | folder of the four files of (Fashion-)MNIST, gzipped or not |
  | folder | folder or tar of images, one folder a class, optionally under
    train/ and test/ (or val/, which counts only where there is no test/) |
  | imagenet | folder of train/CLASS/ and val/CLASS/ with images of any size,
    or a tar of it, or a folder of train.tar and val.tar, or that of a set that
    TFDS has prepared as array_record; they stay in their files (`files.Files`)
    and are read while training
  | npz | file of train_x, train_y, test_x, test_y, or of x, y; classes |
  | tfds:<name> | TFDS's data_dir, may be empty |
  | synthetic | none: 2,500 made-up 16x16x3 images, easy to learn |
  | mine:pictures | what `pictures` in mine.py is called with; it returns a
    dict of arrays, named as in an npz file |

  Where a test part is missing, a stratified fifth drawn with `seed` is held
  out (of digits and synthetic always). Decoded folders and TFDS sets are kept
  as arrays in `cache_dir`: see `archives.cached`.

  Args:
    limit: keep that many training images and at most that many test images,
      stratified, drawn with `seed`; 0 keeps all. mean and std are of all.
    classes: keep so many classes, drawn with `seed`; 0 keeps all.
    portion: keep that share of the training images, drawn as for `limit`.
    **reading: how imagenet's images are read, as `files.Files` has it.

  Raises:
    FileNotFoundError, ValueError: with what was expected, what was found and
      what to do.
  """
  with limits.short_errors():
    raw = _read(name, path, seed, cache_dir, reading)
    where = f"{name} ({limits.shown(path)})" if str(path) else name
    official = cifar.FORMS.get(name)
    known = official and (official.mean, official.std)
    if name == "imagenet":
      known = files.MEAN, files.STD
    if classes:
      raw = _of_classes(raw, where, classes, seed)
    return _finished(raw, where, limit, seed, known, portion)


def _of_classes(raw: _Raw, where: str, count: int, seed: int) -> _Raw:
  """Returns the images of some classes, which are numbered anew."""
  if count > len(raw.classes):
    raise ValueError(
        f"expected at most the {len(raw.classes)} classes of {where}; got "
        f"{count}. Choose fewer, or 0 for all.")
  chosen = np.random.default_rng(seed).permutation(len(raw.classes))[:count]
  chosen = np.sort(chosen)
  parts = []
  for x, y in ((raw.train_x, raw.train_y), (raw.test_x, raw.test_y)):
    if x is not None:
      kept = np.flatnonzero(np.isin(y, chosen))
      x, y = x[kept], np.searchsorted(chosen, y[kept])
    parts += x, y
  return _Raw(*parts, [raw.classes[i] for i in chosen])


def from_arrays(
    train_x: np.ndarray, train_y: np.ndarray,
    test_x: np.ndarray | None = None, test_y: np.ndarray | None = None,
    classes: Sequence[str] | None = None, *, limit: int = 0, seed: int = 0,
) -> ImageData:
  """Returns a data set of arrays that are there already.

  Args:
    train_x: uint8 [N, H, W, C] or [N, H, W].
    train_y: whole numbers [N], counted from 0.
    test_x, test_y: likewise; None for a stratified fifth of the others.
    classes: their names; None for the numbers.
    limit, seed: as of `load`.

  Raises:
    ValueError: with what was expected, what was found and what to do.
  """
  arrays = {"x": train_x, "y": train_y}
  if test_x is not None or test_y is not None:
    arrays = {"train_x": train_x, "train_y": train_y, "test_x": test_x,
              "test_y": test_y}
  with limits.short_errors():
    found = {name: np.asarray(array) for name, array in arrays.items()}
    if classes is not None:
      found["classes"] = np.asarray(classes)
    return _finished(_named(found, "the arrays"), "the arrays", limit, seed)


def _finished(raw: _Raw, where: str, limit: int, seed: int,
              known: tuple | None = None, portion: float = 1.0) -> ImageData:
  """Returns the data set, checked, with a test part; `known` is mean, std."""
  if limit < 0 or seed < 0:
    raise ValueError(
        f"expected limit >= 0 and seed >= 0; got {limit} and {seed}")
  raw = raw._replace(classes=_names(where, raw.classes))
  if raw.test_x is None:
    _check_part(where, "training", raw.train_x, raw.train_y, raw.classes)
    rest, held_out = split(raw.train_y, 0.8, seed)
    raw = _Raw(raw.train_x[rest], raw.train_y[rest], raw.train_x[held_out],
               raw.train_y[held_out], raw.classes)
  _check_part(where, "training", raw.train_x, raw.train_y, raw.classes)
  _check_part(where, "test", raw.test_x, raw.test_y, raw.classes)
  if raw.train_x.shape[1:] != raw.test_x.shape[1:]:
    raise ValueError(
        f"expected images of one shape in {where}; found "
        f"{raw.train_x.shape[1:]} for training and {raw.test_x.shape[1:]} for "
        "test. Resize them.")
  mean, std = known or moments(raw.train_x)
  part = round(portion * len(raw.train_y))
  train = _some(raw.train_y, min(limit or part, part), seed)
  test = _some(raw.test_y, limit, seed)
  return ImageData(
      raw.train_x[train], raw.train_y[train].astype(np.int32),
      raw.test_x[test], raw.test_y[test].astype(np.int32),
      raw.classes, mean, std)


def _read(name, path, seed, cache_dir, reading) -> _Raw:
  if name in ("digits", "synthetic"):
    if str(path):
      raise ValueError(f"expected no path for {name}, which needs no file; got "
                       f"{str(path)!r}. Leave the path empty.")
    return _digits() if name == "digits" else _synthetic(seed)
  if name in cifar.FORMS:
    return _Raw(*cifar.read(name, path))
  if name == "idx":
    return _idx(path)
  if name == "npz":
    return _npz(path)
  if name == "imagenet":
    return _Raw(*files.find(path, cache_dir, **reading))
  if name == "folder":
    found = archives.existing(path, "a folder or tar of images")
    return _from_arrays(archives.cached(
        cache_dir, archives.cache_key(found),
        lambda: archives.decode_tree(found)))
  if name.startswith("tfds:") and name != "tfds:":
    key = re.sub(r"\W", lambda m: f"_{ord(m[0]):x}_", f"{name}{path or ''}")
    return _from_arrays(archives.cached(
        cache_dir, key, lambda: _tfds(name[len("tfds:"):], path)))
  if re.fullmatch(r"[\w.]+:\w+", name) and not name.startswith("tfds:"):
    return _named(own.call(name, path), limits.shown(name))
  near = difflib.get_close_matches(name[:100], NAMES, 1, cutoff=0.5)
  hint = f" Did you mean {near[0]!r}?" if near else ""
  raise ValueError(f"expected one of the data sets {', '.join(NAMES)}; got "
                   f"{name!r}.{hint}")


def _from_arrays(arrays: dict[str, np.ndarray]) -> _Raw:
  return _Raw(*(arrays.get(field) for field in _Raw._fields))


def _quota(counts: np.ndarray, total: int) -> np.ndarray:
  """Returns `total` apportioned to counts, by largest remainder.

  No class that has images is left with none while `total` allows one each.
  """
  least = int(total >= (counts > 0).sum())
  exact = counts * (total / counts.sum())
  quota = np.minimum(np.maximum(np.floor(exact), least), counts)
  while quota.sum() < total:
    quota[np.argmax(np.where(quota < counts, exact - quota, -np.inf))] += 1
  while quota.sum() > total:
    quota[np.argmin(np.where(quota > least, exact - quota, np.inf))] -= 1
  return quota.astype(np.int64)


def _draw(y: np.ndarray, total: int, seed: int) -> tuple[np.ndarray, ...]:
  """Returns `total` stratified indices and the others, both shuffled."""
  rng = np.random.default_rng(seed)
  labels, counts = np.unique(y, return_counts=True)
  chosen, others = [], []
  for label, quota in zip(labels, _quota(counts, total), strict=True):
    order = rng.permutation(np.flatnonzero(y == label))
    chosen.append(order[:quota])
    others.append(order[quota:])
  return (rng.permutation(np.concatenate(chosen)),
          rng.permutation(np.concatenate(others)))


def split(
    data_y: np.ndarray, share: float, seed: int,
) -> tuple[np.ndarray, np.ndarray]:
  """Returns two disjoint, shuffled index sets (int64) that cover all images.

  The first gets `share` of the images of each class, to within one image.
  DARTS halves by file order instead, which on an archive in class order
  would train the weights on some classes and alpha on the others.

  Raises:
    ValueError: share is not between 0 and 1, or a part would be empty.
  """
  total = round(share * len(data_y)) if 0 < share < 1 else 0
  if not 0 < total < len(data_y):
    raise ValueError(
        "expected a share between 0 and 1 that leaves both parts an image; got "
        f"{share} of {len(data_y)} images")
  return _draw(np.asarray(data_y), total, seed)


def _some(y: np.ndarray, limit: int, seed: int) -> np.ndarray | slice:
  if not 0 < limit < len(y):
    return slice(None)
  if limit < len(np.unique(y)):
    raise ValueError(
        f"expected a limit of at least one image for each of "
        f"{len(np.unique(y))} classes; got {limit}. Raise the limit, or use 0 "
        "for all.")
  return np.sort(_draw(y, limit, seed)[0])


def moments(x: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """Returns mean and standard deviation by channel of uint8 x, scale 0 .. 1.

  A channel without variation gets deviation 1, so that one can divide by it.
  """
  width, channels = x.shape[2:]
  total = square = 0
  some = min(max(2**24 // x[0].size, 1), 256)  # fits the processor's cache
  for i in range(0, len(x), some):
    part = x[i:i + some].reshape(-1, width * channels).astype(np.float64)
    total += part.sum(axis=0)  # sums of integers: exact in float64
    square += np.einsum("nc,nc->c", part, part)
  n = x[..., 0].size
  mean = total.reshape(width, channels).sum(axis=0) / n
  square = square.reshape(width, channels).sum(axis=0)
  std = np.sqrt(np.maximum(square / n - mean**2, 0))
  std = np.where(std < 1e-6, 255, std)
  return tuple((mean / 255).tolist()), tuple((std / 255).tolist())


def _check_part(where: str, part: str, x, y, classes: Sequence[str]) -> None:
  if x.ndim != 4 or x.dtype != np.uint8 or 0 in x.shape:
    raise ValueError(
        f"expected {part} images of {where} as uint8 [N, H, W, C], at least "
        f"one; found {x.dtype} {x.shape}. Convert them (floats in 0 .. 1: "
        "multiply by 255 and round).")
  if y.shape != x.shape[:1] or not np.issubdtype(y.dtype, np.integer):
    raise ValueError(
        f"expected one integer label for each of {len(x):,} {part} images of "
        f"{where}; found {y.dtype} {y.shape}")
  if y.min() < 0 or y.max() >= len(classes):
    raise ValueError(
        f"expected {part} labels of {where} between 0 and {len(classes) - 1}; "
        f"found {y.min()} to {y.max()}. Number the classes from 0.")
  if len(classes) < 2:
    raise ValueError(
        f"expected at least two classes in {where}; found {list(classes)}")
  if part == "training":
    counts = np.bincount(y.astype(np.int64), minlength=len(classes))
    missing = [str(classes[i]) for i in np.flatnonzero(counts == 0)]
    if missing:
      raise ValueError(
          f"expected training images of each of {len(classes)} classes in "
          f"{where}; found none of {', '.join(missing[:10])}. Remove these "
          "classes or add images.")


def _names(where: str, classes: Sequence[str]) -> tuple[str, ...]:
  """Returns the names of the classes as text, which can be written."""
  found = np.asarray(classes)
  if found.ndim == 1 and found.dtype.kind in "USui" and len(found) <= 100_000:
    names = [n.decode(errors="replace") if isinstance(n, bytes) else str(n)
             for n in found.tolist()]
    if all(n == n.encode(errors="replace").decode() for n in names):
      return tuple(names)
  raise ValueError(
      f"expected the classes of {where} as a list of at most 100,000 names in "
      f"UTF-8; found {limits.shown(classes)}. Rename them.")


def _numbered(train_y: np.ndarray) -> list[str]:
  top = int(train_y.max()) if train_y.size and train_y.dtype.kind in "ui" else 0
  if top > 100_000:  # before a name is made for each of them
    raise ValueError(f"expected labels numbered from 0; found {top}")
  return [str(i) for i in range(top + 1)]


def _digits() -> _Raw:
  from sklearn.datasets import load_digits

  found = load_digits()
  x = np.round(found.images * (255 / 16)).astype(np.uint8)[..., None]
  return _Raw(x, found.target, None, None, [str(i) for i in range(10)])


def _synthetic(seed: int) -> _Raw:
  """Ten coarse colour patterns, moved by up to two pixels, under noise."""
  rng = np.random.default_rng(seed)
  patterns = rng.uniform(40, 215, (10, 4, 4, 3)).repeat(4, 1).repeat(4, 2)
  y = np.arange(2500) % 10
  moves = rng.integers(-2, 3, (len(y), 2))
  x = np.stack([np.roll(patterns[label], move, (0, 1))
                for label, move in zip(y, moves, strict=True)])
  x = np.clip(x + rng.normal(0, 25, x.shape), 0, 255).astype(np.uint8)
  return _Raw(x, y, None, None, [f"pattern {i}" for i in range(10)])


def _idx(path: str | os.PathLike) -> _Raw:
  folder = archives.existing(path, "a folder of four IDX files")
  arrays = []
  for part in ("train", "t10k"):
    for kind, rank in (("images", 3), ("labels", 1)):
      names = [f"{part}-{kind}{dot}idx{rank}-ubyte{gz}"
               for dot in "-." for gz in (".gz", "")]
      found = next((folder / n for n in names if (folder / n).is_file()), None)
      if found is None:
        inside = (sorted(p.name for p in folder.iterdir())[:5]
                  if folder.is_dir() else "a file, no folder")
        raise FileNotFoundError(
            f"expected {names[0]} or {names[1]} in {str(folder)!r}; found "
            f"{inside}. Give the folder that holds the four files.")
      arrays.append(_idx_array(found, rank))
  train_x, train_y, test_x, test_y = arrays
  return _Raw(train_x[..., None], train_y, test_x[..., None], test_y,
              _numbered(train_y))


def _idx_array(path: pathlib.Path, rank: int) -> np.ndarray:
  what, shape, data = "bytes of a data set", None, b""
  with archives.open_stream(path) as stream:
    head = stream.read(4 + 4 * rank)
    if head[:4] == bytes((0, 0, 8, rank)) and len(head) == 4 + 4 * rank:
      shape = tuple(np.frombuffer(head[4:], ">u4").tolist())  # 8: of bytes
      limits.spend(what, math.prod(shape), path)
      # One byte more would be too many, however many follow.
      data = limits.read(stream, what, path, math.prod(shape) + 1)
  if shape is None or len(data) != math.prod(shape):
    raise ValueError(
        f"expected an IDX file of unsigned bytes with {rank} axes in "
        f"{limits.shown(path)}; found the header {head[:4].hex()}, shape "
        f"{shape} and {len(data):,} bytes of data or more. Download the file "
        "again.")
  return np.frombuffer(data, np.uint8).reshape(shape)


def _npz(path: str | os.PathLike) -> _Raw:
  arrays = archives.read_npz(archives.existing(path, "an .npz file"))
  return _named(arrays, limits.shown(path))


def _named(arrays: Mapping[str, np.ndarray], where: str) -> _Raw:
  """Returns arrays by their names, classes numbered where they have none."""
  found, classes = own.parts(arrays, where)
  return _Raw(*found, _numbered(found[1]) if classes is None else classes)


def _tfds(name: str, data_dir: str | os.PathLike) -> dict[str, np.ndarray]:
  """Returns the arrays of a TFDS set, downloading and preparing it first."""
  try:
    import tensorflow  # noqa: F401  TFDS prepares image sets with it
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=str(data_dir) or None)
    info = builder.info
    if info.supervised_keys is None or not hasattr(
        info.features[info.supervised_keys[1]], "names"):
      raise ValueError("it has no pair of an image and a class label")
    builder.download_and_prepare()
    test = next((s for s in ("test", "validation") if s in info.splits), None)
    if "train" not in info.splits:
      raise ValueError(f"it has the splits {list(info.splits)}, no 'train'")
    arrays = {"classes": np.array(info.features[info.supervised_keys[1]].names)}
    for part, source in (("train", "train"), ("test", test)):
      if source:
        x, y = zip(*tfds.as_numpy(builder.as_dataset(
            split=source, as_supervised=True, shuffle_files=False)),
                   strict=True)
        if len(sizes := {image.shape for image in x}) > 1:
          raise ValueError(
              f"its images differ in shape: {sorted(sizes)[:3]}; imagenet "
              "reads such a set, if it is prepared as array_record.")
        arrays |= {f"{part}_x": np.stack(x), f"{part}_y": np.array(y)}
    return arrays
  except ImportError as error:
    raise ValueError(
        f"expected TensorFlow for the first load of tfds:{name}; found: "
        f"{error}. Run pip install tensorflow tensorflow-datasets "
        "importlib_resources; later loads read the cache and need none of "
        "them.") from error
  except Exception as error:  # TFDS raises nearly anything
    lines = str(error).strip().splitlines() or [type(error).__name__]
    found = " ".join([lines[0], *(
        line for line in lines[1:] if "did you mean" in line.lower())])
    raise ValueError(
        f"expected an image-classification set {name!r} with images of one "
        f"size, prepared or for download; found: {found[:500]} Check the name "
        "and the network, or give the data_dir of a prepared copy as the "
        "path.") from error
