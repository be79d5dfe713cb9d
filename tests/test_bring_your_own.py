"""The README's chapter on what others bring along, as it stands there.

That the examples are searched and trained is seen by their own tests.
"""

import pathlib
import re
import shlex
import textwrap

import pytest

from examples.choice_blocks import choice_blocks
from jnas import api
from jnas import config as config_lib
from jnas.algorithms import registry
from jnas.data import sources
from jnas.runs import recipe
from jnas.spaces import registry as spaces

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHAPTER = README.partition("## Bring your own")[2].partition("\n## ")[0]
BLOCKS = [
  textwrap.dedent(block)
  for block in re.findall(r"(?:^    .*\n(?:\n(?=    ))?)+", CHAPTER, re.M)
]
COMMANDS = [
  command.replace("\\\n", "")  # as a shell joins lines
  for block in BLOCKS
  for command in re.findall(r"^python -m jnas.main (?:.*\\\n)*.*", block, re.M)
]


def test_there_is_one_of_each():
  named = "algo.name space.operators space.name data.name".split()
  for name in named:
    assert any(f"--config.{name}=" in command for command in COMMANDS), name
  assert len(COMMANDS) == 5


@pytest.mark.parametrize("command", COMMANDS, ids=range(len(COMMANDS)))
def test_a_command_is_a_sound_configuration(command, monkeypatch):
  monkeypatch.chdir(ROOT)
  words = shlex.split(command)[3:]
  spec = words.pop(0).removeprefix("--config=")
  words = [word for word in words if not word.startswith("--workdir=")]
  config = config_lib.load(spec, words)
  if config.task == "search":
    assert recipe.spec(config, 10).searched
  if ":" in config.data.name:
    assert len(sources.load(config.data.name).classes) == 4


def test_python_is_given_objects(monkeypatch):
  (block,) = [block for block in BLOCKS if block.startswith("import jnas")]
  seen = []

  def search(config, data=None, **fields):
    seen.append(api._config(config, "search", data, fields))

  monkeypatch.setattr("jnas.search", search, raising=False)
  exec(compile(block, "README.md", "exec"), {})
  (config,) = seen
  assert config.algo.w01 == 5.0 and config.space.cells == 3
  assert registry.find(config.algo.name).title == "fair_darts"
  assert spaces.find(config.space.name).network is choice_blocks.network
