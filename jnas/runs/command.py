"""The command lines of programs that are not runs."""

import argparse
from collections.abc import Sequence
import sys
from typing import NoReturn


class _Parser(argparse.ArgumentParser):
  """Whose errors are one sentence, without the usage."""

  def error(self, message: str) -> NoReturn:
    self.exit(2, f"{self.prog.removeprefix('jnas ')}: {message}\n")


def parser(name: str, doc: str | None) -> argparse.ArgumentParser:
  """Returns the parser of `jnas NAME`.

  Args:
    name: of the command.
    doc: of its module, which is what --help tells.
  """
  return _Parser(
    prog=f"jnas {name}",
    description=doc,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )


def parse(
  parser: argparse.ArgumentParser, words: Sequence[str] | None
) -> tuple[argparse.Namespace, list[str]]:
  """Returns the options, and all else: fields "--config.NAME=VALUE", mistakes.

  Args:
    parser: of the options.
    words: of the command line; None for that of the process.
  """
  words = sys.argv[1:] if words is None else words
  # One with spaces in it argparse takes for an argument without a flag.
  fields = [word for word in words if word.startswith("--config.")]
  rest = [word for word in words if not word.startswith("--config.")]
  options, odd = parser.parse_known_args(rest)
  return options, odd + fields
