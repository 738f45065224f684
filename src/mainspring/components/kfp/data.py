"""Components on data: ingest, snapshot, profile, validate, split, transform."""
# ruff: noqa: I002, UP045, D413 - KFP reads the annotations as they are when the module is imported

from typing import Any, Optional

from kfp.dsl import Artifact, Dataset, Input, Output

from mainspring.components.kfp.making import component


@component()
def ingest_files(source: str, data: Output[Dataset]) -> int:
    """Read a CSV, Parquet or JSON lines file, a glob or a folder of them into one table.

    Args:
        source: A path, a glob (in/*.csv), a folder, or an address (gs://…).
        data: The rows, as Parquet.

    Returns:
        How many rows there are.
    """
    from mainspring import components

    return components.ingest_files(source, data=data)


@component("duckdb")
def ingest_query(query: str, files: dict[str, Any], data: Output[Dataset]) -> int:
    """Run SQL over files with DuckDB.

    Args:
        query: The statement; it sees the named tables and nothing else.
        files: Table name to path, glob or folder.
        data: The answer, as Parquet.

    Returns:
        How many rows there are.
    """
    from mainspring import components

    return components.ingest_query(query, files=files, data=data)


@component("postgres")
def ingest_database(query: str, url: str, data: Output[Dataset]) -> int:
    """Run SQL in PostgreSQL, or another database that SQLAlchemy knows.

    Args:
        query: The statement.
        url: postgresql://HOST/DATABASE, or env:NAME, the environment variable (a secret) that holds it.
        data: The answer, as Parquet.

    Returns:
        How many rows there are.
    """
    from mainspring import components

    return components.ingest_database(query, url=url, data=data)


@component(also=("google-cloud-bigquery>=3.20",))
def ingest_bigquery(query: str, project: str, data: Output[Dataset], location: str = "", endpoint: str = "") -> int:
    """Run SQL in BigQuery.

    Args:
        query: The statement, in BigQuery's dialect.
        project: The Google Cloud project that pays.
        data: The answer, as Parquet.
        location: Where the data is; BigQuery finds it if empty.
        endpoint: An emulator's address; asked without credentials.

    Returns:
        How many rows there are.
    """
    from mainspring import components

    return components.ingest_bigquery(query, project=project, data=data, location=location, endpoint=endpoint)


@component()
def snapshot(data: Input[Dataset], dataset: str, snapshot: Output[Dataset], time_column: str = "") -> str:
    """Keep a table as the newest part of a dataset of the project (runs where the project's store is).

    Args:
        data: The new rows.
        dataset: The name of the dataset.
        snapshot: Stands for all rows of the dataset so far.
        time_column: Column of event times, in milliseconds or as datetimes.

    Returns:
        dataset://NAME/sha256:…
    """
    from mainspring import components

    return components.snapshot_table(data, dataset=dataset, snapshot=snapshot, time_column=time_column)


@component()
def profile(data: Input[Dataset], profile: Output[Artifact]) -> None:
    """Describe every column of a table: counts, gaps, quantiles, most frequent values.

    Args:
        data: The rows.
        profile: The statistics, as JSON.
    """
    from mainspring import components

    components.profile_table(data, profile=profile)


@component()
def validate(
    profile: Input[Artifact],
    schema: Output[Artifact],
    anomalies: Output[Artifact],
    expected: Optional[Input[Artifact]] = None,
    label: str = "",
    unbounded: list[str] = [],  # noqa: B006 - KFP keeps it as a value
    stop: bool = True,
) -> int:
    """Check a profile against what is expected; an anomaly of severity ERROR fails the task.

    Args:
        profile: The statistics of the rows to check.
        schema: What they were checked against.
        anomalies: What was found, as JSON.
        expected: A schema, or the profile of earlier rows to infer one from.
        label: Column that need not be there when serving.
        unbounded: Columns that may grow without limit, such as times.
        stop: Off: only report.

    Returns:
        How many anomalies there are.
    """
    from mainspring import components

    return components.validate_table(
        profile, schema=schema, anomalies=anomalies, expected=expected, label=label, unbounded=unbounded, stop=stop
    )


@component()
def split(
    data: Input[Dataset],
    train: Output[Dataset],
    test: Output[Dataset],
    method: str = "random",
    test_fraction: float = 0.2,
    column: str = "",
    seed: int = 0,
) -> None:
    """Split rows into training and test rows, the same ones every time.

    Args:
        data: The rows.
        train: Rows to learn from.
        test: Rows to judge on.
        method: random, time (the newest rows are the test) or hash (rows of one key stay together).
        test_fraction: The test's part of all rows.
        column: The time, or the key.
        seed: Another seed, another split.
    """
    from mainspring import components

    components.split_data(
        data, train=train, test=test, method=method, test_fraction=test_fraction, column=column, seed=seed
    )


@component("sklearn")
def fit_transform(
    train: Input[Dataset],
    transform: Output[Artifact],
    numeric: list[str] = [],  # noqa: B006 - KFP keeps it as a value
    categorical: list[str] = [],  # noqa: B006
    without: list[str] = [],  # noqa: B006
    style: str = "codes",
) -> None:
    """Learn how columns become numbers, from training rows only.

    Args:
        train: Rows to learn from.
        transform: The fitted transform; it travels with the model.
        numeric: Columns of numbers; none named: all of them.
        categorical: Columns of texts; none named: all of them.
        without: Columns that are no features: the target, keys, times.
        style: codes (for trees) or standard (filled, scaled, one column per category).
    """
    from mainspring import components

    components.fit_columns(
        train, transform=transform, numeric=numeric, categorical=categorical, without=without, style=style
    )


@component("sklearn")
def apply_transform(
    data: Input[Dataset],
    transform: Input[Artifact],
    prepared: Output[Dataset],
    keep: list[str] = [],  # noqa: B006 - KFP keeps it as a value
) -> None:
    """Apply a fitted transform to any rows.

    Args:
        data: The rows.
        transform: From fit_transform.
        prepared: The matrix, as Parquet.
        keep: Columns to carry along as they are.
    """
    from mainspring import components

    components.apply_columns(data, transform=transform, prepared=prepared, keep=keep)
