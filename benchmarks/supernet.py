"""How fast the supernet is, how light, and how fast it compiles.

  python -m benchmarks.supernet
  python -m benchmarks.supernet --batch 16 64 --kind first_order amended \
      amended_difference gradient --out supernet.json

Prints a row for each combination of the options, and ratios to the same search
step in plain PyTorch (`pip install 'jnas[bench]'`; without it there are no
ratios), on the same machine in the same run: every program has a process of
its own, all are built first, and then they take turns, a few steps each. With
`--against CHECKOUT` the same programs of another checkout of this repository
take turns with them: the way to see whether a change is faster. Memory is the
peak of the whole process, libraries included.
"""

import argparse
import importlib.util
import itertools
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
from typing import Any

KINDS = (
  *("first_order", "unrolled", "amended", "implicit_cg"),
  *("unrolled_difference", "amended_difference", "gradient"),
)


class Program:
  """A process of `benchmarks.programs`."""

  def __init__(self, variant: dict[str, Any]):
    self.variant = variant
    self.process = subprocess.Popen(
      [sys.executable, "-m", "benchmarks.programs", json.dumps(variant)],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      cwd=variant.get("checkout"),
    )
    self.about = self._read()
    self.seconds: list[float] = []
    self.peak_mb = 0.0

  def _read(self) -> dict[str, Any]:
    line = self.process.stdout.readline()
    if not line:
      raise RuntimeError(f"the program of {self.variant} ended; see above")
    return json.loads(line)

  def step(self, count: int, keep: bool = True) -> None:
    """Does so many steps, and keeps their times."""
    self.process.stdin.write(f"{count}\n")
    self.process.stdin.flush()
    result = self._read()
    if keep:
      self.seconds += result["seconds"]
    self.peak_mb = result["peak_mb"]

  def close(self) -> None:
    """Ends the process."""
    self.process.stdin.close()
    self.process.wait()

  def record(self) -> dict[str, Any]:
    """All that was measured."""
    times = sorted(self.seconds)
    steps = self.variant.get("steps_per_dispatch", 1)
    median = statistics.median(times) / steps
    return self.variant | self.about | {
      "step_s": median,
      "fastest_s": times[0] / steps,
      "slowest_s": times[-1] / steps,
      "images_per_s": self.variant["batch"] / median,
      "peak_mb": self.peak_mb,
    }


def variants(options: argparse.Namespace) -> list[dict[str, Any]]:
  """What to measure, PyTorch first for each combination."""
  chosen = []
  axes = (options.space, options.cells, options.width, options.batch)
  for space, cells, width, batch in itertools.product(*axes):
    for dtype in options.dtype:
      shared = dict(
        space=space, cells=cells, width=width, batch=batch, dtype=dtype
      )
      for mode in options.torch if importlib.util.find_spec("torch") else ():
        layout, _, compiled = mode.partition("+")
        chosen.append(
          shared
          | dict(library="torch", layout=layout, compiled=bool(compiled),
                 kind="first_order")
        )
      for kind in options.kind:
        chosen.append(
          shared
          | dict(
            library="jax",
            kind=kind,
            part="gradient" if kind == "gradient" else options.part,
            remat=options.remat,
            independent=options.independent,
            steps_per_dispatch=options.steps_per_dispatch,
          )
        )
        if options.against:
          chosen.append(chosen[-1] | dict(checkout=str(options.against)))
  return chosen


def label(row: dict[str, Any]) -> str:
  """The name of a program in the table."""
  if row["library"] == "torch":
    name = f"torch {row['layout']}{' compiled' if row['compiled'] else ''}"
  else:
    name = f"jnas {row['kind']}{' remat' if row['remat'] else ''}"
    name += " against" if "checkout" in row else ""
  size = f"{row['space']} C{row['width']} L{row['cells']} N{row['batch']}"
  return f"{size} {row['dtype']}", name


