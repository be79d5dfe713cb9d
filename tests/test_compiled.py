"""What the text of a compiled program says, by a small one made up."""

import contextlib

import jax
from jax import lax
import jax.numpy as jnp
import pytest

from jnas.runtime import compiled

# Nested loops, as compilers write them: the outer one as TPU's, by a counter
# that is copied about, the inner one as CPU's, by a number.
TEXT = """\
HloModule made_up, is_scheduled=true

%fused (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %n = f32[8]{0} negate(%p), backend_config={"estimated_cycles":"900"}
}

%inner_body (i: (s32[], f32[8])) -> (s32[], f32[8]) {
  %i = (s32[], f32[8]{0}) parameter(0)
  %x = f32[8]{0:T(8,128)} get-tuple-element(%i), index=1
  %y = f32[8]{0:T(8,128)} fusion(%x), kind=kLoop, calls=%fused, \
backend_config={"estimated_cycles":"100"}
  %s = (f32[8]{0}, bf16[2,3]{1,0}) all-reduce-start(%y, %y), to_apply=%add
  %d = (f32[8]{0}, bf16[2,3]{1,0}) all-reduce-done(%s)
  ROOT %t = (s32[], f32[8]{0}) tuple(%i, %y)
}

%inner_condition (i: (s32[], f32[8])) -> pred[] {
  %i = (s32[], f32[8]{0}) parameter(0)
  ROOT %less = pred[] custom-call(%i), backend_config=\
{"estimated_cycles":"1"}
}

%body (o: (f32[8], s32[])) -> (f32[8], s32[]) {
  %o = (f32[8]{0}, s32[]) parameter(0)
  %k = s32[]{:T(128)} get-tuple-element(%o), index=1
  %kc = s32[]{:T(128)} copy(%k)
  %one = s32[]{:T(128)} constant(1)
  %next = s32[]{:T(128)} add(%kc, %one)
  %w = (s32[], f32[8]{0}) while(%o), condition=%inner_condition, \
body=%inner_body, backend_config={"known_trip_count":{"n":"7"}}
  %z = f32[8]{0} add(%w, %w), backend_config={"estimated_cycles":"10"}
  ROOT %t = (f32[8]{0}, s32[]) tuple(%z, %next)
}

%condition (o: (f32[8], s32[])) -> pred[] {
  %o = (f32[8]{0}, s32[]) parameter(0)
  %limit = s32[]{:T(128)} constant(5)
  %k = s32[]{:T(128)} get-tuple-element(%o), index=1
  ROOT %lt = pred[]{:T(512)} compare(%k, %limit), direction=LT
}

%cheap (c: f32[8]) -> f32[8] {
  ROOT %c = f32[8]{0} copy(%q), backend_config={"estimated_cycles":"2"}
}

%dear (c: f32[8]) -> f32[8] {
  ROOT %c = f32[8]{0} copy(%q), backend_config={"estimated_cycles":"3000"}
}

ENTRY %main (a: f32[8]) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  %zero = s32[]{:T(128)} constant(2)
  %zc = s32[]{:T(128)} copy(%zero), backend_config={"estimated_cycles":"4"}
  %start = (f32[8]{0}, /*index=1*/s32[]) tuple(%a, /*index=1*/%zc)
  %loop = (f32[8]{0}, s32[]) while(%start), condition=%condition, body=%body
  %called = f32[8]{0} call(%a), to_apply=%cheap
  ROOT %r = f32[8]{0} conditional(%p, %a, %a), \
branch_computations={%cheap, %dear}
}
"""
ROUND = 7 * (100 + 1) + 10  # of the outer loop
REST = 4 + 2 + 3000


def test_loops_in_loops_count_as_often_as_they_go_round():
  found = compiled.work(TEXT)
  assert found.cycles == 3 * ROUND + REST
  assert found.unknown_loops == 0


def test_an_asynchronous_collective_counts_once():
  found = compiled.work(TEXT)
  assert found.collectives == 3 * 7
  assert found.collective_bytes == 3 * 7 * (8 * 4 + 6 * 2)


