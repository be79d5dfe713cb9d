"""The files of a run: JSON lines that grow, JSON records that are replaced."""

from collections.abc import Collection, Mapping
import json
import os
import pathlib
import re
import secrets
from typing import Any

from jnas.runtime import metrics

# Names of the files that `replace` has left where it was killed.
TEMPORARY = re.compile(r"\.[\w-]+\.jsonl?\.[0-9a-f]{16}")


def _plain(value: Any) -> Any:
  """Returns the value in types that JSON has.

  Arrays become numbers or nested lists.  JSON has neither NaN nor infinity,
  and other readers refuse Python's spelling: both become null.
  """
  if hasattr(value, "tolist"):
    value = value.tolist()
  if isinstance(value, Mapping):
    return {str(k): _plain(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [_plain(v) for v in value]
  if isinstance(value, float) and not -float("inf") < value < float("inf"):
    return None
  return value


def replace(path: pathlib.Path, data: bytes) -> None:
  """Returns when `path` holds `data`; at no moment does it hold a part."""
  # A new file of a name that cannot be guessed: no link waits there.
  temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
  try:
    with open(temporary, "xb") as file:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)
  # The rename itself is on disk once the directory is.
  directory = os.open(path.parent, os.O_RDONLY)
  try:
    os.fsync(directory)
  finally:
    os.close(directory)


def _kept(line: bytes, step: int) -> bool:
  """Returns whether the line is whole and no later than `step`."""
  try:
    record = json.loads(line)
  except (ValueError, RecursionError):
    return False
  at = record.get("step", step) if isinstance(record, dict) else None
  return isinstance(at, int | float) and at <= step


class Writer:
  """Writes the files of one run.  Use as a context manager, or `close` it.

  On resume call `rewind` with the step that was restored before writing.

  Args:
    workdir: the folder; it is made if need be.
    tensorboard: whether metrics are written for TensorBoard as well.
    own: names of metrics that only this run has.

  Raises:
    ValueError: `tensorboard` is asked for and tensorboardX is missing.
  """

  def __init__(
    self,
    workdir: str | os.PathLike,
    tensorboard: bool = False,
    own: Collection[str] = (),
  ):
    self.workdir = pathlib.Path(workdir)
    self.workdir.mkdir(parents=True, exist_ok=True)
    self._files: dict[str, Any] = {}
    self._own = frozenset(own)
    self._summary_writer = _tensorboard() if tensorboard else None
    self._summary: Any = None
    self._rewound: int | None = None

  def write(
    self, kind: str, step: int, epoch: float, values: Mapping[str, Any]
  ) -> None:
    """Returns when a line of metrics.jsonl is written.

    Args:
      kind: "step" or "epoch".
      step: steps done.
      epoch: epochs done, a fraction inside an epoch.
      values: declared metric -> scalar.

    Raises:
      ValueError: another kind, or a metric that is not declared.
    """
    if kind not in ("step", "epoch"):
      raise ValueError(f"kind: expected 'step' or 'epoch', got {kind!r}")
    metrics.check(values, self._own)
    numbers = {k: float(v) for k, v in values.items()}
    line = {"kind": kind, "step": int(step), "epoch": float(epoch)}
    self.append("metrics.jsonl", line | numbers)
    if self._summary_writer is not None:
      if self._summary is None:
        # purge_step hides what an interrupted run drew after its checkpoint.
        purge = None if self._rewound is None else self._rewound + 1
        self._summary = self._summary_writer(
          str(self.workdir / "tensorboard"), purge_step=purge
        )
      for name, value in numbers.items():
        self._summary.add_scalar(f"{kind}/{name}", value, int(step))

  def append(self, name: str, record: Mapping[str, Any]) -> None:
    """Returns when the record is a line of the file `name`, ".jsonl"."""
    _expect(name, ".jsonl")
    if name not in self._files:
      self._files[name] = open(self.workdir / name, "ab")
    line = json.dumps(_plain(record), allow_nan=False) + "\n"
    self._files[name].write(line.encode())
    self._files[name].flush()

  def put(self, name: str, record: Mapping[str, Any]) -> None:
    """Returns when the file `name`, ".json", holds the record.

    A reader, and a run that is killed, finds the old record or the new one.
    """
    _expect(name, ".json")
    text = json.dumps(_plain(record), indent=2, allow_nan=False) + "\n"
    replace(self.workdir / name, text.encode())

  def rewind(self, step: int) -> None:
    """Returns when no line of any .jsonl file is later than `step`.

    Half-written lines go too.  What a resumed run leaves is then what an
    uninterrupted one leaves.  `rewind(-1)` empties the files.
    """
    for file in self._files.values():
      file.close()
    self._files.clear()
    for path in sorted(self.workdir.glob("*.jsonl")):
      with open(path, "rb") as file:
        lines = [
          line.rstrip(b"\n") + b"\n" for line in file if _kept(line, step)
        ]
      if sum(map(len, lines)) != path.stat().st_size:
        replace(path, b"".join(lines))
    if self._summary is not None:
      self._summary.close()
      self._summary = None
    self._rewound = step

  def close(self) -> None:
    """Returns when all files are closed."""
    for file in self._files.values():
      file.close()
    self._files.clear()
    if self._summary is not None:
      self._summary.close()
      self._summary = None

  def __enter__(self) -> "Writer":
    return self

  def __exit__(self, *exception: object) -> None:
    self.close()


def _expect(name: str, suffix: str) -> None:
  if not name.endswith(suffix) or pathlib.PurePath(name).name != name:
    raise ValueError(
      f"name: expected a file name that ends in {suffix!r}, got {name!r}"
    )


def _tensorboard() -> Any:
  """Returns tensorboardX's writer class, imported only where it is used."""
  try:
    from tensorboardX import SummaryWriter
  except ImportError as error:
    raise ValueError(
      "log.tensorboard: expected the package tensorboardX, which is not "
      "installed; run `pip install 'jnas[tensorboard]'` or turn it off"
    ) from error
  return SummaryWriter
