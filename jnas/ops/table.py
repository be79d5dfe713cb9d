"""The operators: one row each.

A row has what an operator learns, its plain definition and its multiply-adds.
Its name and the family that it is drawn as are in `jnas.genotype.operators`,
where what needs no JAX finds them. Everything else follows from these two.

An operator of one's own is a row, too: named by import path, or registered.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import math
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jnas import imports
from jnas.genotype import operators
from jnas.ops import plain
from jnas.ops.plain import Norm, Params, strided

Array = jax.Array
Initializer = jax.nn.initializers.Initializer


class Parameter(NamedTuple):
  """An array that an operator learns on one edge.

  Attributes:
    shape: of the array.
    init: (key, shape) -> its first value.
    search_only: whether it is there only where normalisations have no bias.
  """

  shape: tuple[int, ...]
  init: Initializer
  search_only: bool = False


class OpCounts(NamedTuple):
  """What a part of a network does on one image.

  Attributes:
    macs: multiply-adds of convolutions and of the classifier.
    norm_elements: elements that normalisations give.
    relu_elements: elements that ReLUs read.
  """

  macs: int = 0
  norm_elements: int = 0
  relu_elements: int = 0


@dataclasses.dataclass(frozen=True)
class Separable:
  """What sets a sep_conv or a dil_conv apart, for forms that group them."""

  size: int
  dilation: int = 1
  repeats: int = 1


@dataclasses.dataclass(frozen=True)
class Operator:
  """An operator on features [N, H, W, C], at a stride of one or two.

  Attributes:
    define: (x, parameters by name, norm, stride) -> y of ceil(H / stride) x
      ceil(W / stride) pixels. `norm(y, i)` is its i-th normalisation.
    parameters: (C, stride) -> what it learns, by name. With a stride of two it
      may have parameters where it has none otherwise, or the same.
    counts: (C, (H, W), stride) -> what it does on one image.
    norms: stride -> how many normalisations there are; one by default.
    pool: whether it is a pool: its normalisation is there in search networks
      only and has no scale (and is not in its counts).
    form: how backends know it, if they compute it in a way of their own: a
      `Separable`, or the name of the definition. None: they compute `define`.
  """

  define: Callable[[Array, Params, Norm, int], Array]
  parameters: Callable[[int, int], Mapping[str, Parameter]]
  counts: Callable[[int, tuple[int, int], int], OpCounts]
  norms: Callable[[int], int] = lambda stride: 1
  pool: bool = False
  form: Separable | str | None = None


def fan_in_uniform(fan_in: int) -> Initializer:
  """An initializer drawing from U(-1/sqrt(fan_in), 1/sqrt(fan_in)).

  PyTorch's default for convolutions since 1.0, so that of the field's code.
  """

  def init(key: Array, shape: Sequence[int], dtype=jnp.float32) -> Array:
    bound = fan_in**-0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return init


def _weight(shape: tuple[int, ...], fan_in: int, **options) -> Parameter:
  return Parameter(shape, fan_in_uniform(fan_in), **options)


def _sizes(c: int, size: Sequence[int], stride: int) -> tuple[int, int]:
  """Elements of the input and of the output."""
  return c * math.prod(size), c * math.prod(strided(size, stride))


def _separable(size: int, dilation: int = 1, repeats: int = 1) -> Operator:
  """ReLU, depthwise k x k, 1 x 1, norm; `repeats` times."""
  options = dict(dilation=dilation, repeats=repeats)

  def parameters(c: int, stride: int) -> dict[str, Parameter]:
    del stride
    found = {}
    for i in range(1, repeats + 1):
      found[f"depthwise{i}"] = _weight((size, size, c), size**2)
      found[f"pointwise{i}"] = _weight((c, c), c)
    return found

  def counts(c: int, image: tuple[int, int], stride: int) -> OpCounts:
    inside, outside = _sizes(c, image, stride)
    return OpCounts(
      repeats * (size**2 + c) * outside,
      repeats * outside,
      inside + (repeats - 1) * outside,
    )

  return Operator(
    lambda *args: plain.separable_convolution(*args, **options),
    parameters,
    counts,
    lambda stride: repeats,
    form=Separable(size, **options),
  )


def _factorized(size: int) -> Operator:
  """ReLU, convolution 1 x k, convolution k x 1, norm."""

  def counts(c: int, image: tuple[int, int], stride: int) -> OpCounts:
    inside, outside = _sizes(c, image, stride)
    # The first convolution has its stride along W only.
    between = c * image[0] * strided(image, stride)[1]
    return OpCounts(size * c * (between + outside), outside, inside)

  return Operator(
    plain.factorized_convolution,
    lambda c, stride: {
      "row": _weight((1, size, c, c), c * size),
      "column": _weight((size, 1, c, c), c * size),
    },
    counts,
    form="factorized",
  )


def _full(size: int, shift: bool = False) -> Operator:
  """ReLU, convolution k x k, norm.

  In search networks of NAS-Bench-201 the convolution has a bias, as in the
  published supernet; a normalisation takes it away again.
  """

  def parameters(c: int, stride: int) -> dict[str, Parameter]:
    del stride
    fan_in = c * size**2
    found = {"kernel": _weight((size, size, c, c), fan_in)}
    if shift:
      found["shift"] = _weight((c,), fan_in, search_only=True)
    return found

  def counts(c: int, image: tuple[int, int], stride: int) -> OpCounts:
    inside, outside = _sizes(c, image, stride)
    return OpCounts(size**2 * c * outside, outside, inside)

  return Operator(
    plain.full_convolution,
    parameters,
    counts,
    form="full",
  )


def _pool(name: str, pool: Callable[[Array, int], Array]) -> Operator:
  return Operator(
    lambda x, p, norm, stride: norm(pool(x, stride), 1),
    lambda c, stride: {},
    lambda c, image, stride: OpCounts(),
    pool=True,
    form=name,
  )


def _skip_counts(c: int, image: tuple[int, int], stride: int) -> OpCounts:
  inside, outside = _sizes(c, image, stride)
  return OpCounts() if stride == 1 else OpCounts(c * outside, outside, inside)


OPERATORS: dict[str, Operator] = {
  "none": Operator(
    lambda x, p, norm, stride: jnp.zeros_like(x[:, ::stride, ::stride]),
    lambda c, stride: {},
    lambda c, image, stride: OpCounts(),
    lambda stride: 0,
  ),
  "skip_connect": Operator(
    plain.skip,
    lambda c, stride: {}
    if stride == 1
    else {"halves": _weight((2, c // 2, c), c)},
    _skip_counts,
    lambda stride: stride - 1,
    form="skip",
  ),
  "max_pool_3x3": _pool("max_pool", plain.max_pool),
  "avg_pool_3x3": _pool("avg_pool", plain.avg_pool),
  "sep_conv_3x3": _separable(3, repeats=2),
  "sep_conv_5x5": _separable(5, repeats=2),
  "sep_conv_7x7": _separable(7, repeats=2),
  "dil_conv_3x3": _separable(3, dilation=2),
  "dil_conv_5x5": _separable(5, dilation=2),
  "conv_1x1": _full(1),
  "conv_3x3": _full(3),
  "conv_3x1_1x3": _factorized(3),
  "conv_5x1_1x5": _factorized(5),
  "conv_7x1_1x7": _factorized(7),
  "nor_conv_1x1": _full(1, shift=True),
  "nor_conv_3x3": _full(3, shift=True),
}


_own: dict[str, Operator] = {}
_OF_NORMS = r"(mean|var|scale|bias)\d+"


def get(name: str) -> Operator:
  """The row of an operator.

  Args:
    name: of the table, or registered, or an import path such as
      mine:squeeze_excite.

  Raises:
    ValueError: there is none; the message says what there is.
  """
  if name in OPERATORS:
    return OPERATORS[name]
  if name not in _own:
    if not operators.is_own(name):
      raise ValueError(
        f"expected an operator out of {', '.join(OPERATORS)}, or an import "
        f"path such as mine:squeeze_excite, got {name!r}"
      )
    _own[name] = _imported(name)
  return _own[name]


def register(name: str, row: Operator, family: str = "other operator") -> None:
  """Makes an operator of one's own known, for spaces and genotypes.

  Args:
    name: that no other operator has.
    row: of the operator.
    family: what it is drawn as.
  """
  if name in operators.FAMILIES:
    raise ValueError(
      f"there is an operator {name!r} in the package; choose another name"
    )
  _own[name] = row
  operators.register(name, family)


def _imported(path: str) -> Operator:
  found = imports.find(path)
  if not isinstance(found, Operator):
    raise ValueError(
      f"expected {path!r} to be a jnas.ops.table.Operator, got "
      f"{type(found).__name__}"
    )
  return found


def is_moment(name: str) -> bool:
  """Whether an array of an operator is a running moment, as `arrays` names it.

  >>> is_moment("var2"), is_moment("scale2")
  (True, False)
  """
  return re.fullmatch(r"(mean|var)\d+", name) is not None


def arrays(
  name: str, channels: int, stride: int, *, affine: bool, pool_norm: bool
) -> tuple[dict[str, Parameter], dict[str, Parameter]]:
  """What an operator learns on one edge, and its running moments.

  Args:
    name: of the operator.
    channels: C.
    stride: of the edge.
    affine: whether normalisations after convolutions have a scale and a bias.
    pool_norm: whether a normalisation follows each pool. It never has a scale.

  Returns:
    The parameters by name, the scales and biases of normalisations among them,
    and the means and variances by name. `scale1` is that of the first.

  Raises:
    ValueError: there is no such operator, or its row does not hold together.
  """
  row, c = get(name), (channels,)
  zeros, ones = jax.nn.initializers.zeros, jax.nn.initializers.ones
  learnt = {
    own: parameter
    for own, parameter in _parameters(name, channels, stride).items()
    if not (affine and parameter.search_only)
  }
  stats = {}
  count = 0 if row.pool and not pool_norm else row.norms(stride)
  for i in range(1, count + 1):
    if affine and not row.pool:
      learnt[f"scale{i}"] = Parameter(c, ones)
      learnt[f"bias{i}"] = Parameter(c, zeros)
    stats[f"mean{i}"] = Parameter(c, zeros)
    stats[f"var{i}"] = Parameter(c, ones)
  return learnt, stats


def _parameters(name: str, channels: int, stride: int) -> dict[str, Parameter]:
  """What a row says that its operator learns, checked."""
  row = get(name)
  found = dict(row.parameters(channels, stride))
  taken = [own for own in found if re.fullmatch(_OF_NORMS, own)]
  if taken:
    raise ValueError(
      f"operator {name!r}: expected other names of parameters than those of "
      f"normalisations, got {taken[0]!r}; choose another"
    )
  others = row.parameters(channels, 3 - stride)
  shapes = [{n: p.shape for n, p in each.items()} for each in (found, others)]
  if all(shapes) and shapes[0] != shapes[1]:
    raise ValueError(
      f"operator {name!r}: expected the same parameters at strides of 1 and 2, "
      f"or none at one of them, got {shapes[stride - 1]} and "
      f"{shapes[2 - stride]}"
    )
  return found
