"""Workdirs with made-up numbers, in the formats that runs write."""

import json
import math
import random

from jnas import genotype as genotype_lib
from jnas.runs import titles

S1 = genotype_lib.OPERATIONS[:8]
EDGES = [[j, i] for i in range(2, 6) for j in range(i)]


def write_json(path, data):
  path.write_text(json.dumps(data))


def write_lines(path, lines):
  path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def derive(weights):
  """The genotype of relaxed weights [14][8], as in DARTS."""
  pairs = []
  for node in range(2, 6):
    edges = zip(weights, EDGES, strict=True)
    rows = [(w, j) for w, (j, i) in edges if i == node]
    rows.sort(key=lambda item: -max(item[0][1:]))
    pairs += [(S1[1 + w[1:].index(max(w[1:]))], j) for w, j in rows[:2]]
  return pairs


def make_search(path, epochs=4, steps=5, seed=0, skip=0.0):
  """Writes the workdir of a search with made-up, plausible numbers.

  `skip` drives alpha towards skip connections: 1 is a collapse.
  """
  path.mkdir(parents=True, exist_ok=True)
  rng = random.Random(seed)
  config = {
    "task": "search",
    "seed": seed,
    "data": {"name": "cifar10", "path": "", "cutout": 16},
    "algo": {"name": "amended", "hypergrad": "amended", "eta": 0.1},
    "train": {"length": f"{epochs} epochs", "batch": 96},
  }
  write_json(path / "config.json", config)
  machine = {
    "command": "python -m jnas.main --config=configs/amended_darts.py",
    "jnas": "0.1.0",
    "python": "3.11.7",
    "jax": "0.10.2",
    "platform": "gpu",
    "device": "NVIDIA H200",
    "device_count": 1,
    "cpu": "AMD EPYC 9454",
    "cores": 16,
    "task": "search",
    "started": 1763774883.5,
    "titles": titles.titles("amended", "amended"),
  }
  write_json(path / "run.json", machine)
  cells = {"normal": 14, "reduce": 14}
  goal = {c: [[rng.gauss(0, 1) for _ in S1] for _ in EDGES] for c in cells}
  noise = {c: [[0.0 for _ in S1] for _ in EDGES] for c in cells}
  metrics, arch, history = [], [], []
  for epoch in range(1, epochs + 1):
    t = epoch / epochs
    for k in range(steps):
      now = epoch - 1 + (k + 1) / steps
      fall = math.exp(-3 * now / epochs)
      line = {"kind": "step", "step": (epoch - 1) * steps + k + 1, "epoch": now}
      line["train_loss"] = 0.35 + 1.9 * fall + rng.gauss(0, 0.06)
      line["train_accuracy"] = 0.93 - 0.75 * fall + rng.gauss(0, 0.02)
      line["lr"] = 0.025 * (1 + math.cos(math.pi * now / epochs)) / 2
      line["first_order_norm"] = 0.02 * math.exp(rng.gauss(0, 0.3))
      line["second_order_norm"] = 0.3 * fall * math.exp(rng.gauss(0, 0.5))
      line["step_seconds"] = 0.113 * math.exp(rng.gauss(0, 0.05))
      line["images_per_second"] = 96 / line["step_seconds"]
      metrics.append(line)
    weights = {}
    for cell in cells:
      rows = []
      for e in range(len(EDGES)):
        logits = []
        for o in range(len(S1)):
          noise[cell][e][o] += rng.gauss(0, 0.12)
          pull = skip * 4 * t * t * (S1[o] == "skip_connect")
          none = 1.6 * t * (S1[o] == "none")
          logits.append(1.5 * goal[cell][e][o] * t + noise[cell][e][o])
          logits[-1] += pull + none
        total = sum(map(math.exp, logits))
        rows.append([math.exp(v) / total for v in logits])
      weights[cell] = rows
    normal, reduce = derive(weights["normal"]), derive(weights["reduce"])
    found = genotype_lib.Genotype(normal, range(2, 6), reduce, range(2, 6))
    step = epoch * steps
    arch.append({"step": step, "epoch": epoch, "ops": S1, "edges": EDGES})
    arch[-1]["weights"] = weights
    history.append({"genotype": genotype_lib.to_json(found), "step": step})
    history[-1].update(epoch=epoch, text=genotype_lib.format_text(found))
    fall = math.exp(-3 * t)
    line = {"kind": "epoch", "step": step, "epoch": float(epoch)}
    line["valid_loss"] = 0.55 + 1.7 * fall + rng.gauss(0, 0.03)
    line["valid_accuracy"] = 0.87 - 0.72 * fall + rng.gauss(0, 0.008)
    line["skip_share"] = sum(op == "skip_connect" for op, _ in normal) / 8
    line["none_weight"] = sum(row[0] for row in weights["normal"]) / 14
    line["cosine_implicit"] = 0.7 + 0.2 * t + rng.gauss(0, 0.04)
    line.update(epoch_seconds=61.0, eval_seconds=4.2)
    # The total of the process; this run was interrupted after half of it.
    line["compile_seconds"] = 40.0 if t <= 0.5 else 7.3
    metrics.append(line)
  write_lines(path / "metrics.jsonl", metrics)
  write_lines(path / "arch.jsonl", arch)
  write_lines(path / "genotypes.jsonl", history)
  write_json(path / "genotype.json", history[-1])
  result = {
    "task": "search",
    "valid_accuracy": metrics[-1]["valid_accuracy"],
    "genotype": history[-1]["text"],
    "params": 1930618,
    "seconds": 65.5 * epochs + 47.3,
  }
  write_json(path / "result.json", result)
  return path


