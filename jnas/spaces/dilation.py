"""Reductions that keep their resolution, and what follows them dilated.

A network of stride 32 gives features too coarse for segmentation. As in the
"algorithme a trous" (Holschneider et al. 1989; DeepLab, Chen et al. 2017,
1706.05587, section 3.1) its last reduction then moves by one pixel instead of
two, and everything after it reads pixels that are twice as far apart: the same
kernels see the same field of the image, and every second pixel of the result is
that of the network without dilation.

It is computed in phases, which the authors' "shift and stitch" is another name
for: the features are copied four times, each moved by (0, 0), (0, 1), (1, 0) or
(1, 1) pixels, the reduction and all cells after it are applied to the four
copies as to examples of a batch, and in the end their pixels are put between
each other. A convolution of stride one over a phase is the dilated convolution
over all of them, a pool and a factorized reduction likewise, so each operator
there is, also one of a user, needs no dilated form; and a batch normalisation
sees the pixels of all phases. The reduction itself reads pixels as far apart as
before it (its edges from nodes, which come after its stride, twice as far).

Only at the borders there is a difference to dilated convolutions. A copy that
was moved begins at its first pixel: it is padded where the pixel before it
would have been, and at the far side with zeros. The copy that was not moved,
every second pixel of the result, is the undilated network's up to its borders.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

Array = jax.Array
_PHASES = ((0, 0), (0, 1), (1, 0), (1, 1))


def phases(x: Array, distance: int = 1) -> Array:
  """The four copies of features: [4 N, H, W, C], the unmoved ones first.

  Args:
    x: [N, H, W, C].
    distance: by which they are moved; 2 for features of twice the resolution.

  >>> phases(jnp.arange(3.0).reshape(1, 1, 3, 1))[:2, 0, :, 0].tolist()
  [[0.0, 1.0, 2.0], [1.0, 2.0, 0.0]]
  """
  h, w = x.shape[1:3]
  pad = (0, distance)
  padded = jnp.pad(x, ((0, 0), pad, pad, (0, 0)))
  return jnp.concatenate(
    [
      padded[:, i * distance :, j * distance :][:, :h, :w] for i, j in _PHASES
    ]
  )


def interleaved(x: Array, size: Sequence[int]) -> Array:
  """The pixels of four phases between each other: [N, *size, C].

  Args:
    x: [4 N, ceil(H / 2), ceil(W / 2), C].
    size: H and W.

  >>> x = jnp.arange(4.0).reshape(4, 1, 1, 1)
  >>> interleaved(x, (2, 2))[0, :, :, 0].tolist()
  [[0.0, 1.0], [2.0, 3.0]]
  """
  n, h, w, c = x.shape
  x = x.reshape(2, 2, n // 4, h, w, c).transpose(2, 3, 0, 4, 1, 5)
  return x.reshape(n // 4, 2 * h, 2 * w, c)[:, : size[0], : size[1]]
