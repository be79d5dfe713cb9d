"""Train the network of a genotype from scratch, and test it."""

from collections.abc import Mapping
import json
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from jnas import genotype as genotype_lib
from jnas.algorithms import base
from jnas.data import sources
from jnas.data.files import Files
from jnas.data.fingerprint import fingerprint
from jnas.report import headline
from jnas.runs import build, feeds, mistakes, pareto, recipe, seeds, session
from jnas.runs import workdir as workdir_lib
from jnas.runtime import parallel
from jnas.spaces import cnn
from jnas.spaces import spec as spec_lib
from jnas.training import averaging, steps, trainer
from jnas.training.state import State, zero_totals


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
  if config.retrain.seeds > 1:
    return _several(config, workdir)
  found = image_cell(genotype_lib.load(config.retrain.genotype))
  # What the directory holds is the genotype, not where it came from, so that
  # a resumed run cannot change its network under way.
  source = config.retrain.genotype
  config = config.copy_and_resolve_references()
  config.retrain.genotype = genotype_lib.format_text(found)
  workdir_lib.check(config, workdir)
  data = build.load(config)
  mesh = parallel.mesh()
  splits = feeds.place(
    mesh, (data.train_x, data.train_y), (data.test_x, data.test_y)
  )
  weights = None
  if config.retrain.relaxed:
    spec, weights = relaxed(config, source, len(data.classes))
  else:
    spec = recipe.derived(config, found, len(data.classes))
  plan = build_plan(config, data, mesh, spec, splits, weights)
  record = origin(found, source, workdir)
  files = {"genotype.json": record, "data.json": build.about(data)}
  _, state, numbers = session.execute(plan, config, workdir, mesh, files)
  result = {
    "task": "retrain",
    "genotype": config.retrain.genotype,
    "params": cnn.count(state.weights),
    **numbers,
  }
  files = {}
  # Of images in files nobody looks at a matrix of a thousand classes.
  if jax.process_index() == 0 and not isinstance(data.test_x, Files):
    network = build.network(config, spec, mesh)
    files["mistakes.json"] = mistakes.find(
      network, state, data, config.train.batch
    )
  session.finish(workdir, result, files)
  print(
    f"parameters: {result['params']:,} (auxiliary head left out)\n"
    f"test {headline.of(result).line(result, 'test')}\n"
    f"report: {workdir / 'report.html'}"
  )
  return result


