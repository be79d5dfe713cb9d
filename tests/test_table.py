"""The table of operators: what is derived from its rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas import config as config_lib
from jnas import genotype
from jnas.genotype import operators
from jnas.ops import table
from jnas.runs import recipe


@pytest.mark.parametrize("fan_in", [1, 9, 400])
def test_initial_weights_are_uniform_within_the_root_of_the_fan_in(fan_in):
  drawn = table.fan_in_uniform(fan_in)(jax.random.key(0), (50, 100))
  bound = fan_in**-0.5
  assert drawn.dtype == jnp.float32
  assert 0.999 * bound < float(jnp.abs(drawn).max()) <= bound
  assert abs(float(drawn.mean())) < 0.03 * bound
  # Of a uniform distribution: its bound over the root of three.
  assert float(drawn.std()) == pytest.approx(bound / 3**0.5, rel=0.03)


def test_initial_weights_have_the_bounds_of_the_published_code(monkeypatch):
  # PyTorch since 1.0: the fan-in of a depthwise convolution is one window.
  monkeypatch.setattr(table, "fan_in_uniform", lambda fan_in: fan_in)
  seen = {}
  for op, stride in (
    ("sep_conv_5x5", 1), ("skip_connect", 2), ("conv_7x1_1x7", 1)
  ):
    learnt, _ = table.arrays(op, 4, stride, affine=False, pool_norm=True)
    seen[op] = {name: own[:2] for name, own in learnt.items()}
  assert seen == {
    "sep_conv_5x5": {
      "depthwise1": ((5, 5, 4), 25),
      "pointwise1": ((4, 4), 4),
      "depthwise2": ((5, 5, 4), 25),
      "pointwise2": ((4, 4), 4),
    },
    "skip_connect": {"halves": ((2, 2, 4), 4)},
    "conv_7x1_1x7": {
      "row": ((1, 7, 4, 4), 28), "column": ((7, 1, 4, 4), 28)
    },
  }


def test_scales_and_moments_begin_as_no_change():
  start = {}
  for op in ("max_pool_3x3", "dil_conv_3x3"):
    learnt, stats = table.arrays(op, 3, 1, affine=True, pool_norm=True)
    start[op] = {
      name: np.unique(own.init(None, (2, *own.shape))).tolist()
      for name, own in (learnt | stats).items()
      if name not in ("depthwise1", "pointwise1")
    }
  assert start == {
    "max_pool_3x3": {"mean1": [0], "var1": [1]},
    "dil_conv_3x3": {
      "scale1": [1], "bias1": [0], "mean1": [0], "var1": [1]
    },
  }


def test_the_bias_of_a_convolution_is_there_in_search_only():
  search, _ = table.arrays("nor_conv_3x3", 4, 1, affine=False, pool_norm=True)
  after, _ = table.arrays("nor_conv_3x3", 4, 1, affine=True, pool_norm=False)
  assert search.keys() == {"kernel", "shift"}
  assert after.keys() == {"kernel", "scale1", "bias1"}


def test_every_operator_of_the_genotypes_has_a_row():
  known = set(genotype.OPERATIONS) | set(genotype.NAS_BENCH_201_OPERATIONS)
  assert known == table.OPERATORS.keys()
  known |= set(genotype.RECURRENT_OPERATIONS)
  assert known == operators.FAMILIES.keys()


@pytest.mark.parametrize(
  "name, message",
  [
    ("conv_9x9", "none, .*nor_conv_3x3, or an import path .*got 'conv_9x9'"),
    ("nowhere:conv", "cannot be imported: ModuleNotFoundError"),
    ("jnas.ops.plain:conv", "cannot be imported: AttributeError"),
    ("jnas.ops.plain:skip", "to be a jnas.ops.table.Operator, got function"),
  ],
)
def test_an_operator_without_a_row(name, message):
  with pytest.raises(ValueError, match=message):
    table.get(name)
  overrides = [f"--config.space.operators=skip_connect {name}"]
  config = config_lib.load("configs/darts.py:quick", overrides)
  with pytest.raises(ValueError, match=f"space.operators: .*{message}"):
    recipe.spec(config, 10)


@pytest.mark.parametrize(
  "names, message",
  [
    (("scale1", "scale1"), "other names .* got 'scale1'"),
    (("a", "b"), r"same parameters .* got \{'a': \(3,\)\} and \{'b'"),
  ],
)
def test_a_row_that_does_not_hold_together(names, message):
  def parameters(channels, stride):
    return {names[stride - 1]: table.Parameter((channels,), None)}

  row = table.Operator(None, parameters, None)
  table.register("odd", row)
  for stride in (1, 2):
    with pytest.raises(ValueError, match=f"operator 'odd': .*{message}"):
      table.arrays("odd", 3, stride, affine=True, pool_norm=True)
