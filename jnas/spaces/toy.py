"""A search problem with a known answer, small enough to search in a second.

Every edge reads the same inputs x [N, D] and has outputs of its own:

  y[e] = weights[e, skip_connect] * x + weights[e, sep_conv_3x3] * tanh(x W[e])

The dense layer plays the part of a parametric operator. Where |x| is above
one neither operator can stand in for the other, so a search finds what was
planted or is wrong. For tests of algorithms, and for trying a new one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jnas.spaces.spec import S3, Cell, Layer, Spec, darts_edges

Array = jax.Array
# By cell, operator and name, as those of a network.
Params = Mapping[str, Mapping[str, Mapping[str, Array]]]


def spec(nodes: int = 2) -> Spec:
  """The spec whose edges the toy has: one normal and one reduction cell."""
  edges = darts_edges(nodes)
  cell = Cell(
    ops=S3,
    edges=edges,
    kept=(S3[1:],) * len(edges),
    concat=tuple(range(2, nodes + 2)),
  )
  return Spec(
    cells=(("normal", cell), ("reduce", cell)),
    layers=(Layer("normal", False), Layer("reduce", True)),
    width=1,
    classes=1,
  )


def init(key: Array, spec: Spec, size: int) -> Params:
  """Weights W [E, D, D] of each cell's dense layers, near zero."""
  params = {}
  for i, (name, cell) in enumerate(spec.searched):
    shape = (len(cell.edges), size, size)
    w = 0.1 * jax.random.normal(jax.random.fold_in(key, i), shape)
    params[name] = {"sep_conv_3x3": {"dense": w}}
  return params


def apply(
  params: Params, x: Array, edge_weights: Mapping[str, Array]
) -> Array:
  """The outputs of all edges of all cells: [N, edges, D].

  Args:
    params: as from `init`.
    x: [N, D].
    edge_weights: for each cell, [E, O].
  """
  skip, dense = S3.index("skip_connect"), S3.index("sep_conv_3x3")
  outputs = []
  for name, own in params.items():
    w = own["sep_conv_3x3"]["dense"]
    weight = edge_weights[name][None, :, :, None]
    outputs.append(
      weight[:, :, skip] * x[:, None]
      + weight[:, :, dense] * jnp.tanh(jnp.einsum("nd,edf->nef", x, w))
    )
  return jnp.concatenate(outputs, 1)


def planted(
  key: Array, spec: Spec, chosen: Mapping[str, Sequence[str]], size: int
) -> Any:
  """A function x -> targets [N, edges, D] of the planted operators.

  Args:
    key: of the planted dense layers, drawn from N(0, 1).
    spec: as from `spec`.
    chosen: for each cell, one operator an edge.
    size: D.
  """
  teacher = jax.tree.map(lambda w: 10 * w, init(key, spec, size))
  hard = {
    name: jnp.asarray([[float(op == o) for o in S3] for op in ops])
    for name, ops in chosen.items()
  }
  return lambda x: apply(teacher, x, hard)
