"""Blocks of a stack that are not searched, and what cells begin with."""

from collections.abc import Callable, Mapping
import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from jnas.ops import backend as backend_lib
from jnas.ops import table
from jnas.ops.backend import Backend
from jnas.ops.plain import convolution

Array = jax.Array


class Preprocess(nn.Module):
  """ReLU, a 1 x 1 convolution to C channels, normalisation.

  Where the input has twice the resolution of the cell it is the factorized
  reduction instead.
  """

  channels: int
  halve: bool
  norm: Callable[..., nn.Module]
  backend: Backend = backend_lib.CPU

  @nn.compact
  def __call__(self, x: Array) -> Array:
    c, d = x.shape[-1], self.channels
    init = table.fan_in_uniform(c)
    x = jax.nn.relu(x)
    if self.halve:
      kernel = self.param("kernel", init, (2, d // 2, c))
      x = self.backend.factorized_reduction(x, kernel[None])[0]
    else:
      kernel = self.param("kernel", init, (d, c))
      x = self.backend.pointwise(x[None], kernel[None])[0]
    return self.norm(name="norm")(x)


def pad_channels(x: Array, channels: int) -> Array:
  """x with zeros after its last axis, up to as many channels."""
  pads = [(0, 0)] * (x.ndim - 1) + [(0, channels - x.shape[-1])]
  return jnp.pad(x, pads)


def widened(params: Mapping[str, Any], channels: int) -> dict[str, Any]:
  """A cell's parameters for features that have been padded.

  A factorized reduction's kernel becomes that of a 1 x 1 convolution of both
  halves of the pixels, side by side as channels.

  Args:
    params: of the cell, some of them a `Preprocess`.
    channels: of the features.
  """
  found = dict(params)
  for name in ("input0", "input1"):
    if name in found:
      kernel = found[name]["kernel"]
      if kernel.ndim == 3:
        kernel = jax.scipy.linalg.block_diag(*kernel)
      kernel = pad_channels(kernel, channels)
      found[name] = dict(found[name]) | {"kernel": kernel}
  return found


class FixedReduction(nn.Module):
  """GDAS's fixed reduction cell (Dong & Yang 2019, section 3.3).

  Facts the paper leaves out are those of its published code: each input goes
  through ReLU, convolutions 1 x 3 and 3 x 1 in eight groups, normalisation,
  ReLU, 1 x 1, normalisation; and through a 3 x 3 maximum pool of stride two
  and a normalisation. Both normalisations after pools stay in evaluation.
  """

  channels: int
  halve_first: bool
  norm: Callable[..., nn.Module]
  backend: Backend = backend_lib.CPU

  @nn.compact
  def __call__(self, s0: Array, s1: Array, drop: Array | None) -> Array:
    """The four branches concatenated: [N, H / 2, W / 2, 4 C].

    Args:
      s0: output of the cell before the previous one.
      s1: output of the previous cell.
      drop: [N, 4, 1] factors of drop path, or None.
    """
    c = self.channels
    if c % 8:
      raise ValueError(
        f"the fixed reduction cell has convolutions in 8 groups, so its "
        f"channels must be divisible by 8, but a cell has {c}; choose a width "
        f"divisible by 8 after one doubling (36, 40 or 52, say)"
      )
    enter = functools.partial(
      Preprocess, c, norm=self.norm, backend=self.backend
    )
    inputs = (
      enter(halve=self.halve_first, name="input0")(s0),
      enter(halve=False, name="input1")(s1),
    )
    branches = [self._convolved(f"conv{i}", x) for i, x in enumerate(inputs)]
    for i, x in enumerate(inputs):
      branches.append(self.norm(name=f"pool{i}")(self.backend.max_pool(x, 2)))
    if drop is not None:
      factors = drop[:, :, 0].astype(s0.dtype)
      branches = [
        x * factors[:, i, None, None, None] for i, x in enumerate(branches)
      ]
    return jnp.concatenate(branches, -1)

  def _convolved(self, name: str, x: Array) -> Array:
    c = self.channels
    init = table.fan_in_uniform(3 * c // 8)
    row = self.param(f"{name}_row", init, (1, 3, c // 8, c))
    column = self.param(f"{name}_column", init, (3, 1, c // 8, c))
    point = self.param(f"{name}_point", table.fan_in_uniform(c), (1, 1, c, c))
    x = convolution(jax.nn.relu(x), ungroup(row, 8), (1, 2))
    x = convolution(x, ungroup(column, 8), (2, 1))
    x = jax.nn.relu(self.norm(name=f"{name}_norm0")(x))
    return self.norm(name=f"{name}_norm1")(convolution(x, point))


def ungroup(kernel: Array, groups: int) -> Array:
  """The dense kernel of a grouped convolution: zero between the groups.

  Args:
    kernel: [kh, kw, C / groups, D].
    groups: number of groups.

  Returns:
    [kh, kw, C, D].
  """
  kh, kw, c, d = kernel.shape
  split = kernel.reshape(kh, kw, c, groups, d // groups)
  eye = jnp.eye(groups, dtype=kernel.dtype)
  dense = jnp.einsum("hwcgd,kg->hwkcgd", split, eye)
  return dense.reshape(kh, kw, groups * c, d)


class Residual(nn.Module):
  """The block between two stages of NAS-Bench-201, of stride two.

  Two convolutions 3 x 3, each after a ReLU and before a normalisation, beside
  a 2 x 2 mean and a 1 x 1 convolution (Dong & Yang 2020, section 2.1; the
  order is that of the published code).
  """

  channels: int
  norm: Callable[..., nn.Module]

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """The sum of both ways: [N, ceil(H / 2), ceil(W / 2), channels].

    Args:
      x: [N, H, W, C].
    """
    c, d = x.shape[-1], self.channels
    y = x
    for i, (fan, stride) in enumerate(((c, 2), (d, 1))):
      init = table.fan_in_uniform(9 * fan)
      kernel = self.param(f"conv{i}", init, (3, 3, fan, d))
      y = convolution(jax.nn.relu(y), kernel, stride)
      y = self.norm(name=f"norm{i}")(y)
    pads = [(0, n % 2) for n in x.shape[1:3]]
    mean = nn.avg_pool(x, (2, 2), (2, 2), pads, count_include_pad=False)
    point = self.param("shortcut", table.fan_in_uniform(c), (1, 1, c, d))
    return y + convolution(mean, point)
