"""What is lifted out of the containers KFP compiles components to."""

from __future__ import annotations

import inspect
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core import InvalidInput
from mainspring.pipelines import ir
from mainspring.pipelines.component import (
    ContainerComponent,
    PythonComponent,
    Resources,
    lift_component,
    read_resources,
)
from mainspring.pipelines.dialect import translate_source
from mainspring.pipelines.launchers.preload import preload_of


def test_a_plain_function_has_its_source_and_no_requirements(lifted):
    component = lifted["bare"]
    assert isinstance(component, PythonComponent)
    assert component.function == "bare"
    assert "def bare(number: int)" in component.source
    assert component.requirements == ()
    assert (component.uses_venv, component.has_embedded_files, component.is_notebook) == (False, False, False)


def test_requirements_indexes_and_environment_are_read(lifted):
    component = lifted["needy"]
    assert component.requirements == ("numpy>=1,<9", "six")
    assert component.index_urls == ("https://one/simple", "https://two/simple")
    assert component.environment == {"LEVEL": "3"}


def test_kfps_own_line_for_its_executor_is_not_a_requirement(lifted):
    assert lifted["helped"].requirements == ()


@pytest.mark.parametrize(
    ("module", "install", "requirements"),
    [
        ("kfp.v2.components", "'six' 'kfp==1.8.22'", ("six",)),
        ("kfp.components", "'kfp==2.0.1'", ()),
        ("kfp.dsl", "'kfp==2.4.0' '--no-deps' 'typing-extensions>=3.7.4'", ()),
    ],
)
def test_what_older_versions_of_kfp_compiled_is_lifted_too(module, install, requirements):
    source = "\nimport kfp\nfrom kfp.v2 import dsl\nfrom kfp.v2.dsl import *\n\ndef f(x: list) -> int:\n    return 1\n"
    run = f'printf "%s" "$0" > "$p/e.py"\npython3 -m {module}.executor_main --component_module_path "$p/e.py" "$@"\n'
    pip = f'PIP_DISABLE_PIP_VERSION_CHECK=1 python3 -m pip install --quiet {install} && "$0" "$@"\n'
    args = ["--executor_input", "{{$}}", "--function_to_execute", "f"]
    component = lift_component(ir.ContainerSpec(command=["sh", "-c", pip, "sh", "-ec", run, source], args=args))
    assert isinstance(component, PythonComponent)
    assert component.requirements == requirements
    assert ("kfp.v2" in component.source) is (module != "kfp.v2.components")


def test_components_of_kfp_1_8_get_values_where_they_got_texts():
    source = translate_source("def f(a: list, b: Dict[str, int], c: bool, d: str): return [a, b, c, d]", "f")
    module: dict[str, Any] = {"Dict": dict}
    exec(compile(source, "f.py", "exec", dont_inherit=True), module)
    assert module["f"](a="[1]", b='{"k": 2}', c="true", d="[3]") == [[1], {"k": 2}, True, "[3]"]
    assert module["f"](a=[1], b={}, c=False, d="") == [[1], {}, False, ""]
    assert list(inspect.getfullargspec(module["f"]).annotations) == ["a", "b", "c", "d"]


def test_additional_functions_are_in_the_source(lifted):
    assert "def add_one" in lifted["helped"].source


def test_a_component_that_wants_an_environment_says_so(lifted):
    assert lifted["apart"].uses_venv
    assert not lifted["needy"].uses_venv


def test_embedded_files_and_notebooks_are_seen(lifted):
    assert lifted["folder_inside"].has_embedded_files
    assert lifted["notebook"].is_notebook
    assert lifted["notebook"].has_embedded_files


def test_commands_of_their_own_stay_containers(lifted):
    shell = lifted["shell"]
    assert shell == ContainerComponent(
        image="alpine:3",
        command=("sh", "-c", 'echo "$0" > "$1"'),
        args=("{{$.inputs.parameters['text']}}", "{{$.outputs.parameters['out'].output_file}}"),
    )


def test_code_baked_into_an_image_stays_a_container(lifted):
    built = lifted["built"]
    assert isinstance(built, ContainerComponent)
    assert built.image == "registry/team/built:1"
    assert built.command == ("python3", "-m", "kfp.dsl.executor_main")


def test_every_part_of_the_definition_is_in_its_digest(lifted):
    digests = {component.digest for component in lifted.values()}
    assert len(digests) == len(lifted)
    bare = lifted["bare"]
    assert PythonComponent(source=bare.source, function="bare", image=bare.image).digest == bare.digest
    assert PythonComponent(source=bare.source, function="bare", image="other").digest != bare.digest


def test_a_function_without_a_name_is_an_error():
    command = ["sh", "-ec", 'python3 -m kfp.dsl.executor_main --component_module_path x "$0"', "def f(): ..."]
    with pytest.raises(InvalidInput, match="function_to_execute"):
        lift_component(ir.ContainerSpec(image="python", command=command, args=[]))


def test_resources_are_read_as_kfp_writes_them(requests):
    assert read_resources(requests["bare"]) == Resources(
        cpu=0.5, memory_bytes=512 * 1024**2, accelerator_type="nvidia-t4", accelerator_count=2
    )
    assert read_resources(requests["needy"]) == Resources()


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({"resourceCpuLimit": "2"}, Resources(cpu=2)),
        ({"resourceCpuRequest": "250m"}, Resources(cpu=0.25)),
        ({"cpuLimit": 2.0, "memoryLimit": 1.5}, Resources(cpu=2, memory_bytes=1_500_000_000)),
        ({"resourceMemoryLimit": "1G"}, Resources(memory_bytes=1_000_000_000)),
        ({"resourceMemoryLimit": "2Ki"}, Resources(memory_bytes=2048)),
        ({"accelerator": {"count": "1", "type": "tpu"}}, Resources(accelerator_count=1, accelerator_type="tpu")),
    ],
)
def test_quantities(written, read):
    assert read_resources(written) == read


@given(st.text(max_size=8))
def test_any_text_is_an_amount_or_a_clear_error(text):
    with suppress(InvalidInput):
        assert read_resources({"resourceMemoryLimit": text}).memory_bytes >= 0


def test_only_slow_packages_that_the_source_names_are_preloaded():
    source = "import os\ndef f():\n    import pandas as pd\n    from sklearn.svm import SVC\n    import mylib\n"
    modules = preload_of(source)
    assert {"pandas", "sklearn", "numpy"} <= set(modules)
    assert not {"os", "mylib", "polars", "mlflow.pyfunc"} & set(modules)
    assert preload_of("def f(): return 1") == ()
    assert preload_of("def f(:") == ()


def test_the_order_of_imports_does_not_matter_for_the_zygote():
    assert preload_of("import pandas\nimport polars") == preload_of("from polars import col\nimport pandas")
