"""The trainer by itself: no files, a task that is not images, a host's feed."""

import collections
import gc
import itertools
import math
import time

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np
import pytest

from jnas.runtime import metrics, parallel
from jnas.training import losses, optim, steps, trainer
from jnas.training import state as state_lib
from jnas.training.batches import Feed
from jnas.training.task import Task

BATCH, STEPS, PER_EPOCH = 4, 12, 4
LR, DECAY = 0.1, 0.5
X = np.random.default_rng(0).normal(size=(STEPS, BATCH)).astype(np.float32)


def objective(w, stats, edge_weights, batch, rates):
  """What was seen so far, forgotten by and by, is to be told from x."""
  del edge_weights, rates
  seen = DECAY * batch.carry + batch.x
  loss = jnp.mean((w * batch.x - seen) ** 2)
  return loss, losses.Outcome(stats, {}, carry=seen)


def draw(fed, stream, step):
  """The row of a step, of those that the feed has brought."""
  assert stream == "train"
  x = fed["x"][step - fed["first"]]
  return losses.Batch(x, None, None)


def plan(fetched):
  optimizer = optim.sgd(lambda step: LR, momentum=0.0, decay=0.0, clip=0.0)

  def fetch(step, count):
    fetched.append((step, count))
    rows = X[step : step + count]
    return ({"x": jnp.asarray(rows), "first": jnp.int32(step)},)

  split = PartitionSpec(None, parallel.AXIS)
  w = jnp.float32(3)
  return trainer.Plan(
    title="a toy",
    per_epoch=PER_EPOCH,
    total=STEPS,
    batch=BATCH,
    task=Task(
      objective,
      evaluate=None,
      headline="perplexity",
      larger_is_better=False,
      scores=(),
      told=lambda means: {**means, "perplexity": math.exp(means["loss"])},
    ),
    feed=Feed(fetch, ({"x": split, "first": PartitionSpec()},)),
    init=lambda: state_lib.State(
      step=jnp.int32(0), weights=w, stats=(), arch=(),
      weights_opt=optimizer.init(w), arch_opt=(),
      totals=state_lib.zero_totals(()),
      carry=state_lib.Carry(train=jnp.zeros(BATCH)),
    ),
    steps={
      "train": lambda seed: steps.train_step(
        objective, optimizer, draw, mean=parallel.mean
      )
    },
    which=lambda at, state: ("train", STEPS - at),
    evaluate=lambda state, at: trainer.Evaluation(
      state, {"valid_perplexity": 7.0}, (("note.json", {"at": at}),)
    ),
    rates=lambda step: {},
    meta={"task": "toy"},
  )


def expected():
  """(weights, what was seen, loss) after each step, in numpy."""
  w, seen = 3.0, np.zeros(BATCH)
  for x in X.astype(np.float64):
    seen = DECAY * seen + x
    error = w * x - seen
    loss = np.mean(error**2)
    w -= LR * np.mean(2 * error * x)
    yield w, seen, loss


def run(devices=1, dispatch=1, stop_at=None, start=None, told=None):
  """What a trainer's hooks were told, and its last state."""
  told = collections.defaultdict(list) if told is None else told
  hooks = trainer.Hooks(
    write=lambda *news: told["write"].append(news),
    record=lambda *news: told["record"].append(news),
    save=lambda *news: told["save"].append(jax.device_get(news)),
    show=lambda *news: told["show"].append(news),
    stopping=lambda: len(told["save"]) == stop_at,
  )
  own = trainer.Trainer(
    plan(told["fetch"]),
    parallel.mesh(jax.devices()[:devices]),
    seed=0,
    periods=trainer.Periods(write=2, evaluate=4, save=3, dispatch=dispatch),
    hooks=hooks,
  )
  at, state = start or (0, own.plan.init())
  state, _ = own.run(state, at)
  return own, jax.device_get(state), told


@pytest.mark.parametrize("devices, dispatch", [(1, 1), (4, 1), (1, 2)])
def test_what_is_carried_goes_from_batch_to_batch(devices, dispatch):
  own, state, told = run(devices, dispatch)
  *_, (w, seen, _) = expected()
  np.testing.assert_allclose(state.weights, w, rtol=1e-5)
  np.testing.assert_allclose(state.carry.train, seen, rtol=1e-5)
  assert own.complete and state.step == STEPS
  # Once a dispatch, and never over a hook.
  assert [step for step, _ in told["fetch"]] == (
    [*range(12)] if dispatch == 1 else [0, 2, 3, 4, 6, 8, 9, 10]
  )


