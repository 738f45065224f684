"""Ingest: rows from files, from SQL over files, from a database or from BigQuery, as one table."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mainspring.components.artifacts import ArtifactFile
from mainspring.components.tables import write_table
from mainspring.core import Foreign, InvalidInput, MainspringError, NotFound, Unavailable

if TYPE_CHECKING:
    import polars as pl

KINDS = {
    ".csv": "csv", ".parquet": "parquet", ".pq": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl",
}  # fmt: skip
SECRET = "env:"  # noqa: S105 - a prefix
"""A database URL that starts so names the environment variable it is in: parameters of a run are recorded."""


def ingest_files(source: str, *, data: ArtifactFile) -> int:
    """Read a CSV, Parquet or JSON lines file, a glob (``in/*.csv``) or a folder of them; return the rows."""
    return _finish(read_files(source), data, source)


def ingest_query(query: str, *, files: Mapping[str, str], data: ArtifactFile) -> int:
    """Run SQL over files, each a table under its name, with DuckDB; return the rows."""
    return _finish(query_files(query, files), data, ", ".join(files.values()))


def ingest_database(query: str, *, url: str, data: ArtifactFile) -> int:
    """Run SQL in PostgreSQL (or another SQLAlchemy URL; ``env:NAME`` takes it from the environment)."""
    return _finish(query_database(query, url), data, _without_password(url))


def ingest_bigquery(query: str, *, project: str, data: ArtifactFile, location: str = "", endpoint: str = "") -> int:
    """Run SQL in BigQuery with the credentials of the place this runs in; ``endpoint`` names an emulator instead."""
    frame = query_bigquery(query, project=project, location=location, endpoint=endpoint)
    return _finish(frame, data, f"bigquery://{project}")


def read_files(source: str) -> pl.DataFrame:
    """Read a file, a glob or a folder; raise `NotFound` if there is none, `InvalidInput` if it cannot be read."""
    import polars as pl

    frames = [_read_one(path) for path in find_files(source)]
    try:
        return pl.concat(frames, how="vertical_relaxed")
    except (pl.exceptions.PolarsError, TypeError) as error:
        raise InvalidInput(
            f"The files of {source} have no common columns: {_first_line(error)}", hint="Ingest them one by one."
        ) from error


def find_files(source: str) -> list[str]:
    """Return the files a path, a glob or a folder names, sorted; an address (``gs://…``) names itself."""
    if "://" in source and not source.startswith("file://"):
        return [source]
    path = Path(source.removeprefix("file://"))
    if path.is_dir():
        found = [str(file) for file in path.iterdir() if file.suffix.lower() in KINDS]
    elif any(sign in str(path) for sign in "*?["):
        pattern = str(path.relative_to(path.anchor))
        found = [str(file) for file in Path(path.anchor).glob(pattern) if file.is_file()]
    else:
        found = [str(path)] if path.is_file() else []
    if not found:
        raise NotFound(
            f"There is no file {source}.", hint="Name a CSV, Parquet or JSON lines file, a glob or a folder."
        )
    return sorted(found)


def query_files(query: str, files: Mapping[str, str]) -> pl.DataFrame:
    """Run SQL over named files with DuckDB; the query sees these tables and nothing else of the machine."""
    import polars as pl

    duckdb = _import_duckdb()
    with duckdb.connect(":memory:", config={"autoload_known_extensions": False}) as connection:
        connection.execute("SET enable_external_access = false; SET python_enable_replacements = false")
        for name, source in files.items():
            connection.register(name, read_files(source).to_arrow())
        try:
            found = connection.sql(query)
            if found is None:
                raise InvalidInput("DuckDB refuses the query: it answers with no rows.", hint="Write a SELECT.")
            return pl.DataFrame(found.to_arrow_table())
        except duckdb.Error as error:
            raise InvalidInput(
                f"DuckDB refuses the query: {_first_line(error)}", hint=f"Its tables are {', '.join(files)}."
            ) from error


def query_database(query: str, url: str) -> pl.DataFrame:
    """Run SQL in the database at a SQLAlchemy URL, in a transaction that changes nothing."""
    import polars as pl
    import sqlalchemy as sa

    address = _address(url)
    try:
        engine = sa.create_engine(address)
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError) as error:
        raise InvalidInput(
            f"This is no database URL: {_first_line(error)}", hint="Write postgresql://HOST/DATABASE or env:NAME."
        ) from error
    except ImportError as error:
        raise Unavailable(
            f"The database driver is missing: {error}.", hint="pip install 'mainspring[postgres]'"
        ) from error
    try:
        connection = engine.connect()
    except sa.exc.SQLAlchemyError as error:
        raise Unavailable(f"{_without_password(url)}: {_first_line(error)}", hint="Check the URL.") from error
    try:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("SET TRANSACTION READ ONLY"))
        return pl.read_database(sa.text(query), connection, infer_schema_length=None)
    except sa.exc.SQLAlchemyError as error:
        raise InvalidInput(f"{_without_password(url)}: {_first_line(error)}", hint="Check the query.") from error
    finally:
        connection.close()
        engine.dispose()


def query_bigquery(query: str, *, project: str, location: str = "", endpoint: str = "") -> pl.DataFrame:
    """Run SQL in BigQuery; with an ``endpoint``, such as an emulator's, without credentials."""
    import polars as pl

    bigquery, errors, anonymous = _import_bigquery()
    options: dict[str, Any] = {"project": project, "location": location or None}
    if endpoint:
        options |= {"client_options": {"api_endpoint": endpoint}, "credentials": anonymous()}
    try:
        with bigquery.Client(**options) as client:
            rows = client.query_and_wait(query, retry=None, job_retry=None)
            return pl.DataFrame(rows.to_arrow(create_bqstorage_client=False))
    except errors.GoogleAPIError as error:
        raise InvalidInput(f"BigQuery: {_first_line(error)}", hint="Check the query and the project.") from error
    except errors.auth.DefaultCredentialsError as error:
        raise Unavailable(
            f"BigQuery: {_first_line(error)}", hint="gcloud auth application-default login, or set the service account."
        ) from error


class _Errors:
    """What the client raises, imported with it."""

    def __init__(self) -> None:
        from google.api_core.exceptions import GoogleAPIError
        from google.auth import exceptions

        self.GoogleAPIError: type[Exception] = GoogleAPIError
        self.auth = exceptions


def _import_bigquery() -> tuple[Any, _Errors, Any]:
    try:
        client = importlib.import_module("google.cloud.bigquery")
        from google.auth.credentials import AnonymousCredentials

        return client, _Errors(), AnonymousCredentials
    except ImportError as error:
        raise Unavailable(
            f"Reading from BigQuery needs its client: {error}.", hint="pip install google-cloud-bigquery"
        ) from error


def _import_duckdb() -> Foreign:  # a module
    try:
        import duckdb
    except ImportError as error:
        raise Unavailable("SQL over files needs DuckDB.", hint="pip install 'mainspring[duckdb]'") from error
    return duckdb


def _read_one(path: str) -> pl.DataFrame:
    import polars as pl

    kind = KINDS.get(Path(path).suffix.lower())
    if kind is None:
        raise InvalidInput(f"{path} is neither CSV, Parquet nor JSON lines.", hint="Name it .csv, .parquet or .jsonl.")
    try:
        return _scan(path, kind).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InvalidInput(f"{path} cannot be read as {kind}: {_first_line(error)}", hint="Check the file.") from error


def _scan(path: str, kind: str) -> pl.LazyFrame:
    import polars as pl

    if kind == "csv":
        return pl.scan_csv(path, infer_schema_length=None)
    return pl.scan_parquet(path) if kind == "parquet" else pl.scan_ndjson(path, infer_schema_length=None)


def _address(url: str) -> str:
    """Return the URL with the driver we ship; raise `NotFound` for a variable that is not set."""
    if url.startswith(SECRET):
        name = url.removeprefix(SECRET)
        url = os.environ.get(name, "")
        if not url:
            raise NotFound(f"The environment has no {name}.", hint="Set it where the step runs, as a secret.")
    for scheme in ("postgresql://", "postgres://"):
        if url.startswith(scheme):
            return "postgresql+psycopg://" + url.removeprefix(scheme)
    return url


def _without_password(url: str) -> str:
    import sqlalchemy as sa

    if url.startswith(SECRET):
        return url
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return "the database"


def _finish(frame: pl.DataFrame, data: ArtifactFile, source: str) -> int:
    if frame.height == 0:
        raise InvalidInput(f"{source} has no rows.", hint="Check the file or the query.")
    write_table(data, frame)
    data.metadata["source"] = source
    return frame.height


def _first_line(error: Exception) -> str:
    lines = str(error.message if isinstance(error, MainspringError) else error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]
