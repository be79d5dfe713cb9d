"""A run's directory: whose it is, and who may write there."""

from collections.abc import Iterator
import contextlib
import fcntl
import json
import pathlib

import ml_collections

from jnas import config as config_lib


def check(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> None:
  """Returns if this config may run in the directory, from its start or on.

  Raises:
    ValueError: it belongs to a run with another configuration, or to no run.
  """
  path = workdir / "config.json"
  if path.exists():
    try:
      old = config_lib.flatten(json.loads(path.read_text()))
    except ValueError as error:
      raise ValueError(
        f"{path} is not readable as JSON ({error}); restore it, delete "
        f"{workdir}, or choose another --workdir"
      ) from error
    # By way of JSON, which knows lists and no tuples.
    new = config_lib.flatten(json.loads(json.dumps(config.to_dict())))
    # How a run is logged does not change its numbers.
    changed = [
      f"  {name}: {old.get(name, 'missing')!r} there, "
      f"{new.get(name, 'missing')!r} here"
      for name in sorted(old.keys() | new.keys())
      if old.get(name) != new.get(name) and not name.startswith("log.")
    ]
    if changed:
      raise ValueError(
        f"{workdir} holds a run with another configuration:\n"
        + "\n".join(changed)
        + "\nTo go on with that run give the same configuration; to start "
        f"this one choose another --workdir, or delete {workdir}."
      )
  elif workdir.exists() and any(
    child.name != ".lock" for child in workdir.iterdir()
  ):
    raise ValueError(
      f"{workdir} is not empty and holds no run (there is no config.json); "
      "choose another --workdir"
    )


@contextlib.contextmanager
def alone(workdir: pathlib.Path, primary: bool) -> Iterator[None]:
  """Keeps a second process of the same command out of the directory.

  The lock is the operating system's: it is gone with the process, however
  that ends.
  """
  workdir.mkdir(parents=True, exist_ok=True)
  with open(workdir / ".lock", "a") as file:
    try:
      if primary:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise ValueError(
        f"another process is running in {workdir}; wait for it, stop it, or "
        "choose another --workdir"
      ) from error
    yield
