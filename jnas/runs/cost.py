"""What networks and operators cost: parameters, multiply-adds, memory, time.

  jnas cost DARTS_V2 --channels=36 --layers=20 --classes=10
  jnas cost runs/darts_quick          of what a search or a training has found
  jnas cost runs/darts_quick --supernet
  jnas cost --config=configs/darts.py:pcdarts --config.space.width=8
  jnas cost --operators=s1 --channels=36 --image-size=32

Of a run width, depth, classes and image size are its own where no flag says
otherwise; of a config that searches it is the search network. Numbers are exact
integers. The multiply-adds are of one image, without the auxiliary head, which
is there in training only, and by three conventions:

  conv_linear    convolutions and the classifier, without biases
  thop           and two for an element normalised, one for one through a ReLU
  nas_bench_201  convolutions and the classifier with its bias

Of a space of one's own they are counted in the program of the network, where
nothing tells a normalisation: without thop, and not part by part.
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
from jnas.ops import backend as backend_lib
from jnas.ops import table
from jnas.ops.table import OpCounts
from jnas.runs import build, command, latency, retrain, subject
from jnas.runs.subject import LARGE, Subject
from jnas.runtime import parallel, residuals
from jnas.spaces import cost, expected
from jnas.spaces import registry as spaces
from jnas.spaces.spec import Cell, Spec

_WIDTHS = range(2, 2**16, 2)  # even: ImageNet's stem halves them
_CONVENTIONS: dict[str, Callable[[OpCounts, Spec], int]] = {
  "conv_linear": lambda work, spec: work.macs,
  "thop": lambda work, spec: cost.thop_flops(work),
  "nas_bench_201": lambda work, spec: work.macs + spec.classes,
}


def main(arguments: Sequence[str] | None = None) -> int:
  """Returns the exit status of the command line."""
  parser = _parser()
  options, fields = command.parse(parser, arguments)
  named = options.genotype, options.config, options.operators
  if sum(one is not None for one in named) != 1:
    parser.error(
      "expected a genotype or a run, --config=PATH.py or --operators=SPACE, "
      f"and one of them, got {', '.join(filter(None, named)) or 'none'}"
    )
  try:
    if options.operators is not None:
      found, lines = _operators(options, fields), _operator_table
    else:
      found, lines = _measure(options, fields), _table
  except (ValueError, OSError) as error:
    print(f"cost: {error}", file=sys.stderr)
    return 2
  print(json.dumps(found) if options.json else "\n".join(lines(found)))
  return 0


def _measure(
  options: argparse.Namespace, fields: Sequence[str]
) -> dict[str, Any]:
  """What the command line asks for, as it is printed with --json."""
  own = subject.find(options, fields)

  known = spaces.of(own.spec()).flops is cost.network_flops
  if not known:
    _refuse(options, own.config.space.name)

  def work(spec: Spec) -> dict[str, OpCounts]:
    *size, channels = own.shape
    if known:
      return cost.network_counts(spec, tuple(size), channels)
    return {"": OpCounts(spaces.counts(spec, own.shape)[1])}

  width = None
  if options.max_macs is not None:
    width = _widest(
      lambda width: _macs(work(spec := own.spec(width)), spec)[
        options.convention
      ],
      options.max_macs,
    )
  spec = own.spec(width)
  # Of a network that is known, parameters do not depend on the image's size.
  params = _params(spec, (32, 32, own.shape[2]) if known else own.shape)
  works = work(spec)
  macs = _macs(works, spec)
  auxiliary = params.pop("auxiliary", 0)
  found = {
    "genotype": own.genotype and genotype_lib.format_text(own.genotype),
    "space": own.config.space.name,
    "layers": len(spec.layers) if known else own.config.space.cells,
    "channels": spec.width,
    "classes": spec.classes,
    "image_size": _side(own.shape),
    "stem": "imagenet" if spec.imagenet else "cifar",
    "params": sum(params.values()) + auxiliary,
    "params_auxiliary": auxiliary,
    "macs": macs,
    "parts": [
      {
        "name": name,
        "params": params[name],
        "conv_linear": each.macs,
        "thop": cost.thop_flops(each),
      }
      for name, each in works.items()
      if known
    ],
  }
  if not known:
    del found["stem"], found["params_auxiliary"], macs["thop"]
    parts = {name: count for name, count in params.items() if count}
    found["parts"] = [{"name": k, "params": n} for k, n in parts.items()]
  elif options.supernet:
    found["expected_macs"] = _expected(own, spec, options.genotype)
  if options.memory or options.latency:
    found |= _on_device(own, spec, options)
  return found


def _refuse(options: argparse.Namespace, space: str) -> None:
  """Returns if a space of one's own has what is asked for, or ValueError."""
  odd = [name for name in ("stem", "auxiliary") if getattr(options, name)]
  if options.convention == "thop":
    odd.append("convention=thop")
  if odd:
    raise ValueError(f"--{odd[0]}: {space} does not have it; leave it out")


