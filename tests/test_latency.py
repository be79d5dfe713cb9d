"""Measured milliseconds as what GOLD-NAS's operators cost."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas import config as config_lib
from jnas.algorithms.goldnas import goldnas
from jnas.ops import backend
from jnas.runs import latency, search
from jnas.runs import problem as problem_lib
from jnas.spaces import cost
from jnas.spaces.spec import S2, supernet

CONFIG = pathlib.Path(__file__).parents[1] / "configs" / "gold_nas.py"
SPEC = supernet(S2, cells=3, width=4, classes=10, nodes=1, shared=False)
SIZE = (8, 8)


def test_an_operator_takes_time_and_the_identity_none():
  time = latency.milliseconds("sep_conv_3x3", 4, SIZE, 1, 8, backend.CPU)
  assert 0 < time < 100
  assert latency.milliseconds("skip_connect", 4, SIZE, 1, 8, backend.CPU) == 0
  assert latency.milliseconds("skip_connect", 4, SIZE, 2, 8, backend.CPU) > 0


def test_costs_are_in_proportion_and_as_many_as_multiply_adds(monkeypatch):
  told = {"sep_conv_3x3": 2.0, "skip_connect": 0.5}
  monkeypatch.setattr(
    latency, "milliseconds", lambda op, c, size, stride, *rest: told[op] * c
  )
  table = latency.table(SPEC, SIZE, 8, backend.CPU)
  assert table["sep_conv_3x3, 8 channels, 8 x 8, stride 2"] == 16
  assert table["skip_connect, 16 channels, 4 x 4, stride 2"] == 8
  costs = latency.costs(SPEC, SIZE, table)
  flops = cost.edge_flops(SPEC, SIZE)
  total = sum(array.sum() for array in flops.values()) / 1e6
  assert sum(a.sum() for a in costs.values()) == pytest.approx(total)
  assert {n: a.shape for n, a in costs.items()} == {
    n: a.shape for n, a in flops.items()
  }
  for array in costs.values():
    np.testing.assert_allclose(array[:, 1], 4 * array[:, 0])
  ratio = costs["cell2"].sum() / costs["cell0"].sum()
  assert ratio == pytest.approx(4)  # by channels
  # These are what the penalty weighs.
  arch = {n: jnp.zeros(c.shape) for n, c in SPEC.searched}
  hyper = {"lambda": jnp.float32(1)}

  def slopes(own):
    algorithm = goldnas(SPEC, SIZE, mu=1.0, costs=own)
    return jax.grad(lambda a: algorithm.penalty(a, hyper))(arch)["cell0"]

  more = {n: a * [1, 3] for n, a in costs.items()}
  change = slopes(more) - slopes(costs)
  assert (change[:, 1] > change[:, 0]).all()
  with pytest.raises(ValueError, match="the milliseconds of s.*; delete the"):
    latency.costs(SPEC, (16, 16), table)


def test_a_run_keeps_what_it_measured(tmp_path, monkeypatch):
  config = config_lib.load(f"{CONFIG}:quick", ["--config.gold.latency=true"])
  config.update_from_flattened_dict(
    {
      "space.cells": 3,
      "space.width": 4,
      "space.nodes": 1,
      "train.length": "2 steps",
      "train.batch": 16,
      "data.limit": 64,
      "log.progress": False,
    }
  )
  search.run(config, tmp_path / "run")
  kept = json.loads((tmp_path / "run" / latency.FILE).read_text())
  assert max(kept.values()) > 0
  data = json.loads((tmp_path / "run" / "data.json").read_text())
  assert data["shape"] == [8, 8, 1] and len(data["classes"]) == 10
  # Whoever goes on with it does not measure again.
  monkeypatch.setattr(latency, "milliseconds", None)
  (again,) = problem_lib.read(config, workdir=tmp_path / "run")
  assert again.latency == kept == again.files[latency.FILE]
  config.gold.mu = 0.0
  with pytest.raises(ValueError, match="gold.latency: changes what gold.mu"):
    config_lib.validate(config)
