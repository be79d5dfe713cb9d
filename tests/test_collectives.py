"""How often the devices that share a step send something to each other."""

import math

import jax
import pytest

from jnas import config as config_lib
from jnas.runs import programs
from jnas.runtime import compiled

TINY = ("space.nodes=1", "space.width=4", "data.limit=160")


@pytest.mark.parametrize(
  "hypergrad, count",
  [
    # That by alpha, and that by w with statistics and metrics.
    ("first_order", 2),
    # One by alpha, one by w, that of the virtual step, and the mixed product.
    pytest.param("unrolled", 4, marks=pytest.mark.slow),
  ],
)
def test_a_gradient_is_one_all_reduce(hypergrad, count):
  fields = (*TINY, "train.length=10 steps", f"algo.hypergrad={hypergrad}")
  config = config_lib.load(
    "configs/darts.py:quick", [f"--config.{field}" for field in fields]
  )
  found = programs.of(config, jax.devices())
  assert found.mesh.size == 4
  (step,) = (each for each in found.each if each.name == "full step")
  lowered = step.function.lower(*step.arguments)
  state = step.arguments[0]
  tensors = jax.tree.leaves((state.weights, state.stats, state.arch))
  assert lowered.as_text().count("stablehlo.all_reduce") > len(tensors)
  work = compiled.work(lowered.compile().as_text())
  assert (work.collectives, work.unknown_loops) == (count, 0)
  if hypergrad == "first_order":
    # What is large goes round once; beside it there are a few scalars.
    size = sum(4 * math.prod(each.shape) for each in tensors)
    assert size < work.collective_bytes < size + 64
