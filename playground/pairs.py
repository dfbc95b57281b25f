"""Pairs of source and target from a CSV file, as spreadsheets write it; what cannot be read is refused by name of the fault."""

import codecs
import csv
import io
import unicodedata

from playground.i18n import N_, _

MAX_BYTES = 1_000_000
MAX_PAIRS = 5_000
MAX_TEXT = 128
HEADER = ("source", "target")

Pairs = tuple[tuple[str, str], ...]


class PairsError(ValueError):
    """A CSV that cannot be used: an English template and what fills it."""

    def __init__(self, template: str, **values: int) -> None:
        self.template, self.values = template, values
        super().__init__(template.format(**values))

    @property
    def sentence(self) -> str:
        """In the reader's language."""
        return _(self.template).format(**self.values)


def parse(data: bytes) -> Pairs:
    """The pairs of a CSV with two columns, source and target; a header of these names may stand above. Raises PairsError."""
    if len(data) > MAX_BYTES:
        raise PairsError(N_("The file is larger than {limit} bytes."), limit=MAX_BYTES)
    text = unicodedata.normalize("NFC", decode(data))
    if not text.strip():
        raise PairsError(N_("The file is empty."))
    if "\0" in text:
        raise PairsError(N_("This is not a text file."))
    pairs = rows(text)
    if pairs and tuple(cell.lower() for cell in pairs[0]) == HEADER:
        pairs = pairs[1:]
    if not pairs:
        raise PairsError(N_("The file holds no pairs below its header."))
    return tuple(pairs)


def decode(data: bytes) -> str:
    """UTF-8 (with or without BOM), UTF-16, GB18030. Raises PairsError."""
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if data.startswith(mark):
            guesses = [encoding]
            break
    else:
        # Latin text in UTF-16 without its mark shows zeros in every second byte.
        even, odd = data[0:2000:2].count(0), data[1:2000:2].count(0)
        guesses = ["utf-16-le"] if odd > 5 * even + 1 else ["utf-16-be"] if even > 5 * odd + 1 else ["utf-8", "gb18030"]
    for encoding in guesses:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise PairsError(N_("The text encoding is not known. Save the file as CSV UTF-8 and try again."))


def rows(text: str) -> list[tuple[str, str]]:
    """The two cells of every line that is not blank. Raises PairsError."""
    first = next(line for line in text.splitlines() if line.strip())
    delimiter = max(",;\t", key=first.count)
    if delimiter not in first:
        raise PairsError(N_("There is only one column. Put source and target in two, divided by a comma."))
    found: list[tuple[str, str]] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    start = 1
    try:
        for cells in reader:
            line, start = start, reader.line_num + 1
            stripped = [cell.strip() for cell in cells]
            if not any(stripped):
                continue
            if len(stripped) != 2:
                raise PairsError(N_("Line {line} has {n} columns, not 2."), line=line, n=len(stripped))
            if not all(stripped):
                raise PairsError(N_("Line {line}: source or target is empty."), line=line)
            if max(map(len, stripped)) > MAX_TEXT:
                raise PairsError(N_("Line {line}: at most {limit} symbols a text."), line=line, limit=MAX_TEXT)
            found.append((stripped[0], stripped[1]))
            if len(found) > MAX_PAIRS + 1:  # one more may be the header
                raise PairsError(N_("The file holds more than {limit} pairs."), limit=MAX_PAIRS)
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise PairsError(N_("Line {line}: a quotation mark is opened and never closed."), line=start) from None
        raise PairsError(N_("Line {line} is not well-formed CSV; look at its quotation marks."), line=start) from None
    return found
