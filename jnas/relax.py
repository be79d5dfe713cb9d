"""Relaxations: from architecture logits to the weights of operators.

Every relaxation of operators has one signature, (logits, mask, key,
temperature) -> weights, so that a network never learns which of them made its
edge weights. `mask` holds ones where an operator is still in the space; `key`
and `temperature` are there for those that draw or anneal. Relaxations of edges
give a factor for each edge, which multiplies its row.
"""

from collections.abc import Sequence

import chex
import jax
from jax import lax
import jax.numpy as jnp

Array = jax.Array


def _check(logits: Array, mask: Array | None) -> None:
  """Raises at trace time where a mask would be spread over other edges."""
  chex.assert_rank(logits, 2)
  if mask is not None:
    chex.assert_equal_shape((logits, mask))


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
  _check(logits, mask)
  where = None if mask is None else mask > 0
  return jax.nn.softmax(logits / temperature, axis=-1, where=where)


def sigmoid(
  logits: Array,
  mask: Array | None = None,
  key: Array | None = None,
  temperature: float | Array = 1.0,
) -> Array:
  """The sigmoid of each operator on its own: GOLD-NAS's.

  weights[e, o] = 1 / (1 + exp(-logits[e, o] / tau)); operators do not compete
  (section 3.2). A logit of minus infinity, that of a pruned operator, gives a
  weight of zero and stays what it is under any gradient.

  Args:
    logits: [E, O].
    mask: [E, O] of ones and zeros, or None; masked operators get weight zero.
    key: not used.
    temperature: tau > 0.

  Returns:
    [E, O] in [0, 1).

  >>> sigmoid(jnp.array([[0.0, -jnp.inf]]))
  Array([[0.5, 0. ]], dtype=float32)
  """
  del key
  _check(logits, mask)
  weights = jax.nn.sigmoid(logits / temperature)
  return weights if mask is None else jnp.where(mask > 0, weights, 0)


def dst_sparsify(
  weights: Array, thresholds: Array, targets: Sequence[int]
) -> Array:
  """Weights of which those below a learnt threshold are zero: EnTranNAS-DST's.

    p^[e, o] = p[e, o] / max_{e', o'} p[e', o'], e' into the node that e enters
    q[e, o]  = relu(p^[e, o] - t), t = sigmoid(beta) of that node
    q^[e, o] = q[e, o] / sum_o' q[e, o'] where that is not zero

  Yang et al. 2021, equations 7 to 9. Of each node the largest weight stays, as
  t < 1; rounding is kept from making it one.

  Args:
    weights: p, [E, O], those of the softmax.
    thresholds: beta, one for each node that edges enter, in their order.
    targets: the node that each edge enters.

  Returns:
    [E, O], each row adding up to one or to zero.

  >>> p = jnp.array([[0.8, 0.2], [0.3, 0.7]])
  >>> dst_sparsify(p, jnp.zeros(1), (2, 2))
  Array([[1., 0.],
         [0., 1.]], dtype=float32)
  >>> [round(float(x), 2) for x in dst_sparsify(p, -jnp.ones(1), (2, 2))[1]]
  [0.15, 0.85]
  """
  entered = sorted(set(targets))
  chex.assert_shape(weights, (len(targets), None))
  chex.assert_shape(thresholds, (len(entered),))
  place = jnp.asarray([entered.index(target) for target in targets])
  same = jnp.asarray(targets)[:, None] == jnp.asarray(targets)[None]
  most = jnp.where(same, weights.max(-1)[None], 0).max(-1)
  top = 1 - jnp.finfo(weights.dtype).eps
  t = jnp.minimum(jax.nn.sigmoid(thresholds), top)[place]
  q = jax.nn.relu(weights / most[:, None] - t[:, None])
  total = q.sum(-1, keepdims=True)
  return jnp.where(total > 0, q / jnp.where(total > 0, total, 1), 0)


def gumbel_hard(
  logits: Array,
  mask: Array | None = None,
  key: Array | None = None,
  temperature: float | Array = 1.0,
) -> Array:
  """One operator drawn on each edge, with the gradient of a softmax: GDAS's.

  With g drawn from Gumbel(0, 1) and A the log-softmax of the logits,

    h[e] = one-hot(argmax_o (A[e, o] + g[e, o]))           forwards
    h~[e, o] = softmax_o((A[e, o] + g[e, o]) / tau)        backwards

  Dong & Yang 2019, equations 3 to 6. Forwards h is exactly one-hot. The draw
  does not depend on tau: it is a draw from the softmax of the logits.

  Args:
    logits: [E, O].
    mask: [E, O] of ones and zeros, or None; masked operators are not drawn.
    key: typed key of the draw, or None for g = 0, the likeliest operators.
    temperature: tau > 0; a large one spreads the gradient over operators.

  Returns:
    [E, O], a one in each row.

  >>> gumbel_hard(jnp.array([[0.0, 2.0, 1.0]]))
  Array([[0., 1., 0.]], dtype=float32)
  """
  _check(logits, mask)
  where = None if mask is None else mask > 0
  scores = _scores(logits, where, key)
  among = scores if where is None else jnp.where(where, scores, -jnp.inf)
  hard = jax.nn.one_hot(
    jnp.argmax(among, -1), logits.shape[-1], dtype=logits.dtype
  )
  soft = jax.nn.softmax(scores / temperature, -1, where=where)
  # Adding soft and taking it away would leave a rounding error.
  return hard + (soft - lax.stop_gradient(soft))