def make_retrain(path, name="DARTS_V2", epochs=4, seed=0):
  """Writes the workdir of a retraining of a cell of the zoo."""
  path.mkdir(parents=True, exist_ok=True)
  rng = random.Random(seed)
  config = {"task": "retrain", "seed": seed, "data": {"name": "cifar10"}}
  config["retrain"] = {"genotype": name}
  write_json(path / "config.json", config)
  command = f"python -m jnas.main --config=configs/retrain.py # {name}"
  write_json(path / "run.json", {"command": command, "task": "retrain"})
  metrics = []
  for epoch in range(1, epochs + 1):
    fall = math.exp(-4 * epoch / epochs)
    line = {"kind": "epoch", "step": 10 * epoch, "epoch": epoch}
    line.update(train_loss=0.02 + 2 * fall, test_loss=0.1 + 2 * fall)
    line.update(train_accuracy=1 - 0.9 * fall, epoch_seconds=30.0)
    line["test_accuracy"] = 0.97 - 0.85 * fall + rng.gauss(0, 0.004)
    metrics.append(line)
  write_lines(path / "metrics.jsonl", metrics)
  text = genotype_lib.format_text(genotype_lib.ZOO[name])
  result = {"task": "retrain", "test_accuracy": 0.9724, "genotype": text}
  result.update(params=3349342, seconds=1234.5)
  write_json(path / "result.json", result)
  return path


def write_search(path, algorithm, arch, genotypes, metrics):
  """Writes a search of which epoch k has the k-th item of each list."""
  path.mkdir(parents=True, exist_ok=True)
  config = {"task": "search", "seed": 3, "data": {"name": "cifar10"}}
  config["algo"] = {"name": algorithm}
  write_json(path / "config.json", config)
  machine = {"task": "search", "device": "NVIDIA H200"}
  machine["titles"] = titles.titles(algorithm)
  write_json(path / "run.json", machine)
  when = [{"step": 9 * k, "epoch": k} for k in range(1, len(genotypes) + 1)]
  history = [
    time | {"genotype": genotype_lib.to_json(g)}
    for time, g in zip(when, genotypes, strict=True)
  ]
  for name, lines in (
    ("arch.jsonl", arch),
    ("metrics.jsonl", [{"kind": "epoch"} | line for line in metrics]),
  ):
    pairs = zip(when, lines, strict=True)
    write_lines(path / name, [time | line for time, line in pairs])
  write_lines(path / "genotypes.jsonl", history)
  write_json(path / "genotype.json", history[-1])
  result = {"genotype": genotype_lib.format_text(genotypes[-1])}
  result.update(valid_accuracy=0.8, params=1234567, seconds=90.0)
  write_json(path / "result.json", result)
  return path


