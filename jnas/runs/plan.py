"""What the programs of a run need on devices that need not be there.

  python -m jnas.runs.plan --config=configs/darts.py:quick --target=v5e:2x2

The target is a slice of TPUs, as v4:2x2x1, v5e:1x1, v5p:2x2x1 or v6e:2x2, or
one GPU, h200, which its own compiler compiles for; `cpu`; or `here`, all
devices of this machine. Nothing is trained. Any field is set by
--config.GROUP.FIELD=VALUE. Memory is that of one chip, in MiB; the time of a
step is an estimate.
"""

from collections.abc import Mapping, Sequence
import json
import sys
import time
from typing import Any

import jax
import ml_collections

from jnas import config as config_lib
from jnas.report import parts
from jnas.runs import command, programs, targets
from jnas.runtime import compiled

_MIB = 2**20
_LANES = 128  # of the vectors of a TPU
_LAUNCH = 3e-6  # seconds that starting a kernel of a GPU takes, about


def main(arguments: Sequence[str] | None = None) -> int:
  """Returns the exit status of the command line."""
  parser = command.parser("plan", __doc__)
  parser.add_argument("--config", required=True, help="PATH.py[:argument]")
  parser.add_argument("--target", default="here", help=targets.NAMES)
  parser.add_argument("--json", action="store_true", help="one object instead")
  options, fields = parser.parse_known_args(arguments)
  try:
    if odd := [f for f in fields if not f.startswith("--config.")]:
      raise ValueError(
        f"expected fields as --config.GROUP.FIELD=VALUE, got {odd[0]}"
      )
    config = config_lib.load(options.config, fields)
    found = plan(config, targets.find(options.target))
  except (ValueError, OSError) as error:
    print(f"plan: {error}", file=sys.stderr)
    return 2
  print(json.dumps(found) if options.json else "\n".join(_table(found)))
  return 0


def plan(
  config: ml_collections.ConfigDict, to: targets.Target
) -> dict[str, Any]:
  """What --json prints: each program that the run needs, compiled.

  Args:
    config: of a search or a retraining.
    to: what is compiled for.
  """
  needed = programs.of(config, to.devices)
  each = [compile_program(program, to) for program in needed.each]
  return {
    "target": to.name,
    "chips": needed.mesh.size,
    "memory": to.chip and to.chip.memory,
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


def _advice(needed: programs.Programs, to: targets.Target) -> list[str]:
  """What wastes the devices."""
  local = needed.batch // needed.mesh.size
  full = -(-local // _LANES) * _LANES
  if to.tpu and needed.images and full != local:
    return [
      f"a chip has {local} examples a step; features of narrow networks have "
      f"the batch in {_LANES} lanes, so that {full} would cost about as much"
    ]
  return []


def compile_program(
  program: programs.Program, to: targets.Target
) -> dict[str, Any]:
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
  fits = None if to.chip is None else total <= to.chip.memory
  return told | {
    "compile_seconds": seconds,
    "compile_cpu_seconds": time.process_time() - spent,
    **needed,
    "total": total,
    "fits": fits,
    "step_cycles": cycles,
    "kernels": work.kernels / each,
    "moved_bytes": work.moved_bytes / each,
    "step_seconds": _step_seconds(work, to.chip, each),
    "floor_seconds": _floor_seconds(program.floor, to.chip),
    "collectives": work.collectives / each,
    "collective_bytes": work.collective_bytes / each,
    "unknown_loops": work.unknown_loops,
  }


def _step_seconds(
  work: compiled.Work, chip: targets.Chip | None, steps: int
) -> float | None:
  """An estimate of a step's time, None where there is nothing to go by."""
  if chip is None:
    return None
  if chip.clock and work.cycles:
    return work.cycles / chip.clock / steps
  if chip.bandwidth and not work.cycles:
    moving = work.moved_bytes / chip.bandwidth
    return (moving + work.kernels * _LAUNCH) / steps
  return None


def _floor_seconds(
  floor: tuple[int, int] | None, chip: targets.Chip | None
) -> float | None:
  """Seconds below which no step can be, None where that isn't known."""
  if floor is None or chip is None or not (chip.rate and chip.bandwidth):
    return None
  operations, moved_bytes = floor
  return max(operations / chip.rate, moved_bytes / chip.bandwidth)


def _table(found: Mapping[str, Any]) -> list[str]:
  """Lines for people."""
  memory = found["memory"]
  has = f" of {memory / 2**30:,.1f} GiB" if memory else ""
  lines = [f"{found['target']}: {found['chips']} chips or devices{has}"]
  if found["seconds"]:
    lines.append(
      f"{found['steps']:,} steps in {parts.duration(found['seconds'])} by "
      "the estimates below, without evaluations and compiling"
    )
  for each in found["programs"]:
    lines += ["", each["name"]]
    if "error" in each:
      lines.append(f"  does not fit: {each['error']}")
      continue
    shares = "arguments", "temporaries", "outputs", "aliased", "code"
    told = ", ".join(f"{each[p] / _MIB:,.1f} {p}" for p in shares)
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
  loops, floor = program["unknown_loops"], program.get("floor_seconds")
  unknown = f"; {loops} loops of unknown length count once" if loops else ""
  if floor and seconds:
    unknown += (
      f"; {seconds / floor:,.1f} times the {1000 * floor:,.2f} ms that "
      "arithmetic or what must be read and written would take alone"
    )
  if seconds and not cycles:
    return (
      f"{1000 * seconds:,.2f} ms a step, an estimate from "
      f"{program['kernels']:,.0f} kernels and "
      f"{program['moved_bytes'] / 2**30:,.2f} GiB that they read and write"
      f"{unknown}"
    )
  if not cycles:
    return "unknown: this compiler estimates none"
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
