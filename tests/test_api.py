"""The door for Python: what it gives, and that it keeps to itself."""

import json
import shutil
import signal
import subprocess
import sys
import types
import xml.etree.ElementTree

import jax
import numpy as np
import pytest

import jnas
from jnas import api
from jnas import genotype as genotype_lib
from jnas.data import sources
from jnas.runs import monitor
from jnas.runtime import checkpoint, notebook

PLAIN = (
  "Genotype(normal=[('skip_connect', 0), ('skip_connect', 1)], "
  "normal_concat=[2], reduce=[('max_pool_3x3', 0), ('skip_connect', 1)], "
  "reduce_concat=[2])"
)
SMALL = {
  "cells": 3, "width": 4, "batch": 8, "length": "4 steps", "auxiliary": 0.0,
  "log_evaluate": "2 steps", "log_every": "1 steps", "devices": None,
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
  """One device, and nobody touches signals or prints."""
  monkeypatch.setitem(SMALL, "devices", jax.devices()[:1])
  monkeypatch.setattr(signal, "signal", None)


@pytest.fixture(scope="module")
def arrays():
  rng = np.random.default_rng(0)
  y = np.arange(40) % 3
  x = rng.integers(100, size=(40, 8, 8, 2)) + 50 * y[:, None, None, None]
  return x.astype(np.uint8), y


def test_import_is_cheap_and_loads_no_jax():
  program = (
    "import sys, time; import jnas; spent = time.process_time(); "
    "jnas.genotype('DARTS_V2'); dir(jnas); "
    "print(spent, 'jax' in sys.modules, 'numpy' in sys.modules)"
  )
  done = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, text=True, check=True
  )
  spent, *loaded = done.stdout.split()
  assert float(spent) < 0.2 and loaded == ["False", "False"]


def test_the_door_has_what_it_says_and_nothing_else():
  for name in ("search", "train", "load", "count", "draw"):
    assert getattr(jnas, name) is getattr(api, name) and name in dir(jnas)
  with pytest.raises(AttributeError, match="no attribute 'serach'"):
    jnas.serach  # noqa: B018


def test_cells_are_read_drawn_and_counted():
  found = jnas.genotype("DARTS_V2")
  assert found == genotype_lib.load("DARTS_V2") == genotype_lib("DARTS_V2")
  figure = jnas.draw(found)
  assert figure == jnas.draw("DARTS_V2") == figure._repr_svg_()
  assert xml.etree.ElementTree.fromstring(figure).tag.endswith("svg")
  assert len(jnas.draw(found, "Normal cell")) < len(figure)
  # What the authors publish: 3.3 M.
  assert jnas.count(found) == (3349342, 528359040)
  tiny = {"cells": 3, "width": 4, "classes": 3, "shape": (8, 8, 1)}
  assert jnas.count(PLAIN, **tiny).params == 1079
  with pytest.raises(ValueError, match="recurrent cell"):
    jnas.count(jnas.genotype("DARTS_V2", recurrent=True))


def test_training_on_arrays_needs_no_files(
  arrays, capfd, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  network = jnas.train(PLAIN, arrays, **SMALL)
  assert "".join(capfd.readouterr()) == "" and not list(tmp_path.iterdir())
  assert network.genotype == jnas.genotype(PLAIN)
  assert [row["step"] for row in network.history] == [2, 4]
  assert {"train_loss", "test_accuracy", "epoch"} <= set(network.history[1])
  assert network.classes == ("0", "1", "2") and network.folder is None
  x = arrays[0][:5]
  p = network.probabilities(x)
  assert p.shape == (5, 3)
  np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-5)
  np.testing.assert_array_equal(network.predict(x), p.argmax(-1))
  # As it is, in a training loop of one's own.
  normal = (x / 255 - np.asarray(network.mean)) / np.asarray(network.std)
  logits, _ = network.module.apply(
    network.variables, normal.astype(np.float32), train=False
  )
  np.testing.assert_allclose(jax.nn.softmax(logits), p, rtol=1e-4)
  assert "<svg" in network._repr_html_() and "test_accuracy" in repr(network)
  for wrong in (x / 255, x[0], x[..., :1]):
    with pytest.raises(ValueError, match=r"expected uint8 images \[N, H, W, 2"):
      network.predict(wrong)


