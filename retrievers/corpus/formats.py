"""Corpora on disk: JSON lines, the layouts of BEIR and DPR, and folders of text.

Reading is strict, since a passage that is silently dropped or doubled changes every figure measured over the corpus. A
passage without text is kept: it takes its place and its id, and no word finds it. Text is UTF-8, with or without a byte
order mark, and lines end in either way.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import itertools
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, cast

import orjson

from flarekit.errors import DataError
from flarekit.io.bounded import FILE, LINE, read_lines
from flarekit.io.files import folder_files, name_of, open_file, replacing
from flarekit.retrieval import Passage
from flarekit.text.sentences import split_sentences
from flarekit.text.words import pieces

_FIELDS = ("id", "title", "text")
_DPR = ["id", "text", "title"]
_CORPUS = ("corpus.jsonl", "corpus.jsonl.gz")
_TEXTS = (".txt", ".md")
_HEADING = re.compile(r"^#{1,6}[ \t]+(.*?)[ \t]*#*[ \t]*\r?$", re.MULTILINE)
_WORDS = 100
"""Of a passage that is cut out of a longer text, about: DPR's and BEIR's passages of Wikipedia have as many."""
_TEXT = 1 << 28
"""Bytes of a text, which is read as a whole."""
_LIST = FILE
"""Bytes of a JSON list of questions, which may be one line; HotpotQA's training questions are 540 MB."""
_LONGEST = LINE
"""Characters in a field of a TSV file: a quotation mark that nothing closes would otherwise take in the whole rest."""


def iter_corpus(path: str | Path) -> Iterator[Passage]:
    """The passages at `path` one by one, in their order, in memory that does not grow with their number.

    - JSON lines of `id, title, text`, or of BEIR's `_id, title, text` (where a title may be missing); other fields are
      ignored. A folder with a `corpus.jsonl` stands for that file.
    - `.tsv` in the layout of DPR: `id`, `text`, `title`, quoted as csv does, with or without this line at the top.
    - A folder of `.txt` and `.md` files, or one such file: passages of whole sentences, as many as fit into about 100
      words (`flarekit.text.words.pieces`); only a longer sentence is cut. The id is the file's path in the folder and
      the passage's number in it, the title its first heading or else its name. Hidden files are left out.

    All but the folder may be gzipped (`.gz`). Raises `DataError`, naming file and line, for what is none of these, for
    broken UTF-8, and for no passage at all. That ids are unique is not seen here, but where passages are gathered.
    """
    path = Path(path)
    empty = True
    for _, passage in _numbered(path):
        empty = False
        yield passage
    if empty:
        raise DataError(f"{path}: no passages; a corpus is JSON lines, a .tsv file, or a folder of .txt and .md files")


def read_corpus(path: str | Path, within: Path | None = None) -> list[Passage]:
    """Read the passages of a JSON-lines file (`.gz` too), in the file's order; `within` is as in `open_data`.

    Raises `DataError`, naming file and line, for a file that is missing, empty or not UTF-8, for a line that is not a
    JSON object with the strings `id`, `title` and `text`, and for an id that occurs twice. Other fields are ignored.
    """
    path = Path(path)
    passages: list[Passage] = []
    line_of: dict[str, int] = {}
    for number, passage in _json_lines(path, within):
        first = line_of.setdefault(passage.id, number)
        if first != number:
            raise DataError(f"{path}:{number}: the id {passage.id!r} is already on line {first}; make ids unique")
        passages.append(passage)
    if not passages:
        raise DataError(f"{path}: no passages; expected one JSON object a line with id, title and text")
    return passages


def write_corpus(path: str | Path, passages: Iterable[Passage]) -> None:
    """Write passages as JSON lines (gzipped where the name ends in `.gz`), all or nothing, in constant memory."""
    write_json_lines(path, ({"id": p.id, "title": p.title, "text": p.text} for p in passages))


