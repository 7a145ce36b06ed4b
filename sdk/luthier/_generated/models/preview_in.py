from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from attrs import define as _attrs_define

from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.full_update import FullUpdate
    from ..models.head_update import HeadUpdate
    from ..models.hyperparameters import Hyperparameters
    from ..models.layers_update import LayersUpdate
    from ..models.lora_update import LoraUpdate
    from ..models.method_in import MethodIn
    from ..models.mlflow_integration import MlflowIntegration
    from ..models.preview_in_columns_type_0 import PreviewInColumnsType0
    from ..models.preview_in_metadata_type_0 import PreviewInMetadataType0
    from ..models.wandb_integration import WandbIntegration


T = TypeVar("T", bound="PreviewIn")


@_attrs_define
class PreviewIn:
    """The body of a job, and the number of rows to show.

    Attributes:
        model (None | str): Id or alias of a base model, or a fine-tuned model or checkpoint to continue from. Optional
            with ``from_checkpoint``.
        training_file (str): A file with purpose ``fine-tune``.
        from_checkpoint (None | str | Unset): ``{job id or model}[:step]`` to continue from: the checkpoint of that
            step, or the finished
            model, or the newest checkpoint of an unfinished job.
        validation_file (None | str | Unset):
        general_file (None | str | Unset): Rows of the same format on which the base model performs well. A share of
            them is mixed into
            the training rows, and the change of the loss on others is reported, which shows forgetting.
        hyperparameters (Hyperparameters | None | Unset): OpenAI's older field for
            ``method.supervised.hyperparameters``, still supported.
        method (MethodIn | None | Unset):
        suffix (None | str | Unset): Part of the model's name. Characters except letters, digits, '.', '_' and '-'
            become '-'.
        integrations (list[MlflowIntegration | WandbIntegration] | None | Unset): Other services that receive the job's
            metrics. The operator must have configured them.
        checkpoint_ttl_seconds (int | None | Unset): Lifetime of each checkpoint; by default unlimited. The finished
            model does not expire.
        seed (int | None | Unset): Equal seeds, data and machines give equal models. By default random, and shown in the
            job.
        metadata (None | PreviewInMetadataType0 | Unset):
        auto_start (bool | Unset): False: after validation, the job waits in the state ``validated`` for ``POST
            …/start``. Default: True.
        task (None | str | Unset): Task to train; by default the base model's first task.
        update (FullUpdate | HeadUpdate | LayersUpdate | LoraUpdate | None | Unset): Parameters to train; by default
            chosen from the task and the size of the base model.
        columns (None | PreviewInColumnsType0 | Unset): Field of the task's rows -> column or key in the file.
        rows (int | Unset):  Default: 3.
    """

    model: None | str
    training_file: str
    from_checkpoint: None | str | Unset = UNSET
    validation_file: None | str | Unset = UNSET
    general_file: None | str | Unset = UNSET
    hyperparameters: Hyperparameters | None | Unset = UNSET
    method: MethodIn | None | Unset = UNSET
    suffix: None | str | Unset = UNSET
    integrations: list[MlflowIntegration | WandbIntegration] | None | Unset = UNSET
    checkpoint_ttl_seconds: int | None | Unset = UNSET
    seed: int | None | Unset = UNSET
    metadata: None | PreviewInMetadataType0 | Unset = UNSET
    auto_start: bool | Unset = True
    task: None | str | Unset = UNSET
    update: FullUpdate | HeadUpdate | LayersUpdate | LoraUpdate | None | Unset = UNSET
    columns: None | PreviewInColumnsType0 | Unset = UNSET
    rows: int | Unset = 3

    def to_dict(self) -> dict[str, Any]:
        from ..models.full_update import FullUpdate  # noqa: PLC0415
        from ..models.head_update import HeadUpdate  # noqa: PLC0415
        from ..models.hyperparameters import Hyperparameters  # noqa: PLC0415
        from ..models.layers_update import LayersUpdate  # noqa: PLC0415
        from ..models.lora_update import LoraUpdate  # noqa: PLC0415
        from ..models.method_in import MethodIn  # noqa: PLC0415
        from ..models.preview_in_columns_type_0 import PreviewInColumnsType0  # noqa: PLC0415
        from ..models.preview_in_metadata_type_0 import PreviewInMetadataType0  # noqa: PLC0415
        from ..models.wandb_integration import WandbIntegration  # noqa: PLC0415

        model: None | str
        model = self.model

        training_file = self.training_file

        from_checkpoint: None | str | Unset
        if isinstance(self.from_checkpoint, Unset):
            from_checkpoint = UNSET
        else:
            from_checkpoint = self.from_checkpoint

        validation_file: None | str | Unset
        if isinstance(self.validation_file, Unset):
            validation_file = UNSET
        else:
            validation_file = self.validation_file

        general_file: None | str | Unset
        if isinstance(self.general_file, Unset):
            general_file = UNSET
        else:
            general_file = self.general_file

        hyperparameters: dict[str, Any] | None | Unset
        if isinstance(self.hyperparameters, Unset):
            hyperparameters = UNSET
        elif isinstance(self.hyperparameters, Hyperparameters):
            hyperparameters = self.hyperparameters.to_dict()
        else:
            hyperparameters = self.hyperparameters

        method: dict[str, Any] | None | Unset
        if isinstance(self.method, Unset):
            method = UNSET
        elif isinstance(self.method, MethodIn):
            method = self.method.to_dict()
        else:
            method = self.method

        suffix: None | str | Unset
        if isinstance(self.suffix, Unset):
            suffix = UNSET
        else:
            suffix = self.suffix

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

        checkpoint_ttl_seconds: int | None | Unset
        if isinstance(self.checkpoint_ttl_seconds, Unset):
            checkpoint_ttl_seconds = UNSET
        else:
            checkpoint_ttl_seconds = self.checkpoint_ttl_seconds

        seed: int | None | Unset
        if isinstance(self.seed, Unset):
            seed = UNSET
        else:
            seed = self.seed

        metadata: dict[str, Any] | None | Unset
        if isinstance(self.metadata, Unset):
            metadata = UNSET
        elif isinstance(self.metadata, PreviewInMetadataType0):
            metadata = self.metadata.to_dict()
        else:
            metadata = self.metadata

        auto_start = self.auto_start

        task: None | str | Unset
        if isinstance(self.task, Unset):
            task = UNSET
        else:
            task = self.task

        update: dict[str, Any] | None | Unset
        if isinstance(self.update, Unset):
            update = UNSET
        elif isinstance(self.update, LoraUpdate):
            update = self.update.to_dict()
        elif isinstance(self.update, FullUpdate):
            update = self.update.to_dict()
        elif isinstance(self.update, HeadUpdate):
            update = self.update.to_dict()
        elif isinstance(self.update, LayersUpdate):
            update = self.update.to_dict()
        else:
            update = self.update

        columns: dict[str, Any] | None | Unset
        if isinstance(self.columns, Unset):
            columns = UNSET
        elif isinstance(self.columns, PreviewInColumnsType0):
            columns = self.columns.to_dict()
        else:
            columns = self.columns

        rows = self.rows

        field_dict: dict[str, Any] = {}

        field_dict.update(
            {
                "model": model,
                "training_file": training_file,
            }
        )
        if from_checkpoint is not UNSET:
            field_dict["from_checkpoint"] = from_checkpoint
        if validation_file is not UNSET:
            field_dict["validation_file"] = validation_file
        if general_file is not UNSET:
            field_dict["general_file"] = general_file
        if hyperparameters is not UNSET:
            field_dict["hyperparameters"] = hyperparameters
        if method is not UNSET:
            field_dict["method"] = method
        if suffix is not UNSET:
            field_dict["suffix"] = suffix
        if integrations is not UNSET:
            field_dict["integrations"] = integrations
        if checkpoint_ttl_seconds is not UNSET:
            field_dict["checkpoint_ttl_seconds"] = checkpoint_ttl_seconds
        if seed is not UNSET:
            field_dict["seed"] = seed
        if metadata is not UNSET:
            field_dict["metadata"] = metadata
        if auto_start is not UNSET:
            field_dict["auto_start"] = auto_start
        if task is not UNSET:
            field_dict["task"] = task
        if update is not UNSET:
            field_dict["update"] = update
        if columns is not UNSET:
            field_dict["columns"] = columns
        if rows is not UNSET:
            field_dict["rows"] = rows

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.full_update import FullUpdate  # noqa: PLC0415
        from ..models.head_update import HeadUpdate  # noqa: PLC0415
        from ..models.hyperparameters import Hyperparameters  # noqa: PLC0415
        from ..models.layers_update import LayersUpdate  # noqa: PLC0415
        from ..models.lora_update import LoraUpdate  # noqa: PLC0415
        from ..models.method_in import MethodIn  # noqa: PLC0415
        from ..models.mlflow_integration import MlflowIntegration  # noqa: PLC0415
        from ..models.preview_in_columns_type_0 import PreviewInColumnsType0  # noqa: PLC0415
        from ..models.preview_in_metadata_type_0 import PreviewInMetadataType0  # noqa: PLC0415
        from ..models.wandb_integration import WandbIntegration  # noqa: PLC0415

        d = dict(src_dict)

        def _parse_model(data: object) -> None | str:
            if data is None:
                return data
            return cast(None | str, data)

        model = _parse_model(d.pop("model"))

        training_file = d.pop("training_file")

        def _parse_from_checkpoint(data: object) -> None | str | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(None | str | Unset, data)

        from_checkpoint = _parse_from_checkpoint(d.pop("from_checkpoint", UNSET))

        def _parse_validation_file(data: object) -> None | str | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(None | str | Unset, data)

        validation_file = _parse_validation_file(d.pop("validation_file", UNSET))

        def _parse_general_file(data: object) -> None | str | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(None | str | Unset, data)

        general_file = _parse_general_file(d.pop("general_file", UNSET))

        def _parse_hyperparameters(data: object) -> Hyperparameters | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                hyperparameters_type_0 = Hyperparameters.from_dict(data)

                return hyperparameters_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(Hyperparameters | None | Unset, data)

        hyperparameters = _parse_hyperparameters(d.pop("hyperparameters", UNSET))

        def _parse_method(data: object) -> MethodIn | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                method_type_0 = MethodIn.from_dict(data)

                return method_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(MethodIn | None | Unset, data)

        method = _parse_method(d.pop("method", UNSET))

        def _parse_suffix(data: object) -> None | str | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(None | str | Unset, data)

        suffix = _parse_suffix(d.pop("suffix", UNSET))

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

        def _parse_checkpoint_ttl_seconds(data: object) -> int | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(int | None | Unset, data)

        checkpoint_ttl_seconds = _parse_checkpoint_ttl_seconds(d.pop("checkpoint_ttl_seconds", UNSET))

        def _parse_seed(data: object) -> int | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(int | None | Unset, data)

        seed = _parse_seed(d.pop("seed", UNSET))

        def _parse_metadata(data: object) -> None | PreviewInMetadataType0 | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                metadata_type_0 = PreviewInMetadataType0.from_dict(data)

                return metadata_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(None | PreviewInMetadataType0 | Unset, data)

        metadata = _parse_metadata(d.pop("metadata", UNSET))

        auto_start = d.pop("auto_start", UNSET)

        def _parse_task(data: object) -> None | str | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            return cast(None | str | Unset, data)

        task = _parse_task(d.pop("task", UNSET))

        def _parse_update(data: object) -> FullUpdate | HeadUpdate | LayersUpdate | LoraUpdate | None | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                update_type_0_type_0 = LoraUpdate.from_dict(data)

                return update_type_0_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                update_type_0_type_1 = FullUpdate.from_dict(data)

                return update_type_0_type_1
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                update_type_0_type_2 = HeadUpdate.from_dict(data)

                return update_type_0_type_2
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                update_type_0_type_3 = LayersUpdate.from_dict(data)

                return update_type_0_type_3
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(FullUpdate | HeadUpdate | LayersUpdate | LoraUpdate | None | Unset, data)

        update = _parse_update(d.pop("update", UNSET))

        def _parse_columns(data: object) -> None | PreviewInColumnsType0 | Unset:
            if data is None:
                return data
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, dict):
                    raise TypeError()
                columns_type_0 = PreviewInColumnsType0.from_dict(data)

                return columns_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(None | PreviewInColumnsType0 | Unset, data)

        columns = _parse_columns(d.pop("columns", UNSET))

        rows = d.pop("rows", UNSET)

        preview_in = cls(
            model=model,
            training_file=training_file,
            from_checkpoint=from_checkpoint,
            validation_file=validation_file,
            general_file=general_file,
            hyperparameters=hyperparameters,
            method=method,
            suffix=suffix,
            integrations=integrations,
            checkpoint_ttl_seconds=checkpoint_ttl_seconds,
            seed=seed,
            metadata=metadata,
            auto_start=auto_start,
            task=task,
            update=update,
            columns=columns,
            rows=rows,
        )

        return preview_in
