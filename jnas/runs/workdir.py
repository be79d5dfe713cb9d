"""A run's directory: whose it is, and who may write there."""

from collections.abc import Iterator
import contextlib
import errno
import fcntl
import json
import pathlib
from typing import Any

import ml_collections

from jnas import config as config_lib
from jnas.runtime import hosts
from jnas.runtime.writer import TEMPORARY, Writer


def check(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> None:
  """Returns if this config may run in the directory, from its start or on.

  Raises:
    ValueError: it belongs to a run with another configuration, or to no run.
  """
  # By one process, before any of them writes.
  hosts.first(lambda: _check(config, workdir))


def _check(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> None:
  path = workdir / "config.json"
  if path.exists():
    try:
      record = json.loads(path.read_text())
      if not isinstance(record, dict):
        raise ValueError(f"it holds a {type(record).__name__}, no fields")
      # A field that jnas did not have then had what is now its default.
      old = _plain(config_lib.base()) | config_lib.flatten(record)
    except (ValueError, RecursionError) as error:
      raise ValueError(
        f"{path} is not readable as JSON ({error}); restore it, delete "
        f"{workdir}, or choose another --workdir"
      ) from error
    new = _plain(config)
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
  elif workdir.exists() and not all(map(_is_beginning, workdir.iterdir())):
    raise ValueError(
      f"{workdir} is not empty and holds no run (there is no config.json); "
      "choose another --workdir"
    )


def _plain(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns dotted name -> value as JSON has it: with lists, without tuples."""
  return config_lib.flatten(json.loads(json.dumps(config.to_dict())))


def _is_beginning(path: pathlib.Path) -> bool:
  """Whether a run that has no config.json yet can have made this."""
  if path.is_dir():
    return path.name == "checkpoints" and not any(path.iterdir())
  return path.name == ".lock" or bool(TEMPORARY.fullmatch(path.name))


def claim(config: ml_collections.ConfigDict, folder: pathlib.Path) -> None:
  """Makes a directory that of a run: the first thing that is written there.

  Inside of `alone` only: temporary files that a kill has left are deleted.

  Args:
    config: as `check` has accepted it.
    folder: the directory.
  """
  with Writer(folder) as writer:
    writer.put("config.json", config.to_dict())
  for path in folder.iterdir():
    if TEMPORARY.fullmatch(path.name):
      path.unlink(missing_ok=True)


def read(path: pathlib.Path) -> dict[str, Any]:
  """Returns the object in a JSON file; empty if there is none."""
  try:
    found = json.loads(path.read_text())
  except (OSError, ValueError, RecursionError):
    return {}
  return found if isinstance(found, dict) else {}


def finished(
  folder: pathlib.Path, task: str = "search"
) -> dict[str, Any] | None:
  """The result of a run that has ended, None if it must run."""
  # Several hosts must agree, and may not see the same files: a run that has
  # ended goes through all its steps in no time.
  if hosts.several() or not (folder / "report.html").exists():
    return None
  result = read(folder / "result.json")
  return result if result.get("task") == task else None


@contextlib.contextmanager
def claimed(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> Iterator[None]:
  """Makes a directory that of the run, and keeps others out.

  Raises:
    ValueError, OSError: see `check` and `alone`.
  """
  with alone(workdir):
    check(config, workdir)
    hosts.first(lambda: claim(config, workdir))
    yield


@contextlib.contextmanager
def alone(workdir: pathlib.Path) -> Iterator[None]:
  """Keeps a second process of the same command out of the directory.

  The lock is the operating system's: it is gone with the process, however
  that ends. Of several processes that run as one, the first has it.

  Raises:
    ValueError: another process is there.
    OSError: nothing can be written there, or the disk is full, whoever noticed
      it inside.
  """
  with enough_room(workdir), contextlib.ExitStack() as stack:
    hosts.first(lambda: _lock(workdir, stack))
    yield


def _lock(workdir: pathlib.Path, stack: contextlib.ExitStack) -> None:
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    file = stack.enter_context(open(workdir / ".lock", "a"))
  except OSError as error:
    if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
      raise
    raise OSError(
      f"{workdir} cannot be written to ({error.strerror}); choose another "
      "--workdir, or make it writable"
    ) from error
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError as error:
    raise ValueError(
      f"another process is running in {workdir}; wait for it, stop it, or "
      "choose another --workdir"
    ) from error


def taken(workdir: pathlib.Path) -> bool:
  """Whether a process is running in the directory."""
  try:
    with open(workdir / ".lock", "r+") as file:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except FileNotFoundError:
    return False
  except BlockingIOError:
    return True
  return False


@contextlib.contextmanager
def enough_room(workdir: pathlib.Path) -> Iterator[None]:
  """Turns what libraries say of a full disk into one sentence.

  Raises:
    OSError: the disk is full.
  """
  try:
    yield
  except Exception as error:
    if not _is_full(error):
      raise
    raise OSError(
      f"there is no room left on the disk of {workdir}; make some, and the "
      "same command goes on from the last checkpoint"
    ) from error


def _is_full(error: BaseException | None) -> bool:
  """Whether a full disk, or quota, is among the causes of an error."""
  while error is not None:
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
      return True
    # tensorstore has no error numbers.
    if "No space left on device" in str(error):
      return True
    error = error.__cause__ or error.__context__
  return False
