"""Files that are broken, hostile, or merely unusual: each row's fault is told, and reading goes on."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from byodpp.bootstrap import Blueprint
from byodpp.transfer.csv_records import CsvReader, split_cells
from byodpp.transfer.formats import Format
from byodpp.transfer.judging import Chunk, Judge, Reading
from byodpp.transfer.ndjson_records import NdjsonReader
from byodpp.transfer.records import Unreadable
from tests.transfer_world import FILE_LOGICS, FILES
from tests.worlds import build


@pytest.fixture(scope="module")
def blueprint(tmp_path_factory: pytest.TempPathFactory) -> Blueprint:
    return build(tmp_path_factory.mktemp("files"), FILES, FILE_LOGICS)


class Generated(io.RawIOBase):
    """A file that is made while it is read: large, and nowhere."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._rest = b""
        self._read = 0

    def tell(self) -> int:
        return self._read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            found = next(self._parts, None)
            if found is None:
                return 0
            self._rest = found
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        self._read += size
        return size


def judged(blueprint: Blueprint, content: Any, format: Format, **reading: Any) -> list[Chunk]:
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    resource = blueprint.registry.get("Goods", "v1")
    asked = Reading(version="v1", resource="Goods", format=format, **reading)
    return list(Judge(resource, blueprint.schemas, asked).chunks(file))


def told(chunks: list[Chunk]) -> dict[int, list[str]]:
    """Return line -> codes of what was refused."""
    return {
        one.line: [detail["code"] for detail in one.error["details"]] or [one.error["code"]]
        for chunk in chunks
        for one in chunk.rejects
    }


def good(chunks: list[Chunk]) -> int:
    return sum(len(chunk.rows.records) for chunk in chunks if chunk.rows is not None)


def fault(chunks: list[Chunk]) -> tuple[int, str] | None:
    found = chunks[-1].fault
    return None if found is None else (found.line, found.error["code"])


# --- CSV ----------------------------------------------------------------------------------


