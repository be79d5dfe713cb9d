"""Averages of the weights: averaged SGD, and exponential moving averages.

SGD turns into averaged SGD when validation stops improving.

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

from jnas.training.state import Average, State

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
    lowest: the lowest of all.
    snapshot: like the weights, what `average` was then.
  """

  active: Array
  count: Array
  size: Array
  average: Tree
  best: Array
  recent: Array
  lowest: Array
  snapshot: Tree


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
      average=jax.tree.map(jnp.array, w),  # copies: all are donated
      best=jnp.float32(jnp.inf),
      recent=jnp.full(patience, jnp.inf, jnp.float32),
      lowest=jnp.float32(jnp.inf),
      snapshot=jax.tree.map(jnp.array, w),
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
    loss: of validation, with `average`.
    lr: that of `averaged_sgd`.
  """

  def seen(own: Averaging) -> Averaging:
    worse = ~own.active & (loss > own.best)
    return own._replace(
      active=own.active | worse,
      size=jnp.where(worse, lr, own.size),
      best=jnp.minimum(own.best, own.recent[0]),
      recent=jnp.append(own.recent[1:], jnp.float32(loss)),
      lowest=jnp.minimum(own.lowest, loss),
      snapshot=jax.tree.map(
        lambda old, new: jnp.where(loss < own.lowest, new, old),
        own.snapshot,
        own.average,
      ),
    )

  return _in(seen, state)


def find(state: Tree) -> Averaging:
  """The state of `averaged_sgd` within that of an optimizer."""
  found = []
  _in(lambda own: found.append(own) or own, state)
  (own,) = found
  return own


def snapshots(tree: Any) -> list[Tree]:
  """Those in an optimizer's state that was read back as nested dicts."""
  if isinstance(tree, list | tuple):
    return [found for part in tree for found in snapshots(part)]
  if not isinstance(tree, dict):
    return []
  if set(tree) == set(Averaging._fields):
    return [tree["snapshot"]]
  return [found for part in tree.values() for found in snapshots(part)]


def _in(change: Callable[[Averaging], Averaging], state: Tree) -> Tree:
  """The optimizer's state with this part of it changed."""

  def is_part(node: Any) -> bool:
    return isinstance(node, Averaging)

  return jax.tree.map(
    lambda node: change(node) if is_part(node) else node, state, is_leaf=is_part
  )


def begin(state: State) -> State:
  """A state whose moving average is what it is at now."""
  copy = jax.tree.map(jnp.array, (state.weights, state.stats))  # is donated
  return state._replace(average=Average(*copy))


def moving(step: Callable[..., Any], decay: float) -> Callable[..., Any]:
  """A step after which weights and statistics go into the moving average.

    average = d average + (1 - d) new,  d = min(decay, (1 + t) / (10 + t)),

  t steps done before, so that the first weights are soon forgotten; the rule is
  that of TensorFlow's ExponentialMovingAverage.

  Args:
    step: (state, ...) -> (state, metrics).
    decay: of the average.
  """

  def run(state: State, *fed: Any) -> tuple[State, Any]:
    d = jnp.minimum(decay, (1 + state.step) / (10 + state.step))
    old = state.average
    state, metrics = step(state, *fed)
    average = jax.tree.map(
      lambda mean, new: mean + ((1 - d) * (new - mean)).astype(mean.dtype),
      old,
      Average(state.weights, state.stats),
    )
    return state._replace(average=average), metrics

  return run
