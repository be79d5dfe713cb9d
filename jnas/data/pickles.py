"""Pickles of plain data, read without pickle: nothing of them is ever run.

A pickle is a program for a machine with a stack. This is that machine with
the operations that dicts, lists, strings, numbers and arrays of numbers need,
and stand-ins for the few functions of numpy that such pickles call. What it
builds is bounded by `limits`: by the number of operations and the bytes.
"""

import pickletools
from typing import Any

import numpy as np

from jnas.data import limits

_CONSTANTS = {
  "NONE": lambda: None,
  "NEWTRUE": lambda: True,
  "NEWFALSE": lambda: False,
  "EMPTY_LIST": list,
  "EMPTY_DICT": dict,
  "EMPTY_TUPLE": tuple,
}
_VALUES = frozenset(
  "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT UNICODE "
  "BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 "
  "BYTEARRAY8".split()
)
_STRINGS = frozenset(("STRING", "BINSTRING", "SHORT_BINSTRING"))  # Python 2's
_PUT = frozenset(("PUT", "BINPUT", "LONG_BINPUT"))
_GET = frozenset(("GET", "BINGET", "LONG_BINGET"))
_SINGLE = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARKED = frozenset(("LIST", "TUPLE", "DICT", "APPENDS", "SETITEMS"))


class _Refused(Exception):
  """What a pickle of plain data does not do."""


def read(name: str, contents: bytes) -> dict[str, Any]:
  """Returns the dict in a pickle of arrays, lists, strings and numbers.

  Keys are decoded to str; Python 2 strings among the values stay bytes.

  Args:
    name: of the file, for messages.
    contents: of the file.

  Raises:
    ValueError: anything else is in it (no code of it was run), it is cut, or
      it holds more than `limits` allows.
  """
  machine, most = _Machine(len(contents)), limits.budget("values of a pickle")
  try:
    for i, (operation, argument, _) in enumerate(pickletools.genops(contents)):
      if i >= most:
        limits.spend("values of a pickle", i + 1, name)
      machine.step(operation.name, argument)
    return {
      _decoded(key): value.value if isinstance(value, _Array) else value
      for key, value in machine.result().items()
    }
  except Exception as error:  # a damaged pickle raises nearly anything
    raise ValueError(
      "expected a pickled dict of arrays, lists, strings and numbers in "
      f"{limits.shown(name)}; found something else or a damaged one "
      f"({limits.cut(str(error), 600)}). None of its code was run. Download "
      "the official archive again."
    ) from error


def _decoded(key: Any) -> str:
  return key.decode() if isinstance(key, bytes) else key


class _Machine:
  """The stack and what goes with it."""

  def __init__(self, size: int):
    self.stack, self.marks, self.memo = [], [], {}
    # Text that is encoded once has no more bytes than it has in the pickle.
    self.bytes_left = size

  def result(self) -> dict[Any, Any]:
    """Returns what the pickle has built."""
    (found,) = self.stack
    if type(found) is not dict:
      raise _Refused(f"it holds a {type(found).__name__}")
    return found

  def step(self, name: str, argument: Any) -> None:
    """Carries out one operation."""
    stack = self.stack
    if name in _VALUES:
      stack.append(argument)
    elif name in _STRINGS:
      stack.append(argument.encode("latin1"))
    elif name in _CONSTANTS:
      stack.append(_CONSTANTS[name]())
    elif name in _PUT:
      self.memo[argument] = stack[-1]
    elif name == "MEMOIZE":
      self.memo[len(self.memo)] = stack[-1]
    elif name in _GET:
      stack.append(self.memo[argument])
    elif name == "MARK":
      self.marks.append(len(stack))
    elif name in _SINGLE:
      stack.append(tuple(self._pop(_SINGLE[name])))
    elif name in _MARKED:
      self._join(name, self._pop(len(stack) - self.marks.pop()))
    elif name == "APPEND":
      self._join("APPENDS", self._pop(1))
    elif name == "SETITEM":
      self._join("SETITEMS", self._pop(2))
    elif name == "GLOBAL":
      self._global(*argument.split(" "))
    elif name == "STACK_GLOBAL":
      self._global(*self._pop(2))
    elif name == "REDUCE":
      self._call(*self._pop(2))
    elif name == "BUILD":
      (state,) = self._pop(1)
      if not isinstance(stack[-1], _Dtype | _Array):
        raise _Refused(f"it sets the state of a {type(stack[-1]).__name__}")
      stack[-1].set_state(*state)
    elif name not in ("PROTO", "FRAME", "STOP"):
      raise _Refused(f"it does {name}")

  def _pop(self, count: int) -> list[Any]:
    if not 0 <= count <= len(self.stack):
      raise _Refused("it takes more than there is")
    found = self.stack[len(self.stack) - count :]
    del self.stack[len(self.stack) - count :]
    return found

  def _join(self, name: str, items: list[Any]) -> None:
    if name in ("LIST", "TUPLE"):
      self.stack.append(items if name == "LIST" else tuple(items))
      return
    if name == "DICT":
      self.stack.append({})
    target = self.stack[-1]
    if name == "APPENDS":
      if type(target) is not list:
        raise _Refused(f"it appends to a {type(target).__name__}")
      target += items
      return
    keys = items[::2]
    # Other keys might take forever to hash.
    if type(target) is not dict or not all(
      isinstance(key, str | bytes) for key in keys
    ):
      raise _Refused("it has keys that are no text")
    target.update(zip(keys, items[1::2], strict=True))

  def _global(self, module: str, name: str) -> None:
    if not (isinstance(module, str) and isinstance(name, str)):
      raise _Refused("it asks for what has no name")
    if (module, name) not in _ADMITTED:
      raise _Refused(f"it asks for {module}.{name}")
    self.stack.append(_ADMITTED[module, name])

  def _call(self, function: Any, arguments: Any) -> None:
    # On the stack, nothing but a stand-in can be called.
    if not callable(function) or type(arguments) is not tuple:
      raise _Refused("it calls something else than a function")
    found = function(*arguments)
    self.bytes_left -= len(found) if isinstance(found, bytes) else 0
    if self.bytes_left < 0:
      raise _Refused("it makes more bytes than it has")
    self.stack.append(found)


