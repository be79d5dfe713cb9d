"""Searches with several seeds in one program, as runs in folders."""

import json
import pathlib
import re
import shutil

import jax
import numpy as np
import pytest
from test_runs import last_state, records
from test_stages import cut

from jnas import config as config_lib
from jnas import genotype as genotype_lib
from jnas.data.files import FileSplit
from jnas.report import pages
from jnas.runs import dispatch, problem, programs, seeds, session
from jnas.runtime import parallel

TINY = {
  "space.name": "s3",
  "space.cells": 3,
  "space.width": 4,
  "space.nodes": 1,
  "data.limit": 64,
  "train.batch": 16,
  "train.length": "4 epochs",  # of two steps
  "arch.lr": 0.1,
  "log.every": "1 steps",
  "log.save": "3 steps",
  "log.keep": 20,
  "log.progress": False,
}
SEEDS = (1, 2)


def config_of(**fields):
  config = config_lib.base()
  config.update_from_flattened_dict(TINY | fields)
  config_lib.validate(config)
  return config


def several(**fields):
  return config_of(seed=SEEDS[0], seeds=len(SEEDS), **fields)


@pytest.fixture(scope="module", autouse=True)
def one_device():
  """Two seeds would have two of four devices each, one alone all of them."""
  own, several = parallel.mesh, parallel.seeds_mesh
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(parallel, "mesh", lambda: own(jax.devices()[:1]))
    patch.setattr(
      parallel, "seeds_mesh", lambda n, _: several(n, jax.devices()[:1])
    )
    yield


@pytest.fixture(scope="module")
def together(one_device, tmp_path_factory) -> pathlib.Path:
  """A run of two seeds that nothing interrupted."""
  workdir = tmp_path_factory.mktemp("seeds") / "together"
  dispatch.run(several(), workdir)
  return workdir


def result(workdir: pathlib.Path) -> dict:
  return json.loads((workdir / "result.json").read_text())


@pytest.mark.slow
def test_a_seeds_folder_is_that_of_a_run_alone(together, tmp_path):
  dispatch.run(config_of(seed=2), tmp_path / "alone")
  own, alone = together / "seed2", tmp_path / "alone"
  assert {path.name for path in own.iterdir()} == {
    path.name for path in alone.iterdir()
  }
  for name in ("metrics.jsonl", "genotypes.jsonl", "arch.jsonl"):
    for a, b in zip(records(own, name), records(alone, name), strict=True):
      assert a.keys() == b.keys()
      for key, value in a.items():
        if isinstance(value, float):
          assert value == pytest.approx(b[key], rel=1e-4), (name, key)
        elif key == "weights":
          for cell, rows in value.items():
            np.testing.assert_allclose(rows, b[key][cell], rtol=1e-4)
        else:
          assert value == b[key], (name, key)
  for name in ("genotype.json", "config.json"):
    assert (own / name).read_text() == (alone / name).read_text()
  states = last_state(own), last_state(alone)
  assert {name: len(v) for name, v in states[0].items()} == {
    name: len(v) for name, v in states[1].items()
  }
  # Whoever has a run of this seed has it, checkpoint and all.
  again = dispatch.run(config_of(seed=2), own)
  assert again["genotype"] == result(alone)["genotype"]


@pytest.mark.slow
def test_the_whole_tells_mean_and_spread_and_the_best(together):
  found = result(together)
  each = [result(together / f"seed{seed}") for seed in SEEDS]
  accuracies = [one["valid_accuracy"] for one in each]
  assert found["seeds"] == list(SEEDS)
  assert found["valid_accuracy"] == pytest.approx(np.mean(accuracies))
  assert found["valid_accuracy_sd"] == pytest.approx(np.std(accuracies, ddof=1))
  assert found["seconds"] == pytest.approx(sum(o["seconds"] for o in each))
  best = each[int(np.argmax(accuracies))]["genotype"]
  assert found["genotype"] == best
  # Its folder stands for it, for retraining among others.
  assert genotype_lib.format_text(genotype_lib.load(together)) == best
  page = (together / "report.html").read_text()
  assert "seed1" in page and "seed2" in page
  pages.write([together], together / "again.html")


class StopAfter:
  """In place of `session.Stop`: asks to stop after so many steps."""

  name = "SIGTERM"

  def __init__(self, steps: int):
    self._left = steps

  @property
  def requested(self) -> bool:
    self._left -= 1
    return self._left < 0

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    pass


@pytest.mark.slow
def test_a_stopped_run_and_a_killed_one_end_with_the_same_bits(
  together, tmp_path, monkeypatch
):
  stopped = tmp_path / "stopped"
  with monkeypatch.context() as patch, pytest.raises(SystemExit) as status:
    patch.setattr(session, "Stop", lambda: StopAfter(5))
    dispatch.run(several(), stopped)
  assert status.value.code == 143
  killed = tmp_path / "killed"
  cut(together, killed, 3)
  for seed in SEEDS:
    (killed / f"seed{seed}" / "result.json").unlink()
    shutil.rmtree(killed / f"seed{seed}" / "checkpoints")
  for copy in (stopped, killed):
    dispatch.run(several(), copy)
    assert last_state(copy) == last_state(together)
    for seed in SEEDS:
      own, whole = copy / f"seed{seed}", together / f"seed{seed}"
      assert last_state(own) == last_state(whole)
      for name in ("metrics.jsonl", "genotypes.jsonl", "arch.jsonl"):
        assert records(own, name) == records(whole, name)


@pytest.mark.parametrize(
  "fields, why",
  [
    ({"algo.name": "pdarts"}, "what is searched next depends on"),
    ({"space.edges": "searched"}, "what is searched next depends on"),
    (
      {"algo.name": "entrannas", "space.engines": "half"},
      "what transit cells compute depends on",
    ),
    ({"data.name": "imagenet"}, "imagenet is fed to one seed at a time"),
    (
      {"data.name": "text", "space.name": "rnn"},
      "text is fed to one seed at a time",
    ),
    ({"seed": 2**32 - 1}, "seeds: the last seed must be at most 4294967295"),
    (
      {"task": "retrain", "retrain.genotype": "DARTS_V2"},
      "not task retrain; set retrain.seeds",
    ),
    ({"task": "compare"}, "not task compare; set compare.seeds"),
    ({"seeds": 0}, "seeds: must be greater than 0, got 0"),
  ],
)
def test_what_cannot_be_one_program_is_told(fields, why):
  with pytest.raises(ValueError, match=re.escape(why)):
    config_of(**{"seeds": 2} | fields)


def test_a_plan_is_of_the_program_of_all_seeds():
  found = programs.of(several(), jax.devices()[:1])
  step = next(each for each in found.each if each.name == "full step")
  state, seed, train, _ = step.arguments
  assert state.step.shape == seed.shape == (2,)
  assert state.arch["normal"].shape == (2, 2, 3)
  # The images are there once, and each seed has its half of them.
  assert train.x.shape == (64, 64) and train.rows.shape == (2, 32)


def test_images_in_files_are_refused():
  def place(mesh, pair):
    return (FileSplit(*pair),)

  with pytest.raises(ValueError, match="'digits', which are read while"):
    problem.read(several(), place=place)


def test_processes_are_given_seeds_of_their_own(tmp_path, monkeypatch):
  monkeypatch.setattr(problem.hosts, "several", lambda: True)
  monkeypatch.setattr(seeds.workdir_lib, "check", lambda *_: None)
  with pytest.raises(ValueError, match="expected one process, got several"):
    dispatch.run(several(), tmp_path / "run")
