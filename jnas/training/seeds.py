"""Several seeds in one program: an axis of the state, and of what they draw.

A plan of several seeds is made of the plans of each alone. Its step is theirs
under `jax.vmap`, from the state to the metrics, so that nothing of a seed can
depend on another; what is decided between steps, on the host, is asked of each.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from jnas.runtime import parallel
from jnas.training import state as state_lib
from jnas.training import steps
from jnas.training.batches import Feed
from jnas.training.trainer import Plan


def joined(
  plans: Sequence[Plan],
  mesh: Mesh,
  place: Callable[[Any, Mesh, PartitionSpec], Any] = parallel.place,
) -> Plan:
  """The plan that runs several, which differ in nothing but their seeds.

  Args:
    plans: of each seed, with data that stay on the devices. What of these is
      the same array in all is kept once.
    mesh: the devices, as `parallel.seeds_mesh` has them.
    place: (array, mesh, spec) -> the array on its devices.
  """
  first, lead = plans[0], PartitionSpec(*parallel.lead(mesh))
  fed = [jax.tree.flatten(plan.feed.fetch(0, 1)) for plan in plans]
  structure, shared, leaves = fed[0][1], [], []
  for each in zip(*(found for found, _ in fed), strict=True):
    shared.append(all(leaf is each[0] for leaf in each))
    own = each[0] if shared[-1] else place(jnp.stack(each), mesh, lead)
    leaves.append(own)
  specs = [PartitionSpec() if same else lead for same in shared]
  axes = [None if same else 0 for same in shared]
  whole = structure.unflatten(leaves)

  def mapped(
    build: Callable[[jax.Array], steps.Step],
  ) -> Callable[[jax.Array], steps.Step]:
    def one(seed: jax.Array, state: Any, leaves: Sequence[Any]):
      return build(seed)(state, *structure.unflatten(leaves))

    def of_all(seeds: jax.Array) -> steps.Step:
      return lambda state, *fed: jax.vmap(one, (0, 0, axes))(
        seeds, state, jax.tree.leaves(fed)
      )

    return of_all

  return first._replace(
    title=f"{first.title}, {len(plans)} seeds",
    feed=Feed(lambda step, count: whole, structure.unflatten(specs)),
    init=lambda: state_lib.stack([plan.init() for plan in plans]),
    steps={name: mapped(build) for name, build in first.steps.items()},
    following=None,
    resume=None,
    seeds=tuple(plans),
  )
