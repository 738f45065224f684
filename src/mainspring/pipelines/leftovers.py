"""What a task logged through `mainspring.client` and was killed before it could send: the engine sends it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from mainspring.core import MainspringError
from mainspring.core.settings import ENVIRONMENT_PREFIX

log = logging.getLogger("mainspring.pipelines")

_TIMEOUT_SECONDS = 5.0


def send_leftovers(environment: Mapping[str, str]) -> None:
    """Send the spools of tasks that ended, given the variables tasks get; what cannot be sent waits for the next time.

    Costs one look into a folder when nothing is left. Never fails: what was logged is safe where it is.
    """
    home, url = environment.get(f"{ENVIRONMENT_PREFIX}HOME", ""), environment.get("MLFLOW_TRACKING_URI", "")
    if not home or not url.startswith(("http://", "https://")):
        return
    from mainspring.client import SPOOL_FOLDER, ship_to_server  # late: only runs with a tracking server come here

    token = environment.get("MLFLOW_TRACKING_TOKEN", "")
    try:
        sent = ship_to_server(Path(home) / SPOOL_FOLDER, url, token=token, timeout_s=_TIMEOUT_SECONDS)
    except (MainspringError, OSError) as error:
        log.warning("leftovers.wait url=%s error=%s", url, error)
        return
    if sent.records:
        log.info("leftovers.sent records=%d refused=%d", sent.records, sent.refused)
