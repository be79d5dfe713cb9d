"""Several seeds in one program: each is what it is alone, and goes on so."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from law_rows import CHOSEN, ROWS, SPEC, begun, objective, weights
import numpy as np
import pytest

from jnas.data import device
from jnas.runtime import compiled, keys, metrics, parallel
from jnas.spaces import toy
from jnas.training import losses, optim, seeds, steps, trainer
from jnas.training import state as state_lib
from jnas.training.batches import resident
from jnas.training.state import State
from jnas.training.task import Task

SIZE, EXAMPLES, BATCH, STEPS = 4, 64, 8, 12
SEEDS = (3, 4, 7)
QUICK = ("gdas",)  # the others take as long, each
EACH = pytest.mark.parametrize(
  "row",
  [
    row if row in QUICK else pytest.param(row, marks=pytest.mark.slow)
    for row in ROWS
  ],
)


@functools.cache
def examples(row: str, x64: bool) -> device.Split:
  """What all seeds share, in the type of the day."""
  del x64
  key = jax.random.key(0)
  target = toy.planted(key, SPEC, CHOSEN, SIZE)
  x = 2 * jax.random.normal(key, (EXAMPLES, SIZE))
  factors = jnp.asarray(ROWS[row].planted * 2)[None, :, None]
  return device.Split(x, factors * target(x), x.shape[1:])


def draw(seed, split, name, step):
  """Which examples, of those that the seed has."""
  order = device.indices(
    keys.stream(seed, f"{name}/order"), step, len(split), BATCH
  )
  batch = device.take(split, order)
  noise = keys.stream(seed, name, step)
  return losses.Batch(*batch, keys.per_example(noise, jnp.arange(BATCH)))


def halves(row: str, seed: int) -> tuple[device.Split, device.Split]:
  """The seed's own halves of the examples, which all seeds share."""
  order = np.random.default_rng(seed).permutation(EXAMPLES)
  whole = examples(row, jax.config.jax_enable_x64)
  return tuple(
    device.Split(whole.x, whole.y, whole.shape, jnp.asarray(part, jnp.int32))
    for part in np.split(order, 2)
  )


def plan(row: str, seed: int) -> trainer.Plan:
  """The search of a law's row on the toy, with one seed."""
  own = ROWS[row]
  algorithm = own.make(own.spec)
  weights_optimizer = optim.sgd(
    lambda step: 0.1, momentum=0.9, decay=1e-4, clip=5.0
  )
  arch_optimizer = optim.adam(own.arch_lr, b1=0.5, b2=0.999, decay=1e-3)

  def step(seed: jax.Array) -> steps.Step:
    parts = (
      *(algorithm, objective, weights_optimizer, arch_optimizer),
      functools.partial(draw, seed),
    )
    if algorithm.one_level:
      return steps.one_level_step(*parts, seed=seed, mean=parallel.mean)
    return steps.search_step(
      *parts,
      seed=seed,
      virtual=steps.momentum_virtual(
        lambda step: 0.1, momentum=0.9, decay=1e-4
      ),
      mean=parallel.mean,
      warm=algorithm.estimate is None,
    )

  def init() -> State:
    return begun(
      own,
      algorithm,
      weights(keys.stream(seed, "weights"), own.spec, SIZE),
      algorithm.init(keys.stream(seed, "arch"), 1e-3),
      weights_optimizer,
      arch_optimizer,
    )

  return trainer.Plan(
    title="a toy",
    per_epoch=4,
    total=STEPS,
    batch=BATCH,
    task=Task(objective, evaluate=None),
    feed=resident(*halves(row, seed)),
    init=init,
    steps={"full": step},
    which=lambda at, state: ("full", STEPS - at),
    evaluate=lambda state, at: trainer.Evaluation(
      state._replace(arch={n: 0 * a + seed for n, a in state.arch.items()}),
      {"valid_accuracy": float(seed)},
      (("note.json", {"seed": seed}),),
    ),
    rates=lambda step: {"lr": 0.1},
    warning=lambda values: "it is four" * (values["valid_accuracy"] == 4),
    meta={"seed": seed},
  )


def advanced(row: str, each: tuple[int, ...], devices: int = 1):
  """The state after some steps, of one seed or several, and the program."""
  plans = [plan(row, seed) for seed in each]
  if len(each) == 1:
    mesh = parallel.mesh(jax.devices()[:devices])
    (whole,), seed = plans, each[0]
  else:
    mesh = parallel.seeds_mesh(len(each), jax.devices()[:devices])
    whole, seed = seeds.joined(plans, mesh), each
  state = state_lib.place(whole.init(), mesh)
  seed = parallel.place(
    jnp.uint32(seed), mesh, PartitionSpec(*parallel.lead(mesh))
  )
  fed = whole.feed.fetch(0, 1)
  if (key := (row, len(each), devices)) not in _steps:
    program = trainer.program(whole, mesh, "full", 1)
    _steps[key] = program.lower(state, seed, *fed).compile()
  for _ in range(STEPS):
    state, _ = _steps[key](state, seed, *fed)
  return jax.device_get(state), _steps[key].as_text()


_steps = {}  # compiled, each for all seeds


