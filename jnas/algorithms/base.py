"""What a search algorithm is, and what several of them share."""

from collections.abc import Callable, Mapping
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnas import hypergrad, relax, solve
from jnas.genotype import AnyGenotype, ImageCell
from jnas.genotype import chosen as chosen_pairs
from jnas.hypergrad import Hypergradient
from jnas.spaces import arch as arch_lib
from jnas.spaces import registry
from jnas.spaces import space as space_lib
from jnas.spaces.spec import TRANSIT, Cell, Spec

Array = jax.Array
Arch = dict[str, Array]
Weights = Mapping[str, Array]


class Stopping(NamedTuple):
  """Early stopping of some of the weights, while the others go on.

  Attributes:
    begin: weights -> what is remembered of them, as part of the state.
    observe: (memory, d_w L_train, d_w L_valid), both over the whole batch ->
      (memory, which weights step, metrics). The second has the structure of
      the weights, and arrays that broadcast to them, false where they stay.
  """

  begin: Callable[[Any], Any]
  observe: Callable[[Any, Any, Any], tuple[Any, Any, dict[str, Array]]]


class Algorithm(NamedTuple):
  """A search algorithm as pure functions.

  Attributes:
    init: (key, scale) -> arch, logits drawn from N(0, scale^2).
    relax: (arch, key, step) -> edge weights, [E, O] for each searched cell.
      What a network computes with. `key` is None where it is evaluated.
    mixture: (arch, step) -> edge weights, [E, O] each: what the logits say of
      the operators, without any draw. What is derived from, and reported.
    estimate: (train, valid, w, alpha, virtual, mean) -> Hypergradient, with
      the losses and `mean` of `jnas.hypergrad` and `virtual` the weight
      optimizer's next step (w, gradient) -> w'. None where arch is not learnt
      by gradient.
    derive: a mixture, as numpy -> genotype.
    samples_paths: whether `relax` gives one operator an edge. Batch statistics
      over many draws are those of no sub-network, so that such a search
      evaluates with those of the batch.
    penalty: (arch, hyper) -> scalar that is added to the loss by which arch is
      learnt, or None. `hyper` are the stage's hyper-parameters.
    derivation: (arch, step) -> what transit cells compute, [E, O] of zeros and
      ones for each cell that they follow; None where there are none.
    one_level: whether weights and arch step together, on the same batch.
    stochastic: whether `relax` mixes operators by weights that are drawn.
    select: (arch, key, measure) -> arch, what evaluations choose by measuring:
      `measure` gives the accuracy of edge weights on held-out batches, each
      normalised by its own moments. None where nothing is chosen so.
    selects_last: whether that is done once, at the end of the search, on all of
      these batches; otherwise it is on some.
    patience: steps that a derivation must stay for transit cells to be
      compiled as they are; 0 for never.
    skip_dropout: step of the stage -> rate of dropout after skip connections,
      or None.
    stopping: of some of the weights, or None. Needs two levels.
    evaluated: (arch, steps done) -> edge weights in an evaluation, where the
      next step has others than the last, with which nothing was trained yet.
      None where they are those of `relax`.
  """

  init: Callable[[Array, float], Arch]
  relax: Callable[[Arch, Array | None, Array | int], Weights]
  mixture: Callable[..., Weights]
  estimate: Callable[..., Hypergradient] | None
  derive: Callable[[Mapping[str, np.ndarray]], AnyGenotype]
  samples_paths: bool = False
  penalty: Callable[[Arch, Mapping[str, Array]], Array] | None = None
  derivation: Callable[[Arch, Array | int], Weights] | None = None
  one_level: bool = False
  stochastic: bool = False
  select: Callable[..., Arch] | None = None
  selects_last: bool = False
  patience: int = 0
  skip_dropout: Callable[[Array | int], Array] | None = None
  stopping: Stopping | None = None
  evaluated: Callable[[Arch, Array | int], Weights] | None = None


def edge_weights(
  algorithm: Algorithm, arch: Arch, key: Array | None, state: Any
) -> Weights:
  """The edge weights of all cells in one step, transit cells included.

  Args:
    algorithm: with the relaxation.
    arch: its architecture parameters.
    key: of the step's draw, or None in an evaluation.
    state: with `step`, and the `derivation` that transit cells compute.
  """
  if key is None and algorithm.evaluated is not None:
    weights = dict(algorithm.evaluated(arch, state.step))
  else:
    weights = dict(algorithm.relax(arch, key, state.step))
  if state.derivation is not None:
    for name, chosen in state.derivation.cells.items():
      weights[name + TRANSIT] = chosen
  return weights


def masks(spec: Spec) -> dict[str, np.ndarray | None]:
  """For each searched cell its mask [E, O], None where nothing is pruned."""
  found = {name: arch_lib.mask(cell) for name, cell in spec.searched}
  return {name: None if m.all() else m for name, m in found.items()}


