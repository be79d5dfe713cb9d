"""How a run goes on, when something around it is no longer the same."""

import errno
import json
import pathlib
import shutil
import subprocess

import jax
import numpy as np
import pytest
from test_runs import last_state, records
from test_stages import cut

from jnas import config as config_lib
from jnas.runs import build, report, resume, retrain
from jnas.runtime import checkpoint, parallel
from jnas.runtime.writer import Writer

# Two evaluations, four saves; statistics that any number of devices share.
TINY = {
  "task": "retrain",
  "retrain.genotype": (
    "Genotype(normal=[('skip_connect', 0), ('skip_connect', 1)], "
    "normal_concat=[2], reduce=[('max_pool_3x3', 0), ('skip_connect', 1)], "
    "reduce_concat=[2])"
  ),
  "space.cells": 3,
  "space.width": 4,
  "data.limit": 64,
  "train.batch": 8,
  "train.length": "12 steps",
  "train.sync_batch_norm": True,
  "log.every": "1 steps",
  "log.evaluate": "8 steps",
  "log.save": "3 steps",
  "log.keep": 100,
  "log.progress": False,
}


def config_of(**more):
  config = config_lib.base()
  config.update_from_flattened_dict(TINY | more)
  config_lib.validate(config)
  return config


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> pathlib.Path:
  """A run that nothing interrupted."""
  workdir = tmp_path_factory.mktemp("resume") / "whole"
  retrain.run(config_of(), workdir)
  return workdir


def assert_same_run(a: pathlib.Path, b: pathlib.Path) -> None:
  assert records(a, "metrics.jsonl") == records(b, "metrics.jsonl")
  assert last_state(a) == last_state(b)


def meta(workdir: pathlib.Path, step: int) -> dict:
  with checkpoint.Checkpoints(workdir / "checkpoints") as saved:
    return saved._read_meta(step)["meta"]


def test_a_checkpoint_knows_the_last_evaluation(whole, tmp_path):
  assert meta(whole, 3)["last"] == {} != meta(whole, 9)["last"]
  cut(whole, tmp_path / "cut", 9)
  shutil.rmtree(tmp_path / "cut" / "checkpoints" / "12", ignore_errors=True)
  # Between 9 and 11 nothing is evaluated.
  retrain.run(config_of(**{"log.save": "1 steps"}), tmp_path / "cut")
  assert meta(tmp_path / "cut", 10)["last"] == meta(whole, 9)["last"]


def test_other_data_are_refused(whole, tmp_path, monkeypatch):
  cut(whole, tmp_path / "cut", 9)
  data = build.load(config_of())
  changed = data.train_x.copy()
  changed[7, 1, 1] ^= 1
  monkeypatch.setattr(
    build, "load", lambda config: data._replace(train_x=changed)
  )
  with pytest.raises(ValueError, match="'digits'.* not those that the run in"):
    retrain.run(config_of(), tmp_path / "cut")


@pytest.mark.parametrize("before", [{"devices": 4}, {"devices": 1}])
def test_other_devices_are_refused(before):
  now = {"data": "a", "devices": 2}
  apart = config_of(**{"train.sync_batch_norm": False})
  with pytest.raises(ValueError, match=r"on . device\(s\) and here are 2:"):
    resume.check(apart, pathlib.Path("run"), before, now)
  resume.check(config_of(), pathlib.Path("run"), before, now)
  # A checkpoint from before these were kept.
  resume.check(apart, pathlib.Path("run"), {}, now)


def test_shared_statistics_go_on_with_any_number_of_devices(
  whole, tmp_path, monkeypatch, capsys
):
  cut(whole, tmp_path / "cut", 6)
  two = parallel.mesh(jax.devices()[:2])
  monkeypatch.setattr(parallel, "mesh", lambda: two)
  retrain.run(config_of(), tmp_path / "cut")
  told = "device count 4 before and 2 now: the numbers may differ"
  assert told in capsys.readouterr().out
  run = json.loads((tmp_path / "cut" / "run.json").read_text())
  assert run["device_count"] == 4
  (entry,) = run["resumed"]
  assert (entry["step"], entry["device_count"]) == (6, 2)
  assert meta(tmp_path / "cut", 12)["devices"] == 2
  for a, b in zip(
    *(records(x, "metrics.jsonl") for x in (whole, tmp_path / "cut")),
    strict=True,
  ):
    np.testing.assert_allclose(
      [a[name] for name in ("train_loss", "step")],
      [b[name] for name in ("train_loss", "step")],
      rtol=1e-4,
    )


