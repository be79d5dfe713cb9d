"""One code path for one device and for many.

A step is written for its own share of the batch and calls `mean` on what the
replicas must agree on (gradients, metrics, and the vectors that enter a
Hessian-vector product).  `shard_step` compiles it over a mesh with the axis
"data", and before it "seeds" where several seeds are one program.  With one
device there is nothing to average: a small supernet took 2 to 3% more processor
time to compile than under plain `jax.jit`, and no longer a step.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
import math
import os
from typing import Any

import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

from jnas.runtime import hosts

AXIS = "data"
SEEDS = "seeds"

# What the compiler of a platform is asked for. XLA on CPU uses vectors of half
# the width that processors with AVX-512 have; on others asking changes nothing.
# On TPU convolutions of what lies in the vector memory between two operations
# take four times as long to compile, and are the faster by a third.
_OPTIONS: Mapping[str, Mapping[str, Any]] = {
  "cpu": {"xla_cpu_prefer_vector_width": 512},
  "tpu": {"xla_vf_vmem_memory_space_assignment": False},
}


def mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
  """Returns the mesh over `devices` (default: all) with one axis, "data"."""
  # Explicit axes, the default of `jax.make_mesh`, refuse gathers and vmapped
  # crops.
  devices = jax.devices() if devices is None else devices
  return Mesh(np.asarray(devices), (AXIS,), axis_types=(AxisType.Auto,))


def seeds_mesh(count: int, devices: Sequence[jax.Device] | None = None) -> Mesh:
  """Returns the mesh of `count` seeds, over "seeds" and "data".

  As many devices as can share the seeds equally do, and those that are left
  share the batches of each seed.
  """
  devices = np.asarray(jax.devices() if devices is None else devices)
  groups = math.gcd(count, devices.size)
  grid = devices.reshape(groups, -1)
  return Mesh(grid, (SEEDS, AXIS), axis_types=(AxisType.Auto,) * 2)


def lead(mesh: Mesh) -> tuple[str, ...]:
  """Returns the axes by which what each seed has of its own is split."""
  return (SEEDS,) if SEEDS in mesh.axis_names else ()


def replicas(mesh: Mesh) -> int:
  """Returns how many devices share a batch."""
  return mesh.shape[AXIS]


def platform(mesh: Mesh) -> str:
  """Returns what a program over the mesh is built for: "cpu", "gpu", "tpu"."""
  return mesh.devices.flat[0].platform


def mean(tree: Any) -> Any:
  """Returns the mean of every leaf over the replicas; inside a step only."""
  # Of seeds that are divided over devices XLA would keep the mean of one.
  return tree if jax.lax.axis_size(AXIS) == 1 else jax.lax.pmean(tree, AXIS)


def offset(local_batch: int) -> jax.Array:
  """Returns where this replica's examples start in the global batch.

  Inside a step only; int32 scalar, 0 on the first replica.
  """
  return jax.lax.axis_index(AXIS) * local_batch


def local_batch(global_batch: int, mesh: Mesh) -> int:
  """Returns the examples that each device gets of `global_batch`.

  Raises:
    ValueError: the devices cannot share the batch equally.
  """
  count = replicas(mesh)
  share, left = divmod(global_batch, count)
  if left or share < 1:
    raise ValueError(
      f"batch size: expected a positive multiple of the {count} devices, "
      f"got {global_batch}; choose {max(share, 1) * count} or "
      f"{(share + 1) * count}, or use fewer devices"
      if left and share
      else f"batch size: expected a positive multiple of the {count} "
      f"devices, got {global_batch}; choose {count}, or use fewer devices"
    )
  return share


def replicate(tree: Any, mesh: Mesh) -> Any:
  """Returns `tree` with every leaf copied to all devices of the mesh.

  The copies share no memory with `tree` nor with each other, so that a step
  may be given them as donated arguments.
  """
  return place(tree, mesh, PartitionSpec())


def place(tree: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
  """Returns `tree` with every leaf copied to the mesh, split as `spec` says.

  Of several processes each is given the whole of every leaf.
  """
  sharding = NamedSharding(mesh, spec)

  def copy(leaf: Any) -> jax.Array:
    if getattr(leaf, "is_fully_addressable", True) and hosts.several():
      # device_put would compare the leaf between the processes first, by a
      # program of its own for each shape.
      whole = np.asarray(leaf)
      return jax.make_array_from_callback(
        whole.shape, sharding, lambda part: np.array(whole[part])
      )
    # A copy first: device_put itself, told not to alias, still does on the
    # device that holds the array already.
    return jax.device_put(jnp.array(leaf, copy=True), sharding)

  return jax.tree.map(copy, tree)


def abstract(tree: Any, sharding: NamedSharding) -> Any:
  """Returns the shapes and types of a tree's arrays, placed on devices."""
  return jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), tree
  )


def local(tree: Any) -> Any:
  """Returns `tree` with every leaf whole: numpy's, of several processes.

  All of them call it: what is split over them is gathered.
  """

  def read(leaf: Any) -> Any:
    if getattr(leaf, "is_fully_addressable", True):
      return leaf
    if leaf.is_fully_replicated:
      return np.array(leaf.addressable_data(0))
    return multihost_utils.process_allgather(leaf, tiled=True)

  return jax.tree.map(read, tree)


def shard_step(
  fn: Callable[..., Any],
  mesh: Mesh,
  in_specs: Any,
  out_specs: Any,
  donate: int | Sequence[int] = (),
) -> Callable[..., Any]:
  """Returns `fn` compiled over the mesh, each device on its own share.

  Args:
    fn: sees the local part of what `in_specs` splits over "data".
    mesh: from `mesh`.
    in_specs: a `PartitionSpec` (or a tree prefix of them) for each argument.
    out_specs: the same for the results; what is marked `PartitionSpec()` must
      be equal on all replicas, which `mean` makes it.  This is not checked.
    donate: positions of the arguments whose memory the results may reuse.
  """
  # check_vma would demand casts all through code (optax, linen) that does not
  # know of replicas.
  return jax.jit(
    jax.shard_map(
      fn,
      mesh=mesh,
      in_specs=in_specs,
      out_specs=out_specs,
      check_vma=False,
    ),
    donate_argnums=donate,
    compiler_options=compiler_options(mesh),
  )


@functools.cache
def compiler_options(mesh: Mesh) -> Mapping[str, Any]:
  """Returns what to pass as `jax.jit(compiler_options=...)`.

  Left out are options that this version of XLA does not know, and those that
  XLA_FLAGS or LIBTPU_INIT_ARGS sets.

  Args:
    mesh: what the program is built for.
  """
  known = {}
  flags = [os.environ.get(n, "") for n in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")]
  for name, value in _OPTIONS.get(platform(mesh), {}).items():
    if name in " ".join(flags):
      continue
    probe = jax.jit(
      lambda: 0,
      out_shardings=NamedSharding(mesh, PartitionSpec()),
      compiler_options={name: value},
    )
    try:
      probe.lower().compile()
    except jax.errors.JaxRuntimeError:
      continue
    known[name] = value
  return known
