"""The documentation names what is there, and its notebooks run."""

import pathlib
import re
import runpy

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_names_in_pages_are_there(page):
  named = re.findall(r"`((?:jnas|tests|configs|examples)/[\w./]+)(?::(\w+))?`",
                     page.read_text(encoding="utf-8"))
  assert named
  for file, name in named:
    assert (ROOT / file).is_file(), file
    source = (ROOT / file).read_text(encoding="utf-8")
    if file.startswith("configs/"):
      arguments = runpy.run_path(str(ROOT / file))["ARGUMENTS"]
      assert not name or name in arguments, f"{file} takes no {name}"
      continue
    defined = rf"(?m)^(?:\s*(?:def|class) {name}\b|{name}\b.*=)"
    assert not name or re.search(defined, source), f"{file} has no {name}"


@pytest.mark.slow
def test_a_notebook_searches_trains_and_predicts(monkeypatch):
  nbformat = pytest.importorskip("nbformat")
  nbclient = pytest.importorskip("nbclient")
  notebook = nbformat.read(ROOT / "examples" / "search.ipynb", as_version=4)
  cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
  lines = [line for cell in cells for line in cell.source.splitlines() if line]
  assert len(lines) <= 15
  cells[0].source = cells[0].source.replace("4 epochs", "1 epochs")
  monkeypatch.setenv("PYTHONPATH", str(ROOT))
  client = nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3")
  client.execute()
  shown = cells[0].outputs[-1].data
  assert "<svg" in shown["text/html"] and "Genotype(" in shown["text/html"]
  # Ten classes: chance is 0.1.
  said = cells[-1].outputs[-1].data["text/plain"]
  assert float(re.search(r"0\.\d+|1\.0", said)[0]) > 0.5
