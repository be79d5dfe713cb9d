"""The laws of DESIGN: what holds for every algorithm, one row each.

A new algorithm adds a row to ROWS and nothing else.
"""

import functools
import pathlib
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np
import pytest

from jnas import genotype as genotype_lib
from jnas.algorithms import base
from jnas.algorithms.amended import amended
from jnas.algorithms.darts import darts
from jnas.data import device
from jnas.runtime import checkpoint, keys, parallel
from jnas.spaces import arch as arch_lib
from jnas.spaces import cnn, toy
from jnas.spaces import spec as spec_lib
from jnas.training import losses, optim, steps
from jnas.training.state import State, zero_sums

ROWS = {
  "darts_first": lambda spec: darts(spec),
  "darts_second": lambda spec: darts(spec, base.estimator("unrolled")),
  "amended": lambda spec: amended(spec),
  "implicit": lambda spec: darts(
    spec, base.estimator("implicit_cg", steps=5, damping=0.1)
  ),
}
EACH = pytest.mark.parametrize("row", ROWS)

SPEC = toy.spec()
SIZE, EXAMPLES, BATCH, SEED = 4, 256, 64, 3
CHOSEN = {
  "normal": ["skip_connect", "sep_conv_3x3"] * 2 + ["skip_connect"],
  "reduce": ["sep_conv_3x3", "skip_connect"] * 2 + ["sep_conv_3x3"],
}


class Problem(NamedTuple):
  """An algorithm on the toy, on the first so many devices."""

  algorithm: base.Algorithm
  step: Any
  state: State
  splits: tuple[device.Split, device.Split]
  mesh: jax.sharding.Mesh
  traces: list[int]


def objective(params, stats, edge_weights, batch, rate):
  del rate
  error = toy.apply(params, batch.x, edge_weights) - batch.y
  close = jnp.mean(jnp.abs(error) < 0.2)
  return jnp.mean(error**2), (stats, close)


def problem(row: str, devices: int = 1) -> Problem:
  return _problem(row, devices)


@functools.cache  # which takes an argument and its default for two
def _problem(row: str, devices: int) -> Problem:
  mesh = parallel.mesh(jax.devices()[:devices])
  algorithm = ROWS[row](SPEC)
  key = functools.partial(keys.stream, SEED)
  target = toy.planted(key("planted"), SPEC, CHOSEN, SIZE)

  def split(name):
    x = 2 * jax.random.normal(key(name), (EXAMPLES, SIZE))
    return parallel.replicate(device.Split(x, target(x)), mesh)

  def draw(split, name, step):
    order = device.indices(key(f"{name}/order"), step, EXAMPLES, BATCH)
    local = BATCH // devices
    start = parallel.offset(local)
    index = jax.lax.dynamic_slice(order, (start,), (local,))
    positions = start + jnp.arange(local)
    batch = device.take(split, index)
    return losses.Batch(*batch, keys.per_example(key(name, step), positions))

  schedule = optim.cosine(0.1, 0.01, epochs=100, steps_per_epoch=4)
  weights_optimizer = optim.sgd(schedule, momentum=0.9, decay=1e-4, clip=5.0)
  arch_optimizer = optim.adam(0.03, b1=0.5, b2=0.999, decay=1e-3)
  step = steps.search_step(
    algorithm,
    objective,
    weights_optimizer,
    arch_optimizer,
    draw,
    seed=SEED,
    virtual=steps.momentum_virtual(schedule, momentum=0.9, decay=1e-4),
    mean=parallel.mean,
  )
  traces = []

  def counted(*args):
    traces.append(1)
    return step(*args)

  whole = PartitionSpec()
  compiled = parallel.shard_step(counted, mesh, (whole,) * 3, whole)
  weights = toy.init(key("weights"), SPEC, SIZE)
  arch = arch_lib.init(key("arch"), SPEC, 1e-3)
  state = State(
    step=jnp.int32(0),
    weights=weights,
    stats={},
    arch=arch,
    weights_opt=weights_optimizer.init(weights),
    arch_opt=arch_optimizer.init(arch),
    sums=zero_sums(),
  )
  return Problem(
    algorithm,
    compiled,
    parallel.replicate(state, mesh),
    (split("train"), split("valid")),
    mesh,
    traces,
  )


@functools.cache
def run(row: str, length: int, devices: int = 1) -> tuple[State, list[Any]]:
  it = problem(row, devices)
  state, metrics = it.state, []
  for _ in range(length):
    state, values = it.step(state, *it.splits)
    metrics.append(values)
  return state, jax.device_get(metrics)


