"""The laws of DESIGN for recurrent cells on text, and whole runs on it."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from jnas import config as config_lib
from jnas import genotype as genotype_lib
from jnas.runs import compare, language
from jnas.runtime import checkpoint, parallel
from jnas.training import averaging, trainer

ROOT = pathlib.Path(__file__).parents[1]
TEXT = "".join(
  f"the {'cat' if i % 3 else 'dog'} sat on {'a mat' if i % 2 else 'it'}\n"
  for i in range(400)
)
ALGORITHMS = {
  "darts": ("darts", "first_order"),
  "unrolled": ("darts", "unrolled"),
  "amended": ("amended", "amended"),
  "gdas": ("gdas", "first_order"),
  "random": ("random", "first_order"),
}
EACH = pytest.mark.parametrize(
  "row",
  [
    *("darts", "train"),
    *(
      pytest.param(row, marks=pytest.mark.slow)
      for row in ("unrolled", "amended", "gdas", "random")
    ),
  ],
)


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
  path = tmp_path_factory.mktemp("text") / "text.txt"
  path.write_text(TEXT)
  return path


def configured(row, path):
  config = config_lib.base().unlock()
  config.data.update(name="text", path=str(path))
  config.space.update(name="rnn", nodes=2, width=8)
  config.weights.update(lr=2.0, clip=0.25, decay=1e-6)
  config.arch.lr = 0.01
  config.train.update(length="8 steps", batch=8, sync_batch_norm=True)
  config.language.update(level="word", bptt=6, patience=1, sample=12)
  config.language.update(eval_batch=3, test_batch=2, words=0.1)
  config.language.update(x=0.1, hidden=0.1, output=0.1)
  config.log.update(every="2 steps", evaluate="2 steps", save="4 steps")
  config.log.progress = False
  if row == "train":
    config.task = "retrain"
    config.language.deviation = 2.0
    config.retrain.genotype = (
      "Genotype(recurrent=[('tanh', 0), ('relu', 1)], concat=range(1, 3))"
    )
  else:
    config.algo.name, config.algo.hypergrad = ALGORITHMS[row]
  config_lib.validate(config)
  return config.lock()


def planned(config, devices=4):
  mesh = parallel.mesh(jax.devices()[:devices])
  problem = language.read(config)._replace(mesh=mesh)
  if config.task == "search":
    return language.build_search(problem), mesh
  spec = language.derived(config, problem)
  return language.build_training(problem, spec), mesh


def run(plan, mesh, state, start=0, stop=8, saved=None):
  """The state after step `stop`, and the lines on the way."""
  lines, saves = [], []
  hooks = trainer.Hooks(
    write=lambda kind, step, epoch, values: lines.append((kind, step, values)),
    save=lambda step, state, meta: saves.append(step)
    or (saved and saved.save(step, state, dict(meta))),
    stopping=lambda: bool(saves) and saves[-1] == stop < 8,
  )
  own = trainer.Trainer(
    plan, mesh, 0, trainer.Periods(write=2, evaluate=2, save=4), hooks
  )
  state, step = own.run(state, start)
  assert step == stop
  return state, lines, own


def timeless(lines):
  return [
    (kind, step, {k: v for k, v in values.items() if "second" not in k
                  and k != "compile_share"})
    for kind, step, values in lines
  ]


def equal(one, two):
  assert jax.tree.structure(one) == jax.tree.structure(two)
  jax.tree.map(
    lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)),
    one,
    two,
  )


@EACH
def test_save_and_resume_is_bit_exact_and_compiles_once(
  row, text_file, tmp_path
):
  """Also hidden states, averages and the trigger's history."""
  plan, mesh = planned(configured(row, text_file))
  first = plan.init()
  state, lines, own = run(plan, mesh, first)
  assert len(own._compiled) == 1
  if row == "train":  # a branch for each size of windows
    (program,) = own._compiled.values()
    assert "conditional(" in program.as_text()
  shapes = jax.tree.map(lambda a: (a.shape, a.dtype), first)
  assert jax.tree.map(lambda a: (a.shape, a.dtype), state) == shapes
  assert float(abs(state.carry.train).max()) > 0
  if row not in ("train", "random"):
    assert float(abs(state.carry.valid).max()) > 0
  with checkpoint.Checkpoints(tmp_path / "checkpoints", 2) as saved:
    _, before, _ = run(plan, mesh, plan.init(), stop=4, saved=saved)
    saved.wait()
    again, _ = planned(configured(row, text_file))
    step, found, _ = saved.restore_latest(
      lambda meta: jax.eval_shape(again.init)
    )
    assert step == 4
    resumed, after, _ = run(again, mesh, found, start=4)
  equal(resumed, state)
  assert timeless(before) + timeless(after) == timeless(lines)


