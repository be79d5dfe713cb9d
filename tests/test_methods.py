"""What the papers say of themselves, all of them alike."""

import pytest

from jnas import config as config_lib
from jnas.algorithms import registry
from jnas.config import schema

EACH = pytest.mark.parametrize("name", registry.METHODS)


@EACH
def test_defaults_keep_their_own_limits(name):
  for field, option in registry.METHODS[name].options.items():
    assert "." in field and option.meaning
    assert all(limit.accepts(option.default) for limit in option.limits), field
    if option.duration:
      config_lib.duration(option.default, 10, 100)


def test_papers_that_share_a_field_mean_the_same():
  known = {}
  for method in registry.METHODS.values():
    for field, option in method.options.items():
      assert known.setdefault(field, option) is option


def test_options_are_no_fields_that_all_algorithms_have(monkeypatch):
  options = schema.options()
  assert set(options) <= set(config_lib.flatten(config_lib.base()))
  monkeypatch.setattr(schema, "_declared", {})
  assert not set(options) & set(config_lib.flatten(config_lib.base()))


@EACH
def test_titles_are_those_of_papers_and_told_apart(name):
  titles = [method.title for method in registry.METHODS.values()]
  assert titles.count(registry.METHODS[name].title) == 1


@EACH
def test_every_paper_is_searched_with_its_config(name):
  # Of a config that names it, and so with no problem, the checks know of none.
  file = {"amended": "amended_darts", "random": "random_search",
          "dst": "entrannas", "goldnas": "gold_nas"}.get(name, name)
  argument = "quick_dst" if name == "dst" else "quick"
  config = config_lib.load(f"configs/{file}.py:{argument}")
  assert config.algo.name == name
  flat = config_lib.flatten(config)
  assert registry.METHODS[name].problems(flat) == []