CASES: list[tuple[str, bytes, int, dict[int, list[str]]]] = [
    ("a cell of 200 kB", b"name,note\na," + b"x" * 200_000 + b"\nb,\n", 2, {}),
    ("a quote that is never closed", b'name,note\na,"open\nb,\nc,\n', 2, {2: ["quotes"]}),
    ("a quote that swallows a good row", b'name,note\na,"open\nb,"fine"\nc,\n', 2, {2: ["quotes"]}),
    ("a quote that swallows rows of several lines", b'name,note\n"a,\nb,"1\n2"\nc,\n', 2, {2: ["quotes"]}),
    ("text behind a closed quote", b'name,note\na,"b"c\nd,\n', 1, {2: ["quotes"]}),
    ("a quote inside of a cell", b'name,note\na,5" pipe\nb,\n', 1, {2: ["quotes"]}),
    ("NUL in a text", b"name,note\na,b\0c\nd,\n", 1, {2: ["format"]}),
    ("ends of lines of all kinds", b"name,note\r\na,1\nb,2\r\nc,3\rd,4\n\n\r\ne,5", 5, {}),
    ("a mark of UTF-8", b"\xef\xbb\xbfname,note\na,1\n", 1, {}),
    ("not UTF-8", b"name,note\na,\xff\nb,\xc3\xa4\n", 1, {2: ["invalid_encoding"]}),
    ("a row too short and one too long", b"name,note\na\nb,1,2\nc,3\n", 1, {2: ["too_few"], 3: ["too_many"]}),
    ("rows of several lines", b'name,note\n"a\n1","b\r\n""2"""\nc,3\nd\n', 2, {6: ["too_few"]}),
    ("a separator of its own", b"name;note\na;1,5\n", 1, {}),
    ("tabs", b"name\tnote\na\t1\n", 1, {}),
    ("no end of the last line", b"name,note\na,1\nb,2", 2, {}),
    ("names in quotes", b'"name","note"\na,1\n', 1, {}),
    ("numbers that are none", "name,stock\na,\uff11\uff12\nb,1_0\nc, 7\nd,+1\ne,0x1\nf,01\n".encode(), 0,
     {line: ["type"] for line in range(2, 8)}),
    ("numbers that are", b"name,stock,price\na,-5,1e1\nb,5.0,0.10\nc,9999999999,1\n", 2,
     {4: ["out_of_range"]}),
    ("words that are no booleans", b"name,flag\na,yes\nb,1\nc,True\nd,true\ne,FALSE\n", 2,
     {2: ["type"], 3: ["type"], 4: ["type"]}),
    ("broken documents", b'name,extra,tags\na,{,\nb,"{""a"":1,""a"":2}",\nc,,[1]\nd,NaN,\ne,,"[""x""]"\n', 1,
     {2: ["format"], 3: ["format"], 4: ["type"], 5: ["format"]}),
    ("formulas", b"name,note\n'=a,'-b\n'a,''\n'',x\n", 3, {}),
    ("a closing record", b"name,note\na,1\n#end,1\n", 1, {}),
    ("one column, of which a cell is empty", b"name\na\n\nb\r\n\r\n#end,4\n", 2,
     {3: ["required"], 5: ["required"]}),
    ("a number of thousands of digits",
     b"name,stock,price\na," + b"9" * 5_000 + b"," + b"1" * 500 + b".5\n", 0,
     {2: ["out_of_range", "out_of_range"]}),
    ("what only looks like one", b'name,note\na,1\n"#end",2\n#end,x\n', 3, {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "rows", "refused"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_csv(blueprint: Blueprint, content: bytes, rows: int, refused: dict[int, list[str]]) -> None:
    chunks = judged(blueprint, content, Format.CSV)
    assert (good(chunks), told(chunks), fault(chunks)) == (rows, refused, None)


@pytest.mark.parametrize(
    ("content", "line", "code"),
    [
        (b"", 1, "validation_failed"),
        ("name,note\na,1\n".encode("utf-16"), 1, "invalid_encoding"),
        ("name,note\na,1\n".encode("utf-16-le"), 1, "invalid_encoding"),
        (b"\xff\xfe\0\0", 1, "invalid_encoding"),
        (b"n\xffme\na\n", 1, "invalid_encoding"),
        (b"1,Table,80\n2,Chair,20\n", 1, "validation_failed"),
        (b"name,note,name\na,b,c\n", 1, "validation_failed"),
        (",".join(f"c{n}" for n in range(5_000)).encode() + b"\n", 1, "validation_failed"),
        (b"name," + ",".join(f"c{n}" for n in range(5_000)).encode() + b"\n", 1, "validation_failed"),
        (b"name," + b"x" * 3_000_000, 1, "payload_too_large"),
        (b"name,note\na,1\n#end,2\n", 3, "file_not_whole"),
        (b"name,note\na,1\n#end,1\nb,2\n", 4, "malformed_request"),
    ],
)
def test_csv_that_cannot_be_read(blueprint: Blueprint, content: bytes, line: int, code: str) -> None:
    assert fault(judged(blueprint, content, Format.CSV)) == (line, code)


def test_a_quote_that_is_open_for_megabytes_costs_its_row_alone(blueprint: Blueprint) -> None:
    content = b'name,note\na,"\n' + b"".join(b"n%d,x\n" % number for number in range(200_000))
    chunks = judged(blueprint, content, Format.CSV)
    assert (good(chunks), told(chunks)) == (200_000, {2: ["quotes"]})


@given(
    rows=st.lists(
        st.lists(st.one_of(st.none(), st.text(st.characters(codec="utf-8"))), min_size=2, max_size=2),
        max_size=6,
    )
)
@example(rows=[["", "a"], ["\r", "\n"], ['"', ";"]])
def test_what_is_quoted_comes_back(rows: list[list[str | None]]) -> None:
    """Whatever stands in the cells: a row is the same list of cells again."""
    cells = [["" if cell is None else '"' + cell.replace('"', '""') + '"' for cell in row] for row in rows]
    written = "a,b\n" + "".join(",".join(row) + "\n" for row in cells)
    reader = CsvReader(most_bytes=1 << 20, known=frozenset({"a", "b"}))
    found = [record.content for record in reader.records(io.BytesIO(written.encode()))]
    assert found == rows


@given(line=st.text(max_size=50), separator=st.sampled_from(",;\t"))
def test_no_text_is_too_strange_to_be_split_or_refused(line: str, separator: str) -> None:
    cells = split_cells(line, separator)
    assert cells is not None or '"' in line


# --- NDJSON -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "codes"),
    [
        (b'{"name":"a"', ["malformed_json"]),
        (b"{'name':'a'}", ["malformed_json"]),
        (b'{"name":"a"}x', ["malformed_json"]),
        (b'{"name":"a","name":"b"}', ["duplicate_key"]),
        (b'{"name":"a","\\u006eame":"b"}', ["duplicate_key"]),
        (b'{"name":"a","weight":NaN}', ["malformed_json"]),
        (b'{"name":"a","weight":1e400}', ["malformed_json"]),
        (b'{"name":"a","extra":' + b"[" * 40 + b"]" * 40 + b"}", ["too_deep"]),
        (b'{"name":"a","extra":' + b"[" * 100_000 + b"}", ["too_deep"]),
        (b'{"name":"\xff"}', ["invalid_encoding"]),
        (b'{"name":"a\\u0000"}', ["format"]),
        (b"[]", ["type"]),
        (b"null", ["type"]),
        (b"5", ["type"]),
        (b'{"name":"a","stock":1.9}', ["type"]),
        (b'{"name":"a","stock":true}', ["type"]),
        (b'{"name":"a","stock":"1"}', ["type"]),
        (b'{"name":"a","stock":2147483648}', ["out_of_range"]),
        (b'{"name":"a","price":1e131072}', ["malformed_json"]),
        (b'{"name":"a","flag":"on"}', ["type"]),
        (b'{"name":null}', ["null"]),
        (b"{}", ["required"]),
        (b'{"name":"a","id":1,"tenantId":2}', ["read_only", "read_only"]),
        (b'{"name":"a","__proto__":1}', ["unknown_field"]),
        (b'{"name":"a","size":"huge"}', ["enum"]),
        (b'{"name":"' + b"x" * 2_000_000 + b'"}', ["payload_too_large"]),
    ],
)
def test_ndjson_line_by_line(blueprint: Blueprint, line: bytes, codes: list[str]) -> None:
    content = b'{"name":"first"}\n' + line + b'\n\n{"name":"last"}'
    chunks = judged(blueprint, content, Format.NDJSON)
    assert (good(chunks), told(chunks), fault(chunks)) == (2, {2: codes}, None)


def test_ndjson_closes_once_and_tells_the_truth(blueprint: Blueprint) -> None:
    first = b'{"name":"a"}\n'
    assert fault(judged(blueprint, first + b'{"$end":{"rows":1}}\n', Format.NDJSON)) is None
    for end in (b'{"$end":{"rows":2}}', b'{"$end":{"rows":true}}', b'{"$end":{}}', b'{"$end":1}'):
        assert fault(judged(blueprint, first + end, Format.NDJSON)) == (2, "file_not_whole")
    assert fault(judged(blueprint, first + b'{"$end":', Format.NDJSON)) == (2, "malformed_json")
    after = first + b'{"$end":{"rows":1}}\n{"name":"b"}'
    assert fault(judged(blueprint, after, Format.NDJSON)) == (3, "malformed_json")


# --- JSON ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "rows", "refused"),
    [
        (b'[{"name":"a"},\n {"name":"b"}]', 2, {}),
        (b"\xef\xbb\xbf[]", 0, {}),
        (b" [ ] ", 0, {}),
        (b'{"resource":"Goods","exportDate":"x","data":[{"name":"a"}\n],"count":1}\n', 1, {}),
        (b'{"count":2,"data":[{"name":"a"},{"name":"b"}],"more":{"x":[1]}}', 2, {}),
        (b'[{"name":"a"},\n{"name":"a","name":"b"},\n{"name":"c","weight":NaN},\n{"name":"d"}]', 2,
         {2: ["duplicate_key"], 3: ["malformed_json"]}),
        (b'[{"name":"a","stock":1.5},\n5,\n"x",\nnull,\n[]]', 0,
         {1: ["type"], 2: ["type"], 3: ["type"], 4: ["type"], 5: ["type"]}),
        (b'[{"name":"\xff"},\n{"name":"\xc3\xa4"}]', 1, {1: ["invalid_encoding"]}),
        (b'[{"name":"a","extra":' + b"[" * 40 + b"]" * 40 + b'},\n{"name":"b"}]', 1, {1: ["too_deep"]}),
        (b'[{"name":"\\ud800"},\n{"name":"]"},{"name":"}{"}]', 2, {1: ["format"]}),
    ],
)  # fmt: skip
def test_json(blueprint: Blueprint, content: bytes, rows: int, refused: dict[int, list[str]]) -> None:
    chunks = judged(blueprint, content, Format.JSON)
    assert (good(chunks), told(chunks), fault(chunks)) == (rows, refused, None)


@pytest.mark.parametrize(
    ("content", "line", "code"),
    [
        (b"", 1, "malformed_json"),
        (b"5", 1, "malformed_json"),
        (b"{}", 1, "malformed_json"),
        (b'{"rows":[]}', 1, "malformed_json"),
        (b'{"data":{}}', 1, "malformed_json"),
        (b'[{"name":"a"},\n{"name":"b"', 2, "malformed_json"),
        (b'[{"name":"a"}', 1, "malformed_json"),
        (b'[{"name":"a"} {"name":"b"}]', 1, "malformed_json"),
        (b'[{"name":"a"},]', 1, "malformed_json"),
        (b"[{'name':'a'}]", 1, "malformed_json"),
        (b'[{"name":"a"}]\n\nx', 3, "malformed_json"),
        (b'[{"name":"a"}]{"name":"b"}', 1, "malformed_json"),
        (b'{"data":[{"name":"a"}],\n"count":2}', 2, "file_not_whole"),
        (b'{"data":[{"name":"a"}],"count":true}', 1, "file_not_whole"),
        (b'{"data":[{"name":"a"}],"data":[]', 1, "duplicate_key"),
        (b'{"data":[{"name":"a"}],\n"data":[{"name":"b"}]}', 2, "duplicate_key"),
        (b'{"count":1,"data":[{"name":"a"}],\n"count":1}', 2, "duplicate_key"),
        (b"[" * 100_000, 1, "too_deep"),
        (b'[{"name":"a"},\n{"name":"' + b"x" * 3_000_000 + b'"}]', 2, "payload_too_large"),
        (b'[{"name":"a"},\n{"extra":[' + b"1," * 1_500_000 + b"1]}]", 2, "payload_too_large"),
        ('[{"name":"a"}]'.encode("utf-16"), 1, "invalid_encoding"),
        ('[{"name":"a"}]'.encode("utf-16-be"), 1, "invalid_encoding"),
    ],
)
def test_json_that_cannot_be_read(blueprint: Blueprint, content: bytes, line: int, code: str) -> None:
    assert fault(judged(blueprint, content, Format.JSON)) == (line, code)


def test_a_long_array_is_read_in_pieces(blueprint: Blueprint) -> None:
    rows = 60_000
    content = b"[" + b",\n".join(
        b'{"name":"n%d","note":"%b"}' % (one, b"x" * (one % 90)) for one in range(rows)
    )
    chunks = judged(blueprint, content + b"]", Format.JSON)
    assert (good(chunks), told(chunks), fault(chunks)) == (rows, {}, None)
    assert chunks[-1].line == rows


# --- XML ----------------------------------------------------------------------------------

_NIL = b'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'


@pytest.mark.parametrize(
    ("content", "rows", "refused"),
    [
        (b"<rows><row><name>a</name><stock>5</stock></row><row><name>b</name></row></rows>", 2, {}),
        (b'<?xml version="1.0"?>\n<x:goods xmlns:x="u"><x:good><x:name>a</x:name></x:good></x:goods>', 1, {}),
        (b"<rows/>", 0, {}),
        (b"<rows " + _NIL + b'><row><name>a</name><note xsi:nil="true"/></row></rows>', 1, {}),
        (b"<rows><row><name>a&amp;&lt;&#13;b</name><!--c--><note><![CDATA[<x>]]></note></row></rows>", 1, {}),
        (b'<rows><row><name>a</name><note encoding="json">"\\u0001"</note></row></rows>', 1, {}),
        ('<?xml version="1.0" encoding="utf-16"?><r><r><name>ä</name></r></r>'.encode("utf-16"), 1, {}),
        (b"<rows>\n<row><name>a</name><name>b</name></row>\n<row><name><b/></name></row>\n<row>a</row>\n</rows>",
         0, {2: ["duplicate_key"], 3: ["type"], 4: ["type"]}),
        (b"<rows>\n<row><name>a</name><stock>x</stock></row>\n<row><stock/></row>\n<row><id>1</id></row></rows>",
         0, {2: ["type"], 3: ["type", "required"], 4: ["read_only", "required"]}),
        (b'<rows>\n<row name="a"/>\n<row><name>a</name><stock value="5"/></row>\n'
         b'<row id="1"><name>a</name></row>\n'
         b'<row encoding="json"><name xml:lang="en">a</name></row></rows>',
         0, {line: ["unknown_field"] for line in range(2, 6)}),
        (b'<rows n="1"><row ' + _NIL + b' xsi:type="x"><name xml:lang="en">a</name></row></rows>', 1, {}),
        (b'<rows><row><name encoding="json">5</name></row></rows>', 0, {1: ["format"]}),
        (b'<rows><row><name encoding="json">x</name></row></rows>', 0, {1: ["malformed_json"]}),
        (b'<rows>\n<row><name encoding="hex">61</name></row>\n<row><name encoding="">a</name></row></rows>',
         0, {2: ["enum"], 3: ["enum"]}),
    ],
)  # fmt: skip
def test_xml(blueprint: Blueprint, content: bytes, rows: int, refused: dict[int, list[str]]) -> None:
    chunks = judged(blueprint, content, Format.XML)
    assert (good(chunks), told(chunks), fault(chunks)) == (rows, refused, None)


_LAUGHS = b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><rows><row><name>&b;</name></row></rows>'
_OUTSIDE = b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]><rows><row><name>&a;</name></row></rows>'


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "malformed_request"),
        (b"name\na\n", "malformed_request"),
        (b"<rows><row><name>a</name></row>", "malformed_request"),
        (b"<rows><row></rows>", "malformed_request"),
        (b"<rows></rows><rows/>", "malformed_request"),
        (b"<rows>x<row><name>a</name></row></rows>", "malformed_request"),
        (b"<rows><row><name>a</name></row> x </rows>", "malformed_request"),
        (b"<rows><row><name>\x01</name></row></rows>", "malformed_request"),
        (b"<rows><row><name>\xff</name></row></rows>", "malformed_request"),
        (b'<?xml version="1.0" encoding="cp037"?><rows/>', "malformed_request"),
        (b'<?xml version="1.0" encoding="nonsense"?><rows/>', "malformed_request"),
        (_LAUGHS, "malformed_request"),
        (_OUTSIDE, "malformed_request"),
        (b"<!DOCTYPE rows><rows/>", "malformed_request"),
        (b"<rows><row><name>&unknown;</name></row></rows>", "malformed_request"),
        (b"<rows><row><name>" + b"x" * 3_000_000 + b"</name></row></rows>", "payload_too_large"),
        (b"<rows><row " + b"x" * 3_000_000 + b'="1"/></rows>', "payload_too_large"),
        (b"<rows><!--" + b"x" * 3_000_000 + b"--></rows>", "payload_too_large"),
        (b"<rows><row>" + b"<name/>" * 600_000 + b"</row></rows>", "payload_too_large"),
        (b"<rows><row>" + b"<a>" * 600_000, "payload_too_large"),
    ],
)
def test_xml_that_cannot_be_read(blueprint: Blueprint, content: bytes, code: str) -> None:
    found = fault(judged(blueprint, content, Format.XML))
    assert found is not None and found[1] == code


