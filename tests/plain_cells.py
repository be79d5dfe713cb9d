"""Cells one edge at a time, as the papers' code computes them.

What the package groups, stacks and merges is here written out: a grouped and a
1 x 1 convolution for a separable one, a normalisation of its own after each
operator, one operator after the other. Parameters are taken out of the
package's trees, so that both compute the same function.
"""

import jax
from jax import lax
import jax.numpy as jnp

LAYOUT = ("NHWC", "HWIO", "NHWC")
SIZES = {
  "sep_conv_3x3": 3,
  "sep_conv_5x5": 5,
  "sep_conv_7x7": 7,
  "dil_conv_3x3": 3,
  "dil_conv_5x5": 5,
}
FACTORIZED = {"conv_3x1_1x3": 3, "conv_7x1_1x7": 7}
POOLS = ("max_pool_3x3", "avg_pool_3x3")


def convolution(x, kernel, stride, pad, dilation=1, groups=1):
  both = stride if isinstance(stride, tuple) else (stride, stride)
  pads = pad if isinstance(pad, tuple) else (pad, pad)
  return lax.conv_general_dilated(
    x,
    kernel,
    both,
    [(p, p) for p in pads],
    rhs_dilation=(dilation, dilation),
    dimension_numbers=LAYOUT,
    feature_group_count=groups,
  )


def point(x, kernel):
  """A 1 x 1 convolution, kernel [C, D]."""
  return jnp.einsum("nhwc,cd->nhwd", x, kernel)


def separable(x, depthwise, pointwise, stride, dilation):
  """Depthwise [k, k, C] in C groups, then pointwise [D, C]."""
  size, channels = depthwise.shape[0], depthwise.shape[-1]
  pad = dilation * (size - 1) // 2
  x = convolution(
    x, depthwise[:, :, None], stride, pad, dilation, groups=channels
  )
  return point(x, pointwise.T)


def factorized_reduction(x, even, odd):
  """Two 1 x 1 convolutions [D, C] of stride two, the second shifted by one."""
  h, w = x.shape[1:3]
  x = jnp.pad(x, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)))
  halves = (
    convolution(x, even.T[None, None], 2, 0),
    convolution(x[:, 1:, 1:], odd.T[None, None], 2, 0),
  )
  return jnp.concatenate(halves, -1)


def batch_norm(x, scale=None, bias=None, running=None, seen=None):
  """Of the moments of x or of running ones.

  Those of x, with the unbiased variance, go into the list `seen`.
  """
  if running is None:
    mean = x.mean((0, 1, 2))
    variance = jnp.square(x - mean[None, None, None]).mean((0, 1, 2))
    if seen is not None:
      n = x.size // x.shape[-1]
      seen += [mean, variance * n / (n - 1)]
  else:
    mean, variance = running
  x = x - mean[None, None, None]
  x = x / jnp.sqrt(variance + 1e-5)[None, None, None]
  if scale is not None:
    x = x * scale[None, None, None] + bias[None, None, None]
  return x


def pool(name, x, stride):
  pads = ((0, 0), (1, 1), (1, 1), (0, 0))
  window = (1, 3, 3, 1), (1, stride, stride, 1), pads
  if name == "max_pool_3x3":
    return lax.reduce_window(x, -jnp.inf, lax.max, *window)
  total = lax.reduce_window(x, 0.0, lax.add, *window)
  return total / lax.reduce_window(jnp.ones_like(x), 0.0, lax.add, *window)


