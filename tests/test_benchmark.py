"""Tests of tabular benchmarks: made-up tables, and the real one."""

import gzip

import pytest

from jnas import genotype as genotype_lib
from jnas.data import benchmark

HEAD = "index,architecture,cifar10_12,cifar10_200"
SMALL = f"{HEAD}\n0,|a~0|,50.5,90\n1,|b~0|,40,80.25\n\n"


def write(path, text=SMALL):
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  return path


@pytest.mark.parametrize(
  "content",
  [
    SMALL,
    gzip.compress(SMALL.encode(), mtime=0),
    SMALL.replace("\n", "\r\n"),
    "\ufeff" + SMALL,
    'architecture,cifar10_12,cifar10_200\n"|a~0|",50.5,90\n|b~0|,40,80.25',
  ],
)
def test_table(tmp_path, content):
  table = benchmark.load(write(tmp_path / "table", content))
  assert table.columns == ("cifar10_12", "cifar10_200")
  assert list(table.rows) == ["|a~0|", "|b~0|"]
  assert table.accuracy("|b~0|", "cifar10_200") == pytest.approx(0.8025)
  assert table.accuracy(" |a~0|\n", "cifar10_12") == pytest.approx(0.505)
  assert table.best("cifar10_200") == pytest.approx(0.9)
  assert table.mean("cifar10_12") == pytest.approx(0.4525)


def test_what_is_not_in_the_table(tmp_path):
  table = benchmark.load(write(tmp_path / "table.csv"))
  with pytest.raises(ValueError, match=r"2 architectures .* got '\|c~0\|'"):
    table.accuracy("|c~0|", "cifar10_12")
  for ask in (table.best, table.mean, lambda c: table.accuracy("|a~0|", c)):
    with pytest.raises(ValueError, match="did you mean 'cifar10_200'"):
      ask("cifar_200")
  with pytest.raises(ValueError, match="cifar10_12, .*choose one of them"):
    table.best("mnist")


@pytest.mark.parametrize(
  "content, words",
  [
    ("", "first line with the column 'architecture'"),
    ("cell,cifar10_12\n|a~0|,5", "got 'cell, cifar10_12'"),
    ("index,architecture\n0,|a~0|", "columns of accuracies"),
    ("architecture,x,x\n|a~0|,5,5", "each once"),
    (HEAD, "got none after"),
    (f"{HEAD}\n0,|a~0|,50", "Expected 4 values in line 2 .* got 3"),
    (f"{HEAD}\n0,|a~0|,50,60,70", "got 5"),
    (f"{HEAD}\n0,|a~0|,fifty,60", "'cifar10_12' in line 2 .* got 'fifty'"),
    (f"{HEAD}\n0,|a~0|,50,nan", "got 'nan'"),
    (f"{HEAD}\n0,|a~0|,50,150", "got '150'"),
    (f"{SMALL}2,|a~0|,1,1", "got '|a~0|' again in line 5"),
    (b"\xff\xfe\x00", "UTF-8"),
    (gzip.compress(SMALL.encode(), mtime=0)[:-12], "truncated, damaged"),
  ],
)
def test_bad_tables_are_explained(tmp_path, content, words):
  with pytest.raises(ValueError, match=words.replace("|", r"\|")):
    benchmark.load(write(tmp_path / "table.csv", content))


def test_missing_file(tmp_path):
  with pytest.raises(FileNotFoundError, match="a csv or csv.gz file"):
    benchmark.load(tmp_path / "none.csv.gz")
  with pytest.raises(ValueError, match="got the folder"):
    benchmark.load(tmp_path)


def test_nas_bench_201(real_data):
  path = real_data / "nas_bench_201.csv.gz"
  if not path.is_file():
    pytest.skip(f"no table of NAS-Bench-201 in {real_data}")
  table = benchmark.load(path)
  assert len(table.rows) == 5**6
  assert table.best("cifar10_200") == pytest.approx(0.9447)
  assert table.mean("cifar10_200") == pytest.approx(0.8706, abs=5e-5)
  first = next(iter(table.rows))
  assert table.accuracy(first, "cifar10_12") == pytest.approx(0.6955)
  for text in table.rows:
    found = genotype_lib.parse(text)
    assert genotype_lib.format_text(found) == text
  nothing = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
  assert table.accuracy(nothing, "cifar10_200") == pytest.approx(0.1)
