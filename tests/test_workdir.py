"""Whose a run's directory is, and what is told when something is not right."""

import errno
import json
import os
import pathlib
import shutil

import pytest

from jnas import config as config_lib
from jnas.runs import session
from jnas.runs import workdir as workdir_lib
from jnas.runtime.writer import Writer


def config_of(**more):
  config = config_lib.base()
  config.update_from_flattened_dict(more)
  return config


def record_of(workdir: pathlib.Path, **more) -> dict:
  """Claims a directory, and gives its config.json."""
  with workdir_lib.claimed(config_of(**more), workdir):
    pass
  return json.loads((workdir / "config.json").read_text())


def test_the_first_thing_in_a_directory_is_whose_it_is(tmp_path, monkeypatch):
  made = []
  replace = os.replace
  monkeypatch.setattr(
    os, "replace", lambda a, b: (made.append(sorted(os.listdir(tmp_path))),
                                 replace(a, b))
  )
  record_of(tmp_path)
  ((temporary, lock),) = made
  assert temporary.startswith(".config.json.") and lock == ".lock"


def test_what_a_kill_left_before_a_config_is_a_beginning(tmp_path, monkeypatch):
  (tmp_path / "checkpoints").mkdir()
  made = []
  with monkeypatch.context() as patch:
    replace = os.replace
    patch.setattr(os, "replace", lambda a, b: (made.append(a), replace(a, b)))
    record_of(tmp_path / "other")
  (temporary,) = (pathlib.Path(path).name for path in made)  # of a real writer
  shutil.rmtree(tmp_path / "other")
  for name in (".lock", temporary):
    (tmp_path / name).write_text("half")
  record_of(tmp_path)
  assert sorted(os.listdir(tmp_path)) == [
    *(".lock", "checkpoints", "config.json")
  ]


def test_a_directory_is_taken_while_a_process_runs_there(tmp_path):
  assert not workdir_lib.taken(tmp_path / "run")
  with workdir_lib.claimed(config_of(), tmp_path / "run"):
    assert workdir_lib.taken(tmp_path / "run")
  assert not workdir_lib.taken(tmp_path / "run")


@pytest.mark.parametrize(
  "name", ["letters.txt", "checkpoints/7/state", ".profile", "run.json"]
)
def test_anything_else_is_not(tmp_path, name):
  (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
  (tmp_path / name).write_text("keep me")
  with pytest.raises(ValueError, match="is not empty and holds no run"):
    record_of(tmp_path)


def test_a_field_that_jnas_did_not_have_has_its_default(tmp_path):
  record = record_of(tmp_path)
  del record["algo"]["eta"], record["gold"]
  (tmp_path / "config.json").write_text(json.dumps(record))
  workdir_lib.check(config_of(), tmp_path)
  with pytest.raises(ValueError, match="algo.eta: 0.1 there, 0.5 here"):
    workdir_lib.check(config_of(**{"algo.eta": 0.5}), tmp_path)


@pytest.mark.parametrize("text", ["[]", "[" * 100_000, '{"a":' * 100_000, "\0"])
def test_a_config_that_is_none_is_one_sentence(tmp_path, text):
  (tmp_path / "config.json").write_text(text)
  with pytest.raises(ValueError, match="is not readable as JSON") as error:
    workdir_lib.check(config_of(), tmp_path)
  assert len(str(error.value)) < 500


def from_tensorstore():
  try:
    raise ValueError("RESOURCE_EXHAUSTED: write: No space left on device [x]")
  except ValueError as error:
    raise RuntimeError("no checkpoint") from error


def while_closing():
  try:
    raise OSError(errno.ENOSPC, "No space left on device")
  finally:
    raise ValueError("closed")


@pytest.mark.parametrize("fail", [from_tensorstore, while_closing])
def test_a_full_disk_is_one_sentence_whoever_says_it(tmp_path, fail):
  with pytest.raises(OSError, match="no room left on the disk of .*make some"):
    with workdir_lib.claimed(config_of(), tmp_path):
      fail()
  with pytest.raises(ZeroDivisionError):
    with workdir_lib.claimed(config_of(), tmp_path):
      raise ZeroDivisionError


def test_a_disk_that_is_full_at_the_end_of_a_run(tmp_path, monkeypatch):
  def refuse(self, name, record):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

  monkeypatch.setattr(Writer, "put", refuse)
  with pytest.raises(OSError, match="no room left on the disk of .*make some"):
    session.finish(tmp_path, {}, {"restricted.json": {}})


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("name", ["mkdir", "open"])
def test_a_directory_that_is_read_only_is_one_sentence(
  tmp_path, monkeypatch, number, name
):
  def refuse(*args, **kwargs):
    raise OSError(number, os.strerror(number), "x")

  where = pathlib.Path if name == "mkdir" else workdir_lib
  monkeypatch.setattr(where, name, refuse, raising=False)
  with pytest.raises(OSError, match=f"{tmp_path} cannot be written to .*make"):
    with workdir_lib.claimed(config_of(), tmp_path):
      pass
