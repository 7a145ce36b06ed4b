from __future__ import annotations

from collections.abc import Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    TypeVar,
    cast,
)

from attrs import define as _attrs_define
from attrs import field as _attrs_field

from ..models.job_out_phase_type_0 import JobOutPhaseType0, check_job_out_phase_type_0
from ..models.job_out_status import JobOutStatus, check_job_out_status
from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.hyperparameters_out import HyperparametersOut
    from ..models.job_error_out import JobErrorOut
    from ..models.job_out_columns import JobOutColumns
    from ..models.job_out_final_metrics_type_0 import JobOutFinalMetricsType0
    from ..models.job_out_metadata_type_0 import JobOutMetadataType0
    from ..models.job_out_resume_proof_type_0 import JobOutResumeProofType0
    from ..models.job_out_update import JobOutUpdate
    from ..models.method_out import MethodOut
    from ..models.mlflow_integration import MlflowIntegration
    from ..models.progress_out import ProgressOut
    from ..models.wandb_integration import WandbIntegration


T = TypeVar("T", bound="JobOut")


@_attrs_define
class JobOut:
    """A fine-tuning job.

    Attributes:
        id (str):
        created_at (int):
        finished_at (int | None):
        estimated_finish (int | None): For running jobs, and for queued ones retrieved by id if the jobs ahead can be
            estimated.
        estimated_start (int | None): For queued jobs, under the same conditions as ``estimated_finish``.
        queue_position (int | None): For queued jobs retrieved by id; 1 is next. Null in lists, because it needs the
            entire
            queue.
        auto_start (bool):
        model (str): Starting point of the training: a base model, or the fine-tuned model that it continues.
        base_model (str):
        fine_tuned_model (None | str):
        organization_id (str):
        status (JobOutStatus):
        error (JobErrorOut | None):
        hyperparameters (HyperparametersOut): OpenAI's three hyperparameters: as requested, or as used once the files
            are validated.
        method (MethodOut):
        training_file (str):
        validation_file (None | str):
        general_file (None | str):
        result_files (list[str]):
        trained_tokens (int | None):
        seed (int):
        metadata (JobOutMetadataType0 | None):
        user_provided_suffix (None | str):
        state (str): Like ``status``, and also ``validated``, ``paused``, ``pausing`` and ``cancelling``.
        task (str):
        update (JobOutUpdate):
        columns (JobOutColumns):
        phase (JobOutPhaseType0 | None): Activity of a running job; null for others. ``encoding``: tokenize the rows.
            ``reference``:
            compute the log-probabilities of the untrained model. ``features``: compute the outputs of the
            frozen blocks.
        progress (None | ProgressOut):
        attempt (int): Number of times a worker has claimed the job; more than 1 after a worker was lost.
        trainable_parameters (int | None):
        final_metrics (JobOutFinalMetricsType0 | None):
        resume_proof (JobOutResumeProofType0 | None): Hashes of the parameters, the random state and the last batch at
            the end. They are equal for
            a resumed and an uninterrupted run.
        checkpoint_ttl_seconds (int | None):
        servable_by (list[str]): Engines that can serve the result; known from the start.
        object_ (Literal['fine_tuning.job'] | Unset):  Default: 'fine_tuning.job'.
        integrations (list[MlflowIntegration | WandbIntegration] | None | Unset):
    """

    id: str
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
    estimated_start: int | None
    queue_position: int | None
    auto_start: bool
    model: str
    base_model: str
    fine_tuned_model: None | str
    organization_id: str
    status: JobOutStatus
    error: JobErrorOut | None
    hyperparameters: HyperparametersOut
    method: MethodOut
    training_file: str
    validation_file: None | str
    general_file: None | str
    result_files: list[str]
    trained_tokens: int | None
    seed: int
    metadata: JobOutMetadataType0 | None
    user_provided_suffix: None | str
    state: str
    task: str
    update: JobOutUpdate
    columns: JobOutColumns
    phase: JobOutPhaseType0 | None
    progress: None | ProgressOut
    attempt: int
    trainable_parameters: int | None
    final_metrics: JobOutFinalMetricsType0 | None
    resume_proof: JobOutResumeProofType0 | None
    checkpoint_ttl_seconds: int | None
    servable_by: list[str]
    object_: Literal["fine_tuning.job"] | Unset = "fine_tuning.job"
    integrations: list[MlflowIntegration | WandbIntegration] | None | Unset = UNSET
    additional_properties: dict[str, Any] = _attrs_field(init=False, factory=dict)

    def to_dict(self) -> dict[str, Any]:
        from ..models.job_error_out import JobErrorOut  # noqa: PLC0415
        from ..models.job_out_final_metrics_type_0 import JobOutFinalMetricsType0  # noqa: PLC0415
        from ..models.job_out_metadata_type_0 import JobOutMetadataType0  # noqa: PLC0415
        from ..models.job_out_resume_proof_type_0 import JobOutResumeProofType0  # noqa: PLC0415
        from ..models.progress_out import ProgressOut  # noqa: PLC0415
        from ..models.wandb_integration import WandbIntegration  # noqa: PLC0415

        id = self.id

        created_at = self.created_at

        finished_at: int | None
        finished_at = self.finished_at

        estimated_finish: int | None
        estimated_finish = self.estimated_finish

        estimated_start: int | None
        estimated_start = self.estimated_start

        queue_position: int | None
        queue_position = self.queue_position

        auto_start = self.auto_start

        model = self.model

        base_model = self.base_model

        fine_tuned_model: None | str
        fine_tuned_model = self.fine_tuned_model

        organization_id = self.organization_id

        status: str = self.status

        error: dict[str, Any] | None
        if isinstance(self.error, JobErrorOut):
            error = self.error.to_dict()
        else:
            error = self.error

        hyperparameters = self.hyperparameters.to_dict()

        method = self.method.to_dict()

        training_file = self.training_file

        validation_file: None | str
        validation_file = self.validation_file

        general_file: None | str
        general_file = self.general_file

        result_files = self.result_files

        trained_tokens: int | None
        trained_tokens = self.trained_tokens

        seed = self.seed

        metadata: dict[str, Any] | None
        if isinstance(self.metadata, JobOutMetadataType0):
            metadata = self.metadata.to_dict()
        else:
            metadata = self.metadata

        user_provided_suffix: None | str
        user_provided_suffix = self.user_provided_suffix

        state = self.state

        task = self.task

        update = self.update.to_dict()

        columns = self.columns.to_dict()

        phase: None | str
        if isinstance(self.phase, str):
            phase = self.phase
        else:
            phase = self.phase

        progress: dict[str, Any] | None
        if isinstance(self.progress, ProgressOut):
            progress = self.progress.to_dict()
        else:
            progress = self.progress

        attempt = self.attempt

        trainable_parameters: int | None
        trainable_parameters = self.trainable_parameters

        final_metrics: dict[str, Any] | None
        if isinstance(self.final_metrics, JobOutFinalMetricsType0):
            final_metrics = self.final_metrics.to_dict()
        else:
            final_metrics = self.final_metrics

        resume_proof: dict[str, Any] | None
        if isinstance(self.resume_proof, JobOutResumeProofType0):
            resume_proof = self.resume_proof.to_dict()
        else:
            resume_proof = self.resume_proof

        checkpoint_ttl_seconds: int | None
        checkpoint_ttl_seconds = self.checkpoint_ttl_seconds

        servable_by = self.servable_by

        object_ = self.object_

        integrations: list[dict[str, Any]] | None | Unset
        if isinstance(self.integrations, Unset):
            integrations = UNSET
        elif isinstance(self.integrations, list):
            integrations = []
            for integrations_type_0_item_data in self.integrations:
                integrations_type_0_item: dict[str, Any]
                if isinstance(integrations_type_0_item_data, WandbIntegration):
                    integrations_type_0_item = integrations_type_0_item_data.to_dict()
                else:
                    integrations_type_0_item = integrations_type_0_item_data.to_dict()

                integrations.append(integrations_type_0_item)

        else:
            integrations = self.integrations

        field_dict: dict[str, Any] = {}
        field_dict.update(self.additional_properties)
        field_dict.update(
            {
                "id": id,
                "created_at": created_at,
                "finished_at": finished_at,
                "estimated_finish": estimated_finish,
                "estimated_start": estimated_start,
                "queue_position": queue_position,
                "auto_start": auto_start,
                "model": model,
                "base_model": base_model,
                "fine_tuned_model": fine_tuned_model,
                "organization_id": organization_id,
                "status": status,
                "error": error,
                "hyperparameters": hyperparameters,
                "method": method,
                "training_file": training_file,
                "validation_file": validation_file,
                "general_file": general_file,
                "result_files": result_files,
                "trained_tokens": trained_tokens,
                "seed": seed,
                "metadata": metadata,
                "user_provided_suffix": user_provided_suffix,
                "state": state,
                "task": task,
                "update": update,
                "columns": columns,
                "phase": phase,
                "progress": progress,
                "attempt": attempt,
                "trainable_parameters": trainable_parameters,
                "final_metrics": final_metrics,
                "resume_proof": resume_proof,
                "checkpoint_ttl_seconds": checkpoint_ttl_seconds,
                "servable_by": servable_by,
            }
        )
        if object_ is not UNSET:
            field_dict["object"] = object_
        if integrations is not UNSET:
            field_dict["integrations"] = integrations

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.hyperparameters_out import HyperparametersOut  # noqa: PLC0415
        from ..models.job_error_out import JobErrorOut  # noqa: PLC0415
        from ..models.job_out_columns import JobOutColumns  # noqa: PLC0415
        from ..models.job_out_final_metrics_type_0 import JobOutFinalMetricsType0  # noqa: PLC0415
        from ..models.job_out_metadata_type_0 import JobOutMetadataType0  # noqa: PLC0415
        from ..models.job_out_resume_proof_type_0 import JobOutResumeProofType0  # noqa: PLC0415
        from ..models.job_out_update import JobOutUpdate  # noqa: PLC0415
        from ..models.method_out import MethodOut  # noqa: PLC0415
        from ..models.mlflow_integration import MlflowIntegration  # noqa: PLC0415
        from ..models.progress_out import ProgressOut  # noqa: PLC0415
        from ..models.wandb_integration import WandbIntegration  # noqa: PLC0415

        d = dict(src_dict)
        id = d.pop("id")

        created_at = d.pop("created_at")

        def _parse_finished_at(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        finished_at = _parse_finished_at(d.pop("finished_at"))

        def _parse_estimated_finish(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        estimated_finish = _parse_estimated_finish(d.pop("estimated_finish"))

        def _parse_estimated_start(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        estimated_start = _parse_estimated_start(d.pop("estimated_start"))

        def _parse_queue_position(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        queue_position = _parse_queue_position(d.pop("queue_position"))

        auto_start = d.pop("auto_start")

        model = d.pop("model")

        base_model = d.pop("base_model")

        def _parse_fine_tuned_model(data: object) -> None | str:
            if data is None:
                return data
            return cast(None | str, data)

        fine_tuned_model = _parse_fine_tuned_model(d.pop("fine_tuned_model"))

        organization_id = d.pop("organization_id")

        status = check_job_out_status(d.pop("status"))

        def _parse_error(data: object) -> JobErrorOut | None:
            if data is None:
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                error_type_0 = JobErrorOut.from_dict(data)

                return error_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(JobErrorOut | None, data)

        error = _parse_error(d.pop("error"))

        hyperparameters = HyperparametersOut.from_dict(d.pop("hyperparameters"))

        method = MethodOut.from_dict(d.pop("method"))

        training_file = d.pop("training_file")

        def _parse_validation_file(data: object) -> None | str:
            if data is None:
                return data
            return cast(None | str, data)

        validation_file = _parse_validation_file(d.pop("validation_file"))

        def _parse_general_file(data: object) -> None | str:
            if data is None:
                return data
            return cast(None | str, data)

        general_file = _parse_general_file(d.pop("general_file"))

        result_files = cast(list[str], d.pop("result_files"))

        def _parse_trained_tokens(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        trained_tokens = _parse_trained_tokens(d.pop("trained_tokens"))

        seed = d.pop("seed")

        def _parse_metadata(data: object) -> JobOutMetadataType0 | None:
            if data is None:
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                metadata_type_0 = JobOutMetadataType0.from_dict(data)

                return metadata_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(JobOutMetadataType0 | None, data)

        metadata = _parse_metadata(d.pop("metadata"))

        def _parse_user_provided_suffix(data: object) -> None | str:
            if data is None:
                return data
            return cast(None | str, data)

        user_provided_suffix = _parse_user_provided_suffix(d.pop("user_provided_suffix"))

        state = d.pop("state")

        task = d.pop("task")

        update = JobOutUpdate.from_dict(d.pop("update"))

        columns = JobOutColumns.from_dict(d.pop("columns"))

        def _parse_phase(data: object) -> JobOutPhaseType0 | None:
            if data is None:
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                phase_type_0 = check_job_out_phase_type_0(data)

                return phase_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(JobOutPhaseType0 | None, data)

        phase = _parse_phase(d.pop("phase"))

        def _parse_progress(data: object) -> None | ProgressOut:
            if data is None:
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                progress_type_0 = ProgressOut.from_dict(data)

                return progress_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(None | ProgressOut, data)

        progress = _parse_progress(d.pop("progress"))

        attempt = d.pop("attempt")

        def _parse_trainable_parameters(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        trainable_parameters = _parse_trainable_parameters(d.pop("trainable_parameters"))

        def _parse_final_metrics(data: object) -> JobOutFinalMetricsType0 | None:
            if data is None:
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                final_metrics_type_0 = JobOutFinalMetricsType0.from_dict(data)

                return final_metrics_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(JobOutFinalMetricsType0 | None, data)

        final_metrics = _parse_final_metrics(d.pop("final_metrics"))

        def _parse_resume_proof(data: object) -> JobOutResumeProofType0 | None:
            if data is None:
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                resume_proof_type_0 = JobOutResumeProofType0.from_dict(data)

                return resume_proof_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(JobOutResumeProofType0 | None, data)

        resume_proof = _parse_resume_proof(d.pop("resume_proof"))

        def _parse_checkpoint_ttl_seconds(data: object) -> int | None:
            if data is None:
                return data
            return cast(int | None, data)

        checkpoint_ttl_seconds = _parse_checkpoint_ttl_seconds(d.pop("checkpoint_ttl_seconds"))

        servable_by = cast(list[str], d.pop("servable_by"))

        object_ = cast(Literal["fine_tuning.job"] | Unset, d.pop("object", UNSET))
        if object_ != "fine_tuning.job" and not isinstance(object_, Unset):
            raise ValueError(f"object must match const 'fine_tuning.job', got '{object_}'")

        def _parse_integrations(data: object) -> list[MlflowIntegration | WandbIntegration] | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, list):
                    raise TypeError()
                integrations_type_0 = []
                _integrations_type_0 = data
                for integrations_type_0_item_data in _integrations_type_0:

                    def _parse_integrations_type_0_item(data: object) -> MlflowIntegration | WandbIntegration:
                        try:
                            if not isinstance(data, dict):
                                raise TypeError()
                            integrations_type_0_item_type_0 = WandbIntegration.from_dict(data)

                            return integrations_type_0_item_type_0
                        except (TypeError, ValueError, AttributeError, KeyError):
                            pass
                        if not isinstance(data, dict):
                            raise TypeError()
                        integrations_type_0_item_type_1 = MlflowIntegration.from_dict(data)

                        return integrations_type_0_item_type_1

                    integrations_type_0_item = _parse_integrations_type_0_item(integrations_type_0_item_data)

                    integrations_type_0.append(integrations_type_0_item)

                return integrations_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(list[MlflowIntegration | WandbIntegration] | None | Unset, data)

        integrations = _parse_integrations(d.pop("integrations", UNSET))

        job_out = cls(
            id=id,
            created_at=created_at,
            finished_at=finished_at,
            estimated_finish=estimated_finish,
            estimated_start=estimated_start,
            queue_position=queue_position,
            auto_start=auto_start,
            model=model,
            base_model=base_model,
            fine_tuned_model=fine_tuned_model,
            organization_id=organization_id,
            status=status,
            error=error,
            hyperparameters=hyperparameters,
            method=method,
            training_file=training_file,
            validation_file=validation_file,
            general_file=general_file,
            result_files=result_files,
            trained_tokens=trained_tokens,
            seed=seed,
            metadata=metadata,
            user_provided_suffix=user_provided_suffix,
            state=state,
            task=task,
            update=update,
            columns=columns,
            phase=phase,
            progress=progress,
            attempt=attempt,
            trainable_parameters=trainable_parameters,
            final_metrics=final_metrics,
            resume_proof=resume_proof,
            checkpoint_ttl_seconds=checkpoint_ttl_seconds,
            servable_by=servable_by,
            object_=object_,
            integrations=integrations,
        )

        job_out.additional_properties = d
        return job_out

    @property
    def additional_keys(self) -> list[str]:
        return list(self.additional_properties.keys())

    def __getitem__(self, key: str) -> Any:
        return self.additional_properties[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.additional_properties[key] = value

    def __delitem__(self, key: str) -> None:
        del self.additional_properties[key]

    def __contains__(self, key: str) -> bool:
        return key in self.additional_properties
