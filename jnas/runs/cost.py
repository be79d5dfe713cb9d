"""Parameters and multiply-adds of the network of a genotype, exact integers.

  python -m jnas.runs.cost DARTS_V2 --channels=36 --layers=20 --classes=10

The multiply-adds are of one image, without the auxiliary head, which is there
in training only, and by three conventions:

  conv_linear    convolutions and the classifier, without biases
  thop           and two for an element normalised, one for one through a ReLU
  nas_bench_201  convolutions and the classifier with its bias
"""

import argparse
import bisect
from collections.abc import Callable, Iterator, Sequence
import functools
import json
import math
import sys
from typing import Any

import jax
import jax.numpy as jnp

from jnas import genotype as genotype_lib
from jnas.genotype import AnyGenotype, NasBench201Genotype, StackGenotype
from jnas.ops.table import OpCounts
from jnas.runs import command
from jnas.spaces import cnn, cost, discrete
from jnas.spaces.spec import Spec

_IMAGENET = 64  # pixels of an image from which on the stem is ImageNet's
_WIDTHS = range(2, 2**16, 2)  # even: ImageNet's stem halves them
_CONVENTIONS: dict[str, Callable[[OpCounts, Spec], int]] = {
  "conv_linear": lambda work, spec: work.macs,
  "thop": lambda work, spec: cost.thop_flops(work),
  "nas_bench_201": lambda work, spec: work.macs + spec.classes,
}


def main(arguments: Sequence[str] | None = None) -> int:
  """Returns the exit status of the command line."""
  options = _parser().parse_args(arguments)
  try:
    found = _measure(options)
  except (ValueError, OSError) as error:
    print(f"cost: {error}", file=sys.stderr)
    return 2
  print(json.dumps(found) if options.json else "\n".join(_table(found)))
  return 0


def _measure(options: argparse.Namespace) -> dict[str, Any]:
  """What the command line asks for, as it is printed with --json."""
  genotype = genotype_lib.load(options.genotype)
  _fill(options, isinstance(genotype, NasBench201Genotype))
  derive = functools.partial(
    discrete.derived,
    genotype,
    cells=_layers(genotype, options),
    classes=options.classes,
    auxiliary=options.auxiliary,
    imagenet=options.stem == "imagenet",
  )
  size = options.image_size, options.image_size

  def work(spec: Spec) -> dict[str, OpCounts]:
    return cost.network_counts(spec, size)

  width = options.channels
  if options.max_macs is not None:
    width = _widest(
      lambda width: _macs(work(spec := derive(width=width)), spec)[
        options.convention
      ],
      options.max_macs,
    )
  if options.stem == "imagenet" and width % 2:
    raise ValueError(
      f"--channels: the stem of ImageNet needs an even number, got {width}"
    )
  spec = derive(width=width)
  works, params = work(spec), _params(spec)
  auxiliary = params.pop("auxiliary", 0)
  return {
    "genotype": genotype_lib.format_text(genotype),
    "layers": len(spec.layers),
    "channels": width,
    "classes": spec.classes,
    "image_size": options.image_size,
    "stem": options.stem,
    "params": sum(params.values()) + auxiliary,
    "params_auxiliary": auxiliary,
    "macs": _macs(works, spec),
    "parts": [
      {
        "name": name,
        "params": params[name],
        "conv_linear": each.macs,
        "thop": cost.thop_flops(each),
      }
      for name, each in works.items()
    ],
  }


def _fill(options: argparse.Namespace, stages: bool) -> None:
  """Puts the field's values where the command line gives none.

  Args:
    options: of the command line; changed.
    stages: whether the network is one of NAS-Bench-201.
  """
  if options.max_macs is not None and options.channels is not None:
    raise ValueError(
      "--max-macs finds the number of channels: expected no --channels beside "
      f"it, got {options.channels}"
    )
  if options.stem is None:
    large = (options.image_size or 0) >= _IMAGENET and not stages
    options.stem = "imagenet" if large else "cifar"
  imagenet = options.stem == "imagenet"
  options.channels = options.channels or (
    48 if imagenet else 16 if stages else 36
  )
  options.classes = options.classes or (1000 if imagenet else 10)
  options.image_size = options.image_size or (224 if imagenet else 32)


def _layers(genotype: AnyGenotype, options: argparse.Namespace) -> int:
  """The cells of the network, of NAS-Bench-201 those of each stage."""
  if isinstance(
    genotype, genotype_lib.RecurrentGenotype | genotype_lib.SpaceGenotype
  ):
    raise ValueError(
      "expected the genotype of an image network of jnas's own spaces, got "
      f"{genotype_lib.format_text(genotype)[:60]}"
    )
  stages = isinstance(genotype, NasBench201Genotype)
  own = 14 if options.stem == "imagenet" else 20
  if isinstance(genotype, StackGenotype):
    own = len(genotype.cells)
  layers = options.layers or (5 if stages else own)
  if isinstance(genotype, StackGenotype) and layers != own:
    raise ValueError(
      f"--layers: the genotype describes {own} cells, each its own, got "
      f"{layers}"
    )
  if options.stem == "imagenet" and stages:
    raise ValueError(
      "--stem: that of ImageNet is for stacks of cells of two inputs, got "
      "NAS-Bench-201"
    )
  return layers


