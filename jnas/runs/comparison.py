"""The page of a comparison: a row an algorithm, mean and spread over seeds.

It is made from comparison.json and the folders of the runs beside it, so that
`python -m jnas.runs.report` draws it anew at any time.
"""

from collections.abc import Callable, Mapping, Sequence
import json
import os
import pathlib
from typing import Any

from jnas.runs import page, records, spread

_PERCENT = "{:.2%}"
_COLUMNS = (  # number of a result, heading, format; what nobody has is left out
  ("valid_accuracy", "validation accuracy", _PERCENT),
  ("child_accuracy", "of the child-net", _PERCENT),
  ("accuracy_drop", "drop", _PERCENT),
  ("retrained_accuracy", "retrained, test", _PERCENT),
  ("true_accuracy", "true accuracy", _PERCENT),
  ("skip_share", "skip connections", "{:.1%}"),
  ("normal_connections", "normal connections", "{:.3g}"),
  ("reduce_connections", "reduction connections", "{:.3g}"),
  ("params", "parameters", "{:,.0f}"),
  ("derived_params", "derived, M parameters", "{:,.3f}"),
  ("derived_flops", "M multiply-adds", "{:,.2f}"),
)
_RANKED = 4  # so many columns come before Kendall's tau
_FACTS = (
  ("valid_accuracy", "validation accuracy"),
  ("true_accuracy", "true accuracy"),
  ("retrained_accuracy", "retrained accuracy"),
)
_NOTES = (  # number of a result, what is to be said where it has a column
  (
    "child_accuracy",
    "The child-net is what remains of the trained super-net along the derived "
    "paths, not trained further.",
  ),
  (
    "retrained_accuracy",
    "Retrained is the derived network, trained from scratch on all training "
    "images and tested.",
  ),
  (
    "derived_params",
    "Parameters and multiply-adds, in millions, are of the derived network for "
    "one image of this data set.",
  ),
)
_RANK = (
  "Kendall's tau compares the order of the seeds by the super-net's validation "
  "accuracy with that by retrained accuracy: 1 the same, 0 unrelated, -1 "
  "reversed. Of few seeds it says little: of three, one order in six gives 1 "
  "by chance."
)
_SPREADS = (  # metric, heading, what reads its curve if not records.curve
  ("valid_accuracy", "Validation accuracy", None),
  ("retrained_accuracy", "Retrained accuracy", None),
  ("true_accuracy", "True accuracy", None),
  ("skip_share", "Share of skip connections", records.skip_shares),
)


def facts(result: Mapping[str, Any]) -> list[str]:
  """Returns the numbers of one result, as words.

  >>> facts({"valid_accuracy": 0.5, "seconds": 12.0, "params": 1})
  ['validation accuracy 50.00%', '12 s']
  """
  found = [
    f"{heading} {_PERCENT.format(result[name])}"
    for name, heading in _FACTS
    if records.is_number(result.get(name))
  ]
  if records.is_number(result.get("seconds")):
    found.append(page.duration(result["seconds"]))
  return found


def table(
  comparison: Mapping[str, Any],
) -> tuple[list[str], list[list[str]]]:
  """Returns the heads and the rows of the comparison, a row an algorithm."""
  algorithms = comparison["algorithms"]
  columns = [column for column in _COLUMNS if _has(algorithms, column[0])]
  ranked = any("kendall" in found for found in algorithms.values())
  heads = ["", "seeds", *(heading for _, heading, _ in columns)]
  # Beside what it ranks; at the end one would have to scroll.
  place = 2 + sum(column in _COLUMNS[:_RANKED] for column in columns)
  heads[place:place] = ["Kendall's tau"] * ranked
  rows = []
  for name, found in algorithms.items():
    row = [name, str(len(found["runs"]))]
    for metric, _, form in columns:
      row.append(_mean(found["numbers"].get(metric), form.format))
    row[place:place] = [_rank(found.get("kendall"))] * ranked
    row.append(_range(found["numbers"].get("seconds"), page.duration))
    rows.append([*row, _chosen(found["chosen"])])
  return [*heads, "time, with compilation", "chosen"], rows


def _has(algorithms: Mapping[str, Any], metric: str) -> bool:
  return any(metric in found["numbers"] for found in algorithms.values())


