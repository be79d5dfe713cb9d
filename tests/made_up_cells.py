"""Small cells of several forms, their inputs and their parameters."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jnas.genotype import Genotype
from jnas.ops import backend as backend_lib
from jnas.spaces import spec as spec_lib
from jnas.spaces.cells import SearchCell
from jnas.spaces.discrete import derived
from jnas.spaces.spec import S1, Cell

POOLS = ("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect")
EVERY = tuple(op for op in S1 if op != "none")


def normal(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def full(names, nodes):
  kept = tuple(op for op in names if op != "none")
  edges = spec_lib.darts_edges(nodes)
  return Cell(names, edges, (kept,) * len(edges), tuple(range(2, nodes + 2)))


def varied(nodes):
  """A DARTS cell of which each edge has lost other operators, one all."""
  edges = spec_lib.darts_edges(nodes)
  rng = np.random.default_rng(3)
  kept = [
    tuple(op for op in EVERY if rng.random() < 0.4) or ("skip_connect",)
    for _ in edges
  ]
  kept[1] = ()
  return Cell(S1, edges, tuple(kept), tuple(range(2, nodes + 2)))


def discrete(pairs, concat):
  genotype = Genotype(pairs, concat, pairs, concat)
  spec = derived(genotype, cells=3, width=4, classes=2)
  return spec.cell("normal")


DUPLICATE = discrete(
  [
    ("sep_conv_3x3", 1),
    ("dil_conv_3x3", 1),
    ("skip_connect", 0),
    ("skip_connect", 0),
    ("max_pool_3x3", 3),
    ("conv_7x1_1x7", 0),
  ],
  (2, 4),
)


def build(
  cell,
  *,
  reduction,
  halve_first,
  affine=False,
  remat=False,
  loop=False,
  train=True,
  backend=backend_lib.CPU,
):
  kind = nn.remat(SearchCell) if remat else SearchCell
  return kind(
    cell=cell,
    channels=4,
    reduction=reduction,
    halve_first=halve_first,
    train=train,
    affine=affine,
    pool_norm=not affine,
    axis=None,
    loop=loop,
    backend=backend,
  )


def states(halve_first, channels=(6, 5)):
  size = 8 if halve_first else 4
  s0 = normal(2, size, size, channels[0])
  return s0, normal(2, 4, 4, channels[1], seed=1)


def drawn(module, *args):
  """Parameters from a generator, which compiles nothing."""
  rng = np.random.default_rng(5)
  tree = jax.eval_shape(module.init, jax.random.key(0), *args)["params"]
  return jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape)), tree)
