"""Names files that are not read as images, by their first bytes, and says what to do with them."""

_GENERAL = "convert it to PNG, with ImageMagick: magick FILE FILE.png"
_VIDEO = "save its frames as images: ffmpeg -i FILE frame%04d.png"
_VOLUME = "save its slices as images, with nibabel or SimpleITK"

# (offset, bytes that stand there, what the file is, what to do).
_KNOWN: tuple[tuple[int, bytes, str, str], ...] = (
    (4, b"ftypavif", "an AVIF image", _GENERAL),
    (4, b"ftypavis", "an AVIF image", _GENERAL),
    (4, b"ftypcrx", "a camera's raw image (CR3)", "develop it to JPEG or TIFF: darktable-cli FILE"),
    (4, b"ftyp", "a video, or an image of its kind", _VIDEO),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 image", _GENERAL),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image", _GENERAL),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL image", "convert it to PNG: djxl FILE FILE.png"),
    (0, b"\xff\x0a", "a JPEG XL image", "convert it to PNG: djxl FILE FILE.png"),
    (0, b"8BPS", "a Photoshop file", _GENERAL),
    (0, b"gimp xcf", "a GIMP file", "export it as PNG"),
    (0, b"%PDF", "a PDF file", "save its pages as images: pdftoppm -png FILE page"),
    (0, b"\0\0\x01\0", "an icon", _GENERAL),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR image", "scale its values and save it as 16-bit PNG"),
    (0, b"#?RADIANCE", "a Radiance HDR image", "scale its values and save it as 16-bit PNG"),
    (0, b"SIMPLE  =", "a FITS image", "scale its values and save it as 16-bit PNG"),
    (0, b"\x89HDF", "an HDF5 file", "save its arrays with numpy.savez, for --dataset.name=npz"),
    (0, b"\x93NUMPY", "a NumPy array", "save it with numpy.savez, for --dataset.name=npz"),
    (0, b"NRRD", "an NRRD volume", _VOLUME),
    (0, b"ObjectType", "a MetaImage volume", _VOLUME),
    (344, b"n+1\0", "a NIfTI volume", _VOLUME),
    (0, b"\x1a\x45\xdf\xa3", "a video", _VIDEO),
    (0, b"PK\x03\x04", "a zip archive", "unpack it"),
    (0, b"\x1f\x8b", "a gzip archive", "unpack it: gunzip FILE; a .nii.gz file is a volume"),
    (0, b"version https://git-lfs", "a pointer of Git LFS in place of a file", "git lfs pull"),
)


def kind(data: bytes) -> str:
    """Returns what a file is that is no image of a known format, and how to convert it.

    Args:
        data: its content, or the beginning of it.
    """
    for offset, found, what, how in _KNOWN:
        if data[offset : offset + len(found)] == found:
            return f"{what}, which is not read; {how}"
    if data[:2] in (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6") and data[2:3].isspace():
        return f"a PNM image, which is not read; {_GENERAL}"
    begin = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in data[:512].lower():
        return f"an SVG drawing, which is not read; {_GENERAL}"
    if begin.startswith((b"<!doctype", b"<html")):
        return (
            "a web page in place of an image, such as an error that was downloaded; fetch it anew"
        )
    if not data.strip(b"\0"):
        return "filled with zeros, as a copy that was interrupted; copy it again"
    known = "PNG, JPEG, WebP, BMP, GIF, TIFF, DICOM or HEIC"
    return f"not a {known} image; convert it to PNG, or remove it"
