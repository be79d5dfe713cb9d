"""The command that compiles a search's programs for other devices."""

import importlib.util
import json
import math

import jax
import pytest

from jnas import config as config_lib
from jnas.runs import plan, programs, targets
from jnas.runtime import compiled
from jnas.spaces import cost
from jnas.spaces import spec as spec_lib

TINY = (
  "--config=configs/darts.py:quick",
  "--config.space.nodes=1",
  "--config.space.width=4",
  "--config.data.limit=160",
)


def told(capsys, *words):
  assert plan.main([*TINY, *words, "--json"]) == 0
  return json.loads(capsys.readouterr().out)


def test_on_cpu_all_but_the_time_is_told(capsys):
  found = told(capsys, "--target=cpu")
  assert found["target"] == "cpu"
  for each in found["programs"]:
    assert each["compile_seconds"] > 0
    kept = each["arguments"] + each["outputs"] - each["aliased"]
    assert each["total"] == kept + each["temporaries"] + each["code"]
    assert each["arguments"] > 0 and each["unknown_loops"] == 0
    assert each["step_seconds"] is None
  step, _ = found["programs"]
  # The state goes where it was.
  assert step["aliased"] > 0.9 * step["outputs"]
  assert "unknown: this compiler estimates none" in "\n".join(
    plan._table(found)
  )


def needed(path, *fields):
  config = config_lib.load(path, [f"--config.{field}" for field in fields])
  return programs.of(config, jax.devices("cpu"))


@pytest.mark.parametrize(
  "field, names",
  [
    ("algo.warmup=0 epochs", {"full step": 10, "evaluation": None}),
    (
      "algo.warmup=1 steps",
      {"warm step": 1, "full step": 9, "evaluation": None},
    ),
    ("algo.name=random", {"warm step": 10, "evaluation": None}),
  ],
)
def test_what_a_run_needs_is_compiled(field, names):
  found = needed(
    TINY[0][9:], *(w[9:] for w in TINY[1:]), "train.length=10 steps", field
  )
  assert {each.name: each.of_run for each in found.each} == names


def test_later_networks_are_those_of_a_made_up_architecture():
  found = needed("configs/pdarts.py:quick", "data.limit=160")
  steps = [p for p in found.each if p.name.endswith("full step")]
  assert [p.name for p in steps] == [
    f"stage {i}: full step" for i in (1, 2, 3)
  ]
  counts = {p.name: p.of_run for p in found.each if p.of_run}
  assert sum(counts.values()) == found.steps

  def size(program):
    state = program.arguments[0]
    return sum(math.prod(x.shape) for x in jax.tree.leaves(state.weights))

  found = needed("configs/gold_nas.py:quick", "data.limit=160")
  first, later = (p for p in found.each if p.name.endswith("full step"))
  assert (first.of_run, later.of_run) == (found.steps, None)
  assert size(later) < size(first)
  assert found.left_out == ["networks between the first and the last"]


def test_transit_cells_that_stay_are_a_program_of_their_own():
  path = "configs/entrannas.py:quick"
  fields = ["space.cells=4", "space.nodes=2", "data.limit=160"]
  fields += ["train.length=40 steps", "algo.settle=2steps"]
  found = needed(path, *fields)
  assert [each.name for each in found.each] == [
    "full step", "settled step", "evaluation"
  ]
  full, settled = (
    each.function.lower(*each.arguments).as_text().count("\n")
    for each in found.each[:2]
  )
  # Operators of transit cells that are not derived are not there.
  assert settled < 0.95 * full
  fields[-1] = "algo.settle=0steps"
  names = [each.name for each in needed(path, *fields).each]
  assert names == ["full step", "evaluation"]


@pytest.mark.parametrize(
  "path, names",
  [
    ("configs/retrain.py:quick", ["train step", "test"]),
    ("configs/rnn/retrain.py:quick", ["train step"]),
    ("configs/rnn/darts.py:quick", ["full step"]),
  ],
)
def test_training_and_text_are_planned(path, names):
  fields = ["space.width=4"]
  if path.endswith("retrain.py:quick"):
    fields.append("retrain.genotype=DARTS_V2")
  found = needed(path, *fields)
  assert [each.name for each in found.each] == names
  assert sum(each.of_run or 0 for each in found.each) == found.steps


def test_hours_are_told_if_all_steps_have_a_time():
  one = {"of_run": 100, "step_seconds": 2.0}
  evaluation = {"of_run": None, "step_seconds": 5.0}
  assert plan._seconds([one, one, evaluation]) == 400.0
  assert plan._seconds([one, one | {"step_seconds": None}]) is None
  assert plan._seconds([evaluation]) is None


def test_idle_lanes_are_told():
  def advice(batch, target):
    found = needed(TINY[0][9:], *(w[9:] for w in TINY[1:]))
    found = found._replace(batch=batch * found.mesh.size)
    return plan._advice(found, targets.Target(target, []))

  (told,) = advice(96, "v5e:2x2")
  assert "a chip has 96 examples" in told and "128 would cost" in told
  assert not advice(256, "v5e:2x2") and not advice(96, "cpu")