def table(rows: list[dict[str, Any]], ceilings: dict[str, float]) -> str:
  """The rows as text, with ratios to the first PyTorch row of their size."""
  head = (
    f"{'size':28}{'program':34}{'trace':>7}{'compile':>8}{'lines':>8}"
    f"{'step s':>8}{'spread':>15}{'img/s':>7}{'temp MB':>8}{'peak MB':>8}"
    f"{'GF/s':>6}{'of max':>7}{'GB/s':>6}{'of max':>7}{'time':>6}{'mem':>6}"
  )
  lines = [head]
  base: dict[str, dict[str, Any]] = {}
  for row in rows:
    size, name = label(row)
    if row["library"] == "torch":
      base.setdefault(size, row)
    ratio = memory = ""
    if size in base and row["kind"] != "gradient":
      ratio = f"{row['step_s'] / base[size]['step_s']:.2f}"
      memory = f"{row['peak_mb'] / base[size]['peak_mb']:.2f}"
    rate = row.get("gflop", 0) / row["step_s"]
    moved = row.get("gbyte", 0) / row["step_s"]
    spread = f"{row['fastest_s']:.3f}-{row['slowest_s']:.3f}"
    lines.append(
      f"{size:28}{name:34}{row.get('trace_s', 0):7.1f}"
      f"{row.get('compile_s', 0):8.1f}{row.get('lines', 0):8d}"
      f"{row['step_s']:8.3f}{spread:>15}{row['images_per_s']:7.0f}"
      f"{row.get('temporaries_mb', 0):8.0f}{row['peak_mb']:8.0f}"
      f"{rate:6.0f}{rate / 1e3 / ceilings['tflops']:7.1%}"
      f"{moved:6.1f}{moved / ceilings['gbytes_per_s']:7.1%}"
      f"{ratio:>6}{memory:>6}"
    )
  return "\n".join(lines)


def main() -> None:
  """Measures what the command line asks for."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add("--space", nargs="+", default=["s1"], choices=("s1", "s3"))
  add("--cells", nargs="+", type=int, default=[8])
  add("--width", nargs="+", type=int, default=[16])
  add("--batch", nargs="+", type=int, default=[16])
  add("--kind", nargs="+", default=["first_order"], choices=KINDS)
  add("--part", default="step", choices=("step", "gradient"),
      help="the whole search step, or its hypergradient alone")
  add("--dtype", nargs="+", default=["float32"],
      choices=("float32", "bfloat16"))
  add("--torch", nargs="*", default=["contiguous"],
      help="contiguous, channels_last, contiguous+compiled, ...")
  add("--remat", action="store_true")
  add("--independent", action="store_true", help="no shared cells")
  add("--steps_per_dispatch", type=int, default=1)
  add("--rounds", type=int, default=3)
  add("--steps", type=int, default=2, help="of each program in a round")
  add("--against", type=pathlib.Path, help="another checkout to compare with")
  add("--out", type=pathlib.Path, help="also write JSON here")
  options = parser.parse_args()
  if options.against and not (options.against / "benchmarks").is_dir():
    parser.error(f"--against: {options.against} is no checkout of jnas")

  ceiling = Program({"library": "ceilings", "dtype": options.dtype[0]})
  ceilings = ceiling.about
  ceiling.close()
  programs = []
  for variant in variants(options):
    programs.append(Program(variant))
    programs[-1].step(1, keep=False)
    print(f"built {label(variant)}", file=sys.stderr)
  for _ in range(options.rounds):
    for program in programs:
      program.step(options.steps)
  for program in programs:
    program.close()
  rows = [program.record() for program in programs]
  print(table(rows, ceilings))
  print(
    f"ceilings: {ceilings['tflops']:.3f} TFLOP/s in a matrix product, "
    f"{ceilings['gbytes_per_s']:.1f} GB/s in a copy"
  )
  if options.out:
    machine = {"cpu": platform.processor(), "cores": os.cpu_count()}
    options.out.write_text(
      json.dumps(
        {"machine": machine, "ceilings": ceilings, "rows": rows}, indent=2
      )
    )


if __name__ == "__main__":
  main()