# The stand-ins. What can be built is numbers, and arrays of numbers whose bytes
# have the right length. What they are given may be anything: a tuple that holds
# another one twice, sixty deep, is never to be hashed or written.


class _Dtype:
  """A numpy dtype as pickled: a code, then a state with the byte order."""

  def __init__(self, code: Any, *_: Any):
    code = code.decode("latin1") if isinstance(code, bytes) else code
    if not (
      isinstance(code, str)
      and code[:1] in "buif"
      and code[1:] in ("1", "2", "4", "8")
    ):
      raise _Refused("it has a dtype that is not one of numbers")
    self.dtype = np.dtype(code)

  def set_state(self, _: Any, order: Any, *rest: Any) -> None:
    """Takes the byte order."""
    order = order.decode() if isinstance(order, bytes) else order
    if order not in ("<", ">", "|", "="):
      raise _Refused("it has another byte order")
    self.dtype = self.dtype.newbyteorder(order)


class _Array:
  """A numpy array as pickled: empty, then filled by its state."""

  def __init__(self, *_: Any):
    self.value = np.zeros((0,), np.uint8)

  def set_state(
    self, _: Any, shape: Any, dtype: Any, fortran: Any, raw: Any
  ) -> None:
    """Takes the contents."""
    self.value = _array(raw, dtype, shape, "F" if fortran else "C")


def _array(raw: Any, dtype: Any, shape: Any, order: str = "C") -> np.ndarray:
  if not (
    isinstance(dtype, _Dtype)
    and isinstance(raw, bytes | bytearray)
    and type(shape) is tuple
    and all(type(size) is int for size in shape)
  ):
    raise _Refused("it has an array of something else than numbers")
  return np.frombuffer(raw, dtype.dtype).reshape(shape, order=order)


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> _Array:
  array = _Array()
  array.value = _array(raw, dtype, shape, "F" if order in ("F", b"F") else "C")
  return array


def _scalar(dtype: Any, raw: Any) -> Any:
  return _array(raw, dtype, ())[()]


def _latin1(text: Any, encoding: Any) -> bytes:
  # How Python 3 writes bytes under the pickle protocols 0 to 2.
  if encoding not in ("latin1", b"latin1"):
    raise _Refused("it has text in another encoding")
  return text if isinstance(text, bytes) else text.encode("latin1")


_ADMITTED = {("_codecs", "encode"): _latin1}
for _numpy in ("numpy", "numpy.core", "numpy._core"):
  _ADMITTED |= {
    (f"{_numpy}.multiarray", "_reconstruct"): _Array,
    (f"{_numpy}.multiarray", "scalar"): _scalar,
    (f"{_numpy}.numeric", "_frombuffer"): _from_buffer,
    (_numpy, "ndarray"): _Array,
    (_numpy, "dtype"): _Dtype,
  }
