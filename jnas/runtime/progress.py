"""What a person sees while a run runs.

On a terminal a bar; elsewhere (a log file, a batch job) one line an epoch,
and one every 30 seconds inside a long epoch.
"""

import sys
import time
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.text import Text

_PERIOD = 30.0  # seconds between lines of plain text
_REFRESH = 0.1  # seconds between changes of the bar's text


def number(name: str, value: Any) -> str:
  """Returns "name value", accuracies as percentages.

  Doctest:
    >>> number("valid_accuracy", 0.5), number("images_per_second", 1234.5)
    ('valid accuracy 50.0%', '1,234 images/s')
    >>> number("loss", 1.23456)
    'loss 1.235'
  """
  value = float(value)
  if name.endswith("accuracy"):
    return f"{name.replace('_', ' ')} {value:.1%}"
  if name.endswith("_per_second"):
    unit = name.removesuffix("_per_second").replace("_", " ")
    return f"{value:,.0f} {unit}/s" if value >= 10 else f"{value:.2f} {unit}/s"
  return f"{name.replace('_', ' ')} {value:.4g}"


def duration(seconds: float) -> str:
  """Returns the time in hours, minutes and seconds.

  Doctest:
    >>> duration(5), duration(65), duration(3725)
    ('0:05', '1:05', '1:02:05')
  """
  minutes, rest = divmod(int(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Progress:
  """Shows how far a run is.  Use as a context manager, or `close` it.

  Args:
    total_steps: steps of the whole run.
    steps_per_epoch: steps of one epoch.
    start: the step at which this process begins; not 0 on resume.
    title: what runs.
    enabled: False: plain lines even on a terminal.
    stream: where to; default standard output.
  """

  def __init__(
    self,
    total_steps: int,
    steps_per_epoch: int,
    start: int = 0,
    title: str = "",
    enabled: bool = True,
    stream: TextIO | None = None,
  ):
    self._total = total_steps
    self._per_epoch = max(steps_per_epoch, 1)
    # Of a length in steps a fraction too, so that a run ends at its last epoch.
    self._epochs = f"{total_steps / self._per_epoch:.4g}"
    self._title = title
    self._stream = sys.stdout if stream is None else stream
    self._step = start
    self._numbers: dict[str, Any] = {}
    # The clock starts at the first update: the step before it compiled.
    self._clock: tuple[int, float] | None = None
    self._printed = (start // self._per_epoch, time.monotonic())
    self._bar: Bar | None = None
    self._drawn = float("-inf")
    console = Console(file=self._stream)
    if enabled and self._stream.isatty() and not console.is_dumb_terminal:
      self._bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[text]}"),
        console=console,
        transient=True,
      )
      self._task = self._bar.add_task(
        title, total=total_steps, completed=start, text="compiling"
      )
      self._bar.start()

  def update(self, step: int, **numbers: Any) -> None:
    """Returns after showing that `step` steps are done.

    Args:
      step: steps done.
      **numbers: name -> scalar to show beside it; a name keeps its last value
        until it is given again.  An array on a device is waited for when it
        is shown, so give one only at the steps that fetch it anyway.
    """
    now = time.monotonic()
    self._step = step
    self._numbers.update(numbers)
    if self._clock is None:
      self._clock = (step, now)
    if self._bar is not None:
      if numbers or step >= self._total or now - self._drawn >= _REFRESH:
        self._drawn = now
        self._bar.update(self._task, completed=step, text=self._text(now))
      return
    epoch, printed = self._printed
    done = step // self._per_epoch
    if done > epoch or step >= self._total or now - printed >= _PERIOD:
      self._printed = (done, now)
      head = f"{self._title}: " if self._title else ""
      print(
        f"{head}step {step}/{self._total}, {self._text(now)}",
        file=self._stream,
        flush=True,
      )

  def begin(self, title: str) -> None:
    """Returns after saying that something else runs from now on."""
    self.say(title)
    self._title = title
    if self._bar is not None:
      self._bar.update(self._task, description=title)

  def say(self, text: str) -> None:
    """Returns after printing a line, above the bar if there is one."""
    if self._bar is not None:
      # Text, because a genotype's square brackets are not rich's markup.
      self._bar.console.print(Text(text), soft_wrap=True)
    else:
      print(text, file=self._stream, flush=True)

  def close(self) -> None:
    """Returns when the bar is gone; a line says where the run stands."""
    if self._bar is None:
      return
    text = f"step {self._step}/{self._total}, {self._text(time.monotonic())}"
    self._bar.stop()
    self._bar = None
    self.say(f"{self._title}: {text}" if self._title else text)

  def _text(self, now: float) -> str:
    epoch = self._step / self._per_epoch
    parts = [f"epoch {epoch:.4g}/{self._epochs}"]
    parts += [number(k, v) for k, v in self._numbers.items()]
    if self._clock is not None and self._total > self._step > self._clock[0]:
      pace = (now - self._clock[1]) / (self._step - self._clock[0])
      parts.append(f"{duration(pace * (self._total - self._step))} left")
    return ", ".join(parts)

  def __enter__(self) -> "Progress":
    return self

  def __exit__(self, *exception: object) -> None:
    self.close()
