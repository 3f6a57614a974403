"""XML is read in whatever encoding it is in, and nothing that is hostile costs more than its own length."""

import tracemalloc
from pathlib import Path

import pytest

from engine.records.formats.xml_documents import tree
from engine.records.formats.xml_documents.tree import number_of, parse_xml, root_name, text_of, texts_in
from engine.records.record import RecordError

NAME = "M\u00fcller \u00b5V \u4e2d"
LATIN = "M\u00fcller \u00b5V"
LONG = 300_000  # of which quadratic work takes minutes


def named(text, declaration=""):
    return f"{declaration}<root><name>{text}</name></root>"


@pytest.mark.parametrize(
    ("document", "name"),
    [
        (named(NAME).encode("utf-8"), NAME),
        (named(NAME).encode("utf-8-sig"), NAME),
        (named(NAME, '<?xml version="1.0" encoding="UTF-8"?>\n').encode("utf-8"), NAME),
        (named(NAME).encode("utf-16"), NAME),  # with a mark
        (named(NAME).encode("utf-16-le"), NAME),
        (named(NAME).encode("utf-16-be"), NAME),
        (b"\xfe\xff" + named(NAME).encode("utf-16-be"), NAME),
        (named(NAME, '<?xml version="1.0" encoding="UTF-16"?>').encode("utf-16-le"), NAME),
        (named(NAME, '<?xml version="1.0" encoding="UTF-8"?>').encode("utf-16"), NAME),  # false
        (named(NAME, '<?xml version="1.0" encoding="UTF-16"?>').encode("utf-8"), NAME),  # false
        (named(NAME, '<?xml version="1.0" encoding="ISO-8859-1"?>').encode("utf-8-sig"), NAME),  # false
        (named(LATIN, '<?xml version="1.0" encoding="ISO-8859-1"?>').encode("latin-1"), LATIN),
        (named(LATIN, "<?xml version='1.0' encoding='ISO8859-1'?>").encode("latin-1"), LATIN),
        (named(LATIN, '<?xml version="1.0" encoding = "windows-1252"?>').encode("cp1252"), LATIN),
        (named(LATIN, '<?xml version="1.0" encoding="no-such-code"?>').encode("latin-1"), LATIN),
        (named("\u4e2d", '<?xml version="1.0" encoding="GB2312"?>').encode("gb2312"), "\u4e2d"),
        (
            named("\u0e2b\u0e31\u0e27", '<?xml version="1.0" encoding="TIS-620"?>').encode("tis-620"),
            "\u0e2b\u0e31\u0e27",
        ),
        (named(LATIN, '<?xml version="1.0" encoding="macintosh"?>').encode("mac-roman"), LATIN),
        (named(LATIN, '<?xml version="1.0" encoding="KOI8-R"?>').encode("koi8-r", "replace"), "M?ller ?V"),
        (named(LATIN, '<?xml version="1.0" encoding="ISO-2022-JP"?>').encode("latin-1"), LATIN),
        (named("a", '\n  <?xml version="1.0"?>').encode(), "a"),
    ],
)
def test_the_bytes_tell_the_encoding_before_the_declaration_does(document, name):
    assert text_of(parse_xml(document), "name") == name
    assert root_name(document) == "root"


def test_what_is_no_text_in_its_encoding_is_marked_and_the_rest_is_read():
    assert text_of(parse_xml(b"<a><name>M\xfcller</name></a>"), "name") == "M\ufffdller"


@pytest.mark.parametrize(
    "encoding",
    ["hex", "rot13", "idna", "zip", "base64", "punycode", "undefined", "unicode_escape", "raw-unicode-escape", "hz"],
)
def test_an_encoding_that_is_none_of_text_is_read_as_latin_1(encoding):
    text = LATIN + r"\u0041~{"
    document = named(text, f'<?xml version="1.0" encoding="{encoding}"?>').encode("latin-1")
    assert text_of(parse_xml(document), "name") == text


