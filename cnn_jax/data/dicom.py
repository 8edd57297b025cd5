"""Reads the first frame of DICOM files as a grey or RGB image.

pydicom (the extra `dicom`) reads them. Values are rescaled, then windowed to 8 bits as the file
says (PS3.3 C.11.2); without a window they keep 16 bits, whose range `bit_depth` finds.
"""

import io
import logging
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from cnn_jax.data import silence
from cnn_jax.data.refused import RefusedError

PREAMBLE = 128  # bytes before the mark
MARK = b"DICM"
DEFLATED = b"1.2.840.10008.1.2.1.99"
# Transfer syntaxes: as they are, RLE, the JPEGs, JPEG-LS and JPEG 2000.
_PLAIN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
_RLE = "1.2.840.10008.1.2.5"
_JPEGS = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91))
_DECOMPRESS = "decompress it first, with DCMTK or GDCM: gdcmconv -w FILE FILE"


class DicomImage(ImageFile.ImageFile):
    """The first frame of a DICOM file as a Pillow image of mode L, I;16 or RGB."""

    format = "DICOM"
    format_description = "DICOM"
    _dataset: Any = None

    def _open(self) -> None:
        assert self.fp is not None
        data = self.fp.read()
        if DEFLATED in data:  # reading it would inflate all of it, however much that is
            raise RefusedError(f"a deflated DICOM file, which is not read; {_DECOMPRESS}")
        with silence.silent():
            dataset = library().dcmread(io.BytesIO(data))
            _check(dataset)
            self._size = int(dataset.Columns), int(dataset.Rows)
            grey = dataset.SamplesPerPixel == 1 and not _has_palette(dataset)
            self._mode = ("L" if _window(dataset) else _stored_mode(dataset)) if grey else "RGB"
        self._dataset = dataset
        self.tile = []

    def load(self) -> Any:
        """Decodes the pixels, once."""
        if self._dataset is not None:
            with silence.silent():
                pixels, inverted = _pixels(self._dataset)
            self._dataset = None
            self.info["min_is_white"] = inverted
            self._size = pixels.shape[1], pixels.shape[0]
            found = Image.fromarray(pixels)
            self._mode, self.im = found.mode, found.im
        return super().load()


def library() -> Any:
    """Returns the module pydicom; RefusedError says how to install it."""
    try:
        import pydicom
    except ImportError as error:
        raise RefusedError(
            "a DICOM file, and reading it needs pydicom: install the `dicom` extra "
            "(pip install 'cnn-jax[dicom]'), or convert it to PNG: dcm2img FILE FILE.png"
        ) from error
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # what is wrong is said by our errors
    return pydicom


def _functions() -> Any:
    from pydicom import pixels

    return pixels


def _check(dataset: Any) -> None:
    """Refuses files without an image of a kind that is read, before anything is decompressed."""
    if "PixelData" not in dataset:
        raise RefusedError("a DICOM file without an image, or with values that are no pixels")
    samples, bits = int(dataset.SamplesPerPixel), int(dataset.BitsAllocated)
    if samples not in (1, 3) or bits not in (8, 16) or (samples == 3 and bits != 8):
        raise RefusedError(
            f"a DICOM image of {samples} channels with {bits} bits, which is not read; 1 channel "
            "of 8 or 16 bits and 3 of 8 are"
        )
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    if syntax in _JPEGS:
        from pydicom import encaps

        count = int(dataset.get("NumberOfFrames") or 1)
        frame = encaps.get_frame(dataset.PixelData, 0, number_of_frames=count)
        size = _size_of_jpeg(frame)
        if size != (dataset.Rows, dataset.Columns):
            raise RefusedError("damaged: its compressed image has another size than the file says")
    elif syntax not in (*_PLAIN, _RLE):
        raise RefusedError(f"a DICOM file of the transfer syntax {syntax}; {_DECOMPRESS}")


