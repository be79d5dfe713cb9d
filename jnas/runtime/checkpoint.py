"""Nothing is lost: checkpoints that are whole, or are not used.

A checkpoint is a folder `<directory>/<step>` that orbax writes in the
background: `state`, a tree of arrays, and `meta`, JSON.  Orbax notices a file
that is missing or short, but not one whose bytes have changed, and reports the
former in hundreds of lines.  So once it has finished, a list of its files with
their sizes and checksums is added: the seal.  A checkpoint is whole if it has
its seal and the files agree with it; no other is given to orbax to read.
Older ones are deleted only after a newer one is sealed.
"""

from collections.abc import Callable, Mapping
import functools
import json
import logging
import os
import pathlib
import shutil
import threading
from typing import Any
import warnings
import zlib

import jax
import numpy as np
import orbax.checkpoint as ocp

from jnas.runtime import hosts, parallel

_SEAL = "files.json"
_BROKEN = "broken"


class _Quiet(logging.Filter):
  """Drops what orbax says.

  It tells each step of what it does, warns of damage that is reported here in
  a line, and prints whole tracebacks of errors that it raises as well.
  """

  def filter(self, record: logging.LogRecord) -> bool:
    return "orbax" not in record.pathname


@functools.cache
def _hush() -> None:
  logging.getLogger("absl").addFilter(_Quiet())


def _leaves(state: Any) -> dict[str, str]:
  """Returns path -> "dtype[shape]" for each leaf of a tree of arrays."""
  leaves = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(state):
    name = jax.tree_util.keystr(path)
    dtype = getattr(leaf, "dtype", None)
    if dtype is None or jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
      raise ValueError(
        f"state{name}: expected an array of numbers, got "
        f"{type(leaf).__name__ if dtype is None else dtype}; numbers of "
        "Python belong into meta, and keys are drawn anew from the step"
      )
    leaves[name] = f"{dtype.name}{list(leaf.shape)}"
  return leaves


def _filled(tree: Any) -> Any:
  """Returns the tree with None for arrays of size 0, which orbax refuses."""
  return jax.tree.map(lambda leaf: leaf if leaf.size else None, tree)


def _sums(folder: pathlib.Path) -> dict[str, list[int]]:
  """Returns file -> [bytes, CRC-32] for all files of a checkpoint."""
  sums = {}
  for path in sorted(folder.rglob("*")):
    if path.is_file() and path != folder / _SEAL:
      size, crc = 0, 0
      with open(path, "rb") as file:
        while block := file.read(1 << 20):
          size, crc = size + len(block), zlib.crc32(block, crc)
      sums[path.relative_to(folder).as_posix()] = [size, crc]
  return sums


def _seal(folder: pathlib.Path) -> None:
  sums = _sums(folder)
  temporary = folder / f".{_SEAL}"
  with open(temporary, "w") as file:
    json.dump(sums, file)
    file.flush()
    os.fsync(file.fileno())
  os.replace(temporary, folder / _SEAL)


def _flaw(folder: pathlib.Path) -> str | None:
  """Returns what is wrong with a checkpoint, None if it is whole."""
  try:
    expected = json.loads((folder / _SEAL).read_text())
    found = _sums(folder)
    # What orbax or the system hides beside its files may come and go.
    unknown = [
      name
      for name in found.keys() - expected.keys()
      if not pathlib.PurePath(name).name.startswith(".")
    ]
    if unknown:
      return f"{_SEAL} does not list {min(unknown)}"
    for name, sums in expected.items():
      if name not in found:
        return f"{name} is missing"
      if found[name][0] != sums[0]:
        return f"{name} has {found[name][0]} bytes instead of {sums[0]}"
      if found[name] != sums:
        return f"{name} has changed since it was written"
  except FileNotFoundError:
    return "it was not finished"
  except (ValueError, AttributeError, TypeError, IndexError):
    return f"{_SEAL} is damaged"
  return None


