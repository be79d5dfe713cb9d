"""A folder as ImageNet's, of generated JPEGs of several sizes."""

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
