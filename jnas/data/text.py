"""Texts as sequences of tokens: `load`.

At the level of words a line is its words, parted by white space, and "<eos>";
at that of characters every character is a token, line ends too. The vocabulary
is that of the training text, in order of first appearance. What only other
texts have becomes "<unk>", and is counted.
"""

from collections.abc import Sequence
import os
import pathlib
from typing import NamedTuple

import numpy as np

from jnas.data import archives, limits

LEVELS = ("word", "character")
END, UNKNOWN = "<eos>", "<unk>"
SPLITS = ("train", "valid", "test")
_SHARES = (0.9, 0.95)  # of one text: training ends, validation ends


class TextData(NamedTuple):
  """A text in three parts.

  Attributes:
    train: [N], int32.
    valid: [N], int32.
    test: [N], int32.
    vocabulary: the tokens, by number.
    unknown: how many tokens of valid and of test are not in the training text.
    characters: of each of the three, by which bits per character count.
    level: "word" or "character".
  """

  train: np.ndarray
  valid: np.ndarray
  test: np.ndarray
  vocabulary: tuple[str, ...]
  unknown: tuple[int, int]
  characters: tuple[int, int, int]
  level: str

  def text(self, tokens: np.ndarray) -> str:
    """The text of some tokens, as one would read it."""
    return joined(tokens, self.vocabulary, self.level)


def load(
  path: str | os.PathLike[str] = "", level: str = "word", limit: int = 0
) -> TextData:
  """Returns the text at a path.

  Args:
    path: a folder with train.txt, valid.txt and test.txt; or one file, whose
      last twentieth is for the test and the one before it for validation; or
      "" for the help texts that come with Python.
    level: "word" or "character".
    limit: training tokens that are kept, the first ones; 0 keeps all. The
      vocabulary is of those.

  Raises:
    FileNotFoundError, ValueError: with what was expected, what was found and
      what to do.
  """
  if level not in LEVELS:
    raise ValueError(f"expected a level, word or character; got {level!r}")
  with limits.short_errors():
    texts = _texts(path)
    parts = [_tokens(text, level) for text in texts]
    parts[0] = parts[0][: limit or None]
    return _numbered(parts, tuple(map(len, texts)), level)


def from_string(text: str, level: str = "word", limit: int = 0) -> TextData:
  """A text that is at hand; the last tenth is held out, as that of one file."""
  texts = _parts(text)
  parts = [_tokens(part, level) for part in texts]
  if not all(parts):
    raise ValueError(
      f"expected a text that can be parted in three; found {len(text):,} "
      "characters. Give more."
    )
  parts[0] = parts[0][: limit or None]
  return _numbered(parts, tuple(map(len, texts)), level)


def joined(tokens: np.ndarray, vocabulary: Sequence[str], level: str) -> str:
  """The text of some tokens, as one would read it.

  >>> joined([1, 0, 1], ("<eos>", "so"), "word")
  'so\\nso'
  """
  words = [vocabulary[i] for i in tokens]
  if level == "character":
    return "".join(words)
  lines = " ".join("\n" if word == END else word for word in words)
  return lines.replace(" \n", "\n").replace("\n ", "\n")


def encode(text: str, vocabulary: Sequence[str], level: str) -> np.ndarray:
  """The tokens of a text, [N]; what is not in the vocabulary is "<unk>".

  >>> encode("so so", ("<eos>", "so"), "word").tolist()
  [1, 1, 0]

  Raises:
    ValueError: a token is unknown, and the vocabulary has no "<unk>".
  """
  numbers = {token: i for i, token in enumerate(vocabulary)}
  found = _tokens(text, level)
  if UNKNOWN not in numbers and (odd := sorted(set(found) - set(numbers))):
    raise ValueError(
      f"expected tokens of the vocabulary, which has no {UNKNOWN}; found "
      f"{', '.join(map(repr, odd[:5]))}"
    )
  default = numbers.get(UNKNOWN)
  return np.asarray([numbers.get(token, default) for token in found], np.int32)


def _texts(path: str | os.PathLike[str]) -> tuple[str, str, str]:
  if not str(path):
    from pydoc_data import topics

    return _parts("".join(text for _, text in sorted(topics.topics.items())))
  root = archives.existing(path, "a text file, or a folder with three")
  if root.is_file():
    return _parts(_read(root))
  files = [root / f"{split}.txt" for split in SPLITS]
  if missing := [file.name for file in files if not file.exists()]:
    raise FileNotFoundError(
      "expected a text file, or a folder with train.txt, valid.txt and "
      f"test.txt; found no {' and no '.join(missing)} at {limits.shown(root)}. "
      "Give the path of a text."
    )
  return tuple(map(_read, files))


def _parts(text: str) -> tuple[str, str, str]:
  """One text in three, parted at the ends of lines where there are any."""
  ends = []
  for share in _SHARES:
    end = round(share * len(text))
    line = text.rfind("\n", ends[-1] if ends else 0, end)
    ends.append(line + 1 if line > 0 else end)
  return text[: ends[0]], text[ends[0] : ends[1]], text[ends[1] :]


def _read(file: pathlib.Path) -> str:
  with limits.open_regular(file) as stream:
    raw = limits.read(stream, "bytes of a file", file)
  if (zero := raw.find(b"\0")) >= 0:
    raise ValueError(
      f"expected a text at {limits.shown(file)}; found a byte of zero at "
      f"{zero:,}, as binary files have. Give a text file in UTF-8."
    )
  try:
    text = raw.decode("utf-8-sig")
  except UnicodeDecodeError as error:
    raise ValueError(
      f"expected a text in UTF-8 at {limits.shown(file)}; found byte "
      f"0x{raw[error.start]:02x} at {error.start:,}. Convert it, for instance "
      "with iconv -f latin1 -t utf-8."
    ) from error
  if not text.strip():
    raise ValueError(
      f"expected a text at {limits.shown(file)}; found "
      f"{'white space alone' if text else 'an empty file'}. Give another file."
    )
  return text.replace("\r\n", "\n")


def _tokens(text: str, level: str) -> list[str]:
  if level == "character":
    return list(text)
  # Not splitlines, which knows more ends of lines than files have.
  lines = text.removesuffix("\n").split("\n")
  return [token for line in lines for token in (*line.split(), END)]


def _numbered(
  parts: list[list[str]], characters: tuple[int, int, int], level: str
) -> TextData:
  numbers: dict[str, int] = {}
  for token in parts[0]:
    numbers.setdefault(token, len(numbers))
  unknown = [sum(token not in numbers for token in part) for part in parts[1:]]
  if any(unknown):
    numbers.setdefault(UNKNOWN, len(numbers))
  default = numbers.get(UNKNOWN)
  arrays = [
    np.asarray([numbers.get(token, default) for token in part], np.int32)
    for part in parts
  ]
  return TextData(
    *arrays, tuple(numbers), tuple(unknown), characters, level
  )
