"""The networks of genotypes as PyTorch's state_dict of DARTS's code.

quark0/darts and its relatives (P-DARTS, PC-DARTS, GDAS) name what a network
keeps by module: `cells.3._ops.2.op.1.weight`. Here what an operator keeps on
all edges of a cell is one array. `places` says where each name of the one is
in the other; no number is changed on the way.
"""

from collections.abc import Iterator, Mapping
import functools
import re
from typing import Any, NamedTuple

import jax
import numpy as np

from jnas.ops import table
from jnas.spaces.cells import op_arrays
from jnas.spaces.spec import Block, Cell, Spec

Arrays = Mapping[str, np.ndarray]
Variables = Mapping[str, Any]  # the collections params and batch_stats

# Buffers that networks do not compute with: counters of PyTorch and of thop.
_COUNTERS = re.compile(
  r"(.*\.)?(num_batches_tracked|total_ops|total_params)"
)

# From the axes of an array here to those in PyTorch, and back.
_LAYOUTS = {
  "vector": (lambda a: a, lambda a: a),
  "kernel": (
    lambda a: a.transpose(3, 2, 0, 1), lambda a: a.transpose(2, 3, 1, 0)
  ),
  "depthwise": (
    lambda a: a.transpose(2, 0, 1)[:, None],
    lambda a: a[:, 0].transpose(1, 2, 0),
  ),
  "point": (lambda a: a[:, :, None, None], lambda a: a[:, :, 0, 0]),
  "dense": (lambda a: a.T, lambda a: a.T),
}


class Place(NamedTuple):
  """Where an array of a state_dict is among the variables.

  Attributes:
    path: of the array that it is in, from the collection on.
    layout: of its axes.
    row: index into that array's first axes; () for all of it.
  """

  path: tuple[str, ...]
  layout: str
  row: tuple[int, ...] = ()


Places = Iterator[tuple[str, Place]]


def places(spec: Spec) -> dict[str, Place]:
  """Where each array of the published code's state_dict is.

  Raises:
    ValueError: the published code has no such network.
  """
  found = dict(_stem(spec))
  width, halved = spec.width, spec.imagenet
  for i, layer in enumerate(spec.layers):
    width *= 2 if layer.reduction else 1
    cell, path = spec.cell(layer.cell), (f"cell{i}",)
    inside = dict(_inputs(path, halved))
    if cell is Block.FIXED_REDUCTION:
      inside |= dict(_fixed_reduction(path))
    elif isinstance(cell, Cell) and cell.inputs == 2:
      inside |= dict(_operators(cell, path, width, layer.reduction))
    else:
      raise ValueError(
        "expected a network of cells of two inputs, as those of DARTS, got "
        f"one of {cell.value if isinstance(cell, Block) else 'one input'}"
      )
    found |= {f"cells.{i}.{name}": place for name, place in inside.items()}
    halved = layer.reduction
  found |= dict(_dense("classifier", ("classifier",)))
  if spec.auxiliary:
    found |= dict(_auxiliary(spec))
  return found


def _stem(spec: Spec) -> Places:
  # By convolution, what comes before it and its normalisation's name.
  names = [("stem.0", "stem.1")]
  if spec.imagenet:
    names = [("stem0.0", "stem0.1"), ("stem0.3", "stem0.4")]
    names.append(("stem1.1", "stem1.2"))
  for i, (conv, norm) in enumerate(names):
    own = f"stem{i or ''}"
    yield f"{conv}.weight", Place(("params", own), "kernel")
    yield from _norm(norm, (f"{own}_norm",))


def _inputs(path: tuple[str, ...], halved: bool) -> Places:
  """What a cell begins with; its first input may be halved."""
  for i in range(2):
    kernel = ("params", *path, f"input{i}", "kernel")
    name = f"preprocess{i}"
    if halved and i == 0:
      yield f"{name}.conv_1.weight", Place(kernel, "point", (0,))
      yield f"{name}.conv_2.weight", Place(kernel, "point", (1,))
      norm = f"{name}.bn"
    else:
      yield f"{name}.op.1.weight", Place(kernel, "point")
      norm = f"{name}.op.2"
    yield from _norm(norm, (*path, f"input{i}", "norm"))


