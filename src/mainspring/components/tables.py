"""Tables as KFP artifacts: one Parquet file, or a snapshot whose bytes stay in the project's store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mainspring.components.artifacts import ArtifactFile
from mainspring.components.data import DIGEST_KEY, read_dataset
from mainspring.core import InvalidInput, NotFound

if TYPE_CHECKING:
    import polars as pl


def read_table(data: ArtifactFile) -> pl.DataFrame:
    """Read the Parquet file of an artifact, or the snapshot the artifact stands for."""
    import polars as pl

    path = Path(data.path)
    if path.is_file():
        try:
            return _plain(pl.read_parquet(path))
        except (pl.exceptions.PolarsError, OSError) as error:
            raise InvalidInput(
                f"{path} is not a Parquet file: {str(error).splitlines()[0]}.", hint="Ingest the data first."
            ) from error
    if DIGEST_KEY in data.metadata:
        return _plain(read_dataset(data))
    raise NotFound(f"The dataset has no file {path}.", hint="Give the output of ingest, split or apply_transform.")


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a table with decimals as floats: learners read them so, and so must what evaluates and serves."""
    import polars as pl

    return frame.with_columns(pl.selectors.decimal().cast(pl.Float64))


def write_table(data: ArtifactFile, frame: pl.DataFrame) -> None:
    """Write a table as the artifact's Parquet file; its size goes into the metadata."""
    path = Path(data.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(path)
    data.metadata["rows"] = frame.height
    data.metadata["columns"] = frame.width


def require_columns(frame: pl.DataFrame, columns: Sequence[str]) -> None:
    """Raise `InvalidInput` naming the columns a table lacks."""
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise InvalidInput(
            f"The data has no column {', '.join(map(repr, missing))}.", hint=f"It has {', '.join(frame.columns[:20])}."
        )
