"""The recurrent cell of DARTS, in a language model: searched and derived.

Node 0 is made of the input x and of the hidden state h before it, each later
node of the nodes before it, and their mean is the next hidden state (Liu et
al. 2019, appendix A.1.2 and the published code):

  c0, h0 = (x, h) W0        s0 = h + sigmoid(c0) (tanh(h0) - h)
  c, h = s_j W_i            s_i = sum over j, o of
                                  p[(j, i), o] (s_j + sigmoid(c) (o(h) - s_j))

with the activations o of the edge from j to i. W_i belongs to the node: all
edges into it share it. `none` has a weight p and nothing to add.

A supernet and a derived cell are one module: what the latter lacks is edges.
While searching there is one normalisation, without scale and shift, behind all
nodes, node 0 included: they share its running moments, over all of time.

Shape letters: T time, B sequences, H width of hidden states, V vocabulary.
"""

from collections.abc import Mapping
import dataclasses
from typing import NamedTuple

import chex
from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp

from jnas.genotype import RECURRENT_OPERATIONS, RecurrentGenotype
from jnas.spaces import recurrence
from jnas.spaces.norm import EPSILON, MOMENTUM
from jnas.spaces.spec import Cell, Layer

Array = jax.Array
NAME = "recurrent"  # of the cell, in edge weights and genotypes

_ACTIVATIONS = {
  "tanh": jnp.tanh,
  "relu": jax.nn.relu,
  "sigmoid": jax.nn.sigmoid,
  "identity": lambda x: x,
}


@dataclasses.dataclass(frozen=True)
class RecurrentSpec:
  """A language model around one recurrent cell.

  Attributes:
    cell: its nodes; node 0 is that of x and h.
    width: H, of embeddings and hidden states.
    vocabulary: V.
    norm: whether nodes are normalised, as in a search.
  """

  cell: Cell
  width: int
  vocabulary: int
  norm: bool = True

  @property
  def space(self) -> str:
    """By which `registry` knows its space, as in `spec.Spec`."""
    return "rnn"

  @property
  def cells(self) -> tuple[tuple[str, Cell], ...]:
    """The one cell, by name, as in `spec.Spec`."""
    return ((NAME, self.cell),)

  @property
  def layers(self) -> tuple[Layer, ...]:
    """The one cell, as in `spec.Spec`."""
    return (Layer(NAME, reduction=False),)

  @property
  def searched(self) -> tuple[tuple[str, Cell], ...]:
    """The (name, cell) pairs that have logits."""
    return self.cells


def supernet(steps: int, *, width: int, vocabulary: int) -> RecurrentSpec:
  """The search network, in which each node reads all nodes before it.

  Args:
    steps: nodes beside node 0; 8 in the papers, which makes 36 edges.
    width: H.
    vocabulary: V.
  """
  edges = tuple((j, i) for i in range(1, steps + 1) for j in range(i))
  cell = Cell(
    ops=RECURRENT_OPERATIONS,
    edges=edges,
    kept=(RECURRENT_OPERATIONS[1:],) * len(edges),
    concat=tuple(range(1, steps + 1)),
    inputs=1,
    degree=1,
  )
  return RecurrentSpec(cell, width, vocabulary)


def derived(
  genotype: RecurrentGenotype, *, width: int, vocabulary: int
) -> RecurrentSpec:
  """The network of a genotype, each node of which reads one other.

  Args:
    genotype: valid (`genotype.validate`); `none` makes a node of zeros.
    width: H.
    vocabulary: V.
  """
  pairs = genotype.recurrent
  cell = Cell(
    ops=RECURRENT_OPERATIONS,
    edges=tuple((source, i) for i, (_, source) in enumerate(pairs, 1)),
    kept=tuple((op,) for op, _ in pairs),
    concat=genotype.concat,
    inputs=1,
    degree=1,
  )
  return RecurrentSpec(cell, width, vocabulary, norm=False)


