"""What a run ran on.

The result goes into reports that people share: no host name, no user name and
no folder of this machine is in it.
"""

import os
import platform
import re
import shlex
import sys
from typing import Any

import jax

import jnas

# A folder of an absolute path, where an argument or a value in it begins.
_FOLDER = re.compile(
  r"(^|(?<=[=:,'\"(\[\s]))(file://)?(~[^/]*)?/+([^/\s:,]+/+(?=[^/\s:,'\")\]]))*"
)


def command() -> str:
  """Returns the command line, absolute paths reduced to their last part."""
  main = sys.modules.get("__main__")
  spec = getattr(main, "__spec__", None)
  program = sys.argv[0] if sys.argv else ""
  if spec is not None:
    # Run as `python -m`, where argv[0] is a path into the installation.
    words = ["-m", spec.name.removesuffix(".__main__")]
  else:
    words = [program]
  if spec is not None or program.endswith(".py"):
    words = [os.path.basename(sys.executable or "python"), *words]
  return shlex.join(_FOLDER.sub("", word) for word in words + sys.argv[1:])


def _cpu() -> str:
  try:
    with open("/proc/cpuinfo") as file:
      for line in file:
        if line.startswith("model name"):
          return line.partition(":")[2].strip()
  except OSError:
    pass  # not Linux
  return platform.processor() or platform.machine() or "unknown"


def _cores() -> int:
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))  # what this process may use
  return os.cpu_count() or 1


def memory() -> int | None:
  """Returns the bytes that one device may use; None where it doesn't tell.

  On CPU devices share what the machine has. JNAS_MEMORY, in GiB, says it where
  it is known better.

  Raises:
    ValueError: JNAS_MEMORY is no number.
  """
  given = os.environ.get("JNAS_MEMORY")
  if given:
    try:
      return int(float(given) * 2**30)
    except (ValueError, OverflowError):
      raise ValueError(
        f"JNAS_MEMORY: expected GiB of a device, as in 16, got {given[:60]!r}"
      ) from None
  device = jax.local_devices()[0]
  if device.platform != "cpu":
    return (device.memory_stats() or {}).get("bytes_limit")
  try:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
  except (AttributeError, OSError, ValueError):
    return None  # not POSIX
  return total // jax.local_device_count()


def describe() -> dict[str, Any]:
  """Returns the machine and the versions, in types that JSON has."""
  device = jax.devices()[0]
  return {
    "command": command(),
    "jnas": jnas.__version__,
    "python": platform.python_version(),
    "jax": jax.__version__,
    "platform": device.platform,
    "device": device.device_kind,
    "device_count": jax.device_count(),
    "cpu": _cpu(),
    "cores": _cores(),
  }