class Checkpoints:
  """The checkpoints of one run, the newest `keep` of them.

  Of several processes the first writes, and all read.

  Args:
    directory: where; made if it is not there.
    keep: how many to keep, at least 1.
    read_only: whether nothing is made or tidied up there, for who looks at a
      run that may be under way.

  Raises:
    ValueError: `keep` is less than 1, or the directory is a file.
  """

  def __init__(
    self,
    directory: str | os.PathLike,
    keep: int = 2,
    read_only: bool = False,
  ):
    if keep < 1:
      raise ValueError(f"keep: expected at least 1 checkpoint, got {keep}")
    _hush()
    self.directory = pathlib.Path(directory).absolute()
    if self.directory.exists() and not self.directory.is_dir():
      raise ValueError(
        f"checkpoints: expected a folder {self.directory}, got a file; move "
        "it away"
      )
    self._keep = keep
    self._thread: threading.Thread | None = None
    self._error: BaseException | None = None
    if not read_only:
      self.directory.mkdir(parents=True, exist_ok=True)
    process = jax.process_index()
    # Orbax keeps all; `_finish` deletes, because a checkpoint may replace an
    # older one only once it is sealed.
    self._manager = ocp.CheckpointManager(
      self.directory,
      item_names=("state", "meta"),
      options=ocp.CheckpointManagerOptions(
        create=False,  # orbax refuses to, for one of several processes
        cleanup_tmp_directories=not read_only and not process,
        read_only=read_only,
        # Each process for itself: nothing is agreed on in the background,
        # while the processes agree on steps.
        multiprocessing_options=ocp.options.MultiprocessingOptions(
          primary_host=process, active_processes={process}
        ),
      ),
    )

  def save(self, step: int, state: Any, meta: Mapping[str, Any]) -> bool:
    """Returns once the state is copied; it is written in the background.

    The state may be donated at once.  The result is False, and nothing is
    written, if there is a checkpoint of this step already.  If the save
    before is still being written it is waited for.

    Args:
      step: steps done.
      state: tree of arrays; keys are no part of it (`jnas.runtime.keys`).
      meta: what is needed to rebuild the state's structure; JSON types.

    Raises:
      ValueError: a leaf of the state is not an array of numbers.
      OSError or ValueError: the save before this one failed.
    """
    self.wait()
    state = parallel.local(state)
    if jax.process_index() or step in self._manager.all_steps():
      return False
    record = {"meta": dict(meta), "leaves": _leaves(state)}
    self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(_filled(state)),
        meta=ocp.args.JsonSave(record),
      ),
      force=True,
    )
    # Not a daemon: the interpreter waits for it before it ends.
    self._thread = threading.Thread(target=self._finish, args=(step,))
    self._thread.start()
    return True

  def _finish(self, step: int) -> None:
    try:
      self._manager.wait_until_finished()
      _seal(self.directory / str(step))
      older = [s for s in self._manager.all_steps() if s < step]
      for old in sorted(older, reverse=True)[self._keep - 1 :]:
        self._manager.delete(old)
    except BaseException as error:  # raised again by `wait`
      self._error = error

  def wait(self) -> None:
    """Returns when no save is under way.

    Raises:
      OSError or ValueError: the last save failed.
    """
    if self._thread is not None:
      self._thread.join()
      self._thread = None
    if self._error is not None:
      error, self._error = self._error, None
      raise error

  def close(self) -> None:
    """Returns when no save is under way and orbax's threads are gone."""
    try:
      self.wait()
    finally:
      self._manager.close()

  def __enter__(self) -> "Checkpoints":
    return self

  def __exit__(self, *exception: object) -> None:
    self.close()

  def _steps(self) -> list[int]:
    """Returns the steps that have a folder, whole or not, newest first."""
    self.wait()
    return sorted(self._manager.all_steps(), reverse=True)

  def _read_meta(self, step: int) -> dict[str, Any]:
    return self._manager.restore(
      step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())
    ).meta

  def latest(self) -> tuple[int, dict[str, Any]] | None:
    """Returns (step, meta) of the newest whole checkpoint, None if none is.

    Of several processes all call it, and are told what the first finds.
    """

    def find() -> list[Any] | None:
      for step in self._steps():
        if _flaw(self.directory / str(step)) is None:
          return [step, self._read_meta(step)["meta"]]
      return None

    found = hosts.first(find)
    return None if found is None else (found[0], found[1])

  def restore(self, step: int, abstract_state: Any) -> Any:
    """Returns the state of the checkpoint of `step`, equal bit for bit.

    Args:
      step: of a checkpoint there is.
      abstract_state: its structure, from `jax.eval_shape`; a leaf that has a
        sharding is restored with it, the others onto the first device.

    Raises:
      ValueError: there is no such checkpoint, it is not whole, or the state
        has other leaves, shapes or dtypes than `abstract_state`.
    """
    self.wait()
    folder = self.directory / str(step)
    flaw = _flaw(folder) if folder.is_dir() else "there is none"
    if flaw is not None:
      raise ValueError(
        f"checkpoint {folder}: expected a whole one, but {flaw}; the steps "
        f"with a folder are {sorted(self._steps())}"
      )
    _check_structure(folder, self._read_meta(step)["leaves"], abstract_state)
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    target = jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(
        leaf.shape,
        leaf.dtype,
        sharding=getattr(leaf, "sharding", None) or here,
      ),
      abstract_state,
    )
    restored = self._manager.restore(
      step,
      args=ocp.args.Composite(state=ocp.args.StandardRestore(_filled(target))),
    ).state
    return jax.tree.map(
      lambda leaf, array: (
        array
        if leaf.size
        else jax.device_put(np.zeros(leaf.shape, leaf.dtype), leaf.sharding)
      ),
      target,
      restored,
    )

  def read(self, step: int) -> Any:
    """Returns the state of the checkpoint of `step` as nested dicts of numpy.

    For who knows names in the state and not its types; whatever devices it
    was on.
    """
    self.wait()
    folder = self.directory / str(step) / "state"
    with ocp.PyTreeCheckpointer() as reader:
      tree = reader.metadata(folder).item_metadata.tree
      arguments = jax.tree.map(
        lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree
      )
      return reader.restore(folder, restore_args=arguments)

  def restore_latest(
    self, make_abstract: Callable[[dict[str, Any]], Any]
  ) -> tuple[int, Any, dict[str, Any]] | None:
    """Returns (step, state, meta) of the newest whole checkpoint, or None.

    Newer ones that are not whole are warned about and moved into the folder
    `broken`, so that their steps can be saved again.

    Args:
      make_abstract: meta -> what `restore` takes as `abstract_state`.

    Raises:
      ValueError: the checkpoint does not have the structure that
        `make_abstract` says, or there are several and none is whole.
    """
    step = hosts.first(self._newest)
    if step is None:
      return None
    meta = self._read_meta(step)["meta"]
    return step, self.restore(step, make_abstract(meta)), meta

  def _newest(self) -> int | None:
    """The newest whole checkpoint; newer ones are moved away."""
    flaws: dict[pathlib.Path, str] = {}
    found = None
    for step in self._steps():
      folder = self.directory / str(step)
      flaw = _flaw(folder)
      if flaw is None:
        found = step
        break
      flaws[folder] = flaw
    if found is None and len(flaws) > 1:
      # One can be the first save of a run that was killed.  Several are a
      # fault of the disk; beginning again unasked would lose the run.
      listed = "; ".join(f"{k.name}: {v}" for k, v in flaws.items())
      raise ValueError(
        f"checkpoints {self.directory}: expected a whole one, found none "
        f"({listed}); restore the folder, or delete it to begin again"
      )
    for folder, flaw in flaws.items():
      warnings.warn(f"checkpoint {folder} skipped: {flaw}", stacklevel=3)
      target = self.directory / _BROKEN / folder.name
      shutil.rmtree(target, ignore_errors=True)
      target.parent.mkdir(exist_ok=True)
      os.replace(folder, target)
    if flaws:
      self._manager.reload()
    return found


def _check_structure(
  folder: pathlib.Path, stored: Mapping[str, str], abstract_state: Any
) -> None:
  """Returns nothing if the leaves agree; orbax would cast some that do not."""
  wanted = _leaves(abstract_state)
  problems = [
    f"{path}: stored {stored.get(path, 'nothing')}, "
    f"expected {wanted.get(path, 'nothing')}"
    for path in sorted(wanted.keys() | stored.keys())
    if wanted.get(path) != stored.get(path)
  ]
  if problems:
    more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
    raise ValueError(
      f"checkpoint {folder}: the state has another structure than this "
      f"program's: {'; '.join(problems[:5])}{more}; use the code and config "
      "that wrote it, or another workdir"
    )
