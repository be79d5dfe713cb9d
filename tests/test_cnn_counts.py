"""Parameters of whole networks, as counted on the published PyTorch code."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from jnas.genotype import ZOO
from jnas.spaces import cnn, discrete
from jnas.spaces import spec as spec_lib
from jnas.spaces.cells import SearchCell
from jnas.spaces.spec import S1

KNOWN = {}  # cells already counted


def shapes(spec, pixels=32):
  init = functools.partial(cnn.Network(spec).init, train=False)
  x = jax.ShapeDtypeStruct((1, pixels, pixels, 3), jnp.float32)
  return jax.eval_shape(init, jax.random.key(0), x)


def size(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.fixture
def cells_once(monkeypatch):
  """Cells of a shape already counted are one parameter of that many numbers.

  Tracing is what takes time in a supernet. What this leaves is the network's
  own arithmetic: which cell gets which inputs, width and stride.
  """

  class Counted(nn.Module):
    cell: spec_lib.Cell
    channels: int
    reduction: bool
    halve_first: bool
    train: bool
    affine: bool
    pool_norm: bool
    axis: str | None
    loop: bool
    partial: int
    skip_zero_ops: bool
    active: None
    backend: object

    @nn.compact
    def __call__(self, s0, s1, weights, drop):
      options = dict(
        cell=self.cell,
        channels=self.channels,
        reduction=self.reduction,
        halve_first=self.halve_first,
        affine=self.affine,
        pool_norm=self.pool_norm,
        partial=self.partial,
        skip_zero_ops=self.skip_zero_ops,
      )
      key = (*options.values(), s0.shape, s1.shape)
      if key not in KNOWN:
        module = SearchCell(
          train=self.train, axis=self.axis, loop=self.loop, **options
        )
        y, variables = jax.eval_shape(
          functools.partial(module.init_with_output, weights=None, drop=None),
          jax.random.key(0), s0, s1,
        )
        KNOWN[key] = y.shape, size(variables["params"])
      shape, count = KNOWN[key]
      self.param("all", nn.initializers.zeros, (count,))
      return jnp.zeros(shape)

  monkeypatch.setattr(cnn, "SearchCell", Counted)


def test_the_supernet_of_darts_cell_by_cell():
  spec = spec_lib.supernet(S1, cells=8, width=16, classes=10)
  params = shapes(spec)["params"]
  assert cnn.count(params) == size(params) == 1_930_618
  assert [size(params[f"cell{i}"]) for i in range(8)] == [
    45888, 46144, 144000, 137856, 139904, 484608, 460032, 468224
  ]
  assert size([params["stem"], params["stem_norm"]]) == 1392
  assert size(params["classifier"]) == 2570


@pytest.mark.parametrize(
  "cells,width,classes,count",
  [
    (8, 16, 10, 1_930_618),
    (8, 16, 100, 1_953_748),
    (5, 16, 10, 1_275_834),
    (11, 16, 10, 2_585_146),
    (14, 16, 10, 3_239_674),
    (17, 16, 10, 3_894_202),
    (20, 36, 10, 19_932_310),
  ],
)
def test_supernets(cells, width, classes, count, cells_once):
  spec = spec_lib.supernet(S1, cells=cells, width=width, classes=classes)
  assert cnn.count(shapes(spec)["params"]) == count


@pytest.mark.parametrize(
  "name,total,without",
  [
    ("DARTS_V1", 3_645_840, 3_169_414),
    ("DARTS_V2", 3_825_768, 3_349_342),
    ("PDARTS", 3_910_224, 3_433_798),
    ("GDAS_F1", 3_019_440, 2_543_014),
  ],
)
@pytest.mark.parametrize("classes", [10, 100])
def test_published_networks(name, total, without, classes, cells_once):
  spec = discrete.derived(
    ZOO[name], cells=20, width=36, classes=classes, auxiliary=True
  )
  params = shapes(spec)["params"]
  more = (classes - 10) * 577, (classes - 10) * 769
  head = {10: 476_426, 100: 545_636}[classes]
  assert cnn.count(params) == without + more[0]
  assert cnn.count(params, auxiliary=True) == total + sum(more)
  assert size(params["auxiliary"]) == head


@pytest.mark.parametrize(
  "name,width,without,auxiliary_norm,total",
  [
    ("DARTS_V1", 48, 4_510_432, False, 5_771_208),
    ("DARTS_V2", 48, 4_718_752, False, 5_979_528),
    ("DARTS_V2", 48, 4_718_752, True, 5_981_064),
    ("PDARTS", 48, 4_944_352, True, 6_206_664),
    ("GDAS_F1", 48, 3_841_888, False, 5_102_664),
    ("GDAS_F1", 52, 4_430_386, False, 5_699_354),
  ],
)
def test_published_networks_on_imagenet(
  name, width, without, auxiliary_norm, total, cells_once
):
  spec = discrete.derived(
    ZOO[name],
    cells=14,
    width=width,
    classes=1000,
    auxiliary=True,
    auxiliary_norm=auxiliary_norm,
    imagenet=True,
  )
  params = shapes(spec, 224)["params"]
  assert cnn.count(params) == without
  assert cnn.count(params, auxiliary=True) == total


def test_the_search_network_of_pc_darts_on_imagenet(cells_once):
  # Stem: 3 to 8, 8 to 16 and 16 to 16 channels; the first cell reads 16 and 16.
  spec = spec_lib.supernet(
    S1, cells=8, width=16, classes=1000, partial=2, imagenet=True
  )
  params = shapes(spec, 224)["params"]
  stem = 9 * (3 * 8 + 8 * 16 + 16 * 16) + 2 * (8 + 16 + 16)
  found = {k: size(v) for k, v in params.items() if k.startswith("stem")}
  assert sum(found.values()) == stem
  assert params["cell0"]["all"].shape == (16 * 16 + 16 * 16 + ops(16, 2),)


def ops(channels, partial):
  """Parameters of 14 edges of the eight operators, of stride one."""
  c = channels // partial
  separable = 2 * (9 + 25) * c + 4 * c * c
  dilated = (9 + 25) * c + 2 * c * c
  return 14 * (separable + dilated)


def test_darts_v2_cell_by_cell():
  spec = discrete.derived(ZOO["DARTS_V2"], cells=20, width=36, classes=10)
  params = shapes(spec)["params"]
  counts = [size(params[f"cell{i}"]) for i in range(20)]
  assert counts == [
    *(26532, 27828, 29124, 29124, 29124, 29124, 21024),
    *(97128, *[107496] * 5, 83520, 370512, *[411984] * 5),
  ]
  for i in range(20):
    kernel = params[f"cell{i}"]["input0"]["kernel"]
    assert kernel.shape[:-2] == ((2,) if i in (7, 14) else ())


@pytest.mark.parametrize(
  "cells,width,total,without",
  [
    (8, 16, 681_572, 246_106),
    (14, 16, 913_860, 478_394),
    (20, 16, 1_146_148, 710_682),
    (8, 36, 1_631_352, 1_154_926),
  ],
)
def test_small_networks_of_darts_v2(cells, width, total, without, cells_once):
  spec = discrete.derived(
    ZOO["DARTS_V2"], cells=cells, width=width, classes=10, auxiliary=True
  )
  params = shapes(spec)["params"]
  assert cnn.count(params) == without
  assert cnn.count(params, auxiliary=True) == total


@pytest.mark.parametrize("name", ["NASNet", "AmoebaNet"])
def test_the_auxiliary_head_of_cells_that_join_three_nodes(name, cells_once):
  spec = discrete.derived(
    ZOO[name], cells=20, width=36, classes=10, auxiliary=True
  )
  assert size(shapes(spec)["params"]["auxiliary"]) == 457_994


@pytest.mark.parametrize("name", ZOO)
def test_every_published_cell_can_be_built(name):
  spec = discrete.derived(ZOO[name], cells=3, width=4, classes=7)
  network = cnn.Network(spec)
  (logits, auxiliary), _ = jax.eval_shape(
    functools.partial(network.init_with_output, train=False),
    jax.random.key(0),
    jnp.zeros((2, 9, 12, 3)),
  )
  assert logits.shape == (2, 7)
  assert auxiliary is None