def _operators(
  cell: Cell, path: tuple[str, ...], channels: int, reduction: bool
) -> Places:
  """What the operators of a cell keep; `_ops` are its edges in their order."""
  kept = op_arrays(cell, channels, reduction, affine=True, pool_norm=False)
  for op, arrays in kept.items():
    form = table.get(op).form
    for row, edge in enumerate(arrays.edges):
      at = functools.partial(_row, path=(*path, op), row=row)
      name = f"_ops.{edge}"
      if op == "skip_connect":
        halves = ("params", *path, op, "halves")
        yield f"{name}.conv_1.weight", Place(halves, "point", (row, 0))
        yield f"{name}.conv_2.weight", Place(halves, "point", (row, 1))
        yield from _norm(f"{name}.bn", (*path, op), "1", (row,))
      elif isinstance(form, table.Separable):
        # Four modules a repeat: ReLU, depthwise, pointwise, normalisation.
        for i in range(1, form.repeats + 1):
          first = 4 * i - 3
          yield at(f"{name}.op.{first}.weight", f"depthwise{i}", "depthwise")
          yield at(f"{name}.op.{first + 1}.weight", f"pointwise{i}", "point")
          norm = f"{name}.op.{first + 2}"
          yield from _norm(norm, (*path, op), f"{i}", (row,))
      elif op == "conv_7x1_1x7":
        yield at(f"{name}.1.weight", "row", "kernel")
        yield at(f"{name}.2.weight", "column", "kernel")
        yield from _norm(f"{name}.3", (*path, op), "1", (row,))
      else:
        raise ValueError(f"DARTS's code has no operator {op}")


def _row(
  name: str, leaf: str, layout: str, path: tuple[str, ...], row: int
) -> tuple[str, Place]:
  return name, Place(("params", *path, leaf), layout, (row,))


def _fixed_reduction(path: tuple[str, ...]) -> Places:
  """GDAS's reduction cell, by the names of its code."""
  for i in range(2):
    name, own = f"ops1.{i}", f"conv{i}"
    for module, part in ((1, "row"), (2, "column"), (5, "point")):
      place = Place(("params", *path, f"{own}_{part}"), "kernel")
      yield f"{name}.{module}.weight", place
    yield from _norm(f"{name}.3", (*path, f"{own}_norm0"))
    yield from _norm(f"{name}.6", (*path, f"{own}_norm1"))
    yield from _norm(f"ops2.{i}.1", (*path, f"pool{i}"))


def _auxiliary(spec: Spec) -> Places:
  name, own = "auxiliary_head", "auxiliary"
  for module, part in ((2, "point"), (5, "square")):
    place = Place(("params", own, part), "kernel")
    yield f"{name}.features.{module}.weight", place
  yield from _norm(f"{name}.features.3", (own, "norm0"))
  if spec.auxiliary_norm:
    yield from _norm(f"{name}.features.6", (own, "norm1"))
  yield from _dense(f"{name}.classifier", (own, "classifier"))


def _norm(
  name: str,
  path: tuple[str, ...],
  number: str = "",
  row: tuple[int, ...] = (),
) -> Places:
  for theirs, collection, ours in (
    ("weight", "params", "scale"),
    ("bias", "params", "bias"),
    ("running_mean", "batch_stats", "mean"),
    ("running_var", "batch_stats", "var"),
  ):
    place = Place((collection, *path, f"{ours}{number}"), "vector", row)
    yield f"{name}.{theirs}", place


def _dense(name: str, path: tuple[str, ...]) -> Places:
  yield f"{name}.weight", Place(("params", *path, "kernel"), "dense")
  yield f"{name}.bias", Place(("params", *path, "bias"), "vector")


