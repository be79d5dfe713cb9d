"""The door for Python, of recurrent cells on text."""

import json
import math
import shutil

import jax
import numpy as np
import pytest

import jnas
from jnas.data import text

CELL = "Genotype(recurrent=[('tanh', 0), ('relu', 1)], concat=range(1, 3))"
WORDS = "the cat sat on a mat\n" * 80
SMALL = {
  **{"length": "4 steps", "batch": 4, "width": 8, "bptt": 6, "sample": 3},
  **{"test_batch": 2, "eval_batch": 2, "progress": False},
}


@pytest.fixture
def one_device(monkeypatch):
  monkeypatch.setitem(SMALL, "devices", jax.devices()[:1])


@pytest.fixture
def words():
  return text.from_string(WORDS)


def test_a_cell_is_trained_and_says_something(one_device, words, capfd):
  model = jnas.train(CELL, words, **SMALL)
  assert "".join(capfd.readouterr()) == ""
  assert model.genotype == jnas.genotype(CELL) and model.folder is None
  assert model.vocabulary == ("the", "cat", "sat", "on", "a", "mat", "<eos>")
  assert "perplexity" in repr(model) and "<svg" in model._repr_html_()
  found = model.evaluate("the cat sat on a mat")
  assert found["perplexity"] == model.perplexity("the cat sat on a mat")
  assert found["perplexity"] == pytest.approx(math.exp(found["loss"]))
  # By the module alone, as in a program of one's own.
  tokens = text.encode("the cat sat", model.vocabulary, "word")
  out = model.module.apply(
    model.variables, tokens[:-1, None], np.zeros((1, 8), np.float32),
    train=False,
  )
  scores = jax.nn.log_softmax(out.logits[:, 0])
  own = -float(np.mean(scores[np.arange(3), tokens[1:]]))
  assert model.evaluate("the cat sat")["loss"] == pytest.approx(own, rel=1e-5)
  said = model.sample(5, "the cat", seed=1)
  assert said == model.sample(5, "the cat", seed=1)
  assert said != model.sample(5, "the cat", seed=2)
  assert set(said.split()) <= set(model.vocabulary)
  likeliest = model.sample(1, "the cat", temperature=1e-6)
  last = jax.nn.log_softmax(out.logits[1, 0])
  assert likeliest.strip() == model.vocabulary[int(last.argmax())].replace(
    "<eos>", ""
  )
  assert model.sample(2)
  for call, message in (
    (lambda: model.sample(3, "the dog"), "has no <unk>; found 'dog'"),
    (lambda: model.sample(0), "expected a count of 1 or more"),
    (lambda: model.evaluate(""), "expected a text of at least 2 tokens"),
  ):
    with pytest.raises(ValueError, match=message):
      call()


def test_a_workdir_goes_on_and_can_be_loaded(one_device, words, tmp_path):
  folder = tmp_path / "run"
  model = jnas.train(CELL, words, workdir=folder, **SMALL)
  result = json.loads((folder / "result.json").read_text())
  assert result["headline"] == "perplexity"
  assert "What it says" in (folder / "report.html").read_text()
  again = jnas.train(CELL, words, workdir=folder, **SMALL)
  loaded = jnas.load(folder)
  assert again.notes == ("going on from step 4",)
  for other in (again, loaded):
    jax.tree.map(
      np.testing.assert_array_equal, other.variables, model.variables
    )
    assert other.perplexity(WORDS) == model.perplexity(WORDS)
    assert (other.vocabulary, other.level) == (model.vocabulary, "word")
  # The one whose validation was best, on the test.
  assert loaded.history[-1]["test_loss"] == model.history[-1]["test_loss"]
  shutil.rmtree(folder / "checkpoints")
  with pytest.raises(ValueError, match="there is no whole checkpoint in"):
    jnas.load(folder)


def test_a_search_and_the_training_of_what_it_finds(
  one_device, tmp_path, capfd
):
  path = tmp_path / "text.txt"
  path.write_text(WORDS)
  own = {k: v for k, v in SMALL.items() if k not in ("sample", "test_batch")}
  found = jnas.search(
    "rnn/random:quick", path, nodes=2, algo_candidates=1, level="word",
    workdir=tmp_path / "search", **own,
  )
  assert "".join(capfd.readouterr()) == ""
  assert len(found.genotype.recurrent) == 2
  assert found.arch["recurrent"].shape == (3, 5)
  assert "perplexity" in repr(found) and "<svg" in found._repr_html_()
  assert found.genotypes[-1][1] == found.genotype
  assert "Recurrent cell" in jnas.draw(found)
  assert (tmp_path / "search" / "report.html").exists()
  model = jnas.train(found, **SMALL)  # on the text of the search, its words
  assert model.genotype == found.genotype and "mat" in model.vocabulary
  with pytest.raises(ValueError, match="expected the folder of a run of task"):
    jnas.load(tmp_path / "search")


def test_names_are_those_of_the_zoo_that_the_config_is_of(one_device, words):
  model = jnas.train("ENAS", words, config="rnn/retrain:quick", **SMALL)
  assert model.genotype == jnas.genotype("ENAS", recurrent=True)


@pytest.mark.parametrize(
  "genotype, data, more, message",
  [
    (CELL, (np.zeros((4, 8, 8, 1), np.uint8), np.zeros(4, int)), {},
     "a recurrent cell reads text; expected the path of one"),
    (CELL, "digits", {}, "data.path='digits'"),
    (CELL, "words", {"config": "retrain:quick"}, "expected images, got a text"),
    (CELL, None, {"config": "retrain:quick"},
     "expected a cell for images, got the recurrent cell"),
    ("PDARTS", "words", {}, "expected images, got a text"),
    (jnas.genotype("PDARTS"), "words", {"config": "rnn/retrain:quick"},
     "expected a recurrent cell, got the cell for images"),
  ],
)
def test_images_and_text_are_told_apart(words, genotype, data, more, message):
  data = words if isinstance(data, str) and data == "words" else data
  with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
    jnas.train(genotype, data, progress=False, **more)
  assert "\n" not in str(error.value)