def concrete(
  logits: Array,
  mask: Array | None = None,
  key: Array | None = None,
  temperature: float | Array = 1.0,
) -> Array:
  """Weights drawn from a concrete distribution on each edge: SNAS's.

  Z[e, o] = softmax_o((A[e, o] + g[e, o]) / tau), with g from Gumbel(0, 1) and
  A the log-softmax of the logits (Xie et al. 2019, equation 4). It is the soft
  form of `gumbel_hard`, which a small tau comes close to.

  Args:
    logits: [E, O].
    mask: [E, O] of ones and zeros, or None; masked operators get weight zero.
    key: typed key of the draw, or None for g = 0.
    temperature: tau > 0.

  Returns:
    [E, O], each row adding up to one.

  >>> concrete(jnp.zeros((1, 4)))
  Array([[0.25, 0.25, 0.25, 0.25]], dtype=float32)
  """
  where = None if mask is None else mask > 0
  scores = _scores(logits, where, key)
  return jax.nn.softmax(scores / temperature, -1, where=where)


def _scores(
  logits: Array, where: Array | None, key: Array | None
) -> Array:
  """Log-softmax and Gumbel noise, [E, O]; of masked operators zero."""
  scores = jax.nn.log_softmax(logits, axis=-1, where=where)
  if key is not None:
    scores = scores + jax.random.gumbel(key, logits.shape, logits.dtype)
  return jnp.where(jnp.isfinite(scores), scores, 0)


def edge_norm(logits: Array, targets: Sequence[int]) -> Array:
  """The softmax over the edges that enter one node: PC-DARTS's.

  weights[e] = exp(beta[e]) / sum_{e' into the same node} exp(beta[e'])

  Xu et al. 2020, equation 2.

  Args:
    logits: beta, [E].
    targets: the node that each edge enters.

  Returns:
    [E], those of a node adding up to one.

  >>> [round(float(x), 2) for x in edge_norm(jnp.zeros(5), (2, 2, 3, 3, 3))]
  [0.5, 0.5, 0.33, 0.33, 0.33]
  """
  chex.assert_shape(logits, (len(targets),))
  targets = jnp.asarray(targets)
  same = targets[:, None] == targets[None]
  rows = jnp.broadcast_to(logits[None], same.shape)
  return jnp.diagonal(jax.nn.softmax(rows, axis=-1, where=same))


def edge_pairs(
  logits: Array, pairs: Sequence[tuple[int, int]], targets: Sequence[int]
) -> Array:
  """The weight of each edge when nodes choose pairs of edges: Amended DARTS's.

  y_j = sum_{(i1, i2)} softmax(beta)[(i1, i2)] (y_i1 + y_i2), the softmax over
  all pairs of edges into node j (Bi et al. 2020, equation 16). So an edge
  weighs as much as all the pairs that it is part of.

  Args:
    logits: beta, [P].
    pairs: the two edges of each pair.
    targets: the node that each edge enters.

  Returns:
    [E], those of a node adding up to two.

  >>> pairs = ((0, 1), (2, 3), (2, 4), (3, 4))
  >>> weights = edge_pairs(jnp.zeros(4), pairs, (2, 2, 3, 3, 3))
  >>> [round(float(x), 2) for x in weights]
  [1.0, 1.0, 0.67, 0.67, 0.67]
  """
  share = edge_norm(logits, [targets[first] for first, _ in pairs])
  member = [[float(e in pair) for e in range(len(targets))] for pair in pairs]
  return share @ jnp.asarray(member, share.dtype)


def entropy(weights: Array) -> Array:
  """The entropy in nats of each row of weights: [E].

  Zero where one operator has all the weight, log O where all weigh the same.

  >>> round(float(entropy(jnp.array([[0.5, 0.5]]))[0]), 4)
  0.6931
  """
  # The logarithm's slope at zero is infinite; a weight of zero gets none.
  positive = jnp.where(weights > 0, weights, 1)
  return -jnp.sum(positive * jnp.log(positive), axis=-1)
