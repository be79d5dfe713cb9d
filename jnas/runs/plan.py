"""What the programs of a run need on devices that need not be there.

  python -m jnas.runs.plan --config=configs/darts.py:quick --target=v5e:2x2

The target is a slice of TPUs, as v4:2x2x1, v5e:2x2, v5p:2x2x1 or v6e:2x2, which
its own compiler compiles for; `cpu`; or `here`, all devices of this machine.
Nothing is trained. Any field is set by --config.GROUP.FIELD=VALUE. Memory is
that of one chip, in MiB; the time of a step is an estimate of the compiler's.
"""

import argparse
from collections.abc import Mapping, Sequence
import importlib.util
import json
import os
import re
import sys
import time
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies
import ml_collections

from jnas import config as config_lib
from jnas.runs import programs
from jnas.runtime import compiled, machine

_MIB = 2**20
_LANES = 128  # of the vectors of a TPU


class Chip(NamedTuple):
  """A kind of TPU.

  Attributes:
    memory: bytes of its HBM.
    clock: cycles a second, None where that isn't public.
  """

  memory: int
  clock: float | None


# Memory as cloud.google.com/tpu/docs has it. A clock follows from the peak rate
# there, 275e12, 197e12 and 459e12 operations a second, and the units that JAX
# knows of (jax/_src/pallas/mosaic/tpu_info.py), 8, 4 and 8, each of which does
# 2 * 128 * 128 a cycle. For v6e such a quotient is no clock that a chip has.
CHIPS: Mapping[str, Chip] = {
  "v4": Chip(32 * 2**30, 1.05e9),
  "v5e": Chip(16 * 2**30, 1.5e9),
  "v5p": Chip(95 * 2**30, 1.75e9),
  "v6e": Chip(32 * 2**30, None),
}
_TARGETS = (
  "cpu, here, or a slice of TPUs as v4:2x2x1, v5e:2x2, v5p:2x2x1, v6e:2x2"
)


class Target(NamedTuple):
  """What is compiled for.

  Attributes:
    name: as it was asked for.
    devices: or descriptions of them.
    memory: bytes of one, if known.
    clock: cycles a second, if known.
  """

  name: str
  devices: Sequence[jax.Device]
  memory: int | None
  clock: float | None = None

  @property
  def kind(self) -> str:
    """The name without the shape."""
    return self.name.partition(":")[0]


