"""All that changes during training; what a checkpoint holds."""

from collections.abc import Callable, Mapping, Sequence
import functools
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jnas.runtime import parallel

Array = jax.Array


class Totals(NamedTuple):
  """Sums over the steps since the last evaluation.

  They are part of the state, so that a run that goes on reports what an
  uninterrupted one does.

  Attributes:
    steps: how many there were.
    loss: of the training batches.
    scores: what the task measures of a training batch beside its loss.
  """

  steps: Array
  loss: Array
  scores: Mapping[str, Array]


class Derivation(NamedTuple):
  """What transit cells compute (`jnas.training.transit`).

  Attributes:
    cells: [E, O] of zeros and ones for each cell that they follow.
    unchanged: steps for which that has been the same.
    patience: steps after which a program is compiled in which it is fixed.
    frozen: steps that ran such a program.
  """

  cells: Mapping[str, Array]
  unchanged: Array
  patience: Array
  frozen: Array


class Carry(NamedTuple):
  """What each stream of batches hands on, such as hidden states of text.

  Of examples, and so split over the devices as batches are; all else in a
  state is the same on each of them.
  """

  train: Any = ()
  valid: Any = ()


class Average(NamedTuple):
  """Exponential moving averages over the steps, of which a test is.

  Attributes:
    weights: like the weights.
    stats: like the batch statistics, so that both belong together.
  """

  weights: Any
  stats: Any


class State(NamedTuple):
  """The state of a search, or of a training.

  Attributes:
    step: int32 scalar, steps done. All randomness follows from it.
    weights: the network's parameters.
    stats: its running batch statistics.
    arch: architecture parameters; empty where there are none.
    weights_opt: state of the weights' optimizer.
    arch_opt: state of the architecture's optimizer; empty where it is fixed.
    totals: since the last evaluation.
    hyper: hyper-parameters that the controller schedules between steps, by the
      paper's names for them.
    derivation: of transit cells; None where there are none.
    carry: from batch to batch.
    average: of weights and statistics; None where there is none.
    stopping: what an algorithm remembers to stop some of the weights; None
      where they all go on.
  """

  step: Array
  weights: Any
  stats: Any
  arch: Any
  weights_opt: Any
  arch_opt: Any
  totals: Totals
  hyper: Mapping[str, Array] = {}
  derivation: Derivation | None = None
  carry: Carry = Carry()
  average: Average | None = None
  stopping: Any = None


def stack(states: Sequence[State]) -> State:
  """One state of several seeds, which are a first axis of all arrays."""
  return jax.tree.map(lambda *each: jnp.stack(each), *states)


def take(state: State, index: int, mesh: Mesh) -> State:
  """The state of one of the seeds that `stack` has put together.

  Args:
    state: of all of them, as `place` has put it on the devices.
    index: of the seed.
    mesh: the devices.
  """
  return _take(mesh)(state, index)


@functools.cache
def _take(mesh: Mesh) -> Callable[[State, int], State]:
  places = {
    name: NamedSharding(mesh, spec)
    for name, spec in specs()._asdict().items()
  }
  return jax.jit(
    lambda state, i: jax.tree.map(
      lambda a: lax.dynamic_index_in_dim(a, i, keepdims=False), state
    ),
    out_shardings=State(**places),
  )


def evaluated(state: State) -> Average:
  """The weights and the batch statistics that are evaluated."""
  return state.average or Average(state.weights, state.stats)


def zero_totals(scores: Sequence[str] = ("accuracy",)) -> Totals:
  """Totals of nothing; no two leaves share memory.

  Args:
    scores: names of what a task measures beside the loss.
  """
  steps, loss, *rest = (
    jnp.zeros((), jnp.float32) for _ in range(2 + len(scores))
  )
  return Totals(steps, loss, dict(zip(scores, rest, strict=True)))


def add(
  totals: Totals, loss: Array, scores: Mapping[str, Array]
) -> Totals:
  """The totals with one more step in them."""
  # In the totals' own type, whatever that of the loss: a scan insists on it.
  return jax.tree.map(
    lambda total, new: total + jnp.asarray(new, total.dtype),
    totals,
    Totals(1, loss, dict(scores)),
  )


def means(totals: Totals) -> dict[str, float]:
  """The means since the last evaluation; nothing if there was no step."""
  steps = float(totals.steps)
  if not steps:
    return {}
  named = {"loss": totals.loss, **totals.scores}
  return {name: float(total) / steps for name, total in named.items()}


def specs(lead: Sequence[str] = ()) -> State:
  """How a state is split over the devices, as `shard_map` takes it.

  Args:
    lead: as `parallel.lead` has it of the devices; none for a state of one
      seed.
  """
  parts = {name: PartitionSpec(*lead) for name in State._fields}
  return State(**parts | {"carry": PartitionSpec(*lead, parallel.AXIS)})


def place(state: State, mesh: Mesh) -> State:
  """Copies a state to the devices of a mesh; it may then be donated."""
  own = specs(parallel.lead(mesh))
  rest = parallel.place(state._replace(carry=Carry()), mesh, own.step)
  carry = parallel.place(state.carry, mesh, own.carry)
  return rest._replace(carry=carry)
