"""Randomness as a function of (seed, name, step).

No key is stored in the state and none is split in the loop.  Each consumer has
a stream of its own, found by name, and takes the key of the step it is at:

  key = keys.stream(seed, "augment", step)
  keys.per_example(key, positions)

So a run that was stopped and started again draws the numbers that it would
have drawn, step k can be replayed alone, and a new consumer does not change
what the others draw.
"""

import operator
import zlib

import jax


def stream(
  seed: int | jax.Array, name: str, step: jax.Array | int | None = None
) -> jax.Array:
  """Returns the typed key of stream `name` under `seed`, at `step` if given.

  Args:
    seed: 0 <= seed < 2**32; or a uint32 scalar, which may be traced, so that
      one program serves all seeds.
    name: what the numbers are for; its CRC-32 is folded in, which unlike
      `hash` is the same in every process.
    step: the step of the loop; may be traced.

  Raises:
    ValueError: the seed is out of range.
  """
  if not isinstance(seed, jax.Array):
    seed = operator.index(seed)
    if not 0 <= seed < 2**32:
      raise ValueError(
        f"seed: expected an integer in [0, 2**32), got {seed}; "
        "choose a smaller one, for instance 0"
      )
  key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
  return key if step is None else jax.random.fold_in(key, step)


def per_example(key: jax.Array, positions: jax.Array) -> jax.Array:
  """Returns keys [N], one for each position [N] in the global batch.

  An example's key depends on its position in the *global* batch only, so the
  numbers it gets do not depend on how many devices share the batch.
  """
  return jax.vmap(jax.random.fold_in, (None, 0))(key, positions)
