"""The documentation names what is there."""

import pathlib
import re

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
    defined = rf"(?m)^(?:\s*(?:def|class) {name}\b|{name}\b.*=)"
    assert not name or re.search(defined, source), f"{file} has no {name}"