def test_other_versions_are_told_and_recorded_once(whole, tmp_path, capsys):
  cut(whole, tmp_path / "cut", 9)
  path = tmp_path / "cut" / "run.json"
  old = json.loads(path.read_text())
  path.write_text(json.dumps(old | {"jax": "0.0.1", "resumed": ["garbage"]}))
  retrain.run(config_of(), tmp_path / "cut")
  told = f"jax 0.0.1 before and {jax.__version__} now"
  assert told in capsys.readouterr().out
  assert_same_run(whole, tmp_path / "cut")
  retrain.run(config_of(), tmp_path / "cut")
  assert told not in capsys.readouterr().out
  run = json.loads(path.read_text())
  assert run["jax"] == "0.0.1" and len(run["resumed"]) == 2
  assert run["resumed"][1]["jax"] == jax.__version__


def test_checkpoints_that_are_gone(whole, tmp_path, capsys):
  copy = tmp_path / "copy"
  shutil.copytree(whole, copy)
  shutil.rmtree(copy / "checkpoints")
  before = (copy / "metrics.jsonl").read_bytes()
  with pytest.raises(ValueError, match="a run that has ended, but not its"):
    retrain.run(config_of(), copy)
  assert (copy / "metrics.jsonl").read_bytes() == before
  (copy / "result.json").unlink()
  retrain.run(config_of(), copy)
  assert "no checkpoint: the run begins anew" in capsys.readouterr().out
  assert_same_run(whole, copy)


@pytest.fixture
def small_disk(tmp_path):
  """A disk of 700 kB, or a skip where none can be mounted."""
  command = ["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", tmp_path]
  try:
    subprocess.run(command, check=True, capture_output=True)
  except (OSError, subprocess.CalledProcessError):
    pytest.skip("only who may mount can make a small disk")
  yield tmp_path
  subprocess.run(["umount", tmp_path], check=True)


def test_a_run_goes_on_once_a_full_disk_has_room(
  whole, small_disk, capfd, caplog
):
  workdir = small_disk / "run"
  with pytest.raises(OSError, match="no room left on the disk of"):
    retrain.run(config_of(), workdir)
  output = "".join(capfd.readouterr()) + caplog.text
  assert "Traceback" not in output and "Errno" not in output
  subprocess.run(["mount", "-o", "remount,size=9m", small_disk], check=True)
  retrain.run(config_of(), workdir)
  assert "going on from step" in capfd.readouterr().out
  assert_same_run(whole, workdir)


@pytest.mark.slow
@pytest.mark.parametrize(
  "name", ["metrics.jsonl", "mistakes.json", "result.json", "report.html"]
)
def test_nothing_is_lost_whatever_is_written_when_the_disk_is_full(
  whole, tmp_path, monkeypatch, name
):
  cut(whole, tmp_path / "cut", 9)

  def full(own):
    def write(*arguments):
      if name in str(arguments):
        raise OSError(errno.ENOSPC, "No space left on device")
      return own(*arguments)

    return write

  with monkeypatch.context() as patch:
    places = (Writer, "append"), (Writer, "put"), (report, "write")
    for place, function in places:
      patch.setattr(place, function, full(getattr(place, function)))
    with pytest.raises(OSError, match="there is no room left on the disk of"):
      retrain.run(config_of(), tmp_path / "cut")
  retrain.run(config_of(), tmp_path / "cut")
  assert_same_run(whole, tmp_path / "cut")
  assert (tmp_path / "cut" / "report.html").exists()
