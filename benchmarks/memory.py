"""Does one thing and ends, for its memory to be weighed: `scaling` runs it."""

import argparse
from dataclasses import replace
from pathlib import Path

from benchmarks.subjects import Setup, Training, bench_config, face_parser, photographs

TIMES = 2


def main() -> None:
    """Parses or trains a few times over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shards", type=Path)
    parser.add_argument("work", choices=("parse", "coarse", "localizer", "end_to_end"))
    parser.add_argument("px", type=int)
    parser.add_argument("batch", type=int)
    parser.add_argument("micro_batch", type=int)
    given = parser.parse_args()
    config = bench_config()
    optim = replace(config.optim, global_batch=given.batch, micro_batch=given.micro_batch)
    config = replace(config, optim=optim)
    setup = Setup(given.shards, given.shards, 1, config=config, steps=TIMES, image_px=given.px)
    if given.work == "parse":
        photos = photographs(setup, given.batch)
        model = face_parser(config, photos)
        for _ in range(TIMES):
            model.parse_all(photos)
    else:
        Training(setup, given.work).from_shards()


if __name__ == "__main__":
    main()
