"""From a config to the objects that it describes, for every program alike."""

from collections.abc import Callable, Mapping
import functools
from typing import Any, NamedTuple

from flax import linen as nn
import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import ml_collections
import numpy as np
import optax

from jnas import config as config_lib
from jnas.algorithms import registry
from jnas.config import needs
from jnas.data import device, sources
from jnas.data.files import FileSplit
from jnas.ops import backend
from jnas.runs import feeds
from jnas.runtime import keys, machine, parallel
from jnas.spaces import registry as spaces
from jnas.spaces.space import Execution
from jnas.spaces.spec import Spec
from jnas.training import batches, losses, optim, steps
from jnas.training.evaluation import eval_step
from jnas.training.state import evaluated
from jnas.training.task import Task


class Clock(NamedTuple):
  """Lengths of a run in steps.

  Attributes:
    per_epoch: steps of an epoch.
    total: steps of the whole run.
  """

  per_epoch: int
  total: int

  @property
  def epochs(self) -> float:
    """Epochs of the whole run, for schedules."""
    return self.total / self.per_epoch

  def steps(self, text: str) -> int:
    """Steps of a duration such as "5 epochs"."""
    return config_lib.duration(text, self.per_epoch, self.total)


def load(config: ml_collections.ConfigDict) -> sources.ImageData:
  """The data set of a config, which a device can train on.

  Raises:
    ValueError, FileNotFoundError: it cannot be had; the message says which
      fields name it. Or no device has the memory to train on it.
  """
  data = read(config)
  check_memory(config, data)
  return data


def read(config: ml_collections.ConfigDict) -> sources.ImageData:
  """The data set of a config, whatever the devices.

  Raises:
    ValueError, FileNotFoundError: it cannot be had; the message says which
      fields name it.
  """
  name, path = config.data.name, config.data.path
  try:
    own = config.data
    return sources.load(
      name,
      path,
      own.limit,
      classes=own.classes,
      portion=own.portion,
      size=own.size,
      workers=own.workers,
      refuse=own.corrupt == "refuse",
    )
  except (ValueError, FileNotFoundError) as error:
    raise type(error)(
      f"data.name={name!r}, data.path={path!r}: {error}\n"
      "Both are fields: --config.data.name=... --config.data.path=..."
    ) from error


def about(data: sources.ImageData) -> dict[str, Any]:
  """What has to be known of the data to use a network without them."""
  return {
    "shape": list(data.train_x.shape[1:]),
    "classes": list(data.classes),
    "mean": list(data.mean),
    "std": list(data.std),
  }


