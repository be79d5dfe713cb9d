"""P-DARTS (Chen et al. 2019, "Progressive Differentiable Architecture
Search").

A search in stages, each on a deeper network and with fewer operators on an
edge (section 3.1): after a stage every edge drops those that weigh least, and
weights and logits start anew. Dropout after skip connections decays within a
stage, and the derived normal cell keeps at most M of them (section 3.2; the
rule by which it loses the others is that of the code, see `restricted`). The
relaxation is DARTS's, the hypergradient that of the first order.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jnas.algorithms import base
from jnas.algorithms import stages as stages_lib
from jnas.algorithms.method import Fields, Method, Option, Setting, at_most
from jnas.genotype import AnyGenotype, Genotype, format_text
from jnas.hypergrad import Hypergradient
from jnas.spaces import registry
from jnas.spaces.spec import Cell, Spec, stack

Array = jax.Array
Pairs = tuple[tuple[str, int], ...]


def pdarts(
  spec: Spec,
  estimate: Callable[..., Hypergradient] | None = None,
  skips: int | None = None,
) -> base.Algorithm:
  """One stage of P-DARTS.

  Args:
    spec: the search network of the stage.
    estimate: the hypergradient; by default that of the first order.
    skips: M, the skip connections that the normal cell may keep; None for any
      number.
  """
  algorithm = base.softmax_algorithm(
    spec, estimate or base.estimator("first_order")
  )

  def derive(weights: Mapping[str, np.ndarray]) -> AnyGenotype:
    if skips is None:
      return base.genotype_of(spec, weights, strongest_edges)
    return restricted(spec, weights)[skips]

  return algorithm._replace(derive=derive)


def skip_rate(
  rate: float, *, epochs: float, warmup: float, steps_per_epoch: int
) -> Callable[[Array | int], Array]:
  """The dropout after skip connections at a step of a stage.

  While logits rest it falls linearly, rate (E - 1 - e) / E; then it starts at
  `rate` again and decays as exp(-0.2 (e - W)). The paper says "gradually
  decay"; the formula is that of its published code.

  Args:
    rate: of the stage.
    epochs: E, of the stage.
    warmup: W, epochs in which logits rest.
    steps_per_epoch: of the training split.
  """

  def schedule(step: Array | int) -> Array:
    e = jnp.asarray(step // steps_per_epoch, jnp.float32)
    linear = jnp.maximum(epochs - 1 - e, 0) / epochs
    return rate * jnp.where(e < warmup, linear, jnp.exp(-0.2 * (e - warmup)))

  return schedule


def next_stage(
  spec: Spec, weights: Mapping[str, np.ndarray], *, cells: int, operators: int
) -> Spec:
  """The spec of the next stage: deeper, with the best operators of each edge.

  Args:
    spec: of the stage that has ended.
    weights: its mixture, [E, O] for each cell.
    cells: depth of the next stage.
    operators: kept on each edge, `none` counted as any other.
  """
  layers = stack(cells)
  return dataclasses.replace(
    spec,
    layers=layers,
    cells=tuple(
      (name, drop(spec.cell(name), np.asarray(weights[name]), operators))
      for name in sorted({layer.cell for layer in layers})
    ),
  )


def drop(cell: Cell, weights: np.ndarray, operators: int) -> Cell:
  """The cell whose edges keep only their strongest operators.

  Args:
    cell: the cell.
    weights: [E, O]; of equal weights the later operator is dropped first.
    operators: how many each edge keeps, `none` counted as any other.
  """
  kept, without = [], []
  for e, row in enumerate(weights):
    left = _remaining(cell, e)
    best = sorted(left, key=lambda o, row=row: -row[o])[:operators]
    names = tuple(cell.ops[o] for o in sorted(best))
    kept.append(tuple(op for op in names if op != "none"))
    if "none" in cell.ops and "none" not in names:
      without.append(e)
  return dataclasses.replace(
    cell, kept=tuple(kept), without_none=tuple(without)
  )


def _remaining(cell: Cell, e: int) -> list[int]:
  none = () if e in cell.without_none else ("none",)
  return [o for o, op in enumerate(cell.ops) if op in cell.kept[e] + none]


def strongest_edges(
  cell: Cell, weights: np.ndarray, inputs: int = 2
) -> Pairs:
  """The derivation of P-DARTS's published code: (operator, predecessor) pairs.

  DARTS's rule with two differences: of equally strong edges the later one is
  kept, and the pairs of a node are listed by predecessor.

  Args:
    cell: the cell.
    weights: [E, O].
    inputs: edges kept per node.
  """
  columns = [
    [o for o in _remaining(cell, e) if cell.ops[o] != "none"]
    for e in range(len(cell.edges))
  ]
  best = {
    e: max(own, key=lambda o, e=e: weights[e, o])
    for e, own in enumerate(columns)
    if own
  }
  pairs = []
  for target in range(cell.inputs, cell.nodes):
    rows = [e for e in best if cell.edges[e][1] == target]
    rows = sorted(rows, key=lambda e: weights[e, best[e]])[-inputs:]
    pairs += [(cell.ops[best[e]], cell.edges[e][0]) for e in sorted(rows)]
  return tuple(pairs)


def restricted(
  spec: Spec, weights: Mapping[str, np.ndarray]
) -> dict[int, Genotype]:
  """The genotype for every number M of skip connections that is allowed.

  While the normal cell has more than M of them the weakest one's weight is
  set to zero and the cell derived again, which may bring another one in. That
  is the rule of the published code; section 3.2 keeps the M strongest of a
  cell, sets all others to zero at once, and derives again until there are M.
  The reduction cell stays as it is.

  Args:
    spec: of the last stage.
    weights: its mixture.

  Returns:
    For each M from zero to two a node the genotype.
  """
  cell = spec.cell("normal")
  table = np.array(weights["normal"], dtype=np.float64)
  column = cell.ops.index("skip_connect")
  choose = functools.partial(base.genotype_of, spec, choose=strongest_edges)
  found = {}
  for most in range(2 * (cell.nodes - cell.inputs), -1, -1):
    while True:
      genotype = choose(dict(weights) | {"normal": table})
      skips = _skip_edges(cell, genotype.normal)
      # Where there is nothing but skip connections they have to stay.
      weak = [e for e in skips if table[e, column] > 0]
      if len(skips) <= most or not weak:
        break
      table[min(weak, key=lambda e: table[e, column]), column] = 0
    found[most] = genotype
  return found


def _skip_edges(cell: Cell, pairs: Pairs) -> list[int]:
  """The edges on which a derived cell has a skip connection."""
  return [
    cell.edges.index((source, cell.inputs + i // 2))
    for i, (op, source) in enumerate(pairs)
    if op == "skip_connect"
  ]


def stages(setting: Setting) -> stages_lib.Stages:
  """Stages of equal length: deeper each time, with fewer operators on an edge.

  Args:
    setting: of the run, with the spec of the first stage, all operators in it.
  """
  cells, operators = (setting.options[n] for n in ("cells", "operators"))

  def choose(stage, arch, mixture):
    del arch
    following = stage.index + 1
    if setting.options.get("random_drop"):
      rng = np.random.default_rng((setting.seed, following))
      mixture = {name: rng.random(w.shape) for name, w in mixture.items()}
    return next_stage(
      stage.spec,
      mixture,
      cells=cells[following],
      operators=operators[following],
    )

  return stages_lib.restarted(setting.spec, setting.total, len(cells), choose)


def _build(setting: Setting) -> base.Algorithm:
  own = setting.options
  last = setting.index + 1 == len(own["cells"])
  algorithm = pdarts(
    setting.spec, setting.estimate, own["skips"] if last else None
  )
  rate = own["skip_rates"][setting.index]
  if not rate:
    return algorithm
  warmup = setting.warmup / setting.per_epoch
  dropout = skip_rate(rate, warmup=warmup, **setting.clock)
  return algorithm._replace(skip_dropout=dropout)


def _records(spec, weights, options):
  """restricted.json: the genotype for every number of skip connections."""
  lines = [
    {
      "skips": most,
      "genotype": format_text(genotype),
      "chosen": most == options["skips"],
    }
    for most, genotype in restricted(spec, weights).items()
  ]
  return {"restricted.json": lines}


def _problems(flat: Fields) -> list[str]:
  problems = []
  if flat["space.edges"] != "all":
    problems.append(
      f"space.edges: pdarts has all edges, got {flat['space.edges']!r}"
    )
  shared = flat["space.shared"] and not flat["space.fixed_reduction"]
  space = registry.find(flat["space.name"], flat["space.operators"])
  if not (space.stack and shared):
    problems.append(
      "algo.name: pdarts searches shared normal and reduction cells of s1, s2 "
      "or s3; set space.name and space.shared, not space.fixed_reduction"
    )
    return problems
  names = ("cells", "operators", "skip_rates")
  stages = {name: flat[f"pdarts.{name}"] for name in names}
  lengths = {len(values) for values in stages.values()}
  if len(lengths) > 1 or 0 in lengths:
    problems.append(
      "pdarts: cells, operators and skip_rates need one entry a stage each, "
      "got "
      + ", ".join(f"{name}={value}" for name, value in stages.items())
    )
    return problems
  whole = all(type(n) is int for n in stages["cells"] + stages["operators"])
  if not whole or min(stages["cells"]) < 3:
    problems.append(
      f"pdarts.cells: whole numbers from 3 on, got {stages['cells']}"
    )
  operators = stages["operators"]
  most = len(space.operators)
  falling = list(operators) == sorted(operators, reverse=True)
  if not whole or operators[0] != most or min(operators) < 2 or not falling:
    problems.append(
      f"pdarts.operators: falls from {most}, all of {flat['space.name']}, to 2 "
      f"or more, got {operators}"
    )
  if not all(0 <= rate < 1 for rate in stages["skip_rates"]):
    problems.append(
      "pdarts.skip_rates: at least 0 and less than 1 each, got "
      f"{stages['skip_rates']}"
    )
  most = 2 * flat["space.nodes"]
  if not 0 <= flat["pdarts.skips"] <= most:
    problems.append(
      f"pdarts.skips: from 0 to {most}, two a node, got {flat['pdarts.skips']}"
    )
  return problems


METHOD = Method(
  "P-DARTS",
  _build,
  {  # stages of equal length, one entry a stage
    "pdarts.cells": Option((5, 11, 17), "depth"),
    "pdarts.operators": Option(
      (8, 5, 3), "operators on an edge, none included"
    ),
    "pdarts.skip_rates": Option(
      (0.0, 0.4, 0.7), "of dropout after skips, at first"
    ),
    "pdarts.random_drop": Option(
      False, "operators are dropped at random, not by weight (section 4.4.2)"
    ),
    "pdarts.skips": Option(
      2, "M: skip connections that the normal cell may keep", (at_most(1024),)
    ),
  },
  _problems,
  stages,
  depths=lambda flat: flat["pdarts.cells"],
  records=_records,
)
