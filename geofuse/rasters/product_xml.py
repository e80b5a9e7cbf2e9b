"""XML that comes with a product: read only where it is small and declares nothing."""

import os
from collections.abc import Callable
from xml.etree import ElementTree

from geofuse.errors import RasterReadError

#: A file larger than this describes no product.
MAX_XML_BYTES = 64 * 2**20


def read_xml(
    path: str | os.PathLike[str], refused: Callable[[str], RasterReadError]
) -> ElementTree.Element:
    """The root of an XML file.

    Args:
        path: The file.
        refused: Makes the error of what was found instead.

    Raises:
        RasterReadError: What `refused` makes: the file is too large, is no XML, or has
            declarations of its own.
    """
    size = os.path.getsize(path)
    if size > MAX_XML_BYTES:
        raise refused(f"{size} bytes")
    with open(path, "rb") as file:
        content = file.read(MAX_XML_BYTES)
    # Entities could be made to fill the memory, or to name other files.
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise refused("declarations of its own")
    try:
        return ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise refused(str(error)) from error
