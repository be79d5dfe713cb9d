"""A page as HTML: one file that needs no other, readable without its script.

How things look stands in `templates/`: page.html and parts.html, style.css for
the page, figure.css for drawings, and page.js, the script that answers the
pointer. All text is escaped by the templates; only drawings are taken as they
are.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
import functools
import hashlib
import json
import re
from typing import Any
from urllib.parse import quote

from jnas.report import parts

_SPACE = re.compile(r"(?<![,:]) (?!±)")  # within a value


def document(
  title: str,
  under: str,
  sections: Iterable[parts.Section | None],
  links: Sequence[tuple[str, str]] = (),
) -> str:
  """Returns the whole page.

  Args:
    title: of the page.
    under: a line below it.
    sections: in their order; None is left out.
    links: (path from the page, text) of what belongs to it.
  """
  environment = _environment()
  script = environment.loader.get_source(environment, "page.js")[0]
  digest = hashlib.sha256(script.encode()).digest()
  return environment.get_template("page.html").render(
    title=title,
    under=under,
    sections=[section for section in sections if section is not None],
    links=links,
    script=script,
    # No other script runs, and nothing is loaded, whatever a file smuggles in.
    digest=base64.b64encode(digest).decode(),
  )


@functools.cache
def _environment() -> Any:
  import jinja2  # late: not everything that imports this writes a page

  environment = jinja2.Environment(
    loader=jinja2.PackageLoader("jnas.report"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  environment.filters |= {"data": _data, "kept": _kept, "address": _address}
  return environment


def _data(data: Mapping[str, Any]) -> Any:
  """Returns JSON that can stand within an element of HTML."""
  import markupsafe

  text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
  return markupsafe.Markup(text.replace("<", "\\u003c"))


def _kept(text: str) -> str:
  """Returns a value that breaks before a spread and between parts only."""
  return _SPACE.sub("\N{NO-BREAK SPACE}", text)


def _address(path: str) -> str:
  """Returns the address of a path, of bytes that are no text, too."""
  return quote(path.encode("utf-8", "surrogateescape"))
