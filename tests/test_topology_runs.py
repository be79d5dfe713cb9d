"""Searches whose topology changes while they run: nothing is lost by it."""

from concurrent import futures
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest
import soak
from test_runs import ROOT, assert_same_run, records
from test_stages import TINY, cut

from jnas import config as config_lib
from jnas import genotype as genotype_lib
from jnas.algorithms import stages as stages_lib
from jnas.runs import search
from jnas.runtime import ahead, checkpoint
from jnas.training import plan as plan_lib
from jnas.training import trainer

GOLD = {
  "algo.name": "goldnas",
  "space.name": "s2",
  "space.cells": 3,
  "space.nodes": 1,
  "space.shared": False,
  "data.share": 1.0,
  "arch.optimizer": "sgd",
  "arch.lr": 1.0,
  "arch.decay": 0.0,
  "arch.init": 0.5,
  "gold.mu": 1.0,
  "gold.n0": 2,
  "gold.lambda0": 200.0,
  "gold.t0": 0,
  "gold.flops_min": 0.001,
  "gold.rebuild": 0.2,
  "train.length": "6 epochs",
}
TRANSIT = {
  "algo.name": "entrannas",
  "seed": 1,  # of which the derivation stays, and moves again
  "space.name": "s2",
  "space.cells": 4,
  "space.nodes": 1,
  "space.engines": "first",
  "space.sharing": True,
  "algo.tau": 5.0,
  "algo.settle": "2 steps",
  "arch.lr": 0.003,
}


def config_of(*parts, **more):
  config = config_lib.base()
  for part in (TINY, *parts, more):
    config.update_from_flattened_dict(part)
  config_lib.validate(config)
  return config


def epochs(workdir):
  lines = records(workdir, "metrics.jsonl")
  return [line for line in lines if line["kind"] == "epoch"]


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
  config = config_of(GOLD)
  workdir = tmp_path_factory.mktemp("gold") / "whole"
  search.run(config, workdir)
  return config, workdir


@pytest.fixture(scope="module")
def transit(tmp_path_factory):
  config = config_of(TRANSIT)
  workdir = tmp_path_factory.mktemp("transit") / "whole"
  search.run(config, workdir)
  return config, workdir


def metas(workdir: pathlib.Path):
  with checkpoint.Checkpoints(workdir / "checkpoints") as saved:
    steps = [
      int(path.name)
      for path in (workdir / "checkpoints").iterdir()
      if path.name.isdigit()
    ]
    return {step: saved._read_meta(step)["meta"] for step in sorted(steps)}


def stages(workdir: pathlib.Path):
  return {
    step: stages_lib.from_json(meta["stage"])
    for step, meta in metas(workdir).items()
  }


def test_the_network_is_pruned_and_built_anew(pruned):
  _, workdir = pruned
  lines = epochs(workdir)
  operators = [line["operators"] for line in lines]
  assert operators[0] == 12 and operators[-1] < 9
  assert operators == sorted(operators, reverse=True)
  built = [line["built_flops"] for line in lines]
  assert built[-1] < built[0]
  for line in lines:
    assert line["flops"] <= line["built_flops"]
  found = genotype_lib.load(workdir)
  cells = genotype_lib.chosen(found)
  assert sum(len(pairs) for pairs in cells.values()) == operators[-1]


def test_a_search_killed_where_it_prunes_ends_with_the_same_numbers(
  pruned, tmp_path
):
  config, workdir = pruned
  found = stages(workdir)
  changed = [
    step
    for step, stage in found.items()
    if step == stage.stop and step + 1 in found
    and found[step + 1].spec != stage.spec
  ]
  assert changed
  cut(workdir, tmp_path / "cut", changed[0])
  search.run(config, tmp_path / "cut")
  assert_same_run(workdir, tmp_path / "cut")


DECISION, MIDDLE, SWITCH = 8, 10, 12  # steps: what is compiled meanwhile


def test_the_next_network_is_known_an_epoch_before_it_takes_over(pruned):
  found = stages(pruned[1])
  assert found[DECISION].coming is None
  for step in range(DECISION + 1, SWITCH + 1):
    assert found[step].spec == found[DECISION].spec
    assert found[step].coming == found[SWITCH + 1].spec != found[step].spec
  _, before, masked, after, *_ = epochs(pruned[1])
  assert before["built_flops"] == masked["built_flops"]
  assert masked["flops"] == after["built_flops"] < masked["built_flops"]


@pytest.mark.slow
def test_what_is_ready_at_once_takes_over_no_earlier(
  pruned, tmp_path, monkeypatch
):
  def in_the_foreground(build):
    found = futures.Future()
    found.set_result(build())
    return found

  config, workdir = pruned
  cut(workdir, tmp_path / "cut", DECISION)
  monkeypatch.setattr(ahead, "start", in_the_foreground)
  search.run(config, tmp_path / "cut")
  assert_same_run(workdir, tmp_path / "cut")