def softmax_mixture(spec: Spec) -> Callable[..., Weights]:
  """The softmax on each edge over the operators that the spec keeps."""
  kept = masks(spec)

  def mixture(arch: Arch, step: Array | int = 0) -> Weights:
    del step
    return {name: relax.softmax(arch[name], kept[name]) for name in kept}

  return mixture


def deterministic(
  mixture: Callable[..., Weights],
) -> Callable[[Arch, Array | None, Array | int], Weights]:
  """The relaxation that is the mixture itself, without key."""
  return lambda arch, key, step: mixture(arch, step)


def logits(spec: Spec) -> Callable[[Array, float], Arch]:
  """A function (key, scale) -> the logits of a spec's operators."""
  return lambda key, scale: arch_lib.init(key, spec, scale)


def softmax_algorithm(
  spec: Spec, estimate: Callable[..., Hypergradient]
) -> Algorithm:
  """DARTS's relaxation and derivation, with any hypergradient."""
  mixture = softmax_mixture(spec)
  return Algorithm(
    init=logits(spec),
    relax=deterministic(mixture),
    mixture=mixture,
    estimate=estimate,
    derive=functools.partial(genotype_of, spec),
  )


def edge_logits(name: str) -> str:
  """The key in arch of what a cell's edges have beside alpha."""
  return f"{name}_edges"


def weighted_edges(
  spec: Spec,
  estimate: Callable[..., Hypergradient],
  count: Callable[[Cell], int],
  factor: Callable[[Array, Cell], Array],
) -> Algorithm:
  """DARTS's relaxation times a weight for each edge, with logits of its own.

  Args:
    spec: the search network.
    estimate: the hypergradient.
    count: cell -> number of its edges' logits.
    factor: (these logits, cell) -> weights of its edges, [E].
  """
  searched = dict(spec.searched)
  operators = softmax_mixture(spec)

  def init(key: Array, scale: float) -> Arch:
    arch = arch_lib.init(key, spec, scale)
    for i, (name, cell) in enumerate(searched.items()):
      own = jax.random.fold_in(key, len(searched) + i)
      drawn = jax.random.normal(own, (count(cell),))
      arch[edge_logits(name)] = scale * drawn
    return arch

  def mixture(arch: Arch, step: Array | int = 0) -> Weights:
    weights = operators(arch, step)
    return {
      name: weights[name] * factor(arch[edge_logits(name)], cell)[:, None]
      for name, cell in searched.items()
    }

  return softmax_algorithm(spec, estimate)._replace(
    init=init, relax=deterministic(mixture), mixture=mixture
  )


def estimator(
  name: str,
  *,
  form: str = "exact",
  eta: float = 0.1,
  steps: int = 10,
  damping: float = 0.01,
  scale: float = 0.1,
  unroll: bool = False,
  products: hypergrad.Products = hypergrad.looped_products,
) -> Callable[..., Hypergradient]:
  """A hypergradient with the signature of `Algorithm.estimate`.

  Args:
    name: first_order, unrolled, amended, implicit_cg or implicit_neumann.
    form: "exact", or "finite_difference" for unrolled and amended.
    eta: coefficient of the amended term.
    steps: products with the Hessian, for the implicit ones.
    damping: added to the Hessian's diagonal, for the implicit ones.
    scale: step of the Neumann series.
    unroll: whether loops over products with the Hessian are written out.
    products: how the amended term is computed where they are not.

  Raises:
    ValueError: no such estimate, or none of this form.
  """
  exact = form == "exact"
  solvers = {
    "implicit_cg": functools.partial(
      solve.conjugate_gradients, steps=steps, damping=damping,
      unroll=unroll,
    ),
    "implicit_neumann": functools.partial(
      solve.neumann, steps=steps, damping=damping, scale=scale,
      unroll=unroll,
    ),
  }
  if form not in ("exact", "finite_difference"):
    raise ValueError(f"form {form!r} is neither exact nor finite_difference")
  if not exact and name not in ("unrolled", "amended"):
    raise ValueError(
      f"there is a finite_difference form of unrolled and amended, not of "
      f"{name!r}"
    )
  if name == "first_order":
    return _without_virtual(hypergrad.first_order)
  if name == "amended":
    if not exact:
      form = functools.partial(hypergrad.amended_difference, eta=eta)
    else:
      form = functools.partial(
        hypergrad.amended,
        eta=eta,
        products=hypergrad.two_products if unroll else products,
      )
    return _without_virtual(form)
  if name == "unrolled":
    form = hypergrad.unrolled if exact else hypergrad.unrolled_difference
    return lambda train, valid, w, alpha, virtual, mean: form(
      train, valid, w, alpha, virtual=virtual, mean=mean
    )
  if name in solvers:
    return _without_virtual(
      functools.partial(hypergrad.implicit, solve=solvers[name])
    )
  raise ValueError(
    f"no hypergradient {name!r}; there are first_order, unrolled, amended, "
    f"{', '.join(solvers)}"
  )