def _expected(own: Subject, spec: Spec, folder: str) -> int | None:
  """The expected multiply-adds under the weights that a search has come to.

  None where they are not known, or of another network than the first.
  """
  try:
    _, weights = retrain.relaxed(own.config, folder, own.classes)
  except ValueError:
    return None
  *size, channels = own.shape
  macs = expected.expected_macs(spec, tuple(size), weights, channels)
  return round(float(macs))


def _side(shape: tuple[int, int, int]) -> int | list[int]:
  """The pixels of a side, or height and width where they differ."""
  return shape[0] if shape[0] == shape[1] else list(shape[:2])


def _on_device(
  own: Subject, spec: Spec, options: argparse.Namespace
) -> dict[str, Any]:
  """Memory and time of the network as the first device here computes it."""
  mesh = parallel.mesh(jax.devices()[:1])
  network = build.network(own.config, spec, mesh)
  # Each operator of a search network has a weight, that of a search's start.
  edges = None
  if own.genotype is None:
    edges = {
      name: jnp.full(cell.shape, 1 / cell.shape[1])
      for name, cell in spec.cells
      if isinstance(cell, Cell)
    }
  x = jnp.ones((own.batch, *own.shape))
  init = functools.partial(
    network.lazy_init, jax.random.key(0), x[:1], edges, train=False
  )
  found: dict[str, Any] = {"batch": own.batch}
  if options.memory:

    def train(variables, edges):
      return network.apply(
        variables, x, edges, train=True, mutable=["batch_stats"]
      )[0]

    kept = residuals.kept_bytes(train, jax.eval_shape(init), edges)
    found["activation_bytes"] = kept
  if options.latency:
    variables = init()
    call = jax.jit(functools.partial(network.apply, train=False))
    took = latency.seconds(lambda: call(variables, x, edges))
    found |= {"milliseconds": 1e3 * took, "device": x.device.device_kind}
  return found


def _operators(
  options: argparse.Namespace, fields: Sequence[str]
) -> dict[str, Any]:
  """The operators of a space one by one, as they are printed with --json."""
  if fields:
    raise ValueError(f"unrecognized arguments: {fields[0]}")
  others = "layers classes stem auxiliary max_macs supernet memory".split()
  if odd := [name for name in others if getattr(options, name)]:
    flag = f"--{odd[0].replace('_', '-')}"
    raise ValueError(f"{flag}: not of single operators; leave it out")
  if "," in options.operators:
    names = tuple(options.operators.split(","))
  else:
    names = spaces.find(options.operators).operators
  channels, side = options.channels or 36, options.image_size or 32
  batch = options.batch or 1
  rows = [
    _operator(name, stride, channels, side) for name in names
    for stride in (1, 2)
  ]
  found = {"channels": channels, "image_size": side, "operators": rows}
  if options.latency:
    backend = backend_lib.of(parallel.platform(parallel.mesh()))
    for row in rows:
      where = row["operator"], channels, (side, side), row["stride"]
      row["milliseconds"] = latency.milliseconds(*where, batch, backend)
    found |= {"batch": batch, "device": jax.devices()[0].device_kind}
  return found


def _operator(
  name: str, stride: int, channels: int, side: int
) -> dict[str, Any]:
  """What one operator costs, in a search network and in a derived one."""
  work = table.get(name).counts(channels, (side, side), stride)
  params = {}
  for form, affine in (("search", False), ("derived", True)):
    learnt, _ = table.arrays(
      name, channels, stride, affine=affine, pool_norm=not affine
    )
    params[f"params_{form}"] = sum(
      math.prod(each.shape) for each in learnt.values()
    )
  return {
    "operator": name,
    "stride": stride,
    **params,
    "conv_linear": work.macs,
    "thop": cost.thop_flops(work),
    "nas_bench_201": work.macs,  # there is no classifier
  }


