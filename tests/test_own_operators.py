"""Operators from outside the package: by import path, and as objects."""

import json
import pathlib

import jax
import jax.numpy as jnp
from made_up_cells import build, full, normal, states
from made_up_cells import drawn as drawn_parameters
import numpy as np
import plain_cells
import pytest

from examples.squeeze_excite import squeeze_excite
from jnas import config as config_lib
from jnas import genotype as genotype_lib
from jnas.genotype import operators
from jnas.ops import backend, table
from jnas.report import draw
from jnas.runs import retrain, search
from jnas.spaces import cost
from jnas.spaces.mixed import MixedOps

PATH = "examples.squeeze_excite:squeeze_excite"
SPACE = ("skip_connect", "max_pool_3x3", PATH)


def test_the_example_gates_channels_by_their_means(x64):
  x, reduce, expand = normal(2, 5, 4, 8), normal(8, 2), normal(2, 8, seed=1)
  own = {"reduce": reduce, "expand": expand}
  for stride in (1, 2):
    got = squeeze_excite.define(x, own, lambda y, i: y, stride)
    y = np.maximum(np.asarray(x), 0)
    if stride == 2:
      y = np.stack(
        [
          [
            y[:, max(2 * h - 1, 0) : 2 * h + 2, max(2 * w - 1, 0) : 2 * w + 2]
            .mean((1, 2))
            for w in range(2)
          ]
          for h in range(3)
        ]
      ).transpose(2, 0, 1, 3)
    squeezed = np.maximum(y.mean((1, 2)) @ np.asarray(reduce), 0)
    gates = 1 / (1 + np.exp(-squeezed @ np.asarray(expand)))
    np.testing.assert_allclose(got, y * gates[:, None, None], rtol=1e-12)


@pytest.mark.parametrize("form", [backend.CPU, backend.ACCELERATOR])
def test_it_is_weighted_and_normalised_as_others_are(form, x64):
  kept = (SPACE, SPACE[:2], (PATH,))
  module = MixedOps(SPACE, kept, 2, True, backend=form)
  learnt, stats = table.arrays(PATH, 4, 2, affine=True, pool_norm=False)
  arrays = {
    PATH: {n: normal(2, *own.shape) for n, own in (learnt | stats).items()},
    "skip_connect": {
      "halves": normal(2, 2, 2, 4),
      **{n: jnp.ones((2, 4)) for n in ("mean1", "var1", "scale1", "bias1")},
    },
  }
  weights = normal(3, 3, seed=1)

  @jax.jit
  def both(x):
    outputs, moments = module(x, arrays, weights)
    expected = []
    for t, ops in enumerate(kept):
      expected.append(
        sum(
          weights[t, SPACE.index(op)]
          * plain_cells.operator(
            op, x, arrays, module.where(op).index(t), 2, False
          )
          for op in ops
        )
      )
    return outputs, moments[PATH], expected

  outputs, moments, expected = both(normal(2, 6, 4, 4))
  for y, z in zip(outputs, expected, strict=True):
    np.testing.assert_allclose(y, z, rtol=0, atol=1e-11)
  assert {n: v.shape for n, v in moments.items()} == {
    "mean1": (2, 4), "var1": (2, 4)
  }


def test_a_cell_computes_it_in_loops_and_with_choices(x64):
  cell = full(("none", "skip_connect", PATH), 2)
  s0, s1 = states(False)
  options = dict(reduction=False, halve_first=False)
  params = drawn_parameters(build(cell, **options), s0, s1, None, None)
  weights = jnp.asarray(np.eye(3)[[1, 2, 2, 0, 2]])

  @jax.jit
  def outputs(params):
    found = []
    for more in ({}, {"loop": True}, {"loop": True, "skip_zero_ops": True}):
      module = build(cell, **options, loop="loop" in more)
      module = module.clone(skip_zero_ops="skip_zero_ops" in more)
      found.append(
        module.apply(
          {"params": params}, s0, s1, weights, None, mutable="batch_stats"
        )
      )
    return found

  each, looped, chosen = outputs(params)
  assert abs(each[0]).max() > 1e-3
  for other in (looped, chosen):
    np.testing.assert_allclose(other[0], each[0], rtol=0, atol=1e-11)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-11),
    each[1], looped[1],
  )


def test_it_is_searched_derived_and_retrained(tmp_path):
  overrides = (
    f"space.operators=skip_connect {PATH}", "space.width=4", "space.nodes=1",
    "train.length=2 steps", "data.limit=128", "log.progress=false",
  )
  config = config_lib.load(
    "configs/darts.py:quick", [f"--config.{o}" for o in overrides]
  )
  result = search.run(config, tmp_path / "search")
  found = genotype_lib.parse(result["genotype"])
  pairs = ((PATH, 0), ("skip_connect", 1))
  assert {op for op, _ in found.normal} <= {PATH, "skip_connect"}
  mine = genotype_lib.Genotype(pairs, (2,), pairs, (2,))
  config = config_lib.load(
    "configs/retrain.py:quick",
    [
      f"--config.{o}"
      for o in (
        f"retrain.genotype={genotype_lib.format_text(mine)}", "space.width=4",
        "space.cells=3", "train.length=2 steps", "data.limit=128",
        "log.progress=false", "train.auxiliary=0", "train.batch=32",
      )
    ],
  )
  retrain.run(config, tmp_path / "retrain")
  kept = json.loads((tmp_path / "retrain" / "genotype.json").read_text())
  assert genotype_lib.from_json(kept["genotype"]) == mine
  assert PATH in (tmp_path / "retrain" / "report.html").read_text() or (
    "squeeze excite" in (tmp_path / "retrain" / "report.html").read_text()
  )


def test_an_object_is_known_by_its_name():
  table.register("mine", squeeze_excite, "pooling")
  assert table.get("mine") is squeeze_excite
  assert operators.is_own("mine") and draw.family("mine") == "pooling"
  pairs = (("mine", 0), ("mine", 1))
  genotype_lib.validate(genotype_lib.Genotype(pairs, (2,), None))
  assert cost.operator_flops("mine", 8, 4, 4) == 2 * 8 * 2 + 8 * 16
  with pytest.raises(ValueError, match="an operator 'conv_1x1' in the package"):
    table.register("conv_1x1", squeeze_excite)


def test_the_example_is_short():
  path = pathlib.Path(__file__).parents[1] / "examples" / "squeeze_excite.py"
  assert len(path.read_text().splitlines()) < 100
