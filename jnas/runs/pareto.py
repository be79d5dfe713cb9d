"""The Pareto set of a GOLD-NAS search, as it is found."""

from collections.abc import Mapping
import functools
from typing import Any

import jax
import numpy as np

from jnas import genotype as genotype_lib
from jnas.algorithms import base, goldnas
from jnas.runs import recipe
from jnas.runs.problem import Problem
from jnas.runtime.writer import Writer
from jnas.spaces import arch, cnn, cost, discrete
from jnas.spaces.spec import Spec
from jnas.training import controller
from jnas.training.controller import Stage


def record(
  problem: Problem,
  stage: Stage,
  weights: Mapping[str, np.ndarray],
  values: Mapping[str, float],
  writer: Writer,
  step: int,
) -> None:
  """Writes a line of pareto.jsonl if Algorithm 1 takes this network.

  Args:
    problem: with the data and the hyper-parameters.
    stage: that ends with this step.
    weights: sigma(alpha) at its end.
    values: of this evaluation.
    writer: of the run.
    step: steps done.
  """
  if step != stage.stop:
    return
  schedule = recipe.schedule(problem.config)
  found = controller.decision(stage, weights, schedule)
  if not found.pareto:
    return
  spec = goldnas.pruned(stage.left, found.active)
  writer.append(
    "pareto.jsonl",
    {
      "step": step,
      "epoch": step / problem.clock.per_epoch,
      "accuracy": values["valid_accuracy"],
      "lambda": dict(stage.controls)["lambda"],
      **network(spec, problem.data.train_x.shape[1:]),
    },
  )


def network(spec: Spec, shape: tuple[int, ...]) -> dict[str, Any]:
  """What a line says of a pruned network: its genotype and its size.

  Args:
    spec: of which every operator that is left is part of the genotype.
    shape: (H, W, channels) of the images.
  """
  ones = {name: np.asarray(arch.mask(cell)) for name, cell in spec.searched}
  genotype = base.genotype_of(spec, ones, choose=base.connections)
  return {
    "genotype": genotype_lib.to_json(genotype),
    "text": genotype_lib.format_text(genotype),
    "operators": int(sum(mask.sum() for mask in ones.values())),
    **measure(spec, genotype, shape),
  }


def measure(
  spec: Spec, genotype: genotype_lib.AnyGenotype, shape: tuple[int, ...]
) -> dict[str, float]:
  """Millions of multiply-adds and of parameters of the derived network.

  Args:
    spec: of the search, for depth, width and classes.
    genotype: derived from it.
    shape: (H, W, channels) of the images.
  """
  derived = discrete.derived(
    genotype,
    cells=len(spec.layers),
    width=spec.width,
    classes=spec.classes,
  )
  shapes = jax.eval_shape(
    functools.partial(cnn.Network(derived).init, train=False),
    jax.random.key(0),
    jax.ShapeDtypeStruct((1, *shape), np.float32),
  )
  flops = cost.network_flops(derived, shape[:2], shape[2])
  return {
    "flops": flops / goldnas.MEGA,
    "params": cnn.count(shapes["params"]) / goldnas.MEGA,
  }
