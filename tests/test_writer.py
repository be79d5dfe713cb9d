import json
import os
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest

from jnas.runtime import metrics
from jnas.runtime.writer import Writer


def lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_metrics_are_on_disk_after_every_line(tmp_path):
  with Writer(tmp_path / "run") as writer:
    values = {"train_loss": jnp.float32(0.5), "lr": np.float64(0.025)}
    writer.write("step", 3, 0.25, values)
    assert lines(tmp_path / "run" / "metrics.jsonl") == [
      {
        "kind": "step",
        "step": 3,
        "epoch": 0.25,
        "train_loss": 0.5,
        "lr": 0.025,
      }
    ]
    writer.write("epoch", 12, 1, {"valid_accuracy": float("nan")})
    last = lines(tmp_path / "run" / "metrics.jsonl")[-1]
    assert last["valid_accuracy"] is None and last["epoch"] == 1.0


def test_write_refuses_what_is_not_declared(tmp_path):
  with Writer(tmp_path) as writer:
    with pytest.raises(ValueError, match="'trian_loss' .*'train_loss'.*'q'"):
      writer.write("step", 0, 0.0, {"trian_loss": 1.0, "q": 2.0})
    with pytest.raises(ValueError, match="'step' or 'epoch', got 'day'"):
      writer.write("day", 0, 0.0, {})
  assert not list(tmp_path.iterdir())


def test_append_and_put_take_arrays_and_refuse_paths(tmp_path):
  with Writer(tmp_path) as writer:
    writer.append("arch.jsonl", {"step": 1, "weights": jnp.eye(2)})
    writer.append("arch.jsonl", {"step": 2, "edges": ((0, 2), (1, 2))})
    assert lines(tmp_path / "arch.jsonl") == [
      {"step": 1, "weights": [[1.0, 0.0], [0.0, 1.0]]},
      {"step": 2, "edges": [[0, 2], [1, 2]]},
    ]
    for name in ("arch.json", "../arch.jsonl", "arch"):
      with pytest.raises(ValueError, match="ends in '.jsonl'"):
        writer.append(name, {})
    with pytest.raises(ValueError, match="ends in '.json'"):
      writer.put("a/b.json", {})


def test_put_is_the_old_record_or_the_new_one(tmp_path, monkeypatch):
  with Writer(tmp_path) as writer:
    writer.put("genotype.json", {"text": "old"})
    with pytest.raises(TypeError):
      writer.put("genotype.json", {"text": object()})
    with monkeypatch.context() as patch:

      def full(descriptor):
        raise OSError("disk full")

      patch.setattr(os, "fsync", full)
      with pytest.raises(OSError, match="disk full"):
        writer.put("genotype.json", {"text": "new" * 1000})
    assert [path.name for path in tmp_path.iterdir()] == ["genotype.json"]
    # Whoever has the file open reads the old record to its end.
    with open(tmp_path / "genotype.json") as reader:
      writer.put("genotype.json", {"text": "new"})
      assert json.load(reader) == {"text": "old"}
  record = json.loads((tmp_path / "genotype.json").read_text())
  assert record == {"text": "new"}


def fill(writer, steps):
  for step in steps:
    writer.write("step", step, step / 4, {"train_loss": 1 / (step + 1)})
    if step % 4 == 0:
      writer.write("epoch", step, step / 4, {"valid_loss": 2.0})
      writer.append("arch.jsonl", {"step": step, "weights": [[step]]})


@pytest.mark.parametrize("cut", [1, 20, 70])
def test_a_resumed_run_leaves_what_an_uninterrupted_one_leaves(tmp_path, cut):
  with Writer(tmp_path / "whole") as writer:
    fill(writer, range(1, 13))
  with Writer(tmp_path / "killed") as writer:
    fill(writer, range(1, 10))
  path = tmp_path / "killed" / "metrics.jsonl"
  os.truncate(path, path.stat().st_size - cut)
  with Writer(tmp_path / "killed") as writer:
    writer.rewind(5)
    fill(writer, range(6, 13))
  for name in ("metrics.jsonl", "arch.jsonl"):
    whole = (tmp_path / "whole" / name).read_bytes()
    assert (tmp_path / "killed" / name).read_bytes() == whole


@pytest.mark.parametrize(
  "line", ['{"step": "two"}', '{"step": null}', '{"step": [1]}', "[" * 100_000]
)
def test_rewind_drops_lines_whose_step_is_no_number(tmp_path, line):
  path = tmp_path / "metrics.jsonl"
  path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 2}}\n')
  with Writer(tmp_path) as writer:
    writer.rewind(2)
  assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_rewind_while_open_and_to_the_beginning(tmp_path):
  with Writer(tmp_path) as writer:
    fill(writer, range(8))
    writer.rewind(2)
    fill(writer, [3])
    steps = [line["step"] for line in lines(tmp_path / "metrics.jsonl")]
    assert steps == [0, 0, 1, 2, 3]
    writer.rewind(-1)
    assert (tmp_path / "metrics.jsonl").read_bytes() == b""


def test_metrics_of_one_paper_are_declared_by_it(tmp_path):
  with Writer(tmp_path, own={"gradient_cosine"}) as writer:
    writer.write("step", 1, 0.1, {"gradient_cosine": 0.5, "lr": 0.1})
    with pytest.raises(ValueError, match="did you mean 'gradient_cosine'"):
      writer.write("step", 2, 0.2, {"gradient_cosin": 0.5})
  with Writer(tmp_path) as writer, pytest.raises(ValueError, match="sections"):
    writer.write("step", 3, 0.3, {"gradient_cosine": 0.5})
  assert [line["step"] for line in lines(tmp_path / "metrics.jsonl")] == [1]


def test_tensorboard_is_optional(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "tensorboardX", None)
  with pytest.raises(ValueError, match=r"jnas\[tensorboard\]"):
    Writer(tmp_path, tensorboard=True)
  seen = []

  class SummaryWriter:
    def __init__(self, folder, purge_step=None):
      seen.append((os.path.basename(folder), purge_step))

    def add_scalar(self, name, value, step):
      seen.append((name, value, step))

    def close(self):
      seen.append("closed")

  module = types.SimpleNamespace(SummaryWriter=SummaryWriter)
  monkeypatch.setitem(sys.modules, "tensorboardX", module)
  with Writer(tmp_path, tensorboard=True) as writer:
    writer.rewind(4)
    writer.write("step", 5, 0.5, {"train_loss": 1.5})
  assert seen == [("tensorboard", 5), ("step/train_loss", 1.5, 5), "closed"]


def test_finite_names_the_step_and_the_metrics():
  metrics.finite(3, {"train_loss": 1.0, "lr": jnp.float32(0.1)})
  bad = {"train_loss": jnp.nan, "lr": 0.1, "entropy": -jnp.inf}
  with pytest.raises(metrics.NotFinite) as caught:
    metrics.finite(7, bad)
  assert isinstance(caught.value, ArithmeticError)
  assert caught.value.step == 7
  assert set(caught.value.metrics) == {"train_loss", "entropy"}
  expected = "not finite at step 7: train_loss = nan, entropy = -inf"
  assert str(caught.value) == expected


def test_a_link_where_a_temporary_file_might_be_is_not_followed(tmp_path):
  victim = tmp_path / "victim"
  victim.write_text("kept")
  (tmp_path / f".config.json.{os.getpid()}").symlink_to(victim)
  with Writer(tmp_path) as writer:
    writer.put("config.json", {})
  assert victim.read_text() == "kept"
