"""Log runs and read them back: light, quick, and nothing logged is lost.

>>> from mainspring import client
>>> with client.start_run(experiment="flights") as run:  # doctest: +SKIP
...     client.log_metric("loss", 0.5, step=1)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mainspring.client.batches import Batch
from mainspring.client.records import RunStart
from mainspring.client.runs import (
    ActiveRun,
    active_run,
    end_run,
    flush,
    log_artifact,
    log_metric,
    log_metrics,
    log_param,
    log_params,
    send_leftovers,
    set_tag,
    set_tags,
    start_run,
)
from mainspring.client.shipping import Shipped, ship_spools, ship_to_server
from mainspring.client.sinks import SPOOL_TAG, HttpSink, Sink
from mainspring.client.spool import SPOOL_FOLDER, find_spools

if TYPE_CHECKING:
    from mainspring.client.reading import Client

__all__ = [
    "SPOOL_FOLDER",
    "SPOOL_TAG",
    "ActiveRun",
    "Batch",
    "Client",
    "HttpSink",
    "RunStart",
    "Shipped",
    "Sink",
    "active_run",
    "end_run",
    "find_spools",
    "flush",
    "log_artifact",
    "log_metric",
    "log_metrics",
    "log_param",
    "log_params",
    "send_leftovers",
    "set_tag",
    "set_tags",
    "ship_spools",
    "ship_to_server",
    "start_run",
]


def __getattr__(name: str) -> object:
    """Import what reads only when it is used: a program that only logs stays light."""
    if name == "Client":
        from mainspring.client.reading import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
