"""All that changes during training; what a checkpoint holds."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array


class State(NamedTuple):
  """The state of a search, or of a retraining.

  Attributes:
    step: int32 scalar, steps done. All randomness follows from it.
    weights: the network's parameters.
    stats: its running batch statistics.
    arch: architecture parameters; empty in a retraining.
    weights_opt: state of the weights' optimizer.
    arch_opt: state of the architecture's optimizer; empty in a retraining.
    sums: totals of train_loss, train_accuracy and steps since the last
      evaluation. Here, so that a resumed run reports what an uninterrupted one
      does.
    controls: what is set from outside of a step, by name: numbers such as
      GOLD-NAS's lambda by the controller between steps, and what transit cells
      compute in the next step ("derived", with "unchanged", the steps for
      which it has been the same).
  """

  step: Array
  weights: Any
  stats: Any
  arch: Any
  weights_opt: Any
  arch_opt: Any
  sums: dict[str, Array]
  controls: Any = {}


def zero_sums() -> dict[str, Array]:
  """Totals of nothing."""
  names = ("train_loss", "train_accuracy", "steps")
  return {name: jnp.zeros((), jnp.float32) for name in names}


def add(
  sums: dict[str, Array], loss: Array, accuracy: Array
) -> dict[str, Array]:
  """The totals with one more step in them."""
  new = {"train_loss": loss, "train_accuracy": accuracy, "steps": 1}
  # In the totals' own type, whatever that of the loss: a scan insists on it.
  return {
    name: total + jnp.asarray(new[name], total.dtype)
    for name, total in sums.items()
  }


def means(sums: dict[str, Array]) -> dict[str, float]:
  """The means since the last evaluation; nothing if there was no step."""
  totals = {name: float(value) for name, value in sums.items()}
  steps = totals.pop("steps")
  return {name: total / steps for name, total in totals.items() if steps}