def text(comparison: Mapping[str, Any]) -> str:
  """Returns the table in letters of one width."""
  heads, rows = table(comparison)
  widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
  return "\n".join(
    "  ".join(f"{cell:{w}}" for cell, w in zip(row, widths, strict=True))
    .rstrip()
    for row in (heads, *rows)
  )


def _mean(
  numbers: Mapping[str, Any] | None, form: Callable[[float], str]
) -> str:
  """Returns "mean ± sd"; of a single seed, or where all agree, the mean."""
  if numbers is None:
    return "–"
  mean = form(numbers["mean"])
  return f"{mean} ± {form(numbers['sd'])}" if numbers["sd"] else mean


def _range(
  numbers: Mapping[str, Any] | None, form: Callable[[float], str]
) -> str:
  """Returns "min to max".

  Of times: the first run compiles, and later ones find its programs in the
  cache, so that a standard deviation would say nothing of the seeds.
  """
  if numbers is None:
    return "–"
  ends = dict.fromkeys(form(numbers[name]) for name in ("min", "max"))
  return " to ".join(ends)


def _rank(kendall: Mapping[str, Any] | None) -> str:
  """Returns tau, or why there is none."""
  if kendall is None:
    return "–"
  if kendall["tau"] is None:
    return f"none: {kendall['why']}"
  return f"{kendall['tau']:.2f}"


def _chosen(chosen: Mapping[str, Any] | None) -> str:
  if chosen is None:
    return "–"
  told = [_PERCENT.format(chosen["valid_accuracy"])]
  if records.is_number(chosen.get("true_accuracy")):
    told.append(f"true {_PERCENT.format(chosen['true_accuracy'])}")
  if records.is_number(chosen.get("retrained_accuracy")):
    told.append(f"retrained {_PERCENT.format(chosen['retrained_accuracy'])}")
  return f"seed {chosen['seed']}: {', '.join(told)}"


def document(workdir: pathlib.Path, home: pathlib.Path) -> str:
  """Returns the page of the comparison in `workdir`, for a file in `home`.

  Raises ValueError if comparison.json is not there or not readable.
  """
  path = workdir / "comparison.json"
  try:
    comparison = json.loads(path.read_text(encoding="utf-8"))
    algorithms = comparison["algorithms"]
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise ValueError(
      f"Expected a comparison in {path}, got {type(error).__name__}: {error}; "
      "it is written when the first search has ended: start the comparison "
      "again, it goes on."
    ) from error
  colours = dict(zip(algorithms, page.colours(len(algorithms)), strict=True))
  ended = sum(len(found["runs"]) for found in algorithms.values())
  under = f"{ended} searches"
  if ended < comparison["planned"]:
    under = f"{ended} of {comparison['planned']} searches have ended"
  failed = [f"{k}: {v}" for k, v in comparison["failed"].items()]
  body = [page.notes("What has failed", failed) if failed else ""]
  if algorithms:
    runs = {
      name: [records.read(workdir / one["folder"]) for one in found["runs"]]
      for name, found in algorithms.items()
    }
    heads, rows = table(comparison)
    note = (
      "Mean ± standard deviation over the seeds, the mean alone where all "
      "agree. Chosen is the seed whose supernet has the best validation "
      "accuracy. Times are the shortest and the longest: the first run "
      "compiles, others find its programs in the cache."
    )
    for metric, more in _NOTES:
      note += f" {more}" * _has(algorithms, metric)
    if any("kendall" in found for found in algorithms.values()):
      note += f" {_RANK}"
    body += [
      page.section(
        "Algorithms", page.wide_table(heads, rows, list(colours.values())), note
      ),
      _drawings(algorithms, runs, colours, _benchmark(runs)),
      _genotypes(algorithms),
      _links(algorithms, pathlib.Path(os.path.relpath(workdir, home))),
    ]
  names = ", ".join(algorithms) or "nothing yet"
  return page.document(
    f"{len(algorithms)} algorithms on {comparison['data']}",
    f"{names} · {under}",
    body,
  )


def _genotypes(algorithms: Mapping[str, Any]) -> str:
  body = "".join(
    page.folded(f"{name}, {_chosen(chosen)}", str(chosen["genotype"]))
    for name, found in algorithms.items()
    if (chosen := found["chosen"]) and chosen.get("genotype")
  )
  return page.section("Chosen genotypes", body) if body else ""


