"""Which network `jnas cost` is asked about, from its command line."""

import argparse
from collections.abc import Sequence
import os
import pathlib
from typing import Any, NamedTuple

import ml_collections

from jnas import config as config_lib
from jnas import genotype as genotype_lib
from jnas.data import cifar
from jnas.genotype import AnyGenotype, NasBench201Genotype, StackGenotype
from jnas.runs import build, recipe, retrain
from jnas.runs import workdir as workdir_lib
from jnas.spaces.spec import Spec

LARGE = 64  # pixels of an image from which on the stem is ImageNet's
_TASKS = ("search", "retrain", "random_pruning")


class Subject(NamedTuple):
  """A network.

  Attributes:
    config: how large it is, and how it is computed.
    genotype: of its cells; None for the search network of the config.
    classes: that it tells apart.
    shape: (H, W, channels) of the images.
    batch: images at once, where memory and time are measured.
  """

  config: ml_collections.ConfigDict
  genotype: AnyGenotype | None
  classes: int
  shape: tuple[int, int, int]
  batch: int

  def spec(self, width: int | None = None) -> Spec:
    """The network, or one of another width."""
    config = self.config
    if width is not None:
      config = config.copy_and_resolve_references()
      config.space.width = width
    if self.genotype is None:
      return recipe.spec(config, self.classes)
    return recipe.derived(config, self.genotype, self.classes)


def find(options: argparse.Namespace, fields: Sequence[str]) -> Subject:
  """The network that a command line names.

  Args:
    options: as `jnas.runs.cost` reads them; None where nothing is given.
    fields: "--config.GROUP.FIELD=VALUE".

  Raises:
    ValueError, FileNotFoundError: there is none.
  """
  if options.max_macs is not None and options.channels is not None:
    raise ValueError(
      "--max-macs finds the number of channels: expected no --channels beside "
      f"it, got {options.channels}"
    )
  odd = [field for field in fields if not field.startswith("--config.")]
  if odd or (fields and options.config is None):
    raise ValueError(
      f"unrecognized arguments: {(odd or fields)[0]}; fields go with --config, "
      "as in --config=configs/darts.py --config.space.width=16"
    )
  record = {}
  if options.config is None:
    record = workdir_lib.read(_folder(options) / "config.json")
  if options.config is None and not record:
    if options.supernet:
      raise ValueError(
        "--supernet: expected the folder of a search, got "
        f"{options.genotype}; of a config it is what --config gives"
      )
    return _published(genotype_lib.load(options.genotype), options)
  if record:
    try:
      config = recipe.recorded(record)
    except (TypeError, ValueError) as error:
      raise ValueError(
        f"expected the configuration of a run in {_folder(options)}, got a "
        f"config.json that does not fit: {error}"
      ) from error
  else:
    config = config_lib.load(options.config, fields)
  if config.task not in _TASKS or recipe.space(config).data == "text":
    raise ValueError(
      "expected an image network that is searched or retrained, got task "
      f"{config.task} with space.name {config.space.name}"
    )
  if options.supernet and config.task != "search":
    raise ValueError(f"--supernet: expected a search, got task {config.task}")
  return _of_config(config, options, bool(record))


def _folder(options: argparse.Namespace) -> pathlib.Path:
  return pathlib.Path(os.path.expanduser(options.genotype))


def _of_config(
  config: ml_collections.ConfigDict, options: argparse.Namespace, run: bool
) -> Subject:
  """The network of a config file or of a run, whose folder has the genotype."""
  genotype, about = None, {}
  if run and not options.supernet:
    genotype = genotype_lib.load(options.genotype)
  elif config.task == "retrain":
    genotype = genotype_lib.load(config.retrain.genotype)
  if run:
    about = workdir_lib.read(_folder(options) / "data.json")
  classes, shape = len(about.get("classes", ())), tuple(about.get("shape", ()))
  if not (classes and shape):
    classes, shape = _images(config, options)
  if options.image_size:
    shape = (options.image_size, options.image_size, shape[2])
  config = config.copy_and_resolve_references()
  given = {
    "space.width": options.channels,
    "space.cells": options.layers,
    "space.stem": options.stem,
    "train.auxiliary": 0.4 if options.auxiliary else 0.0,
    "train.sync_batch_norm": False,  # there is one device
  }
  config.update_from_flattened_dict(
    {name: value for name, value in given.items() if value is not None}
  )
  return Subject(
    config,
    genotype and retrain.image_cell(genotype, "retrain.genotype"),
    options.classes or classes,
    shape,
    options.batch or config.train.batch,
  )


def _images(
  config: ml_collections.ConfigDict, options: argparse.Namespace
) -> tuple[int, tuple[int, int, int]]:
  """Classes and shape of a config's images, read where they must be."""
  own = config.data
  if own.name in cifar.FORMS:
    return own.classes or cifar.FORMS[own.name].classes, (32, 32, 3)
  if own.name == "imagenet" and not own.path:  # ImageNet itself
    return own.classes or 1000, (own.size, own.size, 3)
  if options.classes and options.image_size:
    return options.classes, (options.image_size, options.image_size, 3)
  try:
    data = build.read(config)
  except (ValueError, OSError) as error:
    raise ValueError(
      f"{error}\nOr give both --classes and --image-size, then no data are read"
    ) from error
  return len(data.classes), data.train_x.shape[1:]


def _published(genotype: AnyGenotype, options: argparse.Namespace) -> Subject:
  """The network of a genotype alone, by default of the field's sizes."""
  if isinstance(genotype, genotype_lib.SpaceGenotype):
    raise ValueError(
      f"the genotype is of the space {genotype.space!r}, whose code is run "
      "only where a configuration names it: give the folder of its run, or "
      "--config=configs/retrain.py with --config.space.name and "
      "--config.retrain.genotype"
    )
  genotype = retrain.image_cell(genotype, "genotype")
  stages = isinstance(genotype, NasBench201Genotype)
  stem = options.stem
  if stem is None:
    large = (options.image_size or 0) >= LARGE and not stages
    stem = "imagenet" if large else "cifar"
  if stem == "imagenet" and stages:
    raise ValueError(
      "--stem: that of ImageNet is for stacks of cells of two inputs, got "
      "NAS-Bench-201"
    )
  imagenet = stem == "imagenet"
  width = options.channels or (48 if imagenet else 16 if stages else 36)
  if imagenet and width % 2:
    raise ValueError(
      f"--channels: the stem of ImageNet needs an even number, got {width}"
    )
  cells = options.layers or (14 if imagenet else 5 if stages else 20)
  if isinstance(genotype, StackGenotype):
    cells = len(genotype.cells)
    if options.layers not in (None, cells):
      raise ValueError(
        f"--layers: the genotype describes {cells} cells, each its own, got "
        f"{options.layers}"
      )
  config = config_lib.base()
  fields: dict[str, Any] = {
    "task": "retrain",
    "space.stem": stem,
    "space.width": width,
    "space.cells": cells,
    "train.auxiliary": 0.4 if options.auxiliary else 0.0,
  }
  config.update_from_flattened_dict(fields)
  side = options.image_size or (224 if imagenet else 32)
  classes = options.classes or (1000 if imagenet else 10)
  return Subject(config, genotype, classes, (side, side, 3), options.batch or 1)
