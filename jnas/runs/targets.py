"""Devices that programs are compiled for, whether they are there or not."""

from collections.abc import Mapping, Sequence
import importlib.util
import os
import re
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies

from jnas.runtime import machine


class Chip(NamedTuple):
  """A kind of device.

  Attributes:
    memory: bytes of its HBM.
    clock: cycles a second, None where that isn't public.
    bandwidth: bytes a second of its HBM, None where it isn't needed.
    rate: operations a second of its matrix units, None where it isn't needed.
  """

  memory: int
  clock: float | None = None
  bandwidth: float | None = None
  rate: float | None = None


# Memory, its bandwidth and the rate (of bfloat16, which products of float32 are
# made of, too) as cloud.google.com/tpu/docs has them. A clock follows from the
# rate and the units that JAX knows of (jax/_src/pallas/mosaic/tpu_info.py), 8,
# 4 and 8, each of which does 2 * 128 * 128 a cycle. For v6e such a quotient is
# no clock that a chip has.
TPUS: Mapping[str, Chip] = {
  "v4": Chip(32 * 2**30, 1.05e9, 1.228e12, 275e12),
  "v5e": Chip(16 * 2**30, 1.5e9, 0.819e12, 197e12),
  "v5p": Chip(95 * 2**30, 1.75e9, 2.765e12, 459e12),
  "v6e": Chip(32 * 2**30, None, 1.64e12, 918e12),
}
GPUS: Mapping[str, Chip] = {"h200": Chip(141 * 2**30, bandwidth=4.8e12)}
NAMES = (
  "cpu, here, h200, or a slice of TPUs as v4:2x2x1, v5e:1x1, v5e:2x2, "
  "v5p:2x2x1, v6e:2x2"
)
# What XLA asks of a GPU that it compiles for (stream_executor's
# device_description.proto), as an H200 with CUDA 12.8 and cuDNN 9.10 says it.
_H200 = """
gpu_device_info {
  name: "NVIDIA H200" cuda_compute_capability { major: 9 }
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  threads_per_warp: 32 threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  shared_memory_per_core: 233472 shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  l2_cache_size: 52428800 memory_bandwidth: 4800000000000
  device_memory_size: 151397597184
  driver_version: "13.0.0" runtime_version: "12.8.0"
  compile_time_toolkit_version: "12.8.0" dnn_version: "9.10.0"
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 12 minor: 8 }
device_description_str: "NVIDIA H200"
"""


class Target(NamedTuple):
  """What is compiled for.

  Attributes:
    name: as it was asked for.
    devices: or descriptions of them.
    chip: what is known of each, None if nothing is.
  """

  name: str
  devices: Sequence[jax.Device]
  chip: Chip | None = None

  @property
  def tpu(self) -> bool:
    """Whether it is a slice of TPUs."""
    return self.name.partition(":")[0] in TPUS


def find(name: str) -> Target:
  """The devices that a name stands for.

  Raises:
    ValueError: there are none, or their compiler is missing.
  """
  if name == "here":
    memory = machine.memory()
    return Target(name, jax.devices(), Chip(memory) if memory else None)
  if name == "cpu":
    return Target(name, jax.devices("cpu"))
  kind, _, shape = name.partition(":")
  if name in GPUS:
    return Target(name, _gpu(name), GPUS[name])
  if kind not in TPUS or not re.fullmatch(r"\d+(x\d+){1,2}", shape):
    raise ValueError(f"--target: expected {NAMES}; got {name!r}")
  _needs(name, "libtpu", "plan-tpu")
  # It neither asks the cloud for a TPU, nor minds another process like it.
  os.environ["TPU_SKIP_MDS_QUERY"] = "1"
  os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
  # Else it complains that it cannot find these out.
  os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
  os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
  # A host has four chips, but where there is only one.
  alone = {"chips_per_host_bounds": (1, 1, 1)} if shape == "1x1" else {}
  return Target(name, _described(name, name, "tpu", **alone), TPUS[kind])


def _gpu(name: str) -> Sequence[jax.Device]:
  """One GPU, described."""
  _needs(name, "jax_plugins.xla_cuda12", "plan-gpu")
  # Its plugin, which is loaded with all others, wants to see a GPU otherwise.
  os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
  # Without a GPU the compiler ends at a check of its own over products that
  # it would give to Triton.
  flags = os.environ.get("XLA_FLAGS", "")
  os.environ["XLA_FLAGS"] = f"--xla_gpu_enable_triton_gemm=false {flags}"
  return _described(
    name, "", "cuda", topology="1x1x1", target_config=_H200
  )


def _needs(name: str, module: str, extra: str) -> None:
  """Raises ValueError if a compiler is not installed."""
  try:
    found = importlib.util.find_spec(module)
  except ModuleNotFoundError:  # of the package that it is in
    found = None
  if found is None:
    raise ValueError(
      f"--target: the compiler for {name} is missing; "
      f"pip install 'jnas[{extra}]' brings it"
    )


def _described(
  name: str, known_as: str, platform: str, **options: Any
) -> Sequence[jax.Device]:
  try:
    return topologies.get_topology_desc(known_as, platform, **options).devices
  except Exception as error:  # of many types, as the compiler has it
    told = str(error).partition("\n")[0]
    raise ValueError(
      f"--target: expected {NAMES}; got {name!r}: {told}"
    ) from error
