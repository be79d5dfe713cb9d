"""Train the network of a genotype to segment images (EnTranNAS, table 5).

Trainer, checkpoints and report are those of a retraining; the network has
another head, an example is an image with the class of each of its pixels, and
what counts is the mean IoU.
"""

from collections.abc import Callable, Mapping
import functools
import pathlib
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
import ml_collections
import numpy as np

from jnas import genotype as genotype_lib
from jnas.data import device, segmentation
from jnas.data.fingerprint import fingerprint
from jnas.report import headline, parts
from jnas.runs import build, classifier, predictions, recipe, retrain, session
from jnas.runs import workdir as workdir_lib
from jnas.runtime import parallel
from jnas.spaces import cnn, segment
from jnas.training import averaging, batches, steps, trainer
from jnas.training import segmentation as task_lib
from jnas.training.state import State, evaluated, zero_totals
from jnas.training.task import Task

_PICTURES = 6  # images whose predictions are shown


class Problem(NamedTuple):
  """What a run is given.

  Attributes:
    config: of task "segment".
    data: the data set.
    mesh: the devices.
    train: on the devices.
    valid: likewise.
    test: likewise, if there is one.
  """

  config: ml_collections.ConfigDict
  data: segmentation.SegmentationData
  mesh: Mesh
  train: device.Split
  valid: device.Split
  test: device.Split | None = None


