"""Several processes, on one machine or many, that run as one.

All run the same program on the same configuration, each with devices of its
own, and only process 0 writes files. What could differ from process to process
(what is found on a disk, what is decided) is found by process 0 and told.
"""

from collections.abc import Callable
import json
import os
import re
import signal
import socket
import sys
import time
from types import FrameType
from typing import Any

import numpy as np

# A process of which nothing is heard for so long is lost, and ends the others.
HEARTBEAT = 30  # seconds
# So much later than process 0 others may start, or earlier.
WAIT = 300.0  # seconds


def check(
  distributed: bool,
  coordinator: str,
  processes: int | None,
  process_id: int | None,
) -> None:
  """Returns nothing if the flags say how the processes find one another.

  Args:
    distributed: whether there are several.
    coordinator: host:port of process 0, empty if the cluster tells it.
    processes: how many there are, None if the cluster tells it.
    process_id: which this is, from 0, None if the cluster tells it.

  Raises:
    ValueError: they do not.
  """
  missing = [not coordinator, processes is None, process_id is None]
  if all(missing):
    return
  if any(missing) or not distributed:
    raise ValueError(
      "expected --distributed with --coordinator, --processes and "
      "--process_id, all of them, or --distributed alone where Slurm, a TPU "
      "pod or another cluster tells them; some of these are missing"
    )
  found = re.fullmatch(r"([\w.-]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})", coordinator)
  if not found or not 0 < int(found[2]) < 65536:
    raise ValueError(
      "--coordinator: expected HOST:PORT of process 0, such as 10.0.0.1:9876, "
      f"got {coordinator!r}"
    )
  if not 0 <= process_id < processes:
    raise ValueError(
      "--process_id: expected 0 for the first to --processes - 1 for the last, "
      f"got {process_id} of {processes}"
    )


def connect(
  coordinator: str, processes: int | None, process_id: int | None
) -> None:
  """Returns once all processes are there; call it before JAX is used.

  From then on standard output is that of process 0 alone, and SIGTERM is heard
  by `Stop`.

  Args:
    coordinator, processes, process_id: as `check` takes them.

  Raises:
    ValueError: there is no cluster that JAX knows, and nothing is given; or
      process 0 does not answer.
    OSError: another program has the port of process 0.
  """
  import jax  # late: flags are checked without it

  if coordinator:
    _reach(coordinator, process_id == 0)
  try:
    jax.distributed.initialize(
      coordinator or None,
      processes,
      process_id,
      # What is given is the whole truth: Slurm's variables may be of the shell
      # that started the processes.
      cluster_detection_method="deactivate" if coordinator else None,
      heartbeat_timeout_seconds=HEARTBEAT,
    )
  except ValueError as error:
    raise ValueError(
      "--distributed: expected Slurm, a TPU pod or another cluster that JAX "
      "knows, found none; give --coordinator=HOST:PORT, --processes and "
      f"--process_id ({error})"
    ) from error
  if jax.process_index():
    sys.stdout = open(os.devnull, "w")
  _meet()


def _meet() -> None:
  """Returns once all devices have sent each other something.

  Gloo waits 30 seconds for the last one, the first time: where one process has
  compiled a step so much earlier than another it would give up.
  """
  import jax
  import jax.numpy as jnp
  from jax.sharding import Mesh, NamedSharding, PartitionSpec

  mesh = Mesh(np.asarray(jax.devices()), ("all",))
  split = NamedSharding(mesh, PartitionSpec("all"))
  ones = jax.make_array_from_callback(
    (mesh.size,), split, lambda part: np.ones(1, np.float32)
  )
  whole = NamedSharding(mesh, PartitionSpec())
  jax.jit(jnp.sum, out_shardings=whole)(ones).block_until_ready()


def _reach(coordinator: str, listens: bool) -> None:
  """Returns once the address of process 0 can be used.

  JAX ends the process, without a sentence, where it cannot listen or is not
  answered, and hears no signal until then.
  """
  host, _, port = coordinator.rpartition(":")
  if listens:
    with socket.socket() as probe:
      # As the coordinator does, so that a port just left is no obstacle.
      probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
      try:
        probe.bind(("", int(port)))
      except OSError as error:
        raise OSError(
          f"--coordinator: expected a free port on this machine, got {port}: "
          f"{error.strerror}; choose another one for all processes"
        ) from error
    return
  end = time.monotonic() + WAIT
  while True:
    try:
      socket.create_connection((host.strip("[]"), int(port)), 5).close()
      return
    except OSError as error:
      if time.monotonic() > end:
        raise ValueError(
          f"--coordinator: expected process 0 at {coordinator} within "
          f"{WAIT:g} s, got {error}; start it there, or correct the address"
        ) from error
    time.sleep(0.2)