def test_news_go_to_the_hooks_in_the_order_of_the_loop():
  _, _, told = run()
  kinds = [(kind, step, epoch) for kind, step, epoch, _ in told["write"]]
  assert kinds[:3] == [("step", 2, 0.5), ("step", 4, 1.0), ("epoch", 4, 1.0)]
  steps_of = [step for step, *_ in told["save"]]
  assert steps_of == [3, 6, 9, 12]
  assert told["record"] == [("note.json", {"at": n}) for n in (4, 8, 12)]
  line = told["write"][2][3]
  loss = np.mean([loss for *_, loss in list(expected())[:4]])
  assert line["train_loss"] == pytest.approx(loss, rel=1e-5)
  assert line["train_perplexity"] == pytest.approx(math.exp(loss), rel=1e-5)
  assert "train_accuracy" not in line
  shown = dict(told["show"][1][1])
  assert shown["valid_perplexity"] == 7.0 and "images_per_second" in shown
  meta = told["save"][1][2]
  assert (meta["task"], meta["devices"]) == ("toy", 1)
  assert meta["last"]["valid_perplexity"] == 7.0


def test_it_goes_on_from_any_state_to_the_same_numbers():
  _, whole, _ = run()
  own, part, told = run(stop_at=2)
  assert not own.complete and part.step == 6
  _, rest, _ = run(start=(6, told["save"][-1][1]))
  jax.tree.map(np.testing.assert_array_equal, rest, whole)


@pytest.mark.parametrize("at", [1, 3, 8, 11])
def test_a_number_that_is_not_finite_is_neither_saved_nor_written(
  monkeypatch, at
):
  poisoned = X.copy()
  poisoned[at - 1, 2] = np.nan
  monkeypatch.setitem(globals(), "X", poisoned)
  told = collections.defaultdict(list)
  with pytest.raises(metrics.NotFinite) as caught:
    run(told=told)
  assert caught.value.step == at and "train_loss" in caught.value.metrics
  saved = [step for step, *_ in told["save"]]
  assert saved == [step for step in (3, 6, 9, 12) if step < at]
  for _, state, _ in told["save"]:
    assert np.isfinite(state.weights)
  assert all(step < at for _, step, *_ in told["write"])


def test_a_clock_that_is_set_back_changes_no_time(monkeypatch):
  clock = itertools.count(1.7e9, -3600)
  monkeypatch.setattr(time, "time", lambda: next(clock))
  _, _, told = run()
  seconds = [
    value
    for *_, values in told["write"]
    for name, value in values.items()
    if name.endswith("seconds")
  ]
  assert len(seconds) == 6 + 3 * 3 and 0 <= min(seconds) <= max(seconds) < 60


def test_plans_that_have_ended_leave_nothing_behind():
  """Neither arrays nor compiled programs of six plans of two steps."""
  counts = []

  def part(start):
    until, name, own = start + 2, f"step {start}", plan([])
    return own._replace(
      until=until,
      following=lambda state: (part(until), state),
      steps={name: own.steps["train"]},
      which=lambda at, state: (name, until - at),
    )

  def count(title):
    gc.collect()
    programs = jax.devices()[0].client.live_executables()
    counts.append((len(jax.live_arrays()), len(programs)))

  own = trainer.Trainer(
    part(0),
    parallel.mesh(jax.devices()[:1]),
    seed=0,
    periods=trainer.Periods(2, 4, 3),
    hooks=trainer.Hooks(begin=count),
  )
  _, step = own.run(own.plan.init())
  assert step == STEPS and len(counts) == 5
  assert len(set(counts[1:])) == 1


def test_a_trainer_needs_nobody_to_listen():
  own = trainer.Trainer(
    plan([]), parallel.mesh(jax.devices()[:1]), 0, trainer.Periods(4, 4, 0)
  )
  state, step = own.run(own.plan.init())
  assert step == STEPS and own.past.last["valid_perplexity"] == 7.0
