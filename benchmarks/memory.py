"""Parses or trains and ends: `scaling` runs it to measure its memory."""

import argparse
from dataclasses import replace
from pathlib import Path

from benchmarks.subjects import PhaseBenchmark, Setup, bench_config, face_parser, photographs

TIMES = 2


def main() -> None:
    """Parses or trains a few times over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shards", type=Path)
    parser.add_argument("work", choices=("parse", "coarse", "localizer", "end_to_end"))
    parser.add_argument("px", type=int)
    parser.add_argument("batch", type=int)
    parser.add_argument("micro_batch", type=int)
    args = parser.parse_args()
    config = bench_config()
    optim = replace(config.optim, global_batch=args.batch, micro_batch=args.micro_batch)
    config = replace(config, optim=optim)
    setup = Setup(args.shards, args.shards, 1, config=config, steps=TIMES, image_px=args.px)
    if args.work == "parse":
        photos = photographs(setup, args.batch)
        model = face_parser(config, photos)
        for _ in range(TIMES):
            model.parse_all(photos)
    else:
        PhaseBenchmark(setup, args.work).from_shards()


if __name__ == "__main__":
    main()
