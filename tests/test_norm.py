"""Batch normalisation against plain formulas and against Flax's."""

import functools

import derivatives
from derivatives import normal
from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np
import pytest

from jnas.ops.cpu import affine
from jnas.runtime import parallel
from jnas.spaces import norm
from jnas.spaces.norm import BatchNorm, Moments

SHAPE = (2, 3, 2, 3)  # N, H, W, C


def plain_affine(x, p):
  factors, shifts = p[:, :, None, None, None, :]
  return factors * x + shifts


@pytest.mark.parametrize("shared", [False, True])
def test_affine_to_second_derivatives(shared, x64):
  x, p = normal(1 if shared else 3, *SHAPE), normal(2, 3, SHAPE[-1], seed=1)
  assert jax.eval_shape(affine.affine, x, p).shape == (3, *SHAPE)
  derivatives.check(affine.affine, plain_affine, x, p)


def test_moments_to_second_derivatives(x64):
  def plain(x):
    return jnp.stack([(x * x).sum((1, 2, 3)), x.sum((1, 2, 3))])

  derivatives.check(affine.moments, plain, normal(3, *SHAPE))


def plain_norm(x, scale, bias, axis=(1, 2, 3)):
  mean = x.mean(axis, keepdims=True)
  variance = ((x - mean) ** 2).mean(axis, keepdims=True)
  return scale * (x - mean) / jnp.sqrt(variance + 1e-5) + bias


@pytest.mark.parametrize("scaled", [False, True])
def test_several_stacks_are_normalised_each_with_its_own_moments(scaled, x64):
  # Two stacks, one of two edges and one of what all edges share.
  first, second = normal(2, *SHAPE) + 1, 2 * normal(1, *SHAPE, seed=1)
  old = Moments(normal(3, 3, seed=2), abs(normal(3, 3, seed=3)))
  scale, bias = normal(3, 3, seed=4), normal(3, 3, seed=5)

  def package(first, second, scale, bias):
    p, running = norm.coefficients(
      [first, second],
      old,
      scale if scaled else None,
      bias if scaled else None,
      train=True,
    )
    assert [each.shape for each in p] == [(2, 2, 3), (2, 1, 3)]
    outputs = affine.affine(first, p[0]), affine.affine(second, p[1])
    return jnp.concatenate(
      [jnp.concatenate(outputs).ravel(), *map(jnp.ravel, running)]
    )

  def plain(first, second, scale, bias):
    x = jnp.concatenate([first, second])
    a, b = (each[:, None, None, None] for each in (scale, bias))
    y = plain_norm(x, a, b) if scaled else plain_norm(x, 1.0, 0.0)
    now = x.mean((1, 2, 3)), x.var((1, 2, 3), ddof=1)
    running = [
      0.9 * o + 0.1 * n for o, n in zip(old, now, strict=True)
    ]
    return jnp.concatenate([y.ravel(), *map(jnp.ravel, running)])

  derivatives.check(package, plain, first, second, scale, bias)


def test_evaluation_takes_the_running_moments_and_keeps_them(x64):
  x, scale, bias = normal(2, *SHAPE), normal(2, 3, seed=1), normal(2, 3, seed=2)
  running = Moments(normal(2, 3, seed=3), abs(normal(2, 3, seed=4)) + 0.1)

  def package(x, scale, bias):
    (p,), kept = norm.coefficients([x], running, scale, bias, train=False)
    assert kept is running
    return affine.affine(x, p)

  def plain(x, scale, bias):
    mean, var, a, b = (
      each[:, None, None, None] for each in (*running, scale, bias)
    )
    return a * (x - mean) / jnp.sqrt(var + 1e-5) + b

  derivatives.check(package, plain, x, scale, bias)


@pytest.mark.parametrize("train,scaled", [(True, True), (True, False),
                                          (False, True)])
def test_the_module_is_that_of_flax(train, scaled, x64):
  x = 2 * normal(*SHAPE) + 0.5
  own = BatchNorm(train=train, scaled=scaled)
  theirs = nn.BatchNorm(
    use_running_average=not train,
    momentum=0.9,
    epsilon=1e-5,
    use_scale=scaled,
    use_bias=scaled,
  )
  tree = own.init(jax.random.key(0), x)
  jax.tree.map(
    np.testing.assert_array_equal, tree, theirs.init(jax.random.key(0), x)
  )
  variables = jax.tree.map(
    lambda leaf: abs(normal(*leaf.shape, seed=6)) + 0.1, tree
  )
  stats = {"batch_stats": variables["batch_stats"]}

  def flattened(module):
    def run(x, params):
      variables = {"params": params, **stats} if scaled else stats
      y, after = module.apply(variables, x, mutable="batch_stats")
      now = after["batch_stats"]
      if train and module is theirs:  # which keeps the biased variance
        old, n = 0.9 * stats["batch_stats"]["var"], x.size // x.shape[-1]
        now = now | {"var": old + (now["var"] - old) * n / (n - 1)}
      return jnp.concatenate([y.ravel(), now["mean"], now["var"]])

    return run

  if scaled:
    names = sorted(variables["params"])
    values = [variables["params"][name] for name in names]

    def by_name(module):
      run = flattened(module)
      return lambda x, *args: run(x, dict(zip(names, args, strict=True)))

    derivatives.check(by_name(own), by_name(theirs), x, *values)
  else:
    derivatives.check(
      lambda x: flattened(own)(x, {}), lambda x: flattened(theirs)(x, {}), x
    )


