from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from attrs import define as _attrs_define

from ..models.hyperparameters_batch_size_type_0 import (
    HyperparametersBatchSizeType0,
    check_hyperparameters_batch_size_type_0,
)
from ..models.hyperparameters_class_weights_type_0 import (
    HyperparametersClassWeightsType0,
    check_hyperparameters_class_weights_type_0,
)
from ..models.hyperparameters_class_weights_type_1 import (
    HyperparametersClassWeightsType1,
    check_hyperparameters_class_weights_type_1,
)
from ..models.hyperparameters_dtype_type_0 import (
    HyperparametersDtypeType0,
    check_hyperparameters_dtype_type_0,
)
from ..models.hyperparameters_dtype_type_1 import (
    HyperparametersDtypeType1,
    check_hyperparameters_dtype_type_1,
)
from ..models.hyperparameters_early_stopping_patience_type_0 import (
    HyperparametersEarlyStoppingPatienceType0,
    check_hyperparameters_early_stopping_patience_type_0,
)
from ..models.hyperparameters_eval_every_type_0 import (
    HyperparametersEvalEveryType0,
    check_hyperparameters_eval_every_type_0,
)
from ..models.hyperparameters_general_share_type_0 import (
    HyperparametersGeneralShareType0,
    check_hyperparameters_general_share_type_0,
)
from ..models.hyperparameters_gradient_accumulation_steps_type_0 import (
    HyperparametersGradientAccumulationStepsType0,
    check_hyperparameters_gradient_accumulation_steps_type_0,
)
from ..models.hyperparameters_gradient_checkpointing_type_0 import (
    HyperparametersGradientCheckpointingType0,
    check_hyperparameters_gradient_checkpointing_type_0,
)
from ..models.hyperparameters_l2_to_base_type_0 import (
    HyperparametersL2ToBaseType0,
    check_hyperparameters_l2_to_base_type_0,
)
from ..models.hyperparameters_label_smoothing_type_0 import (
    HyperparametersLabelSmoothingType0,
    check_hyperparameters_label_smoothing_type_0,
)
from ..models.hyperparameters_learning_rate_multiplier_type_0 import (
    HyperparametersLearningRateMultiplierType0,
    check_hyperparameters_learning_rate_multiplier_type_0,
)
from ..models.hyperparameters_learning_rate_type_0 import (
    HyperparametersLearningRateType0,
    check_hyperparameters_learning_rate_type_0,
)
from ..models.hyperparameters_lr_scheduler_type_0 import (
    HyperparametersLrSchedulerType0,
    check_hyperparameters_lr_scheduler_type_0,
)
from ..models.hyperparameters_lr_scheduler_type_1 import (
    HyperparametersLrSchedulerType1,
    check_hyperparameters_lr_scheduler_type_1,
)
from ..models.hyperparameters_max_grad_norm_type_0 import (
    HyperparametersMaxGradNormType0,
    check_hyperparameters_max_grad_norm_type_0,
)
from ..models.hyperparameters_max_length_type_0 import (
    HyperparametersMaxLengthType0,
    check_hyperparameters_max_length_type_0,
)
from ..models.hyperparameters_max_seconds_type_0 import (
    HyperparametersMaxSecondsType0,
    check_hyperparameters_max_seconds_type_0,
)
from ..models.hyperparameters_max_steps_type_0 import (
    HyperparametersMaxStepsType0,
    check_hyperparameters_max_steps_type_0,
)
from ..models.hyperparameters_n_epochs_type_0 import (
    HyperparametersNEpochsType0,
    check_hyperparameters_n_epochs_type_0,
)
from ..models.hyperparameters_neftune_alpha_type_0 import (
    HyperparametersNeftuneAlphaType0,
    check_hyperparameters_neftune_alpha_type_0,
)
from ..models.hyperparameters_optimizer_type_0 import (
    HyperparametersOptimizerType0,
    check_hyperparameters_optimizer_type_0,
)
from ..models.hyperparameters_optimizer_type_1 import (
    HyperparametersOptimizerType1,
    check_hyperparameters_optimizer_type_1,
)
from ..models.hyperparameters_save_every_type_0 import (
    HyperparametersSaveEveryType0,
    check_hyperparameters_save_every_type_0,
)
from ..models.hyperparameters_train_on_inputs_type_0 import (
    HyperparametersTrainOnInputsType0,
    check_hyperparameters_train_on_inputs_type_0,
)
from ..models.hyperparameters_train_on_reasoning_type_0 import (
    HyperparametersTrainOnReasoningType0,
    check_hyperparameters_train_on_reasoning_type_0,
)
from ..models.hyperparameters_validation_share_type_0 import (
    HyperparametersValidationShareType0,
    check_hyperparameters_validation_share_type_0,
)
from ..models.hyperparameters_warmup_ratio_type_0 import (
    HyperparametersWarmupRatioType0,
    check_hyperparameters_warmup_ratio_type_0,
)
from ..models.hyperparameters_weight_decay_type_0 import (
    HyperparametersWeightDecayType0,
    check_hyperparameters_weight_decay_type_0,
)
from ..types import UNSET, Unset