def _without_virtual(form: Callable[..., Any]) -> Callable[..., Any]:
  def estimate(train, valid, w, alpha, virtual, mean):
    del virtual
    return form(train, valid, w, alpha, mean=mean)

  estimate.at_present_weights = True
  return estimate


def at_present_weights(estimate: Callable[..., Hypergradient]) -> bool:
  """Whether an estimate takes L_valid and its gradient at the weights alone.

  So it can be given them. Of one that `estimator` did not make it isn't known.
  """
  return getattr(estimate, "at_present_weights", False)


def strongest_edges(
  cell: Cell, weights: np.ndarray
) -> tuple[tuple[str, int], ...]:
  """DARTS's derivation: (operator, predecessor) pairs, `degree` per node.

  An edge is as strong as its strongest operator other than `none`. Each node
  keeps its strongest edges, listed by strength. Ties go to the lower
  predecessor and to the lower operator, as in the published code.

  Args:
    cell: the cell.
    weights: [E, O] relaxed weights. Softmax first: ranking logits across
      edges would be another rule.
  """
  columns = [o for o, op in enumerate(cell.ops) if op != "none"]
  best = [max(columns, key=lambda o, row=row: row[o]) for row in weights]
  pairs = []
  for target in range(cell.inputs, cell.nodes):
    rows = [e for e, (_, t) in enumerate(cell.edges) if t == target]
    rows.sort(key=lambda e: -weights[e, best[e]])
    kept = rows[: cell.degree or None]
    pairs += [(cell.ops[best[e]], cell.edges[e][0]) for e in kept]
  return tuple(pairs)


def connections(
  cell: Cell, weights: np.ndarray
) -> ImageCell:
  """What weighs more than zero, node by node: any number of pairs a node.

  The derivation of EnTranNAS-DST (equation 10) and of GOLD-NAS.

  Args:
    cell: the cell.
    weights: [E, O].
  """
  return tuple(
    tuple(
      (op, source)
      for e, (source, to) in enumerate(cell.edges)
      for o, op in enumerate(cell.ops)
      if to == target and weights[e, o] > 0 and op != "none"
    )
    for target in range(cell.inputs, cell.nodes)
  )


def strongest_mask(
  cell: Cell, weights: Array, order: Array | None = None
) -> Array:
  """Ones where `strongest_edges` has an operator: [E, O], within a program.

  Args:
    cell: the cell.
    weights: [E, O].
    order: how strong each edge is, [E]; by default as its strongest operator.
  """
  allowed = arch_lib.mask(cell) > 0
  allowed &= np.asarray([op != "none" for op in cell.ops])
  scores = jnp.where(allowed, weights, -jnp.inf)
  chosen = jax.nn.one_hot(scores.argmax(-1), len(cell.ops))
  order = scores.max(-1) if order is None else order
  targets = np.asarray([target for _, target in cell.edges])
  first = np.arange(len(targets))
  ahead = (order[None] > order[:, None]) | (
    (order[None] == order[:, None]) & (first[None] < first[:, None])
  )
  same = targets[:, None] == targets[None]
  return chosen * ((same & ahead).sum(-1) < cell.degree)[:, None]


def indicator(
  spec: Spec, genotype: AnyGenotype
) -> dict[str, np.ndarray]:
  """Ones where a genotype has an operator: [E, O] for each cell that has any.

  With them as edge weights a search network is the child network (Yang et al.
  2021, section 4.1): inference through the derived paths alone.

  Args:
    spec: the search network that the genotype is of.
    genotype: of its cells.
  """
  found = {}
  chosen = chosen_pairs(genotype)
  for name, cell in spec.cells:
    if not isinstance(cell, Cell):
      continue
    found[name] = np.zeros(cell.shape, np.float32)
    for op, source, target in chosen[name.removesuffix(TRANSIT)]:
      edge = cell.edges.index((source, target))
      found[name][edge, cell.ops.index(op)] = 1
  return found


Choose = Callable[[Cell, np.ndarray], ImageCell]


def genotype_of(
  spec: Spec,
  weights: Mapping[str, np.ndarray],
  choose: Choose = strongest_edges,
) -> AnyGenotype:
  """The genotype of a spec's cells, by DARTS's rule or another.

  A space may have a rule of its own: a cell of NAS-Bench-201 keeps all its
  edges, each with its strongest operator, which may be `none`.

  Args:
    spec: the search network.
    weights: [E, O] for each searched cell.
    choose: (cell, weights) -> (operator, predecessor) pairs, two a node or
      node by node.
  """
  space = registry.of(spec)
  choose = space.choose or choose
  pairs = {
    name: choose(cell, np.asarray(weights[name]))
    for name, cell in spec.searched
  }
  return space_lib.genotype_of(space, spec, pairs)
