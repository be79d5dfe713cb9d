"""Squeeze-and-excitation (Hu et al. 2018) as an operator of one's own.

  python -m jnas.main --config=configs/darts.py:quick \
      --config.space.operators="none skip_connect sep_conv_3x3 \
examples.squeeze_excite:squeeze_excite"

Each channel is scaled by a gate in (0, 1) that depends on the means of all
channels (equations 2 to 4):

  y_c = x_c s_c,    s = sigma(W2 ReLU(W1 z)),    z_c = mean of x_c

The gates follow a ReLU and come before a normalisation, as convolutions of
cells do. With a stride of two the features are averaged before.

A row says what an operator learns, what it computes and what it costs. Its name
in genotypes is its import path, so that retraining finds it again.
"""

import jax

from jnas.ops import plain
from jnas.ops.table import OpCounts, Operator, Parameter, fan_in_uniform

REDUCTION = 4  # r: W1 has C / r rows


def _gated(
  x: jax.Array, p: plain.Params, norm: plain.Norm, stride: int
) -> jax.Array:
  """The features [N, H', W', C] of one edge.

  Args:
    x: [N, H, W, C].
    p: what `_parameters` names.
    norm: (y, i) -> y after the i-th normalisation.
    stride: 1 or 2.
  """
  x = jax.nn.relu(x)
  if stride == 2:
    x = plain.avg_pool(x, 2)
  squeezed = jax.nn.relu(x.mean((1, 2)) @ p["reduce"].astype(x.dtype))
  gates = jax.nn.sigmoid(squeezed @ p["expand"].astype(x.dtype))
  return norm(x * gates[:, None, None], 1)


def _parameters(channels: int, stride: int) -> dict[str, Parameter]:
  del stride
  inside = max(1, channels // REDUCTION)
  return {
    "reduce": Parameter((channels, inside), fan_in_uniform(channels)),
    "expand": Parameter((inside, channels), fan_in_uniform(inside)),
  }


def _counts(channels: int, size: tuple[int, int], stride: int) -> OpCounts:
  inside, (h, w) = max(1, channels // REDUCTION), plain.strided(size, stride)
  elements = channels * h * w
  return OpCounts(
    macs=2 * channels * inside + elements,
    norm_elements=elements,
    relu_elements=channels * size[0] * size[1] + inside,
  )


squeeze_excite = Operator(_gated, _parameters, _counts)
