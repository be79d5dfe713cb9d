"""Pruning keeps what survives, bit for bit, and the rest of the function."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas.spaces import cnn
from jnas.spaces import spec as spec_lib
from jnas.spaces.prune import prune_params
from jnas.training import optim

OPS = ("skip_connect", "sep_conv_3x3", "max_pool_3x3")
FULL = spec_lib.supernet(
  OPS, cells=3, width=4, classes=3, nodes=2, shared=False
)


def prune(spec, seed, share=0.5):
  """The spec with a random part of its operators, at least one a node."""
  rng = np.random.default_rng(seed)
  cells = []
  for name, cell in spec.cells:
    keep = [tuple(op for op in k if rng.random() < share) for k in cell.kept]
    for target in range(2, cell.nodes):
      rows = [e for e, (_, t) in enumerate(cell.edges) if t == target]
      if not any(keep[e] for e in rows):
        keep[rows[0]] = cell.kept[rows[0]][:1]
    cells.append((name, dataclasses.replace(cell, kept=tuple(keep))))
  return dataclasses.replace(spec, cells=tuple(cells))


@functools.cache
def variables():
  network = cnn.Network(FULL)
  x = jnp.zeros((1, 8, 8, 3))
  shapes = jax.eval_shape(
    functools.partial(network.init, train=False), jax.random.key(0), x
  )
  rng = np.random.default_rng(1)

  def draw(path, leaf):
    value = jnp.asarray(0.3 * rng.normal(size=leaf.shape))
    if path[-2].key == "max_pool_3x3":
      value = jnp.broadcast_to(value[:1], value.shape)
    return jnp.abs(value) + 0.5 if "var" in path[-1].key else value

  return jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.mark.parametrize("train", [False, True])
def test_pruned_logits_are_those_with_weights_of_zero(train, x64):
  found, small = variables(), prune(FULL, 3)
  x = jnp.asarray(np.random.default_rng(2).normal(size=(4, 8, 8, 3)))
  weights = {
    name: 0.1 + jnp.asarray(np.random.default_rng(4).random(cell.shape))
    for name, cell in FULL.searched
  }
  kept = {
    name: jnp.asarray([[float(op in k) for op in cell.ops] for k in cell.kept])
    for name, cell in small.searched
  }

  def logits(spec, found, weights, **options):
    network = cnn.Network(spec, **options)
    return network.apply(
      found, x, weights, train=train, mutable=["batch_stats"]
    )[0][0]

  masked = {name: weights[name] * kept[name] for name in weights}
  left = prune_params(found, FULL, small)

  @jax.jit
  def outcomes(found, left, masked):
    return (
      logits(FULL, found, masked),
      logits(small, left, masked),
      logits(FULL, found, masked, loop=True, skip_zero_ops=True),
      logits(small, left, masked, loop=True, skip_zero_ops=True),
      logits(FULL, found, weights),
    )

  whole, pruned, skipped, skipped_pruned, unpruned = outcomes(
    found, left, masked
  )
  assert not np.allclose(whole, unpruned, atol=1e-3)
  # A loop does the same in the same order; others add up in another.
  np.testing.assert_array_equal(skipped, skipped_pruned)
  for other in (pruned, skipped):
    np.testing.assert_allclose(other, whole, rtol=0, atol=1e-12)


def test_what_survives_is_untouched_in_parameters_moments_and_momentum(x64):
  found, small = variables(), prune(FULL, 3)
  optimizer = optim.sgd(lambda step: 0.1, momentum=0.9, decay=0.0, clip=1.0)
  opt = optimizer.init(found["params"])
  _, opt = optimizer.update(found["params"], opt, found["params"])
  left = prune_params((found, opt), FULL, small)
  network = cnn.Network(small)
  shapes = jax.eval_shape(
    functools.partial(network.init, train=False),
    jax.random.key(0), jnp.zeros((1, 8, 8, 3)),
  )
  assert jax.tree.map(jnp.shape, left[0]) == jax.tree.map(jnp.shape, shapes)
  assert jax.tree.structure(left[1]) == jax.tree.structure(
    optimizer.init(left[0]["params"])
  )
  pairs = [
    (found["params"], left[0]["params"]),
    (found["batch_stats"], left[0]["batch_stats"]),
    (optim.momentum_buffer(opt), optim.momentum_buffer(left[1])),
  ]
  checked = 0
  for old, new in pairs:
    for i, layer in enumerate(FULL.layers):
      before, after = FULL.cell(layer.cell), small.cell(layer.cell)
      for name, value in new[f"cell{i}"].items():
        if name.startswith("input"):
          jax.tree.map(
            np.testing.assert_array_equal, value, old[f"cell{i}"][name]
          )
          continue
        strided = name == "skip_connect"  # it learns something there only

        def owners(cell, op=name, strided=strided):
          rows = [e for e, k in enumerate(cell.kept) if op in k]
          rows = [e for e in rows if not strided or cell.edges[e][0] < 2]
          return sorted(rows, key=lambda e: cell.edges[e])

        for key, left_rows in value.items():
          for row, e in enumerate(owners(after)):
            np.testing.assert_array_equal(
              left_rows[row],
              old[f"cell{i}"][name][key][owners(before).index(e)],
            )
            checked += 1
  assert checked > 30


def test_pruning_twice_is_pruning_once(x64):
  found, half = variables(), prune(FULL, 3, 0.7)
  small = prune(half, 5)
  twice = prune_params(prune_params(found, FULL, half), half, small)
  once = prune_params(found, FULL, small)
  jax.tree.map(np.testing.assert_array_equal, twice, once)


def test_what_is_gone_cannot_come_back():
  with pytest.raises(ValueError, match="has pruned"):
    prune_params({}, prune(FULL, 3), FULL)
  other = spec_lib.supernet(OPS, cells=4, width=4, classes=3, nodes=2)
  with pytest.raises(ValueError, match="other layers"):
    prune_params({}, FULL, other)
