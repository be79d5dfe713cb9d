import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas.runtime import keys


def data(key: jax.Array) -> tuple[int, ...]:
  return tuple(np.asarray(jax.random.key_data(key)).ravel().tolist())


def test_stream_depends_on_seed_name_and_step_only():
  streams = {
    (seed, name, step): data(keys.stream(seed, name, step))
    for seed in (0, 1)
    for name in ("augment", "dropout")
    for step in (None, 0, 1, 2**31 - 1)
  }
  assert len(set(streams.values())) == len(streams)
  for arguments, value in streams.items():
    assert data(keys.stream(*arguments)) == value


def test_stream_is_typed_and_the_same_under_jit():
  key = keys.stream(3, "augment", 7)
  assert jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
  traced = jax.jit(lambda step: keys.stream(3, "augment", step))
  assert data(traced(jnp.int32(7))) == data(key)
  assert traced._cache_size() == 1
  assert data(traced(jnp.int32(8))) != data(key)
  assert traced._cache_size() == 1


@pytest.mark.parametrize("seed", [0, 5, 2**31 + 3, 2**32 - 1])
def test_a_seed_may_be_data_of_a_program(seed):
  stream = jax.jit(lambda seed, step: keys.stream(seed, "a", step))
  np.testing.assert_array_equal(
    jax.random.key_data(stream(jnp.uint32(seed), 3)),
    jax.random.key_data(keys.stream(seed, "a", 3)),
  )


def test_stream_is_the_same_in_another_process():
  # Python's hash of a string is not; a resumed run would draw other numbers.
  code = (
    "import jax; from jnas.runtime import keys;"
    "print(*jax.random.key_data(keys.stream(5, 'valid', 9)).tolist())"
  )
  out = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, check=True
  ).stdout
  assert tuple(map(int, out.split())) == data(keys.stream(5, "valid", 9))


def test_stream_is_the_same_with_float64(x64):
  with jax.enable_x64(False):
    narrow = data(keys.stream(2**32 - 1, "augment", 7))
  assert data(keys.stream(2**32 - 1, "augment", 7)) == narrow


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_stream_refuses_seeds_out_of_range(seed):
  with pytest.raises(ValueError, match=rf"seed: .*2\*\*32.*got {seed}"):
    keys.stream(seed, "augment")


def test_examples_do_not_depend_on_the_share_of_the_batch():
  key = keys.stream(0, "augment", 1)
  whole = keys.per_example(key, jnp.arange(8))
  assert whole.shape == (8,)
  draw = jax.vmap(lambda k: jax.random.normal(k, (3,)))
  halves = [
    draw(keys.per_example(key, offset + jnp.arange(4))) for offset in (0, 4)
  ]
  np.testing.assert_array_equal(draw(whole), jnp.concatenate(halves))
  assert len({data(k) for k in whole}) == 8
