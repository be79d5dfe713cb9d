"""Where genotypes come from: names of published cells, text, files, runs."""

from collections.abc import Mapping
import os
from types import MappingProxyType

from jnas.genotype import rules, text, zoo
from jnas.genotype.types import AnyGenotype, Genotype, RecurrentGenotype

ZOO: Mapping[str, Genotype] = MappingProxyType(
  {name: text.parse(cell) for name, cell in zoo.IMAGES.items()}
)
RECURRENT_ZOO: Mapping[str, RecurrentGenotype] = MappingProxyType(
  {name: text.parse(cell) for name, cell in zoo.RECURRENT.items()}
)


def load(
  source: str | os.PathLike[str], recurrent: bool = False
) -> AnyGenotype:
  """Returns the genotype that `source` names or holds, validated.

  `source` is a name of the zoo, the text or JSON form itself, or a path: the
  workdir of a run, a `genotype.json`, a file with a text form. Image and
  recurrent cells share names in the literature; `recurrent` chooses the zoo.
  Raises ValueError if it is none of these, with the nearest name.

  >>> load("DARTS_V2").normal[0]
  ('sep_conv_3x3', 0)
  >>> load("DARTS_V2", recurrent=True).recurrent[0]
  ('sigmoid', 0)
  >>> load(text.format_text(ZOO["PDARTS"])) == ZOO["PDARTS"]
  True
  """
  cells = RECURRENT_ZOO if recurrent else ZOO
  given = os.fspath(source).strip()
  if given in cells:
    return cells[given]
  if text.has_text(given):
    return text.parse(given)
  if given.startswith("{"):
    return text.read_json(given, "the JSON text")
  path = os.path.expanduser(given)
  shown = rules.cut(path, 300)
  if os.path.isdir(path):
    path = os.path.join(path, "genotype.json")
    if not os.path.isfile(path):
      raise ValueError(
        "Expected a genotype in the directory, got no file "
        f"{shown}/genotype.json; give the workdir of a search that has "
        "finished at least one epoch."
      )
  if os.path.isfile(path):
    with open(path, encoding="utf-8", errors="replace") as file:
      content = file.read(text.MOST_TEXT + 1)
    if text.has_text(content) and not content.lstrip().startswith("{"):
      return text.parse(content)
    return text.read_json(content, shown)
  raise ValueError(
    "Expected a genotype: a path, the text Genotype(...) or a name of the zoo "
    f"({', '.join(cells)}), got {given[:60]!r}"
    f"{rules.near(given, cells) or '.'}"
  )
