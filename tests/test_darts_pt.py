"""DARTS-PT: what is chosen when operators are left out of a supernet."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas import config as config_lib
from jnas.algorithms import registry
from jnas.algorithms.darts_pt import darts_pt, dispensable
from jnas.runs import build, search
from jnas.runs import problem as problem_lib
from jnas.spaces import spec as spec_lib
from jnas.spaces.spec import S3

SPEC = spec_lib.supernet(S3, cells=3, width=4, classes=2, nodes=3)
RNG = np.random.default_rng(0)
# What each operator of each edge is worth, whatever alpha says of it.
WORTH = {name: RNG.permuted(np.arange(27.0)).reshape(9, 3)
         for name in ("normal", "reduce")}


def measured(worth, seen):
  def measure(weights):
    seen.append({name: np.asarray(w) for name, w in weights.items()})
    return sum(float((worth[n] * (w > 0)).sum()) for n, w in weights.items())

  return measure


def test_each_edge_keeps_what_costs_most_and_each_node_two_edges():
  algorithm, seen = darts_pt(SPEC), []
  arch = {n: jnp.asarray(RNG.normal(size=(9, 3))) for n in WORTH}
  chosen = algorithm.select(arch, jax.random.key(0), measured(WORTH, seen))
  genotype = algorithm.derive(jax.device_get(algorithm.mixture(chosen)))
  for name, pairs in (("normal", genotype.normal), ("reduce", genotype.reduce)):
    cell, worth = SPEC.cell(name), WORTH[name][:, 1:]  # none is not derived
    expected = []
    for target in range(2, 5):
      rows = [e for e, (_, t) in enumerate(cell.edges) if t == target]
      best = sorted(rows, key=lambda e: -worth[e].max())[:2]
      expected += [
        {(S3[1 + worth[e].argmax()], cell.edges[e][0]) for e in best}
      ]
    found = [set(pairs[i : i + 2]) for i in (0, 2, 4)]
    assert found == expected
  # An operator at a time is left out, and what was decided stays decided.
  whole = jax.device_get(algorithm.mixture(arch))
  gone = {name: (seen[0][name] == 0).sum() for name in whole}
  assert sorted(gone.values()) == [0, 1]
  edges = 2 * 9 * 2  # of operators, then of the nodes with three and four edges
  assert len(seen) == edges + 2 * (3 + 4)
  last = seen[edges - 1]
  decided = sum(int(((w > 0).sum(-1) <= 1).sum()) for w in last.values())
  assert decided >= 17
  # And so do edges that nodes have dropped, for the nodes after them: two of
  # three or four rows into each of two other nodes, and what is left out now.
  gone = [sum(int((w.sum(-1) == 0).sum()) for w in m.values()) for m in seen]
  assert gone[edges] == 1 and gone[-1] in (1 + 1 + 1 + 2, 1 + 1 + 2 + 2)


def test_the_order_of_edges_follows_from_the_key():
  algorithm = darts_pt(SPEC)
  arch = {n: jnp.zeros((9, 3)) for n in WORTH}

  def order(seed):
    seen = []
    algorithm.select(arch, jax.random.key(seed), measured(WORTH, seen))
    return [tuple(np.argwhere(s["normal"] == 0).ravel()) for s in seen[:6]]

  assert order(1) == order(1) != order(2)


def test_pruned_edges_and_cells_of_one_input():
  cell = SPEC.cell("normal")
  kept = (("skip_connect",), *cell.kept[1:])
  pruned = dataclasses.replace(cell, kept=kept, without_none=(0,))
  cells = (("normal", pruned), ("reduce", cell))
  algorithm = darts_pt(dataclasses.replace(SPEC, cells=cells))
  arch = {n: jnp.zeros((9, 3)) for n in WORTH}
  chosen = algorithm.select(arch, jax.random.key(0), measured(WORTH, []))
  assert chosen["normal"][0].argmax() == S3.index("skip_connect")

  bench = spec_lib.nas_bench_201(cells=1, width=4, classes=2)
  cell = bench.cell("cell")
  assert dispensable(cell, 3, lambda e: 0.0) == []
  worth = {"cell": np.zeros((6, 5))}
  worth["cell"][:, 0] = 1  # none
  algorithm = darts_pt(bench)
  chosen = algorithm.select(
    {"cell": jnp.zeros((6, 5))}, jax.random.key(0), measured(worth, [])
  )
  assert (np.asarray(chosen["cell"]).argmax(-1) == 0).all()


@pytest.mark.slow  # compiles two evaluations
def test_a_search_measures_on_all_held_out_images_by_their_own_moments():
  seen = []

  def only_measures(spec, estimate):
    own = darts_pt(spec, estimate)

    def select(arch, key, measure):
      seen.append(measure(own.mixture(arch)))
      return arch

    return own._replace(select=select)

  config = config_lib.base()
  config.algo.name = registry.register(only_measures, "only_measures")
  config.space.update(name="s3", cells=3, width=2, nodes=1)
  config.data.limit = 500  # more than CANDIDATE_BATCHES batches of them
  config.train.update(length="1 steps", batch=16)
  (problem,) = problem_lib.read(config)
  plan = search.build_plan(problem, problem.stages.first)
  state = plan.init()
  found = plan.evaluate(state, plan.total)
  stage = problem.stages.first
  algorithm = problem_lib.algorithm(problem, stage)
  network = search.stage_network(problem, stage, algorithm)
  by_batch = build.task(config, network, problem.data, problem.mesh, True)
  weights = algorithm.mixture(state.arch)
  expected = by_batch.evaluate(state, weights, problem.splits[1])["accuracy"]
  assert seen == [expected]
  assert found.values["valid_accuracy"] != expected  # by running moments
