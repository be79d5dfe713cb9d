"""DARTS's recurrent language model in plain PyTorch: the baseline.

It is written as a PyTorch user writes it: loops over time, over nodes and over
activations. The model is that of Liu, Simonyan & Yang 2019: one matrix for
each node, variational dropout, in a search one normalisation for all nodes.

  model = LanguageModel(vocabulary=10_000, width=300, steps=8)
  logits, hidden, states, dropped = model(tokens, hidden, probabilities, masks)

Tokens are [T, B]. `masks` are those of `jnas.spaces.rnn.Masks`, as tensors.
"""

from collections.abc import Sequence

import torch
from torch import nn

Tensor = torch.Tensor

PRIMITIVES = ("none", "tanh", "relu", "sigmoid", "identity")


def activation(name: str, x: Tensor) -> Tensor:
  """The activation of this name."""
  if name == "identity":
    return x
  return {"tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid}[
    name
  ](x)


class LanguageModel(nn.Module):
  """The search network, or with `pairs` that of a genotype."""

  def __init__(
    self,
    vocabulary: int,
    width: int,
    steps: int,
    pairs: Sequence[tuple[str, int]] | None = None,
    concat: Sequence[int] | None = None,
  ):
    super().__init__()
    self.width, self.steps, self.pairs = width, steps, pairs
    self.concat = concat or range(1, steps + 1)
    self.encoder = nn.Embedding(vocabulary, width)
    self.decoder = nn.Linear(width, vocabulary)
    self.decoder.weight = self.encoder.weight
    self.w0 = nn.Parameter(torch.empty(2 * width, 2 * width))
    self.ws = nn.ParameterList(
      nn.Parameter(torch.empty(width, 2 * width)) for _ in range(steps)
    )
    self.norm = None
    if pairs is None:
      self.norm = nn.BatchNorm1d(width, affine=False)
    for parameter in self.parameters():
      nn.init.uniform_(parameter, -0.04, 0.04)
    nn.init.zeros_(self.decoder.bias)

  def forward(self, tokens, hidden, probabilities=None, masks=None):
    """Logits [T, B, V], last hidden state, states, and those dropped."""
    masks = masks or (None,) * 5
    words, embedded, of_x, of_h, output = masks
    table = self.encoder.weight
    if words is not None:
      table = table * words
    x = nn.functional.embedding(tokens, table)
    if embedded is not None:
      x = x * embedded
    states = []
    for t in range(len(x)):
      hidden = self.cell(x[t], hidden, of_x, of_h, probabilities)
      states.append(hidden)
    states = torch.stack(states)
    dropped = states if output is None else states * output
    return self.decoder(dropped), hidden, states, dropped

  def cell(self, x, h, of_x, of_h, probabilities):
    """The next hidden state."""
    x = x if of_x is None else x * of_x
    masked = h if of_h is None else h * of_h
    c0, h0 = torch.split(torch.cat([x, masked], -1) @ self.w0, self.width, -1)
    s0 = h + torch.sigmoid(c0) * (torch.tanh(h0) - h)
    if self.pairs is not None:
      return self.derived(s0, of_h)
    return self.mixed(self.norm(s0), of_h, probabilities)

  def derived(self, s0, of_h):
    """The mean of the nodes of a genotype."""
    states = [s0]
    for (name, source), w in zip(self.pairs, self.ws, strict=True):
      s = states[source]
      c, h = torch.split(
        (s if of_h is None else s * of_h) @ w, self.width, -1
      )
      states.append(s + torch.sigmoid(c) * (activation(name, h) - s))
    return torch.stack([states[i] for i in self.concat], -1).mean(-1)

  def mixed(self, s0, of_h, probabilities):
    """The mean of the nodes, each a mixture over inputs and activations."""
    states, offset = s0[None], 0
    for i, w in enumerate(self.ws):
      read = states if of_h is None else states * of_h
      c, h = torch.split(read @ w, self.width, -1)
      c, s = torch.sigmoid(c), torch.zeros_like(s0)
      for k, name in enumerate(PRIMITIVES):
        if name != "none":
          each = states + c * (activation(name, h) - states)
          p = probabilities[offset : offset + i + 1, k]
          s = s + (p[:, None, None] * each).sum(0)
      states = torch.cat([states, self.norm(s)[None]], 0)
      offset += i + 1
    return states[-self.steps :].mean(0)