def test_a_search_killed_while_it_compiles_switches_where_it_would_have(
  pruned, tmp_path, monkeypatch
):
  config, workdir = pruned
  cut(workdir, tmp_path / "cut", MIDDLE)
  began, wanted = threading.Event(), threading.Event()
  meanwhile, foreground = [], []
  own, real = trainer.Trainer, plan_lib.compiled
  ready, advance, compile_step = own._ready, own._advance, own._compile

  def compile_slowly(*arguments):
    began.set()
    assert wanted.wait(60)
    time.sleep(0.5)
    return real(*arguments)

  def ask(self, plan):
    wanted.set()
    return ready(self, plan)

  def watch(self, state, step, most):
    found = advance(self, state, step, most)
    assert began.wait(60)
    if not wanted.is_set():
      meanwhile.append(step)
    return found

  def count(self, *arguments):
    foreground.append(arguments[0])
    return compile_step(self, *arguments)

  monkeypatch.setattr(plan_lib, "compiled", compile_slowly)
  for name, call in (("ready", ask), ("advance", watch), ("compile", count)):
    monkeypatch.setattr(own, f"_{name}", call)
  search.run(config, tmp_path / "cut")
  assert meanwhile == [*range(MIDDLE, SWITCH)]
  assert foreground == ["full"]  # of the old network
  assert_same_run(workdir, tmp_path / "cut")
  # Only what the run waits for counts.
  found = metas(tmp_path / "cut")
  seconds = {step: meta["compiling"] for step, meta in found.items()}
  assert seconds[MIDDLE + 1] == seconds[SWITCH]
  assert seconds[SWITCH + 1] >= seconds[SWITCH] + 0.5


@pytest.mark.slow
def test_an_error_of_the_compiler_is_met_at_the_switch(
  pruned, tmp_path, monkeypatch
):
  config, workdir = pruned
  cut(workdir, tmp_path / "cut", MIDDLE)

  def fail(*_):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")

  monkeypatch.setattr(plan_lib, "compiled", fail)
  with pytest.raises(jax.errors.JaxRuntimeError, match="out of memory"):
    search.run(config, tmp_path / "cut")
  assert max(stages(tmp_path / "cut")) == SWITCH


@pytest.mark.slow
def test_a_stop_does_not_wait_for_the_compiler(pruned, tmp_path, monkeypatch):
  config, workdir = pruned
  cut(workdir, tmp_path / "cut", MIDDLE)
  end, asked, left = threading.Event(), [], []

  def ask_to_stop(*_, **__):
    if not asked:  # a second one ends the process
      asked.append(os.kill(os.getpid(), signal.SIGTERM))

  monkeypatch.setattr(plan_lib, "compiled", lambda *_: end.wait(20))
  monkeypatch.setattr(trainer.futures, "wait", ask_to_stop)
  monkeypatch.setattr(os, "_exit", left.append)
  try:
    with pytest.raises(SystemExit, match="143"):
      search.run(config, tmp_path / "cut")
    ahead.leave(143)  # as `main` does: nor does the process wait
  finally:
    end.set()
  # With the old network, so that the decision is the same when it goes on.
  assert left == [143]
  assert [*stages(tmp_path / "cut").items()][-1] == (
    SWITCH, stages(workdir)[SWITCH]
  )


def test_a_thread_computes_as_its_maker_does():
  with jax.enable_x64(True), jax.default_matmul_precision("highest"):
    found = ahead.start(
      lambda: (
        jax.config.jax_enable_x64, jax.config.jax_default_matmul_precision
      )
    )
  assert found.result() == (True, "highest")


@pytest.mark.slow
def test_a_process_ends_before_its_compiler_does(tmp_path):
  program = (
    "import sys, time; from jnas import main; from jnas.training import plan; "
    "plan.compiled = lambda *_: print('now', flush=True) or time.sleep(600); "
    "sys.exit(main.main())"
  )
  process = subprocess.Popen(
    [
      *(sys.executable, "-c", program, *soak.command("gold-nas")[3:]),
      f"--workdir={tmp_path / 'run'}",
    ],
    cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
  )
  while "now" not in process.stdout.readline():
    assert process.poll() is None
  process.send_signal(signal.SIGTERM)
  output, _ = process.communicate(timeout=20)
  assert process.returncode == 143, output
  assert "stopped by SIGTERM after step" in output


def test_masking_and_building_anew_come_to_the_same(pruned, tmp_path):
  _, workdir = pruned
  config = config_of(GOLD, **{"gold.rebuild": 0.99})
  search.run(config, tmp_path / "masked")
  masked = epochs(tmp_path / "masked")
  assert len({line["built_flops"] for line in masked}) == 1
  for one, other in zip(epochs(workdir), masked, strict=True):
    for name in ("lambda", "pruned", "operators", "flops"):
      assert one[name] == other[name]
    for name in ("train_loss", "valid_loss"):
      np.testing.assert_allclose(one[name], other[name], rtol=1e-4)
  assert genotype_lib.load(workdir) == genotype_lib.load(tmp_path / "masked")


def test_a_search_ends_where_its_network_is_small_enough(tmp_path):
  config = config_of(GOLD, **{"gold.flops_min": 1e6})
  result = search.run(config, tmp_path / "run")
  assert [line["epoch"] for line in epochs(tmp_path / "run")] == [1]
  # A run that has ended early is complete.
  again = search.run(config, tmp_path / "run")
  assert again == result


def test_transit_cells_settle_and_move(transit):
  _, workdir = transit
  frozen = [line["frozen"] for line in epochs(workdir)]
  assert frozen[-1] > 0.2
  assert epochs(workdir)[-1]["connections"] == 4


def test_settling_changes_no_result(transit, tmp_path):
  _, workdir = transit
  config = config_of(TRANSIT, **{"algo.settle": "0 steps"})
  search.run(config, tmp_path / "general")
  for one, other in zip(
    epochs(workdir), epochs(tmp_path / "general"), strict=True
  ):
    assert other["frozen"] == 0
    for name in ("train_loss", "valid_loss"):
      np.testing.assert_allclose(one[name], other[name], rtol=1e-4)
  assert genotype_lib.load(workdir) == genotype_lib.load(tmp_path / "general")


def test_a_settled_search_goes_on_with_the_same_numbers(transit, tmp_path):
  config, workdir = transit
  cut(workdir, tmp_path / "cut", 5)
  search.run(config, tmp_path / "cut")
  assert_same_run(workdir, tmp_path / "cut")
