"""What transit cells compute: derived once a step, and compiled once it stays.

EnTranNAS derives an architecture at every step (Yang et al. 2021, section
2.2). A general program can run any derivation. Once one has stayed for a while
a program in which it is fixed does the same in less time, on the same state:
what is not computed keeps its parameters, so that the search can go back to
the general program whenever the derivation moves. Each such move doubles the
patience: a program of one's own that is soon left costs more to compile than
it saves.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnas.algorithms.base import Algorithm
from jnas.spaces.spec import TRANSIT, Spec
from jnas.training.state import Derivation, State

# (name, operators of each edge) of transit cells, as `cnn.Network` takes them
Cells = tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]


def begin(
  algorithm: Algorithm, state: State, patience: int = 0
) -> Derivation | None:
  """The first derivation of a search with transit cells; None without.

  Args:
    algorithm: with the derivation.
    state: with the first arch.
    patience: steps that a derivation must stay to be compiled; 0 for never.
  """
  if algorithm.derivation is None:
    return None
  return Derivation(
    cells=algorithm.derivation(state.arch, state.step),
    unchanged=jnp.int32(0),
    patience=jnp.int32(patience),
    frozen=jnp.int32(0),
  )


def derived(algorithm: Algorithm, state: State) -> State:
  """The state with what transit cells compute in the next step.

  It is derived once a step, so that both levels train one sub-graph.
  """
  if algorithm.derivation is None:
    return state
  new = algorithm.derivation(state.arch, state.step)
  old = state.derivation
  same = [(new[name] == old.cells[name]).all() for name in new]
  same = jnp.asarray(same).all()
  left = ~same & (old.unchanged >= old.patience)
  return state._replace(
    derivation=old._replace(
      cells=new,
      unchanged=jnp.where(same, old.unchanged + 1, 0),
      patience=jnp.where(left, 2 * old.patience, old.patience),
    )
  )


def counted(step: Callable[..., Any]) -> Callable[..., Any]:
  """A step whose transit cells are compiled as they are, and counted."""

  def run(state: State, *splits: Any) -> tuple[State, Any]:
    state, metrics = step(state, *splits)
    own = state.derivation
    own = own._replace(frozen=own.frozen + 1)
    return state._replace(derivation=own), metrics

  return run


def frozen(
  spec: Spec, state: State, step: int, *, period: int
) -> Cells | None:
  """What transit cells compute, if it has stayed; None while it moves.

  None, too, where all cells are engines: there is no other program.

  The answer follows from the state and the step alone, so that a resumed
  search runs the programs that an uninterrupted one does.

  Args:
    spec: of the search.
    state: with a derivation, after `step` steps.
    step: steps done.
    period: at multiples of so many steps a search may change from the general
      to a fixed program; it changes back at any step.
  """
  own = state.derivation
  patience = int(own.patience)
  never = not patience or not own.cells
  if never or int(own.unchanged) < patience + step % period:
    return None
  chosen = jax.device_get(own.cells)
  return tuple(
    (name + TRANSIT, _operators(spec.cell(name).ops, chosen[name]))
    for name in sorted(chosen)
  )


def _operators(
  ops: tuple[str, ...], chosen: np.ndarray
) -> tuple[tuple[str, ...], ...]:
  return tuple(
    tuple(op for op, used in zip(ops, row, strict=True) if used)
    for row in chosen
  )
