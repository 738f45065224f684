"""Two variants on the same rows: the paired losses a canary is judged by."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from mainspring.monitoring.frames import labelled_rows
from mainspring.monitoring.performance import row_losses


class PairedLosses(msgspec.Struct, frozen=True, kw_only=True):
    """Loss of the first variant minus loss of the second, row by row, in the order of the requests.

    ``requests`` numbers the request of each row, from 0: rows of one request belong together (an hour of flights
    shares its weather), so a test must not count them as independent.
    """

    differences: npt.NDArray[np.float64]
    requests: npt.NDArray[np.int64]


def paired_losses(frame: pl.DataFrame, variant_a: str, variant_b: str) -> npt.NDArray[np.float64]:
    """Return ``loss_a - loss_b`` (log loss, nats) of the labelled rows both variants predicted, in time order."""
    return pair_losses(frame, variant_a, variant_b).differences


def pair_losses(frame: pl.DataFrame, variant_a: str, variant_b: str) -> PairedLosses:
    """Pair two variants of a `prediction_frame` on the labelled rows both predicted, answered or as a shadow.

    Pass a frame that ends before the newest labels are missing: bad news arrive late (a delayed flight is labelled
    after a punctual one), so half-labelled hours are a biased sample.
    """
    labelled = labelled_rows(frame)
    first = labelled.filter(pl.col("variant") == variant_a)
    second = labelled.filter(pl.col("variant") == variant_b).select("prediction_id", other="score")
    pairs = first.join(second, on="prediction_id", how="inner", maintain_order="left")
    labels = pairs["label"].to_numpy()
    return PairedLosses(
        differences=row_losses(pairs["score"].to_numpy(), labels) - row_losses(pairs["other"].to_numpy(), labels),
        requests=(pairs["request_id"].rle_id().cast(pl.Int64)).to_numpy(),
    )
