"""Whether a device computes what the definition says.

  python -m benchmarks.agreement        # of S1 and of S3
  python -m benchmarks.agreement s3     # of one, sooner

A small supernet of each set of operators, in float32 on the first device of
this machine, in the form that is chosen for it, against float64 on CPU, in the
form that tests hold against the plain one: loss, gradients by weights and
logits, and the amended gradient, whose second-order term is exact. Prints the
relative error of each, and ends with status 1 where one is above the tolerance.
Products are computed in full float32; what lower precision does is not looked
at.
"""

import functools
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import programs
from jnas import solve
from jnas.algorithms import base, darts
from jnas.ops import backend as backend_lib
from jnas.runtime import keys
from jnas.spaces import arch as arch_lib
from jnas.spaces import cnn
from jnas.spaces import spec as spec_lib
from jnas.training import losses

TOLERANCE = 1e-3  # float32 through some twenty layers with batch statistics
SETS = ("s1", "s3")


def quantities(
  operators: str, dtype: Any, backend: backend_lib.Backend
) -> dict[str, Any]:
  """Loss and gradients of three cells of two nodes, C=4, batch 16."""
  spec = spec_lib.supernet(
    spec_lib.SETS[operators], cells=3, width=4, classes=10, nodes=2
  )
  network = cnn.Network(spec, loop=backend.loops, backend=backend)
  # The same values in both types, drawn as float32.
  alpha = arch_lib.init(keys.stream(0, "arch"), spec, 1e-3)
  shape = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
  weights = network.lazy_init(
    keys.stream(0, "weights"), shape, alpha, train=False
  )
  cast = functools.partial(jax.tree.map, lambda x: jnp.asarray(x, dtype))
  state, alpha = cast(weights), cast(alpha)
  w, stats = state["params"], state["batch_stats"]
  objective = losses.classification(network)
  algorithm = darts.darts(spec, base.estimator("amended"))

  def closed(seed: int):
    x, y = programs.images(16, seed)
    batch = losses.Batch(
      jnp.asarray(x, dtype), jnp.asarray(y), jax.random.split(
        jax.random.key(0), len(y)
      )
    )

    def loss(w, alpha):
      edges = algorithm.relax(alpha, None, 0)
      return objective(w, stats, edges, batch, None)[0]

    return loss

  train, valid = closed(0), closed(1)
  value, gradients = jax.jit(jax.value_and_grad(train, (0, 1)))(w, alpha)
  amended = jax.jit(
    lambda w, alpha: algorithm.estimate(
      train, valid, w, alpha, None, lambda tree: tree
    ).gradient
  )(w, alpha)
  return {
    "loss": value,
    "gradient by weights": gradients[0],
    "gradient by logits": gradients[1],
    "amended gradient": amended,
  }


def errors(operators: str, device: jax.Device) -> dict[str, float]:
  """Relative errors of what a device computes, by name."""
  with jax.default_device(device):
    own = jax.device_get(
      quantities(operators, jnp.float32, backend_lib.of(device.platform))
    )
  with jax.default_device(jax.devices("cpu")[0]):
    right = jax.device_get(
      quantities(operators, jnp.float64, backend_lib.CPU)
    )

  def error(a: Any, b: Any) -> float:
    return float(solve.norm(jax.tree.map(np.subtract, a, b)) / solve.norm(b))

  return {name: error(own[name], right[name]) for name in right}


def main() -> int:
  """Returns the exit status."""
  sets = sys.argv[1:] or SETS
  if unknown := set(sets) - set(spec_lib.SETS):
    known = ", ".join(spec_lib.SETS)
    print(f"expected some of {known}, got {', '.join(unknown)}")
    return 2
  jax.config.update("jax_enable_x64", True)
  jax.config.update("jax_default_matmul_precision", "highest")
  device, worst = jax.devices()[0], 0.0
  print(f"{device.device_kind}, float32, against float64 on CPU")
  for operators in sets:
    for name, error in errors(operators, device).items():
      worst = max(worst, error)
      print(f"{operators}  {name:22}{error:.1e}", flush=True)
  if not worst <= TOLERANCE:
    print(f"FAILED: {worst:.1e} is above the tolerance, {TOLERANCE:g}")
    return 1
  return 0


if __name__ == "__main__":
  sys.exit(main())