def test_good_records_before_broken_xml_are_not_lost(blueprint: Blueprint) -> None:
    for last in (b"<row></rows>", b"x</rows>", b"<row><name>" + b"x" * 3_000_000 + b"</name></row></rows>"):
        content = b"<rows><row><name>a</name></row>\n<row><name>b</name></row>" + last
        chunks = judged(blueprint, content, Format.XML)
        assert good(chunks) == 2 and fault(chunks) is not None


# --- all of them --------------------------------------------------------------------------


@pytest.mark.parametrize("format", [Format.NDJSON, Format.CSV])
def test_a_line_of_a_gigabyte_takes_no_memory(blueprint: Blueprint, format: Format) -> None:
    head = b"name\n" if format is Format.CSV else b""
    piece = b"x" * (1 << 20)
    last = b"a\n" if format is Format.CSV else b'{"name":"a"}\n'
    parts = iter([head, *(piece for _ in range(1_024)), b"\n", last])
    tracemalloc.start()
    try:
        chunks = judged(blueprint, io.BufferedReader(Generated(parts)), format)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert next(iter(told(chunks).values())) == ["payload_too_large"]
    assert good(chunks) == 1
    assert peak < 20_000_000


def test_rejects_and_rows_of_a_chunk_are_bounded(blueprint: Blueprint) -> None:
    content = b"".join(b'{"name":1,"bad%d":1,"worse%d":2}\n' % (number, number) for number in range(20_000))
    chunks = judged(blueprint, content, Format.NDJSON)
    assert sum(chunk.records for chunk in chunks) == 20_000
    assert max(len(chunk.rejects) for chunk in chunks) < 4_000


