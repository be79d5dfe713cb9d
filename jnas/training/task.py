"""What is trained: a loss, an evaluation, and what counts as better."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jnas.training.losses import Objective

# (state, edge weights or None, split, batches to stop after or None)
# -> "loss" and the scores, over the split
Evaluate = Callable[..., dict[str, float]]


def as_they_are(means: Mapping[str, float]) -> dict[str, float]:
  """What a task tells of its means, if it is they."""
  return dict(means)


class Task(NamedTuple):
  """What is trained, of images or of text.

  Attributes:
    objective: of a training batch.
    evaluate: of a whole split.
    headline: the number by which results are told and compared.
    larger_is_better: whether it is, or the smaller.
    shares: names of what is measured that are shares, told in percent.
    scores: names of what the objective measures beside the loss.
    told: means over steps or batches -> what is written of them, for instance
      the perplexity, exp(loss), which is no mean itself.
    unit: of what is counted for the speed of a training.
  """

  objective: Objective
  evaluate: Evaluate
  headline: str = "accuracy"
  larger_is_better: bool = True
  shares: tuple[str, ...] = ("accuracy",)
  scores: tuple[str, ...] = ("accuracy",)
  told: Callable[[Mapping[str, float]], dict[str, float]] = as_they_are
  unit: str = "images"

  @property
  def about(self) -> dict[str, Any]:
    """What records say of it, for who reads and compares them."""
    return {
      "headline": self.headline,
      "larger_is_better": self.larger_is_better,
      "shares": list(self.shares),
    }

  def score(self, values: Mapping[str, float]) -> float:
    """The headline of an evaluation, larger where it is better."""
    found = values[self.headline]
    return found if self.larger_is_better else -found
