import io
import json
import os
import signal
import sys
import threading
import types

import pytest

from jnas.runtime import machine, progress
from jnas.runtime.signals import Stop


class Terminal(io.StringIO):
  def isatty(self):
    return True


@pytest.fixture
def clock(monkeypatch):
  """Seconds that only the test moves."""
  now = [0.0]
  fake = types.SimpleNamespace(monotonic=lambda: now[0])
  monkeypatch.setattr(progress, "time", fake)
  return now


def test_plain_text_is_a_line_an_epoch(clock):
  out = io.StringIO()
  with progress.Progress(8, 4, title="search", stream=out) as bar:
    for step in range(1, 9):
      bar.update(step, loss=1 / step, valid_accuracy=0.5)
      clock[0] += 2
  first, last = out.getvalue().splitlines()
  assert first == (
    "search: step 4/8, epoch 1/2, loss 0.25, valid accuracy 50.0%, 0:08 left"
  )
  assert last.startswith("search: step 8/8, epoch 2/2, loss 0.125")
  assert "left" not in last


def test_plain_text_is_a_line_every_half_minute_in_long_epochs(clock):
  out = io.StringIO()
  with progress.Progress(1000, 1000, stream=out) as bar:
    for step in range(1, 101):
      clock[0] += 1
      bar.update(step)
  steps = [line.split(",")[0] for line in out.getvalue().splitlines()]
  assert steps == ["step 30/1000", "step 60/1000", "step 90/1000"]


def test_resumed_at_an_epoch_it_does_not_count_the_steps_before(clock):
  out = io.StringIO()
  with progress.Progress(12, 4, start=4, stream=out) as bar:
    for step in range(5, 9):
      clock[0] += 5
      bar.update(step)
  (line,) = out.getvalue().splitlines()
  assert line == "step 8/12, epoch 2/3, 0:20 left"


def test_a_length_in_steps_ends_at_its_fraction_of_an_epoch():
  out = io.StringIO()
  with progress.Progress(7, 4, stream=out) as bar:
    for step in range(1, 8):
      bar.update(step)
  heads = [line.split(", ")[:2] for line in out.getvalue().splitlines()]
  assert [epoch for _, epoch in heads] == ["epoch 1/1.75", "epoch 1.75/1.75"]


def test_what_begins_is_named_from_then_on(clock):
  out = io.StringIO()
  with progress.Progress(8, 4, title="stage 1", stream=out) as bar:
    bar.update(4)
    bar.begin("stage 2")
    bar.update(8)
  lines = [line.split(":")[0] for line in out.getvalue().splitlines()]
  assert lines == ["stage 1", "stage 2", "stage 2"]


def test_a_bar_on_a_terminal(monkeypatch):
  monkeypatch.setenv("TERM", "xterm")
  monkeypatch.setenv("COLUMNS", "120")
  out = Terminal()
  with progress.Progress(4, 2, title="search", stream=out) as bar:
    bar.update(3, loss=0.5, images_per_second=2000)
    bar.say("normal=[('sep_conv_3x3', 1)] [bold]")
  text = out.getvalue()
  assert "75%" in text and "loss 0.5, 2,000 images/s" in text
  assert "normal=[('sep_conv_3x3', 1)] [bold]" in text
  last = text.rstrip().splitlines()[-1]
  assert "search: step 3/4, epoch 1.5/2" in last


@pytest.mark.parametrize("term,enabled", [("dumb", True), ("xterm", False)])
def test_no_bar_when_it_is_off_or_the_terminal_is_dumb(
  term, enabled, monkeypatch
):
  monkeypatch.setenv("TERM", term)
  out = Terminal()
  with progress.Progress(1, 1, stream=out, enabled=enabled) as bar:
    bar.update(1, loss=2.0)
    bar.say("done")
  assert out.getvalue() == "step 1/1, epoch 1/1, loss 2\ndone\n"


def test_the_machine_is_described_without_names(monkeypatch):
  main = types.ModuleType("__main__")
  main.__spec__ = types.SimpleNamespace(name="jnas.main")
  monkeypatch.setitem(sys.modules, "__main__", main)
  arguments = [
    "/home/alice/jnas/main.py",
    "--config=/home/alice/configs/darts.py:s1",
    "--config.data.path=~/sets/cifar.tar.gz",
    "--config.files=('/srv/alice/a.npz','b/c.npz')",
    "--workdir=/home/alice/runs/first/",
    "--config.optim.lr=0.1",
    "configs/quick.py",
  ]
  monkeypatch.setattr(sys, "argv", arguments)
  monkeypatch.setattr(sys, "executable", "/home/alice/venv/bin/python3")
  description = machine.describe()
  assert description["command"] == (
    "python3 -m jnas.main --config=darts.py:s1 "
    "--config.data.path=cifar.tar.gz "
    "'--config.files=('\"'\"'a.npz'\"'\"','\"'\"'b/c.npz'\"'\"')' "
    "--workdir=first/ --config.optim.lr=0.1 configs/quick.py"
  )
  assert set(description) == {
    "command",
    "jnas",
    "python",
    "jax",
    "platform",
    "device",
    "device_count",
    "cpu",
    "cores",
  }
  text = json.dumps(description)
  assert "alice" not in text and os.uname().nodename not in text
  assert description["device_count"] == 4 and description["cores"] >= 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_a_flag_and_the_second_has_its_usual_effect(
  number,
):
  seen = []
  before = signal.signal(number, lambda *_: seen.append("usual"))
  try:
    with Stop() as stop:
      assert not stop.requested
      os.kill(os.getpid(), number)
      assert stop.requested and stop.name == number.name and not seen
      os.kill(os.getpid(), number)
      assert seen == ["usual"]
    with Stop():
      pass
    os.kill(os.getpid(), number)
    assert seen == ["usual"] * 2
  finally:
    signal.signal(number, before)


def test_stop_outside_the_main_thread_does_nothing():
  handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
  flags = []

  def work():
    with Stop() as stop:
      flags.append(stop.requested)

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert flags == [False]
  after = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
  assert after == handlers
