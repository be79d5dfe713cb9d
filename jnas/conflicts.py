"""What fields of a task do not go together.

Everything here takes a configuration as dotted name -> value, each value
possible on its own, and gives what is to be told of it.
"""

from collections.abc import Mapping
from typing import Any

Fields = Mapping[str, Any]
_WITH_NONE = ("s1", "s3", "nas_bench_201")  # spaces that have `none`


def search_problems(flat: Fields) -> list[str]:
  """All conflicts of a configuration of task "search"."""
  return (
    _space_problems(flat)
    + _stage_problems(flat)
    + _transit_problems(flat)
    + _pruning_problems(flat)
  )


def _space_problems(flat: Fields) -> list[str]:
  """What of the space does not go with the rest."""
  problems = []
  algorithm, space = flat["algo.name"], flat["space.name"]
  cells, width, parts = (
    flat[f"space.{name}"] for name in ("cells", "width", "partial")
  )
  bench = space == "nas_bench_201"
  if 0 < cells < 3 and not bench and algorithm != "pdarts":
    problems.append(f"space.cells: a search needs 3 or more, got {cells}")
  if parts > 0 and width % parts:
    problems.append(
      f"space.partial: must divide space.width ({width}), got {parts}"
    )
  edges = flat["space.edges"]
  if edges != "all" and (bench or algorithm == "pdarts"):
    taken = "nas_bench_201" if bench else "pdarts"
    problems.append(f"space.edges: {taken} has all edges, got {edges!r}")
  if edges == "searched" and algorithm not in ("darts", "amended"):
    problems.append(
      "space.edges: searched goes with algo.name darts and amended, not with "
      f"{algorithm}"
    )
  if flat["space.nodes"] < 2 and edges == "searched":
    problems.append("space.nodes: searched edges need 2 or more, got 1")
  if bench and (flat["space.fixed_reduction"] or not flat["space.shared"]):
    problems.append(
      "space: nas_bench_201 is one shared cell; leave space.shared true and "
      "space.fixed_reduction false"
    )
  if flat["space.fixed_reduction"] and not flat["space.shared"]:
    problems.append(
      "space.fixed_reduction: needs space.shared, a genotype of its own for "
      "every cell has no fixed ones"
    )
  if flat["space.table"] and not bench:
    problems.append(
      f"space.table: has the cells of nas_bench_201, not of {space}"
    )
  if flat["algo.undrawn"] and not (bench and algorithm == "gdas"):
    problems.append(
      "algo.undrawn: goes with algo.name gdas on space.name nas_bench_201, not "
      f"with {algorithm} on {space}"
    )
  if bench and flat["train.auxiliary"]:
    problems.append("train.auxiliary: nas_bench_201 has no auxiliary head")
  return problems


_OPERATORS = {"s1": 8, "s1_7": 7, "s1_12": 12, "s2": 2, "s3": 3}


def _stage_problems(flat: Fields) -> list[str]:
  """What is wrong with the stages of P-DARTS."""
  if flat["algo.name"] != "pdarts":
    return []
  problems = []
  shared = flat["space.shared"] and not flat["space.fixed_reduction"]
  if flat["space.name"] not in _OPERATORS or not shared:
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
  operators, most = stages["operators"], _OPERATORS[flat["space.name"]]
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


def _transit_problems(flat: Fields) -> list[str]:
  """What is wrong with engines, transit cells and shared features."""
  found, name = [], flat["algo.name"]
  transit = name in ("entrannas", "dst")
  sharing, engines = flat["space.sharing"], flat["space.engines"]
  if (sharing or engines != "all") and not transit:
    found.append(
      "space.sharing, space.engines: go with algo.name entrannas and dst, not "
      f"with {name}"
    )
  if transit:
    if flat["space.name"] == "nas_bench_201" or not flat["space.shared"]:
      found.append(
        f"algo.name: {name} searches shared normal and reduction cells; set "
        "space.shared, and another space than nas_bench_201"
      )
    for other, idle in (
      ("space.edges", "all"),
      ("space.fixed_reduction", False),
      ("space.partial", 1),
    ):
      if flat[other] != idle:
        found.append(f"{other}: {name} needs {idle!r}, got {flat[other]!r}")
    if name == "dst" and flat["space.name"] in _WITH_NONE:
      found.append(
        "space.name: dst has no use for none, its thresholds cut edges; set "
        f"s1_7, s1_12 or s2, got {flat['space.name']}"
      )
  ratio, width = flat["space.bottleneck"], flat["space.width"]
  if ratio > 1 and not sharing:
    found.append("space.bottleneck: goes with space.sharing; set it, or 1")
  if ratio > 0 and width % ratio:
    found.append(
      f"space.bottleneck: must divide space.width ({width}), got {ratio}"
    )
  if sharing and flat["train.drop_path"]:
    found.append(
      "train.drop_path: not with space.sharing, whose features belong to no "
      "single path; set it to 0"
    )
  return found


def _pruning_problems(flat: Fields) -> list[str]:
  """What is wrong with a search that prunes as GOLD-NAS does."""
  found, gold = [], flat["algo.name"] == "goldnas"
  together = flat["algo.one_level"]
  if flat["data.share"] == 1 and not (gold or together):
    found.append(
      "data.share: 1 leaves nothing to learn the architecture on; only goldnas "
      "and algo.one_level learn it on the training images"
    )
  rule = flat["algo.hypergrad"]
  if together and (flat["algo.name"] == "random" or rule != "first_order"):
    found.append(
      "algo.one_level: is learnt by the gradient on the batch of the weights, "
      f"so with algo.hypergrad first_order, got {rule}, and not by random"
    )
  if not gold:
    return found
  if flat["space.name"] in _WITH_NONE:
    found.append(
      "space.name: goldnas prunes operators and has no use for none; set s2, "
      f"s1_7 or s1_12, got {flat['space.name']}"
    )
  for other, idle in (
    ("space.edges", "all"),
    ("space.fixed_reduction", False),
    ("space.partial", 1),
    ("space.shared", False),
    ("arch.decay", 0.0),
    ("algo.hypergrad", "first_order"),
  ):
    if flat[other] != idle:
      found.append(f"{other}: goldnas needs {idle!r}, got {flat[other]!r}")
  if flat["arch.optimizer"] != "sgd":
    found.append(
      "arch.optimizer: goldnas needs sgd, got "
      f"{flat['arch.optimizer']}; Adam's moments know no pruned logit"
    )
  if flat["gold.xi_min"] > flat["gold.xi_max"]:
    found.append(
      f"gold.xi_min: must not exceed gold.xi_max ({flat['gold.xi_max']}), got "
      f"{flat['gold.xi_min']}"
    )
  return found


def random_pruning_problems(flat: Fields, trained: bool) -> list[str]:
  """All conflicts of a configuration of task "random_pruning".

  Args:
    flat: the configuration.
    trained: whether the networks that are drawn are trained.
  """
  found = []
  if flat["space.name"] in _WITH_NONE:
    found.append(
      "space.name: operators without none are pruned; expected s2, s1_7 or "
      f"s1_12, got {flat['space.name']}"
    )
  own = not flat["space.shared"] and flat["space.edges"] == "all"
  if flat["space.cells"] < 3 or not own:
    found.append(
      "space: expected 3 cells or more that are each their own (space.shared "
      "false) and have all edges"
    )
  if trained and flat["data.share"] == 1:
    found.append(
      "data.share: 1 leaves no images to choose the best network by; set it "
      "below 1, or gold.trial to '0 epochs'"
    )
  return found
