"""Genotypes by name, from text, files and runs; the published cells."""

import json
import os

from made_up_genotypes import NAS_BENCH_201, STACK
import pytest

from jnas import genotype as genotype_lib

EVERY = [
  pytest.param(NAS_BENCH_201, id="nas-bench-201"),
  pytest.param(STACK, id="stack"),
  *(pytest.param(g, id=n) for n, g in genotype_lib.ZOO.items()),
  *(
    pytest.param(g, id=f"{n}-rnn")
    for n, g in genotype_lib.RECURRENT_ZOO.items()
  ),
]


@pytest.mark.parametrize("g", EVERY)
def test_zoo_round_trips(g):
  assert genotype_lib.validate(g) is g
  assert genotype_lib.parse(genotype_lib.format_text(g)) == g
  data = json.loads(json.dumps(genotype_lib.to_json(g)))
  assert genotype_lib.from_json(data) == g
  hash(g)


def test_zoo_holds_what_the_papers_print():
  assert (
    list(genotype_lib.ZOO)
    == (
      "DARTS_V1 DARTS_V2 PDARTS PC_DARTS_cifar PC_DARTS_image NASNet AmoebaNet "
      "GDAS_V1 GDAS_F1 GDAS_FG GDAS_GF PNASNet ENASNet SETN"
    ).split()
  )
  assert (
    list(genotype_lib.RECURRENT_ZOO) == "DARTS_V1 DARTS_V2 GDAS ENAS".split()
  )
  nasnet = genotype_lib.ZOO["NASNet"]
  assert len(nasnet.normal) == 10
  assert nasnet.reduce_concat == (4, 5, 6)
  # Both operators of a node may read the same input.
  assert nasnet.normal[6:8] == (("avg_pool_3x3", 0), ("avg_pool_3x3", 0))
  assert genotype_lib.ZOO["GDAS_F1"].reduce is None
  assert genotype_lib.RECURRENT_ZOO["ENAS"].concat == (2, 5, 6, 9, 10, 11)


def test_load_finds_all_kinds_of_sources(tmp_path):
  g = genotype_lib.ZOO["PDARTS"]
  text, data = genotype_lib.format_text(g), genotype_lib.to_json(g)
  run = tmp_path / "run"
  run.mkdir()
  line = {"genotype": data, "text": text, "step": 3, "epoch": 1}
  (run / "genotype.json").write_text(json.dumps(line))
  (tmp_path / "plain.json").write_text(json.dumps(data))
  (tmp_path / "cell.txt").write_text(f"best so far:\n{text}\n")
  for source in (
    "PDARTS",
    text,
    json.dumps(data),
    run,
    str(run / "genotype.json"),
    tmp_path / "plain.json",
    tmp_path / "cell.txt",
  ):
    assert genotype_lib.load(source) == g
  for other in (NAS_BENCH_201, STACK):
    line = {"genotype": genotype_lib.to_json(other)}
    line["text"] = genotype_lib.format_text(other)
    (run / "genotype.json").write_text(json.dumps(line))
    (tmp_path / "cell.txt").write_text(f"best so far:\n{line['text']}\n")
    assert genotype_lib.load(run) == other
    assert genotype_lib.load(tmp_path / "cell.txt") == other
  assert genotype_lib.load("ENAS", recurrent=True).recurrent[0] == ("tanh", 0)


@pytest.mark.parametrize(
  "source, words",
  [
    ("DARTSV2", "did you mean 'DARTS_V2'"),
    ("", "Expected a genotype"),
    ("x" * 5000, "Expected a genotype"),
    ("\0", "Expected a genotype"),
    ('{"normal"', "the JSON text"),
    ("{tmp}", "no file .*genotype.json"),
    ("{tmp}/half.json", "half.json, got text that is neither"),
    ("{tmp}/wrong.json", "missing field 'normal_concat'"),
  ],
)
def test_load_explains_what_is_wrong(tmp_path, source, words):
  (tmp_path / "half.json").write_text('{"genotype": {"normal": [["skip_c')
  (tmp_path / "wrong.json").write_text('{"genotype": {"normal": []}}')
  with pytest.raises(ValueError, match=words):
    genotype_lib.load(source.replace("{tmp}", str(tmp_path)))


@pytest.mark.parametrize(
  "content",
  [
    "x" * 10**7,
    "{" * 10**5,
    "[" * 10**5,
    '{"recurrent": ' + "9" * 5000 + "}",
    '{"genotype": {"recurrent": 3, "concat": "\\ud800"}}',
    "Genotype(" + "x" * 10**7,
    "3",
    "\0",
  ],
  ids=range(8),
)
def test_odd_files_are_one_short_message(tmp_path, content):
  path = tmp_path / "genotype.json"
  path.write_text(content)
  for source in (path, tmp_path, content):
    with pytest.raises(ValueError, match="Expected|The genotype has") as error:
      genotype_lib.load(source)
    assert len(str(error.value)) <= 2000


@pytest.mark.parametrize("source", ["/dev/zero", "pipe", "a\0b", "y" * 10**5])
def test_no_regular_file(tmp_path, monkeypatch, source):
  monkeypatch.chdir(tmp_path)
  os.mkfifo("pipe")
  with pytest.raises(ValueError, match="Expected a genotype: a path") as error:
    genotype_lib.load(source)
  assert len(str(error.value)) <= 2000
