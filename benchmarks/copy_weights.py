"""The parameters of a `jnas` supernet, copied into the PyTorch baseline.

`jnas` keeps what an operator learns on all edges of a cell in one array, whose
rows are the edges by source and then by target; the baseline has one module an
edge, by target and then by source. No number is changed on the way, only its
place: kernels [kh, kw, in, out], or [out, in] of 1 x 1 convolutions, become
[out, in, kh, kw].
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from benchmarks.torch_darts import Supernet
from jnas.spaces.spec import Cell, Spec

Tree = Mapping[str, Any]


def copy(
  model: Supernet, spec: Spec, params: Tree, arch: Tree | None = None
) -> None:
  """Fills a model, in place, with parameters of the network of a spec.

  Whatever has the structure of the parameters can be copied, so a gradient
  too, for a comparison entry by entry. Running statistics stay as they are.

  Args:
    model: built with the spec's operators, cells, width, classes and nodes.
    spec: from `jnas.spaces.spec.supernet`, without an auxiliary head.
    params: the "params" collection of `jnas.spaces.cnn.Network(spec)`.
    arch: logits for each searched cell, or None to leave the model's.

  Raises:
    ValueError: names, shapes or types of the two do not match.
  """
  arrays = weights(spec, params)
  for name, value in (arch or {}).items():
    arrays[f"alphas.{name}"] = np.asarray(value)
  wanted = {
    name: parameter
    for name, parameter in model.named_parameters()
    if arch is not None or not name.startswith("alphas.")
  }
  problems = [f"{n}: not in the model" for n in arrays.keys() - wanted.keys()]
  problems += [f"{n}: not in the spec" for n in wanted.keys() - arrays.keys()]
  for name in arrays.keys() & wanted.keys():
    target, source = wanted[name], torch.from_numpy(arrays[name].copy())
    if target.shape != source.shape or target.dtype != source.dtype:
      problems.append(
        f"{name}: the model has {tuple(target.shape)} {target.dtype}, jnas "
        f"{tuple(source.shape)} {source.dtype}"
      )
  given = sum(leaf.size for leaf in _leaves(params))
  taken = sum(
    array.size for n, array in arrays.items() if not n.startswith("alphas.")
  )
  if given != taken:
    problems.append(f"jnas has {given} parameters, {taken} have a place")
  if problems:
    raise ValueError(
      "the model is not the supernet of this spec; build it with the same "
      "operators, cells, width, classes and nodes, and convert it to the type "
      "of the parameters:\n  " + "\n  ".join(sorted(problems))
    )
  with torch.no_grad():
    for name, parameter in wanted.items():
      parameter.copy_(torch.from_numpy(arrays[name].copy()))


def weights(spec: Spec, params: Tree) -> dict[str, np.ndarray]:
  """The parameters under the names and in the shapes of the baseline.

  Args:
    spec: the network.
    params: its "params" collection.
  """
  named = {
    "stem.0.weight": _kernel(params["stem"]),
    "stem.1.weight": np.asarray(params["stem_norm"]["scale"]),
    "stem.1.bias": np.asarray(params["stem_norm"]["bias"]),
    "classifier.weight": np.asarray(params["classifier"]["kernel"]).T,
    "classifier.bias": np.asarray(params["classifier"]["bias"]),
  }
  for i, layer in enumerate(spec.layers):
    cell, inside = spec.cell(layer.cell), params[f"cell{i}"]
    parts = _inputs(inside) | _operators(cell, inside)
    named |= {f"cells.{i}.{name}": array for name, array in parts.items()}
  return named


def _inputs(params: Tree) -> dict[str, np.ndarray]:
  """The two convolutions with which a cell begins."""
  named = {}
  for name in ("input0", "input1"):
    kernel = np.asarray(params[name]["kernel"])
    if kernel.ndim == 3:
      named[f"{name}.even.weight"] = _point(kernel[0])
      named[f"{name}.odd.weight"] = _point(kernel[1])
    else:
      named[f"{name}.1.weight"] = _point(kernel)
  return named


def _operators(cell: Cell, params: Tree) -> dict[str, np.ndarray]:
  """The operators on all edges."""
  named = {}
  order = sorted(range(len(cell.edges)), key=lambda e: cell.edges[e])
  for column, op in enumerate(cell.ops):
    edges = [e for e in order if op in cell.kept[e]]
    own = params.get(op, {})
    halves = np.asarray(own.get("halves", ()))
    # Only the edges from the two inputs have them, and these are the first.
    for edge, (even, odd) in zip(edges, halves, strict=False):
      place = f"edges.{edge}.ops.{column}"
      named[f"{place}.even.weight"] = _point(even)
      named[f"{place}.odd.weight"] = _point(odd)
    # A repeat is four modules: ReLU, depthwise, pointwise, normalisation.
    for repeat in (1, 2):
      if f"depthwise{repeat}" not in own:
        continue
      depthwise = np.asarray(own[f"depthwise{repeat}"])
      pointwise = np.asarray(own[f"pointwise{repeat}"])
      first = 4 * repeat - 3
      for edge, window, point in zip(edges, depthwise, pointwise, strict=True):
        place = f"edges.{edge}.ops.{column}"
        named[f"{place}.{first}.weight"] = _kernel(window[:, :, None])
        named[f"{place}.{first + 1}.weight"] = _point(point)
  return named


def _kernel(kernel: Any) -> np.ndarray:
  """[kh, kw, in, out] as [out, in, kh, kw]."""
  return np.asarray(kernel).transpose(3, 2, 0, 1)


def _point(kernel: Any) -> np.ndarray:
  """[out, in] as [out, in, 1, 1]."""
  return np.asarray(kernel)[:, :, None, None]


def _leaves(tree: Any) -> list[Any]:
  if not isinstance(tree, Mapping):
    return [tree]
  return [leaf for value in tree.values() for leaf in _leaves(value)]
