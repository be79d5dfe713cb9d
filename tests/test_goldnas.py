"""GOLD-NAS's pruning, against Algorithm 1 of Bi et al. 2020 worked by hand."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jnas import genotype as genotype_lib
from jnas.algorithms import goldnas
from jnas.algorithms import stages as stages_lib
from jnas.algorithms.goldnas import Pruning, Schedule
from jnas.runs import pareto
from jnas.spaces import cost
from jnas.spaces import spec as spec_lib
from jnas.spaces.spec import S2
from jnas.training import controller
from jnas.training.state import State, zero_totals

SKIP, SEP = S2
SIZE, MEGA = (8, 8), 1e6
# Three cells of one node, four operators each. A letter is an operator: of
# a cell the identity and the convolution that read the first input, then
# those that read the second.
SPEC = spec_lib.supernet(
  S2, cells=3, width=4, classes=3, nodes=1, shared=False
)
LETTERS = {"cell0": "abcd", "cell1": "efgh", "cell2": "ijkl"}
SCHEDULE = Schedule(
  n0=2, lambda0=1.0, c0=2.0, xi_max=0.05, xi_min=0.01, t0=1
)
# Algorithm 1 by hand. Weights in thousandths, 900 for those not named; what
# is left, lambda, Delta lambda and t after the epoch; whether it is recorded.
EPOCHS = [
  # a and b are the n0 weakest; neither is below xi_max (50 is not).
  ("a 50 b 60", "abcd efgh ijkl", 2.0, 2.0, 1, False),
  # t = 2 > t0: the first of the Pareto set.
  ("a 51 b 50", "abcd efgh ijkl", 6.0, 4.0, 0, True),
  # E_min is {c, a}. d is below xi_max, too, but is not of the n0 weakest.
  # n0 reached: lambda / c0, and the increment begins anew.
  ("a 40 c 20 d 45", "bd efgh ijkl", 3.0, 1.0, 0, False),
  # Of E_min = {e, d} one is pruned: fewer than n0. What has been pruned
  # before (a, c) has a weight of zero and no part in E_min.
  ("a 0 c 0 d 50 e 49", "bd fgh ijkl", 5.0, 2.0, 0, False),
  # All below xi_min go, more than n0; d is the last of its node, and stays.
  ("b 5 d 9 f 3 g 4 h 10", "d h ijkl", 2.5, 1.0, 0, False),
  # E_min is {d, h}, which stay; i is third, and above xi_min.
  ("d 2 h 3 i 30", "d h ijkl", 4.5, 2.0, 1, False),
  # i is third again, but below xi_min. It ends the quiet.
  ("d 2 h 3 i 9", "d h jkl", 8.5, 4.0, 0, False),
  # Equal weights go in order, until one is the last. Exactly n0.
  ("d 2 h 900 j 5 k 5 l 5", "d h l", 4.25, 1.0, 0, False),
  # Nothing can be pruned any more.
  ("d 2 h 3 l 4", "d h l", 6.25, 2.0, 1, False),
  ("d 2 h 3 l 4", "d h l", 10.25, 4.0, 0, True),
  # t begins anew with what is recorded.
  ("d 900", "d h l", 18.25, 8.0, 1, False),
  ("d 900", "d h l", 34.25, 16.0, 0, True),
]


def table(text, left):
  """The weights [E, O] of all cells; zero for what has been pruned."""
  words = text.split()
  named = dict(zip(words[::2], map(int, words[1::2]), strict=True))
  return {
    name: np.array(
      [named.get(x, 900) / 1000 if x in left else 0 for x in letters]
    ).reshape(2, 2)
    for name, letters in LETTERS.items()
  }


def kept(spec):
  """The letters of what a spec keeps, cell by cell."""
  return " ".join(
    "".join(
      x
      for x, (e, op) in zip(
        LETTERS[name], [(e, op) for e in range(2) for op in S2], strict=True
      )
      if op in cell.kept[e]
    )
    for name, cell in spec.searched
  )


def keeping(text):
  """The spec with these letters."""
  return goldnas.pruned(
    SPEC,
    {
      name: np.array([x in text for x in letters]).reshape(2, 2)
      for name, letters in LETTERS.items()
    },
  )


# Algorithm 1.


def test_the_first_state_and_the_defaults_are_those_of_the_paper():
  assert goldnas.begin(Schedule()) == Pruning(0.0, 1e-5, 0)
  assert Schedule() == Schedule(4, 1e-5, 2.0, 0.05, 0.01, 3)


def test_epochs_follow_algorithm_1():
  spec, state = SPEC, goldnas.begin(SCHEDULE)
  for text, left, weight, increment, quiet, recorded in EPOCHS:
    before = kept(spec)
    found = goldnas.decide(spec, table(text, before), state, SCHEDULE)
    spec, state = goldnas.pruned(spec, found.active), found.state
    assert kept(spec) == left, text
    assert found.pruned == len(before) - len(left), text
    assert state == Pruning(weight, increment, quiet), text
    assert found.pareto == recorded, text


def test_a_decision_changes_nothing_that_it_is_given():
  weights = table("a 5 b 5", kept(SPEC))
  before = {name: w.copy() for name, w in weights.items()}
  goldnas.decide(SPEC, weights, goldnas.begin(SCHEDULE), SCHEDULE)
  jax.tree.map(np.testing.assert_array_equal, weights, before)


def test_the_last_operator_of_a_node_stays_whatever_its_edge():
  spec = spec_lib.supernet(
    S2, cells=3, width=4, classes=3, nodes=2, shared=False
  )
  weights = {name: np.full((5, 2), 1e-3) for name, _ in spec.searched}
  # Node 3 has two that are to go, on other edges; the later one is left.
  weights["cell1"][2:] = [[0.9, 1e-4], [0.9, 0.9], [1e-4, 0.9]]
  state = goldnas.begin(SCHEDULE)
  found = goldnas.decide(spec, weights, state, SCHEDULE)
  assert found.active["cell0"].astype(int).tolist() == [
    [0, 0], [0, 1], [0, 0], [0, 0], [0, 1]
  ]
  assert found.active["cell1"].astype(int).tolist() == [
    [0, 0], [0, 1], [1, 0], [1, 1], [0, 1]
  ]
  assert found.pruned == 8 + 3 + 2 + 8


# Stages.


def stages(rebuild, flops_min=0.0, total=None, background=False):
  return goldnas.stages(
    SPEC, total or 3 * len(EPOCHS), per_epoch=3, size=SIZE, schedule=SCHEDULE,
    flops_min=flops_min, rebuild=rebuild, background=background,
  )


def played(plan):
  """The stages that follow the table, to their end."""
  found, stage = [plan.first], plan.first
  for text, *_ in EPOCHS:
    weights = table(text, kept(stage.left))
    stage = plan.decide(stage, {}, weights).following
    if stage is None:
      break
    found.append(stage)
  return found


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("rebuild", [0.0, 0.2, 0.9])
def test_stages_decide_the_same_whenever_the_network_is_built_anew(
  rebuild, background
):
  found = played(stages(rebuild, background=background))
  first = found[0]
  assert dict(first.hyper) == {"lambda": 0.0}
  assert (first.index, first.start, first.stop) == (0, 0, 3)
  assert first.spec == first.left == SPEC
  # The last step ends it: the last epoch decides nothing.
  assert len(found) == len(EPOCHS)
  before = kept(SPEC)
  for i, stage in enumerate(found[1:]):
    text, left, weight, increment, quiet, recorded = EPOCHS[i]
    assert kept(stage.left) == left
    assert (stage.index, stage.start, stage.stop) == (
      i + 1, 3 * i + 3, 3 * i + 6
    )
    assert dict(stage.hyper) == {"lambda": weight}
    assert dict(stage.scheduler) == {
      "increment": increment, "quiet": quiet,
      "pruned": len(before) - len(left),
    }
    ended = found[i], {}, table(text, kept(found[i].left))
    joins = stages(rebuild).decide(*ended).found
    assert joins == (stage.left if recorded else None)
    before = left
    fields = json.loads(json.dumps(stage.to_json()))
    back = stages_lib.from_json(fields)
    assert back == stage and hash(back) == hash(stage)
    if not fields.pop("coming"):  # as checkpoints had it before
      assert stages_lib.from_json(fields) == stage


# Multiply-adds by hand: of the whole; e, an identity of stride two, is 1024; b,
# f and g are 6656, 4352 and 1024; i is 1024; j and k are 3200 and 1024. The
# identities a and c are free.
FLOPS = {"bd fgh ijkl": 69680, "d h ijkl": 57648, "d h jkl": 56624}
WHOLE, LAST = 70704, 52400


@pytest.mark.parametrize(
  "rebuild,built",
  [
    (0.01, ["bd fgh ijkl", "d h ijkl", "d h jkl", "d h l"]),
    (0.15, ["d h ijkl"]),  # from 60098 on; not again before 49000
    (0.19, ["d h jkl"]),  # from 57270 on
    (0.25, ["d h l"]),  # from 53028 on
    (0.26, []),  # from 52320 on
    (0.9, []),
  ],
)
def test_a_network_is_masked_until_a_share_of_it_can_be_left_out(
  rebuild, built
):
  counts = {"abcd efgh ijkl": WHOLE, "bd efgh ijkl": WHOLE, "d h l": LAST}
  for letters, count in (FLOPS | counts).items():
    assert cost.network_flops(keeping(letters), SIZE) == count
  found = played(stages(rebuild))
  specs = [kept(stage.spec) for stage in found]
  assert list(dict.fromkeys(specs)) == ["abcd efgh ijkl", *built]
  for stage in found:
    # It is built with the decision and not an epoch later.
    assert kept(stage.spec) == kept(stage.left) or kept(stage.left) not in built


@pytest.mark.parametrize(
  "rebuild,built",
  [
    # What goes meanwhile is masked, and the usual rule decides of the rest.
    (0.01, ["bd fgh ijkl", "d h ijkl", "d h jkl", "d h l"]),
    (0.15, ["d h ijkl"]),
    (0.9, []),
  ],
)
def test_what_is_compiled_in_the_background_takes_over_an_epoch_later(
  rebuild, built
):
  found = played(stages(rebuild, background=True))
  at_once = played(stages(rebuild))
  specs = [kept(stage.spec) for stage in found]
  assert list(dict.fromkeys(specs)) == ["abcd efgh ijkl", *built]
  for old, new, foreground in zip(found, found[1:], at_once, strict=False):
    assert new.spec == (old.coming or old.spec)
    if old.coming:
      assert kept(old.coming) == kept(old.left) != kept(old.spec)
      # With the decision that compiles in the foreground.
      assert kept(foreground.spec) == kept(old.coming)
  # What no step would run is not compiled: those of d h l begin at 27.
  for total, last in ((28, "d h l"), (27, None)):
    *_, stage = played(stages(rebuild, total=total, background=True))[:9]
    coming = stage.coming and kept(stage.coming)
    assert coming == (last if rebuild == 0.01 else None)


@pytest.mark.parametrize(
  "flops_min,epochs",
  [(0.0524, 8), (0.0523, 12), (0.0577, 5), (0.05764, 7), (0.0708, 1)],
)
def test_a_search_ends_with_its_steps_or_at_the_least_flops(flops_min, epochs):
  # As many stages as epochs: the last one's decision is that it was the last.
  for rebuild in (0.0, 0.9):
    found = played(stages(rebuild, flops_min))
    assert len(found) == epochs
  # A run may end within an epoch.
  found = played(stages(0.0, flops_min, total=10))
  assert [stage.stop for stage in found] == [3, 6, 9, 10][:epochs]


def state_of(spec, logits):
  """A state whose weights and moments have the rows of a spec's operators."""
  rng = np.random.default_rng(0)

  def network():
    cells = {}
    for i, layer in enumerate(spec.layers):
      kept = spec.cell(layer.cell).kept
      rows = sum(SEP in own for own in kept)
      cells[f"cell{i}"] = {SEP: {"pointwise1": rng.normal(size=(rows, 2))}}
    return cells | {"stem": {"kernel": rng.normal(size=3)}}

  return State(
    step=jnp.int32(9), weights=network(), stats=network(), arch=logits,
    weights_opt=({"trace": network()}, jnp.int32(9)),
    arch_opt={"trace": {name: a + 1 for name, a in logits.items()}},
    totals=zero_totals(), hyper={"lambda": jnp.float32(4)},
  )


