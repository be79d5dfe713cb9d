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
  """Depthwise [k, k, C] in C groups, then pointwise [C, D]."""
  size, channels = depthwise.shape[0], depthwise.shape[-1]
  pad = dilation * (size - 1) // 2
  x = convolution(
    x, depthwise[:, :, None], stride, pad, dilation, groups=channels
  )
  return point(x, pointwise)


def factorized_reduction(x, even, odd):
  """Two 1 x 1 convolutions of stride two, the second shifted by (1, 1)."""
  h, w = x.shape[1:3]
  x = jnp.pad(x, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)))
  halves = (
    convolution(x, even[None, None], 2, 0),
    convolution(x[:, 1:, 1:], odd[None, None], 2, 0),
  )
  return jnp.concatenate(halves, -1)


def batch_norm(x, scale=None, bias=None):
  mean = x.mean((0, 1, 2), keepdims=True)
  variance = jnp.square(x - mean).mean((0, 1, 2), keepdims=True)
  x = (x - mean) / jnp.sqrt(variance + 1e-5)
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


def _norm_slice(params, norm, users, op, position, channels):
  """Scale and shift of one operator of one edge, out of the joint ones.

  `users` lists (operator, number of its edges) in the order of the joint norm.
  """
  if norm not in params:
    return None, None
  before = 0
  for name, count in users:
    if name == op:
      break
    before += count
  start = (before + position) * channels
  part = slice(start, start + channels)
  return params[norm]["scale"][part], params[norm]["bias"][part]


def operator(op, x, params, names, kept, edge, stride, pool_norm):
  """One operator on one edge, with parameters out of the tree of its node.

  `kept` are the operators of all edges that leave the node, `edge` the number
  of this one among them.
  """
  channels = x.shape[-1]
  position = [t for t, ops in enumerate(kept) if op in ops].index(edge)
  counts = {name: sum(name in ops for ops in kept) for name in names}
  convs = [n for n in names if n in SIZES or n in FACTORIZED]
  first = [(n, counts[n]) for n in convs]
  if stride == 2:
    first.append(("skip_connect", counts.get("skip_connect", 0)))
  second = [(n, counts[n]) for n in convs if n.startswith("sep")]

  def norm(y, name, users):
    return batch_norm(
      y, *_norm_slice(params, name, users, op, position, channels)
    )

  if op in POOLS:
    y = pool(op, x, stride)
    return batch_norm(y) if pool_norm else y
  if op == "skip_connect" and stride == 1:
    return x
  x = jax.nn.relu(x)
  if op == "skip_connect":
    halves = params["skip_connect"][:, position]
    return norm(factorized_reduction(x, *halves), "norm1", first)
  if op in FACTORIZED:
    pad = (FACTORIZED[op] - 1) // 2
    x = convolution(
      x, params[f"{op}_row"][position], (1, stride), (0, pad)
    )
    x = convolution(
      x, params[f"{op}_column"][position], (stride, 1), (pad, 0)
    )
    return norm(x, "norm1", first)
  repeats = 2 if op.startswith("sep") else 1
  for repeat in range(1, repeats + 1):
    x = separable(
      jax.nn.relu(x),
      params[f"{op}_dw{repeat}"][position],
      params[f"{op}_pw{repeat}"][position],
      stride if repeat == 1 else 1,
      2 if op.startswith("dil") else 1,
    )
    x = norm(x, f"norm{repeat}", first if repeat == 1 else second)
  return x


def preprocess(x, params, halve):
  x, kernel = jax.nn.relu(x), params["kernel"]
  if halve:
    x = factorized_reduction(x, kernel[0, 0], kernel[1, 0])
  else:
    x = point(x, kernel[0, 0])
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
      rows = [
        r for r, (j, _) in enumerate(cell.edges) if j == source and cell.kept[r]
      ]
      for o, op in enumerate(cell.ops):
        if op not in cell.kept[e] or op == "none":
          continue
        y = operator(
          op,
          states[source],
          params.get(f"node{source}", {}),
          cell.ops,
          [cell.kept[r] for r in rows],
          rows.index(e),
          stride,
          pool_norm,
        )
        if weights is not None:
          y = weights[e, o] * y
        identity = op == "skip_connect" and stride == 1
        if drop is not None and not identity:
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
