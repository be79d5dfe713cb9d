"""Cells one edge at a time, as the papers' code computes them.

What the package groups, stacks and merges is here written out, of the plain
definitions (`jnas.ops.plain`): one operator after the other, a normalisation of
its own after each. Parameters are taken out of the package's trees, so that
both compute the same function.
"""

import jax
import jax.numpy as jnp

from jnas.ops import plain, table


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
  return plain.batch_norm(x, (mean, variance), scale, bias)


def operator(
  op, x, arrays, position, stride, pool_norm, *, train=True, seen=None
):
  """One operator on one edge, with arrays out of those of all its edges.

  `position` is that of this edge among those which keep the operator. With
  `seen` a dict, the moments are recorded there, by operator and name.
  """
  row = table.get(op)
  own = {n: a[position] for n, a in arrays.get(op, {}).items()}

  def norm(y, i):
    if row.pool and not pool_norm:
      return y
    affine = [own.get(f"{kind}{i}") for kind in ("scale", "bias")]
    moments = [f"{kind}{i}" for kind in ("mean", "var")]
    now = []
    running = None if train else [own[n] for n in moments]
    y = batch_norm(y, *affine, running, now)
    if train and seen is not None:
      seen.setdefault(op, {}).update(zip(moments, now, strict=True))
    return y

  return row.define(x, own, norm, stride)


def place(cell, op, edge):
  """Of an edge among those that keep an operator, by source, then target."""
  order = sorted(range(len(cell.edges)), key=lambda e: cell.edges[e])
  return [e for e in order if op in cell.kept[e]].index(edge)


def preprocess(x, params, halve):
  x, kernel = jax.nn.relu(x), params["kernel"]
  if halve:
    x = plain.factorized_reduction(x, kernel)
  else:
    x = plain.pointwise(x, kernel)
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
    x = plain.convolution(x, params[f"conv{i}_row"], (1, 2), groups=8)
    x = plain.convolution(x, params[f"conv{i}_column"], (2, 1), groups=8)
    x = jax.nn.relu(batch_norm(x, *_affine(params.get(f"conv{i}_norm0"))))
    x = plain.convolution(x, params[f"conv{i}_point"])
    branches.append(batch_norm(x, *_affine(params.get(f"conv{i}_norm1"))))
  for i, x in enumerate(inputs):
    x = batch_norm(
      plain.max_pool(x, 2), *_affine(params.get(f"pool{i}"))
    )
    branches.append(x)
  if drop is not None:
    branches = [
      x * drop[:, i, 0][:, None, None, None] for i, x in enumerate(branches)
    ]
  return jnp.concatenate(branches, -1)
