"""Data sets of segmentation as arrays: images and the class of each pixel.

An example is an array [H, W, 4], three colours and the class number, so that
whatever moves pixels moves both. Images of several sizes lie in the upper left
corner of one canvas; what is outside of them is IGNORED and of the mean
colour.
"""

from collections.abc import Callable, Mapping
import math
import os
import pathlib
import re
from typing import NamedTuple

import numpy as np

from jnas.data import archives, limits

IGNORED = 255  # the class of pixels that count nowhere
NAMES = ("shapes", "camvid", "voc")
VOC = (
  *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus"),
  *("car", "cat", "chair", "cow", "dining table", "dog", "horse"),
  *("motorbike", "person", "potted plant", "sheep", "sofa", "train"),
  "tv monitor",
)
_SHAPES = ("background", "disc", "square", "triangle")
_UNLABELLED = ("unlabelled", "unlabeled", "void")

Pair = tuple[np.ndarray, np.ndarray]  # colours [H, W, 3], classes [H, W]


class Part(NamedTuple):
  """Some examples.

  Attributes:
    x: uint8 [N, H, W, 4], colours and class numbers.
    sizes: int32 [N, 2], height and width of each image on its canvas.
  """

  x: np.ndarray
  sizes: np.ndarray


class SegmentationData(NamedTuple):
  """A data set of segmentation.

  Attributes:
    train: on which one trains.
    valid: on which one measures.
    classes: their names, in the order of their numbers.
    mean, std: by colour, of the training images, on the scale 0 .. 1.
    test: on which nothing depends, if it was asked for.
  """

  train: Part
  valid: Part
  classes: tuple[str, ...]
  mean: tuple[float, ...]
  std: tuple[float, ...]
  test: Part | None = None


def load(
  name: str,
  path: str | os.PathLike = "",
  limit: int = 0,
  *,
  train: str = "train",
  valid: str = "val",
  test: str = "",
  seed: int = 0,
) -> SegmentationData:
  """The data set `name`, read from `path`.

  | name | path |
  | --- | --- |
  | voc | PASCAL VOC 2012: the folder (or a tar) with JPEGImages,
    SegmentationClass and ImageSets/Segmentation/*.txt, or one around it |
  | camvid | folder or tar of <split>/images/NAME.jpg, <split>/masks/NAME.png
    of class numbers, and classes.txt, a number and a name a line; "unlabelled"
    counts nowhere |
  | shapes | none: 480 made-up 64 x 64 images of discs, squares, triangles |

  Args:
    name: of the data set.
    path: see above.
    limit: at most so many images of each split, drawn with `seed`; 0 for all.
    train, valid: names of the splits: of a list, or of a folder.
    test: likewise; empty for none.
    seed: of made-up images and of the draw.

  Raises:
    FileNotFoundError, ValueError: with what was expected, what was found and
      what to do.
  """
  if name not in NAMES:
    raise ValueError(
      f"expected one of the data sets {', '.join(NAMES)}; got {name!r}"
    )
  with limits.short_errors():
    if name == "shapes":
      if str(path):
        raise ValueError(
          f"expected no path for shapes, which needs no file; got {str(path)!r}"
        )
      pairs, classes = _shapes(seed)[: 2 + bool(test)], _SHAPES
    else:
      read = {"voc": _voc, "camvid": _camvid}[name]
      found = archives.existing(path, "a folder or tar of images and masks")
      splits = (train, valid, test) if test else (train, valid)
      pairs, classes = read(found, splits)
    return _finished(pairs, classes, limit, seed)


def _finished(
  pairs: tuple[list[Pair], ...],
  classes: tuple[str, ...],
  limit: int,
  seed: int,
) -> SegmentationData:
  if limit:
    rng = np.random.default_rng(seed)
    pairs = tuple(
      [own[i] for i in sorted(rng.permutation(len(own))[:limit])]
      for own in pairs
    )
  count, total, square = 0, np.zeros(3), np.zeros(3)
  for image, _ in pairs[0]:
    flat = image.reshape(-1, 3).astype(np.float64) / 255
    count += len(flat)
    total, square = total + flat.sum(0), square + (flat * flat).sum(0)
  mean = total / count
  std = np.sqrt(np.maximum(square / count - mean * mean, 0))
  std = np.where(std < 1e-6, 1, std)
  first, second, *more = (_canvas(own, mean) for own in pairs)
  return SegmentationData(
    first, second, classes, tuple(mean.tolist()), tuple(std.tolist()), *more
  )


