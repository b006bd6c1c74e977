"""JPEG and PNG files with EXIF by Pillow, and with IPTC and XMP segments built by hand."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, PngImagePlugin

NAMESPACES = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "aux": "http://ns.adobe.com/exif/1.0/aux/",
    "exifEX": "http://cipa.jp/exif/1.0/",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
}


def xmp_packet(body: str, attributes: str = "") -> str:
    """Return an XMP packet with these properties, as elements or attributes."""
    declared = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in NAMESPACES.items())
    return (
        "<?xpacket begin='\ufeff' id='W5M0MpCehiHzreSzNTczkc9d'?>"
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" {declared} {attributes}>{body}</rdf:Description>'
        "</rdf:RDF></x:xmpmeta>" + " " * 2000 + "<?xpacket end='w'?>"
    )


def iptc_datasets(datasets: Sequence[tuple[int, int, bytes]]) -> bytes:
    """Return IPTC-IIM: (record, dataset, bytes) each."""
    return b"".join(
        struct.pack(">BBBH", 0x1C, record, number, len(value)) + value
        for record, number, value in datasets
    )


def jpeg(
    *,
    exif: Mapping[int, Any] | None = None,
    more_exif: Mapping[int, Any] | None = None,
    gps: Mapping[int, Any] | None = None,
    iptc: Sequence[tuple[int, int, bytes]] = (),
    xmp: str | bytes = b"",
) -> bytes:
    """Return a JPEG file with tags of IFD0, of its Exif and GPS directories, IPTC and XMP."""
    tags = Image.Exif()
    tags.update(exif or {})
    for directory, values in ((0x8769, more_exif), (0x8825, gps)):
        if values:
            tags.get_ifd(directory).update(values)
    stream = io.BytesIO()
    Image.new("RGB", (16, 12), "teal").save(stream, "JPEG", exif=tags)
    segments = b""
    if xmp:
        packet = xmp.encode() if isinstance(xmp, str) else xmp
        segments += _segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet)
    if iptc:
        data = iptc_datasets(iptc)
        resource = (
            b"8BIM\x04\x04\0\0" + struct.pack(">I", len(data)) + data + b"\0" * (len(data) % 2)
        )
        segments += _segment(0xED, b"Photoshop 3.0\0" + resource)
    return stream.getvalue()[:2] + segments + stream.getvalue()[2:]


def png(xmp: str) -> bytes:
    """Return a PNG file with XMP."""
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", xmp)
    stream = io.BytesIO()
    Image.new("RGB", (16, 12), "teal").save(stream, "PNG", pnginfo=texts)
    return stream.getvalue()


def _segment(marker: int, data: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data