def described(arrays: Arrays) -> dict[str, Any]:
  """What names and shapes say of a network, whatever its genotype.

  Returns:
    The fields of a `Spec` that are `width`, `classes`, `imagenet`, `auxiliary`
    and `auxiliary_norm`; `cells`, and `channels` of the images.

  Raises:
    ValueError: these are not the arrays of such a network.
  """
  imagenet = "stem0.0.weight" in arrays
  stem = "stem0.0.weight" if imagenet else "stem.0.weight"
  numbers = [re.match(r"cells\.(\d{1,4})\.", name) for name in arrays]
  numbers = {int(number[1]) for number in numbers if number}
  problems = [
    f"{name}: there is none of rank {rank}"
    for name, rank in ((stem, 4), ("classifier.weight", 2))
    if np.ndim(arrays.get(name)) != rank
  ]
  if not numbers or max(numbers) >= len(numbers):
    problems.append(f"cells: {len(numbers)} of them, not numbered from 0 on")
  if problems:
    raise ValueError(
      "expected the arrays of a network as DARTS's code names them, "
      f"{stem}, cells.0.preprocess0..., classifier.weight; "
      + "; ".join(problems)
    )
  channels, read = arrays[stem].shape[:2]
  head = "auxiliary_head.features.2.weight" in arrays
  return {
    "cells": len(numbers),
    "width": 2 * channels if imagenet else channels // 3,
    "classes": len(arrays["classifier.weight"]),
    "imagenet": imagenet,
    "auxiliary": head,
    "auxiliary_norm": "auxiliary_head.features.6.weight" in arrays
    or not (head and imagenet),
    "channels": read,
  }


def to_arrays(spec: Spec, variables: Variables) -> dict[str, np.ndarray]:
  """The variables of a network by the names and in the shapes of PyTorch.

  Raises:
    ValueError: the published code has no such network.
  """
  return {
    name: np.ascontiguousarray(
      _LAYOUTS[place.layout][0](np.asarray(_leaf(variables, place))[place.row])
    )
    for name, place in places(spec).items()
  }


def to_variables(
  spec: Spec, arrays: Arrays, shapes: Variables
) -> dict[str, Any]:
  """The variables of a network from the arrays of a state_dict, in float32.

  Args:
    spec: of the network.
    arrays: by PyTorch's names; counters are left out.
    shapes: the variables, as shapes.

  Raises:
    ValueError: arrays are missing, are too many, or have not the shapes that
      the network has; the message names them all.
  """
  arrays = {n: a for n, a in arrays.items() if not _COUNTERS.fullmatch(n)}
  wanted = places(spec)
  # No memory yet: what a file says of its shapes may be wrong.
  empty = jax.tree.map(
    lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), shapes
  )
  refuse(
    {
      name: _LAYOUTS[place.layout][0](_leaf(empty, place)[place.row]).shape
      for name, place in wanted.items()
    },
    arrays,
  )
  variables = jax.tree.map(np.array, empty)
  for name, place in wanted.items():
    leaf = _leaf(variables, place)
    leaf[place.row] = _LAYOUTS[place.layout][1](arrays[name])
  return variables


def refuse(expected: Mapping[str, tuple[int, ...]], arrays: Arrays) -> None:
  """Raises ValueError if arrays are not of these names and shapes, or finite.

  Args:
    expected: shapes by name.
    arrays: by name.
  """
  problems = [f"{name}: missing" for name in expected if name not in arrays]
  problems += [f"{name}: not of it" for name in arrays if name not in expected]
  for name in expected.keys() & arrays.keys():
    array = arrays[name]
    if array.shape != expected[name]:
      problems.append(
        f"{name}: expected {list(expected[name])}, got {list(array.shape)}"
      )
    elif not np.issubdtype(array.dtype, np.floating):
      problems.append(f"{name}: expected real numbers, got {array.dtype}")
    elif not np.isfinite(array).all():
      problems.append(f"{name}: has numbers that are not finite")
  if problems:
    count = len(problems)
    raise ValueError(
      f"expected the arrays of the network of this genotype, got "
      f"{count} problem{'s' * (count > 1)}; is it another genotype?\n  "
      + "\n  ".join(sorted(problems))
    )


def _leaf(variables: Variables, place: Place) -> Any:
  return functools.reduce(lambda tree, name: tree[name], place.path, variables)
