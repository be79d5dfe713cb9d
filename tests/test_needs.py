"""What a configuration will need: bounds below what real networks have."""

import math
import pathlib

import jax
import jax.numpy as jnp
import pytest

from jnas import config as config_lib
from jnas.algorithms import registry
from jnas.config import needs
from jnas.runs import build, recipe
from jnas.spaces import cnn
from jnas.spaces import registry as spaces

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"


def config(**fields):
  found = config_lib.base()
  found.update_from_flattened_dict(
    {"space.cells": 3, "space.width": 8, "space.nodes": 1}
    | {name.replace("__", "."): value for name, value in fields.items()}
  )
  config_lib.validate(found)
  return found, config_lib.flatten(found)


@pytest.mark.parametrize(
  "fields",
  [
    {},
    {"space__name": "nas_bench_201", "space__cells": 1},
    *(
      pytest.param(fields, marks=pytest.mark.slow)
      for fields in (
        {"space__nodes": 4},
        {"space__name": "s1_12"},
        {"space__partial": 4},
        {"algo__name": "entrannas", "space__sharing": True},
        {"space__fixed_reduction": True},
        {"train__remat": True},
      )
    ),
  ],
  ids=str,
)
def test_needs_are_bounds_and_no_wild_guesses(fields):
  full, flat = config(**fields)
  spec = recipe.spec(full, 10)
  network = cnn.Network(spec, remat=flat["train.remat"])
  weights = {name: jnp.ones(cell.shape) for name, cell in spec.searched}
  x = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)

  def backward(x):
    variables = network.init(jax.random.key(0), x, weights, train=False)

    def loss(params):
      rest = {"batch_stats": variables["batch_stats"]}
      inputs = {"params": params} | rest, x, weights
      output, _ = network.apply(*inputs, train=True, mutable=["batch_stats"])
      return output[0].sum()

    return variables["params"], jax.vjp(loss, variables["params"])[1]

  params, kept = jax.eval_shape(backward, x)
  count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
  method = registry.find(flat["algo.name"])
  space = spaces.find(flat["space.name"])
  bound = needs.parameters(flat, method, space)
  assert bound <= count <= 12 * bound
  size = sum(
    math.prod(leaf.shape) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(kept)
  )
  one, two = (
    needs.memory(flat, method, space, (16, 16, 3), n) for n in (1, 2)
  )
  features = two - one
  assert features <= size <= 60 * features


def test_networks_of_papers_are_far_below_the_limit():
  for path in CONFIGS.glob("*.py"):
    flat = config_lib.flatten(config_lib.load(str(path)))
    method = registry.find(flat["algo.name"])
    space = spaces.find(flat["space.name"])
    assert needs.operators(flat, method, space) < needs.MOST_OPERATORS / 10
    assert needs.memory(flat, method, space) < 2**30


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"space__width": 10**9}, "one image needs at least [0-9,]+ GiB"),
    ({"space__nodes": 10**6}, "3 cells of 500,001,500,000 edges"),
    ({"space__cells": 10**9}, "have [0-9,]+ operators, more than the 100,000"),
    (
      {"algo__name": "pdarts", "pdarts__cells": (5, 11, 10**9)},
      "1000000000 cells of",
    ),
    (
      {"task": "retrain", "retrain__genotype": "x", "space__cells": 10**8},
      "100000000 cells",
    ),
  ],
  ids=str,
)
def test_what_no_machine_could_build_is_refused_at_once(fields, message):
  with pytest.raises(ValueError, match=message):
    config(**fields)


def test_batch_that_no_device_can_hold(monkeypatch):
  full, _ = config(train__batch=10**6)
  monkeypatch.setenv("JNAS_MEMORY", "2")
  with pytest.raises(
    ValueError, match=r"need at least [\d.]+ GiB, and it has 2"
  ):
    build.load(full)
  monkeypatch.setenv("JNAS_MEMORY", "2000")
  build.load(full)
  monkeypatch.setenv("JNAS_MEMORY", "much")
  with pytest.raises(ValueError, match="JNAS_MEMORY: expected GiB"):
    build.load(full)
