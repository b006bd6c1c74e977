"""Opens an image's header with the reader of its format, whatever the file is called."""

from __future__ import annotations

import io
import re
from functools import cache

# Named one by one: importing a plugin registers it in Image.OPEN, and Pillow's own search would
# import all forty of them, a PostScript interpreter's among them, before it gave up on a file.
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from clipsearch.errors import ImageTooLarge, UnreadableImage

# Each with the test of a file's first 16 bytes that Pillow registers for it. JpegImageFile, not
# what Pillow registers for JPEG: that looks for more images (MPO), and the first is all we want.
_READERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
    "JPEG2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
}

_ENDS_EARLY = re.compile(r"(?i)truncat|end of file|\beof\b|but only got|requires a buffer")


@cache
def heif_reader() -> type[ImageFile.ImageFile]:
    # Imported when the first such file turns up: it loads 20 MB of codecs. Not registered with
    # Pillow, which would change what Image.open does for the program around us.
    from pillow_heif.as_plugin import HeifImageFile

    return HeifImageFile


def open_header(data: bytes, name: str) -> ImageFile.ImageFile:
    """Read the header; nothing is decoded yet."""
    failure: UnreadableImage | None = None
    for format_ in _formats(data[:16]):
        reader = _READERS.get(format_) or heif_reader()
        try:
            try:
                return reader(io.BytesIO(data))
            except ValueError as error:
                if "Invalid Exif payload" not in str(error):
                    raise
                # libavif refuses the whole image for its EXIF. Under another name it is left be.
                return reader(io.BytesIO(data.replace(b"Exif", b"\0\0\0\0", 1)))
        except Image.DecompressionBombError as error:
            raise ImageTooLarge(name, str(error)) from error
        except Exception as error:  # noqa: BLE001 (as hostile as the pixels, see open_image)
            failure = damaged(name, format_, data, error)
    raise failure or UnreadableImage(
        name, "not an image, or in a format that clipsearch does not read"
    )


def _formats(start: bytes) -> list[str]:
    """Name the formats that a file's first 16 bytes may belong to, the likeliest first."""
    formats = []
    for format_ in _READERS:
        accepts = Image.OPEN[format_][1]
        if accepts and accepts(start):
            formats.append(format_)
    # AVIF and HEIF share their container, and its general brands do not say which of them it is.
    if start[4:8] == b"ftyp" and start[8:12] not in (b"avif", b"avis"):
        formats.append("HEIF")
    return formats


def damaged(name: str, format_: str | None, data: bytes, error: Exception) -> UnreadableImage:
    detail = str(error) or type(error).__name__
    # A RIFF file (WebP) begins with its length; of the others, the decoders say it in their words.
    short = data[:4] == b"RIFF" and len(data) < 8 + int.from_bytes(data[4:8], "little")
    fault = (
        "truncated" if short or _ENDS_EARLY.search(detail) else "damaged, truncated or unsupported"
    )
    return UnreadableImage(name, f"{fault} {format_} file ({detail.rstrip('. ')})")
