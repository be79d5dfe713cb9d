"""Devices that share a batch: the numbers of one, second-order terms too."""

import functools
import os
import pathlib
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import pytest

from jnas.algorithms import base
from jnas.algorithms.darts import darts
from jnas.runtime import parallel
from jnas.spaces import cnn
from jnas.spaces import spec as spec_lib
from jnas.training import losses, optim, steps
from jnas.training.state import State, zero_totals

SPEC = spec_lib.supernet(spec_lib.S3, cells=1, width=2, nodes=1, classes=3)
BATCH = 16
RULES = ["first_order", "unrolled", "amended"]
COUNTS = [n for n in (4, 8) if n <= jax.device_count()]
ROOT = pathlib.Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def objective_of(axis: str | None, shares: int) -> losses.Objective:
  """The objective of a network; of several shares of a batch it is the mean.

  Each share is normalised by itself, as a replica does.
  """
  own = losses.classification(cnn.Network(SPEC, axis=axis))

  def objective(params, stats, edges, batch, rates):
    parts = jax.tree.map(lambda a: jnp.split(a, shares), batch)
    found = [
      own(
        params,
        stats,
        edges,
        jax.tree.map(
          lambda part, i=i: part[i],
          parts,
          is_leaf=lambda part: isinstance(part, list),
        ),
        rates,
      )
      for i in range(shares)
    ]
    return jax.tree.map(lambda *each: sum(each) / shares, *found)

  return objective


@functools.cache
def stepped(rule: str, devices: int, axis: str | None, shares: int, x64: bool):
  """The state after two steps, on so many devices."""
  algorithm = darts(SPEC, base.estimator(rule))
  optimizers = (
    optim.sgd(lambda step: 0.1, momentum=0.9, decay=1e-4, clip=5.0),
    optim.adam(0.03, b1=0.5, b2=0.999, decay=1e-3),
  )

  def draw(split, stream, step):
    local = BATCH // devices
    start = parallel.offset(local)
    own = (jax.lax.dynamic_slice_in_dim(a, start, local) for a in split)
    return losses.Batch(*own, jax.random.split(jax.random.key(0), local))

  step = steps.search_step(
    algorithm,
    objective_of(axis, shares),
    *optimizers,
    draw,
    seed=0,
    virtual=steps.momentum_virtual(lambda step: 0.1, momentum=0.9, decay=1e-4),
    mean=parallel.mean,
  )
  kind = jnp.float64 if x64 else jnp.float32
  x = jax.random.normal(jax.random.key(0), (2, BATCH, 4, 4, 1), kind)
  train, valid = ((x[i], jnp.arange(BATCH) % 3) for i in range(2))
  arch = algorithm.init(jax.random.key(1), 0.1)
  variables = cnn.Network(SPEC).lazy_init(
    jax.random.key(2),
    jax.ShapeDtypeStruct((1, 4, 4, 1), kind),
    arch,
    train=False,
  )
  arch, variables = jax.tree.map(lambda a: a.astype(kind), (arch, variables))
  state = State(
    step=jnp.int32(0),
    weights=variables["params"],
    stats=variables["batch_stats"],
    arch=arch,
    weights_opt=optimizers[0].init(variables["params"]),
    arch_opt=optimizers[1].init(arch),
    totals=zero_totals(),
  )
  mesh = parallel.mesh(jax.devices()[:devices])
  whole = PartitionSpec()
  compiled = parallel.shard_step(step, mesh, (whole,) * 3, whole)
  for _ in range(2):
    state, metrics = compiled(state, train, valid)
  return jax.device_get((state._replace(totals=None), metrics))


def assert_same(rule: str, count: int, axis: str | None, x64: bool) -> None:
  """Fails if so many devices come to other numbers than one."""
  with jax.enable_x64(x64):
    one = stepped(rule, 1, axis, 1 if axis else count, x64)
    several = stepped(rule, count, axis, 1, x64)
  rtol = 1e-10 if x64 else 1e-5
  chex.assert_trees_all_close(several, one, rtol=rtol, atol=rtol)
  if rule != "first_order":  # there is a term that could be wrong
    assert one[1]["second_order_norm"] > 1e-4


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("x64", [True, False])
def test_synchronised_devices_are_one(rule, count, x64):
  assert_same(rule, count, parallel.AXIS, x64)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("count", COUNTS)
def test_replicas_that_normalise_by_themselves_are_averaged(rule, count):
  assert_same(rule, count, None, x64=True)


@pytest.mark.skipif(8 in COUNTS, reason="these are eight")
def test_eight_devices():
  flags = "--xla_force_host_platform_device_count=8"
  found = subprocess.run(
    [
      *(sys.executable, "-m", "pytest", "-q", "--slow", "-k", "True-8-amended"),
      __file__,
    ],
    cwd=ROOT,
    env=os.environ | {"XLA_FLAGS": flags},
    capture_output=True,
    text=True,
  )
  assert found.returncode == 0, found.stdout