@pytest.mark.parametrize(
  "row", ["train", pytest.param("amended", marks=pytest.mark.slow)]
)
def test_several_devices_agree_with_one(row, text_file):
  config = configured(row, text_file)
  states = [
    run(plan, mesh, plan.init())[0]
    for plan, mesh in (planned(config, devices) for devices in (1, 4))
  ]
  one, four = (jax.device_get(state) for state in states)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4, rtol=1e-3),
    one._replace(step=0, arch_opt=()),
    four._replace(step=0, arch_opt=()),
  )


@pytest.mark.parametrize(
  "row",
  [
    "random",
    *(pytest.param(row, marks=pytest.mark.slow) for row in ("unrolled", "gdas"))
  ],
)
def test_a_search_ends_with_a_valid_cell(row, text_file, tmp_path, capsys):
  config = configured(row, text_file)
  result = language.run(config, tmp_path / "run")
  found = genotype_lib.parse(result["genotype"])
  assert genotype_lib.validate(found) == found
  assert len(found.recurrent) == 2
  assert 1 < result["valid_perplexity"] < 40
  assert ("child_perplexity" in result) == (row == "unrolled")
  assert "unknown: 0 (0.00%)" in capsys.readouterr().out
  page = (tmp_path / "run" / "report.html").read_text()
  assert "Recurrent cell" in page and "configs/rnn/retrain.py:ptb" in page
  assert "supernet validation" not in page
  about = {"headline": "perplexity", "larger_is_better": False, "shares": []}
  assert result | about == result
  titles = json.loads((tmp_path / "run" / "run.json").read_text())["titles"]
  assert titles | about == titles
  assert language.run(config, tmp_path / "run") == result  # from its record


def test_training_averages_and_tests_the_best_weights(text_file, tmp_path):
  config = configured("train", text_file).unlock()
  config.weights.lr = 10.0
  config.train.length = "150 steps"
  config.log.update(evaluate="15 steps", save="75 steps")
  result = language.run(config.lock(), tmp_path / "run")
  lines = [
    json.loads(line)
    for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
  ]
  lines = [line for line in lines if line["kind"] == "epoch"]
  perplexities = [line["valid_perplexity"] for line in lines]
  assert perplexities[-1] < 0.5 * perplexities[0]
  assert result["params"] == 8 * 16 * 4 + 9 * 9
  assert result["test_perplexity"] < 1.3 * min(perplexities)
  assert [line.get("test_perplexity") for line in lines[:-1]] == [None] * 9
  assert len(result["sample"].split()) + result["sample"].count("\n") == 12
  page = (tmp_path / "run" / "report.html").read_text()
  assert "What it says" in page and "test perplexity" in page


def test_averaging_begins_when_validation_stops_improving(text_file):
  """With a learning rate at which it soon does."""
  config = configured("train", text_file).unlock()
  config.weights.lr = 30.0
  config.weights.clip = 3.0
  config.train.length = "16 steps"
  plan, mesh = planned(config.lock())
  own = trainer.Trainer(plan, mesh, 0, trainer.Periods(2, 2, 16))
  state, _ = own.run(plan.init())
  found = averaging.find(state.weights_opt)
  assert found.active and found.count > 0
  same = jax.tree.map(lambda a, b: bool((a == b).all()), found.average,
                      state.weights)
  assert not any(jax.tree.leaves(same))


