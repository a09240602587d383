"""The model card of a registered model: its origin, results, use and limits."""

import shlex
from typing import Any, Final

from cluster.tracking.provenance import flatten
from cluster.tracking.tracking_uri import without_password
from stn_icnn.reporting.tables import Table
from stn_icnn.scoring.f1 import F1Rows

_ABOUT: Final = """\
STN-iCNN parses a photograph of a face into labelled parts. A coarse network labels a small copy of
the photograph, a localization network turns that into one window a part, and the windows, cut from
the photograph by a differentiable sampler, are labelled finely and pasted back. After "End-to-End
Face Parsing via Interlinked Convolutional Neural Networks" (Yin, Yiu, Hu, Tang)."""

_FINDER: Final = """\
 A further interlinked network, the finder, looks for faces in a reduced photograph first; each is
cut out upright, framed as the training images are, and parsed there."""

_USE: Final = """\
Labelling brows, eyes, nose, lips and the inside of the mouth in photographs of faces, for research
and for tools that edit or measure them. It {finds} and tells no person from another; it is not
meant for identifying people or judging their traits."""

_CLASSES: Final = """\
- Nine classes: background, the two brows, the two eyes, nose, upper lip, inner mouth, lower lip.
  Skin and hair are background."""

_ONE_FACE: Final = """\
- One face a photograph, roughly frontal and upright, filling the picture about as in the training
  images; the photograph is brought to their scale first."""

_ANY_FACES: Final = """\
- Faces roughly frontal, of any place, size and direction in the photograph; those of which a small
  part is to be seen, and very small ones, may be missed."""

_FIGURES: Final = """\
- The F1 of labels hold for images like those of the data set, each taken whole for a face; no
  others were measured."""

_LOADING: Final = """\
```
export MLFLOW_TRACKING_URI={tracking_uri}
stn-icnn parse PHOTO --model models:/{name}@champion --out DIR
```
`models:/{name}/VERSION` names one version. To serve it, in the same shell:
```
mlflow models serve -m models:/{name}@champion --env-manager local --port 5001
```
A request's `image` is an image file in base64, or `[H, W, 3]` pixels, 0 to 255, as nested lists;
`inputs` takes a batch `[N, H, W, 3]`. Posted to `http://127.0.0.1:5001/invocations`:
```
{{"dataframe_records": [{{"image": "/9j/4AAQSkZJRg…"}}]}}
{{"inputs": [[[[125, 91, 74], [126, 92, 75], …], …]]}}
```
An answer has `labels`, base64 of an indexed PNG whose values are class ids, and `windows`: by part,
centre x, y, width and height in px. In Python, with the same variable set, from files' bytes or
from uint8 pixels:
```
model = mlflow.pyfunc.load_model("models:/{name}@champion")
model.predict(pandas.DataFrame({{"image": [open("photo.jpg", "rb").read()]}}))
model.predict({{"image": pixels}})  # [N, H, W, 3]
```"""

_NON_COMMERCIAL: Final = """\
- CelebAMask-HQ, and so a model trained on it, is for non-commercial research only."""


def model_card(
    *,
    name: str,
    dataset: str,
    data_fingerprint: str,
    num_images: int,
    started_from: str,
    config: Any,
    tracking_uri: str,
    val_f1: F1Rows,
    test_f1: F1Rows,
    finds_faces: bool = False,
    faces_f1: float | None = None,
    run_id: str | None = None,
    commit: str | None = None,
    parent: str | None = None,
) -> str:
    """Returns the model card, Markdown, short enough for a model version's description.

    Args:
        name: name of the registered model.
        dataset: name of the data set, such as `helen` or `celebamask`.
        data_fingerprint: fingerprint of its shards.
        num_images: number of images that the model was trained on.
        started_from: what its settings started from: a preset, a file or a model.
        config: the settings to show, a mapping or dataclass, nested or not.
        tracking_uri: the address of the store that it is registered in; the card has it without
            its password.
        val_f1: F1 of each row on the validation split, 0 to 1; None where the model lacks a class.
        test_f1: the same on the test split; empty where it was not read.
        finds_faces: whether the model has a trained finder.
        faces_f1: F1 of the faces found in scenes made of the validation split, where it is known.
        run_id: the id of the MLflow run.
        commit: the code's commit.
        parent: the model that its training went on from, if there is one.
    """
    address = without_password(tracking_uri, tracking_uri)
    origin = {
        "Data set": f"{dataset}, {num_images} training images",
        "Data fingerprint": f"`{data_fingerprint}`",
        "Parent": parent,
        "Started from": started_from,
        "MLflow run": f"`{run_id}`" if run_id else None,
        "Code": f"`{commit}`" if commit else None,
    }
    limits = [_CLASSES, _ANY_FACES if finds_faces else _ONE_FACE, _FIGURES]
    if "celeb" in dataset.lower():
        limits.append(_NON_COMMERCIAL)
    f1 = _f1_table(val_f1, test_f1)
    if faces_f1 is not None:
        f1 += f"\n\nOf faces found in scenes made of the validation images: F1 {faces_f1:.4f}."
    sections = {
        "Training": "\n".join(f"- {key}: {value}" for key, value in origin.items() if value),
        "F1": f1,
        "Intended use": _USE.format(finds="finds faces" if finds_faces else "finds no faces"),
        "Limits": "\n".join(limits),
        "How to load it": _LOADING.format(name=name, tracking_uri=shlex.quote(address)),
        # Last, as the longest: a registry that must cut cuts here.
        "Settings": "\n".join(f"- `{key}`: {value}" for key, value in flatten(config).items()),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    about = _ABOUT + _FINDER if finds_faces else _ABOUT
    return f"# {name}\n\n{about}\n\n{body}\n"


def _f1_table(val: F1Rows, test: F1Rows) -> str:
    rows = [
        [row, *(None if f1 is None else f"{f1:.4f}" for f1 in (val.get(row), test.get(row)))]
        for row in dict.fromkeys((*val, *test))
    ]
    # As code: MLflow's page puts no space between a table's columns.
    return f"```\n{Table(['F1', 'validation', 'test'], rows).text}\n```"