def test_a_control_character_is_a_space_or_a_mark_and_never_dropped():
    for control in (byte for byte in range(32) if byte not in b"\t\n\r"):
        root = parse_xml(b"<r><a x='1%c2'>12%c34\t5</a></r>" % ((control,) * 2))
        mark = "\ufffd" if control else " "
        assert (text_of(root, "a"), root[0].get("x")) == (f"12{mark}34\t5", f"1{mark}2")
    document = b"\0<?xml version='1.0'?>\0<r>\0 47\0\0</r>" + b"\0" * 1000
    assert (text_of(parse_xml(document)), root_name(document)) == ("47", "r")
    assert text_of(parse_xml("<r>1\0002\x01</r>".encode("utf-16"))) == "1 2\ufffd"


def test_a_digit_of_which_one_bit_is_wrong_is_no_end_of_a_number():
    with pytest.raises(RecordError, match="rate is not a number"):
        number_of(text_of(parse_xml(b"<r>50\x10</r>")), "rate")


@pytest.mark.parametrize("whole", [named(NAME).encode(), named(NAME).encode("utf-16"), named(NAME).encode("utf-16-be")])
def test_a_truncated_document_is_refused(whole):
    for end in range(len(whole)):
        if whole[end:].decode("latin-1").strip("\0\n"):
            with pytest.raises(RecordError):
                parse_xml(whole[:end])


@pytest.mark.parametrize(
    "document", [b"", b"\xff\xfe", b"\xff\xfe\x00\x00", b"\x00" * 100, b"no xml", b"<a></b>", b"<a/><b/>", b"<a b=1/>",
                 b"<a\x00b></ab>", bytes(range(256)), "<a/>".encode("utf-32"), b"<a>&#0;</a>", b"<a>&undeclared;</a>",
                 b"<a b='1' b='2'/>"],
)  # fmt: skip
def test_what_is_no_document_is_refused_in_a_sentence(document):
    with pytest.raises(RecordError, match="XML is damaged in line"):
        parse_xml(document)


def test_names_are_without_their_namespace_and_in_their_own_case():
    root = parse_xml(b'<h:Root xmlns:h="urn:x" xmlns="urn:y"><h:Child xsi:type="T" h:unit="uV"/><Child/></h:Root>')
    assert [root.tag, *(child.tag for child in root)] == ["Root", "Child", "Child"]
    assert (root[0].get("type"), root[0].get("unit")) == ("T", "uV")


def test_a_document_type_may_name_a_file_that_nobody_looks_for(monkeypatch):
    def never(*_arguments, **_options):
        raise AssertionError("a file was looked for")

    monkeypatch.setattr(Path, "open", never)
    monkeypatch.setattr("builtins.open", never)
    for doctype in (
        b'SYSTEM "restecg.dtd"',
        b'SYSTEM "file:///etc/passwd"',
        b'PUBLIC "-//GE//MUSE" "http://127.0.0.1/"',
    ):
        root = parse_xml(b'<?xml version="1.0" encoding="ISO-8859-1"?><!DOCTYPE R ' + doctype + b"><R><a>1</a></R>")
        assert text_of(root, "a") == "1"


def test_an_entity_of_a_file_that_is_not_looked_for_is_marked_and_never_left_out():
    root = parse_xml(b'<!DOCTYPE R SYSTEM "restecg.dtd"><R><a>12&unknown;34</a><b>&lt;&amp;&#65;</b></R>')
    assert text_of(root, "a") == "12\ufffd34"
    assert text_of(root, "b") == "<&A"


LAUGHS = b"<!DOCTYPE R [<!ENTITY a0 'ha'>" + b"".join(
    b"<!ENTITY a%d '%s'>" % (k, b"&a%d;" % (k - 1) * 10) for k in range(1, 12)
)


