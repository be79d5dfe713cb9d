"""The search supernet of DARTS in plain PyTorch: the baseline.

It is written as a PyTorch user writes it: a module for each operator, a mixed
operator on each edge, a loop over the edges of each cell. Grouped
convolutions stay grouped, nothing is merged or shared, `none` is an operator
like the others. The network is that of Liu, Simonyan & Yang 2019: shared
logits for all normal and for all reduction cells, normalisations without a
learnable scale except in the stem, a normalisation after each pooling.

  model = build(S1, cells=8, width=16, classes=10)
  search = prepare(model, channels_last=True, compiled=True)
  losses = search_step(search, place(search, x, y), place(search, x2, y2))

Images are [N, 3, H, W], as PyTorch has them. H and W must be divisible by
four: like the published code, this one has no rule for halving an odd size.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

Tensor = torch.Tensor


class Zero(nn.Module):
  """The operator `none`."""

  def __init__(self, stride: int):
    super().__init__()
    self.stride = stride

  def forward(self, x: Tensor) -> Tensor:
    """Zeros, [N, C, H / stride, W / stride]."""
    return x[:, :, :: self.stride, :: self.stride] * 0.0


class FactorizedReduce(nn.Module):
  """ReLU, two 1 x 1 convolutions of stride two, normalisation."""

  def __init__(self, inputs: int, outputs: int):
    super().__init__()
    self.even = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
    self.odd = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
    self.norm = nn.BatchNorm2d(outputs, affine=False)

  def forward(self, x: Tensor) -> Tensor:
    """[N, outputs, H / 2, W / 2]; the second half reads the odd pixels."""
    x = functional.relu(x)
    halves = (self.even(x), self.odd(x[:, :, 1:, 1:]))
    return self.norm(torch.cat(halves, dim=1))


def separable(
  channels: int, size: int, stride: int, dilation: int = 1
) -> list[nn.Module]:
  """ReLU, depthwise convolution, pointwise convolution, normalisation."""
  return [
    nn.ReLU(),
    nn.Conv2d(
      channels,
      channels,
      size,
      stride=stride,
      padding=dilation * (size - 1) // 2,
      dilation=dilation,
      groups=channels,
      bias=False,
    ),
    nn.Conv2d(channels, channels, 1, bias=False),
    nn.BatchNorm2d(channels, affine=False),
  ]


def operator(name: str, channels: int, stride: int) -> nn.Module:
  """The operator with this name.

  Raises:
    ValueError: there is none.
  """
  if name == "none":
    return Zero(stride)
  if name == "skip_connect":
    halving = stride == 2
    return FactorizedReduce(channels, channels) if halving else nn.Identity()
  if name in ("max_pool_3x3", "avg_pool_3x3"):
    pool = (
      nn.MaxPool2d(3, stride, 1)
      if name == "max_pool_3x3"
      else nn.AvgPool2d(3, stride, 1, count_include_pad=False)
    )
    return nn.Sequential(pool, nn.BatchNorm2d(channels, affine=False))
  sizes = {"3x3": 3, "5x5": 5, "7x7": 7}
  form, _, size = name.rpartition("_")
  if form == "sep_conv" and size in sizes:
    first = separable(channels, sizes[size], stride)
    return nn.Sequential(*first, *separable(channels, sizes[size], 1))
  if form == "dil_conv" and size in sizes:
    return nn.Sequential(*separable(channels, sizes[size], stride, 2))
  raise ValueError(
    f"the baseline has no operator {name!r}; it has those of S1, and sep_conv "
    f"and dil_conv of sizes {', '.join(sizes)}"
  )


class MixedOp(nn.Module):
  """All operators on one edge."""

  def __init__(self, names: Sequence[str], channels: int, stride: int):
    super().__init__()
    self.ops = nn.ModuleList(operator(n, channels, stride) for n in names)

  def forward(self, x: Tensor, weights: Tensor) -> Tensor:
    """The sum of weights[o] * operator o (x); weights are [O]."""
    return sum(w * op(x) for w, op in zip(weights, self.ops, strict=True))


class Cell(nn.Module):
  """A cell: two inputs, `nodes` intermediate nodes, an edge for each pair.

  `edges[i]` is edge i in DARTS's order: targets outermost, then sources.
  """

  def __init__(
    self,
    names: Sequence[str],
    nodes: int,
    inputs: tuple[int, int],
    channels: int,
    reduction: bool,
    reduction_before: bool,
  ):
    super().__init__()
    self.nodes = nodes
    if reduction_before:
      self.input0 = FactorizedReduce(inputs[0], channels)
    else:
      self.input0 = _preprocess(inputs[0], channels)
    self.input1 = _preprocess(inputs[1], channels)
    self.edges = nn.ModuleList()
    for node in range(nodes):
      for source in range(2 + node):
        stride = 2 if reduction and source < 2 else 1
        self.edges.append(MixedOp(names, channels, stride))

  def forward(self, s0: Tensor, s1: Tensor, weights: Tensor) -> Tensor:
    """The concatenated nodes, [N, nodes * C, H', W']; weights are [E, O]."""
    states = [self.input0(s0), self.input1(s1)]
    start = 0
    for _ in range(self.nodes):
      total = sum(
        self.edges[start + j](x, weights[start + j])
        for j, x in enumerate(states)
      )
      start += len(states)
      states.append(total)
    return torch.cat(states[2:], dim=1)


def _preprocess(inputs: int, channels: int) -> nn.Module:
  return nn.Sequential(
    nn.ReLU(),
    nn.Conv2d(inputs, channels, 1, bias=False),
    nn.BatchNorm2d(channels, affine=False),
  )


class Supernet(nn.Module):
  """Stem, cells, global mean, classifier; and the architecture's logits.

  Attributes:
    alphas: logits [E, O] of the "normal" and of the "reduce" cells, as far as
      the stack has them.
    kinds: for each cell, whose logits it uses.
  """

  def __init__(
    self,
    names: Sequence[str],
    cells: int,
    width: int,
    classes: int,
    nodes: int,
  ):
    super().__init__()
    reductions = (cells // 3, 2 * cells // 3)
    self.kinds = tuple(
      "reduce" if i in reductions else "normal" for i in range(cells)
    )
    channels = 3 * width
    self.stem = nn.Sequential(
      nn.Conv2d(3, channels, 3, padding=1, bias=False),
      nn.BatchNorm2d(channels),
    )
    inputs, before = (channels, channels), False
    self.cells = nn.ModuleList()
    for kind in self.kinds:
      reduction = kind == "reduce"
      width *= 2 if reduction else 1
      self.cells.append(Cell(names, nodes, inputs, width, reduction, before))
      inputs, before = (inputs[1], nodes * width), reduction
    self.classifier = nn.Linear(inputs[1], classes)
    edges = nodes * (nodes + 3) // 2
    self.alphas = nn.ParameterDict(
      {
        kind: nn.Parameter(1e-3 * torch.randn(edges, len(names)))
        for kind in sorted(set(self.kinds))
      }
    )

  def forward(self, x: Tensor) -> Tensor:
    """Logits [N, K] of images [N, 3, H, W]."""
    weights = {k: a.softmax(dim=-1) for k, a in self.alphas.items()}
    s0 = s1 = self.stem(x)
    for kind, cell in zip(self.kinds, self.cells, strict=True):
      s0, s1 = s1, cell(s0, s1, weights[kind])
    return self.classifier(s1.mean(dim=(2, 3)))

  def weights(self) -> list[nn.Parameter]:
    """All parameters but the logits of the architecture."""
    return [
      p for name, p in self.named_parameters() if not name.startswith("alphas.")
    ]


def build(
  ops: Sequence[str],
  *,
  cells: int,
  width: int,
  classes: int,
  nodes: int = 4,
) -> Supernet:
  """The supernet, in training mode, drawn from PyTorch's global generator.

  The arguments are those of `jnas.spaces.spec.supernet`.

  Args:
    ops: operators of every edge, e.g. `jnas.spaces.spec.S1`.
    cells: depth of the stack.
    width: channels C of the first cells' nodes.
    classes: number of classes.
    nodes: number of intermediate nodes of a cell.
  """
  return Supernet(tuple(ops), cells, width, classes, nodes)


class Search(NamedTuple):
  """A supernet with all that a search step needs.

  Attributes:
    model: the supernet.
    forward: images -> logits: the supernet, perhaps compiled.
    weights: parameters of the network, without those of the architecture.
    weights_optimizer: SGD of the weights.
    alpha_optimizer: Adam of the architecture's logits.
    clip: largest norm of the weights' gradient; 0 for no clipping.
    device: where it all is.
    layout: memory format of the images.
    dtype: type of the arithmetic under autocast, or None for the parameters'.
    freeze: whether each half of a step computes its own gradients only.
  """

  model: Supernet
  forward: Callable[[Tensor], Tensor]
  weights: list[nn.Parameter]
  weights_optimizer: torch.optim.Optimizer
  alpha_optimizer: torch.optim.Optimizer
  clip: float
  device: torch.device
  layout: torch.memory_format
  dtype: torch.dtype | None
  freeze: bool


def prepare(
  model: Supernet,
  *,
  device: str = "cpu",
  channels_last: bool = False,
  compiled: bool = False,
  dtype: torch.dtype | None = None,
  freeze: bool = True,
  weights: Mapping[str, Any] | None = None,
  alpha: Mapping[str, Any] | None = None,
  clip: float = 5.0,
) -> Search:
  """A search on this model, with DARTS's optimizers.

  Args:
    model: moved to the device and the layout in place.
    device: "cpu" or "cuda".
    channels_last: whether features lie in memory as NHWC.
    compiled: whether the network goes through `torch.compile`; with `freeze`
      the first step compiles two programs, one for each half.
    dtype: of the arithmetic under autocast, e.g. `torch.bfloat16`.
    freeze: whether each half of a step computes the gradients of its own
      parameters only, as `jnas` does. The published code computes all of them
      in both halves and throws half of them away.
    weights: changes to the arguments of SGD.
    alpha: changes to the arguments of Adam.
    clip: largest norm of the weights' gradient; 0 for no clipping.
  """
  layout = torch.channels_last if channels_last else torch.contiguous_format
  model.to(device=device, memory_format=layout)
  parameters = model.weights()
  sgd = {"lr": 0.025, "momentum": 0.9, "weight_decay": 3e-4}
  adam = {"lr": 3e-4, "betas": (0.5, 0.999), "weight_decay": 1e-3}
  return Search(
    model=model,
    forward=torch.compile(model) if compiled else model,
    weights=parameters,
    weights_optimizer=torch.optim.SGD(parameters, **sgd | dict(weights or {})),
    alpha_optimizer=torch.optim.Adam(
      model.alphas.parameters(), **adam | dict(alpha or {})
    ),
    clip=clip,
    device=torch.device(device),
    layout=layout,
    dtype=dtype,
    freeze=freeze,
  )


def place(search: Search, x: Any, y: Any) -> tuple[Tensor, Tensor]:
  """Images and labels as tensors on the device, in the search's layout.

  Args:
    search: what they are for.
    x: [N, 3, H, W], a tensor or a numpy array.
    y: [N] class numbers, a tensor or a numpy array.
  """
  x = torch.as_tensor(x, device=search.device)
  y = torch.as_tensor(y, device=search.device, dtype=torch.long)
  return x.contiguous(memory_format=search.layout), y


def loss(search: Search, batch: tuple[Tensor, Tensor]) -> Tensor:
  """The mean cross entropy in nats of a batch from `place`."""
  x, y = batch
  with torch.autocast(
    search.device.type, search.dtype, enabled=search.dtype is not None
  ):
    return functional.cross_entropy(search.forward(x), y)


def search_step(
  search: Search,
  train: tuple[Tensor, Tensor],
  valid: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor]:
  """The losses (train, valid) of one first-order search step, before it.

  The logits of the architecture step first, on `valid`, then the weights on
  `train`. The losses stay on the device: nothing here waits for it.

  Args:
    search: from `prepare`.
    train: a batch from `place`.
    valid: another one.
  """
  alphas = list(search.model.alphas.parameters())
  _require(search.weights, not search.freeze)
  search.alpha_optimizer.zero_grad()
  held_out = loss(search, valid)
  held_out.backward()
  search.alpha_optimizer.step()
  _require(search.weights, True)

  _require(alphas, not search.freeze)
  search.weights_optimizer.zero_grad()
  fitted = loss(search, train)
  fitted.backward()
  if search.clip:
    nn.utils.clip_grad_norm_(search.weights, search.clip)
  search.weights_optimizer.step()
  _require(alphas, True)
  return fitted.detach(), held_out.detach()


def _require(parameters: Sequence[nn.Parameter], gradient: bool) -> None:
  for parameter in parameters:
    parameter.requires_grad_(gradient)