def _canvas(pairs: list[Pair], mean: np.ndarray) -> Part:
  """The pairs in the corners of canvases of one size, each given up for it."""
  sizes = np.array([labels.shape for _, labels in pairs], np.int32)
  shape = (len(pairs), *sizes.max(0), 4)
  limits.spend("bytes of a data set", math.prod(map(int, shape)), "memory")
  x = np.empty(shape, np.uint8)
  x[...] = (*np.round(255 * mean), IGNORED)
  for i, (image, labels) in enumerate(pairs):
    h, w = labels.shape
    x[i, :h, :w, :3], x[i, :h, :w, 3] = image, labels
  return Part(x, sizes)


def _shapes(seed: int) -> tuple[list[Pair], ...]:
  """Shapes of any colour, place and size on a ground of another, under noise.

  The rim of each is one pixel that is ignored, as in VOC.
  """
  rng, size = np.random.default_rng(seed), 64
  rows, columns = np.mgrid[:size, :size]

  def one() -> Pair:
    image = np.broadcast_to(rng.uniform(0, 255, 3), (size, size, 3)).copy()
    labels = np.zeros((size, size), np.uint8)
    for kind in rng.integers(1, 4, rng.integers(1, 4)):
      radius = rng.uniform(8, 18)
      y, x = rng.uniform(4, size - 4, 2)
      dy, dx = rows - y, columns - x
      distance = {
        1: np.hypot(dy, dx),
        2: np.maximum(abs(dy), abs(dx)),
        3: np.maximum(dy, abs(dx) * 1.5 - dy),
      }[int(kind)] - radius
      image[distance < 0] = rng.uniform(0, 255, 3)
      labels[distance < 1] = IGNORED
      labels[distance < 0] = kind
    image += rng.normal(0, 12, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), labels

  return tuple([one() for _ in range(count)] for count in (320, 80, 80))


def _camvid(
  path: pathlib.Path, splits: tuple[str, ...]
) -> tuple[tuple[list[Pair], ...], tuple[str, ...]]:
  folder = re.compile(r"(?:.*/)?([^/]+)/(images|masks)/([^/]+)\.\w+")
  there = set()

  def wanted(name: str) -> bool:
    found = folder.fullmatch(name)
    if found:
      there.add(found[1])
    return name.split("/")[-1] == "classes.txt" or bool(
      found and found[1] in splits and archives.is_image(name)
    )

  files: dict[tuple[str, str], dict[str, tuple[str, bytes]]] = {}
  lines = None
  for name, contents in archives.members(path, wanted):
    if not contents:
      continue
    if name.split("/")[-1] == "classes.txt":
      lines = contents.decode(errors="replace").splitlines()
    else:
      split, kind, stem = folder.fullmatch(name).groups()
      files.setdefault((split, kind), {})[stem] = name, bytes(contents)
  classes, ignored = _listed_classes(path, lines)
  pairs = []
  for split in splits:
    images = files.get((split, "images"), {})
    masks = files.get((split, "masks"), {})
    if not images:
      raise ValueError(
        f"expected images in {split}/images of {limits.shown(path)}; found "
        f"none. The splits there are: {_names(there)}"
      )
    pairs.append(_decoded(path, list(images), images, masks,
                          len(classes) + len(ignored), ignored))
  return tuple(pairs), classes


def _listed_classes(
  path: pathlib.Path, lines: list[str] | None
) -> tuple[tuple[str, ...], tuple[int, ...]]:
  """The names of classes.txt that count, and the numbers that do not."""
  named = [line.split(maxsplit=1) for line in lines or () if line.strip()]
  right = [len(one) == 2 and one[0] == str(i) for i, one in enumerate(named)]
  names = [one[-1].strip() for one in named]
  ignored = tuple(i for i, n in enumerate(names) if n.lower() in _UNLABELLED)
  classes = tuple(n for n in names if n.lower() not in _UNLABELLED)
  if not all(right) or len(classes) < 2 or (
    any(i < len(classes) for i in ignored)
  ) or len(names) > IGNORED:
    found = "no such file" if lines is None else limits.shown(lines)
    raise ValueError(
      f"expected classes.txt in {limits.shown(path)}, a number from 0 on and a "
      f"name a line, at least two classes, what is unlabelled last; found "
      f"{found}"
    )
  return classes, ignored