def change(config, name, value):
  config = config.copy_and_resolve_references().unlock()
  config.update_from_flattened_dict({name: value})
  return config.lock()


@pytest.mark.parametrize(
  "name, value, message",
  [
    ("data.name", "digits", "rnn goes with data.name text"),
    ("data.flip", True, "data.flip: is for images"),
    ("algo.name", "pcdarts", "recurrent cells are searched by darts, amended"),
    ("space.nodes", 10_000, "operators, more than the 100,000"),
    ("space.width", 10**8, "the cell needs at least"),
    ("language.x", 1.0, "language.x: must be at least 0 and less than 1"),
    ("language.level", "letter", "not one of word, character"),
    ("task", "compare", "text is for search and retrain"),
  ],
)
def test_what_does_not_go_with_text_is_told(text_file, name, value, message):
  config = change(configured("darts", text_file), name, value)
  with pytest.raises(ValueError, match=message):
    config_lib.validate(config)


def test_what_does_not_fit_is_told(text_file, tmp_path):
  config = configured("train", text_file)
  for name, value, message in (
    ("data.path", str(tmp_path / "no.txt"), "data.path=.*found nothing there"),
    ("train.batch", 4000, "at least 8,000 tokens for 4,000 columns"),
    ("train.batch", 6, "multiple of the 4 devices"),
    ("retrain.genotype", "PDARTS", "Expected a genotype"),
    (
      "retrain.genotype",
      "Genotype(normal=[('skip_connect', 0), ('skip_connect', 1)], "
      "normal_concat=[2], reduce=None, reduce_concat=[2])",
      "expected a recurrent cell, got the cell for images",
    ),
  ):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
      language.run(change(config, name, value), tmp_path / "run")


def test_a_comparison_chooses_the_lowest_perplexity():
  runs = [
    {"seed": i, "folder": str(i), "result": {"valid_perplexity": value}}
    for i, value in enumerate((90.0, 70.0, 80.0))
  ]
  assert compare.choose(runs)["seed"] == 1
  by_accuracy = [
    one | {"result": {"valid_accuracy": one["result"]["valid_perplexity"]}}
    for one in runs
  ]
  assert compare.choose(by_accuracy)["seed"] == 0
  assert compare.choose([one | {"result": {}} for one in runs]) is None


@pytest.mark.slow
def test_killed_at_any_moment_a_training_goes_on(text_file, tmp_path):
  """kill -9, again and again, against a run that nobody touched."""
  flags = [
    *("--config.train.length=400 steps", "--config.log.save=20 steps"),
    *("--config.log.evaluate=20 steps", "--config.space.width=8"),
    *("--config.language.patience=1", "--config.weights.lr=20"),
    *(f"--config.data.path={text_file}", "--config.train.batch=8"),
  ]

  def start(folder):
    return subprocess.Popen(
      [
        *(sys.executable, "-m", "jnas.main"),
        *("--config=configs/rnn/retrain.py:quick", f"--workdir={folder}"),
        *flags,
      ],
      cwd=ROOT,
      env=os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0"},
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )

  whole, killed = tmp_path / "whole", tmp_path / "killed"
  assert start(whole).wait(timeout=500) == 0
  for seconds in (1.0, 6.0, 9.0, 11.0):
    process = start(killed)
    try:
      process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
      process.kill()
      process.wait()
  assert start(killed).wait(timeout=500) == 0
  one, two = (
    json.loads((folder / "result.json").read_text())
    for folder in (whole, killed)
  )
  del one["seconds"], two["seconds"]
  assert one == two and one["averaging"] == 1