def test_reading_goes_on_exactly_behind_what_is_done(blueprint: Blueprint) -> None:
    content = b"name,note\n" + b"".join(b'n%d,"two\nlines %d"\n' % (one, one) for one in range(100))
    whole = judged(blueprint, content, Format.CSV)
    rest = judged(blueprint, content, Format.CSV, skip=60)
    assert whole[0].rows is not None and rest[0].rows is not None
    assert rest[0].rows.records == whole[0].rows.records[60:] == tuple(range(61, 101))
    assert rest[0].rows.lines.startswith("{122,124,")
    assert rest[0].rows.columns["name"] == "{" + ",".join(f'"n{one}"' for one in range(60, 100)) + "}"
    wrong = judged(blueprint, content, Format.CSV, skip=101)
    assert fault(wrong) is not None


def test_readers_refuse_what_is_no_text_at_once() -> None:
    with pytest.raises(Unreadable):
        list(NdjsonReader(most_bytes=100, max_depth=10).records(io.BytesIO(b"\xff\xfe{\0}\0")))


def test_a_file_with_carriage_returns_only_is_read(blueprint: Blueprint, tmp_path: Path) -> None:
    chunks = judged(blueprint, b"name,note\ra,1\rb,2\r", Format.CSV)
    assert (good(chunks), told(chunks)) == (2, {})
