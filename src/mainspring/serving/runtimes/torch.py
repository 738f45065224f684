"""PyTorch models: exported programs and TorchScript after an audit of the archive, pickles only with permission.

``torch.export.load`` unpickles parts of its archive without restriction, and TorchScript runs its own code while it is
loaded; so each archive is read first, member by member, and refused for anything but tensors, plain data and
PyTorch's own operators.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mainspring.core import Corrupt, Foreign, Refused, Unavailable
from mainspring.serving.checked import Checked
from mainspring.serving.mlmodel import data_path
from mainspring.serving.outputs import PREDICT, Outputs
from mainspring.serving.plan import Plan, matrix_plan
from mainspring.serving.runtimes.interface import Runtime, Source

PLATFORM = "pytorch_torchscript"
_MIN_VERSION = (2, 10)
"""Before it the restricted unpickler could be circumvented (CVE-2025-32434, CVE-2026-24747)."""
_PLAIN_TEXT = re.compile(rb"[A-Za-z0-9._-]{0,64}\n?")
_PAYLOADS = re.compile(r"(^|/)data/(weights|constants)/[^/]+_config\.json")
_FORBIDDEN = re.compile(
    rb"\bops\.(?!aten\.|prim\.|prims\.|quantized\.)\w+|\bfrom_file\b|\btorch\.(save|load|classes)\b|torch\.classes\."
)
_MAX_CODE = 64 << 20


def load(source: Source) -> Runtime:
    """Load a model of MLflow's pytorch flavour."""
    section = source.flavor("pytorch")
    folder = data_path(source.folder, {"data": section.get("model_data", "data")})
    exported, pickled = folder / "model.pt2", folder / "model.pth"
    if not exported.is_file():
        if is_script(pickled):
            audit_script(pickled)
        else:
            source.require_pickle(pickled.name)
    torch = _import_torch()
    torch.set_num_threads(1)
    try:
        if exported.is_file():
            audit_exported(exported, torch)
            return _runtime(source, torch, torch.export.load(str(exported)).module(), "pytorch_export")
        if is_script(pickled):
            return _runtime(source, torch, torch.jit.load(str(pickled), map_location="cpu").eval(), PLATFORM)
        model = torch.load(str(pickled), map_location="cpu", weights_only=False).eval()
        return _runtime(source, torch, model, "pytorch")
    except (Refused, Corrupt, Unavailable):
        raise
    except Exception as error:  # torch raises what its parts raise
        raise Unavailable(
            f"Model {source.name} cannot be loaded: {type(error).__name__}: {str(error).splitlines()[0][:300]}",
            hint="Install the PyTorch it was made with; what answered before goes on answering.",
        ) from error


def is_script(path: Path) -> bool:
    """Say whether a file is a TorchScript archive rather than a pickle."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") or "/code/" in name for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def audit_script(path: Path) -> None:
    """Refuse TorchScript that uses more than PyTorch's own operators, or that reads or writes files."""
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.filename.endswith(".py"):
                continue
            if info.file_size > _MAX_CODE:
                raise Refused(f"{path.name} holds {info.file_size >> 20} MB of code.")
            found = _FORBIDDEN.search(archive.read(info))
            if found:
                what = found.group().decode(errors="replace")[:60]
                raise Refused(f"{path.name} uses {what}, which is not an operator that is served.")


def audit_exported(path: Path, torch: Foreign) -> None:  # an optional library
    """Refuse an exported program that holds anything but plain data and tensors."""
    try:
        with zipfile.ZipFile(path) as archive:
            raw = _raw_tensors(archive)
            for info in archive.infolist():
                if info.is_dir() or info.filename in raw:
                    continue
                if not _is_plain(archive.read(info), torch):
                    raise Refused(
                        f"{path.name} holds {info.filename[:80]!r}, which is neither plain data nor tensors.",
                        hint="Save the model again with serialization_format='pt2'.",
                    )
    except zipfile.BadZipFile as error:
        raise Corrupt(f"{path.name} is not an exported program.") from error


def _raw_tensors(archive: zipfile.ZipFile) -> set[str]:
    """Return the members that are read as the bytes of a tensor, and never unpickled."""
    raw: set[str] = set()
    pickled: set[str] = set()
    for name in archive.namelist():
        if not _PAYLOADS.search(name):
            continue
        try:
            entries = json.loads(archive.read(name))["config"].values()
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise Refused(f"The archive's {name[:80]!r} cannot be read.") from error
        for entry in entries:
            member = f"{name.rpartition('/')[0]}/{entry.get('path_name')}"
            is_raw = entry.get("use_pickle") is False and str(entry.get("path_name")).startswith(("weight_", "tensor_"))
            (raw if is_raw else pickled).add(member)
    return raw - pickled


def _is_plain(data: bytes, torch: Foreign) -> bool:  # an optional library
    if _PLAIN_TEXT.fullmatch(data):
        return True
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        pass
    else:
        return True
    try:
        torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception:  # noqa: BLE001 - whatever the unpickler says: it is not only tensors
        return False
    return True


def _import_torch() -> Foreign:  # a module
    try:
        # Late: seconds and 200 MB, for models of this kind.
        import torch
    except ImportError as error:
        raise Unavailable("This model needs PyTorch.", hint="pip install torch") from error
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < _MIN_VERSION:
        raise Unavailable(
            f"PyTorch {torch.__version__} cannot read models safely.",
            hint=f"Install PyTorch {'.'.join(map(str, _MIN_VERSION))} or newer.",
        )
    return torch


def _runtime(source: Source, torch: Foreign, model: Foreign, platform: str) -> Runtime:
    plan = source.plan or matrix_plan(None)

    def predict(checked: Checked) -> Outputs:
        with torch.inference_mode():
            arguments = [torch.from_numpy(array) for array in _arrays(plan, checked)]
            return _outputs(model(*arguments))

    return Runtime(platform, plan, predict)


def _arrays(plan: Plan, checked: Checked) -> list[NDArray[Any]]:
    """Return what the model is called with: one matrix of single precision for columns, else its tensors."""
    if plan.columns or plan.tensors[0].shape == ():
        return [np.ascontiguousarray(checked.to_matrix(), dtype=np.float32)]
    return [np.array(checked[name]) for name in plan.names]


def _outputs(found: Foreign) -> Outputs:  # a tensor, or several
    if isinstance(found, Mapping):
        return Outputs(tuple(map(str, found)), tuple(one.numpy() for one in found.values()))
    if isinstance(found, list | tuple):
        return Outputs(tuple(f"output_{place}" for place in range(len(found))), tuple(one.numpy() for one in found))
    return Outputs((PREDICT,), (found.numpy(),))