class Masks(NamedTuple):
  """What dropout multiplies with, the same at all times of a window.

  Each is None where nothing is dropped; kept entries are 1 / (1 - rate).

  Attributes:
    words: [V, 1], of whole embeddings.
    embedded: [B, H], of the embedded sequence.
    x: [B, H], of the cell's input.
    hidden: [B, H], of the hidden state and of every node that is read.
    output: [B, H], of what the decoder reads.
  """

  words: Array | None = None
  embedded: Array | None = None
  x: Array | None = None
  hidden: Array | None = None
  output: Array | None = None


NO_DROPOUT = Masks()


class Rates(NamedTuple):
  """Rates of dropout, by the names of `Masks`."""

  words: float = 0.0
  embedded: float = 0.0
  x: float = 0.0
  hidden: float = 0.0
  output: float = 0.0


def draw_masks(key: Array, keys: Array, spec: RecurrentSpec, rates: Rates):
  """The masks of one window: variational dropout (Gal & Ghahramani 2016).

  Args:
    key: typed key, the same on all replicas: words are dropped everywhere.
    keys: [B] typed keys, one for each sequence.
    spec: with the sizes.
    rates: of dropout, each in [0, 1).
  """

  def mask(key: Array, rate: float, shape: tuple[int, ...]) -> Array:
    keep = jax.random.bernoulli(key, 1 - rate, shape)
    return keep.astype(jnp.float32) / (1 - rate)

  def per_sequence(stream: int, rate: float) -> Array | None:
    if not rate:
      return None
    return jax.vmap(
      lambda own: mask(jax.random.fold_in(own, stream), rate, (spec.width,))
    )(keys)

  return Masks(
    mask(key, rates.words, (spec.vocabulary, 1)) if rates.words else None,
    *(per_sequence(i, rate) for i, rate in enumerate(rates[1:])),
  )


class Output(NamedTuple):
  """What a language model makes of a window.

  Attributes:
    logits: [T, B, V], of the next token.
    hidden: [B, H], after the last time that counts.
    states: [T, B, H], the hidden states.
    dropped: the same after the last dropout, as the decoder reads them.
  """

  logits: Array
  hidden: Array
  states: Array
  dropped: Array


def _masked(x: Array, mask: Array | None) -> Array:
  if mask is None:
    return x
  return x * jnp.expand_dims(mask.astype(x.dtype), range(x.ndim - mask.ndim))


def _uniform(key: Array, shape: tuple[int, ...], dtype=jnp.float32) -> Array:
  return jax.random.uniform(key, shape, dtype, -0.04, 0.04)


class _Moments(NamedTuple):
  mean: Array
  var: Array


class _Cell(nn.Module):
  """The cell at all times of a window."""

  spec: RecurrentSpec
  train: bool
  axis: str | None

  @nn.compact
  def __call__(self, carry, xs, shared):
    nodes, width = self.spec.cell.nodes, self.spec.width
    w0 = self.param("hidden", _uniform, (width, 2 * width))
    w = self.param("nodes", _uniform, (nodes - 1, width, 2 * width))
    return recurrence.scan(self._step, [w0, *w], carry, xs, shared)

  def _step(self, product, carry, xs, shared):
    (hidden, moments), (x, valid), (weights, mask) = carry, xs, shared
    cell = self.spec.cell

    def norm(s: Array, moments: _Moments) -> tuple[Array, _Moments]:
      if not self.spec.norm:
        return s, moments
      return _normalised(s, moments, self.train, self.axis)

    c, h = jnp.split(x + product(0, _masked(hidden, mask)), 2, axis=-1)
    s0 = hidden + jax.nn.sigmoid(c) * (jnp.tanh(h) - hidden)
    s0, new = norm(s0, moments)
    states = [s0]
    for i in range(1, cell.nodes):
      into = [e for e, (_, target) in enumerate(cell.edges) if target == i]
      read = jnp.stack([states[cell.edges[e][0]] for e in into])
      c, h = jnp.split(product(i, _masked(read, mask)), 2, axis=-1)
      s = _node(cell, into, read, jax.nn.sigmoid(c), h, weights)
      s, new = norm(s, new)
      states.append(s)
    output = sum(states[i] for i in cell.concat) / len(cell.concat)
    # What is padded leaves no trace.
    hidden = jnp.where(valid, output, hidden)
    moments = jax.tree.map(lambda a, b: jnp.where(valid, a, b), new, moments)
    return (hidden, moments), output