def operator(
  op, x, leaves, position, stride, pool_norm, *, train=True, seen=None
):
  """One operator on one edge, with arrays out of those of all its edges.

  `position` is that of this edge among those which keep the operator. With
  `seen` a dict, the moments are recorded there under their names.
  """

  def norm(y, repeat, scaled):
    names = [f"{op}_{kind}{repeat}" for kind in ("scale", "bias")]
    moments = [f"{op}_{kind}{repeat}" for kind in ("mean", "var")]
    affine = [
      leaves[n][position] if scaled and n in leaves else None for n in names
    ]
    running = None if train else [leaves[n][position] for n in moments]
    now = []
    y = batch_norm(y, *affine, running, now)
    if train and seen is not None:
      seen.update(zip(moments, now, strict=True))
    return y

  if op in POOLS:
    y = pool(op, x, stride)
    return norm(y, 1, False) if pool_norm else y
  if op == "skip_connect" and stride == 1:
    return x
  x = jax.nn.relu(x)
  if op == "skip_connect":
    halves = leaves["skip_connect_halves"][position]
    return norm(factorized_reduction(x, *halves), 1, True)
  if op in FACTORIZED:
    pad = (FACTORIZED[op] - 1) // 2
    x = convolution(x, leaves[f"{op}_row"][position], (1, stride), (0, pad))
    x = convolution(
      x, leaves[f"{op}_column"][position], (stride, 1), (pad, 0)
    )
    return norm(x, 1, True)
  repeats = 2 if op.startswith("sep") else 1
  for repeat in range(1, repeats + 1):
    x = separable(
      jax.nn.relu(x),
      leaves[f"{op}_dw{repeat}"][position],
      leaves[f"{op}_pw{repeat}"][position],
      stride if repeat == 1 else 1,
      2 if op.startswith("dil") else 1,
    )
    x = norm(x, repeat, True)
  return x


def place(cell, op, edge):
  """Of an edge among those that keep an operator, by source, then target."""
  order = sorted(range(len(cell.edges)), key=lambda e: cell.edges[e])
  return [e for e in order if op in cell.kept[e]].index(edge)


def preprocess(x, params, halve):
  x, kernel = jax.nn.relu(x), params["kernel"]
  if halve:
    x = factorized_reduction(x, kernel[0], kernel[1])
  else:
    x = point(x, kernel.T)
  return batch_norm(x, *_affine(params.get("norm")))


def _affine(norm):
  return (None, None) if norm is None else (norm["scale"], norm["bias"])


def cell_output(
  cell, params, s0, s1, weights, drop, *, reduction, halve_first, pool_norm
):
  """A cell, edge by edge in the order of its rows."""
  states = [
    preprocess(s0, params["input0"], halve_first),
    preprocess(s1, params["input1"], False),
  ]
  for target in range(2, cell.nodes):
    total = 0.0
    for e, (source, t) in enumerate(cell.edges):
      if t != target:
        continue
      stride = 2 if reduction and source < 2 else 1
      for o, op in enumerate(cell.ops):
        if op not in cell.kept[e] or op == "none":
          continue
        y = operator(
          op,
          states[source],
          params,
          place(cell, op, e),
          stride,
          pool_norm,
        )
        if weights is not None:
          y = weights[e, o] * y
        if drop is not None:
          y = y * drop[:, e, o][:, None, None, None]
        total = total + y
    states.append(total)
  return jnp.concatenate([states[i] for i in cell.concat], -1)


def fixed_reduction(params, s0, s1, drop, halve_first):
  """GDAS's reduction cell, with its convolutions in eight groups."""
  inputs = (
    preprocess(s0, params["input0"], halve_first),
    preprocess(s1, params["input1"], False),
  )
  branches = []
  for i, x in enumerate(inputs):
    x = jax.nn.relu(x)
    x = convolution(x, params[f"conv{i}_row"], (1, 2), (0, 1), groups=8)
    x = convolution(x, params[f"conv{i}_column"], (2, 1), (1, 0), groups=8)
    x = jax.nn.relu(batch_norm(x, *_affine(params.get(f"conv{i}_norm0"))))
    x = point(x, params[f"conv{i}_point"][0, 0])
    branches.append(batch_norm(x, *_affine(params.get(f"conv{i}_norm1"))))
  for i, x in enumerate(inputs):
    x = batch_norm(
      pool("max_pool_3x3", x, 2), *_affine(params.get(f"pool{i}"))
    )
    branches.append(x)
  if drop is not None:
    branches = [
      x * drop[:, i, 0][:, None, None, None] for i, x in enumerate(branches)
    ]
  return jnp.concatenate(branches, -1)
