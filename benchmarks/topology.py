"""What is saved where a topology is pruned, or derived at every step.

  python -m benchmarks.topology pruning
  python -m benchmarks.topology engines --width 16 --batch 64
  python -m benchmarks.topology operators

pruning    GOLD-NAS's network with all operators, with a random half of them
           masked, and built anew without that half
engines    EnTranNAS's table 3: DARTS, then engine and transit cells, feature
           sharing and the bottleneck, one by one; transit cells in the general
           program and compiled as they are ("frozen")
operators  five operators more, in DARTS and in EnTranNAS

Each row is one gradient by weights and logits, all rows in one process and in
turns: seconds to compile, temporaries, seconds of a gradient and its ratio to
the first row; and the multiply-adds of one image that are computed forwards,
where features are not shared.
"""

import argparse
from collections.abc import Mapping
import dataclasses
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnas.algorithms import base, entrannas, goldnas
from jnas.ops import backend as backend_lib
from jnas.runtime import parallel
from jnas.spaces import cnn, cost
from jnas.spaces import spec as spec_lib
from jnas.spaces.prune import prune_params
from jnas.training import losses, transit
from jnas.training.state import State

SIZE = (32, 32)


@dataclasses.dataclass(frozen=True)
class Variant:
  """One row.

  Attributes:
    spec: the network whose parameters there are.
    weights: edge weights of all cells.
    computed: the network that is computed, for its multiply-adds.
    options: of `cnn.Network`.
    variables: parameters and moments, or None for new ones.
  """

  spec: spec_lib.Spec
  weights: Mapping[str, Any]
  computed: spec_lib.Spec
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  variables: Any = None


def fresh(spec: spec_lib.Spec, weights: Any) -> Any:
  """New parameters and moments."""
  x = jax.ShapeDtypeStruct((1, *SIZE, 3), jnp.float32)
  return cnn.Network(spec).lazy_init(
    jax.random.key(0), x, weights, train=False
  )


def pruning(args: argparse.Namespace) -> dict[str, Variant]:
  """Whole, masked and pruned to half of its multiply-adds."""
  full = spec_lib.supernet(
    spec_lib.S2, cells=args.cells, width=args.width, classes=10, shared=False
  )
  half = goldnas.random_pruning(
    full,
    lambda spec: cost.network_flops(spec, SIZE),
    args.share * cost.network_flops(full, SIZE),
    np.random.default_rng(0),
  )
  arch = base.logits(full)(jax.random.key(1), 1.0)
  whole = goldnas.goldnas(full, SIZE).mixture(arch)
  masked = {
    name: w * np.asarray(
      [[op in k for op in cell.ops] for k in cell.kept], np.float32
    )
    for (name, cell), w in zip(half.searched, whole.values(), strict=True)
  }
  variables = fresh(full, whole)
  skip_zero_ops = {"skip_zero_ops": True}
  return {
    "all operators": Variant(full, whole, full, skip_zero_ops, variables),
    "masked": Variant(full, masked, half, skip_zero_ops, variables),
    "built anew": Variant(
      half, masked, half, skip_zero_ops, prune_params(variables, full, half)
    ),
  }


def searched(args: argparse.Namespace, ops: str, **options: Any) -> Any:
  """EnTranNAS's rows for one space: the general and the frozen program."""
  spec = spec_lib.supernet(
    spec_lib.SETS[ops],
    cells=args.cells,
    width=args.width,
    classes=10,
    **options,
  )
  algorithm = entrannas.entrannas(spec)
  arch = algorithm.init(jax.random.key(1), 1.0)
  state = State(jnp.int32(0), None, None, arch, None, None, None)
  derivation = transit.begin(algorithm, state, patience=1)
  state = state._replace(derivation=derivation._replace(unchanged=1))
  weights = base.edge_weights(algorithm, arch, None, state)
  cells = transit.frozen(spec, state, 0, period=1)
  fixed = dict(cells or ())
  computed = dataclasses.replace(
    spec,
    cells=tuple(
      (name, dataclasses.replace(cell, kept=fixed.get(name, cell.kept)))
      for name, cell in spec.cells
    ),
  )
  general = Variant(spec, weights, computed)
  return general, Variant(spec, weights, computed, {"frozen": cells or ()})


