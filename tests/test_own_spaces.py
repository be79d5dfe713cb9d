"""Search spaces from outside the package, and the example of one."""

import json
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from examples import choice_blocks as example
from jnas import config as config_lib
from jnas import genotype as genotype_lib
from jnas.algorithms import base
from jnas.report import layout
from jnas.runs import cost, programs, recipe, retrain, search
from jnas.spaces import arch as arch_lib
from jnas.spaces import registry
from jnas.spaces import space as space_lib
from jnas.spaces import spec as spec_lib

PATH = "examples.choice_blocks:choice_blocks"
GENOTYPE = genotype_lib.SpaceGenotype(
  PATH,
  (
    (
      "chain",
      (("skip_connect", 0, 1), ("mbconv6_3x3", 1, 2), ("mbconv3_5x5", 2, 3)),
    ),
  ),
)


def load(config, *overrides, path=PATH):
  own = (f"space.name={path}", *overrides)
  return config_lib.load(config, [f"--config.{text}" for text in own])


def test_what_is_learnt_and_what_is_derived_from_it():
  spec = recipe.spec(load("configs/darts.py:quick", "space.cells=3"), 10)
  assert spec.space == PATH
  ((name, cell),) = spec.searched
  assert (name, cell.shape) == ("chain", (3, 5))
  # Blocks that halve the resolution cannot be left out.
  np.testing.assert_array_equal(arch_lib.mask(cell)[:, 0], [1, 0, 0])
  algorithm = base.softmax_algorithm(spec, base.estimator("first_order"))
  logits = np.zeros((3, 5), np.float32)
  for i, (op, *_) in enumerate(GENOTYPE.edges[0][1]):
    logits[i, cell.ops.index(op)] = 1
  logits[1:, 0] = 9  # of what is not there
  weights = algorithm.mixture({"chain": jnp.asarray(logits)})
  assert algorithm.derive(weights) == GENOTYPE
  found = base.indicator(spec, GENOTYPE)["chain"].argmax(-1)
  assert [cell.ops[o] for o in found] == [t[0] for t in GENOTYPE.edges[0][1]]


def test_a_genotype_is_text_and_a_network_and_a_figure():
  text = genotype_lib.format_text(GENOTYPE)
  assert genotype_lib.parse(text) == GENOTYPE
  assert genotype_lib.from_json(genotype_lib.to_json(GENOTYPE)) == GENOTYPE
  space = registry.find(PATH)
  size = space_lib.Size(cells=3, width=4, classes=7)
  spec = space_lib.derived_spec(space, GENOTYPE, size)
  assert spec_lib.from_json(spec_lib.to_json(spec)) == spec
  assert spec.cell("chain").kept == (
    ("skip_connect",), ("mbconv6_3x3",), ("mbconv3_5x5",)
  )
  network = space.network(spec, space_lib.Execution())
  x = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
  (logits, extra), variables = jax.eval_shape(
    lambda key, x: network.init_with_output(key, x, train=False),
    jax.random.key(0),
    x,
  )
  assert logits.shape == (2, 7) and extra is None
  assert "scale" in str(variables["params"]["BatchNorm_0"])
  (chain,) = layout.cells(GENOTYPE).values()
  assert len(layout.layout(*chain).boxes) == 3 + 4  # operators and nodes


@pytest.mark.parametrize(
  "change, message",
  [
    (dict(cells=4), "nothing that leads to node 4 in chain"),
    (dict(cells=2), "skip_connect from 0 to 1 in chain .* not there"),
  ],
)
def test_a_genotype_of_another_size_is_told(change, message):
  size = space_lib.Size(cells=3, width=4, classes=7)._replace(**change)
  with pytest.raises(ValueError, match=message):
    space_lib.derived_spec(registry.find(PATH), GENOTYPE, size)


@pytest.mark.parametrize(
  "text, message",
  [
    ("Genotype(space='', edges=[('a', [('b', 0, 1)])])", "space: expected"),
    ("Genotype(space='s', edges=[])", "with each cell once"),
    ("Genotype(space='s', edges=[('a', [('b', 1, 1)])])", "source < target"),
    ("Genotype(space='s', edges=[('a', [('b', 1)])])", r"a\[0\] = \('b', 1\)"),
    ("Genotype(space='s')", "missing field 'edges'"),
  ],
)
def test_a_genotype_that_is_none_is_told(text, message):
  with pytest.raises(ValueError, match=message):
    genotype_lib.parse(text)


