"""What compiling searches for a TPU or a GPU takes, on a machine without one.

  pip install -e ".[plan-tpu]"  # and plan-gpu, in an environment of its own
  python -m benchmarks.compile_for                 # all programs, half a day
  python -m benchmarks.compile_for darts gdas      # some of them

Prints a row a program: processor seconds of its compiler, the most memory that
its process had, temporaries of a chip, the compiler's estimate of a step, how
many times that is what arithmetic or bytes alone would take, collectives of a
step and their bytes. Each is compiled in a process of its own,
for images of CIFAR's size and number, 128 a chip or as many as the paper has.
It is what `jnas plan` does for one config.
"""

import argparse
from collections.abc import Sequence
import json
import os
import signal
import subprocess
import sys
from typing import Any, NamedTuple

import numpy as np

_CHIP = 128


class Row(NamedTuple):
  """A program.

  Attributes:
    config: PATH.py[:argument].
    program: its name in `jnas plan`.
    chips: how many.
    target: the slice of TPUs that they are of.
    batch: examples a chip.
    fields: of the config, as NAME=VALUE.
  """

  config: str
  program: str = "full step"
  chips: int = 1
  target: str = "v5e:2x2"
  batch: int = _CHIP
  fields: Sequence[str] = ()


ROWS = {
  "small": Row("configs/darts.py:quick"),
  "darts": Row("configs/darts.py"),
  "bfloat16": Row("configs/darts.py", fields=("train.dtype=bfloat16",)),
  "pod": Row("configs/darts.py", chips=256, target="v5e:16x16", batch=64),
  "amended": Row("configs/amended_darts.py"),
  "gdas": Row("configs/gdas.py"),
  "pcdarts": Row("configs/pcdarts.py", batch=256),
  "entrannas": Row("configs/entrannas.py", batch=512),
  "entrannas12": Row("configs/entrannas.py:12ops", batch=512),
  "settled": Row("configs/entrannas.py", "settled step", batch=512),
  "settled12": Row("configs/entrannas.py:12ops", "settled step", batch=512),
  "pdarts": Row("configs/pdarts.py", "stage 3: full step", batch=96),
  "goldnas": Row("configs/gold_nas.py", batch=96),
  "retrain": Row("configs/retrain.py", "train step", batch=96),
  "h200": Row("configs/darts.py", target="h200", batch=64),
  "h200amended": Row("configs/amended_darts.py", target="h200", batch=64),
}


def images(path: str) -> dict[str, np.ndarray]:
  """Black images of CIFAR's size and number: data of one's own."""
  del path
  y = np.arange(50_000, dtype=np.int32) % 10
  x = np.zeros((len(y), 32, 32, 3), np.uint8)
  return dict(train_x=x, train_y=y, test_x=x[:10], test_y=y[:10])


def compile_row(row: Row) -> dict[str, Any]:
  """What `jnas plan` says of a program, in this process.

  Raises:
    ValueError: there is none of that name.
  """
  from jnas import config as config_lib
  from jnas.runs import plan, programs, targets

  fields = (
    "data.name=benchmarks.compile_for:images",
    f"train.batch={row.batch * row.chips}",
    *row.fields,
  )
  config = config_lib.load(row.config, [f"--config.{f}" for f in fields])
  to = targets.find(row.target)
  found = programs.of(config, to.devices[: row.chips])
  named = {each.name: each for each in found.each}
  if row.program not in named:
    raise ValueError(f"expected one of {', '.join(named)}, got {row.program}")
  return plan.compile_program(named[row.program], to)


def _measured(name: str, limit: int) -> dict[str, Any]:
  """`compile_row` in a process of its own, with what it took.

  Args:
    name: of the row.
    limit: seconds of processor time that it may take.
  """
  words = [sys.executable, "-m", "benchmarks.compile_for", "--here", name]
  limited = ["sh", "-c", f'ulimit -t {limit}; exec "$@"', "sh", *words]
  # The plugin with the compiler for GPUs is loaded unless others are named.
  platforms = "cpu" if ":" in ROWS[name].target else ""
  child = subprocess.Popen(
    limited,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env=os.environ | {"JAX_PLATFORMS": platforms},
  )
  told, errors = child.communicate()
  if child.returncode:
    why = errors.strip().rpartition("\n")[2]
    if -child.returncode in (signal.SIGXCPU, signal.SIGKILL):
      why = f"not compiled in {limit} s"
    return {"name": name, "error": why}
  return json.loads(told.strip().rpartition("\n")[2])


def _line(name: str, found: dict[str, Any]) -> str:
  if "error" in found:
    return f"| {name} | {found['error']} |"
  cycles, kernels = found["step_cycles"], found["kernels"]
  floor, seconds = found.get("floor_seconds"), found["step_seconds"]
  parts = (
    name,
    f"{found['compile_cpu_seconds']:,.0f}",
    f"{found['peak_mb'] / 1000:,.1f}",
    f"{found['temporaries'] / 1e6:,.0f}",
    f"{cycles / 1e6:,.1f}" if cycles else f"{kernels:,.0f} kernels",
    f"{seconds / floor:.1f}" if floor and seconds else "",
    f"{found['collectives']:.3g}, {found['collective_bytes'] / 1e6:,.2f}",
  )
  return f"| {' | '.join(parts)} |"


def main() -> int:
  """Prints the table."""
  parser = argparse.ArgumentParser(
    prog="compile_for",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    "row", nargs="*", help=f"of {', '.join(ROWS)}; all by default"
  )
  parser.add_argument("--limit", type=int, default=3600, metavar="SECONDS",
                      help="of processor time a program")
  parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
  options = parser.parse_args()
  for name in options.row:
    if name not in ROWS:
      parser.error(f"expected rows of {', '.join(ROWS)}; got {name!r}")
  if options.here:
    import resource

    (name,) = options.row
    found = compile_row(ROWS[name])
    # In KiB on Linux.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(json.dumps(found | {"peak_mb": peak}))
    return 0
  print("| program | cpu s | host GB | temporaries MB | million cycles a step |"
        " of the floor | collectives a step, MB |")
  print("| --- | --- | --- | --- | --- | --- | --- |")
  for name in options.row or ROWS:
    print(_line(name, _measured(name, options.limit)), flush=True)
  return 0


if __name__ == "__main__":
  sys.exit(main())
