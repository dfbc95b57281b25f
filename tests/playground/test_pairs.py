"""FAULTS row 17: every kind of CSV is read, or refused by the name of its fault."""

import pytest

from playground.pairs import MAX_BYTES, MAX_PAIRS, PairsError, parse

PLAIN = "source,target\nhello,bonjour\n你好,nǐ hǎo\n"
WANTED = (("hello", "bonjour"), ("你好", "nǐ hǎo"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_reads_every_encoding(encoding: str) -> None:
    assert parse(PLAIN.encode(encoding)) == WANTED


def test_reads_gb18030() -> None:
    assert parse("你好,世界\n".encode("gb18030")) == (("你好", "世界"),)


@pytest.mark.parametrize(
    "text",
    [
        "hello;bonjour\n你好;nǐ hǎo",
        "hello\tbonjour\r\n你好\tnǐ hǎo\r\n",
        "\n\nSOURCE,Target\nhello,bonjour\n\n你好 , nǐ hǎo\n,\n",
        '"hello","bonjour"\n"你好","nǐ hǎo"',
        "hello,bonjour\r你好,nǐ hǎo\r",
    ],
)
def test_reads_every_shape(text: str) -> None:
    assert parse(text.encode()) == WANTED


def test_a_quoted_cell_may_hold_the_delimiter_and_markup() -> None:
    assert parse(b'"a,b","<img onerror=x>"\n"$x$",:red[x]') == (("a,b", "<img onerror=x>"), ("$x$", ":red[x]"))


def test_text_is_composed() -> None:
    assert parse("e\u0301,x".encode()) == (("\u00e9", "x"),)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "The file is empty."),
        (b" \n\n", "The file is empty."),
        (b"source,target\n", "no pairs below its header"),
        (b"hello\nworld\n", "only one column"),
        (b"a,b\nc,d,e\n", "Line 2 has 3 columns, not 2."),
        (b"a,b\nc\n", "Line 2 has 1 columns, not 2."),
        (b"a,b\nc,\n", "Line 2: source or target is empty."),
        (b'a,b\n"c,d\ne,f\n', "Line 2: a quotation mark is opened and never closed."),
        (b'a,b\n"c"x,d\n', "Line 2 is not well-formed CSV"),
        (b"a,b\xff\xff\xff", "encoding is not known"),
        (b"\xff\xfea", "encoding is not known"),
        (b"a,b\0\n", "not a text file"),
        (b"a" * 129 + b",b", "Line 1: at most 128 symbols a text."),
        (b"a" * (MAX_BYTES + 1), f"larger than {MAX_BYTES} bytes"),
        (b"a,b\n" * (MAX_PAIRS + 2), f"more than {MAX_PAIRS} pairs"),
    ],
)
def test_refuses_by_name_of_the_fault(data: bytes, sentence: str) -> None:
    with pytest.raises(PairsError, match=sentence.replace(".", r"\.")):
        parse(data)