def _several(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> dict[str, Any]:
  """Trains with one seed after the other, each in a folder of its own.

  Returns what result.json holds, see `seeds.summary`.
  """
  found = image_cell(genotype_lib.load(config.retrain.genotype))
  config = config.copy_and_resolve_references()
  relaxed = config.retrain.relaxed  # then the folder says more than its cell
  if not relaxed:
    config.retrain.genotype = genotype_lib.format_text(found)
  each = range(config.seed, config.seed + config.retrain.seeds)
  with workdir_lib.claimed(config, workdir):
    results = []
    for seed in each:
      own = config.copy_and_resolve_references()
      folder = session.folder(workdir, seed)
      own.seed, own.retrain.seeds = seed, 1
      workdir_lib.check(own, folder)
      ended = workdir_lib.finished(folder, "retrain")
      results.append(ended or run(own, folder))
    result = seeds.summary(results, each, "test")
    session.finish(workdir, result)
  print(
    f"test {seeds.line(result, 'test')}\nreport: {workdir / 'report.html'}"
  )
  return result


def size(
  config: ml_collections.ConfigDict, genotype: genotype_lib.AnyGenotype
) -> dict[str, float]:
  """Millions of parameters and multiply-adds of a genotype's network."""
  data = build.load(config)
  spec = recipe.derived(config, genotype, len(data.classes))
  return pareto.measure(spec, data.train_x.shape[1:])


def origin(
  found: genotype_lib.AnyGenotype,
  source: str = "",
  workdir: pathlib.Path | None = None,
) -> dict[str, Any]:
  """What genotype.json holds of a genotype, with the run that it is from.

  Args:
    found: the genotype.
    source: as it was given; the folder of a run is noted.
    workdir: of the training, from which that is found.
  """
  record = {
    "genotype": genotype_lib.to_json(found),
    "text": genotype_lib.format_text(found),
    "step": 0,
    "epoch": 0,
  }
  if workdir and os.path.isdir(source := os.path.expanduser(source)):
    record["source"] = os.path.relpath(source, workdir)  # for a link
  return record


def image_cell(
  found: genotype_lib.AnyGenotype, field: str = "retrain.genotype"
) -> genotype_lib.AnyGenotype:
  """A genotype of an image network, or ValueError if it is of another."""
  if isinstance(found, genotype_lib.RecurrentGenotype):
    raise ValueError(
      f"{field}: expected a cell for images, got the recurrent cell "
      f"{genotype_lib.format_text(found)}"
    )
  return found


def relaxed(
  config: ml_collections.ConfigDict, folder: str, classes: int
) -> tuple[spec_lib.Spec, dict[str, np.ndarray]]:
  """A search's network, and the architecture weights at its end.

  Bi et al. (Amended DARTS, appendix A.1.2) train it anew with alpha fixed, to
  see how good a search is without what discretisation loses.

  Args:
    config: of task "retrain"; the network is as deep and wide as in the search.
    folder: of the search.
    classes: of the data.

  Raises:
    ValueError: it is no directory of a search in one stage.
  """
  path = pathlib.Path(folder)
  try:
    record = json.loads((path / "config.json").read_text())
    *_, last = (path / "arch.jsonl").read_text().splitlines()
    edges = {
      name: np.asarray(rows, np.float32)
      for name, rows in json.loads(last)["weights"].items()
    }
    searched = recipe.recorded(record)
    searched.train.auxiliary = config.train.auxiliary
    spec = recipe.spec(searched, classes)
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(
      "retrain.relaxed: expected retrain.genotype to be the directory of a "
      f"search, with its config.json and arch.jsonl, got {folder!r} ({error})"
    ) from error
  shapes = {name: cell.shape for name, cell in spec.searched}
  if {name: w.shape for name, w in edges.items()} != shapes:
    raise ValueError(
      "retrain.relaxed: expected a search in one stage, but the network at the "
      f"end of {folder!r} is not the one that it began with"
    )
  found = base.indicator(spec, genotype_lib.load(folder))
  transit = {name + spec_lib.TRANSIT for name in spec.transit}
  return spec, edges | {name: found[name] for name in transit}


def build_plan(
  config: ml_collections.ConfigDict,
  data: sources.ImageData,
  mesh: jax.sharding.Mesh,
  spec: spec_lib.Spec,
  splits: tuple[Any, Any],
  edge_weights: Mapping[str, np.ndarray] | None = None,
  name: str = "test",
) -> trainer.Plan:
  """What is to be run: plain training, and the test.

  Args:
    config: of task "retrain".
    data: the data set.
    mesh: the devices.
    spec: of the network.
    splits: (train, test) on the devices.
    edge_weights: fixed, of a relaxed network; None of any other.
    name: of the second split, for its metrics.
  """
  train, test = splits
  clock = build.clock(config, len(train))
  learning_rate, drop = build.schedules(config, clock)
  network = build.network(config, spec, mesh)
  optimizer = build.weights_optimizer(config, learning_rate)
  task = build.task(config, network, data, mesh)

  def init() -> State:
    edges = jax.tree.map(jnp.asarray, edge_weights)
    variables = build.variables(config, network, data, edges)
    weights = variables["params"]
    state = State(
      step=jnp.int32(0),
      weights=weights,
      stats=variables["batch_stats"],
      arch=edges or (),
      weights_opt=optimizer.init(weights),
      arch_opt=(),
      totals=zero_totals(task.scores),
    )
    return averaging.begin(state) if config.train.ema else state

  def evaluate(state: State, at: int) -> trainer.Evaluation:
    values = task.evaluate(state, state.arch or None, test)
    return trainer.Evaluation(
      state,
      {f"{name}_{key}": value for key, value in values.items()},
      feeds.corrupt(splits, at, clock.per_epoch),
    )

  def step(seed: jax.Array) -> steps.Step:
    own = steps.train_step(
      task.objective,
      optimizer,
      build.draw(config, data, mesh, seed),
      rate=build.dropout(drop),
      mean=parallel.mean,
    )
    decay = config.train.ema
    return averaging.moving(own, decay) if decay else own

  return trainer.Plan(
    title=f"retraining on {config.data.name}",
    per_epoch=clock.per_epoch,
    total=clock.total,
    batch=config.train.batch,
    task=task,
    feed=feeds.feed(config, mesh, (train,), clock.total),
    init=init,
    steps={"train": step},
    which=lambda at, state: ("train", clock.total - at),
    evaluate=evaluate,
    rates=build.rates(learning_rate, drop),
    meta={
      "task": "retrain",
      "spec": repr(spec),
      "data": fingerprint(*data),
    },
  )
