"""The report on a run, or the comparison of several, as one HTML file.

  python -m jnas.runs.report DIR [DIR ...] [--out FILE]

The file needs nothing but itself: no network, no other file.
"""

import argparse
from collections.abc import Sequence
import sys

from jnas.report.pages import write


def main(arguments: Sequence[str] | None = None) -> int:
  """Returns the exit status of the command line."""
  parser = argparse.ArgumentParser(
    prog="python -m jnas.runs.report",
    description="Writes the report on a run, or a comparison of several.",
  )
  parser.add_argument("dirs", nargs="+", metavar="DIR", help="workdir of a run")
  parser.add_argument(
    "--out", metavar="FILE", help="default: DIR/report.html, comparison.html"
  )
  options = parser.parse_args(arguments)
  try:
    path = str(write(options.dirs, options.out))
    print(path.encode("utf-8", "replace").decode())
  except (ValueError, OSError) as error:
    print(f"report: {error}", file=sys.stderr)
    return 2
  return 0


if __name__ == "__main__":
  sys.exit(main())
