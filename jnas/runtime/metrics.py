"""The metrics that any run may write, each with its meaning.

Those of one paper are declared by the sections of its report.
"""

from collections.abc import Collection, Iterable, Mapping
import difflib
import math

# Accuracies are fractions in [0, 1], losses are in nats, times in seconds.
METRICS: Mapping[str, str] = {
  "train_loss": "training loss; of one step, or the mean over an epoch",
  "train_accuracy": "training accuracy; of one step, or the mean over an epoch",
  "valid_loss": "loss on held-out data; of one batch, or of the whole split",
  "valid_accuracy": "accuracy on the validation split",
  "valid_mean_IoU": "mean over classes of intersection / union of pixels",
  "child_accuracy": "valid_accuracy through the derived paths alone",
  "test_loss": "loss on the test split",
  "test_accuracy": "accuracy on the test split",
  "train_cross_entropy": "training loss without what regularises it",
  "train_perplexity": "exp of it; of the mean over an epoch",
  "valid_perplexity": "exp of the loss a token on the validation text",
  "valid_bits_per_character": "the same in bits, a character",
  "child_perplexity": "valid_perplexity through the derived paths alone",
  "test_perplexity": "exp of the loss a token on the test text",
  "test_bits_per_character": "the same in bits, a character",
  "averaging": "whether the weights are averaged yet, 0 or 1",
  "gradient_norm": "norm of the gradient of the weights, before clipping",
  "lr": "learning rate of the weights",
  "drop_path_rate": "probability that a path of a cell is dropped",
  "drop_skip_rate": "probability that a skip connection is dropped",
  "first_order_norm": "norm of the first-order term of the hypergradient",
  "second_order_norm": "norm of the second-order term of the hypergradient",
  "cosine_implicit": "cosine of the second-order and the implicit term",
  "true_accuracy": "test accuracy of the derived cell, from a table",
  "skip_share": "share of skip connections in the derived normal cell",
  "none_weight": "mean weight of `none` over the edges of the normal cell",
  "entropy": "mean entropy of the weights of an edge",
  "step_seconds": "time of one step",
  "epoch_seconds": "time of one epoch, evaluation left out",
  "eval_seconds": "time of one evaluation",
  "compile_seconds": "time the run waited for its steps to be compiled",
  "compile_share": "share of the run's time so far that it waited for that",
  "penalty": "what is added to the loss by which the architecture is learnt",
  "pruned": "operators that were pruned after the epoch before",
  "operators": "operators that are left in the search network",
  "flops": "multiply-adds of what is left, in millions an image",
  "built_flops": "of the network that is built, masked operators counted",
  "connections": "operators in the derived cells",
  "frozen": "share of steps in which transit cells were compiled as they are",
  "images_per_second": "training images processed in a second",
  "tokens_per_second": "training tokens processed in a second, on average",
}


class NotFinite(ArithmeticError):
  """A metric became NaN or infinite.

  Attributes:
    step: the step at which it was seen.
    metrics: name -> value of the metrics that are not finite.
  """

  def __init__(self, step: int, metrics: Mapping[str, float]):
    self.step = step
    self.metrics = dict(metrics)
    values = ", ".join(f"{k} = {v}" for k, v in self.metrics.items())
    super().__init__(f"not finite at step {step}: {values}")


def check(names: Iterable[str], own: Collection[str] = ()) -> None:
  """Returns nothing if every name is declared, here or among a paper's own.

  Raises:
    ValueError: some are not; it names all of them, with the closest declared
      name where one is close.
  """
  problems = []
  for name in names:
    if name not in METRICS and name not in own:
      close = difflib.get_close_matches(name, [*METRICS, *own], n=1)
      hint = f" (did you mean {close[0]!r}?)" if close else ""
      problems.append(f"{name!r}{hint}")
  if problems:
    raise ValueError(
      f"metrics: expected names declared in {__name__}.METRICS, got "
      f"{', '.join(problems)}; declare a new metric there, or in a section of "
      "its paper's report (Method.sections)"
    )


def finite(step: int, metrics: Mapping[str, float]) -> None:
  """Returns nothing if every metric is finite.

  Raises:
    NotFinite: some are not; it names the step and all of them.
  """
  bad = {k: float(v) for k, v in metrics.items() if not math.isfinite(v)}
  if bad:
    raise NotFinite(step, bad)
