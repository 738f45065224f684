"""The compiled pipeline as it is written: KFP's PipelineSpec (YAML or JSON), read into typed structures.

Nothing here judges what the engine can run; that is `plan`'s part. Numbers are normalised as KFP's backend does:
a double with an integral value is an int, at every depth.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from mainspring.core import InvalidInput, Json
from mainspring.pipelines.reading import read_documents

_LARGEST_EXACT = 2**53


class Document(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Common settings of all parts of the document: camel-case names, unknown fields allowed."""


class ArtifactType(Document, frozen=True, kw_only=True):
    """The schema of an artifact."""

    schema_title: str = ""
    schema_version: str = "0.0.1"
    instance_schema: str = ""
    """The form before schema version 2.1: a YAML text whose ``title`` names the type."""

    @property
    def title(self) -> str:
        """The name of the type, however it is given."""
        found = re.search(r"^title:\s*(\S+)", self.instance_schema, re.MULTILINE)
        return self.schema_title or (found[1] if found else "system.Artifact")


class ParameterSpec(Document, frozen=True, kw_only=True):
    """A declared input or output parameter."""

    parameter_type: str = ""
    type: str = ""
    """The form before schema version 2.1: INT, DOUBLE or STRING."""
    default_value: Any = msgspec.UNSET
    is_optional: bool = False
    literals: list[Any] = []


class ArtifactSpec(Document, frozen=True, kw_only=True):
    """A declared input or output artifact."""

    artifact_type: ArtifactType = ArtifactType()
    is_artifact_list: bool = False
    is_optional: bool = False


class Definitions(Document, frozen=True, kw_only=True):
    """The inputs or the outputs a component declares."""

    parameters: dict[str, ParameterSpec] = {}
    artifacts: dict[str, ArtifactSpec] = {}


class OutputReference(Document, frozen=True, kw_only=True):
    """An output parameter of an earlier task."""

    producer_task: str
    output_parameter_key: str


class RuntimeValue(Document, frozen=True, kw_only=True):
    """A constant, which may hold placeholders."""

    constant: Any = msgspec.UNSET
    constant_value: dict[str, Any] | None = None
    runtime_parameter: str = ""


class FinalStatus(Document, frozen=True, kw_only=True):
    """How an earlier task ended."""

    producer_task: str


class ParameterInput(Document, frozen=True, kw_only=True):
    """Where a task's input parameter comes from; exactly one field is set."""

    task_output_parameter: OutputReference | None = None
    component_input_parameter: str = ""
    runtime_value: RuntimeValue | None = None
    task_final_status: FinalStatus | None = None
    parameter_expression_selector: str = ""


class ArtifactReference(Document, frozen=True, kw_only=True):
    """An output artifact of an earlier task."""

    producer_task: str
    output_artifact_key: str


class ArtifactInput(Document, frozen=True, kw_only=True):
    """Where a task's input artifact comes from; exactly one field is set."""

    task_output_artifact: ArtifactReference | None = None
    component_input_artifact: str = ""


class TaskInputs(Document, frozen=True, kw_only=True):
    """All inputs of a task."""

    parameters: dict[str, ParameterInput] = {}
    artifacts: dict[str, ArtifactInput] = {}


class Named(Document, frozen=True, kw_only=True):
    """A part that only has a name."""

    name: str = ""


class CachingOptions(Document, frozen=True, kw_only=True):
    """Whether an earlier result may be used."""

    enable_cache: bool = False
    cache_key: str = ""


class TriggerPolicy(Document, frozen=True, kw_only=True):
    """When a task runs."""

    condition: str = ""
    strategy: str = ""


class RetryPolicy(Document, frozen=True, kw_only=True):
    """How often a failed task runs again."""

    max_retry_count: int = 0
    backoff_duration: str = "0s"
    backoff_factor: float = 2.0
    backoff_max_duration: str = "3600s"


