"""The command line: what reaches a run, and what a user is told."""

import os
import pathlib
import signal
import subprocess
import sys
import types

import jax
import pytest

from jnas import main as main_lib
from jnas.runtime import signals

ROOT = pathlib.Path(__file__).parents[1]
CONFIGS = ROOT / "configs"


@pytest.fixture
def runs(monkeypatch):
  """Stands for jnas.runs: records its calls, raises `error` if there is one."""
  record = types.SimpleNamespace(calls=[], error=None)

  def run(config, workdir):
    record.calls.append((config.task, config, workdir))
    if record.error is not None:
      raise record.error

  package = types.ModuleType("jnas.runs")
  for name in ("dispatch", "compare", "random_pruning", "segment"):
    setattr(package, name, types.SimpleNamespace(run=run))
  monkeypatch.setitem(sys.modules, "jnas.runs", package)
  return record


def call(*words):
  return main_lib.main(["jnas", "--compile_cache=", *words])


def test_config_overrides_and_workdir_reach_the_search(runs):
  spec = f"{CONFIGS / 'amended_darts.py'}:quick"
  words = ["--config.train.batch=7", "--config.arch.lr", "0.5"]
  words += ["--config.train.remat", "--config", spec, "--workdir=somewhere"]
  assert call(*words) == 0
  ((name, config, workdir),) = runs.calls
  assert (name, workdir) == ("search", pathlib.Path("somewhere"))
  assert (config.train.batch, config.arch.lr) == (7, 0.5)
  assert config.train.remat and config.data.name == "digits"


@pytest.mark.parametrize(
  "spec, name, workdir",
  [
    ("amended_darts.py", "search", "runs/amended_darts"),
    ("darts.py:quick_second", "search", "runs/darts_quick_second"),
    ("retrain.py:quick", "retrain", "runs/retrain_quick"),
    ("segment.py:quick", "segment", "runs/segment_quick"),
    ("compare.py:quick", "compare", "runs/compare_quick"),
  ],
)
def test_default_workdir(runs, spec, name, workdir):
  assert call(f"--config={CONFIGS / spec}") == 0
  assert runs.calls[0][0] == name
  assert runs.calls[0][2] == pathlib.Path(workdir)


@pytest.mark.parametrize(
  "words, message",
  [
    ([], "no --config is given"),
    (["--confg=a.py"], "Did you mean: config"),
    (["--config=a.py", "b"], "expected flags only, got b"),
    (["--config=nowhere.py"], "there is no config file nowhere.py"),
    ([f"--config={CONFIGS / 'darts.py'}", "--config.sede=3"], "mean seed?"),
    (["--batch=32"], "did you mean --config.train.batch?"),
    (["--lr", "3"], "--config.arch.lr or --config.weights.lr?"),
    (
      [f"--config={CONFIGS / 'darts.py'}", "--workdir=\udcff"],
      "expected a --workdir whose name is UTF-8",
    ),
  ],
)
def test_mistakes_of_the_user_are_one_message(runs, capsys, words, message):
  assert call(*words) == 2
  error = capsys.readouterr().err
  assert error.startswith("error: ") and message in error
  assert "Traceback" not in error
  assert not runs.calls


@pytest.mark.parametrize(
  "error, status, message",
  [
    (ValueError("expected a, got b"), 2, "error: expected a, got b\n"),
    (FileNotFoundError("no file a"), 2, "error: no file a\n"),
    (UnicodeError("b"), 2, "error: UnicodeError: b\n"),
    (ValueError("c" * 10**6), 2, "error: " + "c" * 997 + " ... ccc"),
    (KeyboardInterrupt(), 130, "interrupted; the same command goes on"),
  ],
)
def test_errors_of_a_run(runs, capsys, error, status, message):
  runs.error = error
  assert call(f"--config={CONFIGS / 'darts.py'}") == status
  assert capsys.readouterr().err.startswith(message)


def test_traceback_on_demand(runs, capsys):
  runs.error = ValueError("expected a, got b")
  assert call(f"--config={CONFIGS / 'darts.py'}", "--traceback") == 2
  assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("error", [SystemExit(75), ZeroDivisionError()])
def test_other_errors_pass_through(runs, error):
  runs.error = error
  with pytest.raises(type(error)) as caught:
    call(f"--config={CONFIGS / 'darts.py'}")
  assert caught.value is error


def test_sigterm_outside_of_a_run_is_an_exit_status(runs, monkeypatch, capfd):
  before = signal.getsignal(signal.SIGTERM)
  at_the_end = []

  def load(*_):
    os.kill(os.getpid(), signal.SIGTERM)
    at_the_end.append("not reached")

  monkeypatch.setattr(main_lib.config_lib, "load", load)
  with pytest.raises(SystemExit) as caught:
    call(f"--config={CONFIGS / 'darts.py'}")
  assert caught.value.code == signals.TERMINATED == 143 and not at_the_end
  assert "stopped by SIGTERM" in capfd.readouterr().err
  signal.signal(signal.SIGTERM, before)


def test_a_second_sigterm_ends_a_run_that_hangs():
  with signals.exit_on_sigterm(), signals.Stop() as stop:
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.requested
    # Of the system, which needs no Python to be heard.
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.fixture
def cache_dir():
  before = jax.config.jax_compilation_cache_dir
  yield lambda: jax.config.jax_compilation_cache_dir
  jax.config.update("jax_compilation_cache_dir", before)


def test_compile_cache_is_private(runs, cache_dir, tmp_path):
  folder = tmp_path / "a" / "xla"
  words = [f"--config={CONFIGS / 'darts.py'}", f"--compile_cache={folder}"]
  assert call(*words) == 0
  assert folder.stat().st_mode & 0o777 == 0o700
  assert cache_dir() == str(folder)


def test_compile_cache_that_others_write_is_not_used(
  runs, cache_dir, tmp_path, capsys
):
  before = cache_dir()
  tmp_path.chmod(0o777)
  words = [f"--config={CONFIGS / 'darts.py'}", f"--compile_cache={tmp_path}"]
  assert call(*words) == 0
  assert "others can write" in capsys.readouterr().err
  assert cache_dir() == before


def test_help_in_a_process():
  command = [sys.executable, "-m", "jnas.main", "--help"]
  result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
  assert result.returncode == 0
  assert "--config.GROUP.FIELD=VALUE" in result.stdout
  for flag in ("--workdir", "--compile_cache", "distributed", "traceback"):
    assert flag in result.stdout
