"""Whose images DICOM files are, and which of their fields may tell it to others."""

from collections.abc import Callable, Sequence
from pathlib import Path

from cnn_jax import text
from cnn_jax.data import dicom, kept, silence
from cnn_jax.data.cache import Encoded
from cnn_jax.data.refused import RefusedError

_ENDINGS = ("", ".dcm", ".dicom", ".ima")
# Fields that identify a person (of PS3.15's profile those that nobody needs to train on).
_IDENTIFYING = (
    "PatientName",
    "PatientBirthDate",
    "PatientAddress",
    "PatientTelephoneNumbers",
    "OtherPatientIDs",
    "OtherPatientNames",
)


def group_of(splits: Sequence[Encoded], notes: list[str]) -> Callable[[str], str] | None:
    """Returns an example's id to its patient, where files say one; other files are by themselves.

    Args:
        splits: all splits of files of the user's own.
        notes: receives a line on patients, and one on files that tell who they are.
    """
    files = {
        id_: path
        for each in splits
        for ids, _, sources in each.blocks()
        for id_, path in zip(ids, sources, strict=True)
        if isinstance(path, Path) and path.suffix.lower() in _ENDINGS
    }
    if not files:
        return None
    patients, identifying = kept.kept("dicom", splits, None, lambda: _look(files))
    for field, count in identifying.items():
        notes.append(
            f"{text.plural(count, 'DICOM file')} with the field {field}, which may tell who the "
            "patient is: a run keeps none of it, but whoever gets the files does"
        )
    if not patients:
        return None
    notes.append(
        "groups: the PatientID of the DICOM files, which predictions_*.csv names; "
        "dataset.group=REGEX says others"
    )
    return lambda id_: patients.get(id_, id_)


def _look(files: dict[str, Path]) -> tuple[dict[str, str], dict[str, int]]:
    """Returns ({id: PatientID}, {identifying field: files that have it}) of DICOM files."""
    patients: dict[str, str] = {}
    found: dict[str, int] = {}
    tags = ["PatientID", "BurnedInAnnotation", *_IDENTIFYING]
    for id_, path in files.items():
        try:
            if not path.is_file():  # a pipe would be waited for
                continue
            with path.open("rb") as file:
                head = file.read(1 << 16)
                if (
                    head[dicom.PREAMBLE : dicom.PREAMBLE + 4] != dicom.MARK
                    or dicom.DEFLATED in head
                ):
                    continue
                file.seek(0)
                with silence.silent():
                    header = dicom.library().dcmread(
                        file, stop_before_pixels=True, specific_tags=tags
                    )
                    said = {tag: str(header.get(tag) or "").strip() for tag in tags}
        except RefusedError:  # without pydicom
            return {}, {}
        except Exception:  # decoding names it, where it is refused or skipped
            continue
        if said["PatientID"]:
            patients[id_] = said["PatientID"]
        marked = ["BurnedInAnnotation"] * (said["BurnedInAnnotation"].upper() == "YES")
        anonymous = ("", "anonymous", "anonymized", "none")
        told = [tag for tag in _IDENTIFYING if said[tag].lower() not in anonymous]
        for tag in told + marked:
            found[tag] = found.get(tag, 0) + 1
    return patients, found
