"""The task of language: to say the next token, window after window."""

from collections.abc import Callable, Mapping
import functools
import math
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from jnas.data import windows
from jnas.runtime import keys
from jnas.spaces import rnn
from jnas.training.batches import Draw
from jnas.training.losses import Batch, Objective, Outcome
from jnas.training.steps import Step
from jnas.training.task import Task

Array = jax.Array


class Text(NamedTuple):
  """The inputs of a window.

  Attributes:
    tokens: [T, B], padded.
    length: times that count.
    first: whether hidden states begin at zero.
    key: of what all sequences share, the dropout of words.
  """

  tokens: Array
  length: Array
  first: Array
  key: Array


def draw(
  *,
  seed: int | Array,
  train: windows.Windows,
  local: int,
  offset: Callable[[int], Array],
  valid_rows: int = 0,
  size: int | None = None,
) -> Draw:
  """Windows of a text: (columns, stream, step) -> Batch.

  Held-out windows go along with those of training, as in the published code:
  they begin where these do, in a text that is shorter and so read more often.

  Args:
    seed: of all streams.
    train: the windows of the training text.
    local: columns of this replica.
    offset: local -> number of the first of them.
    valid_rows: rows of the held-out columns, of the stream "valid".
    size: what windows are padded to, none of them longer; None: the longest.
  """
  size = size or train.longest
  held_out = windows.Windows(valid_rows, train.bptt) if valid_rows else None

  def drawn(columns: Array, name: str, step: Array) -> Batch:
    window = train.at(keys.stream(seed, "windows"), step)
    if name == "valid":
      cut = held_out.cut(window.start, jnp.int32(train.bptt))
      window = cut._replace(first=window.first)
    tokens, following = windows.read(columns, window.start, size)
    own = keys.per_example(
      keys.stream(seed, f"{name}/dropout", step),
      offset(local) + jnp.arange(local),
    )
    words = keys.stream(seed, f"{name}/words", step)
    x = Text(tokens, window.length, window.first, words)
    return Batch(x, following, own)

  return drawn


def padded_step(
  build: Callable[[int], Step], train: windows.Windows, seed: int | Array
) -> Step:
  """A step that computes no more times than the size that its window needs.

  It is one program with a branch for each size. The branch is a whole step: if
  it were the loss, reverse mode would keep what each of them saves.

  Args:
    build: size -> the step on windows that are padded to it.
    train: the windows of the training text.
    seed: of all streams, as in `draw`.
  """
  each = [build(size) for size in train.sizes]
  if len(each) == 1:
    return each[0]

  def step(state, *columns):
    length = train.at(keys.stream(seed, "windows"), state.step).length
    which = jnp.searchsorted(jnp.asarray(train.sizes), length)
    return lax.switch(which, each, state, *columns)

  return step


def _cross_entropy(logits: Array, targets: Array, length: Array) -> Array:
  """The mean over what counts of a window, in nats: scalar."""
  right = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
  losses = jax.nn.logsumexp(logits, axis=-1) - right
  return _mean(losses, length)


def _mean(x: Array, length: Array) -> Array:
  """The mean over the first `length` times of [T, ...]."""
  sums = x.sum(tuple(range(1, x.ndim)))
  counted = jnp.where(jnp.arange(x.shape[0]) < length, sums, 0).sum()
  return counted / (jnp.maximum(length, 1) * math.prod(x.shape[1:]))


def objective(
  model: rnn.LanguageModel,
  *,
  rates: rnn.Rates,
  activation: float,
  temporal: float,
  bptt: int,
) -> Objective:
  """What is minimised on a window.

  The mean cross entropy, with the regularisation of Merity et al. 2017: the
  mean square of what the decoder reads (AR) and of how hidden states change
  (TAR). A step along it is as long as its window, of `bptt`.

  Args:
    model: what is trained.
    rates: of dropout.
    activation: weight of AR.
    temporal: weight of TAR.
    bptt: the length at which the learning rate is what it is.
  """

  def of_window(params, stats, edge_weights, batch, _):
    text = batch.x
    out, new = model.apply(
      {"params": params, "batch_stats": stats},
      text.tokens,
      jnp.where(text.first, 0, batch.carry),
      edge_weights,
      rnn.draw_masks(text.key, batch.keys, model.spec, rates),
      text.length,
      train=True,
      mutable=["batch_stats"],
    )
    entropy = _cross_entropy(out.logits, batch.y, text.length)
    loss = entropy
    if activation:
      loss += activation * _mean(jnp.square(out.dropped), text.length)
    if temporal:
      change = jnp.square(out.states[1:] - out.states[:-1])
      loss += temporal * _mean(change, text.length - 1)
    scores = {"cross_entropy": entropy}
    stats = new.get("batch_stats", stats)
    return loss, Outcome(stats, scores, out.hidden, text.length / bptt)

  return of_window


