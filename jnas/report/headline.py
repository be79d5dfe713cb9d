"""The number by which results are told and compared, as a run names it.

It stands in result.json, and from the first step on in run.json under
"titles": {"headline": "perplexity", "larger_is_better": false, "shares": []}.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Headline(NamedTuple):
  """What a task calls its result.

  Attributes:
    name: of the metric, without the split in front.
    larger_is_better: whether it is, or the smaller.
    shares: metrics that are shares, told in percent.
  """

  name: str = "accuracy"
  larger_is_better: bool = True
  shares: tuple[str, ...] = ("accuracy",)

  @property
  def words(self) -> str:
    """The name, for people."""
    return self.name.replace("_", " ")

  @property
  def best(self) -> str:
    """What the best value is among others."""
    return "highest" if self.larger_is_better else "lowest"

  def form(
    self, share: str = "{:.2%}", number: str = "{:.2f}", of: str = ""
  ) -> str:
    """How a metric is written: as a share, or as a number.

    Args:
      share: format of a share.
      number: format of what is none.
      of: the metric; the headline by default.
    """
    return share if (of or self.name) in self.shares else number

  def score(self, values: Mapping[str, Any], split: str) -> float | None:
    """The headline of a split, larger where it is better; None without it."""
    found = values.get(f"{split}_{self.name}")
    if isinstance(found, bool) or not isinstance(found, int | float):
      return None
    return found if self.larger_is_better else -found

  def line(self, values: Mapping[str, Any], split: str) -> str:
    """The headline of a split in words.

    >>> Headline().line({"valid_accuracy": 0.5}, "valid")
    'accuracy: 50.00%'
    """
    value = self.form().format(values[f"{split}_{self.name}"])
    return f"{self.words}: {value}"


_PERPLEXITY = Headline("perplexity", larger_is_better=False, shares=())


def of(*records: Mapping[str, Any]) -> Headline:
  """The headline of a run, from the first of its records that names it.

  Older runs name none: those with a perplexity are of text, and all others of
  images.

  >>> of({"test_perplexity": 57.2}).name, of({}).name
  ('perplexity', 'accuracy')
  """
  for record in records:
    name, larger = record.get("headline"), record.get("larger_is_better")
    if isinstance(name, str) and name and isinstance(larger, bool):
      shares = record.get("shares")
      shares = shares if isinstance(shares, list | tuple) else ()
      return Headline(name, larger, tuple(map(str, shares)))
  if any(str(k).endswith("_perplexity") for one in records for k in one):
    return _PERPLEXITY
  return Headline()
