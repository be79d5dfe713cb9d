"""Algorithms from outside the package: by import path, and as objects."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from examples.fair_darts import fair_darts
from jnas import api
from jnas import config as config_lib
from jnas import genotype as genotype_lib
from jnas.algorithms import base, registry
from jnas.algorithms.method import Method, Option, Setting
from jnas.runs import search, titles
from jnas.spaces import spec as spec_lib

PATH = "examples.fair_darts:fair_darts"
QUICK = "configs/darts.py:quick"
SPEC = spec_lib.supernet(
  spec_lib.S3, cells=3, width=4, classes=2, nodes=2
)


def load(*overrides, path=PATH):
  own = f"--config.algo.name={path}"
  return config_lib.load(QUICK, [*(f"--config.{o}" for o in overrides), own])


def test_keyword_arguments_become_fields():
  assert load().algo.w01 == 10.0
  # Wherever the name stands among the overrides.
  assert load("algo.w01=5").algo.w01 == 5.0
  with pytest.raises(ValueError, match="algo.w01: expected a number, as in 10"):
    load("algo.w01=much")
  with pytest.raises(ValueError, match="algo.w10: no such field; did you mean"):
    load("algo.w10=1")
  with pytest.raises(ValueError, match="algo.w01: no such field"):
    config_lib.load(QUICK, ["--config.algo.w01=5"])


def test_a_config_file_may_name_one(tmp_path):
  path = tmp_path / "mine.py"
  path.write_text(
    "from jnas import config\n"
    "def get_config():\n"
    f"  found = config.base({PATH!r})\n"
    "  found.algo.w01 = 3.0\n"
    "  return found\n"
  )
  found = config_lib.load(str(path))
  assert (found.algo.name, found.algo.w01) == (PATH, 3.0)
  # Without its fields it has their defaults.
  path.write_text(
    "from jnas import config\n"
    "def get_config():\n"
    "  found = config.base()\n"
    f"  found.algo.name = {PATH!r}\n"
    "  return found\n"
  )
  assert config_lib.load(str(path)).algo.w01 == 10.0


def test_the_zero_one_loss_is_equation_4(x64):
  algorithm = fair_darts(SPEC, base.estimator("first_order"), w01=3.0)
  arch = jax.tree.map(
    lambda a: a.astype(jnp.float64), algorithm.init(jax.random.key(0), 1.0)
  )
  logits = np.concatenate([a.ravel() for a in arch.values()])
  weights = 1 / (1 + np.exp(-logits))
  expected = -3 * ((weights - 0.5) ** 2).mean()
  np.testing.assert_allclose(algorithm.penalty(arch, {}), expected, rtol=1e-12)
  for found in (algorithm.mixture(arch), algorithm.relax(arch, None, 0)):
    flat = np.concatenate([w.ravel() for w in found.values()])
    np.testing.assert_allclose(flat, weights, rtol=1e-12)


def test_it_searches_and_resumes(tmp_path):
  config = load(
    "space.width=4", "space.nodes=1", "train.length=4 steps",
    "data.limit=128", "log.progress=false", "log.evaluate=0 epochs",
  )
  result = search.run(config, tmp_path / "run")
  assert isinstance(
    genotype_lib.parse(result["genotype"]), genotype_lib.Genotype
  )
  assert search.run(config, tmp_path / "run") == result
  assert "penalty" in (tmp_path / "run" / "metrics.jsonl").read_text()
  run = (tmp_path / "run" / "run.json").read_text()
  assert '"fair_darts, first order"' in run


@pytest.mark.parametrize(
  "path, message",
  [
    ("dart", "one of darts, amended, .*or an import path.*did you mean darts"),
    ("examples.fair_darts:fair", "cannot be imported: AttributeError"),
    ("nowhere:fair_darts", "cannot be imported: ModuleNotFoundError"),
    ("jnas.relax:softmax", "expected a .*Method, or a function"),
    ("jnas:__version__", "expected a .*Method.*, got str"),
  ],
)
def test_what_is_none_is_told(path, message):
  with pytest.raises(ValueError, match=f"algo.name: .*{message}"):
    load(path=path)


def test_a_field_of_the_configuration_is_no_option():
  def greedy(spec, estimate, *, eta: float = 1.0):
    return base.softmax_algorithm(spec, estimate)

  name = registry.register(greedy)
  with pytest.raises(ValueError, match="algo.eta: .* cannot have an option"):
    load(path=name)


def test_an_object_is_known_by_its_name():
  seen = []

  def build(setting: Setting) -> base.Algorithm:
    seen.append(setting.options)
    return base.softmax_algorithm(setting.spec, setting.estimate)

  own = Method("Mine", build, {"mine.depth": Option(3, "of something")})
  name = registry.register(own, "mine")
  config = load("mine.depth=4", path=name)
  assert (name, config.mine.depth) == ("mine", 4)
  assert registry.find(name) is own
  assert titles.titles(name)["algorithm"] == "Mine"
  # It adds nothing to the configurations of other algorithms.
  assert "mine" not in config_lib.base()


def test_an_object_is_passed_from_python():
  for config in ("darts:quick", config_lib.load(QUICK)):
    more = {"algorithm": fair_darts, "w01": 5.0}
    found = api._config(config, "search", None, more)
    assert found.algo.w01 == 5.0
    assert registry.find(found.algo.name).title == "fair_darts"
  named = api._config("darts:quick", "search", None, {"algorithm": "gdas"})
  assert named.algo.name == "gdas"
  with pytest.raises(ValueError, match="expected a .*Method, or a function"):
    api._config("darts:quick", "search", None, {"algorithm": 3})


def test_the_example_is_short():
  path = pathlib.Path(__file__).parents[1] / "examples" / "fair_darts.py"
  assert len(path.read_text().splitlines()) < 100
