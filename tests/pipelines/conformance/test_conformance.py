"""What each feature of the IR does, whoever launches the tasks."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

import pytest

from mainspring.core import InvalidInput
from mainspring.pipelines.launchers.ray import RayLauncher

ROWS = [
    ("loop_raw", [2, 3, 4]),
    ("loop_runtime", "[10, 11, 12]"),
    ("loop_parameter", "['b', 'a']"),
    ("loop_nested", "[[11, 21, 31], [12, 22, 32]]"),
    ("loop_fields", "['1', '2']"),
    ("loop_over_field", "[[11, 12], [17]]"),
    ("loop_skipping", "[104, 105]"),
    ("loop_ints_stay_ints", "['[1,{\"a\":2}]', '[3.5,{\"a\":4}]']"),
    ("loop_artifacts", "x1|x2|y1|y2"),
    ("loop_over_artifacts", "['x', 'y', 'z']"),
    ("values_nested", "(1, 2, False, 's', [1, 2, 3], {'a': 1, 'b': 2}, None)"),
    ("values_given", "(1, 2, False, 's', [], {}, None)"),
    ("any_into_string", "[0,1,2] 3"),
    ("fstrings", "a {brace} it's-b-a {brace} it's"),
    ("list_of_outputs", "[2, 5, {'k': 3}]"),
    ("returned_artifact", "returned"),
    ("imported_remote", "gs://bucket/data.csv /gcs/bucket/data.csv"),
    ("resources", 2),
    ("workspace", "through the workspace"),
    ("used_twice", 7),
]


@pytest.mark.parametrize(("name", "output"), ROWS, ids=[name for name, _ in ROWS])
def test_the_output_is_as_expected(run, name, output):
    finished, _ = run(name)
    assert (finished.state, finished.error) == ("COMPLETE", "")
    assert finished.outputs.parameters == {"Output": output}


def test_an_empty_loop_yields_an_empty_list_and_what_is_behind_it_runs(run):
    finished, tasks = run("loop_runtime", size=0)
    assert finished.outputs.parameters == {"Output": "[]"}
    assert tasks["for-loop-1"].state == "COMPLETE"


def test_a_loop_is_as_wide_as_it_says(run, tmp_path):
    (tmp_path / "running").mkdir()
    finished, _ = run("loop_limit", folder=str(tmp_path / "running"))
    seen = json.loads(finished.outputs.parameters["Output"])
    assert max(seen) == 2
    assert len(seen) == 5


def test_a_failed_iteration_does_not_stop_the_others(run, tmp_path):
    finished, tasks = run("loop_failing", path=str(tmp_path / "log"))
    assert finished.state == "FAILED"
    assert "for-loop-" in finished.error
    assert "item 2" in finished.error
    assert sorted((tmp_path / "log").read_text().split()) == ["1", "3"]
    assert sum(task.state == "FAILED" for task in tasks.values()) == 1


def test_conditions_compare_typed_values(run, tmp_path):
    finished, _ = run("conditions", path=str(tmp_path / "log"))
    assert finished.state == "COMPLETE"
    assert sorted((tmp_path / "log").read_text().split()) == ["bool", "equal", "number", "text"]


@pytest.mark.parametrize("value", ["x' or 'a'=='a", "x' || true || 'a'=='a", "', 'go", "go ", ""])
def test_a_value_never_becomes_code(run, tmp_path, value):
    finished, tasks = run("injection", path=str(tmp_path / "log"), v=value)
    assert finished.state == "COMPLETE"
    assert {task.state for task in tasks.values()} == {"SKIPPED"}


@pytest.mark.parametrize(("n", "text", "number"), [(1, "one", 1), (2, "two", 102), (9, "other", 109)])
def test_oneof_takes_what_ran(run, n, text, number):
    assert run("oneof_artifact", n=n)[0].outputs.parameters == {"Output": text}
    assert run("oneof_parameter", n=n)[0].outputs.parameters == {"Output": number}


def test_not_given_is_absent_for_a_component_and_null_for_a_nested_pipeline(run):
    finished, _ = run("optional")
    assert finished.outputs.parameters == {"plain": "None 5", "nested": "None 7", "empty": "None 7"}
    finished, _ = run("optional", x=1)
    assert finished.outputs.parameters == {"plain": "1 5", "nested": "1 7", "empty": "None 7"}


def test_an_optional_string_reaches_the_innermost_component(run):
    finished, _ = run("values_given", opt="given")
    assert finished.outputs.parameters["Output"].endswith("'given')")


def test_artifacts_may_lie_where_the_component_wants(run, tmp_path):
    finished, _ = run("custom_path", folder=str(tmp_path / "mine"))
    assert finished.outputs.parameters == {"Output": "custom custom"}
    assert (tmp_path / "mine" / "weights").read_text() == "custom"
    finished, _ = run("changed_uri", path=str(tmp_path / "elsewhere.txt"))
    assert finished.outputs.parameters == {"Output": "elsewhere gs://bucket/x /gcs/bucket/x 3"}


def test_nested_pipelines_take_and_give_artifacts(run, blobs):
    finished, tasks = run("nested_artifacts")
    assert blobs.read(finished.outputs.artifacts["Output"].digest) == b"<<abc>>"
    assert tasks["inner-artifacts/make-file"].outputs.artifacts["data"].metadata == {"length": 5}


def test_a_pipeline_takes_artifacts_as_arguments(run, tmp_path):
    (tmp_path / "data.txt").write_text("given")
    finished, tasks = run("root_artifact", data=str(tmp_path / "data.txt"))
    assert finished.outputs.parameters == {"Output": "given"}
    assert tasks["read-file"].inputs.artifacts["data"].type == "system.Dataset"
    with pytest.raises(InvalidInput, match="needs the artifact 'data'"):
        run("root_artifact")
    with pytest.raises(InvalidInput, match="nothing at"):
        run("root_artifact", data=str(tmp_path / "missing"))


def test_an_importer_takes_in_what_exists(run, tmp_path):
    (tmp_path / "data.txt").write_text("there already")
    finished, _ = run("imported", path=str(tmp_path / "data.txt"))
    assert finished.outputs.parameters == {"Output": "there already 4 v"}
    assert (tmp_path / "data.txt").read_text() == "there already"


def test_an_exit_task_sees_the_real_state_and_error(run, tmp_path):
    finished, tasks = run("exit_failed", path=str(tmp_path / "words"))
    assert finished.state == "FAILED"
    assert (tmp_path / "words").read_text() == "FAILED|ValueError: boom it's|exit-handler-1"
    assert tasks["last-words"].state == "COMPLETE"
    finished, _ = run("exit_well", path=str(tmp_path / "words"))
    assert finished.state == "COMPLETE"
    assert (tmp_path / "words").read_text() == "SUCCEEDED|None|exit-handler-1"


def test_retries_work_on_tasks_nested_pipelines_and_iterations(run, tmp_path):
    finished, tasks = run("retries", path=str(tmp_path / "tries"))
    assert (finished.state, finished.error) == ("COMPLETE", "")
    assert finished.outputs.parameters == {"Output": "task 3 inner 2"}
    assert tasks["inner-flaky/flaky"].attempt + tasks["inner-flaky/flaky-2"].attempt == 3
    assert (tmp_path / "tries.steady").read_text() == "x"


def test_a_task_may_ignore_the_failure_before_it_and_gets_its_defaults(run, tmp_path):
    finished, tasks = run("ignoring", path="")
    assert tasks["say"].outputs.parameters == {"Output": "default"}
    assert finished.state == "FAILED"
    run("ignoring_defaults", path=str(tmp_path / "log"))
    assert (tmp_path / "log").read_text() == "5\n"


def test_a_branch_that_does_not_depend_on_a_failure_goes_on(run, tmp_path):
    finished, tasks = run("other_branch", path=str(tmp_path / "log"))
    assert (tmp_path / "log").read_text() == "other\n"
    assert tasks["add"].state == "SKIPPED"
    assert finished.error == "Task fail failed: ValueError: no luck"


def test_every_placeholder_has_a_value(run, tmp_path):
    finished, _ = run("placeholders")
    words = finished.outputs.parameters["Output"].split()
    assert len(words) == 8
    assert words[0] == words[1] == f"placeholders-{finished.id}"
    assert words[2:5] == [finished.id, "say", f"{finished.id}/say"]
    assert words[5] == words[6]
    assert words[7] == str(tmp_path / "home" / "work" / finished.id)


def test_secrets_and_config_maps_become_variables_and_the_rest_is_a_warning(run, tmp_path):
    for path, text in (("secrets/store/password", "hush"), ("config-maps/paint/colour", "red")):
        file = tmp_path / "home" / path
        file.parent.mkdir(parents=True)
        file.write_text(text)
    finished, tasks = run("environment")
    expected = {"PLAIN": "value", "PASSWORD": "hush", "COLOUR": "red", "MISSING": None}
    assert finished.outputs.parameters == {"Output": expected}
    assert finished.warnings == ("task see-environment: its setting nodeSelector is ignored here",)
    assert "hush" not in repr(tasks["see-environment"].inputs)


def test_secrets_and_empty_folders_appear_where_a_step_expects_them(run, tmp_path):
    secret = tmp_path / "home" / "secrets" / "store" / "password"
    secret.parent.mkdir(parents=True)
    secret.write_text("hush")
    finished, _ = run("mounts")
    assert (finished.error, finished.outputs.parameters) == ("", {"Output": "hush scratch"})
    assert secret.read_text() == "hush"
    assert not Path(f"/tmp/mainspring-conformance-{os.getpid()}/secret").exists()


def test_what_is_somebody_elses_is_never_replaced_by_a_mount(run, tmp_path):
    (tmp_path / "home" / "secrets" / "store").mkdir(parents=True)
    taken = Path(f"/tmp/mainspring-conformance-{os.getpid()}/secret")
    taken.mkdir(parents=True)
    try:
        finished, _ = run("mounts")
        assert finished.state == "FAILED"
        assert str(taken) in finished.error
        assert taken.is_dir()
    finally:
        taken.rmdir()
        with contextlib.suppress(OSError):
            taken.parent.rmdir()


def test_a_secret_that_is_missing_names_the_file_to_write(run, tmp_path):
    finished, _ = run("environment")
    assert finished.state == "FAILED"
    assert "secrets/store/password" in finished.error


def test_a_task_that_takes_too_long_is_killed_with_all_it_started(run, tmp_path):
    began = time.perf_counter()
    finished, _ = run("deadline", path=str(tmp_path / "pids"))
    assert time.perf_counter() - began < 25  # it would sleep for 30
    assert finished.error == "Task sleep failed: It did not end within 1 s (activeDeadlineSeconds) and was killed."
    time.sleep(0.1)
    for pid in (tmp_path / "pids").read_text().split():
        stat = Path(f"/proc/{pid}/stat")
        assert not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z"


def test_branches_and_iterations_run_in_parallel(run):
    finished, tasks = run("parallel")
    assert finished.state == "COMPLETE"
    naps = [task for task in tasks.values() if task.name.startswith("nap")]
    assert len(naps) == 4
    assert max(task.started_at for task in naps) < min(task.ended_at for task in naps)


def test_every_task_leaves_its_use_of_the_machine(run):
    _, tasks = run("loop_raw")
    assert all(task.max_rss_bytes > 1_000_000 and task.cpu_ms >= 0 for task in tasks.values())


def test_a_list_of_artifacts_may_be_empty(run):
    finished, _ = run("loop_no_artifacts")
    assert (finished.error, finished.outputs.parameters) == ("", {"Output": ""})
    finished, _ = run("loop_no_artifacts", size=2)
    assert finished.outputs.parameters == {"Output": "0|1"}


def test_variables_may_refer_to_others(run):
    finished, _ = run("variables_of_variables")
    assert finished.outputs.parameters == {"Output": "here:80 $(NOBODY) $(HOST)"}


def test_a_task_may_be_told_its_settings_instead_of_getting_them(run):
    finished, _ = run("told_its_settings")
    expected = {
        "env": [{"name": "LEVEL", "value": "3"}],
        "LEVEL": "none",
        "resources": {"limits": {"cpu": "100m", "memory": "64Mi", "nvidia.com/gpu": "2"}},
        "node_selector": {"disk": "ssd"},
        "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}],
        "volumes": None,
        "volume_mounts": None,
    }
    output = finished.outputs.parameters["Output"]
    affinity = output.pop("affinity")["nodeAffinity"]
    assert output == expected
    required = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert required == [{"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}]
    preferred = affinity["preferredDuringSchedulingIgnoredDuringExecution"]
    assert [(wish["weight"], wish["preference"]["matchFields"][0]["key"]) for wish in preferred] == [(5, "c")]
    assert finished.warnings == ("task told: its TaskConfig has no KUBERNETES_VOLUMES here",)


def test_requests_that_nobody_enforces_are_a_warning(run, launcher):
    if isinstance(launcher, RayLauncher):
        pytest.skip("Ray enforces them, and refuses what its nodes do not have")
    finished, _ = run("large_requests")
    assert finished.warnings == (
        "task add: it runs as a process of this machine, which does not enforce"
        " its memory limit of 64 MiB and its request for 1 nvidia.com/gpu",
    )