def _links(algorithms: Mapping[str, Any], folder: pathlib.Path) -> str:
  body = ""
  for name, found in algorithms.items():
    entries = [
      (
        (folder / one["folder"] / "report.html").as_posix(),
        f"seed {one['seed']}",
        ", ".join(facts(one["result"])),
      )
      for one in found["runs"]
    ]
    entries += [
      (
        (folder / one["folder"] / "retrain" / "report.html").as_posix(),
        f"seed {one['seed']}, retrained",
        "",
      )
      for one in found["runs"]
      if "retrained_accuracy" in one["result"]
    ]
    body += page.links(name, entries)
  return page.section("Reports of the runs", body)


def _drawings(
  algorithms: Mapping[str, Any],
  runs: Mapping[str, Sequence[records.Run]],
  colours: Mapping[str, str],
  benchmark: Mapping[str, Any],
) -> str:
  figures = []
  for metric, title, reader in _SPREADS:
    lines = _references(benchmark) if metric == "true_accuracy" else {}
    strips, bands = [], []
    for name, found in algorithms.items():
      colour, chosen = colours[name], found["chosen"] or {}
      results = [one["result"] for one in found["runs"]]
      values = [r[metric] for r in results if records.is_number(r.get(metric))]
      if values:
        value = chosen.get(metric)
        strips.append(spread.Strip(name, values, value, colour))
      curves = [
        reader(run) if reader else records.curve(run, metric)
        for run in runs[name]
      ]
      if known := spread.band(name, curves, colour):
        bands.append(known)
    # Shares are of few operators: dots would lie on each other.
    if strips and metric != "skip_share":
      svg = spread.strips_svg(title, strips, lines)
      figures.append(page.figure(f"{title} of each seed", svg))
    if bands:
      svg = spread.bands_svg(title, bands, lines)
      figures.append(page.figure(f"{title} by epoch", svg))
  clouds = [
    spread.Cloud(name, found, colours[name])
    for name, one in algorithms.items()
    if (found := _pairs(one["runs"]))
  ]
  if clouds:
    svg = spread.cloud_svg("Retrained by validation accuracy", clouds)
    figures.append(page.figure("Retrained by validation accuracy", svg))
  legend = page.legend([(colour, name) for name, colour in colours.items()])
  note = (
    "A dot is a seed, the chosen one is ringed; a line is the mean over the "
    "seeds, and around it lies one standard deviation to either side."
  )
  note += _legend_of(benchmark)
  return page.section("Spread", legend + page.grid(figures), note)


def _pairs(runs: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
  """Returns (validation, retrained) accuracies of the runs that have both."""
  names = ("valid_accuracy", "retrained_accuracy")
  rows = [tuple(one["result"].get(name) for name in names) for one in runs]
  return [row for row in rows if all(map(records.is_number, row))]


def _benchmark(
  runs: Mapping[str, Sequence[records.Run]],
) -> Mapping[str, Any]:
  """Returns what the runs know of the benchmark of the search space."""
  known = [run.benchmark for group in runs.values() for run in group]
  found: dict[str, Any] = {}
  for one in filter(None, known):
    published = one.get("published")
    # Each knows what was published of itself.
    own = published if isinstance(published, dict) else {}
    found = one | found | {"published": found.get("published", {}) | own}
  return found


def _references(benchmark: Mapping[str, Any]) -> dict[str, float]:
  """Returns the best and the mean of all that could have been found."""
  return {
    name: benchmark[name]
    for name in ("best", "mean")
    if records.is_number(benchmark.get(name))
  }


def _legend_of(benchmark: Mapping[str, Any]) -> str:
  """Returns what the references are, and what papers report beside them."""
  found = benchmark.get("published")
  told = [
    f"{name} {_PERCENT.format(value)}"
    for name, value in (found.items() if isinstance(found, dict) else ())
    if records.is_number(value)
  ]
  if not benchmark:
    return ""
  space = benchmark.get("name", "the search space")
  text = f" Dashed: the best and the mean of all cells of {space}."
  return f"{text} Published for it: {', '.join(told)}." if told else text
