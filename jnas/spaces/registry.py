"""The search spaces that have names, and those that are named by import path.

A space is a `jnas.spaces.space.Space`, which says what one has to be.
"""

from collections.abc import Mapping
import functools
from typing import Any

from flax import linen as nn
import jax
import numpy as np

from jnas import imports
from jnas.genotype import (
  AnyGenotype,
  Genotype,
  NasBench201Genotype,
  RecurrentGenotype,
  SpaceGenotype,
  StackGenotype,
)
from jnas.genotype.operators import SETS
from jnas.ops import backend, table
from jnas.spaces import cnn, cost, discrete, rnn, traced
from jnas.spaces import spec as spec_lib
from jnas.spaces.space import Execution, Fields, Layout, Pairs, Size, Space
from jnas.spaces.spec import Cell, Spec


def _network(spec: Spec, how: Execution) -> cnn.Network:
  return cnn.Network(
    spec,
    dtype=how.dtype,
    axis=how.axis,
    remat=how.remat,
    loop=how.backend.loops,
    backend=how.backend,
    skip_zero_ops=how.skip_zero_ops,
    frozen=how.frozen,
  )


def _derived(genotype: AnyGenotype, size: Size) -> Spec:
  return discrete.derived(
    genotype,
    cells=size.cells,
    width=size.width,
    classes=size.classes,
    auxiliary=size.auxiliary,
    **_stem(size),
  )


def _stem(size: Size) -> dict[str, bool]:
  """What a size says of stem and auxiliary head; by default CIFAR's."""
  return {
    "imagenet": size.options.get("stem") == "imagenet",
    "auxiliary_norm": size.options.get("auxiliary_norm", True),
  }


# Stacks of DARTS's cells.


def _stack(name: str, operators: tuple[str, ...]) -> Space:
  """The space of stacks with these operators."""

  def spec(size: Size) -> Spec:
    own = size.options
    for op in operators:
      try:
        table.get(op)
      except ValueError as error:
        raise ValueError(f"space.operators: {error}") from error
    return spec_lib.supernet(
      operators,
      cells=size.cells,
      width=size.width,
      classes=size.classes,
      auxiliary=size.auxiliary,
      **_stem(size),
      nodes=own["nodes"],
      fixed=own["edges"] == "fixed",
      shared=own["shared"],
      fixed_reduction=own["fixed_reduction"],
      partial=own["partial"],
      engines=own["engines"],
      sharing=own["sharing"],
      bottleneck=own["bottleneck"],
    )

  return Space(
    operators,
    spec,
    _network,
    _stack_genotype,
    _derived,
    cost.network_flops,
    fields=frozenset(
      f"space.{field}"
      for field in (
        "operators nodes edges shared fixed_reduction partial engines sharing "
        "bottleneck stem auxiliary_norm"
      ).split()
    )
    | {"train.auxiliary", "train.drop_path"},
    problems=_stack_problems,
    layout=_stack_layout,
    stack=True,
    slow_in_loops=cnn.has_blocks,
    name=name,
  )


def _stack_genotype(spec: Spec, pairs: Mapping[str, Pairs]) -> AnyGenotype:
  if "normal" in pairs:
    concat = spec.cell("normal").concat
    return Genotype(pairs["normal"], concat, pairs.get("reduce"), concat)
  return StackGenotype(
    cells=tuple(pairs[layer.cell] for layer in spec.layers),
    concat=spec.cell(spec.layers[0].cell).concat,
  )


def _stack_problems(flat: Fields) -> list[str]:
  found = []
  if flat["space.fixed_reduction"] and not flat["space.shared"]:
    found.append(
      "space.fixed_reduction: needs space.shared, a genotype of its own for "
      "every cell has no fixed ones"
    )
  if flat["space.stem"] == "imagenet" and flat["space.width"] % 2:
    found.append(
      "space.width: the stem of ImageNet needs an even number, got "
      f"{flat['space.width']}"
    )
  return found


def _stack_layout(flat: Fields, cells: int) -> Layout:
  nodes = flat["space.nodes"]
  fixed = flat["space.edges"] == "fixed"
  edges = 2 * nodes if fixed else nodes * (nodes + 3) // 2
  return Layout(cells, edges, nodes, before=2)


# Cells of NAS-Bench-201.


def _bench_spec(size: Size) -> Spec:
  return spec_lib.nas_bench_201(
    cells=size.cells,
    width=size.width,
    classes=size.classes,
    partial=size.options["partial"],
  )


def _every_edge(cell: Cell, weights: Any) -> Pairs:
  """Each edge with its strongest operator, as in that benchmark's code."""
  strongest = np.asarray(weights).argmax(-1)
  return tuple(
    (cell.ops[o], source)
    for o, (source, _) in zip(strongest, cell.edges, strict=True)
  )


def _bench_genotype(spec: Spec, pairs: Mapping[str, Pairs]) -> AnyGenotype:
  del spec
  row = pairs["cell"]
  return NasBench201Genotype((row[:1], row[1:3], row[3:]))


