"""Reading images from files: jnas's processes, and grain's.

  python -m benchmarks.images --workers=2 --steps=40

Both decode, crop and resize the same generated JPEGs of 500 x 375 pixels by the
same function, a batch of 32 a step. Of each it tells images a second, what the
processor has worked for them, what starting costs (a run of one step), the
memory of a worker, and what is left five seconds after a `kill -9`. grain's
rows need `pip install grain`.
"""

import argparse
from collections.abc import Iterator
import itertools
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import uuid

import numpy as np
from PIL import Image

from jnas.data import decoding

_BATCH, _FILES, _MARK = 32, 64, "JNAS_BENCHMARK_IMAGES"


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--workers", type=int, default=2)
  parser.add_argument("--steps", type=int, default=40)
  parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.run:
    how, folder = options.run
    batches = _READERS[how](folder, options.workers)
    for _ in range(abs(options.steps)):
      next(batches)
    if options.steps < 0:
      os.kill(os.getpid(), signal.SIGKILL)
    batches.close()
    # What has ended is counted; a process that tracks resources does not.
    until = time.monotonic() + 10
    while len(_marked(os.environ[_MARK])) > 1 and time.monotonic() < until:
      time.sleep(0.01)
    return
  with tempfile.TemporaryDirectory() as folder:
    _generate(pathlib.Path(folder))
    for how in _READERS:
      start, _, memory = _measure(how, folder, options.workers, 1)
      cpu, wall, _ = _measure(how, folder, options.workers, options.steps)
      images = (options.steps - 1) * _BATCH
      print(
        f"{how:>5}: {images / (cpu - start):.0f} images a second of processor "
        f"time, {options.steps * _BATCH / wall:.0f} a second as it is with "
        f"{options.workers} workers; to start {start:.1f} s of processor time "
        f"and {memory:.0f} MiB a worker; left after a kill: "
        f"{_left(how, folder, options.workers)} processes"
      )


def _generate(folder: pathlib.Path) -> None:
  rng = np.random.default_rng(0)
  for i in range(_FILES):
    coarse = rng.integers(0, 256, (30, 40, 3)).astype(np.uint8)
    image = Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC)
    image.save(folder / f"{i}.jpg", quality=90)


def _request(folder: str, step: int) -> decoding.Request:
  numbers = [(step * _BATCH + i) % _FILES for i in range(_BATCH)]
  names = [f"{number}.jpg".encode() for number in numbers]
  seeds = tuple((step, i) for i in range(_BATCH))
  return decoding.Request(folder, names, 224, 0.08, seeds)


def _own(folder: str, workers: int) -> Iterator[np.ndarray]:
  pool, coming = decoding.Decoders(workers), []
  for step in itertools.count():
    coming.append(pool.submit(_request(folder, step)))
    if step >= 2 * workers:
      yield coming.pop(0).result().images


def _grain(folder: str, workers: int) -> Iterator[np.ndarray]:
  from absl import flags
  import grain

  flags.FLAGS.mark_as_parsed()  # grain reads flags of its own
  options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
  found = (
    grain.MapDataset.range(10**6)
    .map(lambda step: decoding.decode(_request(folder, int(step))).images)
    .to_iter_dataset(options)
    .mp_prefetch(
      grain.MultiprocessingOptions(
        num_workers=workers, per_worker_buffer_size=2
      )
    )
  )
  iterator = iter(found)
  try:
    while True:
      yield np.asarray(next(iterator))
  finally:
    iterator.close()


_READERS = {"jnas": _own, "grain": _grain}


def _started(
  how: str, folder: str, workers: int, steps: int, mark: str
) -> subprocess.Popen:
  words = ["--run", how, folder, f"--workers={workers}", f"--steps={steps}"]
  return subprocess.Popen(
    [sys.executable, "-m", "benchmarks.images", *words],
    env=os.environ | {_MARK: mark},
    stderr=subprocess.DEVNULL,
  )


def _measure(
  how: str, folder: str, workers: int, steps: int
) -> tuple[float, float, float]:
  """Returns seconds of the processor and of the clock, and MiB of a worker."""
  mark, began, memory = uuid.uuid4().hex, time.monotonic(), 0.0
  process = _started(how, folder, workers, steps, mark)
  while True:
    pid, _, usage = os.wait4(process.pid, os.WNOHANG)
    if pid:
      break
    for other in _marked(mark):
      if other != process.pid:
        memory = max(memory, _resident(other))
    time.sleep(0.02)
  process.returncode = 0
  wall = time.monotonic() - began
  return usage.ru_utime + usage.ru_stime, wall, memory


def _left(how: str, folder: str, workers: int) -> int:
  mark = uuid.uuid4().hex
  _started(how, folder, workers, -2, mark).wait()
  time.sleep(5)
  left = _marked(mark)
  for pid in left:
    os.kill(pid, signal.SIGKILL)
  return len(left)


def _marked(mark: str) -> list[int]:
  """Returns the processes that a run has started, itself among them."""
  found = []
  for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
      environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
      continue
    if f"{_MARK}={mark}".encode() in environment:
      found.append(int(pid))
  return found


def _resident(pid: int) -> float:
  try:
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
      if line.startswith("VmHWM"):
        return int(line.split()[1]) / 1024
  except OSError:
    pass
  return 0.0


if __name__ == "__main__":
  main()