def test_kernels_and_what_they_move_are_counted():
  found = compiled.work(TEXT)
  # y and s of the inner loop and its condition; kc, next and z of the outer
  # one and its condition; zc, and the copies in the call and the branch.
  assert found.kernels == 3 * (7 * 3 + 4) + 3
  inner = 2 * 32 + (32 + 12 + 2 * 32) + (1 + 4 + 32)
  assert inner == 209
  outer = (4 + 4) + 3 * 4 + (32 + 2 * 36) + (1 + 4 + 4)
  rest = (4 + 4) + 32 + 32
  assert found.moved_bytes == 3 * (7 * inner + outer) + rest


@pytest.mark.parametrize(
  "old, new",
  [
    ("%one = s32[]{:T(128)} constant(1)", "%one = s32[] constant(2)"),
    ("direction=LT", "direction=NE"),
    ("%limit = s32[]{:T(128)} constant(5)", "%limit = s32[] parameter(1)"),
    ("%zero = s32[]{:T(128)} constant(2)", "%zero = s32[] parameter(1)"),
    ("tuple(%z, %next)", "tuple(%z, %k)"),
  ],
)
def test_a_loop_of_unknown_length_counts_once_and_is_told(old, new):
  assert old in TEXT
  found = compiled.work(TEXT.replace(old, new))
  assert found.cycles == ROUND + REST
  assert found.unknown_loops == 1


def test_what_is_no_program_is_told():
  with pytest.raises(ValueError, match="ENTRY computation, got 'words'"):
    compiled.work("words")


def test_of_an_array_a_slice_is_moved():
  text = """\
%fused (p: f32[100,8], q: f32[50,8], r: s32[], c: f32[9]) -> f32[50,8] {
  %p = f32[100,8]{1,0} parameter(0)
  %q = f32[50,8]{1,0} parameter(1)
  %r = s32[] parameter(2)
  %c = f32[9]{0} parameter(3)
  %flat = f32[800]{0} bitcast(%p)
  %x = f32[8]{0} dynamic-slice(%flat, %r), dynamic_slice_sizes={8}
  %y = f32[1,8]{1,0} bitcast(%x)
  ROOT %u = f32[50,8]{1,0} dynamic-update-slice(%q, %y, %r, %r)
}

ENTRY %main (a: f32[100,8]) -> f32[50,8] {
  %a = f32[100,8]{1,0} parameter(0)
  %b = f32[50,8]{1,0} parameter(1)
  %k = s32[] parameter(2)
  %c = f32[9]{0} parameter(3)
  %s = f32[2,8]{1,0} dynamic-slice(%a, %k, %k), dynamic_slice_sizes={2,8}
  %o = f32[50,8]{1,0} dynamic-update-slice(%b, %s, %k, %k)
  ROOT %f = f32[50,8]{1,0} fusion(%a, %o, %k, %c), kind=kLoop, calls=%fused
}
"""
  alone = 2 * (2 * 8 * 4) + 2 * (2 * 8 * 4)
  # A row of p, the index, and the row that is written; c is read by nothing.
  assert compiled.work(text).moved_bytes == alone + 8 * 4 + 4 + 8 * 4


@pytest.mark.parametrize("mapped", [False, True])
def test_a_branch_of_one_round_of_a_loop_counts_once(mapped):
  def kernels(scope, size, rounds):
    x = jnp.ones((3, size, size) if mapped else (size, size))

    def level(x, flag):
      with scope:
        return lax.cond(flag, lambda: jnp.sin(x @ x @ x), lambda: x), None

    def run(x):
      return lax.scan(level, x, jnp.arange(rounds) == 1)[0]

    run = jax.vmap(run) if mapped else run
    text = jax.jit(run).lower(x).compile().as_text()
    return compiled.work(text).kernels

  # Of two sizes: JAX's cache would take what differs in scopes for the same.
  scopes = (compiled.one_of_rounds(2), 8), (contextlib.nullcontext(), 9)
  said, unsaid = (
    [kernels(*scope, rounds) for rounds in (2, 4)] for scope in scopes
  )
  branch = unsaid[0] - said[0]
  assert branch >= 3
  # Of four rounds in which it is told to be one of two, two.
  assert unsaid[1] - said[1] == 2 * branch
