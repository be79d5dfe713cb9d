"""A data set of one's own: stripes that run in four directions.

  python -m jnas.main --config=configs/darts.py:quick \
      --config.data.name=examples.own_data:stripes

A function is called with data.path and returns a dict of arrays: images, uint8
[N, H, W, C] or [N, H, W], labels counted from 0 and, if they have them, the
names of the classes. With x and y alone, a fifth is held out for the test;
train_x, train_y, test_x and test_y say which images are for what.
"""

import numpy as np

DIRECTIONS = {"flat": (1, 0), "steep": (0, 1), "up": (1, 1), "down": (1, -1)}


def stripes(path: str) -> dict[str, np.ndarray]:
  """Returns 2,000 grey images of 12 x 12, of four classes.

  Args:
    path: how wide the stripes are in pixels; 4 where it is empty.
  """
  width = float(path or 4)
  rng = np.random.default_rng(0)
  y = np.arange(2000) % len(DIRECTIONS)
  down, right = np.mgrid[:12, :12]
  a, b = np.array(list(DIRECTIONS.values()))[y].T[..., None, None]
  begin = rng.uniform(0, 2 * np.pi, (len(y), 1, 1))
  wave = np.sin(2 * np.pi * (a * down + b * right) / width + begin)
  x = 128 + 60 * wave + rng.normal(0, 30, wave.shape)
  return {
    "x": np.clip(x, 0, 255).astype(np.uint8),
    "y": y,
    "classes": np.array(list(DIRECTIONS)),
  }
