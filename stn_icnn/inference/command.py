"""Parses photographs, exports models and compares runs, without a cluster.

    stn-icnn parse photo.jpg folder/ --out labels/
    stn-icnn export --out model.onnx
    stn-icnn compare RUN OTHER_RUN      # in MLflow; needs the extra `train`

--help after a command shows its options.
"""

# What brings PyTorch along is imported where it is needed, so that help comes at once.

import argparse
import json
import logging
import sys
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stn_icnn.inference.model_sources import find_model, load_usable
from stn_icnn.inference.outputs.output_files import ALL_KINDS, DEFAULT_KINDS
from stn_icnn.inference.parse_options import ParseOptions
from stn_icnn.inference.photos.decoding import DEFAULT_MEGAPIXELS
from stn_icnn.progress import progress
from stn_icnn.storage import Folder

if TYPE_CHECKING:
    from stn_icnn.inference.photos.listing import StoredPhoto

COMMANDS: Final = "stn_icnn.commands"
"""The group of entry points that add commands. Each is a function that adds a parser to what
`add_subparsers` returned; the parser's default `run` takes the parsed arguments and returns the
exit status."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Returns:
        The exit status: 2 for what the user can mend in the call, 1 where some photographs failed,
        130 where it was interrupted.
    """
    args = _parser().parse_args(argv)
    try:
        return int(args.run(args))
    except (ValueError, OSError) as error:
        print(f"stn-icnn {args.command}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        hint = ": with --skip-existing the same command does the rest"
        print("interrupted" + (hint if args.command == "parse" else ""), file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="stn-icnn", description=__doc__, formatter_class=as_written
    )
    commands = parser.add_subparsers(dest="command", required=True)
    parse = commands.add_parser(
        "parse",
        help="label photographs of faces",
        epilog="example: stn-icnn parse photo.jpg --out labels/",
    )
    add = parse.add_argument
    add("photos", nargs="+", metavar="PHOTO", help="files, or folders with all in them")
    add("--out", required=True, help="folder to write to; paths in it as in PHOTO")
    add("--write", default=DEFAULT_KINDS, help=f"which of {ALL_KINDS} (default: %(default)s)")
    add(
        "--framing",
        choices=("whole", "found"),
        help="what is a face: the whole photograph, or what is found in it (default: found where "
        "the model has a finder)",
    )
    add(
        "--boxes",
        metavar="FILE",
        help="where faces are, as another detector says: CSV or JSON with the photograph's name, "
        "x0 y0 x1 y1, and perhaps five landmarks",
    )
    add(
        "--min-confidence",
        type=float,
        default=0.0,
        metavar="P",
        help="leave faces out that are less sure, of a model that tells (default: none)",
    )
    add("--skip-existing", action="store_true", help="leave photographs that have their results")
    add("--device", help="where to compute (default: a GPU where there is one)")
    add(
        "--max-megapixels",
        type=float,
        default=DEFAULT_MEGAPIXELS,
        metavar="N",
        help="the most megapixels that are decoded of a photograph; each takes 24 MB of memory; "
        "larger JPEGs are reduced (default: %(default)s)",
    )
    parse.set_defaults(run=_parse)
    export = commands.add_parser(
        "export",
        help="write a model for ONNX Runtime",
        epilog="example: stn-icnn export --out model.onnx",
    )
    export.add_argument("--out", required=True, type=Path, metavar="FILE.onnx", help="a new file")
    export.set_defaults(run=_export)
    for command in (parse, export):
        add = command.add_argument
        add(
            "--model",
            help="a model file or folder, runs:/… or models:/NAME@alias (default: the model that "
            "comes along)",
        )
        add("--tracking-uri", help="MLflow, for a model that is there")
    _add_installed(commands)
    return parser


def _add_installed(commands: Any) -> None:
    """Adds the commands of installed packages, without those that lack what they need."""
    for command in entry_points(group=COMMANDS):
        try:
            add = command.load()
        except ModuleNotFoundError:
            continue
        add(commands)


def _parse(args: argparse.Namespace) -> int:
    """Writes the results of each photograph, and names those that can't be parsed."""
    from stn_icnn.inference.face_parser import FaceParser
    from stn_icnn.inference.photographs import RECORD, ParseOutcome, parse_photos, summarize
    from stn_icnn.inference.photos.listing import (
        add_outputs,
        describe_unowned,
        pending_photos,
        plan_outputs,
        unowned_outputs,
    )
    from stn_icnn.networks.execution import usable_device

    options = ParseOptions.read(args.write, args.framing, args.boxes, args.min_confidence)
    kinds = options.kinds
    out = Folder(_folder("--out", args.out).resolve())
    if out.root.exists() and not out.root.is_dir():
        raise ValueError(f"--out must be a folder, {out.url} is none")
    found, passed_over = _photos(args.photos, out)
    existing = out.list()
    photos = plan_outputs(found, out, kinds, existing)
    passed_over = add_outputs(passed_over, len(found) - len(photos))
    if out.exists(RECORD):
        raise ValueError(f"{out.url} holds the results of a job, not to be mixed with others")
    model = find_model(args.model, args.tracking_uri)
    parser = FaceParser.load(model, usable_device(args.device, "--device"), args.max_megapixels)
    parser.finds_faces(options.framing, options.boxes is not None, options.min_confidence)
    if options.boxes is not None:
        options.boxes.require_matches([photo.names for photo in photos])
    pending = pending_photos(photos, existing, kinds) if args.skip_existing else photos
    if left := unowned_outputs(photos, out, existing):
        print(describe_unowned(left, out), file=sys.stderr)
    started, num_skipped = time.monotonic(), len(photos) - len(pending)
    outcomes: list[ParseOutcome] = []
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")  # of broken EXIF and so on, unnamed
            parsed = parse_photos(parser, pending, out, options, any_done=num_skipped > 0)
            outcomes += progress(parsed, len(pending), "photograph")
    finally:  # whatever ends the run, those that failed before it are named
        failures = [outcome for outcome in outcomes if outcome.failure is not None]
        for outcome in failures:
            print(f"{outcome.photo.url}: {outcome.failure}", file=sys.stderr)
    seconds = time.monotonic() - started
    print(json.dumps(summarize(out, outcomes, num_skipped, passed_over, seconds)))
    return 1 if failures else 0


def _export(args: argparse.Namespace) -> int:
    """Exports the model, checks that the files compute what the model does, and writes them."""
    from stn_icnn.inference.onnx_export import export_onnx
    from stn_icnn.inference.onnx_finder import export_finder

    out = args.out.resolve()
    _require_new(out)
    checkpoint = load_usable(find_model(args.model, args.tracking_uri), "export")
    finder = out.with_name(f"{out.stem}_finder{out.suffix}")
    if checkpoint.model.finds_faces:
        _require_new(finder)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision: we don't
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch, to itself
        contents = {"out": (out, export_onnx(checkpoint))}
        if checkpoint.model.finds_faces:
            contents["finder"] = (finder, export_finder(checkpoint))
    said: dict[str, str | int] = {}
    for name, (path, content) in contents.items():
        Folder(path.parent).write(path.name, content)
        said |= {name: str(path), "bytes" if path == out else f"{name}_bytes": len(content)}
    print(json.dumps(said))
    return 0


def _require_new(path: Path) -> None:
    """Refuses to overwrite a file.

    Raises:
        ValueError: it is there.
    """
    if path.exists():
        raise ValueError(f"{path} is there already: name another --out, or remove it")


def _folder(option: str, given: str) -> Path:
    """Returns the path that a user gave, who may have meant a bucket, or an unset variable.

    Raises:
        ValueError: it is empty, or an address.
    """
    if not given:
        raise ValueError(f"{option} is empty: the working directory is named .")
    if "://" in given:
        raise ValueError(
            f"{option} {given} is no folder: python jobs/parse.py --input s3://… --out s3://… "
            "parses photographs in buckets; others must be downloaded first"
        )
    return Path(given)


def _photos(given: Sequence[str], out: Folder) -> tuple[list["StoredPhoto"], dict[str, int]]:
    """Returns the photographs that files and folders name, each once, and what was passed over.

    Raises:
        ValueError: a file does not exist, or a folder holds no photographs.
    """
    from stn_icnn.inference.photos.listing import StoredPhoto, list_photos

    photos: list[StoredPhoto] = []
    passed_over = Counter[str]()
    for name in given:
        path = _folder("PHOTO", name)
        if path.is_dir():
            listing = list_photos(Folder(path.resolve()), out)
            photos += listing.photos
            passed_over += Counter(listing.passed_over)
        elif path.is_file():
            photos.append(StoredPhoto(Folder(path.parent.resolve()), path.name))
        elif path.exists():
            raise ValueError(f"{path} is a pipe, socket or device, no photograph")
        else:
            raise ValueError(f"there is no photograph {path}")
    return list(dict.fromkeys(photos)), dict(passed_over.most_common())


if __name__ == "__main__":
    sys.exit(main())
