"""Comparisons of searches for recurrent cells, each trained from scratch."""

import json

import pytest

from jnas import config as config_lib
from jnas.runs import compare, entries

FILE = '''
from jnas import config as config_lib

ARGUMENTS = ("search", "train")

def get_config(argument="search"):
  config = config_lib.base()
  config.data.name = "text"
  config.space.update(name="rnn", nodes=1, width=4)
  config.algo.update(name="random", candidates=1)
  config.train.update(length="2 steps", batch=4)
  config.language.update(bptt=4, eval_batch=2, test_batch=2, sample=3)
  config.log.progress = False
  if argument == "train":
    config.task, config.retrain.genotype = "retrain", "DARTS_V2"
  return config
'''


@pytest.fixture
def spec(tmp_path):
  path = tmp_path / "tiny.py"
  path.write_text(FILE)
  (tmp_path / "text.txt").write_text("a b a c\n" * 100)
  return path


def compared(spec, **fields):
  config = config_lib.base()
  config.task = "compare"
  config.compare.update(configs=(f"{spec}:search",), seeds=2)
  config.data.path = str(spec.parent / "text.txt")
  config.update_from_flattened_dict(fields)
  return config


def test_each_cell_is_trained_as_the_recipe_says(spec, tmp_path, capsys):
  more = {"compare.retrain": "50 %", "compare.recipe": f"{spec}:train"}
  found = compare.run(compared(spec, **more), tmp_path / "run")
  output = capsys.readouterr().out
  assert "seed1: validation perplexity" in output
  assert "retrained perplexity" in output
  (one,) = found["algorithms"].values()
  folder = tmp_path / "run" / one["chosen"]["folder"]
  trained = json.loads((folder / "retrain" / "result.json").read_text())
  assert trained["genotype"] == one["chosen"]["genotype"]
  assert trained["test_perplexity"] == one["chosen"]["retrained_perplexity"]
  # A vocabulary of 4; W_0 and W_1, embedding, bias.
  assert trained["params"] == 8 * 8 + 4 * 8 + 4 * 4 + 4
  assert one["numbers"]["derived_params"]["mean"] == trained["params"] / 1e6
  assert "derived_flops" not in one["numbers"]
  page = (tmp_path / "run" / "report.html").read_text()
  assert "Retrained perplexity of each seed" in page
  assert compare.run(compared(spec, **more), tmp_path / "run") == found


def test_a_recipe_for_images_is_refused(spec):
  more = {"compare.recipe": "configs/retrain.py", "data.path": ""}
  with pytest.raises(ValueError, match="is for cifar10, but .* searches text"):
    entries.entries(compared(spec, **more))