def _widest(macs: Callable[[int], int], budget: float) -> int:
  """The largest even number of channels whose network is within the budget."""
  place = bisect.bisect_right(_WIDTHS, budget, key=macs)
  if not place:
    raise ValueError(
      f"--max-macs: the network of {_WIDTHS[0]} channels takes "
      f"{macs(_WIDTHS[0])} multiply-adds, more than {budget:.0f}; give "
      "more, or fewer --layers"
    )
  return _WIDTHS[place - 1]


def _macs(works: dict[str, OpCounts], spec: Spec) -> dict[str, int]:
  whole = OpCounts(*map(sum, zip(*works.values(), strict=True)))
  return {name: count(whole, spec) for name, count in _CONVENTIONS.items()}


def _params(spec: Spec) -> dict[str, int]:
  """Parameters by part."""
  variables = jax.eval_shape(
    functools.partial(cnn.Network(spec).init, train=False),
    jax.random.key(0),
    jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32),
  )
  parts = {"stem": 0, "classifier": 0}
  for name, tree in variables["params"].items():
    part = "stem" if name.startswith("stem") else name
    part = "classifier" if name == "head_norm" else part
    size = sum(leaf.size for leaf in jax.tree.leaves(tree))
    parts[part] = parts.get(part, 0) + size
  return parts


def _table(found: dict[str, Any]) -> Iterator[str]:
  yield found["genotype"]
  yield ", ".join(
    f"{name.replace('_', ' ')} {found[name]}"
    for name in ("layers", "channels", "classes", "image_size", "stem")
  )
  row = "{:<11} {:>15} {:>18} {:>18}".format
  yield row("", "params", "conv_linear", "thop")
  for part in found["parts"]:
    yield row(
      part["name"], *(f"{part[k]:,}" for k in ("params", "conv_linear", "thop"))
    )
  if found["params_auxiliary"]:
    yield row("auxiliary", f"{found['params_auxiliary']:,}", "", "").rstrip()
  macs = found["macs"]
  yield row(
    "whole", *(f"{n:,}" for n in (found["params"], *list(macs.values())[:2]))
  )
  yield f"multiply-adds as NAS-Bench-201 counts: {macs['nas_bench_201']:,}"


def _number(text: str) -> int:
  if not text.isascii() or not text.isdigit() or not 0 < int(text) < 2**16:
    raise argparse.ArgumentTypeError(
      f"expected a whole number from 1 to 65535, got {text!r}"
    )
  return int(text)


def _budget(text: str) -> float:
  try:
    budget = float(text)
  except ValueError:
    budget = math.nan
  if not 0 < budget < math.inf:
    raise argparse.ArgumentTypeError(
      f"expected a number of multiply-adds such as 600e6, got {text!r}"
    )
  return budget


def _parser() -> argparse.ArgumentParser:
  parser = command.parser("cost", __doc__)
  add = functools.partial(parser.add_argument, type=_number, metavar="N")
  parser.add_argument(
    "genotype", help="a published cell's name, a genotype, its file, or a run"
  )
  add("--channels", help="default: 36; of NAS-Bench-201 16, on ImageNet 48")
  add(
    "--layers",
    help="default: 20; of NAS-Bench-201 5 in each stage, on ImageNet 14, of a "
    "genotype of independent cells as many",
  )
  add("--classes", help="default: 10; on ImageNet 1000")
  add("--image-size", help="default: 32; on ImageNet 224")
  parser.add_argument(
    "--stem",
    choices=("cifar", "imagenet"),
    help=f"default: imagenet for images of {_IMAGENET} pixels or more",
  )
  parser.add_argument(
    "--auxiliary",
    action="store_true",
    help="with the auxiliary head's parameters: on ImageNet that of P-DARTS, "
    "which has 1,536 more than DARTS's, a second normalisation",
  )
  parser.add_argument(
    "--max-macs",
    type=_budget,
    metavar="BUDGET",
    help="instead of --channels: the widest network, in steps of two channels, "
    "of at most so many multiply-adds, such as 600e6",
  )
  parser.add_argument(
    "--convention",
    choices=tuple(_CONVENTIONS),
    default="conv_linear",
    help="by which --max-macs counts; default: conv_linear",
  )
  parser.add_argument("--json", action="store_true", help="one JSON object")
  return parser


if __name__ == "__main__":
  sys.exit(main())