@pytest.mark.parametrize("rebuild", [0.0, 0.9])
def test_what_is_carried_over_is_masked_or_left_out(rebuild):
  old, new = played(stages(rebuild))[4:6]  # b, f and g go
  logits = {
    name: jnp.where(w > 0, jnp.asarray(w) + 3, -jnp.inf)
    for name, w in table("", kept(old.left)).items()
  }
  state = state_of(old.spec, logits)
  found = controller.carried(state, old, new)
  for name, letters in LETTERS.items():
    left = np.array([x in kept(new.left) for x in letters]).reshape(2, 2)
    expected = np.where(left, logits[name], -np.inf)
    np.testing.assert_array_equal(found.arch[name], expected)
  assert found.hyper == {"lambda": 2.5}
  assert found.hyper["lambda"].dtype == state.hyper["lambda"].dtype
  for name in ("step", "arch_opt", "totals"):
    assert getattr(found, name) is getattr(state, name)
  assert found.weights_opt[1] == 9
  pairs = (
    (state.weights, found.weights), (state.stats, found.stats),
    (state.weights_opt[0]["trace"], found.weights_opt[0]["trace"]),
  )
  for before, after in pairs:
    np.testing.assert_array_equal(after["stem"]["kernel"],
                                  before["stem"]["kernel"])
    for i, rows in enumerate(([1], [1], [0, 1]) if not rebuild else [...] * 3):
      was = before[f"cell{i}"][SEP]["pointwise1"]
      left = after[f"cell{i}"][SEP]["pointwise1"]
      np.testing.assert_array_equal(left, was[rows])