def _size_of_jpeg(frame: bytes) -> tuple[int, int] | None:
    """Returns (height, width) of a JPEG, JPEG-LS or JPEG 2000 image, by its markers."""
    at = 2
    while at + 10 <= len(frame):
        if frame[at] != 0xFF:
            return None
        marker, length = frame[at + 1], int.from_bytes(frame[at + 2 : at + 4], "big")
        if marker == 0x51 and at + 24 <= len(frame):  # SIZ of JPEG 2000
            sides = [int.from_bytes(frame[at + k : at + k + 4], "big") for k in (6, 10, 14, 18)]
            return sides[1] - sides[3], sides[0] - sides[2]
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            height, width = frame[at + 5 : at + 7], frame[at + 7 : at + 9]
            return int.from_bytes(height, "big"), int.from_bytes(width, "big")
        at += 1 if marker == 0xFF else 2 + length
    return None


def _has_palette(dataset: Any) -> bool:
    return str(dataset.PhotometricInterpretation) == "PALETTE COLOR"


def _window(dataset: Any) -> bool:
    """Returns whether a file says which values are black and white."""
    has_window = dataset.get("WindowCenter") is not None and dataset.get("WindowWidth") is not None
    return has_window or bool(dataset.get("VOILUTSequence"))


def _stored_mode(dataset: Any) -> str:
    return "L" if dataset.BitsAllocated == 8 and "ModalityLUTSequence" not in dataset else "I;16"


def _pixels(dataset: Any) -> tuple[np.ndarray, bool]:
    """Returns (uint8 or uint16 [height, width] or [height, width, 3], whether 0 is white)."""
    pixels = _functions()
    try:
        array = pixels.pixel_array(dataset, index=0)
    except RuntimeError as error:  # no package decompresses it
        words = " ".join(str(error).split())
        raise RefusedError(f"a compressed DICOM image: {words[:300]}; {_DECOMPRESS}") from error
    if _has_palette(dataset):
        array = pixels.apply_color_lut(array, dataset)
        return (array if array.dtype == np.uint8 else (array >> 8).astype(np.uint8)), False
    if array.ndim == 3:
        return array.astype(np.uint8), False
    inverted = str(dataset.PhotometricInterpretation) == "MONOCHROME1"
    if _window(dataset):
        shown = _windowed(dataset, pixels.apply_modality_lut(array, dataset))
        grey = np.round(255 * shown).astype(np.uint8)
        return (255 - grey if inverted else grey), False
    if "ModalityLUTSequence" in dataset:
        array = pixels.apply_modality_lut(array, dataset)
    elif float(dataset.get("RescaleSlope") or 1) < 0:
        inverted = not inverted
    if array.dtype.kind == "i":
        array = array.astype(np.int32) + 2 ** (int(dataset.BitsStored) - 1)
    array = np.clip(array, 0, 65535)
    if _stored_mode(dataset) == "I;16":
        return array.astype(np.uint16), inverted
    grey = np.clip(array, 0, 255).astype(np.uint8)
    return (255 - grey if inverted else grey), False


def _windowed(dataset: Any, values: np.ndarray) -> np.ndarray:
    """Returns float32 of 0 to 1: what the file's first window, or its table, shows of its values.

    Where there are both, the window counts.
    """
    if dataset.get("WindowCenter") is None or dataset.get("WindowWidth") is None:
        looked_up = _functions().apply_voi(values, dataset, index=0)
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        return np.clip(looked_up.astype(np.float32) / (2**bits - 1), 0, 1)
    center, width = (
        float(np.ravel(np.asarray(dataset[name].value, dtype=float))[0])
        for name in ("WindowCenter", "WindowWidth")
    )
    x = values.astype(np.float32)
    function = str(dataset.get("VOILUTFunction") or "LINEAR")
    smallest = 1 if function == "LINEAR" else 0
    finite = np.isfinite([center, width]).all() and np.isfinite(x).all()
    if not finite or width < smallest or (width == 0 and not smallest):
        raise RefusedError(f"damaged: its window is {width:g} wide around {center:g}")
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (x - center) / width, -80, 80)))
    if function == "LINEAR_EXACT":
        return np.clip((x - center) / width + 0.5, 0, 1)
    if width == 1:
        return (x > center - 0.5).astype(np.float32)
    return np.clip((x - (center - 0.5)) / (width - 1) + 0.5, 0, 1)
