"""Writes a trained network into a file that other programs read.

  jnas export runs/retrain --output=network.safetensors
  jnas export runs/retrain --format=stablehlo --output=network.stablehlo
  jnas export cifar10_model.pt --genotype=DARTS_V2 --output=darts.safetensors

What was written is read again, and has to give the same logits.
"""

import argparse
from collections.abc import Sequence
import pathlib
import sys

from jnas import exchange
from jnas.runs import command, loading
from jnas.spaces import cnn


def main(argv: Sequence[str] | None = None) -> int:
  """Returns the exit status: 2 for a mistake.

  Args:
    argv: the words of the command line; those of sys.argv if None.
  """
  options = _parser().parse_args(argv)
  try:
    network = loading.load(options.source, options.genotype or None)
    difference = network.export(options.output, options.format)
  except (ValueError, OSError) as error:
    print(f"export: {error}", file=sys.stderr)
    return 2
  size = pathlib.Path(options.output).expanduser().stat().st_size
  print(
    f"{options.output}: {cnn.count(network.variables['params']):,} parameters, "
    f"{size:,} bytes\nread again: the logits of random images differ by "
    f"{difference:.2g} at most"
  )
  return 0


def _parser() -> argparse.ArgumentParser:
  parser = command.parser("export", __doc__)
  parser.add_argument(
    "source",
    help="folder of a retraining, or a file of weights: of safetensors, or of "
    "PyTorch with a network of DARTS's code",
  )
  parser.add_argument(
    "--format",
    choices=exchange.FORMATS,
    default="safetensors",
    help="safetensors: with the names here (default); torch: safetensors with "
    "the names and layouts of DARTS's code in PyTorch; stablehlo: the program "
    "from uint8 images to logits, for jax.export.deserialize",
  )
  parser.add_argument("--output", required=True, help="file that is written")
  parser.add_argument(
    "--genotype", help="of a file of weights that does not say it"
  )
  return parser


if __name__ == "__main__":
  sys.exit(main())