def make_stack(path, layers=8, epochs=4, seed=0):
  """Writes a search of independent cells whose edges and operators vanish.

  The first two layers, and the last two, have the same cell.
  """
  rng = random.Random(seed)
  ops = ["none", "skip_connect", "sep_conv_3x3"]
  arch, genotypes, metrics = [], [], []
  names = [f"cell{i}" for i in range(layers)]
  for k in range(epochs):
    cells, weights, edges = [], {}, {}
    for i, name in enumerate(names):
      pairs = [
        (rng.choice(S1[1:]), source)
        for node in range(4)
        for source in rng.sample(range(node + 2), 2)
      ]
      cells.append(cells[-1] if i in (1, layers - 1) else pairs)
      edges[name] = EDGES[: 14 - i % 3 - k]
      weights[name] = [
        [None if k == 2 else 0.0, rng.random(), rng.random()]
        for _ in edges[name]
      ]
    arch.append({"ops": ops, "weights": weights, "edges": EDGES})
    arch[-1]["edges_of"] = edges
    genotypes.append(genotype_lib.StackGenotype(cells, range(2, 6)))
    metrics.append({"valid_accuracy": 0.5 + 0.1 * k, "valid_loss": 1 / (1 + k)})
  return write_search(path, "darts", arch, genotypes, metrics)


def make_nas_bench_201(path, epochs=4, skips=2, seed=0):
  """Writes a search in NAS-Bench-201 that ends with so many skips of six."""
  rng = random.Random(seed)
  ops = list(genotype_lib.NAS_BENCH_201_OPERATIONS)
  edges = [[j, i] for i in range(1, 4) for j in range(i)]
  arch, genotypes, metrics = [], [], []
  for k in range(1, epochs + 1):
    rows = [[math.exp(k * rng.gauss(0, 0.4)) for _ in ops] for _ in edges]
    weights = [[v / sum(row) for v in row] for row in rows]
    arch.append({"ops": ops, "edges": edges, "weights": {"cell": weights}})
    best = ["skip_connect"] * skips + ["nor_conv_3x3"] * 2 + ["none"] * 4
    if k < epochs:
      best = [rng.choice(ops) for _ in edges]
    nodes = [
      [(op, j) for op, (j, i) in zip(best, edges, strict=False) if i == node]
      for node in (1, 2, 3)
    ]
    genotypes.append(genotype_lib.NasBench201Genotype(nodes))
    line = {"valid_accuracy": 0.5 + 0.1 * k / epochs, "valid_loss": 1 / k}
    metrics.append(line | {"true_accuracy": 0.94 - 0.3 / k**2})
  write_search(path, "gdas", arch, genotypes, metrics)
  benchmark = {"name": "NAS-Bench-201, cifar10_200", "best": 0.9447}
  benchmark.update(mean=0.8706, published={"DARTS": 0.543, "GDAS": 0.935})
  write_json(path / "benchmark.json", benchmark)
  return path


def write_restricted(path, chosen=2):
  """Writes restricted.json as P-DARTS does: a genotype a number of skips."""
  normal = list(genotype_lib.ZOO["DARTS_V2"].normal)
  entries = []
  for skips in (4, 3, 2, 1):
    for i in range(4):
      op = "skip_connect" if i < skips else "sep_conv_3x3"
      normal[2 * i] = (op, normal[2 * i][1])
    normal[5], normal[7] = ("sep_conv_3x3", 0), ("dil_conv_3x3", 3)
    g = genotype_lib.Genotype(normal, range(2, 6), None)
    entries.append({"skips": skips, "genotype": genotype_lib.format_text(g)})
    entries[-1] |= {"chosen": True} if skips == chosen else {}
  write_json(path / "restricted.json", entries)