def test_a_workdir_is_a_run_that_goes_on_and_can_be_loaded(arrays, tmp_path):
  def train():
    own = SMALL | {"ema": 0.9}
    return jnas.train(PLAIN, arrays, workdir=tmp_path / "run", **own)

  network = train()
  assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
  again, loaded = train(), jnas.load(tmp_path / "run")
  assert again.notes == ("going on from step 4",)
  assert again.history == network.history
  for other in (again, loaded):
    jax.tree.map(
      np.testing.assert_array_equal, other.variables, network.variables
    )
    p = other.probabilities(arrays[0])
    np.testing.assert_array_equal(p, network.probabilities(arrays[0]))
  # What is tested and given is the moving average, and not the last weights.
  with checkpoint.Checkpoints(
    tmp_path / "run" / "checkpoints", read_only=True
  ) as saved:
    state = saved.read(saved.latest()[0])
  for name, own in (("weights", "params"), ("stats", "batch_stats")):
    for tree, same in ((state["average"][name], True), (state[name], False)):
      equal = jax.tree.map(np.array_equal, tree, network.variables[own])
      assert all(jax.tree.leaves(equal)) == same
  data = sources.from_arrays(*arrays)
  p = network.probabilities(data.test_x)
  right = p[np.arange(len(p)), data.test_y]
  loss = network.history[-1]["test_loss"]
  assert loss == pytest.approx(-np.log(right).mean(), rel=1e-4)
  assert loaded.classes == network.classes
  assert loaded.history[0]["test_loss"] == network.history[1]["test_loss"]
  changed = (255 - arrays[0], arrays[1])
  with pytest.raises(ValueError, match="the data .* are not those that the"):
    own = SMALL | {"ema": 0.9}
    jnas.train(PLAIN, changed, workdir=tmp_path / "run", **own)
  with pytest.raises(ValueError, match="expected the folder of a run of task"):
    jnas.load(tmp_path)
  # What is being saved is left alone, and nothing is made.
  saving = tmp_path / "run" / "checkpoints" / "9.orbax-checkpoint-tmp-1"
  saving.mkdir()
  jnas.load(tmp_path / "run")
  assert saving.exists()
  shutil.rmtree(tmp_path / "run" / "checkpoints")
  with pytest.raises(ValueError, match="there is no whole checkpoint in"):
    jnas.load(tmp_path / "run")
  assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_search_gives_the_cell_and_how_it_came_about(arrays, capfd):
  own = SMALL | {"algo_name": "random", "algo_candidates": 1, "nodes": 1}
  own |= {"space_name": "s3", "cells": 3, "algo_hypergrad": "first_order"}
  del own["auxiliary"]
  found = jnas.search("darts:quick", arrays, **own)
  assert "".join(capfd.readouterr()) == ""
  assert [epoch for epoch, _ in found.genotypes] == [
    row["epoch"] for row in found.history
  ]
  assert found.genotypes[-1][1] == found.genotype
  assert {w.shape for w in found.arch.values()} == {(2, 3)}
  assert found.folder is None and "valid_accuracy" in repr(found)
  assert found.figure in found._repr_html_()
  with pytest.raises(ValueError, match="the search had arrays; give some"):
    jnas.train(found)


@pytest.mark.parametrize(
  "fields, message",
  [
    ({"lr": 0.1}, "it may be arch.lr, weights.lr"),
    ({"wdith": 4}, "wdith: expected a field of the configuration"),
    ({"width": "4"}, "space.width: expected a value like 8, got '4'"),
    ({"config": "darts:quick"}, "expected a config of task retrain"),
    ({"data": "nothing"}, "expected one of the data sets"),
    ({"relaxed": True}, "retrain.relaxed: expected the network of a genotype"),
    ({"data": (1, 2, 3)}, r"expected arrays \(x, y\)"),
    ({"data": (np.zeros((4, 8, 8, 1)), np.zeros(4, int))}, "uint8"),
  ],
)
def test_mistakes_are_one_sentence(fields, message):
  with pytest.raises(ValueError, match=message):
    jnas.train(PLAIN, **fields)