def test_a_step_of_a_gpu_is_what_it_moves_and_starts():
  work = compiled.Work(kernels=1000, moved_bytes=48 * 10**9)
  gpu = targets.GPUS["h200"]
  found = plan._step_seconds(work, gpu, steps=10)
  assert found == pytest.approx(0.001 + 100 * plan._LAUNCH)
  program = {
    "step_cycles": None, "step_seconds": found, "unknown_loops": 0,
    "kernels": 100, "moved_bytes": 2**30,
  }
  assert "100 kernels and 1.00 GiB" in plan._duration(program)
  assert plan._step_seconds(work, targets.Chip(2**30), steps=10) is None


def test_a_floor_is_told_where_it_is_known():
  tiny = [w[9:] for w in TINY[1:]]
  found = needed(TINY[0][9:], *tiny)
  step, evaluation = found.each
  spec = spec_lib.supernet(
    spec_lib.S3, cells=3, width=4, classes=10, nodes=1
  )
  images = 2 * found.batch // found.mesh.size
  assert step.floor == tuple(
    images * n for n in cost.gradient_floor(spec, (8, 8), 4)
  )
  assert evaluation.floor is None
  sampled = needed("configs/gdas.py:quick", *tiny)
  assert [each.floor for each in sampled.each] == [None, None]
  chip = targets.TPUS["v5e"]
  assert plan._floor_seconds((197 * 10**12, 10**9), chip) == 1.0
  assert plan._floor_seconds((10**9, 819 * 10**9), chip) == 1.0
  assert plan._floor_seconds(step.floor, targets.Chip(2**30)) is None
  program = {
    "step_cycles": 3e9, "step_seconds": 2.0, "unknown_loops": 0,
    "floor_seconds": 0.5,
  }
  assert "; 4.0 times the 500.00 ms that" in plan._duration(program)


def test_the_time_on_a_chip_without_a_known_clock_is_left_out():
  program = {"step_cycles": 5e6, "step_seconds": None, "unknown_loops": 0}
  assert plan._duration(program) == (
    "unknown, as the chip's clock is; an estimate of 5,000,000 cycles a step"
  )


def test_what_does_not_fit_and_what_takes_time_is_told():
  program = {
    "name": "full step", "compile_seconds": 60.0, "arguments": 2**20,
    "temporaries": 2**34, "outputs": 2**20, "aliased": 2**20, "code": 0,
    "total": 2**34 + 2**20, "fits": False, "step_cycles": 3e6,
    "step_seconds": 0.002, "collectives": 2.0, "collective_bytes": 2.0**20,
    "unknown_loops": 1,
  }
  refused = {"name": "evaluation", "fits": False, "error": "used 17G of 16G"}
  text = "\n".join(
    plan._table({
      "target": "v5e:2x2", "chips": 4, "memory": 2**34, "steps": 1000,
      "seconds": 7200.0, "left_out": ["the test"], "advice": ["a longer batch"],
      "programs": [program, refused],
    })
  )
  for part in (
    "4 chips or devices of 16.0 GiB",
    "1,000 steps in 2 h 0 min by the estimates",
    "left out: the test",
    "a longer batch",
    "16,385.0 MiB; DOES NOT FIT",
    "2.00 ms a step, an estimate from 3,000,000 cycles; 1 loops of unknown",
    "2 a step, 1 MiB",
    "does not fit: used 17G of 16G",
  ):
    assert part in text


@pytest.mark.parametrize("name", ["v5e", "v7:2x2", "h100", "v5e:2", "v5e:axb"])
def test_a_wrong_target_is_told_with_what_there_is(capsys, name):
  assert plan.main([*TINY, f"--target={name}"]) == 2
  error = capsys.readouterr().err
  assert f"got {name!r}" in error and error.count("\n") == 1
  for right in ("cpu", "here", *targets.TPUS):
    assert right in error


def test_a_missing_compiler_is_told_with_its_extra(capsys, monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  assert plan.main([*TINY, "--target=v5e:2x2"]) == 2
  error = capsys.readouterr().err
  assert "jnas[plan-tpu]" in error and error.count("\n") == 1


@pytest.mark.parametrize(
  "words, message",
  [
    (["--config=configs/compare.py:quick"], "got compare"),
    (["--config=configs/retrain.py:quick", "--config.retrain.genotype=NONE"],
     "NONE"),
    ([*TINY, "--confg.seed=1"], "got --confg.seed=1"),
    ([*TINY, "--config.space.width=0"], "space.width"),
  ],
)
def test_mistakes_are_told(capsys, words, message):
  assert plan.main(words) == 2
  assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_compiler_of_tpus_tells_a_time(capsys):
  if importlib.util.find_spec("libtpu") is None:
    pytest.skip("libtpu, the compiler for TPUs, is not installed")
  found = told(capsys, "--target=v5e:2x2")
  assert (found["chips"], found["memory"]) == (4, 16 * 2**30)
  step, evaluation = found["programs"]
  assert (step["steps"], step["fits"], step["unknown_loops"]) == (10, True, 0)
  # Ten steps in a loop are ten times one, but for what comes before it.
  one = told(
    capsys, "--target=v5e:2x2", "--config.train.steps_per_dispatch=1"
  )["programs"][0]
  assert step["step_cycles"] == pytest.approx(one["step_cycles"], rel=0.3)
  assert step["collectives"] == one["collectives"]
  assert 0 < evaluation["step_seconds"] < 0.01
  assert len(targets.find("v5e:1x1").devices) == 1  # a host of one chip
