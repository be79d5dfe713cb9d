"""The cache of compiled programs: what is broken is written again."""

import json
import pathlib
import subprocess
import sys
import zlib

import pytest

from jnas.runtime import compile_cache

PROGRAM = """
import pathlib, sys
import jax
from jnas.runtime import compile_cache
compile_cache.prepare(pathlib.Path(sys.argv[1]))
jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
print(jax.jit(lambda x: x * 3)(2.0))
"""


def run(folder: pathlib.Path) -> str:
  """Compiles and computes, in a process of its own."""
  done = subprocess.run(
    [sys.executable, "-c", PROGRAM, folder],
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout == "6.0\n"
  return done.stderr


def test_what_was_cut_short_is_written_again(tmp_path):
  folder = tmp_path / "xla"
  run(folder)
  entries = sorted(folder.glob("*-cache"))
  sizes = [path.stat().st_size for path in entries]
  assert entries
  for path in entries:
    path.write_bytes(path.read_bytes()[:-20])
  assert "Error" not in run(folder)
  assert sorted(folder.glob("*-cache")) == entries
  # Entries hold the seconds that compiling took, so not all bytes are equal.
  for path, size in zip(entries, sizes, strict=True):
    assert abs(path.stat().st_size - size) < 10


@pytest.fixture
def folder(tmp_path):
  for name in "ab":
    entry = zlib.compress(name.encode() * 1000)
    (tmp_path / f"{name}-cache").write_bytes(entry)
  assert compile_cache.repair(tmp_path) == []
  return tmp_path


def test_only_what_has_changed_is_read_again(folder, monkeypatch):
  (folder / "a-cache").write_bytes(b"")
  (folder / "b-cache").touch()
  read = []
  whole = compile_cache._is_whole
  monkeypatch.setattr(
    compile_cache, "_is_whole", lambda entry: read.append(entry) or whole(entry)
  )
  assert compile_cache.repair(folder) == ["a-cache"]
  assert len(read) == 2
  assert compile_cache.repair(folder) == []
  assert len(read) == 2
  assert sorted(path.name for path in folder.iterdir()) == [
    "b-cache", "whole.json"
  ]


@pytest.mark.parametrize("text", ["[", "[]", "7", "[" * 100_000])
def test_a_record_that_is_none_is_made_anew(folder, text):
  (folder / "whole.json").write_text(text)
  assert compile_cache.repair(folder) == []
  assert set(json.loads((folder / "whole.json").read_text())) == {
    "a-cache", "b-cache"
  }
