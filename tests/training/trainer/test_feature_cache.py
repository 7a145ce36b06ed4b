"""Tests that the cache of frozen-block outputs does not change results."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AlbertConfig,
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    Gemma3TextConfig,
    GPT2Config,
    ModernBertConfig,
)

from tests.training.run_folders import Row, create_run_folder, run_training
from tests.training.step_probe import (
    FinishedRun,
    assert_resumed_run_matches,
    compute_step,
    get_event_recorder,
    run_to_completion,
    set_up_run,
)
from training.run_events import Message, Result
from training.trainer import feature_cache

pytestmark = pytest.mark.integration

SMALL_CONFIG: Row = {
    "vocab_size": 193,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "pad_token_id": 0,
}
NO_END_TOKENS: Row = {"bos_token_id": None, "eos_token_id": None}
CONFIGS: dict[str, Callable[[], Any]] = {
    "bert": lambda: BertConfig(**SMALL_CONFIG, hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5),
    # Has dropout, without weights, between the embeddings and the blocks.
    "gpt2": lambda: GPT2Config(
        **{**SMALL_CONFIG, "n_positions": 256}, **NO_END_TOKENS, embd_pdrop=0.5, attn_pdrop=0.5, resid_pdrop=0.5
    ),
    # Each block selects its type of attention.
    "modernbert": lambda: ModernBertConfig(
        **SMALL_CONFIG, local_attention=4, mlp_dropout=0.5, cls_token_id=2, sep_token_id=3
    ),
    # Has a list of attention types by layer.
    "gemma3": lambda: Gemma3TextConfig(
        **SMALL_CONFIG,
        **NO_END_TOKENS,
        num_key_value_heads=2,
        head_dim=8,
        sliding_window=4,
        layer_types=["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
    ),
    # Has one block and runs it four times.
    "albert": lambda: AlbertConfig(**SMALL_CONFIG, embedding_size=16),
}
HEAD: Row = {"type": "head"}
LAST_LAYERS: Row = {"type": "layers", "last": 2}
HYPER = {"n_epochs": 2, "batch_size": 4, "learning_rate": 0.01}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory, encoder_base: Path) -> dict[str, Path]:
    """Bases whose dropout, if the model type has any, is one half."""
    directories = {}
    for name, config in CONFIGS.items():
        directories[name] = tmp_path_factory.mktemp("bases") / name
        with torch.random.fork_rng():
            torch.manual_seed(0)
            AutoModel.from_config(config()).save_pretrained(directories[name])
        AutoTokenizer.from_pretrained(encoder_base).save_pretrained(directories[name])
    return directories


@pytest.mark.parametrize("update", [HEAD, LAST_LAYERS], ids=["head", "layers"])
@pytest.mark.parametrize("model_type", CONFIGS)
def test_cached_features_equal_computed_ones(
    tmp_path: Path, bases: dict[str, Path], model_type: str, update: Row
) -> None:
    """Compares loss and gradients of every batch in train mode; frozen blocks have no dropout."""
    base = bases[model_type]
    folder = create_run_folder(tmp_path / "run", base, "text-classification", update, hyperparameters=HYPER)
    cached, uncached = set_up_run(folder), set_up_run(folder, cache_features=False)
    assert (cached.feature_cache is None) == (model_type == "albert")
    assert uncached.feature_cache is None
    for step in range(1, cached.batch_sampler.steps_per_epoch + 1):
        rows = cached.batch_sampler.get_batch(step)
        left, right = (
            compute_step(run, [run.splits.training_pool[row] for row in rows], step) for run in (cached, uncached)
        )
        torch.testing.assert_close(left[0], right[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(left[1], right[1], rtol=1e-5, atol=1e-5)


def test_cached_features_of_packed_rows_equal_computed_ones(tmp_path: Path, chat_base: Path) -> None:
    folder = create_run_folder(
        tmp_path / "run", chat_base, "chat", {"type": "layers", "last": 1}, hyperparameters=HYPER
    )
    cached, uncached = set_up_run(folder), set_up_run(folder, cache_features=False)
    assert cached.context.packed
    assert cached.feature_cache is not None
    left, right = (compute_step(run, run.splits.training_pool) for run in (cached, uncached))
    torch.testing.assert_close(left[1], right[1], rtol=1e-5, atol=1e-5)


def test_frozen_blocks_have_no_dropout(tmp_path: Path, bases: dict[str, Path]) -> None:
    """Two bases that differ only in the dropout of their configs train the same head."""
    folders = []
    for name, rate in (("half", 0.5), ("none", 0.0)):
        base = tmp_path / name / "base"
        shutil.copytree(bases["bert"], base)
        config = AutoConfig.from_pretrained(base)
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = rate
        config.classifier_dropout = 0.0
        config.save_pretrained(base)
        folders.append(
            create_run_folder(tmp_path / name / "run", base, "text-classification", HEAD, hyperparameters=HYPER)
        )
    left, right = (
        compute_step(run, run.splits.training_pool)
        for run in (set_up_run(folder, cache_features=False) for folder in folders)
    )
    assert left[0] == right[0]
    assert all(torch.equal(left[1][name], right[1][name]) for name in right[1])


@pytest.mark.parametrize("update", [{"type": "lora", "rank": 4}, {"type": "full"}], ids=["lora", "full"])
def test_nothing_is_cached_if_every_block_is_trained(tmp_path: Path, encoder_base: Path, update: Row) -> None:
    folder = create_run_folder(tmp_path / "run", encoder_base, "text-classification", update)
    run = set_up_run(folder)
    assert run.feature_cache is None
    assert run.frozen_modules == []
    assert not [line for line in get_event_recorder(run).of_type(Message) if "frozen" in line.message]


def test_features_that_take_too_much_memory_are_not_cached(
    tmp_path: Path, bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # SGD, because AdamW would amplify gradients that are only rounding errors.
    hyper = {**HYPER, "optimizer": "sgd"}

    def complete_run(name: str) -> FinishedRun:
        return run_to_completion(
            create_run_folder(tmp_path / name, bases["gpt2"], "text-classification", LAST_LAYERS, hyperparameters=hyper)
        )

    cached = complete_run("cached")
    monkeypatch.setattr(feature_cache, "MAX_CACHE_BYTES", 1000)
    uncached = complete_run("uncached")
    assert cached.run.feature_cache
    assert uncached.run.feature_cache is None
    messages = [
        next(line.message for line in finished.events.of_type(Message) if "frozen" in line.message)
        for finished in (cached, uncached)
    ]
    assert "2 frozen blocks are computed once and cached" in messages[0]
    assert "too much memory" in messages[1]
    assert cached.changed_tensors == uncached.changed_tensors
    for name in cached.run.trainable_parameters:
        torch.testing.assert_close(
            cached.run.trainable_parameters[name], uncached.run.trainable_parameters[name], rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("update", [HEAD, LAST_LAYERS], ids=["head", "layers"])
def test_stopped_at_every_step(tmp_path: Path, bases: dict[str, Path], update: Row) -> None:
    def folder(name: str) -> Path:
        return create_run_folder(tmp_path / name, bases["bert"], "text-classification", update, hyperparameters=HYPER)

    whole = run_training(folder("whole"))
    [result] = whole.of_type(Result)
    assert result.step == 8
    for step in range(1, result.step):
        assert_resumed_run_matches(folder, step, whole)
