"""How fast language models are searched and trained, beside plain PyTorch.

  python -m benchmarks.language
  python -m benchmarks.language --what search --batch 64 --rounds 5

Prints tokens per second of both, and their ratio, from steps that take turns
in one process: first-order search steps of the supernet (300 units, windows of
35), and training steps of a derived cell (850 units, windows around 35, which
jnas pads to 35, 45 or 55, beside it all to 55). PyTorch is
`benchmarks.torch_rnn`, as DARTS's code steps it.
"""

import argparse
from collections.abc import Callable
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn

from benchmarks import torch_rnn
from jnas import genotype
from jnas.algorithms.darts import darts
from jnas.data import windows
from jnas.spaces import rnn
from jnas.training import language, optim, steps
from jnas.training.state import Carry, State, zero_totals

BPTT, CLIP, LR = 35, 0.25, 20.0
RATES = rnn.Rates(embedded=0.2, x=0.75, hidden=0.25, output=0.75)
CELL = genotype.RECURRENT_ZOO["DARTS_V2"]


def jax_step(
  spec: rnn.RecurrentSpec,
  batch: int,
  drawn: windows.Windows,
  searching: bool,
  longest: bool = False,
) -> Callable[[], int]:
  """A function that does the next step and returns its tokens.

  With `longest` all windows are padded to one size.
  """
  model = rnn.LanguageModel(spec)
  objective = language.objective(
    model, rates=RATES, activation=0.0, temporal=1e-3, bptt=BPTT
  )
  weights_optimizer = optim.averaged_sgd(LR, decay=5e-7, clip=CLIP, patience=5)
  arch_optimizer = optim.adam(3e-3, b1=0.9, b2=0.999, decay=1e-3)
  draw = functools.partial(
    language.draw,
    seed=0,
    train=drawn,
    local=batch,
    offset=lambda local: 0,
    valid_rows=drawn.rows if searching else 0,
  )
  algorithm = darts(spec)
  arch = algorithm.init(jax.random.key(1), 1e-3) if searching else ()
  hidden = language.initial(spec, batch)
  edges = algorithm.relax(arch, None, 0) if searching else None
  variables = jax.jit(
    lambda key: model.init(
      key, jnp.zeros((1, batch), int), hidden, edges, train=False
    )
  )(jax.random.key(0))
  weights = variables["params"]
  state = State(
    step=jnp.int32(0),
    weights=weights,
    stats=variables.get("batch_stats", {}),
    arch=arch,
    weights_opt=weights_optimizer.init(weights),
    arch_opt=arch_optimizer.init(arch) if searching else (),
    totals=zero_totals(("cross_entropy",)),
    carry=Carry(hidden, hidden + 0 if searching else ()),
  )
  if searching:
    step = steps.search_step(
      algorithm, objective, weights_optimizer, arch_optimizer, draw(),
      seed=0, virtual=lambda state: None,
    )
  else:
    def padded_to(size: int | None) -> steps.Step:
      return steps.train_step(objective, weights_optimizer, draw(size=size))

    step = (
      padded_to(None) if longest
      else language.padded_step(padded_to, drawn, seed=0)
    )
  step = jax.jit(step, donate_argnums=0)
  columns = [columns_of(spec, batch, drawn, i) for i in range(1 + searching)]
  lengths = jax.jit(lambda i: draw()(columns[0], "train", i).x.length)
  held = {"state": state}

  def advance() -> int:
    tokens = batch * int(lengths(held["state"].step))
    held["state"], metrics = step(held["state"], *columns)
    jax.block_until_ready(metrics)
    return tokens

  return advance


def columns_of(spec, batch: int, drawn: windows.Windows, seed: int):
  """A made-up text."""
  tokens = np.random.default_rng(seed).integers(
    spec.vocabulary, size=(drawn.rows, batch), dtype=np.int32
  )
  return jnp.asarray(windows.padded(tokens, drawn.longest))


def torch_step(
  spec: rnn.RecurrentSpec, batch: int, searching: bool
) -> Callable[[], int]:
  """The same in PyTorch, with windows of 35 that are not padded."""
  width, size = spec.width, spec.vocabulary
  pairs = None if searching else CELL.recurrent
  model = torch_rnn.LanguageModel(size, width, 8, pairs, spec.cell.concat)
  alpha = (1e-3 * torch.randn(spec.cell.shape)).requires_grad_(searching)
  of_alpha = torch.optim.Adam([alpha], lr=3e-3, weight_decay=1e-3)
  weights = list(model.parameters())
  optimizer = torch.optim.SGD(weights, lr=LR, weight_decay=5e-7)
  hidden = {True: torch.zeros(batch, width), False: torch.zeros(batch, width)}

  def mask(rate: float) -> torch.Tensor:
    return torch.bernoulli(torch.full((batch, width), 1 - rate)) / (1 - rate)

  def loss(train: bool) -> torch.Tensor:
    tokens = torch.randint(size, (BPTT + 1, batch))
    masks = (None, *(mask(rate) for rate in RATES[1:]))
    p = torch.softmax(alpha, -1) if searching else None
    logits, last, states, _ = model(tokens[:-1], hidden[train], p, masks)
    hidden[train] = last.detach()
    entropy = nn.functional.cross_entropy(
      logits.flatten(0, 1), tokens[1:].flatten()
    )
    return entropy + 1e-3 * (states[1:] - states[:-1]).square().mean()

  def advance() -> int:
    if searching:
      of_alpha.zero_grad()
      loss(False).backward()
      of_alpha.step()
    optimizer.zero_grad()
    loss(True).backward()
    nn.utils.clip_grad_norm_(weights, CLIP)
    optimizer.step()
    return BPTT * batch

  return advance


def main() -> None:
  """Prints the table."""
  parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
  parser.add_argument("--what", nargs="+", default=["search", "train"])
  parser.add_argument("--batch", type=int, default=64)
  parser.add_argument("--vocabulary", type=int, default=10_000)
  parser.add_argument("--rounds", type=int, default=3)
  options = parser.parse_args()
  batch, vocabulary = options.batch, options.vocabulary
  for what in options.what:
    searching = what == "search"
    if searching:
      spec = rnn.supernet(8, width=300, vocabulary=vocabulary)
    else:
      spec = rnn.derived(CELL, width=850, vocabulary=vocabulary)
    drawn = windows.Windows(
      2000, BPTT, halved=0.0, deviation=0.0 if searching else 5.0
    )
    turns = {
      "jnas": jax_step(spec, batch, drawn, searching),
      "PyTorch": torch_step(spec, batch, searching),
    }
    if not searching:
      turns["jnas, padded to the longest"] = jax_step(
        spec, batch, drawn, searching, longest=True
      )
    done = {name: [0, 0.0] for name in turns}
    for turn in range(options.rounds + 1):
      for name, advance in turns.items():
        begun = time.perf_counter()
        tokens = advance()
        if turn:  # the first one compiles
          done[name][0] += tokens
          done[name][1] += time.perf_counter() - begun
    # Windows differ in length, and so does what they cost: no median.
    speeds = {name: tokens / spent for name, (tokens, spent) in done.items()}
    for name, speed in speeds.items():
      print(
        f"{what}, batch {batch}, {vocabulary:,} words: {name} {speed:,.0f} "
        f"tokens/s, {speed / speeds['PyTorch']:.2f} of PyTorch",
        flush=True,
      )


if __name__ == "__main__":
  main()