if TYPE_CHECKING:
    from ..models.hyperparameters_class_weights_type_2 import (
        HyperparametersClassWeightsType2,
    )


T = TypeVar("T", bound="Hyperparameters")


@_attrs_define
class Hyperparameters:
    """Hyperparameters of a job: OpenAI's three and Luthier's own.

    Attributes:
        n_epochs (HyperparametersNEpochsType0 | int | Unset): Passes over the training file. Default: 'auto'.
        batch_size (HyperparametersBatchSizeType0 | int | Unset): Rows in one optimizer step, gradient accumulation
            included. Default: 'auto'.
        learning_rate_multiplier (float | HyperparametersLearningRateMultiplierType0 | Unset): Factor of the learning
            rate that the ``auto`` rule chooses. Default: 'auto'.
        learning_rate (float | HyperparametersLearningRateType0 | Unset): Absolute peak rate. Excludes
            ``learning_rate_multiplier``. Default: 'auto'.
        lr_scheduler (HyperparametersLrSchedulerType0 | HyperparametersLrSchedulerType1 | Unset):  Default: 'auto'.
        warmup_ratio (float | HyperparametersWarmupRatioType0 | Unset): Share of all steps over which the learning rate
            rises from 0 to its peak. Default: 'auto'.
        weight_decay (float | HyperparametersWeightDecayType0 | Unset): Decoupled; not applied to biases and norms.
            Default: 'auto'.
        max_grad_norm (float | HyperparametersMaxGradNormType0 | Unset): Gradients are scaled down to this global norm.
            Default: 'auto'.
        optimizer (HyperparametersOptimizerType0 | HyperparametersOptimizerType1 | Unset):  Default: 'auto'.
        label_smoothing (float | HyperparametersLabelSmoothingType0 | Unset): Share of each target's weight that is
            distributed over all tokens or labels. Default: 'auto'.
        class_weights (HyperparametersClassWeightsType0 | HyperparametersClassWeightsType1 |
            HyperparametersClassWeightsType2 | Unset): ``balanced`` gives every label the same total weight. A mapping sets
            weights by label; a
            label that is not listed has weight 1. Default: 'auto'.
        neftune_alpha (float | HyperparametersNeftuneAlphaType0 | Unset): Noise on the token embeddings during training
            (NEFTune, arXiv:2310.05914); 0 disables it. Default: 'auto'.
        train_on_inputs (bool | HyperparametersTrainOnInputsType0 | Unset): Train on the input tokens too, not only on
            the outputs. Default: 'auto'.
        train_on_reasoning (bool | HyperparametersTrainOnReasoningType0 | Unset): Train on the reasoning of an
            assistant's answers, and not only on what follows it. With
            ``false`` the model reads the reasoning as context. Default: 'auto'.
        gradient_accumulation_steps (HyperparametersGradientAccumulationStepsType0 | int | Unset): Micro-batches per
            batch, to save memory. The update equals that of the full batch. Default: 'auto'.
        max_length (HyperparametersMaxLengthType0 | int | Unset): Maximum tokens per row; longer rows are truncated,
            those of ``completion`` split. Default: 'auto'.
        max_steps (HyperparametersMaxStepsType0 | int | Unset): Stop after this many optimizer steps; ``auto`` follows
            from the epochs. Default: 'auto'.
        max_seconds (HyperparametersMaxSecondsType0 | int | Unset): Stop after this many seconds of training, at the end
            of a step; ``auto`` is no limit. Default: 'auto'.
        eval_every (HyperparametersEvalEveryType0 | int | Unset): Steps between two evaluations on the validation rows;
            ``auto`` is the end of each epoch. Default: 'auto'.
        save_every (HyperparametersSaveEveryType0 | int | Unset): Steps between two published checkpoints. ``auto`` is
            the end of each epoch, or with more than
            ten epochs, at most ten epoch ends. Default: 'auto'.
        validation_share (float | HyperparametersValidationShareType0 | Unset): Share of the training rows held out for
            validation if there is no validation file. Default: 'auto'.
        early_stopping_patience (HyperparametersEarlyStoppingPatienceType0 | int | Unset): Stop after this many
            evaluations without a lower validation loss and use the weights with the
            lowest loss. 0 never stops early and uses the last weights. Default: 'auto'.
        general_share (float | HyperparametersGeneralShareType0 | Unset): Share of each epoch's rows that come from the
            general file, to prevent forgetting. Default: 'auto'.
        l2_to_base (float | HyperparametersL2ToBaseType0 | Unset): L2 penalty that pulls trained weights toward their
            initial values (L2-SP, arXiv:1802.01483);
            0 disables it. Default: 'auto'.
        dtype (HyperparametersDtypeType0 | HyperparametersDtypeType1 | Unset): Dtype of the matrix products. Trained
            weights stay in float32. Default: 'auto'.
        gradient_checkpointing (bool | HyperparametersGradientCheckpointingType0 | Unset): Recompute the activations of
            each block in the backward pass instead of storing them: less
            memory, a third more time. Default: 'auto'.
    """

    n_epochs: HyperparametersNEpochsType0 | int | Unset = "auto"
    batch_size: HyperparametersBatchSizeType0 | int | Unset = "auto"
    learning_rate_multiplier: float | HyperparametersLearningRateMultiplierType0 | Unset = "auto"
    learning_rate: float | HyperparametersLearningRateType0 | Unset = "auto"
    lr_scheduler: HyperparametersLrSchedulerType0 | HyperparametersLrSchedulerType1 | Unset = "auto"
    warmup_ratio: float | HyperparametersWarmupRatioType0 | Unset = "auto"
    weight_decay: float | HyperparametersWeightDecayType0 | Unset = "auto"
    max_grad_norm: float | HyperparametersMaxGradNormType0 | Unset = "auto"
    optimizer: HyperparametersOptimizerType0 | HyperparametersOptimizerType1 | Unset = "auto"
    label_smoothing: float | HyperparametersLabelSmoothingType0 | Unset = "auto"
    class_weights: (
        HyperparametersClassWeightsType0 | HyperparametersClassWeightsType1 | HyperparametersClassWeightsType2 | Unset
    ) = "auto"
    neftune_alpha: float | HyperparametersNeftuneAlphaType0 | Unset = "auto"
    train_on_inputs: bool | HyperparametersTrainOnInputsType0 | Unset = "auto"
    train_on_reasoning: bool | HyperparametersTrainOnReasoningType0 | Unset = "auto"
    gradient_accumulation_steps: HyperparametersGradientAccumulationStepsType0 | int | Unset = "auto"
    max_length: HyperparametersMaxLengthType0 | int | Unset = "auto"
    max_steps: HyperparametersMaxStepsType0 | int | Unset = "auto"
    max_seconds: HyperparametersMaxSecondsType0 | int | Unset = "auto"
    eval_every: HyperparametersEvalEveryType0 | int | Unset = "auto"
    save_every: HyperparametersSaveEveryType0 | int | Unset = "auto"
    validation_share: float | HyperparametersValidationShareType0 | Unset = "auto"
    early_stopping_patience: HyperparametersEarlyStoppingPatienceType0 | int | Unset = "auto"
    general_share: float | HyperparametersGeneralShareType0 | Unset = "auto"
    l2_to_base: float | HyperparametersL2ToBaseType0 | Unset = "auto"
    dtype: HyperparametersDtypeType0 | HyperparametersDtypeType1 | Unset = "auto"
    gradient_checkpointing: bool | HyperparametersGradientCheckpointingType0 | Unset = "auto"

    def to_dict(self) -> dict[str, Any]:
        n_epochs: int | str | Unset
        if isinstance(self.n_epochs, Unset):
            n_epochs = UNSET
        elif isinstance(self.n_epochs, str):
            n_epochs = self.n_epochs
        else:
            n_epochs = self.n_epochs

        batch_size: int | str | Unset
        if isinstance(self.batch_size, Unset):
            batch_size = UNSET
        elif isinstance(self.batch_size, str):
            batch_size = self.batch_size
        else:
            batch_size = self.batch_size

        learning_rate_multiplier: float | str | Unset
        if isinstance(self.learning_rate_multiplier, Unset):
            learning_rate_multiplier = UNSET
        elif isinstance(self.learning_rate_multiplier, str):
            learning_rate_multiplier = self.learning_rate_multiplier
        else:
            learning_rate_multiplier = self.learning_rate_multiplier

        learning_rate: float | str | Unset
        if isinstance(self.learning_rate, Unset):
            learning_rate = UNSET
        elif isinstance(self.learning_rate, str):
            learning_rate = self.learning_rate
        else:
            learning_rate = self.learning_rate

        lr_scheduler: str | Unset
        if isinstance(self.lr_scheduler, Unset):
            lr_scheduler = UNSET
        elif isinstance(self.lr_scheduler, str):
            lr_scheduler = self.lr_scheduler
        else:
            lr_scheduler = self.lr_scheduler

        warmup_ratio: float | str | Unset
        if isinstance(self.warmup_ratio, Unset):
            warmup_ratio = UNSET
        elif isinstance(self.warmup_ratio, str):
            warmup_ratio = self.warmup_ratio
        else:
            warmup_ratio = self.warmup_ratio

        weight_decay: float | str | Unset
        if isinstance(self.weight_decay, Unset):
            weight_decay = UNSET
        elif isinstance(self.weight_decay, str):
            weight_decay = self.weight_decay
        else:
            weight_decay = self.weight_decay

        max_grad_norm: float | str | Unset
        if isinstance(self.max_grad_norm, Unset):
            max_grad_norm = UNSET
        elif isinstance(self.max_grad_norm, str):
            max_grad_norm = self.max_grad_norm
        else:
            max_grad_norm = self.max_grad_norm

        optimizer: str | Unset
        if isinstance(self.optimizer, Unset):
            optimizer = UNSET
        elif isinstance(self.optimizer, str):
            optimizer = self.optimizer
        else:
            optimizer = self.optimizer

        label_smoothing: float | str | Unset
        if isinstance(self.label_smoothing, Unset):
            label_smoothing = UNSET
        elif isinstance(self.label_smoothing, str):
            label_smoothing = self.label_smoothing
        else:
            label_smoothing = self.label_smoothing

        class_weights: dict[str, Any] | str | Unset
        if isinstance(self.class_weights, Unset):
            class_weights = UNSET
        elif isinstance(self.class_weights, str):
            class_weights = self.class_weights
        elif isinstance(self.class_weights, str):
            class_weights = self.class_weights
        else:
            class_weights = self.class_weights.to_dict()

        neftune_alpha: float | str | Unset
        if isinstance(self.neftune_alpha, Unset):
            neftune_alpha = UNSET
        elif isinstance(self.neftune_alpha, str):
            neftune_alpha = self.neftune_alpha
        else:
            neftune_alpha = self.neftune_alpha

        train_on_inputs: bool | str | Unset
        if isinstance(self.train_on_inputs, Unset):
            train_on_inputs = UNSET
        elif isinstance(self.train_on_inputs, str):
            train_on_inputs = self.train_on_inputs
        else:
            train_on_inputs = self.train_on_inputs

        train_on_reasoning: bool | str | Unset
        if isinstance(self.train_on_reasoning, Unset):
            train_on_reasoning = UNSET
        elif isinstance(self.train_on_reasoning, str):
            train_on_reasoning = self.train_on_reasoning
        else:
            train_on_reasoning = self.train_on_reasoning

        gradient_accumulation_steps: int | str | Unset
        if isinstance(self.gradient_accumulation_steps, Unset):
            gradient_accumulation_steps = UNSET
        elif isinstance(self.gradient_accumulation_steps, str):
            gradient_accumulation_steps = self.gradient_accumulation_steps
        else:
            gradient_accumulation_steps = self.gradient_accumulation_steps

        max_length: int | str | Unset
        if isinstance(self.max_length, Unset):
            max_length = UNSET
        elif isinstance(self.max_length, str):
            max_length = self.max_length
        else:
            max_length = self.max_length

        max_steps: int | str | Unset
        if isinstance(self.max_steps, Unset):
            max_steps = UNSET
        elif isinstance(self.max_steps, str):
            max_steps = self.max_steps
        else:
            max_steps = self.max_steps

        max_seconds: int | str | Unset
        if isinstance(self.max_seconds, Unset):
            max_seconds = UNSET
        elif isinstance(self.max_seconds, str):
            max_seconds = self.max_seconds
        else:
            max_seconds = self.max_seconds

        eval_every: int | str | Unset
        if isinstance(self.eval_every, Unset):
            eval_every = UNSET
        elif isinstance(self.eval_every, str):
            eval_every = self.eval_every
        else:
            eval_every = self.eval_every

        save_every: int | str | Unset
        if isinstance(self.save_every, Unset):
            save_every = UNSET
        elif isinstance(self.save_every, str):
            save_every = self.save_every
        else:
            save_every = self.save_every

        validation_share: float | str | Unset
        if isinstance(self.validation_share, Unset):
            validation_share = UNSET
        elif isinstance(self.validation_share, str):
            validation_share = self.validation_share
        else:
            validation_share = self.validation_share

        early_stopping_patience: int | str | Unset
        if isinstance(self.early_stopping_patience, Unset):
            early_stopping_patience = UNSET
        elif isinstance(self.early_stopping_patience, str):
            early_stopping_patience = self.early_stopping_patience
        else:
            early_stopping_patience = self.early_stopping_patience

        general_share: float | str | Unset
        if isinstance(self.general_share, Unset):
            general_share = UNSET
        elif isinstance(self.general_share, str):
            general_share = self.general_share
        else:
            general_share = self.general_share

        l2_to_base: float | str | Unset
        if isinstance(self.l2_to_base, Unset):
            l2_to_base = UNSET
        elif isinstance(self.l2_to_base, str):
            l2_to_base = self.l2_to_base
        else:
            l2_to_base = self.l2_to_base

        dtype: str | Unset
        if isinstance(self.dtype, Unset):
            dtype = UNSET
        elif isinstance(self.dtype, str):
            dtype = self.dtype
        else:
            dtype = self.dtype

        gradient_checkpointing: bool | str | Unset
        if isinstance(self.gradient_checkpointing, Unset):
            gradient_checkpointing = UNSET
        elif isinstance(self.gradient_checkpointing, str):
            gradient_checkpointing = self.gradient_checkpointing
        else:
            gradient_checkpointing = self.gradient_checkpointing

        field_dict: dict[str, Any] = {}

        field_dict.update({})
        if n_epochs is not UNSET:
            field_dict["n_epochs"] = n_epochs
        if batch_size is not UNSET:
            field_dict["batch_size"] = batch_size
        if learning_rate_multiplier is not UNSET:
            field_dict["learning_rate_multiplier"] = learning_rate_multiplier
        if learning_rate is not UNSET:
            field_dict["learning_rate"] = learning_rate
        if lr_scheduler is not UNSET:
            field_dict["lr_scheduler"] = lr_scheduler
        if warmup_ratio is not UNSET:
            field_dict["warmup_ratio"] = warmup_ratio
        if weight_decay is not UNSET:
            field_dict["weight_decay"] = weight_decay
        if max_grad_norm is not UNSET:
            field_dict["max_grad_norm"] = max_grad_norm
        if optimizer is not UNSET:
            field_dict["optimizer"] = optimizer
        if label_smoothing is not UNSET:
            field_dict["label_smoothing"] = label_smoothing
        if class_weights is not UNSET:
            field_dict["class_weights"] = class_weights
        if neftune_alpha is not UNSET:
            field_dict["neftune_alpha"] = neftune_alpha
        if train_on_inputs is not UNSET:
            field_dict["train_on_inputs"] = train_on_inputs
        if train_on_reasoning is not UNSET:
            field_dict["train_on_reasoning"] = train_on_reasoning
        if gradient_accumulation_steps is not UNSET:
            field_dict["gradient_accumulation_steps"] = gradient_accumulation_steps
        if max_length is not UNSET:
            field_dict["max_length"] = max_length
        if max_steps is not UNSET:
            field_dict["max_steps"] = max_steps
        if max_seconds is not UNSET:
            field_dict["max_seconds"] = max_seconds
        if eval_every is not UNSET:
            field_dict["eval_every"] = eval_every
        if save_every is not UNSET:
            field_dict["save_every"] = save_every
        if validation_share is not UNSET:
            field_dict["validation_share"] = validation_share
        if early_stopping_patience is not UNSET:
            field_dict["early_stopping_patience"] = early_stopping_patience
        if general_share is not UNSET:
            field_dict["general_share"] = general_share
        if l2_to_base is not UNSET:
            field_dict["l2_to_base"] = l2_to_base
        if dtype is not UNSET:
            field_dict["dtype"] = dtype
        if gradient_checkpointing is not UNSET:
            field_dict["gradient_checkpointing"] = gradient_checkpointing

        return field_dict

    @classmethod
    def from_dict(cls: type[T], src_dict: Mapping[str, Any]) -> T:
        from ..models.hyperparameters_class_weights_type_2 import (
            HyperparametersClassWeightsType2,  # noqa: PLC0415
        )

        d = dict(src_dict)

        def _parse_n_epochs(data: object) -> HyperparametersNEpochsType0 | int | Unset:
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                n_epochs_type_0 = check_hyperparameters_n_epochs_type_0(data)

                return n_epochs_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(HyperparametersNEpochsType0 | int | Unset, data)

        n_epochs = _parse_n_epochs(d.pop("n_epochs", UNSET))

        def _parse_batch_size(data: object) -> HyperparametersBatchSizeType0 | int | Unset:
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                batch_size_type_0 = check_hyperparameters_batch_size_type_0(data)

                return batch_size_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(HyperparametersBatchSizeType0 | int | Unset, data)

        batch_size = _parse_batch_size(d.pop("batch_size", UNSET))

        def _parse_learning_rate_multiplier(data: object) -> float | HyperparametersLearningRateMultiplierType0 | Unset:
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                learning_rate_multiplier_type_0 = check_hyperparameters_learning_rate_multiplier_type_0(data)

                return learning_rate_multiplier_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(float | HyperparametersLearningRateMultiplierType0 | Unset, data)

        learning_rate_multiplier = _parse_learning_rate_multiplier(d.pop("learning_rate_multiplier", UNSET))

        def _parse_learning_rate(data: object) -> float | HyperparametersLearningRateType0 | Unset:
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                learning_rate_type_0 = check_hyperparameters_learning_rate_type_0(data)

                return learning_rate_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(float | HyperparametersLearningRateType0 | Unset, data)

        learning_rate = _parse_learning_rate(d.pop("learning_rate", UNSET))

        def _parse_lr_scheduler(
            data: object,
        ) -> HyperparametersLrSchedulerType0 | HyperparametersLrSchedulerType1 | Unset:
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                lr_scheduler_type_0 = check_hyperparameters_lr_scheduler_type_0(data)

                return lr_scheduler_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            if not isinstance(data, str):
                raise TypeError()
            lr_scheduler_type_1 = check_hyperparameters_lr_scheduler_type_1(data)

            return lr_scheduler_type_1

        lr_scheduler = _parse_lr_scheduler(d.pop("lr_scheduler", UNSET))

        def _parse_warmup_ratio(data: object) -> float | HyperparametersWarmupRatioType0 | Unset:
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                warmup_ratio_type_0 = check_hyperparameters_warmup_ratio_type_0(data)

                return warmup_ratio_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(float | HyperparametersWarmupRatioType0 | Unset, data)

        warmup_ratio = _parse_warmup_ratio(d.pop("warmup_ratio", UNSET))

        def _parse_weight_decay(data: object) -> float | HyperparametersWeightDecayType0 | Unset:
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                weight_decay_type_0 = check_hyperparameters_weight_decay_type_0(data)

                return weight_decay_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(float | HyperparametersWeightDecayType0 | Unset, data)

        weight_decay = _parse_weight_decay(d.pop("weight_decay", UNSET))

        def _parse_max_grad_norm(data: object) -> float | HyperparametersMaxGradNormType0 | Unset:
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                max_grad_norm_type_0 = check_hyperparameters_max_grad_norm_type_0(data)

                return max_grad_norm_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(float | HyperparametersMaxGradNormType0 | Unset, data)

        max_grad_norm = _parse_max_grad_norm(d.pop("max_grad_norm", UNSET))

        def _parse_optimizer(data: object) -> HyperparametersOptimizerType0 | HyperparametersOptimizerType1 | Unset:
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                optimizer_type_0 = check_hyperparameters_optimizer_type_0(data)

                return optimizer_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            if not isinstance(data, str):
                raise TypeError()
            optimizer_type_1 = check_hyperparameters_optimizer_type_1(data)

            return optimizer_type_1

        optimizer = _parse_optimizer(d.pop("optimizer", UNSET))

        def _parse_label_smoothing(data: object) -> float | HyperparametersLabelSmoothingType0 | Unset:
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                label_smoothing_type_0 = check_hyperparameters_label_smoothing_type_0(data)

                return label_smoothing_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(float | HyperparametersLabelSmoothingType0 | Unset, data)

        label_smoothing = _parse_label_smoothing(d.pop("label_smoothing", UNSET))

        def _parse_class_weights(
            data: object,
        ) -> (
            HyperparametersClassWeightsType0
            | HyperparametersClassWeightsType1
            | HyperparametersClassWeightsType2
            | Unset
        ):
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                class_weights_type_0 = check_hyperparameters_class_weights_type_0(data)

                return class_weights_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            try:
                if not isinstance(data, str):
                    raise TypeError()
                class_weights_type_1 = check_hyperparameters_class_weights_type_1(data)

                return class_weights_type_1
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            if not isinstance(data, dict):
                raise TypeError()
            class_weights_type_2 = HyperparametersClassWeightsType2.from_dict(data)

            return class_weights_type_2

        class_weights = _parse_class_weights(d.pop("class_weights", UNSET))

        def _parse_neftune_alpha(data: object) -> float | HyperparametersNeftuneAlphaType0 | Unset:
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                neftune_alpha_type_0 = check_hyperparameters_neftune_alpha_type_0(data)

                return neftune_alpha_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(float | HyperparametersNeftuneAlphaType0 | Unset, data)

        neftune_alpha = _parse_neftune_alpha(d.pop("neftune_alpha", UNSET))

        def _parse_train_on_inputs(data: object) -> bool | HyperparametersTrainOnInputsType0 | Unset:
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                train_on_inputs_type_0 = check_hyperparameters_train_on_inputs_type_0(data)

                return train_on_inputs_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(bool | HyperparametersTrainOnInputsType0 | Unset, data)

        train_on_inputs = _parse_train_on_inputs(d.pop("train_on_inputs", UNSET))

        def _parse_train_on_reasoning(data: object) -> bool | HyperparametersTrainOnReasoningType0 | Unset:
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                train_on_reasoning_type_0 = check_hyperparameters_train_on_reasoning_type_0(data)

                return train_on_reasoning_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(bool | HyperparametersTrainOnReasoningType0 | Unset, data)

        train_on_reasoning = _parse_train_on_reasoning(d.pop("train_on_reasoning", UNSET))

        def _parse_gradient_accumulation_steps(
            data: object,
        ) -> HyperparametersGradientAccumulationStepsType0 | int | Unset:
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                gradient_accumulation_steps_type_0 = check_hyperparameters_gradient_accumulation_steps_type_0(data)

                return gradient_accumulation_steps_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(HyperparametersGradientAccumulationStepsType0 | int | Unset, data)

        gradient_accumulation_steps = _parse_gradient_accumulation_steps(d.pop("gradient_accumulation_steps", UNSET))

        def _parse_max_length(data: object) -> HyperparametersMaxLengthType0 | int | Unset:
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                max_length_type_0 = check_hyperparameters_max_length_type_0(data)

                return max_length_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(HyperparametersMaxLengthType0 | int | Unset, data)

        max_length = _parse_max_length(d.pop("max_length", UNSET))

        def _parse_max_steps(data: object) -> HyperparametersMaxStepsType0 | int | Unset:
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                max_steps_type_0 = check_hyperparameters_max_steps_type_0(data)

                return max_steps_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(HyperparametersMaxStepsType0 | int | Unset, data)

        max_steps = _parse_max_steps(d.pop("max_steps", UNSET))

        def _parse_max_seconds(data: object) -> HyperparametersMaxSecondsType0 | int | Unset:
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                max_seconds_type_0 = check_hyperparameters_max_seconds_type_0(data)

                return max_seconds_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(HyperparametersMaxSecondsType0 | int | Unset, data)

        max_seconds = _parse_max_seconds(d.pop("max_seconds", UNSET))

        def _parse_eval_every(data: object) -> HyperparametersEvalEveryType0 | int | Unset:
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                eval_every_type_0 = check_hyperparameters_eval_every_type_0(data)

                return eval_every_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(HyperparametersEvalEveryType0 | int | Unset, data)

        eval_every = _parse_eval_every(d.pop("eval_every", UNSET))

        def _parse_save_every(data: object) -> HyperparametersSaveEveryType0 | int | Unset:
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                save_every_type_0 = check_hyperparameters_save_every_type_0(data)

                return save_every_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(HyperparametersSaveEveryType0 | int | Unset, data)

        save_every = _parse_save_every(d.pop("save_every", UNSET))

        def _parse_validation_share(data: object) -> float | HyperparametersValidationShareType0 | Unset:
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                validation_share_type_0 = check_hyperparameters_validation_share_type_0(data)

                return validation_share_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(float | HyperparametersValidationShareType0 | Unset, data)

        validation_share = _parse_validation_share(d.pop("validation_share", UNSET))

        def _parse_early_stopping_patience(data: object) -> HyperparametersEarlyStoppingPatienceType0 | int | Unset:
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                early_stopping_patience_type_0 = check_hyperparameters_early_stopping_patience_type_0(data)

                return early_stopping_patience_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(HyperparametersEarlyStoppingPatienceType0 | int | Unset, data)

        early_stopping_patience = _parse_early_stopping_patience(d.pop("early_stopping_patience", UNSET))

        def _parse_general_share(data: object) -> float | HyperparametersGeneralShareType0 | Unset:
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                general_share_type_0 = check_hyperparameters_general_share_type_0(data)

                return general_share_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(float | HyperparametersGeneralShareType0 | Unset, data)

        general_share = _parse_general_share(d.pop("general_share", UNSET))

        def _parse_l2_to_base(data: object) -> float | HyperparametersL2ToBaseType0 | Unset:
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                l2_to_base_type_0 = check_hyperparameters_l2_to_base_type_0(data)

                return l2_to_base_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(float | HyperparametersL2ToBaseType0 | Unset, data)

        l2_to_base = _parse_l2_to_base(d.pop("l2_to_base", UNSET))

        def _parse_dtype(data: object) -> HyperparametersDtypeType0 | HyperparametersDtypeType1 | Unset:
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                dtype_type_0 = check_hyperparameters_dtype_type_0(data)

                return dtype_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            if not isinstance(data, str):
                raise TypeError()
            dtype_type_1 = check_hyperparameters_dtype_type_1(data)

            return dtype_type_1

        dtype = _parse_dtype(d.pop("dtype", UNSET))

        def _parse_gradient_checkpointing(data: object) -> bool | HyperparametersGradientCheckpointingType0 | Unset:
            if isinstance(data, Unset):
                return data
            try:
                if not isinstance(data, str):
                    raise TypeError()
                gradient_checkpointing_type_0 = check_hyperparameters_gradient_checkpointing_type_0(data)

                return gradient_checkpointing_type_0
            except (TypeError, ValueError, AttributeError, KeyError):
                pass
            return cast(bool | HyperparametersGradientCheckpointingType0 | Unset, data)

        gradient_checkpointing = _parse_gradient_checkpointing(d.pop("gradient_checkpointing", UNSET))

        hyperparameters = cls(
            n_epochs=n_epochs,
            batch_size=batch_size,
            learning_rate_multiplier=learning_rate_multiplier,
            learning_rate=learning_rate,
            lr_scheduler=lr_scheduler,
            warmup_ratio=warmup_ratio,
            weight_decay=weight_decay,
            max_grad_norm=max_grad_norm,
            optimizer=optimizer,
            label_smoothing=label_smoothing,
            class_weights=class_weights,
            neftune_alpha=neftune_alpha,
            train_on_inputs=train_on_inputs,
            train_on_reasoning=train_on_reasoning,
            gradient_accumulation_steps=gradient_accumulation_steps,
            max_length=max_length,
            max_steps=max_steps,
            max_seconds=max_seconds,
            eval_every=eval_every,
            save_every=save_every,
            validation_share=validation_share,
            early_stopping_patience=early_stopping_patience,
            general_share=general_share,
            l2_to_base=l2_to_base,
            dtype=dtype,
            gradient_checkpointing=gradient_checkpointing,
        )

        return hyperparameters
