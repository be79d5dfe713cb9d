"""SGD that turns into averaged SGD when validation stops improving.

Averaged SGD (Polyak & Juditsky 1992) takes the steps of SGD and evaluates the
mean of the weights it has been at. Merity et al. 2018 (AWD-LSTM) begin to
average once the validation loss is worse than it ever was, the last few
evaluations left out: the non-monotone trigger.

The details are those of PyTorch's ASGD with t0 = 0 and lambd = 0, by which the
field's numbers were got: a step has the size that the step before was given,
and the mean begins with the second step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Array = jax.Array
Tree = Any


class Averaging(NamedTuple):
  """The state of `averaged_sgd`.

  Attributes:
    active: whether weights are averaged yet.
    count: steps since they are.
    size: of the next step, where they are.
    average: like the weights; before, the weights themselves.
    best: the lowest validation loss but for the recent ones.
    recent: [patience], the validation losses since, the newest last.
  """

  active: Array
  count: Array
  size: Array
  average: Tree
  best: Array
  recent: Array


def averaged_sgd(
  lr: float, patience: int
) -> optax.GradientTransformationExtraArgs:
  """SGD, and averaged SGD from when `observe` has seen no improvement.

  `update` takes `scale` as well, a factor of the learning rate: that of a
  short window.

  Args:
    lr: constant learning rate.
    patience: evaluations that may be worse; 5 in the field.
  """

  def init(w: Tree) -> Averaging:
    return Averaging(
      active=jnp.zeros((), bool),
      count=jnp.zeros((), jnp.int32),
      size=jnp.float32(lr),
      average=jax.tree.map(jnp.array, w),  # a copy: both are donated
      best=jnp.float32(jnp.inf),
      recent=jnp.full(patience, jnp.inf, jnp.float32),
    )

  def update(gradient: Tree, state: Averaging, w: Tree, *, scale=1.0, **_):
    given = jnp.asarray(lr * scale, jnp.float32)
    size = jnp.where(state.active, state.size, given)
    updates = jax.tree.map(lambda g: -size.astype(g.dtype) * g, gradient)
    count = state.count + state.active
    share = 1 / jnp.maximum(1, count - 1)
    average = jax.tree.map(
      lambda mean, now: jnp.where(
        state.active & (share < 1), mean + share * (now - mean), now
      ).astype(mean.dtype),
      state.average,
      optax.apply_updates(w, updates),
    )
    return updates, state._replace(count=count, size=given, average=average)

  return optax.GradientTransformationExtraArgs(init, update)


def observe(state: Tree, loss: float | Array, lr: float) -> Tree:
  """The optimizer's state after an evaluation; from it on it may average.

  Args:
    state: of an optimizer with `averaged_sgd` in it.
    loss: of validation.
    lr: that of `averaged_sgd`.
  """

  def seen(part: Averaging) -> Averaging:
    worse = ~part.active & (loss > part.best)
    return part._replace(
      active=part.active | worse,
      size=jnp.where(worse, lr, part.size),
      best=jnp.minimum(part.best, part.recent[0]),
      recent=jnp.append(part.recent[1:], jnp.float32(loss)),
    )

  return _in(seen, state)


def average(state: Tree) -> Tree:
  """The weights to evaluate and to keep: their mean, once there is one."""
  found = []
  _in(lambda part: found.append(part.average) or part, state)
  (weights,) = found
  return weights


def _in(change: Callable[[Averaging], Averaging], state: Tree) -> Tree:
  """The optimizer's state with this part of it changed."""

  def is_part(node: Any) -> bool:
    return isinstance(node, Averaging)

  return jax.tree.map(
    lambda node: change(node) if is_part(node) else node, state, is_leaf=is_part
  )
