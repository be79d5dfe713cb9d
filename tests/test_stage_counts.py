"""Parameters of the search networks of other papers, and of their stages."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas.algorithms import edges, pdarts
from jnas.algorithms.gdas import gdas
from jnas.algorithms.pcdarts import pcdarts
from jnas.genotype import ZOO
from jnas.spaces import arch as arch_lib
from jnas.spaces import cnn, discrete
from jnas.spaces import spec as spec_lib
from jnas.spaces.cells import SearchCell
from jnas.spaces.spec import S1, Block

WIDE = dict(width=16, classes=10)
KNOWN = {}  # cells already counted


def size(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def shapes(spec, **options):
  network = cnn.Network(spec, **options)
  init = functools.partial(network.init, train=False)
  x = jnp.zeros((1, 32, 32, 3))
  return jax.eval_shape(init, jax.random.key(0), x)["params"]


@pytest.fixture
def cells_once(monkeypatch):
  """Cells of a shape already counted are one parameter of that many numbers.

  Tracing is what takes time in a supernet.
  """

  class Counted(nn.Module):
    options: Any

    @nn.compact
    def __call__(self, s0, s1, weights, drop):
      key = (self.options, s0.shape, s1.shape)
      if key not in KNOWN:
        module = SearchCell(**dict(self.options))
        y, variables = jax.eval_shape(
          functools.partial(module.init_with_output, weights=None, drop=None),
          jax.random.key(0), s0, s1,
        )
        KNOWN[key] = y.shape, size(variables["params"])
      shape, count = KNOWN[key]
      self.param("all", nn.initializers.zeros, (count,))
      return jnp.zeros(shape)

  def replaced(name, **options):
    return Counted(tuple(sorted(options.items(), key=str)), name=name)

  monkeypatch.setattr(cnn, "SearchCell", replaced)


def logits(spec, algorithm):
  arch = algorithm(spec).init(jax.random.key(0), 1e-3)
  return {name: a.size for name, a in arch.items()}


@pytest.mark.parametrize("classes,count", [(10, 299_578), (100, 322_708)])
def test_the_supernet_of_pcdarts(classes, count, cells_once):
  spec = spec_lib.supernet(S1, cells=8, width=16, classes=classes, partial=4)
  params = shapes(spec)
  assert cnn.count(params) == size(params) == count
  # Stems, classifier and what precedes cells are as wide as ever.
  whole = shapes(spec_lib.supernet(S1, cells=8, width=16, classes=classes))
  for name in ("stem", "stem_norm", "classifier"):
    assert params[name] == whole[name]


def test_the_operators_of_pcdarts_are_a_quarter_as_wide():
  spec = spec_lib.supernet(S1, cells=3, partial=4, **WIDE)
  cell = shapes(spec)["cell0"]
  assert cell["sep_conv_3x3"]["pointwise1"].shape == (14, 4, 4)
  assert cell["input0"]["kernel"].shape == (16, 48)


def test_pcdarts_has_a_beta_for_each_edge():
  spec = spec_lib.supernet(S1, cells=8, partial=4, **WIDE)
  found = logits(spec, pcdarts)
  assert found == {
    "normal": 112, "normal_edges": 14, "reduce": 112, "reduce_edges": 14
  }
  assert sum(found.values()) == 224 + 28


def test_the_edge_search_of_amended_darts_has_one_for_each_pair():
  spec = spec_lib.supernet(S1, cells=8, **WIDE)
  assert logits(spec, edges.edge_search) == {
    "normal": 112, "normal_edges": 20, "reduce": 112, "reduce_edges": 20
  }


@pytest.mark.parametrize(
  "cells,count", [(5, 1_275_834), (11, 2_585_146), (17, 3_894_202)]
)
def test_the_stages_of_pdarts_with_all_operators(cells, count, cells_once):
  first = spec_lib.supernet(S1, cells=5, **WIDE)
  even = {name: np.ones(cell.shape) for name, cell in first.searched}
  # A later stage that drops nothing is the supernet of its depth.
  spec = pdarts.next_stage(first, even, cells=cells, operators=8)
  assert spec == spec_lib.supernet(S1, cells=cells, **WIDE)
  params = shapes(spec)
  assert cnn.count(params) == size(params) == count
  assert logits(spec, pdarts.pdarts) == {"normal": 112, "reduce": 112}


def test_a_stage_of_pdarts_has_only_what_is_left(cells_once):
  # Of every edge the five from the identity on: `none` and the pools go.
  first = spec_lib.supernet(S1, cells=5, **WIDE)
  order = {
    name: np.tile(np.arange(8.0), (14, 1)) for name, _ in first.searched
  }
  spec = pdarts.next_stage(first, order, cells=5, operators=5)
  # Pools and `none` have no parameters.
  assert cnn.count(shapes(spec)) == 1_275_834
  three = pdarts.next_stage(spec, order, cells=5, operators=3)
  per_edge = {"sep_conv_5x5": 1312, "dil_conv_3x3": 400, "dil_conv_5x5": 656}
  assert set(three.cell("normal").kept) == {tuple(per_edge)}
  before = {"sep_conv_3x3": 800} | per_edge
  cell, whole = shapes(three)["cell0"], shapes(spec)["cell0"]
  assert size(whole) - size(cell) == 14 * 800
  preprocessed = 2 * 16 * 48
  assert size(whole) == 14 * sum(before.values()) + preprocessed


def test_gdas_with_its_fixed_reduction_searches_one_cell():
  spec = spec_lib.supernet(S1, cells=8, fixed_reduction=True, **WIDE)
  assert spec.cell("reduce") is Block.FIXED_REDUCTION
  assert logits(spec, gdas) == {"normal": 112}
  assert [name for name, _ in spec.searched] == ["normal"]


def test_the_published_network_of_gdas(cells_once):
  spec = discrete.derived(ZOO["GDAS_F1"], cells=20, width=36, classes=10)
  assert spec.cell("reduce") is Block.FIXED_REDUCTION
  params = shapes(spec)
  assert cnn.count(params) == size(params) == 2_543_014
  with_head = discrete.derived(
    ZOO["GDAS_F1"], cells=20, width=36, classes=10, auxiliary=True
  )
  params = shapes(with_head)
  assert cnn.count(params) == 2_543_014
  assert cnn.count(params, auxiliary=True) == 3_019_440


def test_a_loop_has_the_parameters_of_its_edges_one_by_one():
  shared = dict(cells=3, width=8, classes=10, nodes=2)
  for spec in (
    spec_lib.supernet(S1, partial=2, **shared),
    spec_lib.supernet(S1, fixed_reduction=True, **shared),
  ):
    assert shapes(spec, loop=True) == shapes(spec)


def test_twenty_independent_cells_have_logits_of_their_own():
  spec = spec_lib.supernet(
    spec_lib.S2, cells=20, width=36, classes=10, fixed=True, shared=False
  )
  arch = arch_lib.init(jax.random.key(0), spec, 1.0)
  assert {a.shape for a in arch.values()} == {(8, 2)}
  assert sum(a.size for a in arch.values()) == 320
