"""The Pareto set of a search that prunes, as it is found."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jnas import genotype as genotype_lib
from jnas.algorithms import base
from jnas.algorithms.stages import Stage
from jnas.runs.monitor import Records
from jnas.runs.problem import Problem
from jnas.spaces import arch, discrete, registry
from jnas.spaces.spec import Spec
from jnas.training.state import State

MEGA = 1e6


def records(
  problem: Problem,
  stage: Stage,
  state: State,
  weights: Mapping[str, np.ndarray],
  values: Mapping[str, float],
  headline: str,
) -> Records:
  """A line of pareto.jsonl if a network is found with this stage.

  Args:
    problem: with the data and the stages.
    stage: that ends.
    state: at its end.
    weights: the mixture then.
    values: of this evaluation.
    headline: of the task, by which the network is told.
  """
  arch = jax.device_get(state.arch)
  found = problem.stages.decide(stage, arch, weights).found
  if found is None:
    return ()
  line = {
    "step": stage.stop,
    "epoch": stage.stop / problem.clock.per_epoch,
    headline: values[f"valid_{headline}"],
    **dict(stage.hyper),
    **network(found, problem.data.train_x.shape[1:]),
  }
  return (("pareto.jsonl", line),)


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
    **measure(_derived(spec, genotype), shape),
  }


def _derived(spec: Spec, genotype: genotype_lib.AnyGenotype) -> Spec:
  """The derived network, as deep and wide as the search's."""
  return discrete.derived(
    genotype,
    cells=len(spec.layers),
    width=spec.width,
    classes=spec.classes,
  )


def measure(spec: Spec, shape: tuple[int, ...]) -> dict[str, float]:
  """Millions of multiply-adds and of parameters of a derived network.

  Args:
    spec: of the derived network; what an auxiliary head has is left out.
    shape: (H, W, channels) of the images.
  """
  params, flops = registry.counts(spec, shape)
  return {"params": params / MEGA, "flops": flops / MEGA}