@pytest.mark.parametrize(
    "document",
    [
        LAUGHS + b"]><R>&a11;</R>",
        LAUGHS + b"]><R x='&a11;'/>",
        b"<!DOCTYPE R [<!ENTITY a '" + b"ha" * LONG + b"'>]><R>" + b"&a;" * LONG + b"</R>",
        b"<!DOCTYPE R [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><R>&e;</R>",
        b"<!DOCTYPE R [<!ENTITY % e SYSTEM 'http://127.0.0.1/x.dtd'> %e;]><R/>",
        b"<!DOCTYPE R [<!ENTITY % e '<!ENTITY x &#39;y&#39;>'> %e;]><R>&x;</R>",
        b"<!DOCTYPE R [<!ENTITY harmless 'x'>]><R/>",
    ],
)
def test_a_document_that_declares_entities_is_refused(document):
    with pytest.raises(RecordError, match="declares entities"):
        parse_xml(document)
    assert root_name(document) in ("R", "")


def test_deep_nesting_is_refused_and_a_hundred_levels_are_read():
    assert parse_xml(b"<a>" * 100 + b"</a>" * 100).tag == "a"
    for document in (b"<a>" * 101 + b"</a>" * 101, b"<a>" * LONG):
        with pytest.raises(RecordError, match="more elements"):
            parse_xml(document)


def test_too_many_elements_are_refused(monkeypatch):
    monkeypatch.setattr(tree, "_MAX_ELEMENTS", 1000)
    assert len(parse_xml(b"<r>" + b"<a/>" * 999 + b"</r>")) == 999
    with pytest.raises(RecordError, match="more elements"):
        parse_xml(b"<r>" + b"<a/>" * 1000 + b"</r>")


HOSTILE = {
    "spaces before": b" " * LONG + b"<a/>",
    "spaces inside": b"<a>" + b" " * LONG + b"</a>",
    "comments": b"<!--" * LONG,
    "instructions": b"<?" * LONG,
    "declarations": b'<?xml version="1.0"?>' * LONG,
    "types": b"<!DOCTYPE " * LONG,
    "subsets": b"<!DOCTYPE a [" * LONG,
    "tags": b"<a " * LONG,
    "brackets": b"<" * LONG,
    "references": b"<a>" + b"&lt;" * LONG + b"</a>",
    "sections": b"<a>" + b"<![CDATA[" * LONG,
    "attributes": b"<a " + b" ".join(b"x%d='1'" % k for k in range(LONG // 10)) + b"/>",
    "long names": b"<" + b"a" * LONG + b"/>",
    "marks": b"\xff\xfe" * LONG,
}


@pytest.mark.parametrize("document", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_hostile_costs_no_more_than_its_length(document):
    tracemalloc.start()
    try:
        parse_xml(document)
    except RecordError as error:
        assert len(str(error)) < 200
    name = root_name(document)
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert name in ("", "a", "a" * LONG)
    assert peak < 50 * len(document) + 1_000_000


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"<!-- <not> --><?pi <nor>?><!DOCTYPE R SYSTEM 'x.dtd' [<!-- > -->]><x:R a='>'>", "R"),
        (b"<x:R a='>", ""),
        (b"<R>", "R"),
        (b"<R ", ""),
        (b"", ""),
        (b"R", ""),
        (b"\x89PNG", ""),
        (b"<R><a></b>", "R"),
        ("<R>\u00e4".encode()[:-1], "R"),
        (b"<!--" + b"x" * 5000 + b"--><R>", "R"),
    ],
)
def test_the_root_is_told_by_the_first_bytes_or_not_at_all(head, name):
    assert root_name(head) == name


def test_texts_are_stripped_and_found_by_their_path():
    root = parse_xml(b"<r> <a> <b> one </b> two </a><c/><d> 3 </d></r>")
    assert (text_of(root, "a/b"), text_of(root, "c"), text_of(root, "e"), text_of(None)) == ("one", "", "", "")
    assert list(texts_in(root)) == ["one", "two", "3"]


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "-inf", "1e999", "1,5", "0x1"])
def test_what_is_no_number_is_refused_without_its_text(text):
    with pytest.raises(RecordError, match=r"^its rate is not a number$"):
        number_of(text, "rate")


def test_a_number_is_read():
    assert number_of(" -4.88e0 ", "gain") == -4.88
