"""What the text of a compiled program says: cycles, loops, collectives.

The text is that of `jax.stages.Compiled.as_text()`, after all of the
compiler's passes. Nothing is run, and the device need not be there.
"""

from collections.abc import Iterator, Mapping
import contextlib
import fractions
import math
import re
from typing import NamedTuple

import jax

_HEAD = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(
  r"^\s+(ROOT )?%?([\w.-]+) = (.*?) ([a-z][\w-]*)\(([^)]*)\)(.*)$"
)
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_BODY = re.compile(r"\bbody=%?([\w.-]+)")
_CONDITION = re.compile(r"\bcondition=%?([\w.-]+)")
_CALLED = re.compile(r"\bto_apply=%?([\w.-]+)")
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
_EITHER = re.compile(r"\b(?:true|false)_computation=%?([\w.-]+)")
_ARRAY = re.compile(r"\b(pred|bf16|[a-z]\d+)(?:e\dm\d\w*)?\[([\d,]*)\]")
_SHARE = re.compile(r'one_of_(\d+)_rounds\)*/[^/"]*"')
_INDEX = re.compile(r"\bindex=(\d+)")
_NAME = re.compile(r"%([\w.-]+)")
_FUSED = re.compile(r"\bcalls=%?([\w.-]+)")
# What does nothing by itself when it runs.
_FREE = (
  *("parameter", "constant", "tuple", "get-tuple-element", "bitcast"),
  *("after-all", "partition-id", "replica-id"),
)
# What reads a part of its first operand, and what writes into one.
_SLICES = ("dynamic-slice", "slice", "gather")
_UPDATE = "dynamic-update-slice"
_COPIES = ("copy", "copy-start", "copy-done", "bitcast")
_COLLECTIVES = (
  "all-reduce",
  "all-gather",
  "all-to-all",
  "collective-permute",
  "reduce-scatter",
)


class _Instruction(NamedTuple):
  """One line: its result's type, operation, operands, and what follows."""

  shape: str
  op: str
  operands: str
  rest: str

  @property
  def names(self) -> list[str]:
    """The operands."""
    return _NAME.findall(self.operands)


class _Computation(NamedTuple):
  """Instructions by name, and the name of the last one."""

  instructions: dict[str, _Instruction]
  root: str

  def source(self, name: str) -> _Instruction | None:
    """What a name is a copy of."""
    found = self.instructions.get(name)
    while found and found.op in _COPIES and found.names:
      found = self.instructions.get(found.names[0])
    return found

  def element(self, name: str, at: int) -> _Instruction | None:
    """What an element of a tuple is a copy of."""
    found = self.source(name)
    if found is None or found.op != "tuple" or at >= len(found.names):
      return None
    return self.source(found.names[at])


  def size(self, name: str) -> int:
    """Bytes of a value."""
    found = self.instructions.get(name)
    return _bytes(found.shape) if found else 0

  def read(self, name: str) -> int:
    """Bytes of a value that are read: those of its slices, if all are such."""
    total = 0
    for own, user in self.instructions.items():
      if name not in user.names:
        continue
      first = user.names[0] == name and name not in user.names[1:]
      if user.op == "bitcast":
        total += self.read(own)
      elif first and user.op in _SLICES:
        total += _bytes(user.shape)
      elif not (first and user.op == _UPDATE):
        return self.size(name)
    return total

  def written(self, name: str) -> int:
    """Bytes of a result that are written: those of an update, if it is one."""
    found = self.source(name)
    updates = found is not None and found.op == _UPDATE
    return self.size(found.names[1] if updates else name)


_Computations = Mapping[str, _Computation]


class Work(NamedTuple):
  """What one call of a program does, on one device.

  Attributes:
    cycles: the sum of the compiler's estimates, which TPUs' alone makes;
      instructions that it says nothing of count as none.
    collectives: how many are started.
    collective_bytes: of their results.
    kernels: operations that are started one after another: on GPUs kernels and
      calls of libraries.
    moved_bytes: of what these read and write, as if nothing stayed in caches;
      of an array of which they read or write a slice, the slice.
    unknown_loops: loops whose length the text doesn't say; what is in them
      counts once.
  """

  cycles: int = 0
  collectives: int = 0
  collective_bytes: int = 0
  kernels: int = 0
  moved_bytes: int = 0
  unknown_loops: int = 0

  def __add__(self, other: "Work") -> "Work":
    return Work(*(a + b for a, b in zip(self, other, strict=True)))

  def times(self, trips: int | fractions.Fraction) -> "Work":
    """This work, so many times; a loop in a loop is still one loop."""
    counts = (trips * n for n in self[:-1])
    return Work(*counts, self.unknown_loops)


def work(text: str) -> Work:
  """What one call of a program does: loops count as often as they go round.

  Of the branches of a conditional that with the most cycles counts, a share of
  it where `one_of_rounds` says so. What a fusion holds counts by the fusion's
  own estimate.

  Args:
    text: of the compiled program.

  Raises:
    ValueError: there is no entry computation in it.
  """
  computations = dict(_computations(text))
  if "" not in computations:
    raise ValueError(
      "expected the text of a compiled program, with an ENTRY computation, "
      f"got {text[:60]!r}"
    )
  return Work(*map(round, _of("", computations, {})))


def one_of_rounds(count: int) -> contextlib.AbstractContextManager[None]:
  """A context for a `lax.cond` that is true in one of so many rounds of a loop.

  The compiled program keeps its name, by which `work` counts it once.
  """
  return jax.named_scope(f"one_of_{count}_rounds")


