"""What the door for Python gives: searches, trained networks, drawings."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import html
import os
import pathlib
import statistics
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from jnas import exchange
from jnas import genotype as genotype_lib
from jnas.data import augment
from jnas.data import text as text_lib
from jnas.genotype import AnyGenotype, RecurrentGenotype
from jnas.report import draw as draw_lib
from jnas.spaces import cnn, rnn
from jnas.training import language
from jnas.training.state import Average

Row = dict[str, float]

_IMAGES = 256  # that are predicted at once


class Drawing(str):
  """An SVG that shows itself in a notebook."""

  def _repr_svg_(self) -> str:
    return str(self)

  def save(self, path: str | os.PathLike[str]) -> None:
    """Writes the file."""
    pathlib.Path(path).write_text(self, encoding="utf-8")


class Counts(NamedTuple):
  """The size of a network.

  Attributes:
    params: without the auxiliary head.
    macs: multiply-adds on one image.
  """

  params: int
  macs: int


@dataclasses.dataclass(frozen=True, repr=False)
class Search:
  """What a search has found.

  Attributes:
    genotype: the cell.
    arch: what the architecture parameters say of the operators in the end,
      [edges, operators] by cell.
    history: the numbers of each evaluation.
    genotypes: (epoch, genotype) of each evaluation.
    notes: what there was to say on the way.
    config: that ran.
    folder: of the run; None without a workdir.
    each: of several seeds the search of each, of which this is the best on
      validation images.
  """

  genotype: AnyGenotype
  arch: Mapping[str, np.ndarray]
  history: tuple[Row, ...]
  genotypes: tuple[tuple[float, AnyGenotype], ...]
  notes: tuple[str, ...]
  config: ml_collections.ConfigDict
  folder: pathlib.Path | None
  each: tuple["Search", ...] = ()

  @property
  def mean(self) -> Row:
    """Of several seeds, the means of what the last evaluation has measured."""
    return self._over_seeds(statistics.fmean)

  @property
  def deviation(self) -> Row:
    """As `mean`, the standard deviations of a sample (n - 1)."""
    return self._over_seeds(statistics.stdev)

  def _over_seeds(self, statistic: Callable[[list[float]], float]) -> Row:
    rows = [one.history[-1] for one in self.each]
    names = rows[0] if rows else ()
    return {name: statistic([row[name] for row in rows]) for name in names}

  @property
  def figure(self) -> Drawing:
    """The cells that were found."""
    return drawing(self.genotype)

  def __repr__(self) -> str:
    return f"Search({self._numbers}, {self.genotype})"

  @property
  def _numbers(self) -> str:
    """Those of the last evaluation, in a line; of several seeds their means."""
    if not self.each:
      return _told(self.history)
    return f"means of {len(self.each)} seeds: {_told([self.mean])}"

  def _repr_html_(self) -> str:
    return _page(self.figure, self._numbers, self.genotype, self.notes)


@dataclasses.dataclass(frozen=True, repr=False)
class Network:
  """A trained network.

  Attributes:
    genotype: of its cells.
    module: in linen: module.apply(variables, x, train=False) -> (logits,
      those of the auxiliary head), of images x that are normalised.
    variables: parameters and batch statistics.
    classes: names, in the order of the logits.
    mean: of the training images by channel, on the scale 0 .. 1.
    std: like `mean`.
    shape: (H, W, channels) of the images.
    history: the numbers of each evaluation.
    notes: what there was to say on the way.
    config: that it was trained with.
    folder: of the run; None without a workdir.
  """

  genotype: AnyGenotype
  module: cnn.Network
  variables: Mapping[str, Any]
  classes: tuple[str, ...]
  mean: tuple[float, ...]
  std: tuple[float, ...]
  shape: tuple[int, int, int]
  history: tuple[Row, ...]
  notes: tuple[str, ...]
  config: ml_collections.ConfigDict
  folder: pathlib.Path | None

  def predict(self, images: np.ndarray) -> np.ndarray:
    """The class number of each of uint8 images [N, H, W, C]: [N]."""
    return self.probabilities(images).argmax(-1)

  def probabilities(self, images: np.ndarray) -> np.ndarray:
    """The probability of each class: [N, classes].

    Raises:
      ValueError: the images are not of the kind that it was trained on.
    """
    images, channels = np.asarray(images), len(self.mean)
    odd = images.ndim != 4 or images.shape[-1] != channels
    if odd or images.dtype != np.uint8:
      raise ValueError(
        f"expected uint8 images [N, H, W, {channels}], got {images.dtype} "
        f"{list(images.shape)}"
      )
    parts = [
      np.asarray(self._apply(self.variables, images[i : i + _IMAGES]))
      for i in range(0, len(images), _IMAGES)
    ]
    return np.concatenate([np.zeros((0, len(self.classes))), *parts])

  def export(
    self, path: str | os.PathLike[str], format: str = "safetensors"
  ) -> float:
    """Writes the network into a file, reads it again, and compares the logits.

    Args:
      path: of the file.
      format: "safetensors"; "torch", the same with the names and layouts of
        DARTS's code in PyTorch; or "stablehlo", the program from uint8 images
        to logits, for jax.export.deserialize.

    Returns:
      By how much the logits of random images differ at most.

    Raises:
      ValueError: there is no such format, the network does not exist in it, or
        the logits are others.
      OSError: it cannot be written.
    """
    fields = {f"space.{k}": v for k, v in self.config.space.items()}
    train = self.config.train
    fields |= {f"train.{k}": train[k] for k in ("auxiliary", "dtype")}
    contents = exchange.Contents(
      self.genotype,
      fields,
      self.variables,
      self.classes,
      self.mean,
      self.std,
      self.shape,
    )
    return exchange.write(contents, pathlib.Path(path).expanduser(), format)

  @functools.cached_property
  def _apply(self) -> Callable[..., jax.Array]:
    def apply(variables: Any, x: jax.Array) -> jax.Array:
      x = augment.normalise(x, self.mean, self.std, jnp.float32)
      logits, _ = self.module.apply(variables, x, train=False)
      return jax.nn.softmax(logits.astype(jnp.float32))

    return jax.jit(apply)

  @property
  def figure(self) -> Drawing:
    """Its cells."""
    return drawing(self.genotype)

  def __repr__(self) -> str:
    return f"Network({_told(self.history)}, {self.genotype})"

  def _repr_html_(self) -> str:
    told = _told(self.history)
    return _page(self.figure, told, self.genotype, self.notes)


@dataclasses.dataclass(frozen=True, repr=False)
class LanguageModel:
  """A trained recurrent cell, as a language model.

  Attributes:
    genotype: of its cell.
    module: in linen: module.apply(variables, tokens [T, B], hidden [B, H],
      train=False) -> `jnas.spaces.rnn.Output`.
    variables: the best parameters on validation.
    vocabulary: the tokens, by number.
    level: of tokens, word or character.
    history: the numbers of each evaluation.
    notes: what there was to say on the way.
    config: that it was trained with.
    folder: of the run; None without a workdir.
  """

  genotype: RecurrentGenotype
  module: rnn.LanguageModel
  variables: Mapping[str, Any]
  vocabulary: tuple[str, ...]
  level: str
  history: tuple[Row, ...]
  notes: tuple[str, ...]
  config: ml_collections.ConfigDict
  folder: pathlib.Path | None

  def evaluate(self, text: str) -> dict[str, float]:
    """Loss (nats a token), perplexity and bits per character of a text.

    Its tokens are read one after the other, from a hidden state of zero; the
    first is not scored.

    Raises:
      ValueError: the text has fewer than two tokens, or one that is unknown
        where the vocabulary has no "<unk>".
    """
    tokens = text_lib.encode(text, self.vocabulary, self.level)
    bptt = self.config.language.bptt
    split = language.split(tokens, len(text), batch=1, bptt=bptt)
    return self._evaluate(Average(self.variables["params"], {}), None, split)

  def perplexity(self, text: str) -> float:
    """That of a text, a token; see `evaluate`."""
    return self.evaluate(text)["perplexity"]

  def sample(
    self,
    count: int = 100,
    start: str = "",
    *,
    seed: int = 0,
    temperature: float = 1.0,
  ) -> str:
    """Text that it goes on with, drawn token by token.

    Args:
      count: of tokens.
      start: what it has read before; by default the end of a line, or what
        the vocabulary begins with.
      seed: of the draws.
      temperature: below one for likelier tokens.

    Raises:
      ValueError: `start` has an unknown token, or an argument is impossible.
    """
    if count < 1 or temperature <= 0:
      raise ValueError(
        "expected a count of 1 or more and a temperature above 0, got "
        f"{count} and {temperature}"
      )
    end = "\n" if self.level == "character" else text_lib.END
    read = text_lib.encode(start, self.vocabulary, self.level)
    if self.level == "word":
      read = read[:-1]  # a text to go on with has not ended
    if not len(read):
      known = end in self.vocabulary
      read = np.asarray([self.vocabulary.index(end) if known else 0])
    tokens = language.sample(
      self.module,
      self.variables,
      jax.random.key(seed),
      count,
      read,
      temperature,
    )
    return text_lib.joined(np.asarray(tokens), self.vocabulary, self.level)

  @functools.cached_property
  def _evaluate(self) -> Callable[..., dict[str, float]]:
    return language.evaluator(self.module)

  @property
  def figure(self) -> Drawing:
    """Its cell."""
    return drawing(self.genotype)

  def __repr__(self) -> str:
    return f"LanguageModel({_told(self.history)}, {self.genotype})"

  def _repr_html_(self) -> str:
    told = _told(self.history)
    return _page(self.figure, told, self.genotype, self.notes)


def drawing(genotype: AnyGenotype, cell: str | None = None) -> Drawing:
  """The cells of a genotype, or the one with this title."""
  return Drawing(draw_lib.cell_svg(genotype, cell))


def _told(history: Sequence[Row]) -> str:
  """The numbers of the last evaluation, in a line."""
  last = history[-1] if history else {}
  return ", ".join(
    f"{name}={value:.4g}"
    for name, value in last.items()
    if name.endswith(("accuracy", "perplexity", "loss")) or name == "epoch"
  )


def _page(
  figure: Drawing,
  numbers: str,
  genotype: AnyGenotype,
  notes: Sequence[str],
) -> str:
  text = genotype_lib.format_text(genotype)
  lines = [numbers, *notes]
  told = "".join(f"<div>{html.escape(line)}</div>" for line in lines)
  return f"{figure}{told}<code>{html.escape(text)}</code>"
