"""The algorithms on the recurrent cell: what they relax to, draw and derive."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas import genotype
from jnas.algorithms.amended import amended
from jnas.algorithms.base import indicator
from jnas.algorithms.darts import darts
from jnas.algorithms.gdas import gdas
from jnas.algorithms.random import random
from jnas.spaces import rnn

SPEC = rnn.supernet(8, width=4, vocabulary=5)
ALGORITHMS = {"darts": darts, "amended": amended, "gdas": gdas}


def golden():
  table = np.random.RandomState(0).randn(36, 5).astype(np.float32)
  return {rnn.NAME: jnp.asarray(table)}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_golden_genotype(name):
  """That of DARTS's code on the same logits; `none` is never derived."""
  algorithm = ALGORITHMS[name](SPEC)
  found = algorithm.derive(jax.device_get(algorithm.mixture(golden())))
  ops = "sigmoid tanh identity sigmoid relu relu relu identity".split()
  pairs = tuple(zip(ops, (0, 1, 1, 2, 3, 4, 4, 0), strict=True))
  assert found == genotype.RecurrentGenotype(pairs, range(1, 9))
  assert genotype.validate(found) == found
  assert genotype.parse(genotype.format_text(found)) == found
  marked = indicator(SPEC, found)[rnn.NAME]
  assert marked.shape == (36, 5) and marked.sum() == 8


def test_logits_are_one_array():
  arch = darts(SPEC).init(jax.random.key(0), 1e-3)
  assert {name: a.shape for name, a in arch.items()} == {rnn.NAME: (36, 5)}
  assert 0.8e-3 < float(arch[rnn.NAME].std()) < 1.2e-3


def test_gdas_draws_an_operator_an_edge():
  algorithm = gdas(SPEC)
  drawn = jax.vmap(lambda key: algorithm.relax(golden(), key, 0)[rnn.NAME])
  drawn = np.asarray(drawn(jax.random.split(jax.random.key(0), 2000)))
  assert set(np.unique(drawn)) == {0, 1} and (drawn.sum(-1) == 1).all()
  expected = jax.nn.softmax(golden()[rnn.NAME])
  assert abs(drawn.mean(0) - expected).max() < 0.06


def test_random_search_draws_derivable_cells_uniformly():
  algorithm = random(SPEC)
  keys = jax.random.split(jax.random.key(0), 3000)
  drawn = jax.vmap(lambda key: algorithm.init(key, 0.0)[rnn.NAME])(keys)
  drawn = np.asarray(drawn)
  assert (drawn.sum((1, 2)) == 8).all() and not drawn[:, :, 0].any()
  targets = np.array([target for _, target in SPEC.cell.edges])
  for target in range(1, 9):
    own = drawn[:, targets == target]
    assert (own.sum((1, 2)) == 1).all()
    assert abs(own.mean(0)[:, 1:] - 1 / (4 * target)).max() < 0.03
  found = algorithm.derive({rnn.NAME: drawn[0]})
  np.testing.assert_array_equal(indicator(SPEC, found)[rnn.NAME], drawn[0])