def engines(args: argparse.Namespace) -> dict[str, Variant]:
  """The rows of EnTranNAS's table 3."""
  darts, _ = searched(args, "s1_7")
  rows = {"DARTS": darts}
  options: dict[str, Any] = {"engines": "first"}
  for name, more in (
    ("+ engine and transit", {}),
    ("+ feature sharing", {"sharing": True}),
    ("+ bottleneck", {"bottleneck": 4}),
  ):
    options |= more
    general, frozen = searched(args, "s1_7", **options)
    rows[name] = general
    rows[f"{name}, frozen"] = frozen
  return rows


def operators(args: argparse.Namespace) -> dict[str, Variant]:
  """Seven and twelve operators, in DARTS and in EnTranNAS."""
  own = {"engines": "first", "sharing": True, "bottleneck": 4}
  rows = {}
  for ops, count in (("s1_7", 7), ("s1_12", 12)):
    rows[f"DARTS, {count}"], _ = searched(args, ops)
    _, rows[f"EnTranNAS, {count}"] = searched(args, ops, **own)
  return rows


def compiled(variant: Variant, batch: int) -> tuple[Any, tuple[Any, ...]]:
  """A function (params, edge weights) -> gradients, and its arguments."""
  platform = jax.devices()[0].platform
  backend = backend_lib.of(platform)
  network = cnn.Network(
    variant.spec, loop=backend.loops, backend=backend, **variant.options
  )
  objective = losses.classification(network)
  variables = variant.variables or fresh(variant.spec, variant.weights)
  source = np.random.default_rng(0)
  x = jnp.asarray(source.normal(size=(batch, *SIZE, 3)), jnp.float32)
  images = losses.Batch(x, jnp.asarray(source.integers(0, 10, batch)), None)
  learnt = {k: w for k, w in variant.weights.items()
            if not k.endswith(spec_lib.TRANSIT)}
  fixed = {k: w for k, w in variant.weights.items() if k not in learnt}

  def gradient(params, learnt, stats, fixed):
    def loss(params, learnt):
      return objective(params, stats, learnt | fixed, images, None)[0]

    return jax.grad(loss, (0, 1))(params, learnt)

  given = variables["params"], learnt, variables["batch_stats"], fixed
  options = parallel.compiler_options(parallel.mesh(jax.devices()[:1]))
  program = jax.jit(gradient, compiler_options=options)
  return program.lower(*given).compile(), given


def main() -> None:
  """Prints one table."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  tables = {"pruning": pruning, "engines": engines, "operators": operators}
  parser.add_argument("table", choices=tables)
  parser.add_argument("--cells", type=int, default=8)
  parser.add_argument("--width", type=int, default=16)
  parser.add_argument("--batch", type=int, default=16)
  parser.add_argument("--share", type=float, default=0.5, help="of pruning")
  parser.add_argument("--rounds", type=int, default=7)
  args = parser.parse_args()
  jax.config.update("jax_enable_compilation_cache", False)
  programs, seconds = {}, {}
  print(f"{'':28} compile s  MB temporary  M multiply-adds")
  for name, variant in tables[args.table](args).items():
    begun = time.monotonic()
    program, given = compiled(variant, args.batch)
    took = time.monotonic() - begun
    memory = program.memory_analysis().temp_size_in_bytes / 2**20
    flops = ""
    if not variant.spec.sharing:  # `cost` counts edge by edge
      flops = f"{cost.network_flops(variant.computed, SIZE) / 1e6:.1f}"
    print(f"{name:28} {took:9.1f} {memory:13.0f} {flops:>16}", flush=True)
    programs[name], seconds[name] = (program, given), []
  for turn in range(args.rounds + 1):
    for name, (program, given) in programs.items():
      begun = time.perf_counter()
      jax.block_until_ready(program(*given))
      if turn:
        seconds[name].append(time.perf_counter() - begun)
  print(f"\n{'':28} seconds a gradient  ratio to the first")
  first = statistics.median(next(iter(seconds.values())))
  for name, values in seconds.items():
    median = statistics.median(values)
    print(f"{name:28} {median:18.3f} {median / first:19.2f}")


if __name__ == "__main__":
  main()
