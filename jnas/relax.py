"""Relaxations: from architecture logits to the weights of operators.

Every relaxation has one signature, (logits, mask, key, temperature) ->
weights, so that a network never learns which of them made its edge weights.
`mask` holds ones where an operator is still in the space; `key` and
`temperature` are there for those that draw or anneal.
"""

import jax
import jax.numpy as jnp

Array = jax.Array


def softmax(
  logits: Array,
  mask: Array | None = None,
  key: Array | None = None,
  temperature: float | Array = 1.0,
) -> Array:
  """The softmax over each edge's operators: DARTS's mixture.

  weights[e, o] = exp(logits[e, o] / tau) / sum_o' exp(logits[e, o'] / tau)

  Liu et al. 2019, equation 2. The operator `none` takes part in the sum.

  Args:
    logits: [E, O].
    mask: [E, O] of ones and zeros, or None; masked operators get weight zero
      and take no part in the sum.
    key: not used.
    temperature: tau > 0.

  Returns:
    [E, O], each row adding up to one.

  >>> softmax(jnp.zeros((1, 4)))
  Array([[0.25, 0.25, 0.25, 0.25]], dtype=float32)
  >>> softmax(jnp.zeros((1, 4)), jnp.array([[1.0, 1.0, 0.0, 0.0]]))
  Array([[0.5, 0.5, 0. , 0. ]], dtype=float32)
  """
  del key
  where = None if mask is None else mask > 0
  return jax.nn.softmax(logits / temperature, axis=-1, where=where)


def entropy(weights: Array) -> Array:
  """The entropy in nats of each row of weights: [E].

  Zero where one operator has all the weight, log O where all weigh the same.

  >>> round(float(entropy(jnp.array([[0.5, 0.5]]))[0]), 4)
  0.6931
  """
  # The logarithm's slope at zero is infinite; a weight of zero gets none.
  positive = jnp.where(weights > 0, weights, 1)
  return -jnp.sum(positive * jnp.log(positive), axis=-1)