def test_the_first_call_leaves_the_running_moments():
  x = normal(*SHAPE).astype(jnp.float32) + 3
  tree = BatchNorm(train=True).init(jax.random.key(0), x)
  np.testing.assert_array_equal(tree["batch_stats"]["mean"], np.zeros(3))
  np.testing.assert_array_equal(tree["batch_stats"]["var"], np.ones(3))


def test_features_in_bfloat16_have_moments_in_float32():
  # Far from zero compared with their spread, and more of them than bfloat16
  # can count.
  x = (normal(8, 16, 16, 2) * 0.5 + 2).astype(jnp.bfloat16)
  module = BatchNorm(train=True)
  tree = module.init(jax.random.key(0), x)
  single = {jnp.dtype("float32")}
  assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == single

  def loss(params, x):
    y, after = module.apply(
      {**tree, "params": params}, x, mutable="batch_stats"
    )
    return jnp.sum(y.astype(jnp.float32) ** 3), (y, after)

  (back, back_x), (y, after) = jax.jit(
    jax.grad(loss, (0, 1), has_aux=True)
  )(tree["params"], x)
  assert y.dtype == back_x.dtype == jnp.bfloat16
  assert {g.dtype for g in jax.tree.leaves((back, after))} == single
  exact = np.asarray(x, np.float64)
  mean, var = exact.mean((0, 1, 2)), exact.var((0, 1, 2))
  stats = after["batch_stats"]
  np.testing.assert_allclose(stats["mean"], 0.1 * mean, rtol=1e-5)
  unbiased = exact.var((0, 1, 2), ddof=1)
  np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * unbiased, rtol=1e-5)
  expected = (exact - mean) / np.sqrt(var + 1e-5)
  np.testing.assert_allclose(
    np.asarray(y, np.float64), expected, rtol=2**-7, atol=2**-7
  )
  np.testing.assert_allclose(
    back["scale"], 3 * (expected**3).sum((0, 1, 2)), rtol=0.02, atol=20
  )


@pytest.mark.parametrize("axis", [None, "data"])
def test_moments_over_all_devices_or_over_each(axis, x64):
  mesh = parallel.mesh(jax.devices()[:2])
  all_, split = PartitionSpec(), PartitionSpec("data")
  x = normal(4, *SHAPE[1:]) * jnp.arange(1.0, 5).reshape(4, 1, 1, 1)
  probe = normal(*x.shape, seed=1)
  module = BatchNorm(train=True, axis=axis)
  tree = jax.tree.map(
    lambda leaf: abs(normal(*leaf.shape, seed=6)) + 0.1,
    BatchNorm(train=True).init(jax.random.key(0), x),
  )

  def step(params, x, probe):
    def loss(params, x):
      y, after = module.apply(
        {**tree, "params": params}, x, mutable="batch_stats"
      )
      return jnp.sum(probe * jnp.sin(y)), (y, after["batch_stats"])

    (back, back_x), (y, stats) = jax.grad(loss, (0, 1), has_aux=True)(params, x)
    back = jax.tree.map(lambda g: jax.lax.psum(g, "data"), back)
    return y, back, back_x, jax.tree.map(lambda s: s[None], stats)

  run = parallel.shard_step(
    step, mesh, (all_, split, split), (split, all_, split, split)
  )
  params = parallel.replicate(tree["params"], mesh)
  y, back, back_x, stats = run(params, x, probe)

  def plain(params, x):
    parts = [x] if axis else [x[:2], x[2:]]
    return jnp.concatenate(
      [
        plain_norm(
          part,
          params["scale"][None, None, None],
          params["bias"][None, None, None],
          (0, 1, 2),
        )
        for part in parts
      ]
    )

  def loss(params, x):
    return jnp.sum(probe * jnp.sin(plain(params, x)))

  expected = jax.jit(jax.grad(loss, (0, 1)))(tree["params"], x)
  close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9)
  close(y, plain(tree["params"], x))
  jax.tree.map(close, (back, back_x), expected)
  for i in range(2):
    part = x if axis else x[2 * i : 2 * i + 2]
    for name, now in (("mean", part.mean((0, 1, 2))),
                      ("var", part.var((0, 1, 2), ddof=1))):
      old = tree["batch_stats"][name]
      close(stats[name][i], 0.9 * old + 0.1 * now)


def test_the_running_moments_are_those_of_pytorch():
  # torch.nn.BatchNorm2d(1) after one batch of (1, 2, 3, 6): mean 3, variance
  # 14 / 3 of three degrees of freedom.
  x = jnp.asarray([1.0, 2, 3, 6]).reshape(1, 2, 2, 1)
  module = BatchNorm(train=True)
  _, after = module.apply(
    module.init(jax.random.key(0), x), x, mutable="batch_stats"
  )
  stats = after["batch_stats"]
  np.testing.assert_allclose(stats["mean"], [0.3], rtol=1e-6)
  np.testing.assert_allclose(stats["var"], [0.9 + 1.4 / 3], rtol=1e-6)
