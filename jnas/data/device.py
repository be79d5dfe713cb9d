"""A whole data set on the device; the batch is chosen inside the jitted step.

The order of the examples is a function of (key, step) alone: any step can be
replayed, and a run that resumes sees what it would have seen.
"""

import dataclasses
import functools

import chex
import jax
from jax import Array
import jax.numpy as jnp
import numpy as np


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("x", "y", "rows"), meta_fields=("shape",))
@dataclasses.dataclass(frozen=True)
class Split:
  """Examples that stay together.

  Attributes:
    x: [N, size of an example], flat: a TPU would copy images [N, H, W, C] as a
      whole into another layout for each batch that is taken from them.
    y: [N]; of images on larger canvases their sizes, [N, 2].
    shape: of an example, as (H, W, C).
    rows: [n], which of them there are, so that several splits share x and y;
      None for all.
  """
  x: Array
  y: Array
  shape: tuple[int, ...]
  rows: Array | None = None

  def __len__(self) -> int:
    return len(self.y if self.rows is None else self.rows)


def split(x: Array | np.ndarray, y: Array | np.ndarray) -> Split:
  """Returns x [N, ...] and y [N] as a split.

  Raises:
    ValueError: x and y differ in length, or are empty.
  """
  if y.ndim != 1 or len(x) != len(y) or not len(x):
    raise ValueError(
        "expected as many images as labels, at least one; got shapes "
        f"{x.shape} and {y.shape}")
  return Split(x.reshape(len(x), -1), y, x.shape[1:])


def take(examples: Split, index: Array) -> tuple[Array, Array]:
  """Returns examples `index` [B], which must be valid: x [B, ...] and y [B]."""
  chex.assert_rank(index, 1)
  chex.assert_type(index, int)
  if examples.rows is not None:
    index = examples.rows.at[index].get(mode="promise_in_bounds")
  x, y = (
      a.at[index].get(mode="promise_in_bounds")
      for a in (examples.x, examples.y))
  return x.reshape(len(index), *examples.shape), y


def steps_per_epoch(size: int, batch: int) -> int:
  """Returns size // batch: the whole batches in one pass over `size` examples.

  The remainder is dropped. DARTS trains on a last short batch too (391 steps
  of up to 64 for 25,000 examples, where this gives 390); XLA would compile a
  second program for its shape. Each epoch drops other examples.

  Raises:
    ValueError: batch is below 1 or above size.
  """
  if not 1 <= batch <= size:
    raise ValueError(
        f"expected a batch between 1 and the {size:,} examples there are; got "
        f"{batch:,}. Lower the batch size or raise the limit on the data.")
  return size // batch


def permutation(key: Array, epoch: Array | int, size: int) -> Array:
  """Returns int32[size], the order of the examples in `epoch`.

  Sorts one word of random bits an example: half the time and program of
  jax.random.permutation, which sorts twice so that equal words do not matter.
  Here equal words (a pair in a quarter of epochs of 50,000) stay in order.
  """
  bits = jax.random.bits(jax.random.fold_in(key, epoch), (size,), jnp.uint32)
  return jnp.argsort(bits, stable=True).astype(jnp.int32)


def indices(key: Array, step: Array | int, size: int, batch: int) -> Array:
  """Returns int32[batch], the examples of training step `step`.

  Epoch e = step // (size // batch) goes through a fresh permutation, drawn
  from fold_in(key, e): within an epoch no example comes twice.

  Args:
    key: typed key of the stream, the same for all steps.
    step: integer, may be traced.
    size, batch: static.

  Raises:
    ValueError: see `steps_per_epoch`; or the key is not a typed scalar key.
  """
  if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key) or key.ndim:
    raise ValueError(
        "expected one typed key, as from jax.random.key(seed); got "
        f"{key.dtype} of shape {key.shape}")
  steps = steps_per_epoch(size, batch)
  step = jnp.asarray(step, jnp.int32)
  order = permutation(key, step // steps, size)
  return jax.lax.dynamic_slice(order, (step % steps * batch,), (batch,))


def eval_batches(size: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns indices int32[K, batch] and weights float32[K, batch].

  Every one of `size` examples comes exactly once with weight 1, in order; the
  last row is filled up with the first examples at weight 0, so that its batch
  statistics are those of examples too. So one batch shape covers everything:
  sum weight * loss over all rows and divide by `size`.

  Raises:
    ValueError: size or batch is below 1.
  """
  if size < 1 or batch < 1:
    raise ValueError(
        f"expected at least one example and a batch of at least 1; got {size} "
        f"and {batch}")
  index = np.arange(-(-size // batch) * batch, dtype=np.int32)
  weight = (index < size).astype(np.float32)
  return (index % size).reshape(-1, batch), weight.reshape(-1, batch)