NAS_BENCH_201 = Space(
  spec_lib.NAS_BENCH_201,
  _bench_spec,
  _network,
  _bench_genotype,
  _derived,
  cost.network_flops,
  choose=_every_edge,
  fields=frozenset(
    "space.partial space.table space.column train.auxiliary train.drop_path"
    .split()
  ),
  problems=lambda flat: [
    "train.auxiliary: the search network of nas_bench_201 has no auxiliary head"
  ]
  * (flat["train.auxiliary"] > 0),
  # Three stages of so many cells; a node without a convolution in front.
  layout=lambda flat, cells: Layout(3 * cells, edges=6, nodes=1),
  single_input=True,
  tabular=True,
  slow_in_loops=cnn.has_blocks,
  name="nas_bench_201",
)

# Recurrent cells, whose networks read text.


def _recurrent_genotype(spec: Any, pairs: Mapping[str, Pairs]) -> AnyGenotype:
  return RecurrentGenotype(pairs[rnn.NAME], spec.cell.concat)


RECURRENT = Space(
  rnn.RECURRENT_OPERATIONS,
  lambda size: rnn.supernet(
    size.options["nodes"], width=size.width, vocabulary=size.classes
  ),
  lambda spec, how: rnn.LanguageModel(spec, how.axis),
  _recurrent_genotype,
  lambda genotype, size: rnn.derived(
    genotype, width=size.width, vocabulary=size.classes
  ),
  fields=frozenset({"space.nodes"}),
  data="text",
  slow_in_loops=lambda spec: False,
  name="rnn",
)

SPACES: dict[str, Space] = {
  name: _stack(name, operators)
  for name, operators in SETS.items()
  if name != NAS_BENCH_201.name
} | {own.name: own for own in (NAS_BENCH_201, RECURRENT)}

_own: dict[str, Space] = {}  # of programs that use the package


def find(name: str, operators: str = "") -> Space:
  """The space of a name, or of an import path such as mine:space.

  Args:
    name: of the space.
    operators: names or import paths, with spaces between, of those that a
      stack of cells has in place of its own.

  Raises:
    ValueError: there is none; the message says what there is.
  """
  known = SPACES | _own
  if name in known:
    found = known[name]
    if operators and found.stack:
      found = _stack(name, tuple(operators.split()))
    return found
  if ":" not in name:
    raise ValueError(
      f"expected one of {', '.join(SPACES)}, or an import path such as "
      f"mine:space, got {name!r}"
    )
  return _checked(imports.find(name), name)


def register(found: Space, name: str = "") -> str:
  """Makes a space known, for `space.name`; gives its name.

  Args:
    found: of a program of one's own.
    name: by which it shall be known; by default the path of its network.
  """
  own = _checked(found, name or "space")
  name = name or f"{own.network.__module__}:{own.network.__qualname__}"
  _own[name] = own._replace(name=name)
  return name


def _checked(found: Any, name: str) -> Space:
  if not isinstance(found, Space):
    raise ValueError(
      f"expected a jnas.spaces.space.Space by the name {name!r}, got "
      f"{type(found).__name__}"
    )
  return found._replace(name=name)


def of(described: Spec | AnyGenotype) -> Space:
  """The space of a spec or of a genotype.

  Raises:
    ValueError: there is none of that name.
  """
  if isinstance(described, NasBench201Genotype):
    return NAS_BENCH_201
  if isinstance(described, RecurrentGenotype):
    return RECURRENT
  if isinstance(described, Genotype | StackGenotype):
    return SPACES["s1"]  # derived networks are the same in all of them
  return find(described.space or "s1")


def counts(spec: Spec, shape: tuple[int, int, int]) -> tuple[int, int]:
  """The parameters of a network, and its multiply-adds on one image.

  Args:
    spec: of the network; what an auxiliary head has is left out.
    shape: (H, W, channels) of the images.
  """
  space = of(spec)
  network, variables, image = shapes(spec, shape)
  if space.flops is not None:
    flops = space.flops(spec, shape[:2], shape[2])
  else:
    apply = functools.partial(network.apply, train=False)
    flops = traced.macs(apply, variables, image)
  return cnn.count(variables["params"]), flops


def shapes(
  spec: Spec, shape: tuple[int, int, int]
) -> tuple[nn.Module, Mapping[str, Any], jax.ShapeDtypeStruct]:
  """A network, and the shapes of its variables and of an image [1, H, W, C].

  Args:
    spec: of the network.
    shape: (H, W, channels) of the images.
  """
  network = of(spec).network(spec, Execution(backend=backend.PLAIN))
  image = jax.ShapeDtypeStruct((1, *shape), np.float32)
  init = functools.partial(network.init, train=False)
  return network, jax.eval_shape(init, jax.random.key(0), image), image


def of_genotype(genotype: AnyGenotype, name: str) -> Space:
  """The space of a genotype that shall be built.

  Args:
    genotype: any.
    name: of the space that a configuration names: the code of others is run
      only where that says so, not because a genotype does.

  Raises:
    ValueError: the genotype is of another space.
  """
  if isinstance(genotype, SpaceGenotype) and genotype.space != name:
    raise ValueError(
      f"the genotype is of the space {genotype.space!r}; to run its code set "
      f"space.name to that, which is now {name!r}"
    )
  return of(genotype)
