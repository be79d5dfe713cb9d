"""The command lines of programs that are not runs."""

import argparse
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
