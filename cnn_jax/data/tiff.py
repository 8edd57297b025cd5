"""Reads the first page of TIFF files, of 8 or 16 bits, through Pillow."""

from PIL import TiffImagePlugin

from cnn_jax.data import silence
from cnn_jax.data.refused import RefusedError

_SUBFILE, _PHOTOMETRIC, _BITS, _TILE_WIDTH, _TILE_LENGTH = 254, 262, 258, 322, 323


class TiffImage(TiffImagePlugin.TiffImageFile):
    """A TIFF image that warns of nothing and is refused where its values would be misread."""

    def _open(self) -> None:
        silence.tiff()
        super()._open()
        if self.mode in ("I", "F"):
            raise RefusedError(
                "a TIFF image whose values are floats, have a sign or 32 bits, which is not read; "
                "scale them, and save it with 8 or 16 bits"
            )
        if _number(self, _SUBFILE) & 1:
            raise RefusedError(
                "a TIFF file whose first page is a preview, as a camera's raw images have; "
                "develop it to JPEG: darktable-cli FILE FILE.jpg"
            )
        self.info["min_is_white"] = self.mode == "I;16" and _number(self, _PHOTOMETRIC, 1) == 0

    def load_prepare(self) -> None:
        """Takes the memory; of large images Pillow would warn."""
        with silence.silent():
            super().load_prepare()

    def load_end(self) -> None:
        """Turns the image upright, as its orientation says; of damaged EXIF Pillow would warn."""
        kept = self.info.get("min_is_white")
        with silence.silent():
            super().load_end()
        self.info["min_is_white"] = kept

    @property
    def tile_pixels(self) -> int:
        """The pixels of one tile, for which memory is needed beside the image's."""
        return _number(self, _TILE_WIDTH) * _number(self, _TILE_LENGTH)

    @property
    def has_16_bits_in_colour(self) -> bool:
        """Whether Pillow reads the upper 8 of 16 bits, as it does of colours."""
        return self.mode not in ("I;16", "I;16B") and _number(self, _BITS) == 16


def _number(image: TiffImage, tag: int, default: int = 0) -> int:
    """Returns the first number of a tag that may be damaged."""
    value = image.tag_v2.get(tag, default)
    if isinstance(value, tuple):
        value = value[0] if value else default
    return value if isinstance(value, int) else default