class IteratorItems(Document, frozen=True, kw_only=True):
    """What a loop runs over; exactly one field is set. ``raw`` is a JSON text."""

    raw: str = ""
    input_parameter: str = ""
    input_artifact: str = ""


class Iterator(Document, frozen=True, kw_only=True):
    """A loop: the items, and the input of the body that takes each."""

    items: IteratorItems
    item_input: str


class IteratorPolicy(Document, frozen=True, kw_only=True):
    """How many iterations run at the same time; 0 for all."""

    parallelism_limit: int = 0


class TaskSpec(Document, frozen=True, kw_only=True):
    """One use of a component inside a dag."""

    task_info: Named = Named()
    component_ref: Named = Named()
    inputs: TaskInputs = TaskInputs()
    dependent_tasks: list[str] = []
    caching_options: CachingOptions | None = None
    trigger_policy: TriggerPolicy = TriggerPolicy()
    retry_policy: RetryPolicy | None = None
    parameter_iterator: Iterator | None = None
    artifact_iterator: Iterator | None = None
    iterator_policy: IteratorPolicy = IteratorPolicy()


class ParameterSelector(Document, frozen=True, kw_only=True):
    """An output parameter of a task of the dag."""

    producer_subtask: str
    output_parameter_key: str


class OneofParameter(Document, frozen=True, kw_only=True):
    """The output of whichever of several branches ran."""

    parameter_selectors: list[ParameterSelector] = []


class DagOutputParameter(Document, frozen=True, kw_only=True):
    """Where an output parameter of a dag comes from."""

    value_from_parameter: ParameterSelector | None = None
    value_from_oneof: OneofParameter | None = None


class ArtifactSelector(Document, frozen=True, kw_only=True):
    """An output artifact of a task of the dag."""

    producer_subtask: str
    output_artifact_key: str


class DagOutputArtifact(Document, frozen=True, kw_only=True):
    """Where an output artifact of a dag comes from; two or more selectors are branches of which one ran."""

    artifact_selectors: list[ArtifactSelector] = []


class DagOutputs(Document, frozen=True, kw_only=True):
    """All outputs of a dag."""

    parameters: dict[str, DagOutputParameter] = {}
    artifacts: dict[str, DagOutputArtifact] = {}


class DagSpec(Document, frozen=True, kw_only=True):
    """A graph of tasks."""

    tasks: dict[str, TaskSpec] = {}
    outputs: DagOutputs = DagOutputs()


class TaskConfigPassthrough(Document, frozen=True, kw_only=True):
    """A setting of a task that its component is told as a value; ``apply_to_task``: and that the task itself gets."""

    field: str
    apply_to_task: bool = False


class ComponentSpec(Document, frozen=True, kw_only=True):
    """An interface, and a dag or an executor behind it."""

    input_definitions: Definitions = Definitions()
    output_definitions: Definitions = Definitions()
    dag: DagSpec | None = None
    executor_label: str = ""
    task_config_passthroughs: list[TaskConfigPassthrough] = []


class EnvironmentVariable(Document, frozen=True, kw_only=True):
    """One variable of a container's environment."""

    name: str
    value: str = ""


class ContainerSpec(Document, frozen=True, kw_only=True):
    """An image and the command in it."""

    image: str = ""
    command: list[str] = []
    args: list[str] = []
    env: list[EnvironmentVariable] = []
    resources: dict[str, Any] = {}


class ImporterSpec(Document, frozen=True, kw_only=True):
    """An artifact that exists already, taken into the pipeline."""

    artifact_uri: RuntimeValue = RuntimeValue()
    type_schema: ArtifactType = ArtifactType()
    metadata: dict[str, Any] = {}
    reimport: bool = False
    download_to_workspace: bool = False


class ExecutorSpec(Document, frozen=True, kw_only=True):
    """What runs a component."""

    container: ContainerSpec | None = None
    importer: ImporterSpec | None = None
    resolver: dict[str, Any] | None = None
    custom_job: dict[str, Any] | None = None


