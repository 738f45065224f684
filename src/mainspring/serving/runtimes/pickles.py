"""Pickles, cloudpickles and joblib files: only ever opened when the operator has allowed it."""

from __future__ import annotations

from pathlib import Path

from mainspring.core import Unavailable
from mainspring.serving.runtimes.interface import Source


def load_pickle(source: Source, path: Path) -> object:
    """Load a pickled object. It can run any code: raises `Refused` unless the operator allowed pickles."""
    source.require_pickle(path.name)
    try:
        return _read(path)
    except FileNotFoundError as error:
        raise Unavailable(f"Model {source.name} lacks its file {path.name}.") from error
    except Exception as error:  # unpickling runs whatever the file says
        raise Unavailable(
            f"Model {source.name} cannot be loaded: {type(error).__name__}: {str(error)[:300]}",
            hint="Install the versions it was made with (its requirements.txt); what answered before goes on.",
        ) from error


def _read(path: Path) -> object:
    # Late: nobody who serves without pickles needs these.
    import pickle

    if path.suffix == ".joblib":
        import joblib

        loaded: object = joblib.load(path)
        return loaded
    with path.open("rb") as file:
        return pickle.load(file)  # noqa: S301 - the operator allowed it: see load_pickle