# The Pareto set.


@pytest.mark.parametrize("rebuild", [0.0, 0.9])
def test_what_survives_is_written_down_in_the_epoch_that_algorithm_1_says(
  rebuild
):
  problem = SimpleNamespace(
    stages=stages(rebuild), clock=SimpleNamespace(per_epoch=3),
    data=SimpleNamespace(train_x=np.zeros((1, *SIZE, 3))),
  )
  lines = []
  for epoch, stage in enumerate(played(stages(rebuild))):
    weights = table(EPOCHS[epoch][0], kept(stage.left))
    values = {"valid_accuracy": stage.stop / 100}
    state = SimpleNamespace(arch={})
    lines += pareto.records(
      problem, stage, state, weights, values, "accuracy"
    )
  assert [name for name, _ in lines] == ["pareto.jsonl"] * 3
  expected = [(2, 2.0, WHOLE), (10, 6.25, LAST), (12, 18.25, LAST)]
  for (_, line), (epoch, weight, flops) in zip(lines, expected, strict=True):
    assert (line["epoch"], line["step"]) == (epoch, 3 * epoch)
    assert line["accuracy"] == 3 * epoch / 100
    # That under which it has survived.
    assert line["lambda"] == weight
    assert line["flops"] == pytest.approx(flops / MEGA)
    assert line["operators"] == (12 if epoch == 2 else 3)
    genotype = genotype_lib.from_json(json.loads(json.dumps(line["genotype"])))
    assert genotype_lib.parse(line["text"]) == genotype
    nodes = genotype_lib.chosen(genotype)
    if epoch == 2:
      each = [(op, i, 2) for i in (0, 1) for op in S2]
      assert {n: sorted(own) for n, own in nodes.items()} == dict.fromkeys(
        LETTERS, sorted(each)
      )
    else:  # d, h and l
      assert nodes == dict.fromkeys(LETTERS, ((SEP, 1, 2),))
  assert lines[0][1]["params"] > lines[1][1]["params"] > 0


