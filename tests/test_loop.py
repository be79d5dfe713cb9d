"""The loop: what is called when."""

from jnas.training import loop


class Recorder:
  """Writes down all that the loop calls; the state is a list of names."""

  def __init__(self, most=1, stop_at=None):
    self.most, self.stop_at = most, stop_at
    self.events, self.at = [], 0

  def hook(self, name, period, on_stop=False):
    def call(state, step):
      self.events.append((name, step))
      return (*state, f"{name}{step}")

    return loop.Hook(period, call, on_stop)

  def advance(self, state, step, most):
    done = min(self.most, most)
    self.events.append(("step", step, most))
    self.at = step + done
    return (*state, f"s{self.at}"), done, f"m{self.at}"

  def write(self, before, done, metrics):
    self.events.append(("write", before, done, metrics))

  def run(self, hooks, total, start=0):
    self.at = start
    return loop.run(
      (),
      start=start,
      total=total,
      hooks=hooks,
      advance=self.advance,
      write=self.write,
      stopping=lambda: self.at == self.stop_at,
    )


def named(events, *names):
  return [event for event in events if event[0] in names]


def test_a_step_is_written_then_evaluated_then_saved():
  r = Recorder()
  hooks = [r.hook("evaluate", 2), r.hook("save", 2)]
  state, step = r.run(hooks, total=3)
  assert r.events == [
    ("step", 0, 2), ("write", 0, 1, "m1"),
    ("step", 1, 1), ("write", 1, 1, "m2"), ("evaluate", 2), ("save", 2),
    ("step", 2, 1), ("write", 2, 1, "m3"), ("evaluate", 3), ("save", 3),
  ]
  assert step == 3
  # What a hook returns is the state of what follows.
  assert state == (
    "s1", "s2", "evaluate2", "save2", "s3", "evaluate3", "save3"
  )


def test_hooks_have_their_own_periods_and_all_come_at_the_end():
  r = Recorder()
  r.run([r.hook("a", 3), r.hook("b", 4), r.hook("end", 0)], total=10)
  assert [e[1] for e in named(r.events, "a")] == [3, 6, 9, 10]
  assert [e[1] for e in named(r.events, "b")] == [4, 8, 10]
  assert [e[1] for e in named(r.events, "end")] == [10]


def test_a_hook_due_at_the_end_is_called_once():
  r = Recorder()
  r.run([r.hook("a", 3)], total=6)
  assert [e[1] for e in named(r.events, "a")] == [3, 6]


def test_several_steps_at_once_never_pass_a_hook():
  r = Recorder(most=100)
  r.run([r.hook("a", 4), r.hook("b", 6)], total=14)
  writes = [event[1:3] for event in named(r.events, "write")]
  assert writes == [(0, 4), (4, 2), (6, 2), (8, 4), (12, 2)]
  for before, done in writes:
    assert loop.room([loop.Hook(4, None), loop.Hook(6, None)], before, 14) == (
      done
    )


def test_a_resumed_run_repeats_no_hook_and_equals_the_whole():
  whole, part = Recorder(), Recorder()
  whole.run([whole.hook("a", 3), whole.hook("save", 2)], total=9)
  part.run([part.hook("a", 3), part.hook("save", 2)], total=9, start=6)
  assert part.events[0] == ("step", 6, 2)
  cut = whole.events.index(("step", 6, 2))
  assert part.events == whole.events[cut:]


def test_a_run_that_is_over_does_nothing():
  r = Recorder()
  assert r.run([r.hook("a", 1, on_stop=True)], total=4, start=4) == ((), 4)
  assert r.events == []


def test_a_stop_calls_only_the_hooks_that_want_it():
  r = Recorder(stop_at=5)
  hooks = [
    r.hook("flush", 2, True), r.hook("evaluate", 4), r.hook("save", 0, True)
  ]
  _, step = r.run(hooks, total=20)
  assert step == 5
  assert r.events[-2:] == [("flush", 5), ("save", 5)]
  assert [e[1] for e in named(r.events, "evaluate")] == [4]


def test_a_stop_after_a_hook_does_not_call_it_twice():
  r = Recorder(stop_at=4)
  r.run([r.hook("save", 4, True), r.hook("flush", 3, True)], total=20)
  assert [e[1] for e in named(r.events, "save")] == [4]
  assert [e[1] for e in named(r.events, "flush")] == [3, 4]


def test_a_stop_after_the_last_step_is_no_stop():
  r = Recorder(stop_at=6)
  _, step = r.run([r.hook("evaluate", 4)], total=6)
  assert step == 6 and r.events[-1] == ("evaluate", 6)
