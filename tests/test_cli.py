"""The command jnas: what it lists, and what it passes on."""

import pathlib
import subprocess
import sys

import pytest

from jnas import cli, genotype, main
from jnas import config as config_lib
from jnas.algorithms import registry
from jnas.runs import cost, report
from jnas.runtime import machine

ROOT = pathlib.Path(__file__).parents[1]


def test_list_names_all_there_is():
  code = "import sys; from jnas import cli; sys.exit(cli.main(['list']))"
  command = [sys.executable, "-c", code]
  result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
  assert result.returncode == 0, result.stderr
  words = result.stdout.split()
  for path in (ROOT / "configs").rglob("*.py"):
    assert str(path.relative_to(ROOT)) in words
  assert ":quick_second" in words
  for names in (
    *(registry.METHODS, config_lib.names("space.name")),
    *(genotype.OPERATIONS, genotype.RECURRENT_OPERATIONS),
    *(genotype.ZOO, genotype.RECURRENT_ZOO),
  ):
    assert set(names) <= set(words)
  assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
  "words, expected",
  [
    ("search a.py:b", ("--config=a.py:b",)),
    ("search --config=a.py", ("--config=a.py",)),
    ("compare a.py --workdir=c", ("--config=a.py", "--workdir=c")),
    ("retrain", ()),
  ],
)
def test_what_main_gets(monkeypatch, words, expected):
  calls = []
  monkeypatch.setattr(main, "main", lambda *args: calls.append(args) or 7)
  assert cli.main(words.split()) == 7
  (((program, *rest), tasks),) = calls
  command = words.split()[0]
  assert (program, tuple(rest)) == (f"jnas {command}", expected)
  assert command in tasks and not {"search", "retrain", "compare"} <= set(tasks)


def test_what_the_report_gets(monkeypatch):
  monkeypatch.setattr(report, "main", lambda words: words == ["a", "--out=b"])
  assert cli.main(["report", "a", "--out=b"]) is True


def test_what_cost_gets(monkeypatch):
  monkeypatch.setattr(cost, "main", lambda words: words == ["a", "--json"])
  assert cli.main(["cost", "a", "--json"]) is True


def test_a_config_of_another_task_is_told(capsys):
  assert cli.main(["retrain", "configs/darts.py:quick"]) == 2
  error = capsys.readouterr().err
  told = "config of task retrain or pareto, got configs/darts.py:quick of task"
  assert f"{told} search" in error


@pytest.mark.parametrize(
  "words, message",
  [
    ([], "got none"),
    (["serch"], "segment, compare, got 'serch'"),
    (["list", "configs"], "takes no words, got configs"),
  ],
)
def test_a_wrong_command_is_one_message(capsys, words, message):
  assert cli.main(words) == 2
  error = capsys.readouterr().err
  assert error.startswith("error: ") and message in error


def test_help(capsys):
  assert cli.main(["--help"]) == 0
  assert "jnas search CONFIG" in capsys.readouterr().out


@pytest.mark.parametrize(
  "argv, told",
  [
    (["/a/bin/jnas", "list"], "jnas list"),
    (["/a/own.py", "--b=/c/d"], "python own.py --b=d"),
  ],
)
def test_the_command_that_a_run_records(monkeypatch, argv, told):
  monkeypatch.setattr(sys, "argv", argv)
  monkeypatch.setattr(sys, "executable", "/a/bin/python")
  monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
  assert machine.command() == told


def test_a_reader_that_has_seen_enough():
  command = [sys.executable, "-m", "jnas.cli", "list"]
  with subprocess.Popen(
    command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
  ) as run:
    run.stdout.close()  # before anything is written
    assert run.stderr.read() == b""
    assert run.wait() == 0