def _operator_table(found: dict[str, Any]) -> Iterator[str]:
  yield f"channels {found['channels']}, image size {found['image_size']}"
  if "device" in found:
    yield f"milliseconds an image, batch {found['batch']}, {found['device']}"
  names = "params_search params_derived conv_linear thop milliseconds".split()
  names = [name for name in names if name in found["operators"][0]]
  start, cell = "{:<14} {:>6}".format, " {:>14}".format
  yield start("", "stride") + "".join(
    cell(name.replace("_", " ")) for name in names
  )
  for row in found["operators"]:
    each = [
      f"{row[n]:,.4f}" if n == "milliseconds" else f"{row[n]:,}" for n in names
    ]
    yield start(row["operator"], row["stride"]) + "".join(map(cell, each))


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


def _params(spec: Spec, shape: tuple[int, int, int]) -> dict[str, int]:
  """Parameters by part."""
  _, variables, _ = spaces.shapes(spec, shape)
  parts = {"stem": 0, "classifier": 0}
  for name, tree in variables["params"].items():
    part = "stem" if name.startswith("stem") else name
    part = "classifier" if name == "head_norm" else part
    size = sum(leaf.size for leaf in jax.tree.leaves(tree))
    parts[part] = parts.get(part, 0) + size
  return parts


def _table(found: dict[str, Any]) -> Iterator[str]:
  yield found["genotype"] or f"search network, space {found['space']}"
  yield ", ".join(
    f"{name.replace('_', ' ')} {found[name]}"
    for name in ("layers", "channels", "classes", "image_size", "stem")
    if name in found
  )
  macs, rows = found["macs"], [*found["parts"]]
  if auxiliary := found.get("params_auxiliary"):
    rows.append({"name": "auxiliary", "params": auxiliary})
  rows.append({"name": "whole", "params": found["params"], **macs})
  names = [name for name in ("conv_linear", "thop") if name in macs]
  start, cell = "{:<11} {:>15}".format, " {:>18}".format
  yield start("", "params") + "".join(map(cell, names))
  for one in rows:
    numbers = (f"{one[name]:,}" if name in one else "" for name in names)
    line = start(one["name"], f"{one['params']:,}")
    yield (line + "".join(map(cell, numbers))).rstrip()
  yield f"multiply-adds as NAS-Bench-201 counts: {macs['nas_bench_201']:,}"
  if found.get("expected_macs"):
    yield (
      f"expected by its architecture weights: {found['expected_macs']:,} "
      "multiply-adds"
    )
  if "activation_bytes" in found:
    yield (
      f"kept for the backward pass: {found['activation_bytes'] / 2**20:,.1f} "
      f"MiB of a batch of {found['batch']}"
    )
  if "milliseconds" in found:
    yield (
      f"forward pass: {found['milliseconds']:,.2f} ms of a batch of "
      f"{found['batch']} on {found['device']}"
    )


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
    "genotype",
    nargs="?",
    help="a published cell's name, a genotype, its file, or a run",
  )
  parser.add_argument(
    "--config",
    metavar="PATH.py[:ARGUMENT]",
    help="instead: the network of a config; any field is set by "
    "--config.GROUP.FIELD=VALUE",
  )
  parser.add_argument(
    "--operators",
    metavar="SPACE",
    help="instead: each operator of a space, or of a list with commas, on "
    "--channels and --image-size pixels that it reads; as in a search network "
    "without scales, and as in a derived one",
  )
  parser.add_argument(
    "--supernet",
    action="store_true",
    help="of a search's folder: its search network, not what it has found",
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
    help=f"default: imagenet for images of {LARGE} pixels or more",
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
  parser.add_argument(
    "--memory",
    action="store_true",
    help="and the bytes of all arrays that the forward pass of a training step "
    "makes and its backward pass reads, as JAX differentiates it for this "
    "device; of a search network both for weights and for edge weights",
  )
  parser.add_argument(
    "--latency",
    action="store_true",
    help="and how long a forward pass takes on this device, compiled, the "
    "median of 15",
  )
  add("--batch", help="for these two; default: 1, of a config or run its own")
  parser.add_argument("--json", action="store_true", help="one JSON object")
  return parser


if __name__ == "__main__":
  sys.exit(main())
