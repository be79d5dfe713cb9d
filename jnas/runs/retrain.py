"""Train the network of a genotype from scratch, and test it."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from jnas import genotype as genotype_lib
from jnas.data import sources
from jnas.data.fingerprint import fingerprint
from jnas.runs import build, session
from jnas.runs import workdir as workdir_lib
from jnas.runtime import parallel
from jnas.runtime.writer import Writer
from jnas.spaces import cnn, discrete
from jnas.spaces import spec as spec_lib
from jnas.training import steps
from jnas.training.state import State, zero_sums


def run(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> dict[str, Any]:
  """Trains on all training images, and returns what result.json holds.

  Args:
    config: of task "retrain"; `retrain.genotype` is a zoo name, a search's
      working directory, a JSON or text file, or the text itself.
    workdir: where everything is written.

  Raises:
    ValueError: as for a search, or the genotype is not valid.
    SystemExit: with status 143, when SIGTERM or Ctrl-C stopped it.
  """
  found = genotype_lib.load(config.retrain.genotype)
  if isinstance(found, genotype_lib.RecurrentGenotype):
    raise ValueError(
      f"retrain.genotype: {config.retrain.genotype!r} is a recurrent cell; "
      "expected one for images"
    )
  # What the directory holds is the genotype, not where it came from, so that
  # a resumed run cannot change its network under way.
  config = config.copy_and_resolve_references()
  config.retrain.genotype = genotype_lib.format_text(found)
  workdir_lib.check(config, workdir)
  data = build.load(config)
  mesh = parallel.mesh()
  splits = build.on_devices(
    mesh, (data.train_x, data.train_y), (data.test_x, data.test_y)
  )
  spec = discrete.derived(
    found,
    cells=config.space.cells,
    width=config.space.width,
    classes=len(data.classes),
    auxiliary=config.train.auxiliary > 0,
  )
  plan = build_plan(config, data, mesh, spec, splits)
  record = {
    "genotype": genotype_lib.to_json(found),
    "text": config.retrain.genotype,
    "step": 0,
    "epoch": 0,
  }
  _, state, numbers = session.execute(
    plan, config, workdir, mesh, {"genotype.json": record}
  )
  result = {
    "task": "retrain",
    "genotype": config.retrain.genotype,
    "params": cnn.count(state.weights),
    **numbers,
  }
  session.finish(workdir, result)
  print(
    f"parameters: {result['params']:,} (auxiliary head left out)\n"
    f"test accuracy: {result['test_accuracy']:.2%}\n"
    f"report: {workdir / 'report.html'}"
  )
  return result


def build_plan(
  config: ml_collections.ConfigDict,
  data: sources.ImageData,
  mesh: jax.sharding.Mesh,
  spec: spec_lib.Spec,
  splits: tuple[Any, Any],
) -> session.Plan:
  """What the session is to run: plain training, and the test."""
  train, test = splits
  clock = build.clock(config, len(train.x))
  learning_rate, drop = build.schedules(config, clock)
  network = build.network(config, spec)
  optimizer = build.weights_optimizer(config, learning_rate)

  def init() -> State:
    variables = build.variables(config, network, data)
    weights = variables["params"]
    return State(
      step=jnp.int32(0),
      weights=weights,
      stats=variables["batch_stats"],
      arch=(),
      weights_opt=optimizer.init(weights),
      arch_opt=(),
      sums=zero_sums(),
    )

  measure = build.evaluator(network, data, mesh, config.train.batch)

  def evaluate(state: State, at: int, writer: Writer):
    del at, writer
    values = measure(state, None, test)
    return state, {f"test_{name}": value for name, value in values.items()}

  def step(seed: jax.Array) -> steps.Step:
    return steps.train_step(
      build.objective(config, network),
      optimizer,
      build.feed(config, data, mesh, seed),
      rate=build.dropout(drop),
      mean=parallel.mean,
    )

  return session.Plan(
    title=f"retraining on {config.data.name}",
    clock=clock,
    init=init,
    steps={"train": step},
    which=lambda at, state: ("train", clock.total - at),
    splits=(train,),
    evaluate=evaluate,
    rates=build.rates(learning_rate, drop),
    meta={
      "task": "retrain",
      "spec": repr(spec),
      "data": fingerprint(*data),
    },
  )
