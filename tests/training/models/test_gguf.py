"""Conversion of a tiny Llama in GGUF to safetensors."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.tiny import CHAT_TEMPLATE, create_tiny_chat_base

gguf = pytest.importorskip("gguf", reason="needs the package gguf (the extra smollm2)")
from training.models.gguf import DTYPE, UnsupportedGguf, convert_gguf  # noqa: E402

NUM_HEADS = 4
NUM_KV_HEADS = 2
LAYER_TENSORS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
"""transformers' name -> llama.cpp's name of a layer's weight."""


def pair_rotary_halves(weight: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Order rows as llama.cpp does: it rotates neighbors, transformers the two halves of a head."""
    rows, columns = weight.shape
    return weight.view(num_heads, 2, rows // num_heads // 2, columns).transpose(1, 2).reshape(rows, columns)


def write_gguf(base: Path, target: Path, pre_tokenizer: str = "smollm", first_token: str = "<|endoftext|>") -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    config = model.config
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(NUM_HEADS)
    writer.add_head_count_kv(NUM_KV_HEADS)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(len(tokenizer))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer)
    # A tokenizer has merges: the last byte makes room for one.
    tokens = [first_token, *tokenizer.convert_ids_to_tokens(range(1, len(tokenizer) - 1)), "th"]
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_token_list(tokens)
    writer.add_token_types([control if token.startswith("<|") else normal for token in tokens])
    writer.add_token_merges(["t h"])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(CHAT_TEMPLATE)
    weights = model.state_dict()
    writer.add_tensor("token_embd.weight", weights["model.embed_tokens.weight"].numpy())
    writer.add_tensor("output_norm.weight", weights["model.norm.weight"].numpy())
    for layer in range(config.num_hidden_layers):
        for name, stored in LAYER_TENSORS.items():
            weight = weights[f"model.layers.{layer}.{name}.weight"]
            heads = {"attn_q": NUM_HEADS, "attn_k": NUM_KV_HEADS}.get(stored)
            ordered = pair_rotary_halves(weight, heads) if heads else weight
            writer.add_tensor(f"blk.{layer}.{stored}.weight", ordered.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return create_tiny_chat_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def source(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source") / "tiny.gguf"
    write_gguf(base, source)
    return source


def hash_files(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}


def test_the_converted_model_is_the_original_one(base: Path, source: Path, tmp_path: Path) -> None:
    convert_gguf(source, tmp_path / "converted")
    original, converted = (
        AutoModelForCausalLM.from_pretrained(path, dtype=DTYPE) for path in (base, tmp_path / "converted")
    )
    assert converted.config.to_dict().keys() >= {"hidden_size", "rope_parameters"}
    assert not hasattr(converted.config, "quantization_config")
    ids_BT = torch.arange(5, 105).view(2, 50)
    with torch.inference_mode():
        assert torch.equal(original(ids_BT).logits, converted(ids_BT).logits)
    tokenizer, generation = AutoTokenizer.from_pretrained(tmp_path / "converted"), converted.generation_config
    text = "two  12 things\n\n 3"
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids) == text
    assert ids.count(original.config.vocab_size - 1) == 1, "the merge is in use"
    assert tokenizer.chat_template == CHAT_TEMPLATE
    assert tokenizer.model_max_length == original.config.max_position_embeddings
    assert [generation.eos_token_id, generation.pad_token_id] == [tokenizer.eos_token_id, tokenizer.pad_token_id]


def test_the_same_file_gives_the_same_bytes_and_nothing_beside_them(source: Path, tmp_path: Path) -> None:
    convert_gguf(source, tmp_path / "one")
    convert_gguf(source, tmp_path / "two")
    assert hash_files(tmp_path / "one") == hash_files(tmp_path / "two")
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two"}
    with pytest.raises(FileExistsError):
        convert_gguf(source, tmp_path / "one")


def test_an_unknown_pre_tokenizer_is_refused(base: Path, tmp_path: Path) -> None:
    """transformers would split texts as GPT-2 does, and the model would see other tokens."""
    write_gguf(base, tmp_path / "other.gguf", pre_tokenizer="refact")
    with pytest.raises(UnsupportedGguf, match="refact"):
        convert_gguf(tmp_path / "other.gguf", tmp_path / "converted")
    assert not (tmp_path / "converted").exists()


def test_a_tokenizer_larger_than_the_embedding_is_refused(base: Path, tmp_path: Path) -> None:
    """transformers adds GPT-2's special token to a vocabulary without it."""
    write_gguf(base, tmp_path / "other.gguf", first_token="<|pad|>")
    with pytest.raises(UnsupportedGguf, match="embedding"):
        convert_gguf(tmp_path / "other.gguf", tmp_path / "converted")


@pytest.mark.parametrize("content", [b"", b"not a model", b"GGUF\x03\x00\x00\x00"])
def test_a_damaged_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "damaged.gguf").write_bytes(content)
    with pytest.raises(UnsupportedGguf, match="install its package again"):
        convert_gguf(tmp_path / "damaged.gguf", tmp_path / "converted")
    assert [path.name for path in tmp_path.iterdir()] == ["damaged.gguf"]
