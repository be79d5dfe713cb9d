"""The page on a run, or on several, written to a file."""

from collections.abc import Sequence
import os
import pathlib
import secrets

from jnas.report import (
  comparison,
  findings,
  front,
  page,
  parts,
  records,
  retraining,
  sections,
  segmentation,
  topology,
)

# In their order; each returns a section, several, or None for nothing to tell.
SEARCH = (
  sections.opening,
  topology.pareto,
  findings.genotype,
  findings.drawings,
  sections.learning,
  sections.titled,
  sections.collapse,
  findings.truth,
  findings.skips,
  findings.weights,
  sections.hypergradient,
  sections.training,
  sections.others,
  sections.timing,
  sections.configuration,
)
RETRAINING = (
  sections.opening,
  findings.genotype,
  findings.drawings,
  sections.learning,
  findings.sample,
  retraining.mistakes,
  segmentation.predictions,
  sections.titled,
  sections.training,
  sections.others,
  sections.timing,
  sections.configuration,
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
  alone = len(runs) == 1
  parts_of = _runs_of(runs[0]) if alone else []
  if not alone:  # of several seeds each is compared
    runs = [own for run in runs for own in _runs_of(run) or [run]]
  place = runs[0].path / "report.html" if alone else "comparison.html"
  target = pathlib.Path(out or place)
  home = target.parent
  links: list[tuple[str, str]] = []
  if parts_of:
    title, under, body = comparison.document_of(parts_of, home, runs[0])
  elif not alone:
    title, under, body = comparison.document_of(runs, home)
  elif runs[0].task == "compare":
    title, under, body = comparison.document(runs[0].path, home)
  elif runs[0].task == "pareto":
    title, under, body = front.document(runs[0].path, home)
  else:
    title, under, body = _single(runs[0])
    links = _links(runs[0], home)
  text = page.document(title, under, body, links)
  target.parent.mkdir(parents=True, exist_ok=True)
  # Written aside first: a reader never finds half a page.
  # A name that cannot be guessed: no link waits there.
  partial = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
  # Names of files may hold bytes that are no text.
  try:
    with open(partial, "x", encoding="utf-8", errors="replace") as file:
      file.write(text)
    os.replace(partial, target)
  finally:
    partial.unlink(missing_ok=True)
  return target


def _runs_of(run: records.Run) -> list[records.Run]:
  """Returns the runs of one with several seeds; none of any other."""
  first = records.get(run.config, "seed")
  count = records.get(
    run.config, "retrain.seeds" if run.trained else "seeds", 1
  )
  if not (isinstance(first, int) and isinstance(count, int) and count > 1):
    return []
  paths = [run.path / f"seed{first + k}" for k in range(count)]
  return [records.read(path) for path in paths if path.is_dir()]


def _single(run: records.Run) -> tuple[str, str, list[parts.Section | None]]:
  """Returns title, line and sections of the page on one run."""
  body: list[parts.Section | None] = []
  for section in RETRAINING if run.trained else SEARCH:
    found = section(run)
    body += found if isinstance(found, list) else [found]
  return sections.title(run), sections.line(run), body


def _links(run: records.Run, home: pathlib.Path) -> list[tuple[str, str]]:
  """Returns the pages of the search and the comparison of a run."""
  found = []
  for folder, words in (
    (records.search_of(run), "the search of its genotype"),
    (records.comparison_of(run), "its comparison"),
  ):
    if folder:
      path = os.path.relpath(folder / "report.html", home)
      found.append((pathlib.Path(path).as_posix(), words))
  return found