def _computations(text: str) -> Iterator[tuple[str, _Computation]]:
  """Yields name, "" for the entry, and content of each computation."""
  name, found, root = None, {}, ""
  for line in text.splitlines():
    if head := _HEAD.match(line):
      name, found, root = "" if head[1] else head[2], {}, ""
    elif line == "}" and name is not None:
      yield name, _Computation(found, root)
      name = None
    elif instruction := _INSTRUCTION.match(line):
      last, own, *parts = instruction.groups()
      found[own] = _Instruction(*parts)
      root = own if last else root


def _of(name: str, computations: _Computations, known: dict[str, Work]) -> Work:
  if name not in known:
    inside = computations.get(name, _Computation({}, ""))
    parts = (
      _instruction(each, inside, computations, known)
      for each in inside.instructions.values()
    )
    known[name] = sum(parts, Work())
  return known[name]


def _instruction(
  found: _Instruction,
  inside: _Computation,
  computations: _Computations,
  known: dict[str, Work],
) -> Work:
  def sum_of(names: list[str]) -> Work:
    return sum((_of(n, computations, known) for n in names), Work())

  if found.op == "while":
    names = _CONDITION.findall(found.rest) + _BODY.findall(found.rest)
    trips = _trips(found, inside, computations)
    if trips is None:
      return sum_of(names) + Work(unknown_loops=1)
    return sum_of(names).times(trips)
  if found.op == "call":
    return sum_of(_CALLED.findall(found.rest))
  if found.op == "conditional":
    names = _EITHER.findall(found.rest)
    for group in _BRANCHES.findall(found.rest):
      names += _NAME.findall(group)
    most = max((sum_of([each]) for each in names), default=Work())
    share = _SHARE.search(found.rest)
    return most.times(fractions.Fraction(1, int(share[1]))) if share else most
  cycles = _CYCLES.search(found.rest)
  own = Work(cycles=int(cycles[1]) if cycles else 0)
  # Of an asynchronous one the start counts, and its end is another operation.
  if found.op.removesuffix("-start") in _COLLECTIVES:
    own += Work(collectives=1, collective_bytes=_bytes(found.shape))
  if found.op in _FREE or found.op.endswith("-done"):
    return own
  fused = _FUSED.search(found.rest) if found.op == "fusion" else None
  body = computations.get(fused[1]) if fused else None
  return own + Work(kernels=1, moved_bytes=_moved(found, inside, body))


def _moved(
  found: _Instruction, inside: _Computation, fused: _Computation | None
) -> int:
  """Bytes that an operation reads and writes.

  Args:
    found: the operation.
    inside: the computation that it is in.
    fused: the one that it holds, if it is a fusion.
  """
  if fused is None:
    operands = filter(None, map(inside.instructions.get, found.names))
    if found.op in _SLICES:
      return 2 * _bytes(found.shape)
    if found.op == _UPDATE:
      return 2 * inside.size(found.names[1])
    return _bytes(found.shape) + sum(_bytes(o.shape) for o in operands)
  read = sum(
    fused.read(name)
    for name, each in fused.instructions.items()
    if each.op == "parameter"
  )
  root = fused.source(fused.root)
  names = root.names if root and root.op == "tuple" else [fused.root]
  return read + sum(map(fused.written, names))


def _trips(
  loop: _Instruction, inside: _Computation, computations: _Computations
) -> int | None:
  """How often a loop goes round; None where the text doesn't show it.

  CPU's compiler says it. TPU's leaves a counter that goes up by one from a
  constant while it is less than another one.
  """
  if said := _TRIPS.search(loop.rest):
    return int(said[1])
  parts = [p.search(loop.rest) for p in (_CONDITION, _BODY)]
  condition, body = (computations.get(p[1]) if p else None for p in parts)
  if condition is None or body is None:
    return None
  test = condition.source(condition.root)
  if test is None or test.op != "compare" or "direction=LT" not in test.rest:
    return None
  counter, limit = (condition.source(name) for name in test.names)
  if (at := _position(counter)) is None:
    return None
  after = body.element(body.root, at)
  if after is None or after.op != "add":
    return None
  before, by = (body.source(name) for name in after.names)
  if _position(before) != at:
    before, by = by, before
  start = inside.element(loop.names[0], at) if loop.names else None
  first, last = _number(start), _number(limit)
  if _position(before) != at or _number(by) != 1 or None in (first, last):
    return None
  return max(last - first, 0)


def _position(found: _Instruction | None) -> int | None:
  """Which element of a tuple this is; None if it is none."""
  if found is None or found.op != "get-tuple-element":
    return None
  index = _INDEX.search(found.rest)
  return int(index[1]) if index else None


def _number(found: _Instruction | None) -> int | None:
  """The value of a constant integer; None of anything else."""
  if found is None or found.op != "constant":
    return None
  return int(found.operands) if re.fullmatch(r"-?\d+", found.operands) else None


def _bytes(shape: str) -> int:
  """Bytes of the arrays of a type.

  >>> _bytes("(f32[2,3]{1,0:T(8,128)}, bf16[4], pred[])")
  33
  """
  return sum(
    (1 if kind == "pred" else max(int(re.sub(r"\D", "", kind)) // 8, 1))
    * math.prod(map(int, filter(None, sizes.split(","))))
    for kind, sizes in _ARRAY.findall(shape)
  )