def read_json_lines(path: str | Path, within: Path | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield `(line number from 1, object)` for every line that is not blank; `DataError` names the line at fault.

    `within` is as in `open_data`.
    """
    path = Path(path)
    with open_data(path, within) as file:
        for number, line in enumerate(_lines(file, path), start=1):
            if line.strip():
                yield number, _object(line, f"{path}:{number}")


def read_records(path: Path, within: Path | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield `(place, object)` for all objects of JSON lines, or of one JSON list, whichever the file holds.

    `DataError` names the place at fault; `within` is as in `open_data`.
    """
    with open_data(path, within) as file:
        lines = enumerate(_lines(file, path, _LIST, _LIST if _is_list(file) else LINE), start=1)
        first = next((one for one in lines if one[1].strip()), (1, b""))
        if first[1].lstrip().startswith(b"["):
            yield from _items(first[1] + b"".join(line for _, line in lines), path)
            return
        for number, line in itertools.chain([first], lines):
            if line.strip():
                yield f"{path}:{number}", _object(line, f"{path}:{number}")


def _is_list(file: IO[bytes]) -> bool:
    """Whether a file that was just opened begins as a JSON list, which may be one line."""
    with suppress(OSError, EOFError, zlib.error):  # which reading will tell
        return cast(BufferedReader, file).peek(64).removeprefix(codecs.BOM_UTF8).lstrip()[:1] in (b"[", b"")
    return False


def _items(text: bytes, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        items = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise DataError(f"{path}: not one JSON list ({error}), nor one JSON object a line") from error
    for number, item in enumerate(items):
        place = f"{path}: item {number}"
        if not isinstance(item, dict):
            raise DataError(f"{place} must be an object, found {json_type(item)}")
        yield place, item


def write_json_lines(path: str | Path, records: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object a line through a temporary file, so that a reader never sees half of it.

    Raises `DataError` if the file cannot be written.
    """
    path = Path(path)
    try:
        with replacing(path) as raw, _compressed(raw) if path.suffix == ".gz" else nullcontext(raw) as file:
            for record in records:
                file.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error}); check the folder") from error


def open_data(path: Path, within: Path | None = None) -> IO[bytes]:
    """Open a data file for reading bytes, through gzip where its name ends in `.gz`; `DataError` if it cannot be.

    Only files are read, and nothing outside the folder `within` where there is one (`flarekit.io.files.open_file`).
    """
    try:
        raw = open_file(path, within)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; check the path") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    return cast(IO[bytes], gzip.open(raw)) if path.suffix == ".gz" else raw


def _numbered(path: Path) -> Iterator[tuple[int, Passage]]:
    """The passages at `path`, each with the number of its line (in a text, of the passage)."""
    if path.is_dir():
        for name in _CORPUS:
            if (path / name).exists():
                return _json_lines(path / name, path)
        return _folder(path)
    match Path(path.name.removesuffix(".gz")).suffix.lower():
        case ".tsv":
            return _tab_separated(path)
        case suffix if suffix in _TEXTS:
            return _text(path, path.name)
        case _:
            return _json_lines(path)


def _json_lines(path: Path, within: Path | None = None) -> Iterator[tuple[int, Passage]]:
    return ((number, _passage(record, f"{path}:{number}")) for number, record in read_json_lines(path, within))


def _tab_separated(path: Path) -> Iterator[tuple[int, Passage]]:
    csv.field_size_limit(max(_LONGEST, csv.field_size_limit()))  # one for the whole process; Python's own is 131,072
    with open_data(path) as file:
        rows = csv.reader(_decoded(file, path), delimiter="\t", strict=True)
        while True:
            number = rows.line_num + 1
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                raise DataError(f"{path}:{number}: not tab-separated as csv writes it ({error})") from error
            if not row or (number == 1 and row == _DPR):
                continue
            if len(row) != len(_DPR):
                raise DataError(
                    f"{path}:{number}: expected id, text and title with tabs between, found {len(row)} fields"
                )
            yield number, Passage(id=row[0], text=row[1], title=row[2])


def _folder(path: Path) -> Iterator[tuple[int, Passage]]:
    try:
        names = sorted(file.relative_to(path).as_posix() for file in folder_files(path, _TEXTS))
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}); take it out of the corpus") from error
    for name in names:
        yield from _text(path / name, name, path)


def _text(path: Path, name: str, within: Path | None = None) -> Iterator[tuple[int, Passage]]:
    with open_data(path, within) as file:
        text = "".join(_decoded(file, path, _TEXT))
    name = name_of(Path(name))
    plain = Path(name.removesuffix(".gz"))
    title = plain.stem
    if plain.suffix.lower() == ".md":
        heading = _HEADING.search(text)
        title = heading[1] if heading and heading[1] else title
        text = _HEADING.sub(r"\1", text)
    for number, chunk in enumerate(_chunks(text), start=1):
        yield number, Passage(f"{name}#{number}", title, chunk)


def _chunks(text: str) -> Iterator[str]:
    chunk: list[str] = []
    for sentence in split_sentences(text):
        words = [*pieces(f" {sentence}")]
        for begin in range(0, len(words), _WORDS):
            piece = words[begin : begin + _WORDS]
            if len(chunk) + len(piece) > _WORDS:
                yield "".join(chunk).strip()
                chunk = []
            chunk += piece
    if chunk:
        yield "".join(chunk).strip()


def _decoded(file: IO[bytes], path: Path, most: int | None = None) -> Iterator[str]:
    return (_utf8(line, f"{path}:{number}") for number, line in enumerate(_lines(file, path, most), start=1))


def _utf8(line: bytes, place: str) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: not UTF-8 (byte {error.start + 1}); convert the file to UTF-8") from error


def _lines(file: IO[bytes], path: Path, most: int | None = None, longest: int = LINE) -> Iterator[bytes]:
    """The lines, without a byte order mark; `DataError` for what is longer than it may be (`flarekit.io.bounded`)."""
    with _unbroken(path):
        lines = read_lines(file, path, most, longest)
        yield next(lines, b"").removeprefix(codecs.BOM_UTF8)
        yield from lines


@contextmanager
def _unbroken(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, OSError) as error:
        raise DataError(f"{path}: broken off or not gzip ({error}); fetch or write the file again") from error


def _compressed(raw: IO[bytes]) -> IO[bytes]:
    # Without a time and a name in the header, the same passages make the same bytes.
    return cast(IO[bytes], gzip.GzipFile("", "wb", fileobj=raw, mtime=0))


def _object(line: bytes, place: str) -> dict[str, Any]:
    try:
        record = orjson.loads(_utf8(line, place))
    except orjson.JSONDecodeError as error:
        raise DataError(f"{place}: not JSON ({error}); expected one JSON object a line") from error
    if not isinstance(record, dict):
        raise DataError(f"{place}: expected a JSON object, found {json_type(record)}")
    return record


def _passage(record: dict[str, Any], place: str) -> Passage:
    if "_id" in record and "id" not in record:
        record = {**record, "id": record["_id"], "title": record.get("title") or ""}
    for field in _FIELDS:
        if field not in record:
            raise DataError(f"{place}: no field {field!r}; a passage has id, title and text")
        if not isinstance(record[field], str):
            raise DataError(f"{place}: the field {field!r} must be a string, found {json_type(record[field])}")
    return Passage(id=record["id"], title=record["title"], text=record["text"])


def json_type(value: object) -> str:
    """What JSON calls the type of a parsed value, with its article, for messages."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)