class DeploymentSpec(Document, frozen=True, kw_only=True):
    """All executors, by label."""

    executors: dict[str, ExecutorSpec] = {}


class PipelineInfo(Document, frozen=True, kw_only=True):
    """The name of the pipeline."""

    name: str


class PipelineSpec(Document, frozen=True, kw_only=True):
    """A whole compiled pipeline."""

    pipeline_info: PipelineInfo
    root: ComponentSpec
    components: dict[str, ComponentSpec] = {}
    deployment_spec: DeploymentSpec = DeploymentSpec()
    schema_version: str = ""
    sdk_version: str = ""
    default_pipeline_root: str = ""
    platforms: dict[str, Any] = {}
    """What the second document says, by platform."""


def read_pipeline(data: bytes) -> PipelineSpec:
    """Read a compiled pipeline; raise `InvalidInput` that names the field that is wrong."""
    try:
        return _read(read_documents(data))
    except RecursionError as error:
        raise InvalidInput("The compiled pipeline is nested too deeply.", hint="Compile it with kfp.") from error


def _read(documents: list[Any]) -> PipelineSpec:
    second: dict[str, Any] = next((document for document in documents if _is_platform(document)), {})
    pipelines = [document for document in documents if not _is_platform(document)]
    if not pipelines or not isinstance(pipelines[0], dict):
        raise InvalidInput("This is not a compiled pipeline.", hint="Compile it with kfp, or name the .py file.")
    if len(pipelines) > 1:
        raise InvalidInput(
            f"There are {len(pipelines)} pipelines in one file.",
            hint="Write each to a file; a platform document may follow.",
        )
    job = pipelines[0] if "pipelineSpec" in pipelines[0] else {"pipelineSpec": pipelines[0]}
    if not isinstance(job["pipelineSpec"], dict):
        raise InvalidInput("The compiled pipeline is malformed: pipelineSpec is no mapping.", hint="Compile it again.")
    try:
        document = {**normalise_numbers(job["pipelineSpec"]), "platforms": second.get("platforms") or {}}
        spec = msgspec.convert(document, PipelineSpec)
        return _with_arguments(spec, normalise_numbers(job.get("runtimeConfig") or {}))
    except (msgspec.ValidationError, AttributeError, TypeError, ValueError) as error:
        raise InvalidInput(
            f"The compiled pipeline is malformed: {error}.", hint="Compile it again, or mend the field that is named."
        ) from error


def _is_platform(document: Json) -> bool:
    return isinstance(document, dict) and "platforms" in document and "pipelineInfo" not in document


def constant_of(value: RuntimeValue) -> Json:
    """Return the constant of a runtime value in either form; `msgspec.UNSET` when there is none."""
    return _old_constant(value.constant_value) if value.constant_value else value.constant


def _old_constant(value: dict[str, Any]) -> Json:
    """Read the form before schema version 2.1, in which 64-bit integers are text."""
    kind, content = next(iter(value.items()))
    return int(content) if kind == "intValue" else content


def _with_arguments(spec: PipelineSpec, runtime: dict[str, Any]) -> PipelineSpec:
    """Make the arguments of a PipelineJob the defaults of its pipeline."""
    given = {name: _old_constant(value) for name, value in (runtime.get("parameters") or {}).items()}
    given |= runtime.get("parameterValues") or {}
    if not given:
        return spec
    inputs = spec.root.input_definitions
    parameters = {
        name: msgspec.structs.replace(found, default_value=given[name]) if name in given else found
        for name, found in inputs.parameters.items()
    }
    definitions = msgspec.structs.replace(inputs, parameters=parameters)
    return msgspec.structs.replace(spec, root=msgspec.structs.replace(spec.root, input_definitions=definitions))


def normalise_numbers(value: Json) -> Json:
    """Turn doubles with an integral value into ints, at every depth."""
    if isinstance(value, dict):
        return {key: normalise_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [normalise_numbers(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST_EXACT:
        return int(value)
    return value
