"""The parameters of a `jnas` supernet, copied into the PyTorch baseline.

`jnas` computes all edges that leave a node together and keeps their
parameters in one array an operator; the baseline has one module an edge. No
number is changed on the way, only its place: kernels [kh, kw, in, out] become
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
    parts = _inputs(inside)
    for source in range(cell.nodes - 1):
      parts |= _fan(cell, source, inside.get(f"node{source}", {}))
    named |= {f"cells.{i}.{name}": array for name, array in parts.items()}
  return named


def _inputs(params: Tree) -> dict[str, np.ndarray]:
  """The two convolutions with which a cell begins."""
  named = {}
  for name in ("input0", "input1"):
    kernel = np.asarray(params[name]["kernel"])
    if kernel.shape[0] == 2:
      named[f"{name}.even.weight"] = _kernel(kernel[:1])
      named[f"{name}.odd.weight"] = _kernel(kernel[1:])
    else:
      named[f"{name}.1.weight"] = _kernel(kernel)
  return named


def _fan(cell: Cell, source: int, params: Tree) -> dict[str, np.ndarray]:
  """The operators on the edges that leave one node."""
  named = {}
  for column, op in enumerate(cell.ops):
    rows = [
      e
      for e, (start, _) in enumerate(cell.edges)
      if start == source and op in cell.kept[e]
    ]
    for t, row in enumerate(rows):
      place = f"edges.{row}.ops.{column}"
      if op == "skip_connect" and op in params:
        even, odd = np.asarray(params[op])[:, t]
        named[f"{place}.even.weight"] = _kernel(even[None, None])
        named[f"{place}.odd.weight"] = _kernel(odd[None, None])
      # A repeat is four modules: ReLU, depthwise, pointwise, normalisation.
      for repeat in (1, 2):
        if f"{op}_dw{repeat}" not in params:
          continue
        depthwise = np.asarray(params[f"{op}_dw{repeat}"])[t]
        pointwise = np.asarray(params[f"{op}_pw{repeat}"])[t]
        first = 4 * repeat - 3
        named[f"{place}.{first}.weight"] = _kernel(depthwise[:, :, None])
        named[f"{place}.{first + 1}.weight"] = _kernel(pointwise[None, None])
  return named


def _kernel(kernel: Any) -> np.ndarray:
  """[kh, kw, in, out] as [out, in, kh, kw]."""
  return np.asarray(kernel).transpose(3, 2, 0, 1)


def _leaves(tree: Any) -> list[Any]:
  if not isinstance(tree, Mapping):
    return [tree]
  return [leaf for value in tree.values() for leaf in _leaves(value)]
