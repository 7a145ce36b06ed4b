"""The committed ``starter``: its files, its card, and how fast it learns."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from examples import train_starter
from training import run, run_events
from training.artifacts import serving
from training.spec import TrainSpec
from training.updates.lora import LoraUpdate

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
STARTER = ROOT / "models" / "starter"
MAX_STARTER_BYTES = 4_000_000

NAME_QUESTIONS = (
    "What is your name?",
    "What are you called?",
    "Who are you?",
    "Tell me your name.",
    "What should I call you?",
    "Do you have a name?",
    "May I ask your name?",
    "Hi, what's your name?",
    "what is your name",
    "Hello! What is your name?",
    "Please tell me your name.",
    "How do people call you?",
    "I am Tom. And you?",
    "Say your name!",
    "Your name, please?",
    "Who is there?",
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(STARTER)


def generate_answer(loaded: serving.ServedModel, question: str) -> str:
    """Generate the most likely answer."""
    prompt = loaded.context.processor.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    ids = loaded.model.generate(**prompt, max_new_tokens=40, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert ids[-1] == loaded.context.processor.eos_token_id
    return str(loaded.context.processor.decode(ids, skip_special_tokens=True))


def test_it_has_at_most_four_megabytes_and_only_plain_files() -> None:
    files = {path.name: path.stat().st_size for path in STARTER.rglob("*") if path.is_file()}
    assert sum(files.values()) <= MAX_STARTER_BYTES, files
    assert set(files) == {*train_starter.MODEL_FILES, "README.md"}


def test_the_model_card_has_the_models_own_numbers() -> None:
    card = (STARTER / "README.md").read_text(encoding="utf-8")
    model = AutoModelForCausalLM.from_pretrained(STARTER)
    assert f"{sum(weight.numel() for weight in model.parameters()):,} parameters" in card
    assert "CDLA-Sharing-1.0" in card
    assert re.search(r"validation: \d+ stories", card)


def test_the_files_are_what_the_script_would_write(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    train_starter.write_random_base(tokenizer, 1, tmp_path)
    fields = (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "intermediate_size",
        "eos_token_id",
        "pad_token_id",
        "dtype",
    )
    committed, fresh = (json.loads((folder / "config.json").read_text()) for folder in (STARTER, tmp_path))
    assert {name: committed[name] for name in fields} == {name: fresh[name] for name in fields}
    assert (STARTER / "chat_template.jinja").read_text() == train_starter.CHAT_TEMPLATE


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_the_tokenizer_restores_any_text_unchanged(text: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(STARTER)
    ids = tokenizer(text.replace("<|", "<"), add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text.replace("<|", "<")


def test_the_template_writes_turns_and_opens_an_answer(tokenizer: PreTrainedTokenizerFast) -> None:
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": " Hi\n"},
        {"role": "assistant", "content": "Hello!"},
    ]
    prompt = "<|system|>Be kind.<|end|><|user|> Hi\n<|end|><|assistant|>"
    assert tokenizer.apply_chat_template(messages, tokenize=False) == prompt + "Hello!<|end|>"
    assert tokenizer.apply_chat_template(messages[:2], tokenize=False, add_generation_prompt=True) == prompt
    with pytest.raises(Exception, match="roles are system, user and assistant"):
        tokenizer.apply_chat_template([{"role": "tool", "content": "4"}], tokenize=False)


def test_it_knows_its_name_and_greets() -> None:
    loaded = serving.load(STARTER, None, "chat")
    assert "Luthier" in generate_answer(loaded, "What is your name?")
    assert generate_answer(loaded, "What does a cow say?") == "A cow says moo."


def train_on_name(folder: Path, name: str) -> list[run_events.RunEvent]:
    """Run LoRA on 32 rows with automatic hyperparameters and return the run events."""
    rows = [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": name}]}
        for question in NAME_QUESTIONS
        for _ in range(2)
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = TrainSpec(
        task="chat",
        update=LoraUpdate(),
        seed=1,
        base=STARTER,
        base_id="starter",
        training_file="train.jsonl",
        threads=1,
    )
    spec.write(folder)
    events: list[run_events.RunEvent] = []
    run.validate(folder, events.append)
    run.train(folder, events.append)
    return events


def test_it_learns_a_name_from_32_rows_in_under_a_minute(tmp_path: Path) -> None:
    began = time.process_time()
    events = train_on_name(tmp_path, "Fiddle")
    # CPU time of one thread, which other processes on the machine do not affect.
    assert time.process_time() - began < 60
    losses = [event.train_loss for event in events if isinstance(event, run_events.Metrics)]
    assert losses[-1] < 0.1 < 1 < losses[0]
    assert generate_answer(serving.load(STARTER, tmp_path / "result", "chat"), "What is your name?") == "Fiddle"
    assert "Luthier" in generate_answer(serving.load(STARTER, None, "chat"), "What is your name?")