def _voc(
  path: pathlib.Path, splits: tuple[str, ...]
) -> tuple[tuple[list[Pair], ...], tuple[str, ...]]:
  folder = re.compile(
    r"(?:.*/)?(ImageSets/Segmentation|JPEGImages|SegmentationClass)/"
    r"([^/]+)\.(txt|jpg|png)"
  )

  def parsed(name: str) -> tuple[str, str]:
    found = folder.fullmatch(name)
    return (found[1], found[2]) if found else ("", "")

  def found(wanted: Callable[[str, str], bool]) -> Mapping[str, Mapping]:
    kinds: dict[str, dict[str, tuple[str, bytes]]] = {}
    for name, contents in archives.members(
      path, lambda name: wanted(*parsed(name))
    ):
      kind, stem = parsed(name)
      if contents and wanted(kind, stem):
        kinds.setdefault(kind, {})[stem] = name, bytes(contents)
    return kinds

  lists = found(lambda kind, stem: kind.startswith("ImageSets"))
  lists = lists.get("ImageSets/Segmentation", {})
  named = []
  for split in splits:
    if split not in lists:
      raise ValueError(
        f"expected the list ImageSets/Segmentation/{split}.txt in "
        f"{limits.shown(path)}; found {_names(lists)}"
      )
    named.append(lists[split][1].decode(errors="replace").split())
    if not named[-1]:
      raise ValueError(f"expected names in {lists[split][0]}; found none")
  every = {stem for own in named for stem in own}
  files = found(lambda kind, stem: kind[:4] in ("JPEG", "Segm")
                and stem in every)
  images, masks = (
    files.get(kind, {}) for kind in ("JPEGImages", "SegmentationClass")
  )
  pairs = tuple(
    _decoded(path, own, images, masks, len(VOC), ()) for own in named
  )
  return pairs, VOC


def _decoded(
  path: pathlib.Path,
  stems: list[str],
  images: Mapping[str, tuple[str, bytes]],
  masks: Mapping[str, tuple[str, bytes]],
  count: int,
  ignored: tuple[int, ...],
) -> list[Pair]:
  """Images and classes by name.

  Args:
    path: for messages.
    stems: names without ending.
    images: (file, contents) by name.
    masks: likewise.
    count: class numbers that a mask may have, beside IGNORED.
    ignored: those of them that count nowhere.
  """
  pairs, total = [], 0
  for stem in stems:
    for kind, files in (("image", images), ("mask", masks)):
      if stem not in files:
        raise ValueError(
          f"expected an image and a mask of each name in {limits.shown(path)}; "
          f"found no {kind} of {limits.shown(stem)}"
        )
    name, contents = images[stem]
    image = archives.decode(name, contents)
    image = np.broadcast_to(image, (*image.shape[:2], 3))
    name, contents = masks[stem]
    labels = archives.decode_numbers(name, contents)
    if labels.shape != image.shape[:2]:
      raise ValueError(
        f"expected a mask of the size of its image, {image.shape[:2]} (height, "
        f"width); found {labels.shape} in {limits.shown(name)}"
      )
    wrong = (labels >= count) & (labels != IGNORED)
    if wrong.any():
      raise ValueError(
        f"expected class numbers from 0 to {count - 1}, or {IGNORED} for what "
        f"counts nowhere; found {labels[wrong][0]} in {limits.shown(name)}"
      )
    labels = np.where(np.isin(labels, ignored), IGNORED, labels)
    total += image.size + labels.size
    limits.spend("bytes of a data set", total, path)
    pairs.append((image, labels.astype(np.uint8)))
  return pairs


def _names(found: object) -> str:
  names = ", ".join(sorted(map(str, found))[:10])
  return names or "none"