@pytest.mark.parametrize(
  "path, overrides, message",
  [
    ("s4", (), "space.name: expected one of s1, .*or an import path"),
    ("nowhere:space", (), "cannot be imported: ModuleNotFoundError"),
    ("examples.choice_blocks:spec", (), "expected a .*Space.*, got function"),
    (PATH, ("space.partial=2",), "space.partial: .* has no use for it"),
    (PATH, ("train.drop_path=0.1",), "train.drop_path: .* no use for it"),
    (PATH, ("algo.name=dst",), "dst prunes stacks of cells, and .* is none"),
    (PATH, ("algo.name=pdarts",), "pdarts searches shared normal"),
    (PATH, ("space.cells=100000",), "operators, more than the 100,000"),
  ],
)
def test_what_does_not_go_is_told(path, overrides, message):
  with pytest.raises(ValueError, match=message):
    load("configs/darts.py:quick", *overrides, path=path)


def test_an_object_is_known_by_its_name():
  name = registry.register(example.choice_blocks, "blocks")
  assert registry.find(name).name == "blocks"
  spec = recipe.spec(load("configs/darts.py:quick", path=name), 10)
  assert registry.of(spec).network is example.Chain


def test_code_runs_where_the_configuration_says_so_alone():
  text = genotype_lib.format_text(GENOTYPE)
  config = load(
    "configs/retrain.py:quick", f"retrain.genotype={text}", path="s1"
  )
  with pytest.raises(ValueError, match="set space.name to that"):
    recipe.derived(config, GENOTYPE, 10)


RETRAIN = (
  *("--config=configs/retrain.py:quick", f"--config.space.name={PATH}"),
  *("--config.space.cells=3", "--config.space.width=4"),
  f"--config.retrain.genotype={genotype_lib.format_text(GENOTYPE)}",
)


def test_its_cost_is_counted_in_the_program_of_its_network(capsys):
  assert cost.main([*RETRAIN, "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  # Images of 8 x 8 pixels with a channel; both blocks halve them.
  first = 64 * 4 * 24 + 16 * 9 * 24 + 16 * 24 * 8
  second = 16 * 8 * 24 + 4 * 25 * 24 + 4 * 24 * 16
  macs = 64 * 9 * 4 + first + second + 16 * 10
  assert found["macs"] == {"conv_linear": macs, "nas_bench_201": macs + 10}
  assert found["layers"] == 3 and found["channels"] == 4
  parts = {one["name"]: one["params"] for one in found["parts"]}
  assert sum(parts.values()) == found["params"] and parts["Dense_0"] == 170
  table = "\n".join(cost._table(found))
  assert f"{macs:,}" in table and "thop" not in table and "stem" not in table


@pytest.mark.slow
def test_the_widest_within_a_budget_is_found(capsys):
  # 22,144 multiply-adds at 4 channels, 43,584 at 6.
  assert cost.main([*RETRAIN, "--max-macs=4e4", "--json"]) == 0
  small = json.loads(capsys.readouterr().out)
  assert small["channels"] == 4 and small["macs"]["conv_linear"] < 4e4


@pytest.mark.parametrize(
  "words, message",
  [
    ((*RETRAIN, "--convention=thop"), "--convention=thop: .* does not have it"),
    ((*RETRAIN, "--stem=imagenet"), "--stem: .* does not have it"),
    ((genotype_lib.format_text(GENOTYPE),), "only where a configuration names"),
  ],
)
def test_what_is_not_known_of_its_cost_is_told(words, message, capsys):
  assert cost.main(words) == 2
  assert re.search(message, capsys.readouterr().err)


@pytest.mark.slow
def test_its_programs_can_be_planned():
  text = f"retrain.genotype={genotype_lib.format_text(GENOTYPE)}"
  for config, names in (
    (load("configs/darts.py:quick", "space.cells=1"), ["full step", "evaluat"]),
    (load("configs/retrain.py:quick", "space.cells=3", text), ["train", "test"])
  ):
    found = programs.of(config, jax.devices()[:1]).each
    for one, name in zip(found, names, strict=True):
      assert one.name.startswith(name) and one.floor is None


@pytest.mark.parametrize("name", ["darts", "gdas"])
def test_it_is_searched_derived_and_retrained(name, tmp_path):
  quick = (
    *("space.cells=1", "space.width=4", "train.length=2 steps"),
    *("data.limit=32", "train.batch=16", "log.progress=false"),
  )
  result = search.run(load(f"configs/{name}.py:quick", *quick), tmp_path / "s")
  found = genotype_lib.parse(result["genotype"])
  assert found.space == PATH
  assert "chain" in (tmp_path / "s" / "report.html").read_text()
  if name == "darts":
    more = f"retrain.genotype={tmp_path / 's'}"
    config = load("configs/retrain.py:quick", *quick, more)
    trained = retrain.run(config, tmp_path / "r")
    assert genotype_lib.parse(trained["genotype"]) == found
    assert 0 < trained["params"] < result["params"]


def test_the_example_is_short():
  path = pathlib.Path(example.__file__)
  assert len(path.read_text().splitlines()) < 100