class Split(NamedTuple):
  """A text to be evaluated.

  Attributes:
    columns: [rows, B], on the device, padded by a window.
    windows: [K, 2], start and length of each window.
    characters: of a token, on average.
  """

  columns: Array
  windows: np.ndarray
  characters: float


def split(tokens: np.ndarray, characters: int, batch: int, bptt: int) -> Split:
  """A text as it is evaluated.

  Args:
    tokens: [N].
    characters: of the whole text.
    batch: columns.
    bptt: rows of a window.
  """
  found = windows.columns(tokens, batch)
  return Split(
    jnp.asarray(windows.padded(found, bptt)),
    windows.evaluation(len(found), bptt),
    characters / len(tokens),
  )


def evaluator(
  model: rnn.LanguageModel, own_statistics: bool = False
) -> Callable[..., dict[str, float]]:
  """A function (state, edge weights or None, Split) -> loss and perplexity.

  Hidden states are carried from the first row to the last, and every row that
  has one after it counts once. A fourth argument leaves it at so many windows.
  Each device computes all of it.

  Args:
    model: what is evaluated.
    own_statistics: whether nodes are normalised by those of the batch.
  """

  model = model.clone(axis=None)

  @functools.partial(jax.jit, static_argnums=0)
  def total(longest, weights, stats, edge_weights, columns, plan):
    def window(hidden, at):
      start, length = at
      tokens, following = windows.read(columns, start, longest)
      out, _ = model.apply(
        {"params": weights, "batch_stats": stats},
        tokens,
        hidden,
        edge_weights,
        length=length,
        train=own_statistics,
        mutable=["batch_stats"],
      )
      mean = _cross_entropy(out.logits, following, length)
      return out.hidden, mean * length

    hidden = initial(model.spec, columns.shape[1])
    return lax.scan(window, hidden, plan)[1].sum()

  def evaluate(state, edge_weights, split, count=None):
    plan = split.windows[:count]
    longest = int(split.windows[:, 1].max())
    nats = total(
      longest, state.weights, state.stats, edge_weights, split.columns, plan
    )
    loss = float(nats) / float(plan[:, 1].sum())
    bits = loss / math.log(2) / split.characters
    return told({"loss": loss, "cross_entropy": loss}) | {
      "bits_per_character": bits
    }

  return evaluate


def initial(spec: rnn.RecurrentSpec, batch: int) -> Array:
  """The hidden state at the beginning of a text: zeros, [B, H]."""
  return jnp.zeros((batch, spec.width), jnp.float32)


def told(means: Mapping[str, float]) -> dict[str, float]:
  """What is written of a mean: the loss, and the perplexity.

  >>> told({"loss": 3.0, "cross_entropy": 0.0})
  {'loss': 3.0, 'perplexity': 1.0}
  """
  # Beyond what a float holds it is as bad as it gets.
  perplexity = math.exp(min(means["cross_entropy"], 700.0))
  return {"loss": means["loss"], "perplexity": perplexity}


def task(
  objective: Objective, evaluate: Callable[..., dict[str, float]]
) -> Task:
  """The task of language."""
  return Task(
    objective,
    evaluate,
    headline="perplexity",
    larger_is_better=False,
    shares=(),
    scores=("cross_entropy",),
    told=told,
    unit="tokens",
  )


def sample(
  model: rnn.LanguageModel,
  variables: Any,
  key: Array,
  count: int,
  start: Array,
  temperature: float = 1.0,
) -> Array:
  """Text of a trained derived model: [count] tokens, each drawn in turn.

  Args:
    model: of a derived network.
    variables: "params".
    key: typed key.
    count: of tokens.
    start: [T], the tokens before them.
    temperature: below one for likelier tokens.
  """

  def step(carry, own):
    token, hidden = carry
    out = model.apply(variables, token[None, None], hidden, train=False)
    token = jax.random.categorical(own, out.logits[0, 0] / temperature)
    return (token, out.hidden), token

  def drawn(start, each):
    hidden = initial(model.spec, 1)
    if len(start) > 1:  # read, but for the last
      hidden = model.apply(
        variables, start[:-1, None], hidden, train=False
      ).hidden
    return lax.scan(step, (start[-1], hidden), each)[1]

  start = jnp.asarray(start, jnp.int32)
  return jax.jit(drawn)(start, jax.random.split(key, count))
