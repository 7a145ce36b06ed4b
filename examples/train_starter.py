"""Train ``starter``, the chat model with under a million parameters that this repository includes.

Run this from the root of the repository. It needs the TinyStories sample:

    python -m examples.train_starter --stories ../shared/data/tinystories/tinystories_sample.txt

The script derives chat rows from the stories, trains a byte-level tokenizer on them, draws random
weights, and passes both to ``training.run`` as the base of a full update of the task ``chat``. The
same file, seed and threads give the same model.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from examples import starter_card, starter_data
from training import run, run_events
from training.spec import Hyperparameters, TrainSpec
from training.updates.full import FullUpdate

ROOT = Path(__file__).resolve().parent.parent
SMALL_TALK = ROOT / "examples" / "data" / "starter_talk.jsonl"
OUTPUT = ROOT / "models" / "starter"
MODEL_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)

PAD_TOKEN, EOS_TOKEN, ROLE_TOKENS = "<|pad|>", "<|end|>", ("<|system|>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message['role'] not in ('system', 'user', 'assistant') -%}
{{ raise_exception('The roles are system, user and assistant.') }}
{%- endif -%}
<|{{ message['role'] }}|>{{ message['content'] }}<|end|>
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}
"""
VOCAB_SIZE = 2048
CONTEXT_LENGTH = 512

HYPERPARAMETERS = Hyperparameters(
    n_epochs=8,
    batch_size=4,
    learning_rate=2e-3,
    lr_scheduler="cosine",
    warmup_ratio=0.05,
    weight_decay=0.1,
    max_grad_norm=1.0,
    max_length=CONTEXT_LENGTH,
)
"""Batches are small: with few rows the number of updates matters most, and small batches cost
little on a CPU.
"""


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer, which restores any UTF-8 text unchanged."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[PAD_TOKEN, EOS_TOKEN, *ROLE_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast_tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD_TOKEN,
        eos_token=EOS_TOKEN,
        extra_special_tokens=list(ROLE_TOKENS),
        model_max_length=CONTEXT_LENGTH,
        clean_up_tokenization_spaces=False,
    )
    fast_tokenizer.chat_template = CHAT_TEMPLATE
    return fast_tokenizer


def write_random_base(tokenizer: PreTrainedTokenizerFast, seed: int, directory: Path) -> None:
    """Write a Llama with random weights: 4 layers of width 128, tied embeddings, below 4 MB in
    fp32.
    """
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT_LENGTH,
        tie_word_embeddings=True,
        initializer_range=0.05,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)


@dataclass
class TrainingDisplay:
    """Display of a run: a progress bar with the loss, and one line per evaluation.

    It also collects the values for the model card.
    """

    progress: Progress
    validated: run_events.Validated | None = None
    started: run_events.Started | None = None
    result: run_events.Result | None = None
    task: Any = None
    mean_train_loss: float | None = None
    """Running mean of the training loss over about fifty metrics events."""

    def __call__(self, event: run_events.RunEvent) -> None:
        if isinstance(event, run_events.Validated):
            self.validated = event
        elif isinstance(event, run_events.Started):
            self.started = event
            self.progress.console.print(
                f"{event.total_parameters:,} parameters on {event.device}, {event.threads} threads"
            )
            self.task = self.progress.add_task("training", total=event.total_steps, completed=event.step, loss="")
        elif isinstance(event, run_events.Metrics):
            self._show_metrics(event)
        elif isinstance(event, run_events.Result):
            self.result = event
        elif isinstance(event, run_events.Failure):
            self.progress.console.print(event)

    def _show_metrics(self, metrics: run_events.Metrics) -> None:
        self.mean_train_loss = (
            metrics.train_loss
            if self.mean_train_loss is None
            else 0.98 * self.mean_train_loss + 0.02 * metrics.train_loss
        )
        self.progress.update(self.task, completed=metrics.step, loss=f"loss {self.mean_train_loss:.3f}")
        if metrics.valid_loss is not None:
            self.progress.console.print(
                f"epoch {metrics.epoch:g}: training loss {self.mean_train_loss:.3f}, "
                f"validation loss {metrics.valid_loss:.3f}"
            )

    def summarize(self, minutes: float) -> starter_card.TrainingSummary:
        """Return the summary of the finished run for the model card."""
        assert self.validated
        assert self.started
        assert self.result
        assert self.mean_train_loss is not None
        return starter_card.TrainingSummary(self.validated, self.started, self.result, self.mean_train_loss, minutes)


def train(folder: Path, console: Console) -> TrainingDisplay:
    """Validate the rows in ``folder`` and train on them."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[loss]}"), console=console) as progress:
        display = TrainingDisplay(progress)
        run.validate(folder, display)
        run.train(folder, display)
    return display


def generate_answers(directory: Path, questions: list[str], temperature: float) -> list[str]:
    """Generate the model's answers. Temperature 0 always takes the most likely token."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(directory), AutoTokenizer.from_pretrained(directory)
    torch.manual_seed(0)
    sampling = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    answers = []
    for question in questions:
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        ids = model.generate(**prompt, max_new_tokens=120, **sampling)[0, prompt["input_ids"].shape[1] :]
        answers.append(tokenizer.decode(ids, skip_special_tokens=True))
    return answers


def prepare(folder: Path, base: Path, stories: Path, seed: int, threads: int | None) -> None:
    """Write the data, the random base and the spec."""
    rows, held_out = starter_data.build_rows(stories, SMALL_TALK, seed)
    starter_data.write_rows(folder / "train.jsonl", rows)
    starter_data.write_rows(folder / "validation.jsonl", held_out)
    write_random_base(train_tokenizer(starter_data.list_texts(rows)), seed, base)
    TrainSpec(
        task="chat",
        update=FullUpdate(),
        hyperparameters=HYPERPARAMETERS,
        seed=seed,
        base=base,
        base_id="random",
        training_file="train.jsonl",
        validation_file="validation.jsonl",
        threads=threads,
    ).write(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--stories", type=Path, required=True, help="TinyStories text with <|endoftext|> between stories"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder for the model and its card")
    parser.add_argument("--seed", type=int, default=1, help="seed of data and weights")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads; torch chooses by default")
    arguments = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as scratch:
        base, folder = Path(scratch) / "base", Path(scratch) / "run"
        folder.mkdir()
        prepare(folder, base, arguments.stories, arguments.seed, arguments.threads)
        started = time.monotonic()
        display = train(folder, console)
        minutes = (time.monotonic() - started) / 60
        arguments.output.mkdir(parents=True, exist_ok=True)
        for name in MODEL_FILES:
            shutil.copyfile(folder / "result" / name, arguments.output / name)
    answers = {t: generate_answers(arguments.output, list(starter_card.QUESTIONS), t) for t in (0.0, 0.7)}
    card = starter_card.render_card(display.summarize(minutes), answers)
    (arguments.output / "README.md").write_text(card, encoding="utf-8")
    console.print(card)


if __name__ == "__main__":
    main()
