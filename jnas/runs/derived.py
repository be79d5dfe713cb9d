"""What becomes of the networks that the searches of a comparison derive.

A search ends with a genotype. Here the network of that genotype is measured,
and trained from scratch where the comparison wants it, in WORKDIR/<config
file>_<argument>/seed<k>/retrain: an ordinary run of task retrain.
"""

from collections.abc import Mapping, Sequence
import json
import math
import pathlib
from typing import Any

import jax
import ml_collections

from jnas import genotype as genotype_lib
from jnas.report import headline, records
from jnas.runs import dispatch, recipe
from jnas.runs.entries import Entry
from jnas.runtime.writer import Writer

FOLDER = "retrain"  # below that of the search
FEWEST = 3  # seeds that a rank correlation needs
_SIZE = "derived.json"


def retraining(
  entry: Entry, result: Mapping[str, Any]
) -> ml_collections.ConfigDict:
  """Returns the config that trains the network of a search that has ended."""
  config = ml_collections.ConfigDict(entry.network.to_dict())
  config.retrain.genotype = result["genotype"]
  return config.lock()


def train(
  entry: Entry, folder: pathlib.Path, result: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns the result of the retraining, which goes on where it stopped.

  Args:
    entry: the search.
    folder: where it ran.
    result: what it found.

  Raises:
    ValueError, SystemExit: as `dispatch.run`.
  """
  return dispatch.run(retraining(entry, result), folder / FOLDER)


def numbers(
  entry: Entry,
  folder: pathlib.Path,
  result: Mapping[str, Any],
  trained: Mapping[str, Any] | None,
) -> dict[str, float]:
  """Returns what is known of a search beside its own result.

  Args:
    entry: the search.
    folder: where it ran; derived.json is written there.
    result: what it found.
    trained: the result of its retraining, if that has ended.

  Returns:
    Of these what there is, an accuracy standing for the headline of the task:
    accuracy_drop, by which the child-net is worse than its super-net
    (EnTranNAS, Yang et al. 2021, table 1); normal_connections and
    reduce_connections, of EnTranNAS-DST, which is free in them (table 4);
    derived_params and derived_flops, both in millions; retrained_accuracy, on
    the test data, and retrain_seconds.
  """
  found, goal = {}, headline.of(result)
  pair = [goal.score(result, split) for split in ("valid", "child")]
  if all(map(records.is_number, pair)):
    found[f"{goal.name}_drop"] = pair[0] - pair[1]
  if recipe.method(entry.config).any_topology:  # others have a fixed number
    chosen = genotype_lib.chosen(genotype_lib.load(result["genotype"]))
    found |= {f"{name}_connections": len(own) for name, own in chosen.items()}
  if entry.network is not None:
    size = _size(entry, folder, result["genotype"])
    found |= {f"derived_{name}": value for name, value in size.items()}
  if trained is not None:
    found[f"retrained_{goal.name}"] = trained[f"test_{goal.name}"]
    found["retrain_seconds"] = trained.get("seconds", 0.0)
  return found


def _size(entry: Entry, folder: pathlib.Path, text: str) -> dict[str, float]:
  """Returns what `dispatch.size` does, measured once."""
  space = entry.network.space
  about = {"genotype": text, "cells": space.cells, "width": space.width}
  try:
    known = json.loads((folder / _SIZE).read_text())
    if {name: known[name] for name in about} == about:
      return {
        name: float(value) for name, value in known.items() if name not in about
      }
  except (OSError, ValueError, KeyError, TypeError):
    pass  # not measured yet, or of another network
  found = dispatch.size(entry.network, genotype_lib.parse(text))
  if jax.process_index() == 0:
    with Writer(folder) as writer:
      writer.put(_SIZE, about | found)
  return found


def kendall(results: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
  """Returns the rank correlation of what searches and retrainings are told by.

  Kendall's tau, from -1 for opposite orders to 1 for the same, over the seeds
  of one algorithm (EnTranNAS, Yang et al. 2021, table 2). Of seeds that tie
  in one of the two it is tau-b.

  Args:
    results: of the searches, with what `numbers` has added.

  Returns:
    {"seeds", "tau"}; tau is None, and "why" says so, where fewer than three
    seeds have both headlines or all agree in one of them. None without any
    retraining.

  >>> searched, retrained = (0.6, 0.7, 0.8, 0.9), (0.95, 0.94, 0.96, 0.97)
  >>> found = kendall([
  ...   {"valid_accuracy": a, "retrained_accuracy": b}
  ...   for a, b in zip(searched, retrained)
  ... ])
  >>> round(found["tau"], 4)  # of six pairs five agree: (5 - 1) / 6
  0.6667
  """
  goal = headline.of(*results)
  splits = "valid", "retrained"
  rows = [[goal.score(result, s) for s in splits] for result in results]
  rows = [row for row in rows if all(map(records.is_number, row))]
  if not rows:
    return None
  if len(rows) < FEWEST:
    seeds = "1 seed" if len(rows) == 1 else f"{len(rows)} seeds"
    why = f"{seeds}, {FEWEST} are needed"
    return {"seeds": len(rows), "tau": None, "why": why}
  from scipy import stats  # late: it takes its time to load

  tau = float(stats.kendalltau(*zip(*rows, strict=True)).statistic)
  if math.isnan(tau):
    return {"seeds": len(rows), "tau": None, "why": "all seeds tie"}
  return {"seeds": len(rows), "tau": tau}
