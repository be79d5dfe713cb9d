"""The networks of genotypes in PyTorch, with the names of DARTS's code."""

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from jnas import genotype as genotype_lib  # noqa: E402


def batch_norm(channels):
  return nn.BatchNorm2d(channels)


def conv(inputs, outputs, size=1, stride=1, **options):
  return nn.Conv2d(inputs, outputs, size, stride, bias=False, **options)


class Sequence(nn.Module):
  """Modules one after the other, as `op`."""

  def __init__(self, *modules):
    super().__init__()
    self.op = nn.Sequential(*modules)

  def forward(self, x):
    return self.op(x)


class FactorizedReduce(nn.Module):
  def __init__(self, inputs, outputs):
    super().__init__()
    self.conv_1 = conv(inputs, outputs // 2, stride=2)
    self.conv_2 = conv(inputs, outputs // 2, stride=2)
    self.bn = batch_norm(outputs)

  def forward(self, x):
    x = x.relu()
    halves = self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])
    return self.bn(torch.cat(halves, 1))


def preprocess(inputs, outputs, halve=False):
  if halve:
    return FactorizedReduce(inputs, outputs)
  return Sequence(nn.ReLU(), conv(inputs, outputs), batch_norm(outputs))


def operator(name, c, stride):
  if name == "skip_connect":
    return nn.Identity() if stride == 1 else FactorizedReduce(c, c)
  if name == "max_pool_3x3":
    return nn.MaxPool2d(3, stride, 1)
  if name == "avg_pool_3x3":
    return nn.AvgPool2d(3, stride, 1, count_include_pad=False)
  if name == "conv_7x1_1x7":
    across = conv(c, c, (1, 7), (1, stride), padding=(0, 3))
    down = conv(c, c, (7, 1), (stride, 1), padding=(3, 0))
    return nn.Sequential(nn.ReLU(), across, down, batch_norm(c))
  kind, _, size = name.split("_")
  size, dilation = int(size[0]), 2 if kind == "dil" else 1
  modules = []
  for own in (stride, 1)[: 3 - dilation]:
    padding = dilation * (size - 1) // 2
    options = dict(padding=padding, dilation=dilation, groups=c)
    modules += [nn.ReLU(), conv(c, c, size, own, **options)]
    modules += [conv(c, c), batch_norm(c)]
  return Sequence(*modules)


class Cell(nn.Module):
  def __init__(self, triples, concat, inputs, c, reduction, halved):
    super().__init__()
    self.preprocess0 = preprocess(inputs[0], c, halved)
    self.preprocess1 = preprocess(inputs[1], c)
    self._ops = nn.ModuleList(
      operator(op, c, 2 if reduction and source < 2 else 1)
      for op, source, _ in triples
    )
    self.triples, self.concat = triples, concat

  def forward(self, s0, s1):
    states = {0: self.preprocess0(s0), 1: self.preprocess1(s1)}
    for op, (_, source, target) in zip(self._ops, self.triples, strict=True):
      y = op(states[source])
      states[target] = states[target] + y if target in states else y
    return torch.cat([states[i] for i in self.concat], 1)


class FixedReduction(nn.Module):
  """That of GDAS, without a genotype."""

  def __init__(self, inputs, c, halved):
    super().__init__()
    self.preprocess0 = preprocess(inputs[0], c, halved)
    self.preprocess1 = preprocess(inputs[1], c)
    self.ops1 = nn.ModuleList(
      nn.Sequential(
        nn.ReLU(),
        conv(c, c, (1, 3), (1, 2), padding=(0, 1), groups=8),
        conv(c, c, (3, 1), (2, 1), padding=(1, 0), groups=8),
        batch_norm(c),
        nn.ReLU(),
        conv(c, c),
        batch_norm(c),
      )
      for _ in range(2)
    )
    self.ops2 = nn.ModuleList(
      nn.Sequential(nn.MaxPool2d(3, 2, 1), batch_norm(c)) for _ in range(2)
    )

  def forward(self, s0, s1):
    s = self.preprocess0(s0), self.preprocess1(s1)
    ops = (*self.ops1, *self.ops2)
    return torch.cat([op(s[i % 2]) for i, op in enumerate(ops)], 1)


class Head(nn.Module):
  """The auxiliary head."""

  def __init__(self, c, classes, norm):
    super().__init__()
    norms = [batch_norm(768)] if norm else []
    modules = [nn.ReLU(), nn.AvgPool2d(5, 3), conv(c, 128), batch_norm(128)]
    modules += [nn.ReLU(), conv(128, 768, 2), *norms, nn.ReLU()]
    self.features = nn.Sequential(*modules)
    self.classifier = nn.Linear(768, classes)


class Network(nn.Module):
  """NetworkCIFAR or NetworkImageNet, and GDAS's: eval() and random numbers."""

  def __init__(
    self, genotype, cells, width, classes, imagenet=False, head=None, seed=0
  ):
    super().__init__()
    torch.manual_seed(seed)
    if imagenet:
      half = width // 2
      self.stem0 = nn.Sequential(
        conv(3, half, 3, 2, padding=1),
        batch_norm(half),
        nn.ReLU(),
        conv(half, width, 3, 2, padding=1),
        batch_norm(width),
      )
      third = conv(width, width, 3, 2, padding=1)
      self.stem1 = nn.Sequential(nn.ReLU(), third, batch_norm(width))
    else:
      first = conv(3, 3 * width, 3, padding=1)
      self.stem = nn.Sequential(first, batch_norm(3 * width))
    inputs, halved = (width if imagenet else 3 * width,) * 2, imagenet
    found = genotype_lib.chosen(genotype)
    self.cells = nn.ModuleList()
    for i in range(cells):
      reduction = i in (cells // 3, 2 * cells // 3)
      width *= 2 if reduction else 1
      triples = found.get("reduce" if reduction else "normal")
      if triples is None:
        self.cells.append(FixedReduction(inputs, width, halved))
        inputs, halved = (inputs[1], 4 * width), reduction
      else:
        concat = genotype.reduce_concat if reduction else genotype.normal_concat
        cell = Cell(triples, concat, inputs, width, reduction, halved)
        self.cells.append(cell)
        inputs, halved = (inputs[1], len(concat) * width), reduction
      if i == 2 * cells // 3 and head is not None:
        self.auxiliary_head = Head(inputs[1], classes, norm=head)
    self.classifier = nn.Linear(inputs[1], classes)
    # No parameter, mean or variance is zero or one, which hid a mistake.
    for name, value in self.state_dict().items():
      if value.is_floating_point() and value.ndim == 1:
        value.uniform_(0.5, 1.5) if "var" in name else value.normal_()
    self.eval()

  def forward(self, x):
    if hasattr(self, "stem"):
      s0 = s1 = self.stem(x)
    else:
      s0 = self.stem0(x)
      s1 = self.stem1(s0)
    for cell in self.cells:
      s0, s1 = s1, cell(s0, s1)
    return self.classifier(s1.mean((2, 3)))
