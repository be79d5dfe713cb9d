"""The summary of what `benchmarks/on_device.sh` has left in a folder.

  python -m benchmarks.on_device FOLDER

Writes FOLDER/summary.md, and prints it: what the device is, whether it agrees
with the definition, steps beside PyTorch's, and for each algorithm what
compiling and a step took, beside what `jnas plan` says of its programs.
"""

import json
import pathlib
import statistics
import sys
from typing import Any


def lines_of(path: pathlib.Path) -> list[dict[str, Any]]:
  """The records of a file of JSON lines; none if it isn't there."""
  if not path.exists():
    return []
  return [json.loads(line) for line in path.read_text().splitlines() if line]


def measured(run: pathlib.Path) -> dict[str, float]:
  """Seconds of a step (median) and of compiling, of a run; {} if none is."""
  records = lines_of(run / "metrics.jsonl")
  found = {}
  # The first ones after compiling fill queues and caches.
  times = [r["step_seconds"] for r in records if "step_seconds" in r][1:]
  if times:
    found["step"] = statistics.median(times)
  compiling = [r["compile_seconds"] for r in records if "compile_seconds" in r]
  if compiling:
    found["compile"] = compiling[-1]
  return found


def planned(path: pathlib.Path) -> dict[str, float]:
  """What a plan says of the step that takes longest, as far as it does."""
  try:
    programs = json.loads(path.read_text())["programs"]
  except (OSError, ValueError, KeyError):
    return {}
  steps = [p for p in programs if p.get("of_run") and "total" in p]
  if not steps:
    return {}
  found = {"memory": max(p["total"] for p in steps) / 2**20}
  if times := [p["step_seconds"] for p in steps if p["step_seconds"]]:
    found["step"] = max(times)
  return found


def row(name: str, folder: pathlib.Path) -> str:
  """The row of an algorithm; what isn't known is left empty."""
  run, plan = (
    measured(folder / "short" / name),
    planned(folder / f"plan_{name}.txt"),
  )

  def cell(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)

  ratio = None
  if "step" in run and "step" in plan:
    ratio = run["step"] / plan["step"]
  cells = (
    name,
    cell(run.get("compile"), ".1f"),
    cell(run.get("step"), ".4f"),
    cell(plan.get("step"), ".4f"),
    cell(ratio, ".2f"),
    cell(plan.get("memory"), ".0f"),
  )
  return f"| {' | '.join(cells)} |"


def summary(folder: pathlib.Path) -> str:
  """The page, in Markdown."""
  out = ["# On this device", ""]
  for name in ("device", "agreement", "steps"):
    path = folder / f"{name}.txt"
    text = path.read_text().rstrip() if path.exists() else "not run"
    out += [f"## {name}", "", "```", text, "```", ""]
  out += [
    "## Algorithms",
    "",
    "| algorithm | compiling, s | step, s | planned, s | ratio | planned MiB |",
    "| --- | --- | --- | --- | --- | --- |",
  ]
  names = sorted(p.stem[6:] for p in folder.glob("short_*.txt"))
  out += [row(name, folder) for name in names]
  out += ["", "## Searches", ""]
  for path in sorted(folder.glob("search/*")):
    records = lines_of(path / "metrics.jsonl")
    epochs = [r for r in records if r["kind"] == "epoch"]
    done = f"{epochs[-1]['epoch']:.1f} epochs" if epochs else "no epoch"
    ended = "finished" if (path / "result.json").exists() else "cut short"
    out.append(f"- {path.name}: {done}, {ended}, [report]"
               f"(search/{path.name}/report.html)")
  return "\n".join(out) + "\n"


def main() -> int:
  """Returns the exit status."""
  if len(sys.argv) != 2 or not pathlib.Path(sys.argv[1]).is_dir():
    print(f"expected the folder of a run of on_device.sh, got {sys.argv[1:]}",
          file=sys.stderr)
    return 2
  folder = pathlib.Path(sys.argv[1])
  text = summary(folder)
  (folder / "summary.md").write_text(text)
  print(text, end="")
  return 0


if __name__ == "__main__":
  sys.exit(main())
