"""Tests for bases that cannot be used: each is refused with the reason before it is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoTokenizer, BambaConfig, Lfm2Config, MambaConfig, PreTrainedConfig

from tests.families.catalog import DECODERS
from tests.families.test_experts import HYPER, ROWS, build
from tests.tiny import create_tiny_chat_base, create_tiny_encoder_base
from tests.tiny_seq2seq import create_tiny_bart_base, create_tiny_t5_base
from tests.training.run_folders import CHAT_ROWS, LORA, create_run_folder, run_training
from training import run as runs
from training.artifacts import serving
from training.errors import TrainingError
from training.models.base_model import read_base_model_info
from training.models.support import check_architecture, check_base, check_format
from training.tasks import TASKS
from training.tasks.seq2seq import SourceInput

pytestmark = pytest.mark.integration


def change_config(base: Path, **changes: Any) -> Path:
    path = base / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return base


@pytest.mark.parametrize(
    ("quantization", "nested"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}, False),
        ({"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}, False),
        ({"quant_method": "fp8"}, True),
    ],
)
def test_quantized_weights_are_refused_with_the_release_to_use(
    tmp_path: Path, quantization: dict[str, Any], nested: bool
) -> None:
    base = DECODERS["gpt-oss"].create_base(tmp_path / "base")
    changes = {"quantization_config": quantization}
    change_config(base, **({"text_config": changes} if nested else changes))
    [reason] = check_format(base)
    assert quantization["quant_method"] in reason
    assert "bfloat16 release" in reason
    assert check_base(base, TASKS["chat"]) == [reason]
    folder = create_run_folder(tmp_path / "run", base, "chat", LORA, training=CHAT_ROWS)
    with pytest.raises(TrainingError, match="bfloat16 release") as caught:
        runs.validate(folder, lambda event: None)
    assert caught.value.code == "base_model_unavailable"


@pytest.mark.parametrize("name", DECODERS)
def test_every_family_can_be_used_for_its_tasks(tmp_path: Path, name: str) -> None:
    base = DECODERS[name].create_base(tmp_path / "base")
    for task in DECODERS[name].tasks:
        reasons = check_base(base, TASKS[task])
        assert bool(reasons) == ((name, task) == ("granite", "text-classification")), reasons


def test_other_architectures(tmp_path: Path) -> None:
    encoder, chat = create_tiny_encoder_base(tmp_path / "encoder"), create_tiny_chat_base(tmp_path / "chat")
    for task in ("text-classification", "text-regression", "token-classification", "question-answering", "embedding"):
        assert check_base(encoder, TASKS[task]) == []
    for task in ("chat", "completion", "text-classification", "token-classification", "embedding"):
        assert check_base(chat, TASKS[task]) == []
    t5, bart = create_tiny_t5_base(tmp_path / "t5"), create_tiny_bart_base(tmp_path / "bart")
    assert check_base(t5, TASKS["seq2seq"]) == check_base(bart, TASKS["seq2seq"]) == []
    [reason] = check_base(t5, TASKS["text-classification"])
    assert "seq2seq only" in reason
    change_config(bart, decoder_start_token_id=None)
    [reason] = check_base(bart, TASKS["seq2seq"])
    assert "decoder_start_token_id" in reason
    change_config(encoder, model_type="unheard-of")
    [reason] = check_base(encoder, TASKS["embedding"])
    assert "cannot read its config.json" in reason


@pytest.mark.parametrize(
    "config", [BambaConfig(), MambaConfig(), Lfm2Config(layer_types=["conv"] * 2, num_hidden_layers=2)]
)
def test_recurrent_layers_that_cannot_be_served_in_batches_are_refused(config: PreTrainedConfig) -> None:
    [reason] = check_architecture(config, TASKS["completion"])
    assert "cannot be served in batches" in reason


@pytest.mark.parametrize(
    ("token", "special", "in_template", "is_refused"),
    [
        ("<image>", True, False, False),  # As in Gemma 3 1B.
        ("<image>", True, True, True),
        ("<think>", False, False, True),
    ],
)
def test_tokens_without_an_embedding(
    tmp_path: Path, token: str, special: bool, in_template: bool, is_refused: bool
) -> None:
    base = create_tiny_chat_base(tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(base)
    rows = AutoConfig.from_pretrained(base).vocab_size
    tokenizer.add_tokens([token], special_tokens=special)
    if in_template:
        tokenizer.chat_template += token
    tokenizer.save_pretrained(base)
    reasons = check_base(base, TASKS["chat"])
    assert bool(reasons) == is_refused
    if is_refused:
        assert f"'{token}' ({rows})" in reasons[0]
        with pytest.raises(TrainingError, match="embedding matrix"):
            read_base_model_info(base, "tiny", TASKS["chat"])
    else:
        ids = serving.load(base, None, "chat").context.processor("say <image>", split_special_tokens=True)["input_ids"]
        assert max(ids) < rows


@torch.inference_mode()
def test_the_generation_config_of_an_encoder_decoder(tmp_path: Path) -> None:
    """As in transformers, it may force the first token, such as a language."""
    base = create_tiny_bart_base(tmp_path / "base")
    path = base / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"forced_bos_token_id": 77, "max_length": 4}))
    served = serving.load(base, None, "seq2seq")
    inputs = [SourceInput(source=text) for text in ("hello", "a longer source")]
    answers = serving.predict(served, inputs, 1)
    model, tokenizer = served.model, served.context.processor
    for item, answer in zip(inputs, answers, strict=True):
        ids = torch.tensor([tokenizer(item.source)["input_ids"]])
        expected = model.generate(
            ids, do_sample=False, num_beams=1, max_length=257, bad_words_ids=[[tokenizer.pad_token_id]]
        )
        assert expected[0, 1] == 77
        assert answer["text"] == tokenizer.decode(expected[0], skip_special_tokens=True).strip()


def test_padding_after_a_row_does_not_change_a_recurrent_layer(tmp_path: Path) -> None:
    """The loss of a batch is the sum of the losses of its rows, which are not packed."""
    base = DECODERS["qwen3.5"].create_base(tmp_path / "base")
    folder = create_run_folder(
        tmp_path / "run", base, "completion", {"type": "full"}, training=ROWS, hyperparameters=HYPER
    )
    run = build(folder)
    assert not run.context.packed
    rows = run.splits.training[:4]
    total = run.compute_loss(rows, run.context).total
    torch.testing.assert_close(total, sum(run.compute_loss([row], run.context).total for row in rows))
    run_training(folder)
