"""The configuration: fields, config files with overrides, checks.

Only `runs`, `main` and `api` see a ConfigDict; everything below takes plain
arguments.
"""

from jnas.config.checks import problems, validate
from jnas.config.durations import duration
from jnas.config.files import CONFIGS, adopt, load
from jnas.config.schema import CHOICES, Kind, base, declare, flatten, names
from jnas.config.tables import comparison

__all__ = [
  "CHOICES",
  "CONFIGS",
  "Kind",
  "adopt",
  "base",
  "comparison",
  "declare",
  "duration",
  "flatten",
  "load",
  "names",
  "problems",
  "validate",
]