def check_memory(
  config: ml_collections.ConfigDict, data: sources.ImageData
) -> None:
  """Raises ValueError if no device has the memory to train on these data."""
  images = -(-config.train.batch * config.seeds // jax.device_count())
  flat = config_lib.flatten(config)
  method = registry.find(config.algo.name)
  space = spaces.find(config.space.name, config.space.operators)
  need = needs.memory(flat, method, space, data.train_x.shape[1:], images)
  has = machine.memory()
  if has is not None and need > has:
    raise ValueError(
      f"train.batch: {images:,} images on a device need at least "
      f"{need / 2**30:,.1f} GiB, and it has {has / 2**30:,.1f}; lower "
      "train.batch, space.width, space.cells or space.nodes, set train.remat, "
      "or tell what it has by the environment's JNAS_MEMORY, in GiB"
    )


def clock(config: ml_collections.ConfigDict, size: int) -> Clock:
  """The clock of a run on `size` training examples.

  Raises:
    ValueError: the batch is larger than that.
  """
  per_epoch = device.steps_per_epoch(size, config.train.batch)
  total = config_lib.duration(config.train.length, per_epoch)
  return Clock(per_epoch, total)


def schedules(
  config: ml_collections.ConfigDict, time: Clock
) -> tuple[optim.Schedule, dict[str, optim.Schedule]]:
  """The schedules of the weights' learning rate, and of dropout by name."""
  shared = dict(epochs=time.epochs, steps_per_epoch=time.per_epoch)
  rate = optim.learning_rate(
    config.weights.schedule,
    config.weights.lr,
    config.weights.lr_end,
    factor=config.weights.factor,
    power=config.weights.power,
    warmup=time.steps(config.weights.warmup),
    **shared,
  )
  drop = config.train.drop_path
  return rate, {"path": optim.ramp(drop, **shared)} if drop else {}


def draw(
  config: ml_collections.ConfigDict,
  data: sources.ImageData,
  mesh: Mesh,
  seed: jax.Array | None = None,
) -> batches.Draw:
  """The batches of a config, as `jnas.training.batches.image_draw` has them.

  Args:
    config: with the seed, where none is given.
    data: for the normalisation.
    mesh: the devices that share a batch.
    seed: of all draws; may be traced.
  """
  batch, source = config.train.batch, config.data
  return batches.image_draw(
    seed=config.seed if seed is None else seed,
    batch=batch,
    local=parallel.local_batch(batch, mesh),
    offset=parallel.offset,
    mean=data.mean,
    std=data.std,
    pad=source.crop_pad,
    flip=source.flip,
    cutout=source.cutout,
    autoaugment=source.autoaugment,
    area=source.crop_area,
    colours=source.colour_jitter,
    hue=source.hue_jitter,
    dtype=config.train.dtype,
  )


def key(
  config: ml_collections.ConfigDict, name: str, stage: int = 0
) -> jax.Array:
  """The key of a stream that does not depend on the step.

  Args:
    config: with the seed.
    name: of the stream.
    stage: of a search; every one draws anew.
  """
  return keys.stream(config.seed, f"{name}/{stage}" if stage else name)


def network(
  config: ml_collections.ConfigDict,
  spec: Spec,
  mesh: Mesh,
  skip_zero_ops: bool = False,
  frozen: tuple[Any, ...] = (),
) -> nn.Module:
  """The network of a spec, computed as the config says.

  Args:
    config: the configuration.
    spec: the network.
    mesh: the devices that it is built for.
    skip_zero_ops: whether operators whose weight is zero need not be computed.
    frozen: transit cells that are computed as they are (`cnn.Network`).
  """
  shared = config.train.sync_batch_norm and parallel.replicas(mesh) > 1
  how = Execution(
    dtype=None if config.train.dtype == "float32" else config.train.dtype,
    axis=parallel.AXIS if shared else None,
    remat=config.train.remat,
    backend=backend.of(parallel.platform(mesh)),
    skip_zero_ops=skip_zero_ops,
    frozen=frozen,
  )
  return spaces.of(spec).network(spec, how)


def variables(
  config: ml_collections.ConfigDict,
  network: nn.Module,
  data: sources.ImageData,
  edge_weights: Any = None,
  stage: int = 0,
) -> Any:
  """The first parameters and batch statistics, of a stage.

  Nothing but the parameters is computed, one array after the other: one
  program that draws all of them takes minutes to compile.
  """
  shape = (1, *data.train_x.shape[1:])
  x = jax.ShapeDtypeStruct(shape, np.float32)
  first = key(config, "weights", stage)
  return network.lazy_init(first, x, edge_weights, train=False)


def objective(
  config: ml_collections.ConfigDict, network: nn.Module
) -> losses.Objective:
  """What is minimised on one batch."""
  return losses.classification(
    network,
    auxiliary=config.train.auxiliary,
    smoothing=config.train.label_smoothing,
  )


def weights_optimizer(
  config: ml_collections.ConfigDict, schedule: optim.Schedule
) -> optax.GradientTransformation:
  """The optimizer of the network's weights."""
  return optim.sgd(
    schedule,
    momentum=config.weights.momentum,
    decay=config.weights.decay,
    clip=config.weights.clip,
    nesterov=config.weights.nesterov,
  )


def arch_optimizer(
  config: ml_collections.ConfigDict,
) -> optax.GradientTransformation:
  """The optimizer of the architecture parameters."""
  arch = config.arch
  if arch.optimizer == "sgd":
    return optim.sgd(
      lambda step: arch.lr, momentum=arch.momentum, decay=arch.decay, clip=0.0
    )
  return optim.adam(arch.lr, b1=arch.b1, b2=arch.b2, decay=arch.decay)


def dropout(
  schedules: Mapping[str, optim.Schedule], start: int = 0
) -> steps.Rates | None:
  """A function step -> rates of dropout by name; None where there are none.

  Args:
    schedules: by name, of steps from `start` on.
    start: the step at which they begin.
  """
  if not schedules:
    return None
  return lambda step: {name: f(step - start) for name, f in schedules.items()}


def rates(
  learning_rate: optim.Schedule,
  drop: Mapping[str, optim.Schedule],
  start: int = 0,
) -> Callable[[int], dict[str, float]]:
  """A function step -> the numbers that follow a schedule, by metric."""
  named = {"lr": learning_rate}
  named |= {f"drop_{name}_rate": schedule for name, schedule in drop.items()}
  return lambda step: {
    name: float(schedule(step - start)) for name, schedule in named.items()
  }


def task(
  config: ml_collections.ConfigDict,
  network: nn.Module,
  data: sources.ImageData,
  mesh: Mesh,
  own_statistics: bool = False,
) -> Task:
  """The task of a config: to classify images.

  Args:
    config: the configuration.
    network: what is trained.
    data: for the normalisation.
    mesh: the devices.
    own_statistics: whether an evaluation normalises by those of its batch.
  """
  batch = config.train.batch
  return Task(
    objective(config, network),
    evaluator(network, data, mesh, batch, own_statistics),
  )


def evaluator(
  network: Any,
  data: sources.ImageData,
  mesh: Mesh,
  batch: int,
  own_statistics: bool = False,
) -> Callable[..., dict[str, float]]:
  """A function (state, edge weights or None, split) -> loss and accuracy.

  Every example counts once, with running batch statistics or, if
  `own_statistics`, with those of its batch. A fourth argument leaves it at so
  many batches.
  """
  program = functools.cache(
    functools.partial(eval_program, network, data, mesh, own_statistics)
  )

  def evaluate(state, edge_weights, split, batches=None):
    index, present = device.eval_batches(len(split), batch)
    index, present = index[:batches], present[:batches]
    files = isinstance(split, FileSplit)
    if files:
      fed = feeds.evaluated(split, index, present, mesh)
    else:
      counts = present.sum(-1)
      fed = zip([split] * len(index), index, present, counts, strict=True)
    step, total, parts = program(files), 0.0, []
    for *batch_of, count in fed:
      parts.append(step(*evaluated(state), edge_weights, *batch_of))
      total += float(count)
    parts = jax.device_get(parts)
    scale = batch / total
    return {
      name: scale * float(np.sum([part[name] for part in parts]))
      for name in ("loss", "accuracy")
    }

  return evaluate


def eval_program(
  network: Any,
  data: sources.ImageData,
  mesh: Mesh,
  own_statistics: bool = False,
  files: bool = False,
) -> Callable[..., dict[str, jax.Array]]:
  """The program of one batch of an evaluation, as `eval_step` takes it.

  Args:
    network: what is evaluated.
    data: for the normalisation.
    mesh: the devices.
    own_statistics: whether normalisations use those of the batch.
    files: whether a device has its own examples alone, and not all.
  """
  whole, shared = PartitionSpec(), PartitionSpec(parallel.AXIS)
  return parallel.shard_step(
    eval_step(
      network,
      mean=data.mean,
      std=data.std,
      average=parallel.mean,
      own_statistics=own_statistics,
    ),
    mesh,
    in_specs=(*3 * (whole,), shared if files else whole, shared, shared),
    out_specs=whole,
  )


def shapes_on_devices(mesh: Mesh, *pairs: Any) -> tuple[device.Split, ...]:
  """`feeds.place`, without the data: what a program is compiled for."""
  everywhere = NamedSharding(mesh, PartitionSpec())
  return tuple(
    parallel.abstract(device.split(*pair), everywhere) for pair in pairs
  )
