from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import polars as pl
import pytest

from mainspring.components import ingest_bigquery, ingest_database, ingest_files, ingest_query, read_table
from mainspring.core import InvalidInput, NotFound, Unavailable

ROWS = pl.DataFrame({"id": [1, 2, 3], "name": ["a", None, "c"], "x": [0.5, 1.0, None]})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    ROWS.write_csv(folder / "one.csv")
    ROWS.write_parquet(folder / "two.parquet")
    ROWS.write_ndjson(folder / "three.jsonl")
    (folder / "notes.txt").write_text("not a table")
    return folder


@pytest.mark.parametrize("name", ["one.csv", "two.parquet", "three.jsonl"])
def test_every_kind_of_file_gives_the_same_rows(folder: Path, file, name: str) -> None:
    data = file("data")
    assert ingest_files(str(folder / name), data=data) == 3
    assert read_table(data).equals(ROWS)
    assert (data.metadata["rows"], data.metadata["columns"]) == (3, 3)


@pytest.mark.parametrize(("source", "rows"), [("*.csv", 3), ("*", 9), ("", 9)])
def test_a_glob_or_a_folder_names_all_its_tables(folder: Path, file, source: str, rows: int) -> None:
    if source == "*":
        (folder / "notes.txt").unlink()
    assert ingest_files(str(folder / source), data=file("data")) == rows


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("none.csv", None, "There is no file"),
        ("notes.txt", "x", "neither CSV, Parquet nor JSON lines"),
        ("bad.parquet", "x", "cannot be read as parquet"),
        ("bad.jsonl", "{", "cannot be read as jsonl"),
        ("empty.csv", "a,b\n", "has no rows"),
    ],
)
def test_what_cannot_be_read_is_named(folder: Path, file, name: str, content: str | None, error: str) -> None:
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises((InvalidInput, NotFound), match=error):
        ingest_files(str(folder / name), data=file("data"))


def test_files_without_common_columns_are_refused(folder: Path, file) -> None:
    (folder / "zero.csv").write_text("other\n1\n")
    with pytest.raises(InvalidInput, match="no common columns"):
        ingest_files(str(folder / "*.csv"), data=file("data"))


def test_sql_joins_files(folder: Path, file) -> None:
    data = file("data")
    query = "select a.id, b.name from a join b using (id) where a.x > 0.7"
    ingest_query(query, files={"a": str(folder / "one.csv"), "b": str(folder / "two.parquet")}, data=data)
    assert read_table(data).rows() == [(2, None)]


@pytest.mark.parametrize(
    "query",
    [
        "select * from read_csv('{folder}/one.csv')",
        "copy a to '{folder}/out.csv'",
        "select * from ROWS",
        "set enable_external_access = true",
        "nonsense",
    ],
)
def test_sql_sees_the_named_tables_and_nothing_else(folder: Path, file, query: str) -> None:
    with pytest.raises(InvalidInput, match="DuckDB refuses"):
        ingest_query(query.format(folder=folder), files={"a": str(folder / "one.csv")}, data=file("data"))
    assert not (folder / "out.csv").exists()


def test_sql_in_a_database(tmp_path: Path, file, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    ROWS.write_database("goods", url, engine="sqlalchemy")
    monkeypatch.setenv("SHOP_URL", url)
    data = file("data")
    assert ingest_database("select * from goods order by id", url="env:SHOP_URL", data=data) == 3
    assert read_table(data).equals(ROWS)
    assert data.metadata["source"] == "env:SHOP_URL"
    with pytest.raises(InvalidInput, match="no such table"):
        ingest_database("select * from bads", url=url, data=data)
    with pytest.raises(NotFound, match="NOT_SET"):
        ingest_database("select 1", url="env:NOT_SET", data=data)
    with pytest.raises(InvalidInput, match="no database URL"):
        ingest_database("select 1", url="shop", data=data)


@pytest.mark.postgresql
def test_sql_in_postgresql_reads_and_cannot_write(postgresql_server, file) -> None:
    data, url = file("data"), postgresql_server.url_of("migrated")
    query = "select n, n::text as name, n * 0.5::float8 as half from generate_series(1, 3) n"
    assert ingest_database(query, url=url, data=data) == 3
    assert read_table(data).rows() == [(1, "1", 0.5), (2, "2", 1.0), (3, "3", 1.5)]
    with pytest.raises(InvalidInput, match="read-only transaction"):
        ingest_database("create table t (x int)", url=url, data=data)


def test_a_database_that_is_not_there_is_unavailable_and_its_password_unsaid(file) -> None:
    with pytest.raises(Unavailable) as error:
        ingest_database("select 1", url="postgresql://me:geheim@127.0.0.1:1/shop", data=file("data"))
    assert "geheim" not in str(error.value)


class BigQuery(BaseHTTPRequestHandler):
    """What BigQuery's REST API answers to a short query."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append((self.path, body["query"], self.headers.get("authorization")))  # type: ignore[attr-defined]
        if "nothing" in body["query"]:
            self._answer(404, {"error": {"code": 404, "message": "Not found: Table p:d.nothing", "errors": []}})
            return
        fields = [{"name": "id", "type": "INTEGER"}, {"name": "name", "type": "STRING"}]
        rows = [{"f": [{"v": "1"}, {"v": "a"}]}, {"f": [{"v": "2"}, {"v": None}]}]
        job = {"projectId": "p", "jobId": "j", "location": "EU"}
        schema = {"fields": fields}
        self._answer(
            200,
            {
                "jobComplete": True,
                "jobReference": job,
                "schema": schema,
                "rows": rows,
                "totalRows": "2",
                "queryId": "q",
            },
        )

    def _answer(self, status: int, content: object) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def bigquery() -> Iterator[ThreadingHTTPServer]:
    pytest.importorskip("google.cloud.bigquery")
    server = ThreadingHTTPServer(("127.0.0.1", 0), BigQuery)
    server.asked = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_sql_in_bigquery_through_its_client(bigquery: ThreadingHTTPServer, file) -> None:
    data, endpoint = file("data"), f"http://127.0.0.1:{bigquery.server_port}"
    assert ingest_bigquery("select id, name from d.t", project="p", data=data, endpoint=endpoint) == 2
    assert read_table(data).rows() == [(1, "a"), (2, None)]
    path, query, authorization = bigquery.asked[0]  # type: ignore[attr-defined]
    assert path.startswith("/bigquery/v2/projects/p/queries")
    assert (query, authorization) == ("select id, name from d.t", None)
    with pytest.raises(InvalidInput, match=r"Not found: Table p:d\.nothing"):
        ingest_bigquery("select * from d.nothing", project="p", data=data, endpoint=endpoint)


def test_without_its_client_bigquery_is_unavailable(file, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.cloud.bigquery", None)
    with pytest.raises(Unavailable, match="pip install google-cloud-bigquery"):
        ingest_bigquery("select 1", project="p", data=file("data"))
