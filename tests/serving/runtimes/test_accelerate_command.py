"""``mainspring models accelerate`` from the command line."""

from __future__ import annotations

import msgspec
import pytest
from typer.testing import CliRunner

from mainspring.cli.app import app
from mainspring.core import Refused


@pytest.mark.filterwarnings("ignore")
def test_the_command_writes_the_quick_form_or_says_why_not(data, logistic, write_sklearn, tmp_path):
    folder = write_sklearn(logistic, data.inputs)
    data.asked.to_csv(tmp_path / "sample.csv", index=False)
    command = ["models", "accelerate", str(folder), "--sample", str(tmp_path / "sample.csv")]
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "quick")])
    assert done.exit_code == 0, done.output
    assert done.output.startswith("onnx: 40 rows, largest difference")
    assert f"mainspring serve --model {tmp_path / 'quick'}" in done.output
    report = msgspec.json.decode((tmp_path / "quick/parity.json").read_bytes())
    assert (report["accepted"], report["rows"]) == (True, 40)
    refused = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "strict"), "--tolerance", "1e-13"])
    assert isinstance(refused.exception, Refused)
    assert "does not agree with the model" in str(refused.exception)
    assert not (tmp_path / "strict/MLmodel").exists()
    assert msgspec.json.decode((tmp_path / "strict/parity.json").read_bytes())["accepted"] is False


def test_a_sample_that_cannot_be_read_is_named(data, logistic, write_sklearn, tmp_path):
    from mainspring.core import InvalidInput

    folder = write_sklearn(logistic, data.inputs)
    (tmp_path / "bad.parquet").write_bytes(b"no")
    for name, problem in (
        ("bad.parquet", "cannot be read"),
        ("sample.xls", "not a sample"),
        ("no.csv", "cannot be read"),
    ):
        command = ["models", "accelerate", str(folder), "--sample", str(tmp_path / name), "--out", str(tmp_path / "o")]
        found = CliRunner().invoke(app, command)
        assert isinstance(found.exception, InvalidInput)
        assert problem in str(found.exception)
