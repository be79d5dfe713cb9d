"""The command that compiles a search's programs for other devices."""

import importlib.util
import json

import jax
import pytest

from jnas import config as config_lib
from jnas.runs import build, plan, problem

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


@pytest.mark.parametrize(
  "field, names",
  [
    ("algo.warmup=0 epochs", ["full step", "evaluation"]),
    ("algo.warmup=1 steps", ["warm step", "full step", "evaluation"]),
    ("algo.name=random", ["warm step", "evaluation"]),
  ],
)
def test_what_a_run_needs_is_compiled(field, names):
  config = config_lib.load(TINY[0][9:], [*TINY[1:], f"--config.{field}"])
  found = problem.read(
    config, None, jax.devices("cpu"), build.shapes_on_devices
  )
  assert [each.name for each in plan._programs(found)] == names


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
      "target": "v5e:2x2", "chips": 4, "memory": 2**34, "stages": 3,
      "programs": [program, refused],
    })
  )
  for part in (
    "4 chips or devices of 16.0 GiB",
    "the first of 3 stages alone",
    "16,385.0 MiB; DOES NOT FIT",
    "2.00 ms a step, an estimate from 3,000,000 cycles; 1 loops of unknown",
    "2 a step, 1 MiB",
    "does not fit: used 17G of 16G",
  ):
    assert part in text


@pytest.mark.parametrize("name", ["v5e", "v7:2x2", "h200", "v5e:2", "v5e:axb"])
def test_a_wrong_target_is_told_with_what_there_is(capsys, name):
  assert plan.main([*TINY, f"--target={name}"]) == 2
  error = capsys.readouterr().err
  assert f"got {name!r}" in error and error.count("\n") == 1
  for right in ("cpu", "here", *plan.CHIPS):
    assert right in error


def test_a_missing_compiler_is_told_with_its_extra(capsys, monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  assert plan.main([*TINY, "--target=v5e:2x2"]) == 2
  error = capsys.readouterr().err
  assert "jnas[plan-tpu]" in error and error.count("\n") == 1


@pytest.mark.parametrize(
  "words, message",
  [
    (["--config=configs/retrain.py", "--config.retrain.genotype=DARTS_V2"],
     "got one of task retrain"),
    (["--config=configs/rnn/darts.py:quick"], "and space rnn"),
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
