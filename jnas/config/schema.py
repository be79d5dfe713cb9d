"""Every field of a configuration: its default, its meaning, its limits.

The algorithms own some, their options. This room knows no algorithm: whoever
runs a program declares them (`jnas.runs` does).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ml_collections


class Kind(NamedTuple):
  """What can be named in a configuration, or by its import path.

  Attributes:
    known: by name.
    find: a name, or an import path, -> what it names; ValueError without one.
  """

  known: Mapping[str, Any]
  find: Callable[..., Any]


_declared: dict[str, Kind] = {}


def declare(algorithms: Kind, spaces: Kind) -> None:
  """Makes known what `algo.name` and `space.name` may be.

  Args:
    algorithms: with the fields that are theirs. Of each is asked what
      `jnas.algorithms.method.Method` says of itself.
    spaces: likewise, what `jnas.spaces.space.Space` says.
  """
  _declared.update({"algo.name": algorithms, "space.name": spaces})


def named(field: str, name: str) -> Any:
  """What a name or import path names, in `algo.name` or `space.name`.

  Raises:
    ValueError: there is none, or nothing was declared.
  """
  if field not in _declared:
    raise ValueError("nothing is known by name yet; import jnas.runs")
  return _declared[field].find(name)


def method(name: str) -> Any:
  """The method of a name or import path, as `named` finds it."""
  return named("algo.name", name)


def space(name: str, operators: str = "") -> Any:
  """The search space of a name or import path, as `named` finds it.

  Args:
    name: of the space.
    operators: in place of its own.
  """
  named("space.name", name)
  return _declared["space.name"].find(name, operators)


def names(field: str = "algo.name") -> tuple[str, ...]:
  """The names that were declared, of algorithms or for another field."""
  return tuple(_declared[field].known) if field in _declared else ()


def options(name: str = "") -> dict[str, Any]:
  """The fields of algorithms by dotted name.

  Args:
    name: of the algorithm in use, which may be known by its import path alone.
  """
  found: dict[str, Any] = {}
  for own in names():
    found |= method(own).options
  return found | (method(name).options if name else {})


def base(algorithm: str = "") -> ml_collections.ConfigDict:
  """Returns the default configuration: digits, first-order DARTS.

  It is locked: a config file sets fields, it cannot invent any.

  Args:
    algorithm: name or import path of one whose fields are needed, too.
  """
  fields = {
    "task": "search",  # or see CHOICES
    "seed": 0,  # all randomness is a function of (seed, name, step)
    "seeds": 1,  # searches in one program, with seeds from `seed` on
    "data": {
      "name": "digits",  # data set; see jnas/data/sources.py
      "path": "",  # file or folder that holds it, if it needs one
      "limit": 0,  # at most this many training images; 0 = all
      "classes": 0,  # so many of the classes, drawn once for all; 0 = all
      "portion": 1.0,  # this share of the training images of each class
      "share": 0.5,  # of them train the weights in search, the rest alpha; 1:
      # all do both (algo.one_level, goldnas)
      "crop_pad": 0,  # random crop after padding by so many pixels; 0 = off
      "crop_area": 0.0,  # instead, a crop of at least this share of the image,
      # resized (RandomResizedCrop; ImageNet: 0.08); 0 = off
      "flip": False,  # random horizontal flip
      "colour_jitter": 0.0,  # brightness, contrast, saturation: 1 +- so much
      "hue_jitter": 0.0,  # and the hue: +- so much of the circle, at most 0.5
      "cutout": 0,  # side in pixels of the square that is erased; 0 = off
      "autoaugment": False,  # AutoAugment's CIFAR-10 policy, before normalising
      "size": 224,  # of imagenet: pixels of a side of what is read of an image
      "workers": 0,  # and processes that read; 0 = as many as cores, at most 32
      "corrupt": "refuse",  # images that cannot be read: refuse | skip (which
      # takes the next one, and names them in corrupt.jsonl)
    },
    "space": {
      "name": "s1",  # s1: the 8 of DARTS | s1_7: without none | s1_12: and 5
      # more | s2: skip, sep 3x3 | s3: and none | nas_bench_201: its cells
      # rnn: recurrent cells on text; width and nodes are theirs, cells is not
      # or an import path such as mine:space
      "operators": "",  # in place of those of the space's name: "skip_connect
      # sep_conv_3x3 mine:squeeze_excite", import paths of one's own among them
      "cells": 8,  # depth; of nas_bench_201, cells in each of 3 stages
      "width": 16,  # channels of the first cell
      "stem": "cifar",  # cifar | imagenet: three convolutions of stride two,
      # for 224 x 224 pixels, and that auxiliary head
      "auxiliary_norm": True,  # the auxiliary head ends with a normalisation
      # (on ImageNet P-DARTS's does; DARTS's, PC-DARTS's and GDAS's does not)
      "nodes": 4,  # intermediate nodes of a cell; edges = n (n + 3) / 2
      "edges": "all",  # all | fixed: each node reads c_{k-2} and the node
      # before it | searched: pairs of edges first, then their operators
      "shared": True,  # whether all cells of a kind share alpha
      "fixed_reduction": False,  # GDAS's reduction cell, not searched
      "partial": 1,  # K: operators see 1 / K of the channels (PC-DARTS)
      "engines": "all",  # all | half | first | last: cells of each kind that
      # hold all operators; the others transit what is derived (EnTranNAS)
      "sharing": False,  # edges from one node share an operator's features
      "bottleneck": 1,  # with sharing: operators see channels / bottleneck
      "table": "",  # CSV of nas_bench_201's true accuracies, if at hand
      "column": "cifar10_200",  # of that table
    },
    "algo": {
      "name": "darts",  # or another of jnas.algorithms.registry, or an import
      # path such as mine:fair_darts
      "hypergrad": "first_order",  # see CHOICES for the others
      "form": "exact",  # exact | finite_difference (unrolled, amended only)
      "eta": 0.1,  # of the amended term; unrolled steps by the current lr
      "solver_steps": 10,  # of conjugate gradients or the Neumann series
      "solver_damping": 0.01,  # added to the Hessian's diagonal by the solver
      "solver_scale": 0.1,  # step of the Neumann series
      "one_level": False,  # weights and alpha step together, on the same batch
      "warmup": "0 epochs",  # alpha rests so long (pdarts: in each stage)
      "diagnose": "0 epochs",  # period of cosine_implicit; 0 = never
    },
    "language": {  # space.name rnn; SGD at weights.lr, then averaged SGD
      "level": "word",  # of tokens: word | character
      "bptt": 35,  # tokens of a window
      "deviation": 0.0,  # of its length; 0: half of it in one of 20
      "words": 0.0,  # rates of dropout: of words, everywhere in a window,
      "embedded": 0.2,  # of the embedded text,
      "x": 0.75,  # of the cell's input,
      "hidden": 0.25,  # of hidden states and of nodes,
      "output": 0.75,  # of what the decoder reads
      "activation": 0.0,  # weight of the mean square of what it reads (AR)
      "temporal": 1e-3,  # and of the change of hidden states (TAR)
      "patience": 5,  # evaluations without improvement before it averages
      "eval_batch": 10,  # columns of the validation text
      "test_batch": 1,  # and of the test
      "sample": 400,  # tokens that are drawn of the trained model
    },
    "train": {
      "length": "50 epochs",  # of the whole run
      "batch": 64,  # images a step, over all devices
      "dtype": "float32",  # of the arithmetic: float32 | bfloat16
      "drop_path": 0.0,  # rate at the end; it rises linearly from 0
      "auxiliary": 0.0,  # weight of the auxiliary loss; 0 = no head
      "label_smoothing": 0.0,  # share of the target spread over all classes
      "ema": 0.0,  # decay of the moving average of weights and statistics that
      # is what is tested (retrain); 0 = none
      "sync_batch_norm": False,  # batch statistics over all devices
      "remat": False,  # recompute cells backwards: less memory, more time
      "steps_per_dispatch": 0,  # 0 = chosen by platform (1 on CPU)
    },
    "weights": {  # SGD, of the network's weights
      "lr": 0.025,  # at the start
      "schedule": "cosine",  # cosine | linear | exponential | polynomial
      "lr_end": 0.001,  # at the end of the cosine or line
      "factor": 0.97,  # of the exponential decay, for each epoch
      "power": 0.9,  # of the polynomial decay, which falls at each step
      "momentum": 0.9,  # of SGD
      "nesterov": False,  # look ahead by the momentum
      "decay": 3e-4,  # L2, part of the gradient
      "clip": 5.0,  # largest global norm of the gradient; 0 = no clipping
      "warmup": "0 epochs",  # linear rise of the learning rate
    },
    "arch": {  # of alpha
      "optimizer": "adam",  # adam | sgd
      "lr": 3e-4,  # constant
      "momentum": 0.9,  # of sgd
      "b1": 0.5,  # decay of the first moment
      "b2": 0.999,  # decay of the second moment
      "decay": 1e-3,  # L2, part of the gradient
      "init": 1e-3,  # standard deviation of the first alpha; 0 = all equal
    },
    "retrain": {
      "genotype": "",  # zoo name, run directory, JSON or text file, or text
      "seeds": 1,  # train so many times, with seeds from `seed` on
      "relaxed": False,  # train the search network of that run directory, its
      # architecture weights fixed, and nothing that is derived
    },
    "segment": {  # data.name: shapes | camvid | voc (jnas/data/segmentation.py)
      "genotype": "",  # as of retrain
      "init": "",  # run of task retrain, or file of weights: the backbone's
      # first ones, where they fit; empty = from scratch
      "train": "train",  # split that is trained on,
      "valid": "val",  # and that is evaluated;
      "test": "",  # that the trained network is measured on; empty = none
      "output_stride": 16,  # of the features; what would be coarser is dilated
      "channels": 256,  # of the head
      "dropout": 0.1,  # rate before the classifier of pixels
      "crop": 513,  # side in pixels of what is seen in training
      "scale_min": 0.5,  # images grow by a factor that is uniform between both
      "scale_max": 2.0,
    },
    "compare": {
      "configs": (  # what is compared: config files with their arguments
        "configs/darts.py:quick",
        "configs/amended_darts.py:quick",
      ),
      "seeds": 3,  # runs of each, with seeds from `seed` on
      "together": "auto",  # whether the seeds of a search are one program, as
      # by `seeds`, where it can: yes | no | auto (yes, but not on CPU)
      "retrain": "0 epochs",  # train each genotype, so long, from scratch; in
      # % of the recipe's train.length; 0 = do not
      "recipe": "",  # config file of task retrain that says how, and how deep
      # and wide derived networks are; empty = as the search
    },
    "pareto": {
      "searches": (  # whose Pareto sets are trained: folders of searches by
        "configs/gold_nas.py:quick",  # goldnas, or config files, run first
      ),
      "random": 3,  # networks that are pruned at random, trained beside them
      "most": 0,  # networks of a search, from the cheapest on; 0 = all
    },
    "log": {
      "every": "10 steps",  # period of the lines in metrics.jsonl
      "save": "1 epochs",  # period of checkpoints
      "keep": 2,  # newest checkpoints that are kept
      "evaluate": "1 epochs",  # period of evaluation; 0 = only at the end
      "tensorboard": False,  # also write TensorBoard event files
      "progress": True,  # progress bar, where there is a terminal
    },
  }
  for name, option in options(algorithm).items():
    group, _, own = name.rpartition(".")
    fields.setdefault(group, {})[own] = option.default
  if algorithm:
    fields["algo"]["name"] = algorithm
  return ml_collections.ConfigDict(fields).lock()


def flatten(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns dotted name -> value, of a config or of its nested JSON."""
  flat = {}
  for key, value in config.items():
    if isinstance(value, dict | ml_collections.ConfigDict):
      flat |= {f"{key}.{name}": v for name, v in flatten(value).items()}
    else:
      flat[key] = value
  return flat