def run(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> dict[str, Any]:
  """Trains, and returns what result.json holds.

  Args:
    config: of task "segment".
    workdir: where everything is written.

  Raises:
    ValueError: as for a retraining.
    SystemExit: with status 143, when SIGTERM or Ctrl-C stopped it.
  """
  source = config.segment.genotype
  found = retrain.image_cell(genotype_lib.load(source), "segment.genotype")
  # The directory holds the genotype, not where it came from.
  config = config.copy_and_resolve_references()
  config.segment.genotype = genotype_lib.format_text(found)
  workdir_lib.check(config, workdir)
  problem = read(config)
  module = network(problem, found)
  plan = build_plan(problem, module)
  files = {"genotype.json": retrain.origin(found, source, workdir)}
  _, state, numbers = session.execute(
    plan, config, workdir, problem.mesh, files
  )
  record = workdir_lib.read(workdir / "segmentation.json")
  classes = problem.data.classes
  result = {
    "task": "segment",
    "genotype": config.segment.genotype,
    "params": cnn.count(state.weights),
    "IoU": dict(zip(classes, record.get("IoU", ()), strict=False)),
    **numbers,
  }
  if problem.test is not None:
    values, confusion, _ = evaluator(problem, module)(state, problem.test)
    found = predictions.by_class(confusion)
    result["test_IoU"] = dict(zip(classes, found, strict=True))
    result |= {f"test_{name}": value for name, value in values.items()}
  session.finish(workdir, result)
  print(_lines(result), f"report: {workdir / 'report.html'}", sep="\n")
  return result


def _lines(result: Mapping[str, Any]) -> str:
  """A result in words: the IoU of each class and their mean, by split."""
  splits = {"IoU": ("valid", "validation"), "test_IoU": ("test", "test")}
  splits = {name: words for name, words in splits.items() if name in result}
  lines = [f"IoU by class, {' and '.join(what for _, what in splits.values())}"]
  for name in result["IoU"]:
    values = "".join(f"{parts.share(result[k][name]):>9}" for k in splits)
    lines.append(f"{values}  {name}")
  lines.append(f"parameters: {result['params']:,}")
  for split, what in splits.values():
    lines.append(f"{what} {headline.of(result).line(result, split)}")
  return "\n".join(lines)


def read(config: ml_collections.ConfigDict) -> Problem:
  """The data of a config, on the devices.

  Raises:
    ValueError, FileNotFoundError: they cannot be had; the message says which
      fields name them.
  """
  name, path, own = config.data.name, config.data.path, config.segment
  mesh = parallel.mesh()
  parallel.local_batch(config.train.batch, mesh)  # tells what cannot be divided
  try:
    data = segmentation.load(
      name,
      path,
      config.data.limit,
      train=own.train,
      valid=own.valid,
      test=own.test,
    )
  except (ValueError, FileNotFoundError) as error:
    raise type(error)(
      f"data.name={name!r}, data.path={path!r}: {error}\n"
      "Both are fields: --config.data.name=... --config.data.path=..."
    ) from error
  splits = (
    device.Split(part.x.reshape(len(part.x), -1), part.sizes, part.x.shape[1:])
    for part in (data.train, data.valid, data.test)
    if part is not None
  )
  splits = (parallel.replicate(split, mesh) for split in splits)
  return Problem(config, data, mesh, *splits)


def network(
  problem: Problem, found: genotype_lib.AnyGenotype
) -> segment.Network:
  """The network of a genotype, with the head that segments.

  Raises:
    ValueError: the genotype is of a space of one's own, whose networks have
      no output stride.
  """
  config, own = problem.config, problem.config.segment
  classes = len(problem.data.classes)
  spec = recipe.derived(config, found, classes)
  backbone = build.network(config, spec, problem.mesh)
  if not isinstance(backbone, cnn.Network):
    raise ValueError(
      "segment.genotype: expected a cell of a space of the package, whose "
      f"networks can be dilated, got one of {spec.space}"
    )
  backbone = backbone.clone(output_stride=own.output_stride)
  return segment.Network(backbone, classes, own.channels, own.dropout)


def task(
  network: segment.Network, evaluate: Callable[..., tuple[Any, ...]]
) -> Task:
  """The task: to say the class of each pixel.

  Args:
    network: what is trained.
    evaluate: as `evaluator` gives it.
  """
  return Task(
    task_lib.objective(network, parallel.mean),
    lambda state, edges, split: evaluate(state, split)[0],
    headline="mean_IoU",
    shares=("accuracy", "mean_IoU"),
  )


def evaluator(
  problem: Problem, network: segment.Network
) -> Callable[..., tuple[dict[str, float], np.ndarray, list[np.ndarray]]]:
  """A function (state, split, shown) -> what an evaluation gives.

  That is the means, the confusion matrix of the whole split, and what is
  predicted of the images `shown`, [H, W] each.
  """
  data, batch = problem.data, problem.config.train.batch
  whole, shared = PartitionSpec(), PartitionSpec(parallel.AXIS)
  step = parallel.shard_step(
    task_lib.eval_step(
      network,
      mean=data.mean,
      std=data.std,
      total=functools.partial(lax.psum, axis_name=parallel.AXIS),
      joined=functools.partial(
        lax.all_gather, axis_name=parallel.AXIS, tiled=True
      ),
    ),
    problem.mesh,
    in_specs=(whole, whole, whole, shared, shared),
    out_specs=whole,
  )

  def evaluate(state, split, shown=()):
    loss, confusion, predicted = 0.0, 0, {}
    index, present = device.eval_batches(len(split), batch)
    for rows, counts in zip(index, present, strict=True):
      found = step(*evaluated(state), split, rows, counts)
      loss += float(found["loss"])
      confusion += np.asarray(found["confusion"], np.int64)
      for i in {*shown} & {*rows.tolist()}:
        (at, *_) = np.flatnonzero(rows == i)
        predicted[i] = np.asarray(found["predicted"][at])
    values = task_lib.means(confusion, loss)
    return values, confusion, [predicted[i] for i in shown]

  return evaluate


def build_plan(problem: Problem, network: segment.Network) -> trainer.Plan:
  """What is to be run: plain training, and evaluations."""
  config, data, own = problem.config, problem.data, problem.config.segment
  clock = build.clock(config, len(problem.train))
  learning_rate, drop = build.schedules(config, clock)
  optimizer = build.weights_optimizer(config, learning_rate)
  evaluate = evaluator(problem, network)
  goal = task(network, evaluate)
  count = min(_PICTURES, len(problem.valid))
  shown = [i * len(problem.valid) // count for i in range(count)]

  def init() -> State:
    x = jax.ShapeDtypeStruct((1, own.crop, own.crop, 3), np.float32)
    key = build.key(config, "weights")
    variables = network.lazy_init(key, x, train=False)
    if own.init and not _abstract(variables):
      start = classifier.begin(variables, classifier.read(own.init), own.init)
      variables = start.variables
      tell(start)
    weights = variables["params"]
    state = State(
      step=jnp.int32(0),
      weights=weights,
      stats=variables["batch_stats"],
      arch=(),
      weights_opt=optimizer.init(weights),
      arch_opt=(),
      totals=zero_totals(goal.scores),
    )
    return averaging.begin(state) if config.train.ema else state

  def step(seed: jax.Array) -> steps.Step:
    trained = steps.train_step(
      goal.objective,
      optimizer,
      task_lib.draw(
        seed=seed,
        batch=config.train.batch,
        local=parallel.local_batch(config.train.batch, problem.mesh),
        offset=parallel.offset,
        mean=data.mean,
        std=data.std,
        crop=own.crop,
        scales=(own.scale_min, own.scale_max),
        flip=config.data.flip,
      ),
      rate=build.dropout(drop),
      mean=parallel.mean,
    )
    decay = config.train.ema
    return averaging.moving(trained, decay) if decay else trained

  def measure(state: State, at: int) -> trainer.Evaluation:
    values, confusion, predicted = evaluate(state, problem.valid, shown)
    record = predictions.record(data, confusion, shown, predicted)
    record |= {"step": at, "epoch": at / clock.per_epoch}
    return trainer.Evaluation(
      state,
      {f"valid_{name}": value for name, value in values.items()},
      (("segmentation.json", record),),
    )

  return trainer.Plan(
    title=f"segmentation of {config.data.name}",
    per_epoch=clock.per_epoch,
    total=clock.total,
    batch=config.train.batch,
    task=goal,
    feed=batches.resident(problem.train),
    init=init,
    steps={"train": step},
    which=lambda at, state: ("train", clock.total - at),
    evaluate=measure,
    rates=build.rates(learning_rate, drop),
    meta={
      "task": "segment",
      "spec": repr(network.backbone.spec),
      "data": fingerprint(*data.train, *data.valid),
    },
  )


def tell(start: classifier.Start) -> None:
  """Says what of a classifier a network begins with."""
  print(f"{start.taken} arrays of the classifier; the head is as drawn")
  for name in start.left:
    print(f"  left out: {name}")


def _abstract(tree: Any) -> bool:
  """Whether only shapes are asked for."""
  return any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(tree))
