"""Schedules and optimizers, as optax chains."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jnas.training import averaging

Array = jax.Array
Schedule = Callable[[Array | int], Array]


def learning_rate(
  form: str,
  lr: float,
  end: float = 0.0,
  *,
  epochs: float,
  steps_per_epoch: int,
  warmup: int = 0,
  factor: float = 0.97,
  power: float = 0.9,
) -> Schedule:
  """The learning rate at a step, which falls from `lr` on between epochs.

  With e whole epochs done and x = e / epochs it is

    cosine       end + (lr - end) (1 + cos(pi x)) / 2
    linear       end + (lr - end) (1 - x)
    exponential  lr factor^e
    polynomial   end + (lr - end) (1 - t / T)^power, at step t of T

  as in the field's code. (P-DARTS's own for ImageNet is steeper by a little: it
  ends five epochs early, and falls by another line to zero in these.) A run of
  less than one epoch keeps `lr`.

  Args:
    form: "cosine", "linear", "exponential" or "polynomial".
    lr: at the first step after the warm-up.
    end: approached at the last epoch; of no meaning to "exponential".
    epochs: of the whole run.
    steps_per_epoch: of the training split.
    warmup: steps of linear increase at the start.
    factor: of "exponential", for each epoch.
    power: of "polynomial", which falls at each step (DeepLab, 1606.00915).

  >>> rate = learning_rate("linear", 0.5, epochs=250, steps_per_epoch=2)
  >>> print(rate(0), rate(1), rate(2))
  0.5 0.5 0.498
  """

  def schedule(step: Array | int) -> Array:
    step = jnp.asarray(step)
    epoch = jnp.minimum(step // steps_per_epoch, epochs)
    if form == "exponential":
      rate = lr * jnp.float32(factor) ** epoch
    elif form == "polynomial":
      left = 1 - jnp.minimum(step / (epochs * steps_per_epoch), 1)
      rate = end + (lr - end) * left**power
    else:
      done = epoch / epochs
      left = 1 - done
      if form == "cosine":
        left = (1 + jnp.cos(jnp.pi * done)) / 2
      rate = end + (lr - end) * left
    return rate * jnp.minimum(1.0, (step + 1) / warmup) if warmup else rate

  return schedule


def ramp(end: float, *, epochs: float, steps_per_epoch: int) -> Schedule:
  """The rate of drop path at a step: end * e / epochs, e whole epochs done."""

  def schedule(step: Array | int) -> Array:
    return end * jnp.asarray(step // steps_per_epoch) / epochs

  return schedule


def sgd(
  schedule: Schedule,
  *,
  momentum: float,
  decay: float,
  clip: float,
  nesterov: bool = False,
) -> optax.GradientTransformation:
  """SGD as PyTorch has it: clip, add decay * w, momentum, learning rate.

  Args:
    schedule: learning rate at a step.
    momentum: factor of the buffer.
    decay: of every parameter, as an L2 term in the gradient.
    clip: largest global norm of the gradient, before the decay; 0 for none.
    nesterov: whether a step looks ahead by the momentum once more.
  """
  return optax.chain(
    _clip(clip) if clip else optax.identity(),
    _decay(decay),
    optax.trace(momentum, nesterov=nesterov),
    optax.scale_by_learning_rate(schedule),
  )


def averaged_sgd(
  lr: float, *, decay: float, clip: float, patience: int
) -> optax.GradientTransformationExtraArgs:
  """SGD without momentum that turns into averaged SGD (`averaging`).

  Args:
    lr: constant learning rate.
    decay: of every parameter, as an L2 term in the gradient.
    clip: largest global norm of the gradient, before the decay; 0 for none.
    patience: evaluations without improvement before it averages.
  """
  return optax.chain(
    _clip(clip) if clip else optax.identity(),
    _decay(decay),
    averaging.averaged_sgd(lr, patience),
  )


def _clip(most: float) -> optax.GradientTransformation:
  """The gradient times most / (norm + 1e-6), if that is below one.

  So has PyTorch's clip_grad_norm_; optax divides by the norm alone.
  """

  def clipped(gradient: Any, w: Any) -> Any:
    del w
    scale = jnp.minimum(1.0, most / (optax.tree.norm(gradient) + 1e-6))
    return jax.tree.map(lambda g: g * scale.astype(g.dtype), gradient)

  return optax.stateless(clipped)


def _decay(rate: float) -> optax.GradientTransformation:
  """The gradient plus rate * w.

  Without decay w is not even read: zero times the logit of a pruned operator,
  which is minus infinity, would be no number.
  """
  return optax.add_decayed_weights(rate) if rate else optax.identity()


def adam(
  lr: float, *, b1: float, b2: float, decay: float
) -> optax.GradientTransformation:
  """Adam as PyTorch has it: the decay is part of the gradient.

  Args:
    lr: constant learning rate.
    b1: decay of the first moment.
    b2: decay of the second moment.
    decay: of every parameter, as an L2 term in the gradient.
  """
  return optax.chain(
    _decay(decay),
    optax.scale_by_adam(b1=b1, b2=b2),
    optax.scale_by_learning_rate(lr),
  )


def momentum_buffer(state: Any) -> Any:
  """The momentum buffer in the state of `sgd`, like the parameters."""
  return optax.tree.get(state, "trace")
