"""Whether memory stays flat: over many steps, and over networks built anew.

  python -m benchmarks.long_run steps --count=20000
  python -m benchmarks.long_run networks --count=50

steps     a small first-order search on digits; memory at tenths of the way
networks  GOLD-NAS on digits, one seed after the other in one process, each
          pruned and built anew a few times; memory as networks are built

Memory is the resident set of the process, in MiB, read from outside; on CPU
that of devices is a part of it. The last line is the growth over the second
half.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from jnas.runs import watch

_SMALL = "space.cells=3 space.width=4 space.nodes=1 data.limit=64"


def _flags(what: str, count: int) -> list[str]:
  """The config and fields of a run."""
  if what == "steps":
    return (
      f"darts.py:quick {_SMALL} train.batch=16 train.length={count}steps "
      "log.every=10steps log.save=100steps log.evaluate=500steps"
    ).split()
  fields = (
    f"{_SMALL} data.share=1.0 train.batch=16 train.length=6epochs gold.mu=1.0 "
    "gold.n0=2 gold.lambda0=200.0 gold.t0=0 gold.flops_min=0.001 "
    "gold.rebuild=0.05"
  )
  search = f"configs/gold_nas.py:quick {fields}"
  return [
    "compare.py:quick",
    f"compare.configs=({search!r},)",
    f"compare.seeds={count}",
  ]


def _reached(what: str, workdir: pathlib.Path) -> int:
  """Steps done, or networks built."""
  if what == "steps":
    line = watch.last_lines(workdir / "metrics.jsonl").get("step", {})
    return line.get("step", 0)
  networks = 0
  for path in workdir.glob("*/seed*/metrics.jsonl"):
    lines = map(json.loads, path.read_text().splitlines()[:-1])
    built = {line.get("built_flops") for line in lines}
    networks += len(built - {None})
  return networks


def _memory(process: subprocess.Popen) -> float:
  """MiB of a process."""
  pages = int(pathlib.Path(f"/proc/{process.pid}/statm").read_text().split()[1])
  return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> int:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("what", choices=["steps", "networks"])
  parser.add_argument("--count", type=int, required=True)
  options = parser.parse_args()
  config, *fields = _flags(options.what, options.count)
  seen: dict[int, float] = {}
  with tempfile.TemporaryDirectory() as folder:
    workdir = pathlib.Path(folder) / "run"
    process = subprocess.Popen(
      [
        *(sys.executable, "-m", "jnas.main", f"--config=configs/{config}"),
        *(f"--config.{field}" for field in fields),
        *("--compile_cache=", f"--workdir={workdir}"),
      ],
      stdout=subprocess.DEVNULL,
    )
    try:
      while process.poll() is None and max(seen, default=0) < options.count:
        time.sleep(0.5)
        at = _reached(options.what, workdir)
        tenth = at * 10 // options.count
        if at and tenth not in [one * 10 // options.count for one in seen]:
          seen[at] = _memory(process)
          print(f"{at:>8} {options.what}: {seen[at]:7.1f} MiB", flush=True)
    finally:
      process.kill()
  if not seen:
    return 1
  *_, last = seen
  half = next(at for at in seen if at >= last / 2)
  print(f"grown by {seen[last] / seen[half] - 1:.1%} from {half} to {last}")
  return 0


if __name__ == "__main__":
  sys.exit(main())
