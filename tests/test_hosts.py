"""Several processes that run as one: real ones, two of them, on one machine."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
from PIL import Image
import pytest
import soak

from jnas import main
from jnas.runtime import hosts

ROOT = pathlib.Path(__file__).parents[1]
COMMAND = [
  *(sys.executable, "-m", "jnas.main", "--config=configs/darts.py:quick"),
  "--config.space.cells=3",
  "--config.space.width=4",
  "--config.space.nodes=1",
  "--config.algo.hypergrad=first_order",
  "--config.data.limit=64",
  "--config.train.batch=16",
  "--config.train.length=20 epochs",
  "--config.log.every=2 steps",
  "--config.log.save=3 steps",
]


def free_port() -> int:
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


def start(command: list, devices: int) -> subprocess.Popen:
  """A process with so many CPU devices."""
  xla = (
    f"--xla_force_host_platform_device_count={devices}",
    "--xla_backend_optimization_level=0",
  )
  path = os.environ.get("PYTHONPATH")
  return subprocess.Popen(
    list(map(str, command)),
    cwd=ROOT,
    env=os.environ
    | {
      "JAX_PLATFORMS": "cpu",
      "PYTHONPATH": os.pathsep.join([str(ROOT), *([path] if path else [])]),
      "PYTHONUNBUFFERED": "1",
      "XLA_FLAGS": " ".join(xla),
    },
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def ended(processes: list, timeout: float = 100) -> tuple[list, list[str]]:
  """Exit statuses and outputs; whatever happens, nobody is left behind."""
  try:
    outputs = [p.communicate(timeout=timeout)[0] for p in processes]
  finally:
    for process in processes:
      process.kill()
  return [p.returncode for p in processes], outputs


def test_two_processes_step_save_stop_and_notice_a_death(tmp_path):
  port = free_port()
  program = [sys.executable, "tests/two_processes.py", port]
  statuses, outputs = ended(
    [start([*program, index, tmp_path], 1) for index in (0, 1)]
  )
  assert statuses == [1, -signal.SIGKILL], outputs
  assert re.search(
    "error: process 0 of 2 cannot go on with the others: .* another one has "
    "ended, and says why; start all of them again",
    outputs[0],
  )
  one, two = (
    json.loads((tmp_path / f"said{index}").read_text()) for index in (0, 1)
  )
  assert one == two  # also the step before which both have stopped
  done = one["done"]
  assert done >= 20
  assert one["told"] == ["by process 0", None]
  assert one["same"] == [0, float("-inf")]
  assert one["refused"] == "not here"
  assert one["everywhere"] == [True, False]
  assert one["latest"] == [done, {"by": 0}] and one["step"] == done
  assert one["carry"] == [float(i + done) for i in range(8)]
  # The mean over two devices of sums of four: 14 + 4 k at step k.
  assert one["total"] == sum(14 + 4 * k for k in range(done))
  assert os.listdir(tmp_path / "saved") == [str(done)]


@pytest.mark.parametrize(
  "flags, problem",
  [
    (["--processes=2"], "all of them, or --distributed alone"),
    (["--coordinator=a:1"], "all of them, or --distributed alone"),
    (["--distributed", "--process_id=0"], "some of these are missing"),
    (["a", 2, 0], "--coordinator: expected HOST:PORT of process 0"),
    (["a:0", 2, 0], "--coordinator: expected HOST:PORT of process 0"),
    (["a:70000", 2, 0], "--coordinator: expected HOST:PORT of process 0"),
    (["a:1", 2, 2], "--process_id: expected 0 for the first to"),
    (["[::1]:1", 2, -1], "got -1 of 2"),
  ],
)
def test_flags_that_find_nobody_are_one_sentence(flags, problem, capsys):
  if len(flags) == 3:
    names = ("coordinator", "processes", "process_id")
    flags = [f"--{k}={v}" for k, v in zip(names, flags, strict=True)]
    flags.append("--distributed")
  assert main.main(["jnas", *COMMAND[3:], *flags]) == 2
  assert problem in capsys.readouterr().err


def test_a_port_that_is_taken_is_one_sentence():
  with socket.socket() as other:
    other.bind(("", 0))
    other.listen()
    port = other.getsockname()[1]
    with pytest.raises(OSError, match=f"expected a free port .*, got {port}"):
      hosts.connect(f"127.0.0.1:{port}", 2, 0)


def test_nobody_at_the_address_is_one_sentence(monkeypatch):
  monkeypatch.setattr(hosts, "WAIT", 0.0)
  with pytest.raises(ValueError, match="expected process 0 at 127.0.0.1:.* st"):
    hosts.connect(f"127.0.0.1:{free_port()}", 2, 1)


def test_flags_that_find_the_others():
  hosts.check(False, "", None, None)
  hosts.check(True, "", None, None)
  hosts.check(True, "node-1.cluster:9876", 2, 1)
  hosts.check(True, "[fe80::1]:9876", 1, 0)


def together(
  workdir: pathlib.Path,
  devices: int,
  more: tuple[str, ...] = (),
  command: list[str] = COMMAND,
) -> list[subprocess.Popen]:
  """The command of a user, as two processes."""
  found = (
    *("--distributed", f"--coordinator=127.0.0.1:{free_port()}"),
    *("--processes=2", f"--workdir={workdir}"),
  )
  return [
    start([*command, *found, *more, f"--process_id={index}"], devices)
    for index in (0, 1)
  ]


def wait_for_step(workdir: pathlib.Path, step: int, processes: list) -> None:
  path = workdir / "metrics.jsonl"
  while all(process.poll() is None for process in processes):
    if path.exists() and f'"step": {step},' in path.read_text():
      return
    time.sleep(0.05)
  raise AssertionError(ended(processes))


def records(workdir: pathlib.Path) -> list:
  """What a run has written, without what a clock measured."""
  timed = ("seconds", "per_second", "compile_share")
  return [
    {k: v for k, v in json.loads(line).items() if not k.endswith(timed)}
    for name in ("metrics", "genotypes", "arch")
    for line in (workdir / f"{name}.jsonl").read_text().splitlines()
  ]


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_a_search_of_two_processes_goes_on_as_if_nothing_had_been(
  tmp_path, devices
):
  if devices == 1:
    whole = [start([*COMMAND, f"--workdir={tmp_path / 'whole'}"], 2)]
  else:  # gloo sums more than two devices in another order than one process
    whole = together(tmp_path / "whole", devices)
  workdir = tmp_path / "two"
  first, second = processes = together(workdir, devices)
  wait_for_step(workdir, 8, processes)
  second.kill()
  statuses, outputs = ended(processes, 100)
  # One error reaches Python, the other only JAX's own watch.
  assert statuses[0] in (1, -signal.SIGABRT), outputs
  assert re.search("another (one has ended|task died)", outputs[0])

  first, second = processes = together(workdir, devices)
  wait_for_step(workdir, 20, processes)
  second.send_signal(signal.SIGTERM)
  statuses, outputs = ended(processes, 600)
  assert statuses == [143, 143], outputs
  assert "stopped by SIGTERM after step" in outputs[0]

  statuses, outputs = ended([*together(workdir, devices), *whole], 600)
  assert not any(statuses), outputs
  assert "genotype: Genotype(" in outputs[0]
  assert "genotype" not in outputs[1]  # process 0 speaks
  assert records(workdir) == records(tmp_path / "whole")
  assert {path.name for path in workdir.iterdir()} == {
    path.name for path in (tmp_path / "whole").iterdir()
  }


@pytest.mark.slow
def test_each_of_two_processes_reads_its_share_of_a_folder(tmp_path):
  rng = np.random.default_rng(0)
  for part, count in (("train", 24), ("val", 8)):
    for label in range(3):
      folder = tmp_path / "images" / part / f"class{label}"
      folder.mkdir(parents=True)
      for i in range(count):
        image = rng.integers(0, 120, (*rng.integers(20, 40, 2), 3), np.uint8)
        image[..., label] += 100
        Image.fromarray(image).save(folder / f"{i}.jpg")
  more = (
    *("--config.data.name=imagenet", f"--config.data.path={folder.parents[1]}"),
    *("--config.data.limit=0", "--config.data.size=32"),
    *("--config.data.workers=1", "--config.data.crop_area=0.5"),
    *("--config.train.batch=8", "--config.train.length=3 epochs"),
  )
  whole = start([*COMMAND, *more, f"--workdir={tmp_path / 'whole'}"], 2)
  statuses, outputs = ended(
    [*together(tmp_path / "two", 1, more), whole], 900
  )
  assert statuses == [0, 0, 0], outputs
  assert records(tmp_path / "two") == records(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gold-nas", "entrannas", "language search"])
def test_two_processes_search_as_one_with_two_devices_does(tmp_path, name):
  command = soak.command(name)
  whole = start([*command, f"--workdir={tmp_path / 'whole'}"], 2)
  statuses, outputs = ended(
    [*together(tmp_path / "two", 1, command=command), whole], 600
  )
  assert statuses == [0, 0, 0], outputs
  assert soak.differences(tmp_path / "whole", tmp_path / "two") == []