@EACH
def test_weights_are_finite_and_a_distribution(row):
  state, _ = run(row, 20)
  for weights in problem(row).algorithm.relax(state.arch, None).values():
    assert np.isfinite(weights).all() and (weights > 0).all()
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)


@EACH
def test_one_step_compiles_once(row):
  run(row, 20)
  assert len(problem(row).traces) == 1


@EACH
def test_state_is_stable(row):
  before, (after, _) = problem(row).state, run(row, 20)
  chex.assert_trees_all_equal_structs(before, after)
  chex.assert_trees_all_equal_shapes_and_dtypes(before, after)
  for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
    assert a.sharding.is_equivalent_to(b.sharding, a.ndim)
  assert int(after.step) == 20


@EACH
def test_loss_falls(row):
  _, metrics = run(row, 200)
  first, last = metrics[0]["train_loss"], metrics[-1]["train_loss"]
  assert last < 0.2 * first


@EACH
def test_planted_operators_are_found(row):
  state, _ = run(row, 200)
  for name, weights in problem(row).algorithm.relax(state.arch, None).items():
    ops = SPEC.cell(name).ops
    found = [ops[o] for o in np.asarray(weights).argmax(-1)]
    assert found == CHOSEN[name]


@EACH
def test_resuming_changes_no_bit(row, tmp_path: pathlib.Path):
  it = problem(row)
  middle, _ = run(row, 20)
  with checkpoint.Checkpoints(tmp_path) as saved:
    saved.save(20, middle, {})
    saved.wait()
    _, state, _ = saved.restore_latest(lambda meta: jax.eval_shape(
      lambda: it.state
    ))
  state = parallel.replicate(state, it.mesh)
  for _ in range(180):
    state, _ = it.step(state, *it.splits)
  chex.assert_trees_all_equal(state, run(row, 200)[0])


@EACH
def test_devices_agree(row):
  one, four = run(row, 20), run(row, 20, devices=4)
  chex.assert_trees_all_close(one, four, rtol=1e-4, atol=1e-6)


@EACH
def test_derived_genotype_is_valid_and_round_trips(row):
  state, _ = run(row, 200)
  algorithm = problem(row).algorithm
  weights = jax.device_get(algorithm.relax(state.arch, None))
  found = algorithm.derive(weights)
  assert genotype_lib.parse(genotype_lib.format_text(found)) == found
  assert genotype_lib.from_json(genotype_lib.to_json(found)) == found


def test_devices_agree_on_a_network_with_shared_statistics(x64):
  """Exact second-order terms of a batch do not depend on how it is divided.

  The network has batch normalisation over all replicas; each replica sees a
  quarter of the batch, so a mean of products of parts would be another number.
  """
  spec = spec_lib.supernet(
    spec_lib.S3, cells=1, width=2, nodes=1, classes=3
  )
  x = jax.random.normal(jax.random.key(0), (8, 4, 4, 1), jnp.float64)
  y = jnp.arange(8) % 3
  alpha = arch_lib.init(jax.random.key(1), spec, 0.1)
  variables = jax.jit(functools.partial(cnn.Network(spec).init, train=False))(
    jax.random.key(2), x, alpha
  )
  alpha, variables = jax.tree.map(
    lambda a: a.astype(jnp.float64), (alpha, variables)
  )
  w, stats = variables["params"], variables["batch_stats"]
  algorithm = amended(spec)

  def estimate(devices):
    network = cnn.Network(spec, axis=parallel.AXIS)
    loss_of = losses.classification(network)

    def fn(w, alpha, x, y):
      half = x.shape[0] // 2

      def close(part):
        batch = losses.Batch(x[part], y[part], None)
        return lambda w, alpha: loss_of(
          w, stats, algorithm.relax(alpha, None), batch, None
        )[0]

      def virtual(w, gradient):
        return jax.tree.map(lambda p, g: p - 0.1 * g, w, gradient)

      return algorithm.estimate(
        close(slice(half)), close(slice(half, None)), w, alpha, virtual,
        parallel.mean,
      ).second

    mesh = parallel.mesh(jax.devices()[:devices])
    whole, shared = PartitionSpec(), PartitionSpec(parallel.AXIS)
    return parallel.shard_step(
      fn, mesh, (whole, whole, shared, shared), whole
    )(w, alpha, x, y)

  # Two devices take every other pair, so that the halves hold the same
  # examples whether one device or two divide them.
  order = jnp.asarray([0, 1, 4, 5, 2, 3, 6, 7])
  one = estimate(1)
  x, y = x[order], y[order]
  chex.assert_trees_all_close(one, estimate(2), rtol=1e-9)
