"""Carries out what a paper decides between stages, see `algorithms.stages`."""

import jax
import jax.numpy as jnp

from jnas.algorithms.stages import Stage
from jnas.spaces import arch as arch_lib
from jnas.spaces.prune import prune_params
from jnas.training.state import State


def carried(state: State, old: Stage, new: Stage) -> State:
  """The state with which a stage goes on from another.

  Weights, batch statistics and moments of operators that are no longer built
  are left out, logits of pruned operators become minus infinity, and nothing
  else changes.

  Args:
    state: at the end of the old stage.
    old: the stage that has ended.
    new: the one that follows.
  """
  if new.spec != old.spec:
    kept = prune_params(
      (state.weights, state.stats, state.weights_opt), old.spec, new.spec
    )
    weights, stats, weights_opt = kept
    state = state._replace(
      weights=weights, stats=stats, weights_opt=weights_opt
    )
  arch = dict(state.arch)
  for name, cell in new.left.searched:
    arch[name] = jnp.where(arch_lib.mask(cell) > 0, arch[name], -jnp.inf)
  return state._replace(arch=arch, hyper=hyper(new))


def hyper(stage: Stage) -> dict[str, jax.Array]:
  """The hyper-parameters of a stage, as its state holds them."""
  return {name: jnp.float32(value) for name, value in stage.hyper}
