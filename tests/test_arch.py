"""The architecture parameters: shapes, draws, masks."""

import dataclasses

import jax
import numpy as np

from jnas.spaces import arch
from jnas.spaces import spec as spec_lib
from jnas.spaces.spec import S1, S3


def supernet(names=S1, **options):
  options = dict(cells=8, width=16, classes=10) | options
  return spec_lib.supernet(names, **options)


def test_the_logits_of_darts_are_two_tables_of_fourteen_by_eight():
  logits = arch.init(jax.random.key(0), supernet(), 1e-3)
  assert {name: a.shape for name, a in logits.items()} == {
    "normal": (14, 8),
    "reduce": (14, 8),
  }
  assert sum(a.size for a in logits.values()) == 224


def test_the_logits_are_normal_with_the_given_deviation():
  spec = supernet(nodes=60)
  logits = arch.init(jax.random.key(1), spec, 1e-3)
  for drawn in logits.values():
    assert drawn.dtype == np.float32
    assert abs(float(drawn.mean())) < 4e-5
    assert abs(float(drawn.std()) / 1e-3 - 1) < 0.03
  both = [np.asarray(a).ravel() for a in logits.values()]
  assert abs(np.corrcoef(*both)[0, 1]) < 0.05
  again = arch.init(jax.random.key(1), spec, 2e-3)
  for name in logits:
    np.testing.assert_allclose(again[name], 2 * logits[name], rtol=1e-6)
  other = arch.init(jax.random.key(2), spec, 1e-3)
  assert not np.array_equal(other["normal"], logits["normal"])


def test_a_scale_of_zero_favours_no_operator():
  for a in arch.init(jax.random.key(0), supernet(S3), 0.0).values():
    np.testing.assert_array_equal(a, np.zeros((14, 3)))


def test_a_cell_that_is_fixed_has_no_logits():
  spec = supernet()
  cells = (("normal", spec.cell("normal")), ("reduce", None))
  spec = dataclasses.replace(spec, cells=cells)
  assert set(arch.init(jax.random.key(0), spec, 1.0)) == {"normal"}


def test_the_mask_of_a_whole_space_is_ones_with_none_or_without():
  for names in (S1, S3, S3[1:]):
    cell = supernet(names).cell("normal")
    np.testing.assert_array_equal(arch.mask(cell), np.ones((14, len(names))))


def test_the_mask_leaves_out_what_was_pruned_but_not_none():
  cell = dataclasses.replace(
    supernet(nodes=1).cell("normal"),
    kept=(("skip_connect", "dil_conv_5x5"), ()),
  )
  mask = arch.mask(cell)
  assert mask.dtype == np.float32
  np.testing.assert_array_equal(
    mask, [[1, 0, 0, 1, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0, 0, 0]]
  )
