"""The laws of DESIGN: what holds for every algorithm, one row each.

A new algorithm adds a row to `law_rows.ROWS` and nothing else.
"""

import functools
import pathlib
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import law_rows
from law_rows import CHOSEN, ROWS, SPEC, objective
import numpy as np
import pytest

from jnas import genotype as genotype_lib
from jnas.algorithms import base
from jnas.algorithms.amended import amended
from jnas.data import device
from jnas.runtime import checkpoint, keys, parallel
from jnas.spaces import cnn, toy
from jnas.spaces import spec as spec_lib
from jnas.spaces.spec import S3
from jnas.training import losses, optim, steps
from jnas.training.state import State

SIZE, EXAMPLES, BATCH, SEED = 4, 256, 64, 3
EACH = pytest.mark.parametrize("row", ROWS)
LEARNT = pytest.mark.parametrize("row", [r for r in ROWS if r != "random"])


class Problem(NamedTuple):
  """An algorithm on the toy, on the first so many devices."""

  algorithm: base.Algorithm
  step: Any
  state: State
  splits: tuple[device.Split, device.Split]
  mesh: jax.sharding.Mesh
  traces: list[int]


def problem(row: str, devices: int = 1) -> Problem:
  return _problem(row, devices)


@functools.cache  # which takes an argument and its default for two
def _problem(row: str, devices: int) -> Problem:
  mesh = parallel.mesh(jax.devices()[:devices])
  own = ROWS[row]
  algorithm = own.make(own.spec)
  key = functools.partial(keys.stream, SEED)
  target = toy.planted(key("planted"), SPEC, CHOSEN, SIZE)
  factors = jnp.asarray(own.planted * 2)[None, :, None]

  def split(name):
    x = 2 * jax.random.normal(key(name), (EXAMPLES, SIZE))
    made = device.Split(x, factors * target(x), x.shape[1:])
    return parallel.replicate(made, mesh)

  def draw(split, name, step):
    order = device.indices(key(f"{name}/order"), step, EXAMPLES, BATCH)
    local = BATCH // devices
    start = parallel.offset(local)
    index = jax.lax.dynamic_slice(order, (start,), (local,))
    positions = start + jnp.arange(local)
    batch = device.take(split, index)
    return losses.Batch(*batch, keys.per_example(key(name, step), positions))

  schedule = optim.learning_rate(
    "cosine", 0.1, 0.01, epochs=100, steps_per_epoch=4
  )
  weights_optimizer = optim.sgd(schedule, momentum=0.9, decay=1e-4, clip=5.0)
  arch_optimizer = optim.adam(own.arch_lr, b1=0.5, b2=0.999, decay=1e-3)
  parts = algorithm, objective, weights_optimizer, arch_optimizer, draw
  if algorithm.one_level:
    step = steps.one_level_step(*parts, seed=SEED, mean=parallel.mean)
  else:
    step = steps.search_step(
      *parts,
      seed=SEED,
      virtual=steps.momentum_virtual(schedule, momentum=0.9, decay=1e-4),
      mean=parallel.mean,
      warm=algorithm.estimate is None,
    )
  traces = []

  def counted(*args):
    traces.append(1)
    return step(*args)

  whole = PartitionSpec()
  compiled = parallel.shard_step(counted, mesh, (whole,) * 3, whole)
  state = law_rows.begun(
    own,
    algorithm,
    law_rows.weights(key("weights"), own.spec, SIZE),
    algorithm.init(key("arch"), 1e-3),
    weights_optimizer,
    arch_optimizer,
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
def test_weights_are_what_the_relaxation_promises(row):
  own, algorithm = ROWS[row], problem(row).algorithm
  state, _ = run(row, 20)
  arch, draws = jax.device_get(state.arch), []
  for key in (None, *jax.random.split(jax.random.key(0), 4)):
    weights = jax.device_get(algorithm.relax(state.arch, key, 20))
    draws.append(np.concatenate(list(weights.values())))
    assert set(weights) == {"normal", "reduce"}
    for name, w in weights.items():
      assert w.shape == (5, 3) and np.isfinite(w).all()
      own.promise(name, own.spec.cell(name), arch, w)
  for name, w in mixture(row, state).items():
    assert w.shape == (5, 3) and np.isfinite(w).all()
    own.of_mixture(name, own.spec.cell(name), arch, w)
  # Only what draws depends on the key.
  draws_any = algorithm.samples_paths or algorithm.stochastic
  assert draws_any == any((d != draws[0]).any() for d in draws)


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


def mixture(row, state):
  algorithm = problem(row).algorithm
  return jax.device_get(algorithm.mixture(state.arch, state.step))


def hard(name):
  """The planted operators of a cell, in zeros and ones."""
  return np.asarray([[float(op == o) for o in S3] for op in CHOSEN[name]])


def valid_loss(row, state, edge_weights):
  split = problem(row).splits[1]
  weights = {name: jnp.asarray(w) for name, w in edge_weights.items()}
  batch = losses.Batch(split.x, split.y, None)
  return float(objective(state.weights, {}, weights, batch, None)[0])


@LEARNT
def test_loss_falls(row):
  _, metrics = run(row, 200)
  last = np.mean([m["train_loss"] for m in metrics[-ROWS[row].recent:]])
  assert last < 0.2 * metrics[0]["train_loss"]


def test_the_loss_of_the_planted_cell_falls_in_a_random_search():
  # That of cells drawn at random does not: most of them are wrong.
  planted = {name: hard(name) for name in CHOSEN}
  before, after = (
    valid_loss("random", state, planted)
    for state in (problem("random").state, run("random", 200)[0])
  )
  assert after < 0.2 * before


@LEARNT
def test_planted_operators_are_found(row):
  state, _ = run(row, 200)
  for name, weights in mixture(row, state).items():
    found = [S3[o] for o in weights.argmax(-1)]
    assert found == CHOSEN[name]


@pytest.mark.parametrize("row", ["pcdarts", "edge_search"])
def test_planted_weights_of_skip_connections_are_found(row):
  # Those of dense layers are not determined: their own weights make up for it.
  # The softmax over operators leaves a tenth to others after so many steps.
  state, _ = run(row, 200)
  for name, w in mixture(row, state).items():
    skips = [e for e, op in enumerate(CHOSEN[name]) if op == "skip_connect"]
    np.testing.assert_allclose(
      w[np.asarray(skips), S3.index("skip_connect")],
      np.asarray(ROWS[row].planted)[skips],
      rtol=0.1,
    )


def test_a_random_search_prefers_planted_operators():
  # A node has two of three edges, so a cell can have eight planted operators
  # at most: one in 256 has, and four are the mean. The best of 200 cells on
  # held-out data has to be one of those that come next.
  algorithm, state = problem("random").algorithm, run("random", 200)[0]
  key, scores, right = jax.random.key(1), [], []
  for i in range(200):
    weights = jax.device_get(
      algorithm.relax(state.arch, jax.random.fold_in(key, i), 200)
    )
    scores.append(valid_loss("random", state, weights))
    right.append(sum((w * hard(n)).sum() for n, w in weights.items()))
  assert right[int(np.argmin(scores))] >= max(right) - 1
  assert max(right) - 1 > np.mean(right) + 1.5
  # Nor is that luck: the more are planted, the lower the loss.
  assert np.corrcoef(scores, right)[0, 1] < -0.6


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
  found = problem(row).algorithm.derive(mixture(row, state))
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
  algorithm = amended(spec)
  alpha = algorithm.init(jax.random.key(1), 0.1)
  variables = jax.jit(functools.partial(cnn.Network(spec).init, train=False))(
    jax.random.key(2), x, alpha
  )
  alpha, variables = jax.tree.map(
    lambda a: a.astype(jnp.float64), (alpha, variables)
  )
  w, stats = variables["params"], variables["batch_stats"]

  def estimate(devices):
    network = cnn.Network(spec, axis=parallel.AXIS)
    loss_of = losses.classification(network)

    def fn(w, alpha, x, y):
      half = x.shape[0] // 2

      def close(part):
        batch = losses.Batch(x[part], y[part], None)
        return lambda w, alpha: loss_of(
          w, stats, algorithm.mixture(alpha), batch, None
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
