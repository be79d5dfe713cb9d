"""One measured program in a process of its own, driven over its pipes.

`benchmarks.supernet` starts one of these for each variant, so that memory can
be told apart, and has them take turns, so that a noisy machine is noisy for
all. The protocol is a JSON object a line: first what was built, then, for each
number n that comes in, the seconds of n steps.
"""

from collections.abc import Callable
import functools
import json
import os
import resource
import sys
import time
from typing import Any

import numpy as np


def images(batch: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Random images [N, 32, 32, 3] and labels [N]; never zeros."""
  source = np.random.default_rng(seed)
  x = source.normal(size=(batch, 32, 32, 3)).astype(np.float32)
  return x, source.integers(0, 10, batch).astype(np.int32)


def build_jax(variant: dict[str, Any]) -> tuple[dict[str, Any], Callable]:
  """What a jnas program is, and a function that does one step of it."""
  import jax
  from jax.sharding import PartitionSpec

  from benchmarks import operations
  from jnas import hypergrad
  from jnas.algorithms import base, darts
  from jnas.data import device
  from jnas.ops import backend as backend_lib
  from jnas.runtime import keys, parallel
  from jnas.spaces import arch as arch_lib
  from jnas.spaces import cnn
  from jnas.spaces import spec as spec_lib
  from jnas.training import losses, optim, steps
  from jnas.training import state as state_lib

  jax.config.update("jax_enable_compilation_cache", False)
  spec = spec_lib.supernet(
    spec_lib.SETS[variant["space"]],
    cells=variant["cells"],
    width=variant["width"],
    classes=10,
  )
  if variant["independent"]:
    spec = independent(spec)
  mesh = parallel.mesh(jax.devices()[:1])
  backend = backend_lib.of(parallel.platform(mesh))
  bfloat16 = variant["dtype"] == "bfloat16"
  network = cnn.Network(
    spec,
    dtype="bfloat16" if bfloat16 else None,
    remat=variant["remat"],
    loop=backend.loops,
    backend=backend,
  )
  objective = losses.classification(network)
  schedule = optim.learning_rate(
    "cosine", 0.025, 0.001, epochs=50, steps_per_epoch=390
  )
  sgd = optim.sgd(schedule, momentum=0.9, decay=3e-4, clip=5.0)
  adam = optim.adam(3e-4, b1=0.5, b2=0.999, decay=1e-3)

  def draw(split, name, step):
    del name, step
    count = len(split)
    x = split.x.reshape(count, *split.shape)
    return losses.Batch(x, split.y, jax.random.split(jax.random.key(0), count))

  kind = variant["kind"]
  exact = not kind.endswith("_difference")
  name = kind.removesuffix("_difference")
  estimate = base.estimator(
    "first_order" if kind == "gradient" else name,
    form="exact" if exact else "finite_difference",
    products=functools.partial(
      hypergrad.looped_products,
      only_where=backend.kernel_gradients_only_where,
    ),
  )
  algorithm = darts.darts(spec, estimate)
  virtual = steps.momentum_virtual(schedule, momentum=0.9, decay=3e-4)
  if variant["part"] == "step" and kind == "first_order" and backend.loops:
    step = steps.looped_step(
      algorithm, objective, sgd, adam, draw, seed=0, mean=parallel.mean
    )
  elif variant["part"] == "step":
    step = steps.search_step(
      algorithm, objective, sgd, adam, draw, seed=0, virtual=virtual,
      mean=parallel.mean,
    )
  else:
    closed = steps.closed_losses(algorithm, objective, draw, seed=0)

    def step(state, train, valid):
      loss, held_out = closed(state, train, valid)
      if kind == "gradient":
        return state, jax.grad(loss)(state.weights, state.arch)
      return state, estimate(
        loss, held_out, state.weights, state.arch, virtual(state), parallel.mean
      ).gradient

  alpha = arch_lib.init(keys.stream(0, "arch"), spec, 1e-3)
  shape = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
  variables = network.lazy_init(
    keys.stream(0, "weights"), shape, alpha, train=False
  )
  state = state_lib.State(
    step=jax.numpy.int32(0),
    weights=variables["params"],
    stats=variables["batch_stats"],
    arch=alpha,
    weights_opt=sgd.init(variables["params"]),
    arch_opt=adam.init(alpha),
    totals=state_lib.zero_totals(),
  )
  state, train, valid = parallel.replicate(
    (
      state,
      *(device.split(*images(variant["batch"], seed)) for seed in (0, 1)),
    ),
    mesh,
  )
  length = variant["steps_per_dispatch"]
  whole = PartitionSpec()
  compiled = parallel.shard_step(
    steps.repeated(step, length), mesh, (whole,) * 3, whole, donate=0
  )
  began = time.perf_counter()
  equations = compiled.trace(state, train, valid)
  lowered = equations.lower()
  traced = time.perf_counter()
  program = lowered.compile()
  built = time.perf_counter()
  memory = program.memory_analysis()
  work = operations.count(equations.jaxpr.jaxpr)
  about = {
    "trace_s": traced - began,
    "compile_s": built - traced,
    "lines": lowered.as_text().count("\n"),
    "temporaries_mb": memory.temp_size_in_bytes / 2**20,
    "gflop": work.flop / 1e9 / length,
    "gbyte": work.bytes / 1e9 / length,
    "parameters": cnn.count(state.weights),
    "device": jax.devices()[0].device_kind,
    "version": f"jax {jax.__version__}",
  }
  holder = [state]

  def run() -> None:
    holder[0], out = program(holder[0], train, valid)
    jax.block_until_ready((holder[0], out))

  return about, run


def independent(spec: Any) -> Any:
  """The same stack with a cell of its own for every layer."""
  import dataclasses

  named = [f"cell{i}" for i in range(len(spec.layers))]
  return dataclasses.replace(
    spec,
    cells=tuple(
      (name, spec.cell(layer.cell))
      for name, layer in zip(named, spec.layers, strict=True)
    ),
    layers=tuple(
      dataclasses.replace(layer, cell=name)
      for name, layer in zip(named, spec.layers, strict=True)
    ),
  )


def build_torch(variant: dict[str, Any]) -> tuple[dict[str, Any], Callable]:
  """What a PyTorch program is, and a function that does one step of it."""
  import torch

  from benchmarks import torch_darts
  from jnas.spaces import spec as spec_lib

  torch.manual_seed(0)
  device = "cuda" if torch.cuda.is_available() else "cpu"
  torch.backends.cuda.matmul.allow_tf32 = True
  torch.backends.cudnn.allow_tf32 = True
  model = torch_darts.build(
    spec_lib.SETS[variant["space"]],
    cells=variant["cells"],
    width=variant["width"],
    classes=10,
  )
  search = torch_darts.prepare(
    model,
    device=device,
    channels_last=variant["layout"] == "channels_last",
    compiled=variant["compiled"],
    dtype=torch.bfloat16 if variant["dtype"] == "bfloat16" else None,
  )

  def batch(seed: int) -> Any:
    x, y = images(variant["batch"], seed)
    return torch_darts.place(search, np.ascontiguousarray(
      x.transpose(0, 3, 1, 2)
    ), y)

  train, valid = batch(0), batch(1)

  def run() -> None:
    if variant["kind"] == "gradient":
      torch_darts.loss(search, train).backward()
      for parameter in search.weights:
        parameter.grad = None
    else:
      torch_darts.search_step(search, train, valid)
    if device == "cuda":
      torch.cuda.synchronize()

  began = time.perf_counter()
  run()
  name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
  return {
    "compile_s": time.perf_counter() - began if variant["compiled"] else 0.0,
    "parameters": sum(p.numel() for p in search.weights),
    "device": name,
    "version": f"torch {torch.__version__}",
  }, run


def build_ceilings(variant: dict[str, Any]) -> tuple[dict[str, Any], Callable]:
  """The rates that nothing on this machine exceeds by much.

  A product of large matrices, and a copy of a large array (bytes read and
  bytes written), through the same compiler.
  """
  import jax

  accelerator = jax.devices()[0].platform != "cpu"
  side, words = (8192, 2**30) if accelerator else (2048, 2**26)
  a = jax.random.normal(jax.random.key(0), (side, side)).astype(
    variant["dtype"]
  )
  b = jax.random.normal(jax.random.key(1), (words // 4,))
  product, copy = jax.jit(lambda a: a @ a), jax.jit(lambda b: b + 1)
  best = {}
  for name, fn, x, work in (
    ("tflops", product, a, 2 * side**3 / 1e12),
    ("gbytes_per_s", copy, b, 2 * b.nbytes / 1e9),
  ):
    jax.block_until_ready(fn(x))
    times = []
    for _ in range(5):
      began = time.perf_counter()
      jax.block_until_ready(fn(x))
      times.append(time.perf_counter() - began)
    best[name] = work / min(times)
  return best, lambda: None


def main() -> None:
  """Serves one variant, given as JSON in the first argument."""
  variant = json.loads(sys.argv[1])
  build = {
    "jax": build_jax, "torch": build_torch, "ceilings": build_ceilings
  }[variant["library"]]
  # Libraries talk on standard output; the protocol keeps the real one.
  out = os.fdopen(os.dup(1), "w")
  os.dup2(2, 1)

  def say(record: dict[str, Any]) -> None:
    out.write(json.dumps(record) + "\n")
    out.flush()

  about, run = build(variant)
  say(about)
  for line in sys.stdin:
    times = []
    for _ in range(int(line)):
      began = time.perf_counter()
      run()
      times.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    say({"seconds": times, "peak_mb": peak})


if __name__ == "__main__":
  main()