def several() -> bool:
  """Whether this is one of several processes."""
  if "jax" not in sys.modules:  # it is not loaded for a mistake in a flag
    return False
  import jax

  # Asked first, because the number of processes starts the devices.
  return jax.distributed.is_initialized() and jax.process_count() > 1


def first(find: Callable[[], Any]) -> Any:
  """What process 0 finds, told to all; JSON types.

  All processes call it, in the same order.

  Args:
    find: called by process 0 alone.

  Raises:
    ValueError, OSError: as `find` did, on all processes.
  """
  if not several():
    return find()
  import jax

  told, own = {}, None
  if jax.process_index() == 0:
    try:
      told = {"found": find()}
    except (ValueError, OSError) as error:
      own = error
      told = {"error": str(error)}
  told = json.loads(_broadcast(json.dumps(told).encode()))
  if own:
    raise own
  if "error" in told:
    raise ValueError(told["error"])
  return told["found"]


def _broadcast(data: bytes) -> bytes:
  """The bytes of process 0."""
  from jax.experimental import multihost_utils

  size = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
  # Of few sizes, since each is a program.
  padded = np.zeros(1 << max(10, (size - 1).bit_length()), np.uint8)
  padded[: len(data)] = np.frombuffer(data, np.uint8)[: len(padded)]
  return bytes(multihost_utils.broadcast_one_to_all(padded)[:size])


class Stop:
  """Like `signals.Stop`, and all processes stop before the same step.

  SIGTERM to one of them is enough. JAX's own handler hears it, and its
  service agrees on the step; asking whether it is there costs no message.
  Ctrl-C is passed on as SIGTERM, once.
  """

  name = "SIGTERM"
  _asked = 0  # by all runs of this process

  def __init__(self) -> None:
    self._reached = False

  @property
  def requested(self) -> bool:
    """Whether to stop; all processes ask equally often."""
    from jax.experimental import multihost_utils

    if not self._reached:
      Stop._asked += 1
      self._reached = multihost_utils.reached_preemption_sync_point(
        Stop._asked
      )
    return self._reached

  def _pass_on(self, number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, self._previous)
    os.kill(os.getpid(), signal.SIGTERM)

  def __enter__(self) -> "Stop":
    self._previous = signal.signal(signal.SIGINT, self._pass_on)
    return self

  def __exit__(self, *exception: object) -> None:
    signal.signal(signal.SIGINT, self._previous)


def same(tree: Any) -> Any:
  """The arrays that process 0 has, on all processes."""
  if not several():
    return tree
  import jax
  from jax.experimental import multihost_utils

  return multihost_utils.broadcast_one_to_all(jax.device_get(tree))


def everywhere(flag: bool) -> bool:
  """Whether it is so on all processes, all of which call it."""
  if not several():
    return flag
  from jax.experimental import multihost_utils

  return bool(multihost_utils.process_allgather(np.int32(flag)).all())


def lost(error: Exception) -> str | None:
  """What to tell of an error in what the processes do together.

  None if it is of another kind. Where no error comes of it that a process has
  gone, JAX ends the others after `HEARTBEAT`, with a sentence of its own.
  """
  if not several():
    return None
  import jax

  # JAX raises ValueError too, where a number is read from a device.
  status = re.match("[A-Z_]{5,}: ", str(error))
  if not status and not isinstance(error, jax.errors.JaxRuntimeError):
    return None
  return (
    f"process {jax.process_index()} of {jax.process_count()} cannot go on with "
    f"the others: {str(error).splitlines()[0]}; if that speaks of a "
    "connection, another one has ended, and says why; start all of them "
    "again, and the run goes on from its last checkpoint"
  )


def leave(status: int) -> None:
  """Ends this process, if there are others, without waiting for them.

  They may be waiting for it, in a step that it will never do; that it has gone
  ends them too.
  """
  if not several():
    return
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)