CHOICES = {
  "task": (
    "search", "retrain", "segment", "compare", "random_pruning", "pareto"
  ),
  "data.corrupt": ("refuse", "skip"),
  "compare.together": ("auto", "yes", "no"),
  "space.stem": ("cifar", "imagenet"),
  "space.edges": ("all", "fixed", "searched"),
  "space.engines": ("all", "half", "first", "last"),
  "algo.hypergrad": tuple(
    "first_order unrolled amended implicit_cg implicit_neumann".split()
  ),
  "algo.form": ("exact", "finite_difference"),
  "arch.optimizer": ("adam", "sgd"),
  "weights.schedule": (
    "cosine", "linear", "exponential", "polynomial"
  ),
  "language.level": ("word", "character"),
  "train.dtype": ("float32", "bfloat16"),
}

# Fields outside of the group `space` that change what a network has.
OF_NETWORKS = ("train.auxiliary", "train.drop_path")

RANGES = (
  (
    lambda v: v > 0,
    "greater than 0",
    "segment.output_stride segment.channels segment.crop segment.scale_min "
    "space.cells space.width space.nodes space.partial space.bottleneck "
    "algo.solver_steps algo.solver_scale compare.seeds train.batch weights.lr "
    "weights.power arch.lr log.keep language.bptt language.patience "
    "language.eval_batch language.test_batch data.size retrain.seeds seeds",
  ),
  (
    lambda v: v >= 0,
    "0 or greater",
    "data.limit data.classes data.workers data.crop_pad data.crop_area "
    "data.cutout data.colour_jitter "
    "data.hue_jitter algo.eta algo.solver_damping "
    "train.auxiliary train.steps_per_dispatch weights.lr_end weights.decay "
    "weights.clip arch.decay arch.init language.deviation "
    "language.activation language.temporal language.sample pareto.random "
    "pareto.most",
  ),
  (
    lambda v: 0 <= v < 1,
    "at least 0 and less than 1",
    "train.drop_path train.label_smoothing train.ema weights.momentum arch.b1 "
    "arch.b2 "
    "arch.momentum language.words language.embedded language.x "
    "language.hidden language.output segment.dropout",
  ),
  (
    lambda v: 0 < v <= 1,
    "greater than 0 and at most 1",
    "data.share data.portion weights.factor",
  ),
  (lambda v: v <= 0.5, "at most 0.5", "data.hue_jitter"),
  (lambda v: v <= 1, "at most 1", "data.crop_area data.colour_jitter"),
  # What each of them costs is plain work that nobody would wait for.
  (
    lambda v: v <= 1024,
    "at most 1,024",
    "data.crop_pad data.cutout data.size data.workers space.partial "
    "space.bottleneck compare.seeds retrain.seeds pareto.random seeds "
    "algo.solver_steps segment.output_stride",
  ),
  (
    lambda v: v <= 10**6,
    "at most 1,000,000",
    "train.steps_per_dispatch log.keep language.bptt language.patience "
    "language.eval_batch language.test_batch language.sample",
  ),
  (
    lambda v: v <= 10**9,
    "at most 1,000,000,000",
    "space.cells space.width space.nodes train.batch data.limit",
  ),
  (lambda v: 0 <= v < 2**32, "from 0 to 4294967295", "seed"),
)

POSITIVE_DURATIONS = ("train.length", "log.every", "log.save")
DURATIONS = POSITIVE_DURATIONS + tuple(
  "algo.warmup algo.diagnose weights.warmup log.evaluate compare.retrain"
  .split()
)
