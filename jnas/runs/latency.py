"""How long operators take on the devices at hand, as GOLD-NAS's costs.

Every operator of the space is measured once for each number of channels, size
and stride that the search network has it at: compiled, on a batch, the median
of some calls. The table is kept in the run's folder, and a run that goes on
reads it there, so that it does what an uninterrupted one does.
"""

from collections.abc import Callable
import os
import pathlib
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnas.ops import table as operators
from jnas.ops.backend import Backend
from jnas.runs import workdir as workdir_lib
from jnas.runtime import hosts
from jnas.spaces import cost
from jnas.spaces.mixed import MixedOps
from jnas.spaces.spec import Spec

FILE = "latency.json"

_CALLS = 15  # of which the median is taken, after three
_MEGA = 1e6


def table(
  spec: Spec,
  size: tuple[int, int],
  batch: int,
  backend: Backend,
  workdir: str | os.PathLike[str] | None = None,
) -> dict[str, float]:
  """Milliseconds that each operator takes for an image, by `_key`.

  Args:
    spec: the search network.
    size: (H, W) of the images.
    batch: images in a call.
    backend: of the devices.
    workdir: of the run; what is kept there is not measured again.
  """

  def known() -> dict[str, float]:
    kept = workdir_lib.read(pathlib.Path(workdir) / FILE) if workdir else {}
    return kept or _measured(spec, size, batch, backend)

  return hosts.first(known)


def _measured(
  spec: Spec, size: tuple[int, int], batch: int, backend: Backend
) -> dict[str, float]:
  found: dict[str, float] = {}

  def note(*where: Any) -> float:
    if _key(*where) not in found:
      found[_key(*where)] = milliseconds(*where, batch, backend)
    return 0.0

  cost.edge_costs(spec, size, note)
  return found


def _key(op: str, channels: int, size: tuple[int, int], stride: int) -> str:
  """The name of an operator somewhere in a network.

  >>> _key("sep_conv_3x3", 36, (32, 32), 1)
  'sep_conv_3x3, 36 channels, 32 x 32, stride 1'
  """
  return f"{op}, {channels} channels, {size[0]} x {size[1]}, stride {stride}"


def milliseconds(
  op: str,
  channels: int,
  size: tuple[int, int],
  stride: int,
  batch: int,
  backend: Backend,
) -> float:
  """How long an operator takes for an image, in evaluation.

  Zero for the identity, of which nothing is computed.
  """
  learnt, stats = operators.arrays(
    op, channels, stride, affine=True, pool_norm=False
  )
  if not learnt and not operators.get(op).pool:
    return 0.0
  shapes = {name: (1, *one.shape) for name, one in {**learnt, **stats}.items()}
  arrays = {name: jnp.full(shape, 0.1) for name, shape in shapes.items()}
  ops = MixedOps((op,), ((op,),), stride, train=False, backend=backend)
  call = jax.jit(lambda x: ops(x, {op: arrays} if arrays else {})[0][0])
  x = jnp.ones((batch, *size, channels))
  return 1e3 * seconds(lambda: call(x)) / batch


def seconds(call: Callable[[], Any]) -> float:
  """How long a call takes until its arrays are there, the median of some.

  The first ones, which compile, do not count.
  """
  found = []
  for _ in range(3 + _CALLS):
    start = time.perf_counter()
    jax.block_until_ready(call())
    found.append(time.perf_counter() - start)
  return statistics.median(found[3:])


def costs(
  spec: Spec, size: tuple[int, int], table: dict[str, float]
) -> dict[str, np.ndarray]:
  """What operators cost, [E, O] by cell, in proportion to their milliseconds.

  All together cost as many millions as they have multiply-adds, so that
  GOLD-NAS's lambda means what it does there.

  Args:
    spec: the search network.
    size: (H, W) of the images.
    table: of `table`.

  Raises:
    ValueError: it lacks an operator.
  """
  try:
    found = cost.edge_costs(spec, size, lambda *where: table[_key(*where)])
  except KeyError as error:
    raise ValueError(
      f"expected in {FILE} the milliseconds of {error.args[0]}; delete the run"
    ) from error
  whole = sum(array.sum() for array in found.values())
  flops = sum(array.sum() for array in cost.edge_flops(spec, size).values())
  scale = flops / _MEGA / whole
  return {name: scale * array for name, array in found.items()}
