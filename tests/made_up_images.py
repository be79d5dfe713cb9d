"""A folder as ImageNet's, of generated JPEGs of several sizes."""

import io
import tarfile

import numpy as np
from PIL import Image

CLASSES = ("n01", "n02", "n03")


def folder(root, per_class=8, seed=0):
  """Returns a folder of images whose class is their colour."""
  rng = np.random.default_rng(seed)
  for part, count in (("train", per_class), ("val", 3)):
    for label, name in enumerate(CLASSES):
      (root / part / name).mkdir(parents=True)
      for i in range(count):
        size = rng.integers(20, 50, 2)
        x = rng.integers(0, 90, (*size, 3))
        x[..., label] += 140
        image = Image.fromarray(x.astype(np.uint8))
        if i == 1:
          image = image.convert("L")  # ImageNet has some
        image.save(root / part / name / f"{name}_{i}.JPEG")
  (root / "train" / "n01" / "notes.txt").write_text("no image")
  return root


def packed(root, target, form):
  """Returns a data set of the same images in tars.

  Args:
    root: of `folder`.
    target: a folder that is not there yet.
    form: "one" for a tar of everything, "two" for train.tar and val.tar, or
      "nested" for those with a tar for each class.
  """
  target.mkdir()
  if form == "one":
    with tarfile.open(target / "set.tar", "w") as tar:
      tar.add(root, "set")
    return target / "set.tar"
  for part in ("train", "val"):
    if not (root / part).is_dir():
      continue
    with tarfile.open(target / f"{part}.tar", "w") as tar:
      if form == "two":
        tar.add(root / part, ".")
        continue
      for own in sorted((root / part).iterdir(), reverse=True):
        if not own.is_dir():
          tar.add(own, own.name)
          continue
        inner = io.BytesIO()
        with tarfile.open(fileobj=inner, mode="w") as tar_of_class:
          for file in own.iterdir():
            tar_of_class.add(file, file.name)
        member = tarfile.TarInfo(f"{own.name}.tar")
        member.size = inner.tell()
        inner.seek(0)
        tar.addfile(member, inner)
  return target