def _node(
  cell: Cell,
  into: list[int],
  read: Array,
  gate: Array,
  h: Array,
  weights: Array | None,
) -> Array:
  """s_i, [B, H], of the states that node i reads, [edges, B, H].

  The sum over activations is taken first: s_j and the gate have no part in it.
  """
  if weights is None:
    found = []
    for k, e in enumerate(into):
      (op,) = cell.kept[e]
      if op != "none":
        act = _ACTIVATIONS[op](h[k])
        found.append(read[k] + gate[k] * (act - read[k]))
    return sum(found) if found else jnp.zeros_like(read[0])
  p = weights[jnp.asarray(into)][..., None, None]
  column = {op: p[:, o] for o, op in enumerate(cell.ops) if op != "none"}
  acts = sum(column[op] * _ACTIVATIONS[op](h) for op in column)
  total = sum(column.values()) * read
  return (total + gate * (acts - total)).sum(0)


def _normalised(
  x: Array, running: _Moments, train: bool, axis: str | None
) -> tuple[Array, _Moments]:
  """x [B, H] normalised over B, and the running moments; as PyTorch's."""
  mean, var = (old[None] for old in running)
  if train:

    def over_all(a: Array) -> Array:
      a = a.mean(0, keepdims=True)
      return a if axis is None else lax.pmean(a, axis)

    mean = over_all(x)
    var = over_all(jnp.square(x - mean))
    count = x.shape[0] * (1 if axis is None else lax.axis_size(axis))
    unbiased = var * count / max(count - 1, 1)
    running = _Moments(
      *(
        (MOMENTUM * old + (1 - MOMENTUM) * new[0]).astype(old.dtype)
        for old, new in zip(running, (mean, unbiased), strict=True)
      )
    )
  return (x - mean) * lax.rsqrt(var + EPSILON), running


class LanguageModel(nn.Module):
  """Embedding, recurrent cell, decoder that shares the embedding's weights.

  Attributes:
    spec: the network.
    axis: mesh axis over which batch statistics are shared, or None.
  """

  spec: RecurrentSpec
  axis: str | None = None

  @nn.compact
  def __call__(
    self,
    tokens: Array,
    hidden: Array,
    edge_weights: Mapping[str, Array] | None = None,
    masks: Masks = NO_DROPOUT,
    length: Array | int | None = None,
    *,
    train: bool,
  ) -> Output:
    """The logits of each next token, and the hidden state to go on with.

    Args:
      tokens: [T, B].
      hidden: [B, H], zeros at the beginning of a text.
      edge_weights: {"recurrent": [E, O]}; None for a derived network.
      masks: of dropout.
      length: times that count; the others are padding, at the end. None: all.
      train: whether nodes are normalised by the statistics of the batch, which
        move the running ones, or by these.
    """
    spec = self.spec
    chex.assert_rank(tokens, 2)
    chex.assert_type(tokens, int)
    chex.assert_shape(hidden, (tokens.shape[1], spec.width))
    if edge_weights is not None:
      chex.assert_shape(edge_weights[NAME], spec.cell.shape)
    table = self.param("embedding", _uniform, (spec.vocabulary, spec.width))
    bias = self.param("bias", nn.initializers.zeros, (spec.vocabulary,))
    w0 = self.param("input", _uniform, (spec.width, 2 * spec.width))
    moments = None
    if spec.norm:
      shape = (spec.width,)
      mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
      var = self.variable("batch_stats", "var", jnp.ones, shape)
      moments = _Moments(mean.value, var.value)
    embedded = _masked(table, masks.words)[tokens]
    x = _masked(_masked(embedded, masks.embedded), masks.x) @ w0
    times = tokens.shape[0]
    valid = jnp.arange(times) < (times if length is None else length)
    weights = None if edge_weights is None else edge_weights[NAME]
    cell = _Cell(spec, train, self.axis, name="cell")
    (hidden, moments), states = cell(
      (hidden, moments), (x, valid), (weights, masks.hidden)
    )
    if spec.norm and train and not self.is_initializing():
      mean.value, var.value = moments
    dropped = _masked(states, masks.output)
    logits = dropped @ table.T + bias[None, None]
    return Output(logits, hidden, states, dropped)
