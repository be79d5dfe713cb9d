"""Every field of a configuration: its default, its meaning, its limits."""

import ml_collections


def base() -> ml_collections.ConfigDict:
  """Returns the default configuration: digits, first-order DARTS.

  It is locked: a config file sets fields, it cannot invent any.
  """
  fields = {
    "task": "search",  # search | retrain | compare | random_pruning
    "seed": 0,  # all randomness is a function of (seed, name, step)
    "data": {
      "name": "digits",  # data set; see jnas/data/sources.py
      "path": "",  # file or folder that holds it, if it needs one
      "limit": 0,  # at most this many training images; 0 = all
      "share": 0.5,  # of them train the weights in search, the rest alpha; 1:
      # all do both (algo.one_level, goldnas)
      "crop_pad": 0,  # random crop after padding by so many pixels; 0 = off
      "flip": False,  # random horizontal flip
      "cutout": 0,  # side in pixels of the square that is erased; 0 = off
      "autoaugment": False,  # AutoAugment's CIFAR-10 policy, before normalising
    },
    "space": {
      "name": "s1",  # s1: the 8 of DARTS | s1_7: without none | s1_12: and 5
      # more | s2: skip, sep 3x3 | s3: and none | nas_bench_201: its cells
      "cells": 8,  # depth; of nas_bench_201, cells in each of 3 stages
      "width": 16,  # channels of the first cell
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
      "name": "darts",  # see CHOICES for the others
      "hypergrad": "first_order",  # see CHOICES for the others
      "form": "exact",  # exact | finite_difference (unrolled, amended only)
      "eta": 0.1,  # of the amended term; unrolled steps by the current lr
      "solver_steps": 10,  # of conjugate gradients or the Neumann series
      "solver_damping": 0.01,  # added to the Hessian's diagonal by the solver
      "solver_scale": 0.1,  # step of the Neumann series
      "one_level": False,  # weights and alpha step together, on the same batch
      "warmup": "0 epochs",  # alpha rests so long (pdarts: in each stage)
      "tau": 10.0,  # gdas, entrannas, dst: temperature at the start
      "tau_end": 1.0,  # gdas: and at the end; it falls linearly
      "undrawn": False,  # gdas: weights of operators that are not drawn count
      # as scalars, as in NAS-Bench-201's code; on its cells only
      "tau_ratio": 0.923,  # entrannas, dst: factor of an epoch, of a run of
      "tau_epochs": 50,  # so many; others end at the same tau. 0 = of any run
      "sparsity": 0.1,  # dst: lambda, of -log t in the architecture's loss
      "settle": "2 epochs",  # entrannas, dst: compile transit cells as they
      # are once they have stayed so long, twice as long each time; 0 = never
      "candidates": 20,  # random: cells that are tried at each evaluation
      "diagnose": "0 epochs",  # period of cosine_implicit; 0 = never
    },
    "pdarts": {  # stages of equal length, one entry a stage
      "cells": (5, 11, 17),  # depth
      "operators": (8, 5, 3),  # operators on an edge, none included
      "skip_rates": (0.0, 0.4, 0.7),  # of dropout after skips, at first
      "skips": 2,  # M: skip connections that the normal cell may keep
    },
    "gold": {  # Algorithm 1 of GOLD-NAS
      "mu": 0.0,  # weight of the expected FLOPs beside the uniform ones
      "through_mean": False,  # differentiate the mean in equation 5
      "n0": 4,  # operators that an epoch is to prune
      "lambda0": 1e-5,  # first increment of lambda, a million multiply-adds
      "c0": 2.0,  # factor of the increment, divisor of lambda
      "xi_max": 0.05,  # the n0 weakest are pruned below this
      "xi_min": 0.01,  # all are pruned below this
      "t0": 3,  # epochs without pruning that make a network Pareto-optimal
      "flops_min": 360.0,  # millions of multiply-adds at which a search ends
      "rebuild": 0.25,  # share of them that must be masked to compile anew
      "candidates": 24,  # random_pruning: networks drawn under flops_min
      "trial": "0 epochs",  # of each, by which the best is chosen; 0 = none is
    },
    "train": {
      "length": "50 epochs",  # of the whole run
      "batch": 64,  # images a step, over all devices
      "dtype": "float32",  # of the arithmetic: float32 | bfloat16
      "drop_path": 0.0,  # rate at the end; it rises linearly from 0
      "auxiliary": 0.0,  # weight of the auxiliary loss; 0 = no head
      "label_smoothing": 0.0,  # share of the target spread over all classes
      "sync_batch_norm": False,  # batch statistics over all devices
      "remat": False,  # recompute cells backwards: less memory, more time
      "steps_per_dispatch": 0,  # 0 = chosen by platform (1 on CPU)
    },
    "weights": {  # SGD with cosine decay, of the network's weights
      "lr": 0.025,  # at the start
      "lr_end": 0.001,  # at the end of the cosine
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
      "relaxed": False,  # train the search network of that run directory, its
      # architecture weights fixed, and nothing that is derived
    },
    "compare": {
      "configs": (  # what is compared: config files with their arguments
        "configs/darts.py:quick",
        "configs/amended_darts.py:quick",
      ),
      "seeds": 3,  # runs of each, with seeds from `seed` on
      "retrain": "0 epochs",  # train each genotype, so long, from scratch; in
      # % of the recipe's train.length; 0 = do not
      "recipe": "",  # config file of task retrain that says how, and how deep
      # and wide derived networks are; empty = as the search
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
  return ml_collections.ConfigDict(fields).lock()


CHOICES = {
  "task": ("search", "retrain", "compare", "random_pruning"),
  "space.name": tuple("s1 s1_7 s1_12 s2 s3 nas_bench_201".split()),
  "space.edges": ("all", "fixed", "searched"),
  "space.engines": ("all", "half", "first", "last"),
  "algo.name": tuple(
    "darts amended pcdarts gdas pdarts random entrannas dst goldnas".split()
  ),
  "algo.hypergrad": tuple(
    "first_order unrolled amended implicit_cg implicit_neumann".split()
  ),
  "algo.form": ("exact", "finite_difference"),
  "arch.optimizer": ("adam", "sgd"),
  "train.dtype": ("float32", "bfloat16"),
}

RANGES = (
  (
    lambda v: v > 0,
    "greater than 0",
    "space.cells space.width space.nodes space.partial algo.solver_steps "
    "algo.solver_scale algo.tau algo.tau_end algo.candidates compare.seeds "
    "train.batch weights.lr arch.lr log.keep space.bottleneck gold.n0 "
    "gold.lambda0 gold.xi_max gold.xi_min gold.flops_min gold.candidates",
  ),
  (
    lambda v: v >= 0,
    "0 or greater",
    "data.limit data.crop_pad data.cutout algo.eta algo.solver_damping "
    "train.auxiliary train.steps_per_dispatch weights.lr_end weights.decay "
    "weights.clip arch.decay arch.init algo.sparsity gold.mu gold.t0 "
    "algo.tau_epochs",
  ),
  (
    lambda v: 0 <= v < 1,
    "at least 0 and less than 1",
    "train.drop_path train.label_smoothing weights.momentum arch.b1 arch.b2 "
    "arch.momentum gold.rebuild",
  ),
  (
    lambda v: 0 < v <= 1,
    "greater than 0 and at most 1",
    "data.share algo.tau_ratio",
  ),
  (lambda v: v > 1, "greater than 1", "gold.c0"),
  # What each of them costs is plain work that nobody would wait for.
  (
    lambda v: v <= 1024,
    "at most 1,024",
    "data.crop_pad data.cutout space.partial space.bottleneck compare.seeds "
    "algo.solver_steps pdarts.skips",
  ),
  (
    lambda v: v <= 10**6,
    "at most 1,000,000",
    "algo.candidates gold.candidates train.steps_per_dispatch log.keep "
    "algo.tau_epochs",
  ),
  (
    lambda v: v <= 10**9,
    "at most 1,000,000,000",
    "space.cells space.width space.nodes train.batch data.limit gold.n0 "
    "gold.t0",
  ),
  (lambda v: 0 <= v < 2**32, "from 0 to 4294967295", "seed"),
)

POSITIVE_DURATIONS = ("train.length", "log.every", "log.save")
DURATIONS = POSITIVE_DURATIONS + tuple(
  "algo.warmup algo.diagnose algo.settle weights.warmup log.evaluate "
  "compare.retrain gold.trial".split()
)