def main(arguments: Sequence[str] | None = None) -> int:
  """Returns the exit status of the command line."""
  parser = argparse.ArgumentParser(
    prog="plan",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  parser.add_argument("--config", required=True, help="PATH.py[:argument]")
  parser.add_argument("--target", default="here", help=_TARGETS)
  parser.add_argument("--json", action="store_true", help="one object instead")
  options, fields = parser.parse_known_args(arguments)
  try:
    if odd := [f for f in fields if not f.startswith("--config.")]:
      raise ValueError(
        f"expected fields as --config.GROUP.FIELD=VALUE, got {odd[0]}"
      )
    config = config_lib.load(options.config, fields)
    found = plan(config, target(options.target))
  except (ValueError, OSError) as error:
    print(f"plan: {error}", file=sys.stderr)
    return 2
  print(json.dumps(found) if options.json else "\n".join(_table(found)))
  return 0


def target(name: str) -> Target:
  """The devices that a name stands for.

  Raises:
    ValueError: there are none, or their compiler is missing.
  """
  if name == "here":
    return Target(name, jax.devices(), machine.memory())
  if name == "cpu":
    return Target(name, jax.devices("cpu"), None)
  kind, _, shape = name.partition(":")
  if kind not in CHIPS or not re.fullmatch(r"\d+(x\d+){1,2}", shape):
    raise ValueError(
      f"--target: expected {_TARGETS}; got {name!r}; GPUs that are not here "
      "cannot be planned for yet"
    )
  if importlib.util.find_spec("libtpu") is None:
    raise ValueError(
      f"--target: the compiler for {name} is missing; "
      "pip install 'jnas[plan-tpu]' brings it"
    )
  # It neither asks the cloud for a TPU, nor minds another process like it.
  os.environ["TPU_SKIP_MDS_QUERY"] = "1"
  os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
  try:
    devices = topologies.get_topology_desc(name, "tpu").devices
  except Exception as error:  # of many types, as the compiler has it
    told = str(error).partition("\n")[0]
    raise ValueError(
      f"--target: expected {_TARGETS}; got {name!r}: {told}"
    ) from error
  return Target(name, devices, *CHIPS[kind])


def plan(config: ml_collections.ConfigDict, to: Target) -> dict[str, Any]:
  """What --json prints: each program that the run needs, compiled.

  Args:
    config: of a search or a retraining.
    to: what is compiled for.
  """
  needed = programs.of(config, to.devices)
  each = [_compile(program, to) for program in needed.each]
  return {
    "target": to.name,
    "chips": needed.mesh.size,
    "memory": to.memory,
    "batch": needed.batch,
    "steps": needed.steps,
    "seconds": _seconds(each),
    "programs": each,
    "left_out": list(needed.left_out),
    "advice": _advice(needed, to),
  }


def _seconds(each: Sequence[Mapping[str, Any]]) -> float | None:
  """Of all steps of the run, where all of their times are known."""
  steps = [p for p in each if p.get("of_run") != 0]
  parts = [
    p["of_run"] * p["step_seconds"]
    for p in steps
    if p.get("of_run") and p.get("step_seconds")
  ]
  known = [p for p in steps if p.get("of_run")]
  return sum(parts) if parts and len(parts) == len(known) else None


def _advice(needed: programs.Programs, to: Target) -> list[str]:
  """What wastes the devices."""
  local = needed.batch // needed.mesh.size
  full = -(-local // _LANES) * _LANES
  if to.kind in CHIPS and full != local:
    return [
      f"a chip has {local} examples a step; features of narrow networks have "
      f"the batch in {_LANES} lanes, so that {full} would cost about as much"
    ]
  return []


def _compile(program: programs.Program, to: Target) -> dict[str, Any]:
  """What compiling a program says, as it is printed with --json."""
  lowered = program.function.lower(*program.arguments)
  began, spent = time.perf_counter(), time.process_time()
  told = {
    "name": program.name, "steps": program.steps, "of_run": program.of_run
  }
  try:
    built = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    return told | {"fits": False, "error": str(error).partition("\n")[0]}
  seconds = time.perf_counter() - began
  memory, work = built.memory_analysis(), compiled.work(built.as_text())
  needed = {
    "arguments": memory.argument_size_in_bytes,
    "temporaries": memory.temp_size_in_bytes,
    "outputs": memory.output_size_in_bytes,
    "aliased": memory.alias_size_in_bytes,
    "code": memory.generated_code_size_in_bytes,
  }
  # What is aliased is in arguments and outputs both.
  total = sum(needed.values()) - 2 * needed["aliased"]
  each = program.steps
  cycles = work.cycles / each or None
  return told | {
    "compile_seconds": seconds,
    "compile_cpu_seconds": time.process_time() - spent,
    **needed,
    "total": total,
    "fits": None if to.memory is None else total <= to.memory,
    "step_cycles": cycles,
    "step_seconds": cycles / to.clock if cycles and to.clock else None,
    "collectives": work.collectives / each,
    "collective_bytes": work.collective_bytes / each,
    "unknown_loops": work.unknown_loops,
  }


def _table(found: Mapping[str, Any]) -> list[str]:
  """Lines for people."""
  memory = found["memory"]
  has = f" of {memory / 2**30:,.1f} GiB" if memory else ""
  lines = [f"{found['target']}: {found['chips']} chips or devices{has}"]
  if found["seconds"]:
    lines.append(
      f"{found['steps']:,} steps in {found['seconds'] / 3600:,.2f} hours by "
      "the estimates below, without evaluations and compiling"
    )
  for each in found["programs"]:
    lines += ["", each["name"]]
    if "error" in each:
      lines.append(f"  does not fit: {each['error']}")
      continue
    parts = "arguments", "temporaries", "outputs", "aliased", "code"
    told = ", ".join(f"{each[p] / _MIB:,.1f} {p}" for p in parts)
    fits = {True: "; fits", False: "; DOES NOT FIT", None: ""}[each["fits"]]
    lines += [
      f"  compiled in      {each['compile_seconds']:,.1f} s",
      f"  memory of a chip {each['total'] / _MIB:,.1f} MiB{fits} ({told})",
      f"  collectives      {each['collectives']:,.4g} a step, "
      f"{each['collective_bytes'] / _MIB:,.3g} MiB",
    ]
    lines.append(f"  time             {_duration(each)}")
  if found["left_out"]:
    lines += ["", f"left out: {'; '.join(found['left_out'])}"]
  return lines + ["", *found["advice"]] if found["advice"] else lines


def _duration(program: Mapping[str, Any]) -> str:
  """The time of a step, or why it isn't told."""
  cycles, seconds = program["step_cycles"], program["step_seconds"]
  if not cycles:
    return "unknown: this compiler estimates none"
  loops = program["unknown_loops"]
  unknown = f"; {loops} loops of unknown length count once" if loops else ""
  if seconds is None:
    return (
      f"unknown, as the chip's clock is; an estimate of {cycles:,.0f} cycles a "
      f"step{unknown}"
    )
  return (
    f"{1000 * seconds:,.2f} ms a step, an estimate from {cycles:,.0f} cycles"
    f"{unknown}"
  )


if __name__ == "__main__":
  sys.exit(main())