# Pruning at random.


def count(spec):
  return sum(len(own) for _, cell in spec.searched for own in cell.kept)


def valid(spec):
  return all(any(cell.kept) for _, cell in spec.searched)  # of one node each


@pytest.mark.parametrize("budget", [12, 7, 3])
def test_random_pruning_stops_as_soon_as_the_budget_is_met(budget):
  found, drawn = set(), []
  for seed in range(40):
    seen = []

    def measure(spec, seen=seen):
      seen.append(spec)
      return count(spec)

    rng = np.random.default_rng(seed)
    spec = goldnas.random_pruning(SPEC, measure, budget, rng)
    assert count(spec) == budget and valid(spec)
    # One after the other, of what there was; a new network begins with all.
    assert spec == seen[-1] and seen[0] == SPEC
    counts = [count(each) for each in seen]
    begun = [i for i, n in enumerate(counts) if n == 12]
    for first, last in zip(begun, [*begun[1:], len(seen)], strict=True):
      down = counts[first:last]
      assert down == list(range(12, 12 - len(down), -1))
    for one, two in zip(seen, seen[1:], strict=False):
      assert set(kept(two)) < set(kept(one)) or two == SPEC
    rng = np.random.default_rng(seed)
    assert spec == goldnas.random_pruning(SPEC, count, budget, rng)
    found.add(kept(spec))
    drawn.append([x in kept(spec) for x in "abcdefghijkl"])
  # No operator is preferred: each is left as often as the budget has it.
  share = budget / 12
  sigma = np.sqrt(share * (1 - share) / 40)
  assert abs(np.mean(drawn, 0) - share).max() <= 3.5 * sigma
  assert len(found) == 1 if budget == 12 else len(found) > 20


def test_random_pruning_measures_flops_and_starts_from_what_is_left():
  spec = keeping("abd fgh jkl")
  rng = np.random.default_rng(0)
  found = goldnas.random_pruning(
    spec, lambda s: cost.network_flops(s, SIZE), 58000, rng
  )
  assert cost.network_flops(found, SIZE) <= 58000 and valid(found)
  assert set(kept(found)) < set(kept(spec))


def test_a_budget_that_no_valid_network_meets_is_refused():
  rng = np.random.default_rng(0)
  with pytest.raises(ValueError, match="at most 2 FLOPs in 20 random"):
    goldnas.random_pruning(SPEC, count, 2, rng, tries=20)
