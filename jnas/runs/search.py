"""Search for an architecture: data, supernet, algorithm, loop, genotype."""

from collections.abc import Callable, Mapping
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import ml_collections
import numpy as np

from jnas import genotype as genotype_lib
from jnas import hypergrad, relax
from jnas.algorithms import base
from jnas.algorithms.amended import amended
from jnas.algorithms.darts import darts
from jnas.data import sources
from jnas.runs import build, session
from jnas.runtime import parallel
from jnas.runtime.writer import Writer
from jnas.spaces import arch as arch_lib
from jnas.spaces import cnn
from jnas.spaces import spec as spec_lib
from jnas.training import losses, optim, steps
from jnas.training.diagnose import implicit_cosine
from jnas.training.state import State, zero_sums

ALGORITHMS = {"darts": darts, "amended": amended}


def run(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> dict[str, Any]:
  """Searches, and returns what result.json holds.

  A run that was interrupted goes on from its last checkpoint, to the numbers
  that it would have come to.

  Args:
    config: of task "search".
    workdir: where everything is written.

  Raises:
    ValueError: the data, or the configuration on this data or these devices,
      do not fit; the directory belongs to another run; or a metric became NaN.
    SystemExit: with status 143, when SIGTERM or Ctrl-C stopped it.
  """
  session.check_workdir(config, workdir)
  data = build.load(config)
  mesh = parallel.mesh()
  first, second = sources.split(data.train_y, config.data.share, config.seed)
  train, valid = build.on_devices(
    mesh,
    *((data.train_x[part], data.train_y[part]) for part in (first, second)),
  )
  spec = spec_lib.supernet(
    spec_lib.OPERATOR_SETS[config.space.name],
    cells=config.space.cells,
    width=config.space.width,
    nodes=config.space.nodes,
    classes=len(data.classes),
    auxiliary=config.train.auxiliary > 0,
  )
  algorithm = build_algorithm(config, spec)
  plan = build_plan(config, data, mesh, spec, algorithm, (train, valid))
  state, numbers = session.execute(plan, config, workdir, mesh)
  found = algorithm.derive(relaxed(algorithm)(state))
  result = {
    "task": "search",
    "genotype": genotype_lib.format_text(found),
    "params": cnn.count(state.weights),
    **numbers,
  }
  session.finish(workdir, result)
  print(
    f"genotype: {result['genotype']}\n"
    f"supernet validation accuracy: {result['valid_accuracy']:.2%}\n"
    f"report: {workdir / 'report.html'}"
  )
  return result


def build_algorithm(
  config: ml_collections.ConfigDict, spec: spec_lib.Spec
) -> base.Algorithm:
  """The algorithm of a config, on a spec."""
  return ALGORITHMS[config.algo.name](
    spec, build_estimator(config, config.algo.hypergrad, config.algo.form)
  )


def build_estimator(
  config: ml_collections.ConfigDict, name: str, form: str
) -> Callable[..., hypergrad.Hypergradient]:
  """A hypergradient with the numbers of a config."""
  return base.estimator(
    name,
    form=form,
    eta=config.algo.eta,
    steps=config.algo.solver_steps,
    damping=config.algo.solver_damping,
    scale=config.algo.solver_scale,
  )


def relaxed(
  algorithm: base.Algorithm,
) -> Callable[[State], dict[str, np.ndarray]]:
  """A function state -> the relaxed weights, on the host."""
  compiled = jax.jit(lambda arch: dict(algorithm.relax(arch, None)))
  return lambda state: jax.device_get(compiled(state.arch))


def build_plan(
  config: ml_collections.ConfigDict,
  data: sources.ImageData,
  mesh: jax.sharding.Mesh,
  spec: spec_lib.Spec,
  algorithm: base.Algorithm,
  splits: tuple[Any, Any],
) -> session.Plan:
  """What the session is to run: one bi-level search, and its evaluation."""
  clock = build.clock(config, min(len(split.x) for split in splits))
  learning_rate, drop = build.schedules(config, clock)
  network = build.network(config, spec)
  objective = build.objective(config, network)
  weights_optimizer = build.weights_optimizer(config, learning_rate)
  arch_optimizer = optim.adam(
    config.arch.lr,
    b1=config.arch.b1,
    b2=config.arch.b2,
    decay=config.arch.decay,
  )
  draw = build.feed(config, data, mesh)
  virtual = steps.momentum_virtual(
    learning_rate,
    momentum=config.weights.momentum,
    decay=config.weights.decay,
  )

  # Where compiling is what one waits for, both levels share one program.
  shared = (
    config.algo.hypergrad == "first_order" and jax.default_backend() == "cpu"
  )

  def step(warm: bool) -> steps.Step:
    if shared and not warm:
      return steps.first_order_step(
        algorithm.relax,
        objective,
        weights_optimizer,
        arch_optimizer,
        draw,
        seed=config.seed,
        rate=drop,
        mean=parallel.mean,
      )
    return steps.search_step(
      algorithm,
      objective,
      weights_optimizer,
      arch_optimizer,
      draw,
      seed=config.seed,
      virtual=virtual,
      rate=drop,
      mean=parallel.mean,
      warm=warm,
    )

  def init() -> State:
    arch = arch_lib.init(build.key(config, "arch"), spec, config.arch.init)
    x = jnp.zeros((1, *data.train_x.shape[1:]), jnp.float32)
    variables = network.init(build.key(config, "weights"), x, arch, train=False)
    weights = variables["params"]
    return State(
      step=jnp.int32(0),
      weights=weights,
      stats=variables["batch_stats"],
      arch=arch,
      weights_opt=weights_optimizer.init(weights),
      arch_opt=arch_optimizer.init(arch),
      sums=zero_sums(),
    )

  warmup = clock.steps(config.algo.warmup)

  def which(at: int) -> tuple[str, int]:
    return ("warm", warmup - at) if at < warmup else ("full", clock.total - at)

  measure = build.evaluator(network, data, mesh, config.train.batch)
  diagnose = build_diagnosis(
    config, algorithm, objective, draw, virtual, drop, mesh
  )
  period = clock.steps(config.algo.diagnose)
  weights_at = relaxed(algorithm)

  def evaluate(state: State, at: int, writer: Writer) -> dict[str, float]:
    weights = weights_at(state)
    values = {
      f"valid_{name}": value
      for name, value in measure(state, weights, splits[1]).items()
    }
    if period and (at % period == 0 or at == clock.total):
      values["cosine_implicit"] = diagnose(state, *splits)
    found = algorithm.derive(weights)
    record_architecture(writer, spec, weights, found, at, clock.per_epoch)
    return values | architecture_metrics(spec, weights, found)

  return session.Plan(
    title=f"{config.algo.name} on {config.data.name}",
    clock=clock,
    init=init,
    steps={"full": step(warm=False), "warm": step(warm=True)},
    which=which,
    splits=splits,
    evaluate=evaluate,
    rates=build.rates(learning_rate, drop),
    meta={"task": "search", "spec": repr(spec)},
  )


def build_diagnosis(
  config: ml_collections.ConfigDict,
  algorithm: base.Algorithm,
  objective: losses.Objective,
  draw: steps.Draw,
  virtual: Callable[[State], Callable[[Any, Any], Any]],
  drop: optim.Schedule | None,
  mesh: jax.sharding.Mesh,
) -> Callable[..., float]:
  """A function (state, train, valid) -> cosine_implicit.

  It measures the search's own second-order term; a search that has none, or
  whose term is the implicit one, is told that of the amended term.
  """
  name = config.algo.hypergrad
  estimate = algorithm.estimate
  if name not in ("unrolled", "amended"):
    estimate = build_estimator(config, "amended", "exact")
  return implicit_cosine(
    estimate,
    steps.closed_losses(
      algorithm, objective, draw, seed=config.seed, rate=drop
    ),
    virtual,
    mean=parallel.mean,
    compile=lambda fn, count: parallel.shard_step(
      fn, mesh, (PartitionSpec(),) * count, PartitionSpec()
    ),
    steps=config.algo.solver_steps,
    damping=config.algo.solver_damping,
  )


def architecture_metrics(
  spec: spec_lib.Spec,
  weights: Mapping[str, np.ndarray],
  found: genotype_lib.Genotype,
) -> dict[str, float]:
  """The numbers by which a collapse to skip connections is seen."""
  cell = spec.cell("normal")
  chosen = [op for op, _ in found.normal]
  values = {
    "skip_share": chosen.count("skip_connect") / len(chosen),
    "entropy": float(
      np.mean(np.concatenate([relax.entropy(w) for w in weights.values()]))
    ),
  }
  if "none" in cell.ops:
    column = weights["normal"][:, cell.ops.index("none")]
    values["none_weight"] = float(column.mean())
  return values


def record_architecture(
  writer: Writer,
  spec: spec_lib.Spec,
  weights: Mapping[str, np.ndarray],
  found: genotype_lib.Genotype,
  step: int,
  per_epoch: int,
) -> None:
  """Writes the genotype, its history, and the weights that it came from."""
  epoch = step / per_epoch
  when = {"step": step, "epoch": int(epoch) if epoch % 1 == 0 else epoch}
  cell = spec.searched[0][1]
  record = when | {
    "genotype": genotype_lib.to_json(found),
    "text": genotype_lib.format_text(found),
  }
  writer.put("genotype.json", record)
  writer.append("genotypes.jsonl", record)
  writer.append(
    "arch.jsonl",
    when | {"ops": cell.ops, "edges": cell.edges, "weights": dict(weights)},
  )
