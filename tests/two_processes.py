"""One of two processes, for test_hosts.py: PORT INDEX FOLDER.

They take steps together and save as they go, until one of them is told to
stop; then that one dies.
"""

import json
import os
import pathlib
import signal
import sys
import traceback

from jax.sharding import PartitionSpec
import numpy as np

from jnas.runtime import checkpoint, hosts, parallel

WHOLE, SPLIT = PartitionSpec(), PartitionSpec(parallel.AXIS)


def refuse():
  raise ValueError("not here")


def main(port: str, index: int, folder: pathlib.Path) -> None:
  hosts.connect(f"127.0.0.1:{port}", 2, index)
  said = {"told": hosts.first(lambda: [f"by process {index}", None])}
  try:
    hosts.first(refuse)
  except ValueError as error:
    said["refused"] = str(error)
  said["same"] = hosts.same({"best": np.float32([index, -np.inf])})["best"]
  said["everywhere"] = [hosts.everywhere(flag) for flag in (True, index == 0)]
  mesh = parallel.mesh()
  total = parallel.replicate(np.float32(0), mesh)
  carry = parallel.place(np.arange(8.0, dtype=np.float32), mesh, SPLIT)

  def step(total, carry):
    return total + parallel.mean(carry.sum()), carry + 1

  take = parallel.shard_step(step, mesh, (WHOLE, SPLIT), (WHOLE, SPLIT), (0, 1))
  done = 0
  with checkpoint.Checkpoints(folder / "saved", keep=1) as saved:
    with hosts.Stop() as stop:
      while not stop.requested:
        total, carry = take(total, carry)
        done += 1
        if done % 4 == 0:
          saved.save(done, (total, carry), {"by": index})
        if done == 20 and index == 1:
          os.kill(os.getpid(), signal.SIGTERM)
    saved.save(done, (total, carry), {"by": index})
    like = (np.zeros((), np.float32), np.zeros(8, np.float32))
    said["latest"] = saved.latest()
    step, found, meta = saved.restore_latest(lambda meta: like)
    said |= {"done": done, "step": step, "meta": meta}
    said |= {"total": float(found[0]), "carry": found[1].tolist()}
  said["same"] = said["same"].tolist()
  (folder / f"said{index}").write_text(json.dumps(said))
  if index == 1:
    os.kill(os.getpid(), signal.SIGKILL)
  try:
    float(take(total, carry)[0])
  except Exception as error:
    print(f"error: {hosts.lost(error)}", file=sys.stderr)
    hosts.leave(1)


if __name__ == "__main__":
  try:
    main(sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3]))
  except Exception:
    traceback.print_exc()
    hosts.leave(1)
