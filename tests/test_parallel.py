import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec
import numpy as np
import pytest

from jnas.runtime import parallel

ALL, SPLIT = PartitionSpec(), PartitionSpec("data")


def step(weights, x, y):
  def loss(weights):
    return jnp.mean((jnp.tanh(x @ weights["w"]) + weights["b"] - y) ** 2)

  value, gradient = parallel.mean(jax.value_and_grad(loss)(weights))
  weights = jax.tree.map(lambda w, g: w - 0.1 * g, weights, gradient)
  return weights, value, parallel.offset(x.shape[0])[None]


def problem(size=8):
  rng = np.random.default_rng(0)
  weights = {
    "w": jnp.asarray(rng.normal(size=(3,)), jnp.float32),
    "b": jnp.float32(0.5),
  }
  x = jnp.asarray(rng.normal(size=(size, 3)), jnp.float32)
  return weights, x, jnp.asarray(rng.normal(size=(size,)), jnp.float32)


def compiled(devices, donate=()):
  mesh = parallel.mesh(devices)
  return mesh, parallel.shard_step(
    step, mesh, (ALL, SPLIT, SPLIT), (ALL, ALL, SPLIT), donate
  )


def test_mesh_is_automatic_over_all_devices():
  mesh = parallel.mesh()
  assert mesh.axis_names == ("data",) and mesh.size == jax.device_count() == 4
  assert mesh.axis_types == (AxisType.Auto,)


def test_several_devices_agree_with_one_and_with_no_mesh():
  weights, x, y = problem()
  results = {}
  for count in (1, 2, 4):
    mesh, run = compiled(jax.devices()[:count])
    out, value, offsets = run(parallel.replicate(weights, mesh), x, y)
    results[count] = (out, value)
    share = parallel.local_batch(8, mesh)
    np.testing.assert_array_equal(offsets, np.arange(count) * share)

  def loss(weights):
    return jnp.mean((jnp.tanh(x @ weights["w"]) + weights["b"] - y) ** 2)

  value, gradient = jax.value_and_grad(loss)(weights)
  plain = jax.tree.map(lambda w, g: w - 0.1 * g, weights, gradient)
  moved = float(jnp.linalg.norm(plain["w"] - weights["w"]))
  assert moved > 1e-2
  for out, mean in results.values():
    np.testing.assert_allclose(mean, value, rtol=1e-6)
    for name in plain:
      np.testing.assert_allclose(out[name], plain[name], atol=1e-6)


def test_gathers_and_vmapped_crops_run_under_the_mesh():
  # Both fail under explicit axes.
  def crop(images, table):
    here = parallel.offset(images.shape[0]) + jnp.arange(images.shape[0])
    cut = jax.vmap(lambda image, i: jax.lax.dynamic_slice(image, (i,), (2,)))(
      images, table[here]
    )
    return cut

  images = jnp.arange(32.0).reshape(8, 4)
  table = jnp.array([0, 1, 2, 0, 1, 2, 0, 1])
  run = parallel.shard_step(crop, parallel.mesh(), (SPLIT, ALL), SPLIT)
  expected = [images[i, t : t + 2] for i, t in enumerate(table)]
  np.testing.assert_array_equal(run(images, table), jnp.stack(expected))


def test_one_step_compiles_once():
  weights, x, y = problem()
  mesh, run = compiled(None)
  weights = parallel.replicate(weights, mesh)
  for _ in range(3):
    weights, _, _ = run(weights, x, y)
  assert run._cache_size() == 1


def test_replicated_leaves_share_no_memory():
  shared = jnp.ones(3)
  tree = {"w": shared, "again": shared}
  mesh = parallel.mesh(jax.devices()[:1])
  run = parallel.shard_step(
    lambda t: jax.tree.map(lambda v: v + 1, t), mesh, (ALL,), ALL, donate=0
  )
  out = run(parallel.replicate(tree, mesh))
  np.testing.assert_array_equal(out["again"], 2 * np.ones(3))
  np.testing.assert_array_equal(shared, np.ones(3))  # not deleted


def test_donated_memory_is_reused():
  weights, x, y = problem()
  mesh, run = compiled(None, donate=(0,))
  given = parallel.replicate(weights, mesh)
  run(given, x, y)
  assert given["w"].is_deleted()
  assert not weights["w"].is_deleted()


def test_local_batch_divides_or_explains():
  mesh = parallel.mesh()
  assert parallel.local_batch(64, mesh) == 16
  with pytest.raises(ValueError, match=r"4 devices, got 66; choose 64 or 68"):
    parallel.local_batch(66, mesh)
  with pytest.raises(ValueError, match=r"4 devices, got 3; choose 4,"):
    parallel.local_batch(3, mesh)
  with pytest.raises(ValueError, match=r"got 0; choose 4,"):
    parallel.local_batch(0, mesh)


@pytest.fixture
def asked(monkeypatch):
  """Compiler options as if this process asked for them first."""
  monkeypatch.delenv("XLA_FLAGS", raising=False)
  parallel.compiler_options.cache_clear()
  yield monkeypatch
  parallel.compiler_options.cache_clear()


def cpu():
  return parallel.mesh(jax.devices("cpu")[:1])


def test_the_compiler_is_asked_for_wide_vectors_on_cpu(asked):
  known = parallel.compiler_options(cpu())
  assert known == {"xla_cpu_prefer_vector_width": 512}


def test_unknown_compiler_options_are_left_out(asked):
  wanted = {"cpu": {"xla_no_such_option": 1, "xla_cpu_enable_fast_math": False}}
  asked.setattr(parallel, "_OPTIONS", wanted)
  known = parallel.compiler_options(cpu())
  assert known == {"xla_cpu_enable_fast_math": False}


@pytest.mark.parametrize("name", ["XLA_FLAGS", "LIBTPU_INIT_ARGS"])
def test_compiler_options_leave_the_users_flags_alone(asked, name):
  asked.setenv(name, "--xla_cpu_prefer_vector_width=128")
  assert not parallel.compiler_options(cpu())
