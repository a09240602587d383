"""What happens to each photograph before and after its faces are labelled."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stn_icnn.inference.faces.boxes import FaceBox
from stn_icnn.inference.faces.confidence import LEAST_PRESENCE, Confidence
from stn_icnn.inference.faces.cutting import FaceCut, cut_face, cut_whole, require_touching
from stn_icnn.inference.faces.exposure import brighten_dark
from stn_icnn.inference.faces.finding import FaceFinder, FoundFace
from stn_icnn.inference.faces.frame import FaceFrame
from stn_icnn.inference.outputs.parsed_face import ParsedFace
from stn_icnn.inference.outputs.parsed_photo import ParsedPhoto
from stn_icnn.inference.photos.decoding import DecodedPhoto
from stn_icnn.inference.photos.forms import NamedPhoto
from stn_icnn.labels import LabelSet
from stn_icnn.networks.checkpoint import DataFacts
from stn_icnn.networks.pasting import PlacedPatches, label_map


@dataclass(frozen=True, eq=False)
class PhotoJob:
    """A photograph to be parsed, and how."""

    photo: NamedPhoto
    boxes: Sequence[FaceBox] | None
    finds_faces: bool
    """Whether faces are looked for, or given as boxes: else the photograph is one."""
    min_confidence: float


@dataclass(frozen=True, eq=False)
class PlacedFace:
    """A face's labelled patches, and how sure it is."""

    patches: PlacedPatches
    score: float
    sure: Confidence | None
    """How far it can be trusted; None where the model does not tell."""

    @property
    def rank(self) -> float:
        """How sure it is, beside others of the photograph."""
        return self.sure.face if self.sure else self.score


def locate_faces(
    photos: Sequence[DecodedPhoto],
    jobs: Sequence[PhotoJob],
    finder: FaceFinder | None,
    label_set: LabelSet,
) -> list[list[FoundFace]]:
    """Returns the faces of each photograph: as its boxes say, as they are found, or one.

    Args:
        photos: the photographs, or reduced copies.
        jobs: what is asked for each.
        finder: finds faces; only asked where `finds_faces` and no boxes are given.
        label_set: its parts' centres are the mean face.
    """
    searched = [i for i, job in enumerate(jobs) if job.finds_faces and job.boxes is None]
    found: dict[int, list[FoundFace]] = {}
    if searched:
        assert finder is not None
        found = dict(zip(searched, finder.find([photos[i].small for i in searched]), strict=True))
    faces = []
    for i, (photo, job) in enumerate(zip(photos, jobs, strict=True)):
        if i in found:
            faces.append([_in_photo(face, photo) for face in found[i]])
        elif job.boxes is None:
            faces.append([FoundFace(FaceFrame.whole(photo.size), 1.0)])
        else:
            faces.append(_boxed(photo, job.boxes, finder, label_set))
    return faces


def _boxed(
    photo: DecodedPhoto, boxes: Sequence[FaceBox], finder: FaceFinder | None, label_set: LabelSet
) -> list[FoundFace]:
    """Returns the faces that a user's boxes name, with how well a face fits there.

    Landmarks tell a face's frame; a box alone tells it roughly, and where there is a finder, the
    coarse labels tell it better.

    Raises:
        FrameBesideError: a box lies beside the photograph.
    """
    frames = [box.frame(label_set) for box in boxes]
    for frame in frames:
        require_touching(frame, photo.size)
    if finder is None:
        return [FoundFace(frame, 1.0) for frame in frames]
    scaled = [frame.scaled(1 / _scale(photo)) for frame in frames]
    settled = finder.settle(photo.small, scaled, [bool(box.landmarks) for box in boxes])
    return [_in_photo(face, photo) for face in settled]


def cut_out(job: PhotoJob, photo: DecodedPhoto, face: FoundFace, data: DataFacts) -> FaceCut:
    """Cuts a face out of its photograph; one in far too little light is brightened.

    A photograph that is taken for a face is left as it is.
    """
    if not job.finds_faces:
        return cut_whole(photo, data)
    cut = cut_face(photo, face.frame, data)
    return replace(cut, pixels=brighten_dark(cut.pixels))


def gather_photo(
    job: PhotoJob,
    photo: DecodedPhoto,
    cuts: Sequence[FaceCut],
    placed: Sequence[PlacedFace],
    label_set: LabelSet,
) -> ParsedPhoto:
    """Makes the label map of a photograph from its faces, and leaves out those that are too unsure.

    Args:
        job: what is asked.
        photo: the photograph, or a reduced copy.
        cuts: its faces, as they were cut.
        placed: the same faces, labelled.
        label_set: the classes and parts.
    """
    pairs = sorted(zip(cuts, placed, strict=True), key=lambda pair: -pair[1].rank)
    if job.finds_faces and job.boxes is None:  # else a user says that there are faces
        pairs = [pair for pair in pairs if _is_face(pair[1])]
    kept = [pair for pair in pairs if _is_sure(pair[1], job.min_confidence)]
    patches = [face.patches for _, face in kept]
    labels = label_map(patches, photo.size).cpu().numpy()
    faces = tuple(
        ParsedFace(
            photo.pixels,
            photo.size,
            cut.frame,
            face.patches.to_host(),
            face.score,
            face.sure.face if face.sure else None,
            face.sure.parts if face.sure else {},
        )
        for cut, face in kept
    )
    left_out = len(pairs) - len(kept)
    return ParsedPhoto(photo.pixels, labels, faces, label_set, job.photo.name, left_out)


def _is_face(face: PlacedFace) -> bool:
    return face.sure is None or face.sure.presence >= LEAST_PRESENCE


def _is_sure(face: PlacedFace, min_confidence: float) -> bool:
    return face.sure is None or face.sure.face >= min_confidence


def _in_photo(face: FoundFace, photo: DecodedPhoto) -> FoundFace:
    """Returns a face that was found in the small copy of a photograph as it lies in that."""
    return replace(face, frame=face.frame.scaled(_scale(photo)))


def _scale(photo: DecodedPhoto) -> float:
    """Returns the px of a photograph per px of its small copy."""
    return photo.reduction * photo.size[0] / float(photo.pixels.shape[1])