def several(arrays, **fields):
  own = SMALL | {"space_name": "s3", "nodes": 1, "arch_lr": 0.1} | fields
  del own["auxiliary"]
  return jnas.search("darts:quick", arrays, **own)


@pytest.mark.slow
def test_each_of_several_seeds_is_the_search_of_it_alone(
  arrays, capfd, monkeypatch
):
  monkeypatch.setattr(monitor, "chance", lambda *_: "it is chance")
  found = several(arrays, seed=3, seeds=2)
  alone = [several(arrays, seed=k) for k in (3, 4)]
  assert "".join(capfd.readouterr()) == "" and found.folder is None
  times = "seconds", "compile_share", "_per_second"
  for one, own in zip(found.each, alone, strict=True):
    assert one.config == own.config and one.genotypes == own.genotypes
    assert one.notes[-1] == own.notes[-1] == "it is chance"
    for name, weights in own.arch.items():
      np.testing.assert_allclose(one.arch[name], weights, rtol=1e-4)
    for a, b in zip(one.history, own.history, strict=True):
      for name in a.keys() | b.keys():
        if not name.endswith(times):
          assert a[name] == pytest.approx(b[name], rel=1e-4), name
  difference = alone[0].arch["normal"] - alone[1].arch["normal"]
  assert np.abs(difference).max() > 0.01
  rows = [one.history[-1] for one in alone]
  losses = [row["valid_loss"] for row in rows]
  assert found.mean["valid_loss"] == pytest.approx(np.mean(losses))
  assert found.deviation["valid_loss"] == pytest.approx(np.std(losses, ddof=1))
  accuracies = [row["valid_accuracy"] for row in rows]
  best = found.each[int(np.argmax(accuracies))]
  assert found.genotype == best.genotype and found.history == best.history
  assert repr(found).startswith("Search(means of 2 seeds: epoch=")
  assert "means of 2 seeds" in found._repr_html_()
  assert not alone[0].mean and not alone[0].each


@pytest.mark.slow
def test_several_seeds_leave_what_the_command_line_does(arrays, tmp_path):
  found = several(arrays, seeds=2, workdir=tmp_path / "run")
  assert found.folder == tmp_path / "run"
  assert [one.folder.name for one in found.each] == ["seed0", "seed1"]
  written = json.loads((found.folder / "result.json").read_text())
  assert written["valid_loss"] == pytest.approx(found.mean["valid_loss"])
  assert written["genotype"] == genotype_lib.format_text(found.genotype)
  assert (found.folder / "report.html").stat().st_size > 10_000
  again = several(arrays, seeds=2, workdir=tmp_path / "run")
  assert again.notes == ("going on from step 4",)
  assert [one.history for one in again.each] == [
    one.history for one in found.each
  ]


def test_seeds_that_cannot_be_one_program_are_told_as_in_a_terminal():
  with pytest.raises(ValueError, match="what is searched next depends on"):
    jnas.search("pdarts:quick", seeds=2)
  with pytest.raises(ValueError, match="not task retrain; set retrain.seeds"):
    jnas.train(PLAIN, seeds=2)


def test_in_a_notebook_a_line_is_replaced(monkeypatch):
  shown = []
  handle = types.SimpleNamespace(update=shown.append)
  display = types.SimpleNamespace(
    HTML=str, display=lambda line, display_id: shown.append(line) or handle
  )
  shell = types.SimpleNamespace(kernel=None)
  fake = types.SimpleNamespace(get_ipython=lambda: shell, display=display)
  monkeypatch.setitem(sys.modules, "IPython", fake)
  bar = notebook.Bar("a <toy>", 20)
  bar.show(5, {"test_accuracy": 0.5})
  bar.close()
  assert shown[0].endswith("a &lt;toy&gt;: step 0 of 20")
  assert shown[1].endswith("step 5 of 20, test accuracy 50.0%")
  assert 'value="5" max="20"' in shown[1]
  del shell.kernel  # a terminal's IPython, and no terminal
  notebook.Bar("a", 20).show(1, {})
  assert len(shown) == 2