@EACH
@pytest.mark.usefixtures("x64")
def test_each_seed_is_what_it_is_alone(row):
  together, _ = advanced(row, SEEDS)
  for k, seed in enumerate(SEEDS):
    own = jax.tree.map(lambda a, k=k: a[k], together)
    assert_same(row, own, advanced(row, (seed,))[0])
  first, second, _ = jax.tree.leaves(together.weights)[0]
  assert np.abs(first - second).max() > 0.1


def assert_same(row, own, alone):
  """Fails if two states differ by more than rounding, or in what they derive.

  The totals are in float32, whatever the rest.
  """
  chex.assert_trees_all_close(own.totals, alone.totals, rtol=1e-6)
  chex.assert_trees_all_close(
    own._replace(totals=None),
    alone._replace(totals=None),
    rtol=1e-9,
    atol=1e-12,
  )
  algorithm = ROWS[row].make(ROWS[row].spec)
  found, expected = (
    algorithm.derive(jax.device_get(algorithm.mixture(s.arch, s.step)))
    for s in (own, alone)
  )
  assert found == expected


@pytest.mark.usefixtures("x64")
def test_seeds_that_are_divided_over_devices_send_nothing():
  each = SEEDS[:2]
  together, text = advanced("gdas", each, devices=2)
  assert compiled.work(text).collectives == 0
  for k, seed in enumerate(each):
    own = jax.tree.map(lambda a, k=k: a[k], together)
    assert_same("gdas", own, advanced("gdas", (seed,))[0])


@pytest.mark.parametrize(
  "count, devices, shape", [(8, 4, (4, 1)), (2, 4, (2, 2)), (3, 4, (1, 4))]
)
def test_devices_share_the_seeds_and_then_their_batches(count, devices, shape):
  mesh = parallel.seeds_mesh(count, jax.devices()[:devices])
  assert mesh.devices.shape == shape
  assert parallel.local_batch(8, mesh) == 8 // shape[1]


@functools.cache
def trained(stop_at: int | None = None):
  return run(stop_at=stop_at)


def run(start=None, stop_at=None):
  """What the trainer of two seeds told, and its last state."""
  plans = [plan("darts_first", seed) for seed in SEEDS[:2]]
  mesh = parallel.seeds_mesh(2, jax.devices()[:1])
  told = {"save": [], "show": []} | {k: [] for k in range(2)}
  each = tuple(
    trainer.Hooks(
      write=lambda *news, k=k: told[k].append(news),
      record=lambda *news, k=k: told[k].append(news),
      say=lambda *news, k=k: told[k].append(news),
    )
    for k in range(2)
  )
  hooks = trainer.Hooks(
    save=lambda *news: told["save"].append(jax.device_get(news)),
    show=lambda *news: told["show"].append(news),
    stopping=lambda: len(told["save"]) == stop_at,
    each=each,
  )
  own = trainer.Trainer(
    seeds.joined(plans, mesh),
    mesh,
    SEEDS[:2],
    trainer.Periods(write=2, evaluate=4, save=6),
    hooks,
  )
  at, state = start or (0, own.plan.init())
  state, _ = own.run(state, at)
  return own, jax.device_get(state), told


def test_each_seed_has_its_own_lines_and_evaluations():
  own, state, told = trained()
  assert own.complete and state.step.tolist() == [STEPS] * 2
  assert [[n for n in told[k] if len(n) == 1] for k in range(2)] == [
    [], [("seed 4: it is four",)]
  ]
  for k, seed in enumerate(SEEDS[:2]):
    lines = [news for news in told[k] if news[0] == "epoch"]
    assert [values["valid_accuracy"] for *_, values in lines] == [seed] * 3
    assert [news[1] for news in told[k] if len(news) == 2] == [
      {"seed": seed}
    ] * 3
  losses_of = [
    [news[3]["train_loss"] for news in told[k] if news[0] == "step"]
    for k in range(2)
  ]
  assert len(losses_of[0]) == 6
  assert np.abs(np.subtract(*losses_of)).min() > 1e-4
  # What an evaluation changes is each seed's own.
  for a in state.arch.values():
    assert [set(own.ravel()) for own in a] == [{3.0}, {4.0}]
  # What is shown of both is their mean.
  shown = dict(told["show"][-1][1])
  assert shown["valid_accuracy"] == np.mean(SEEDS[:2])
  assert shown["train_loss"] == pytest.approx(
    np.mean([own[-1] for own in losses_of])
  )


def test_seeds_go_on_from_a_saved_state_to_the_same_bits():
  _, whole, _ = trained()
  own, part, told = trained(stop_at=1)
  assert not own.complete and part.step.tolist() == [6, 6]
  step, state, meta = told["save"][-1]
  assert [last["valid_accuracy"] for last in meta["last"]] == [3, 4]
  _, rest, _ = run(start=(step, state))
  chex.assert_trees_all_equal(rest, whole)


def test_a_number_that_is_not_finite_names_its_seed(monkeypatch):
  given = halves

  def broken(row, seed):
    splits = given(row, seed)
    if seed == SEEDS[0]:
      return splits
    return tuple(dataclasses.replace(s, x=s.x * jnp.nan) for s in splits)

  monkeypatch.setitem(globals(), "halves", broken)
  with pytest.raises(metrics.NotFinite, match="train_loss of seed 4 = nan"):
    run()
