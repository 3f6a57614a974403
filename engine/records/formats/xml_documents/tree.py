"""An XML document as a tree of elements, read so that nothing in it can cost more than its own length.

The encoding is told by the bytes before the declaration is believed: devices write UTF-16 with and without a mark, and
names of encodings that no list has (``ISO8859-1``). A document type may name a file (``restecg.dtd``), which is not
looked for: where an entity of that file is used, U+FFFD takes its place. A document that declares entities itself is
refused, since only an attack has them.
"""

import codecs
import re
from collections.abc import Iterator
from contextlib import suppress
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from engine.records.record import RecordError

_MAX_DEPTH = 100
_MAX_ELEMENTS = 500_000
_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_MANY_BYTES = ("utf", "cp", "gb", "big5", "euc_", "shift_jis")  # character sets, some of more than one byte
_ESCAPES = rb"\u0041\x41" + b"\x1b$)C\x1b$B01~{01~}"  # which other encodings read as fewer characters
_ONE_BYTE_EACH = bytes(range(92)) + _ESCAPES + bytes(range(93, 256))
_FORBIDDEN = bytes(1 if 0 < byte < ord(" ") and byte not in b"\t\n\r" else byte for byte in range(256))
_DECLARATION = re.compile(rb"\s*<\?xml[^>]{0,200}\?>")
_ENCODING = re.compile(rb"<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9._-]{1,40})[\"']")


def parse_xml(content: bytes) -> Element:
    """Return the root of a document, every name without its namespace and in its own case. Raises RecordError."""
    builder = TreeBuilder()
    depth = n_elements = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, n_elements
        depth, n_elements = depth + 1, n_elements + 1
        if depth > _MAX_DEPTH or n_elements > _MAX_ELEMENTS:
            raise RecordError("its XML has more elements than any recording")
        builder.start(_local(name), {_local(key): value for key, value in attributes.items()})

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(_local(name))

    def refuse(*_declared: object) -> None:
        raise RecordError("its XML declares entities, which no recording has")

    def skip(_name: str, is_parameter: bool) -> None:
        if not is_parameter:
            builder.data("\ufffd")

    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = refuse
    parser.SkippedEntityHandler = skip
    try:
        parser.Parse(_in_utf_8(content), True)
        return builder.close()
    except expat.ExpatError as error:
        raise RecordError(f"its XML is damaged in line {error.lineno}: {expat.errors.messages[error.code]}") from None


def root_name(content: bytes) -> str:
    """Return the name of the root element from the first bytes of a document, "" where they do not tell it."""
    names: list[str] = []
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = lambda name, _attributes: names.append(_local(name))
    with suppress(expat.ExpatError):  # what is damaged after the root's name does not take it back
        parser.Parse(_in_utf_8(content), False)
    return names[0] if names else ""


def text_of(element: Element | None, path: str = "") -> str:
    """Return the text at a path below an element, stripped; "" where there is no such element or text."""
    found = element if not path or element is None else element.find(path)
    return (found.text or "").strip() if found is not None else ""


def number_of(text: str, what: str) -> float:
    """Return a text's number. Raises RecordError that names ``what`` it should be of, without the text."""
    try:
        number = float(text)
    except ValueError:
        raise RecordError(f"its {what} is not a number") from None
    if number != number or number in (float("inf"), float("-inf")):
        raise RecordError(f"its {what} is not a number")
    return number


def texts_in(element: Element) -> Iterator[str]:
    """Yield every text that is not empty in an element and below it."""
    yield from (text.strip() for text in element.itertext() if text.strip())


def _local(name: str) -> str:
    return name.rpartition(":")[2]


def _in_utf_8(content: bytes) -> bytes:
    """Return a document without its declaration of an encoding, and without the characters that XML forbids.

    A space takes the place of a NUL, with which devices pad, and U+FFFD that of any other control character: one wrong
    bit makes them of digits, and with a space in its place a number would only be shorter.
    """
    text = _decoded(content).encode("utf-8", "replace").replace(b"\0", b" ").translate(_FORBIDDEN)
    text = text.replace(b"\1", "\ufffd".encode())
    declaration = _DECLARATION.match(text)
    return text[declaration.end() :] if declaration else text


def _decoded(content: bytes) -> str:
    for mark, encoding in _MARKS.items():
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding, "replace")
    if content[:4].count(0) == 2 and content[:1] in (b"<", b"\x00"):
        return content.decode("utf-16-le" if content[:1] == b"<" else "utf-16-be", "replace")
    declared = _ENCODING.match(content[:300].lstrip())
    return content.decode(_character_set(declared[1].decode("ascii")) if declared else "utf-8", "replace")


def _character_set(name: str) -> str:
    """Return a declared encoding as Python knows it, Latin-1 for one that it does not know or that is none of text."""
    try:
        known = codecs.lookup(name).name
        if known.startswith(_MANY_BYTES):
            return "utf-8" if known.startswith("utf") else known
        return known if len(_ONE_BYTE_EACH.decode(known, "replace")) == len(_ONE_BYTE_EACH) else "latin-1"
    except (LookupError, UnicodeError):
        return "latin-1"
