"""Random search with shared weights (Li & Talwalkar 2019, "Random Search and
Reproducibility for Neural Architecture Search").

Every step trains the weights of one cell drawn uniformly from what the other
algorithms can derive; there is nothing to learn about the architecture. Cells
drawn anew are then compared on some held-out data with the shared weights, and
the best one so far is the result. So it costs less than a search, because no
step of the architecture is taken, and is reported alike.
"""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp

from jnas.algorithms import base
from jnas.algorithms.method import POSITIVE, Method, Option, at_most
from jnas.spaces import arch as arch_lib
from jnas.spaces.spec import Cell, Spec

Array = jax.Array


def random(spec: Spec, candidates: int = 20) -> base.Algorithm:
  """Random search on a spec; its arch is the best cell, in zeros and ones.

  Args:
    spec: the search network.
    candidates: cells that are tried at each evaluation.
  """
  searched = spec.searched

  def drawn(key: Array) -> base.Arch:
    return {
      name: draw(cell, jax.random.fold_in(key, i))
      for i, (name, cell) in enumerate(searched)
    }

  def relaxed(arch: base.Arch, key: Array | None, step: Array | int):
    del step
    return arch if key is None else drawn(key)

  def select(
    arch: base.Arch, key: Array, measure: Callable[[base.Weights], float]
  ) -> base.Arch:
    """The best cell so far, or a better new one: all with today's weights."""
    tried = [arch]
    tried += [drawn(jax.random.fold_in(key, i)) for i in range(candidates)]
    scores = [measure(one) for one in tried]
    return tried[scores.index(max(scores))]

  return base.Algorithm(
    init=lambda key, scale: drawn(key),
    relax=relaxed,
    mixture=lambda arch, step=0: arch,
    estimate=None,
    derive=functools.partial(base.genotype_of, spec),
    samples_paths=True,
    select=select,
  )


def draw(cell: Cell, key: Array) -> Array:
  """A derived cell, drawn uniformly: ones where it has an operator, [E, O].

  Each node gets `degree` edges, each edge an operator other than `none`. A
  cell of NAS-Bench-201 keeps all edges, and `none` is one of its operators.

  Args:
    cell: the cell.
    key: typed key.
  """
  of_ops, of_edges = jax.random.split(key)
  scores = jax.random.gumbel(of_ops, cell.shape)
  if cell.degree:
    order = jax.random.uniform(of_edges, (len(cell.edges),))
    return base.strongest_mask(cell, scores, order)
  allowed = arch_lib.mask(cell) > 0
  chosen = jnp.argmax(jnp.where(allowed, scores, -jnp.inf), -1)
  return jax.nn.one_hot(chosen, len(cell.ops))


METHOD = Method(
  "random search",
  lambda setting: random(setting.spec, setting.options["candidates"]),
  {
    "algo.candidates": Option(
      20, "cells that are tried at each evaluation", (POSITIVE, at_most(10**6))
    )
  },
  samples_paths=True,
  recurrent=True,
  learns=False,
)
