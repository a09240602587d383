"""The `stn-icnn` command: what needs no cluster.

stn-icnn parse PHOTO… --model MODEL --out DIR
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from stn_icnn.labels import PARTS
from stn_icnn.overlay import overlay, palette_image
from stn_icnn.parser import FaceParser

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 2 for what the user can mend in it."""
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except (ValueError, OSError) as error:
        print(f"stn-icnn {args.command}: error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="stn-icnn", description="Face parsing with STN-iCNN.")
    commands = parser.add_subparsers(dest="command", required=True)
    parse = commands.add_parser("parse", help="label photographs of faces")
    parse.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="files or folders")
    parse.add_argument(
        "--model", required=True, help="a model file or folder, runs:/… or models:/NAME@alias"
    )
    parse.add_argument("--out", required=True, type=Path, help="folder to write to")
    parse.add_argument("--tracking-uri", help="MLflow, for a model that is there")
    parse.set_defaults(run=_parse)
    return parser


def _parse(args: argparse.Namespace) -> None:
    """Writes NAME.png (class ids), NAME_overlay.jpg and NAME.json (windows) for each photograph."""
    photos = _photos(args.photos)
    _keep_originals(photos, args.out)
    parser = FaceParser.load(_model_path(args.model, args.tracking_uri))
    args.out.mkdir(parents=True, exist_ok=True)
    for photo in tqdm(photos, unit="photo", disable=not sys.stderr.isatty()):
        face = parser.parse(photo)
        windows = face.windows.tolist()
        labels_file, overlay_file, windows_file = _results(photo, args.out)
        palette_image(face.labels).save(labels_file)
        marked = overlay(face.image, face.labels, windows=[tuple(w) for w in windows])
        Image.fromarray(marked).save(overlay_file, quality=92)
        named = {part.name: window for part, window in zip(PARTS, windows, strict=True)}
        windows_file.write_text(json.dumps({"windows": named}) + "\n")
    print(f"{len(photos)} photographs parsed into {args.out}")


def _results(photo: Path, out: Path) -> tuple[Path, Path, Path]:
    """Where a photograph's labels, overlay and windows are written."""
    return (
        out / f"{photo.stem}.png",
        out / f"{photo.stem}_overlay.jpg",
        out / f"{photo.stem}.json",
    )


def _keep_originals(photos: Sequence[Path], out: Path) -> None:
    """Refuses results that would take a photograph's place, as where `out` is its folder.

    Raises:
        ValueError: naming the photograph.
    """
    originals = {photo.resolve(): photo for photo in photos}
    for photo in photos:
        for result in _results(photo, out):
            original = originals.get(result.resolve())
            if original is not None:
                raise ValueError(
                    f"the results of {photo} would overwrite the photograph {original}: choose "
                    "another --out"
                )


def _model_path(model: str, tracking_uri: str | None) -> Path:
    if not model.startswith(("runs:/", "models:/")):
        return Path(model)
    from cluster.models import resolve_model  # here: importing MLflow takes seconds

    return resolve_model(model, tracking_uri)


def _photos(given: Sequence[Path]) -> list[Path]:
    """The photographs that files and folders name.

    Raises:
        ValueError: for what is not there, a folder without photographs, and names that would
            overwrite each other's results.
    """
    photos: list[Path] = []
    for path in given:
        if not path.is_dir():
            photos.append(path)
            continue
        inside = sorted(p for p in path.iterdir() if p.suffix.lower() in PHOTO_SUFFIXES)
        if not inside:
            raise ValueError(f"the folder {path} holds no photographs ({sorted(PHOTO_SUFFIXES)})")
        photos += inside
    by_stem: dict[str, Path] = {}
    for photo in photos:
        if not photo.is_file():
            raise ValueError(f"there is no photograph {photo}")
        other = by_stem.setdefault(photo.stem, photo)
        if other is not photo:
            raise ValueError(f"{other} and {photo} would both be written as {photo.stem}.png")
    return photos


if __name__ == "__main__":
    sys.exit(main())