def make_gold(path, layers=4, nodes=2, epochs=8, retrained=False, seed=0):
  """Writes a GOLD-NAS search; every second epoch joins the Pareto set.

  Lambda is 0 in the first epoch and doubles in each after the second; a pruned
  operator has a weight of 0. Every node keeps an operator.
  """
  rng = random.Random(seed)
  ops = ["skip_connect", "sep_conv_3x3"]
  edges = [[j, i] for i in range(2, 2 + nodes) for j in range(i)]
  names = [f"cell{i}" for i in range(layers)]
  active = {(n, e, o) for n in names for e in range(len(edges)) for o in ops}
  arch, genotypes, metrics, front = [], [], [], []
  for k in range(1, epochs + 1):
    cells = [
      [
        [(o, edges[e][0]) for e, o in sorted(own) if edges[e][1] == i]
        for i in range(2, 2 + nodes)
      ]
      for own in ([(e, o) for n, e, o in active if n == name] for name in names)
    ]
    genotypes.append(genotype_lib.StackGenotype(cells, range(2, 2 + nodes)))
    weights = {
      name: [
        [rng.random() if (name, e, o) in active else 0.0 for o in ops]
        for e in range(len(edges))
      ]
      for name in names
    }
    arch.append({"ops": ops, "edges": edges, "weights": weights})
    weight = 0.0 if k == 1 else 1e-5 * 2 ** (k - 2)
    line = {"valid_accuracy": 0.9 - 0.003 * k, "valid_loss": 1 / k}
    line |= {"lambda": weight, "operators": len(active), "flops": 7.5 / k}
    line |= {"built_flops": 7.5 if k < 4 else 7.5 / k, "compile_seconds": 9.0}
    metrics.append(line | {"pruned": 0, "compile_share": 0.6 + k / 100})
    if k > 1:
      metrics[-1]["pruned"] = metrics[-2]["operators"] - len(active)
    if k % 2 == 0:
      front.append({"step": 9 * k, "epoch": float(k), "lambda": weight})
      front[-1] |= {"accuracy": 0.9 - 0.003 * k, "operators": len(active)}
      front[-1] |= {"flops": 7.0 / k, "params": 0.5 - 0.01 * k}
      front[-1]["genotype"] = genotype_lib.to_json(genotypes[-1])
      front[-1]["text"] = genotype_lib.format_text(genotypes[-1])
      if retrained:
        front[-1]["retrained"] = 0.97 - 0.002 * k
    for name, e, o in rng.sample(sorted(active), len(active) // 3):
      node = edges[e][1]
      into = [n == name and edges[i][1] == node for n, i, _ in active]
      if sum(into) > 1:
        active.remove((name, e, o))
  write_search(path, "goldnas", arch, genotypes, metrics)
  config = json.loads((path / "config.json").read_text())
  config |= {"space": {"cells": layers}, "gold": {"flops_min": 0.9}}
  write_json(path / "config.json", config)
  write_lines(path / "pareto.jsonl", front)
  return path


def make_entrannas(path, epochs=6, seed=0):
  """Writes an EnTranNAS-DST search: nodes with any number of operators."""
  rng = random.Random(seed)
  arch, genotypes, metrics = [], [], []
  ops = S1[1:]
  for k in range(1, epochs + 1):
    cells = {"normal": [], "reduce": []}
    for nodes in cells.values():
      for i in range(4):
        inputs = [j for j in range(i + 2) if j == i or rng.random() < 1.4 / k]
        nodes.append([(rng.choice(ops), j) for j in inputs])
    rows = [[rng.random() for _ in ops] for _ in EDGES]
    arch.append({"ops": ops, "edges": EDGES, "weights": {"normal": rows}})
    found = genotype_lib.Genotype(
      cells["normal"], range(2, 6), cells["reduce"], range(2, 6)
    )
    genotypes.append(found)
    count = sum(len(row) for cell in cells.values() for row in cell)
    line = {"connections": count, "frozen": 0.1 * k, "valid_accuracy": 0.8}
    line |= {"valid_loss": 1 / k, "compile_seconds": 7.0}
    metrics.append(line | {"compile_share": 0.345})
  metrics[-1]["child_accuracy"] = 0.7531
  return write_search(path, "dst", arch, genotypes, metrics)
