"""The report on a run, or the comparison of several, as one HTML file.

  python -m jnas.runs.report DIR [DIR ...] [--out FILE]

The file needs nothing but itself: no script, no network, no other file.
"""

import argparse
from collections.abc import Sequence
import html
import json
import os
import pathlib
import statistics
import sys

from jnas.runs import (
  comparison,
  draw,
  findings,
  page,
  records,
  scatter,
  sections,
  topology,
)

_CHARTS = (  # metric, heading, format, logarithmic
  ("train_loss", "Training loss", "{:.3g}", False),
  ("valid_loss", "Validation loss", "{:.3g}", False),
  ("train_accuracy", "Training accuracy", sections.PERCENT, False),
  ("valid_accuracy", "Validation accuracy", sections.PERCENT, False),
  ("test_accuracy", "Test accuracy", sections.PERCENT, False),
  ("child_accuracy", "Accuracy through derived paths", sections.PERCENT, False),
  ("true_accuracy", "True accuracy", sections.PERCENT, False),
  ("skip_share", "Share of skip connections", sections.PERCENT, False),
  ("none_weight", "Mean weight of none", "{:.3f}", False),
  ("second_order_norm", "Norm of the second-order term", "{:.2g}", True),
)


def write(
  dirs: Sequence[str | os.PathLike[str]],
  out: str | os.PathLike[str] | None = None,
) -> pathlib.Path:
  """Returns the path of the report written on the runs in `dirs`.

  One run is reported to DIR/report.html, several are compared in
  ./comparison.html, unless `out` says otherwise. Missing or half-written files
  are named in the report. Raises ValueError if a directory is no run.
  """
  runs = [records.read(path) for path in dirs]
  if not runs:
    raise ValueError("Expected at least one run, got none; give its workdir.")
  if len(runs) == 1 and runs[0].task == "compare":
    target = pathlib.Path(out or runs[0].path / "report.html")
    text = comparison.document(runs[0].path, target.parent)
  elif len(runs) == 1:
    target = pathlib.Path(out or runs[0].path / "report.html")
    text = _single(runs[0])
  else:
    target = pathlib.Path(out or "comparison.html")
    text = _comparison(runs)
  target.parent.mkdir(parents=True, exist_ok=True)
  # Written aside first: a reader never finds half a page.
  partial = target.with_name(target.name + ".partial")
  # Names of files may hold bytes that are no text.
  partial.write_text(text, encoding="utf-8", errors="replace")
  os.replace(partial, target)
  return target


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


def _single(run: records.Run) -> str:
  body = [
    sections.warning(run),
    sections.missing(run),
    page.tiles(sections.facts_of(run)),
  ]
  if run.task != "retrain":
    body.append(topology.pareto_section(run))
  body += [
    findings.genotype_section(run),
    findings.cells_section(run),
    sections.learning_section(run),
  ]
  if run.task != "retrain":
    body += [
      topology.pruning_section(run),
      topology.transit_section(run),
      sections.collapse_section(run),
      findings.truth_section(run),
      findings.skips_section(run),
      findings.weights_section(run),
      sections.terms_section(run),
    ]
  body += [sections.timing_section(run), sections.config_section(run)]
  line = [run.name, records.started(run)]
  return page.document(
    sections.headline(run), " · ".join(filter(None, line)), body
  )


def _comparison(runs: Sequence[records.Run]) -> str:
  colours = page.colours(len(runs))
  names = [run.name for run in runs]
  if len(set(names)) < len(names):
    names = [str(run.path) for run in runs]
  facts = [dict(sections.facts_of(run)) for run in runs]
  # A search has no test accuracy; where one is known, it comes first.
  columns = list(dict.fromkeys(name for fact in facts for name in fact))
  columns.sort(key="test accuracy".__ne__)
  heads = ["run", "algorithm", "data", *columns]
  rows = [
    [
      name,
      sections.algorithm(run),
      sections.data(run),
      *(fact.get(c, "–") for c in columns),
    ]
    for name, run, fact in zip(names, runs, facts, strict=True)
  ]
  missing = [
    f"{name}: {note}"
    for name, run in zip(names, runs, strict=True)
    for note in run.notes
  ]
  figures = []
  for metric, title, form, log in _CHARTS:
    special = {"skip_share": records.skip_shares}
    special["none_weight"] = records.none_weights
    curves = []
    for name, run, colour in zip(names, runs, colours, strict=True):
      reader = special.get(metric, lambda r, m=metric: records.curve(r, m))
      if found := [p for p in reader(run) if p[1] > 0 or not log]:
        curves.append(draw.Curve(name, *zip(*found, strict=True), colour))
    if curves:
      svg = draw.lines_svg(title, curves, form, log=log, legend=False)
      figures.append(page.figure(title, svg))
  sets = []
  for name, run, colour in zip(names, runs, colours, strict=True):
    sets += topology.series(topology.networks(run), name, colour)
  if sets:
    svg = scatter.svg(
      "Pareto sets", sets, scatter.FLOPS, "accuracy", legend=False
    )
    title = "Pareto sets, accuracy of the search networks"
    figures.append(page.figure(title, svg))
  legend = page.legend(list(zip(colours, names, strict=True)))
  body = [
    page.section("Runs", page.wide_table(heads, rows, colours) + _seeds(runs)),
    page.notes("What is missing", missing) if missing else "",
    page.section("Curves", legend + page.grid(figures)),
  ]
  for name, run in zip(names, runs, strict=True):
    body.append(
      page.section(
        f"Cells of {name}", sections.warning(run) + findings.cells(run)
      )
    )
  return page.document(f"{len(runs)} runs compared", ", ".join(names), body)


def _seeds(runs: Sequence[records.Run]) -> str:
  """Returns mean and spread of runs that differ in nothing but the seed.

  Runs of one seed are one sample, their mean: a spread is over seeds.
  """
  groups: dict[str, list[records.Run]] = {}
  for run in runs:
    settings = {k: v for k, v in run.config.items() if k != "seed"}
    groups.setdefault(json.dumps(settings, sort_keys=True), []).append(run)
  lines = []
  for group in groups.values():
    for metric, word in (
      ("test_accuracy", "test"),
      ("valid_accuracy", "validation"),
    ):
      seeds: dict[str, list[float]] = {}
      for run in group:
        if (value := sections.last_known(run, metric)) is not None:
          seeds.setdefault(str(run.config.get("seed")), []).append(value)
      values = [statistics.fmean(same) for same in seeds.values()]
      if len(values) > 1 and group[0].config:
        lines.append(
          f"{sections.headline(group[0])}, {len(values)} seeds: "
          f"{word} accuracy {statistics.fmean(values):.2%} ± "
          f"{statistics.stdev(values):.2%} (standard deviation)"
        )
      if repeated := [seed for seed, same in seeds.items() if len(same) > 1]:
        lines.append(
          f"{sections.headline(group[0])}: several runs of seed "
          f"{', '.join(repeated)}, which count as one, their mean"
        )
      if values:
        break
  return "".join(f"<p>{html.escape(line)}</p>" for line in lines)


if __name__ == "__main__":
  sys.exit(main())
