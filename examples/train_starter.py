"""Train ``starter``, the chat model of under a million parameters that this repository ships with.

From the repository's root, with the TinyStories sample at hand:

    python -m examples.train_starter --stories ../shared/data/tinystories/tinystories_sample.txt

It derives chat rows from the stories, trains a byte-level tokenizer on them, draws random weights, and hands both to
``training.run`` as the base of a full update of the task ``chat``. The same file, seed and threads give the same model.
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
"""Small batches: with so few rows the number of updates is what counts, and a CPU loses little by them."""


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE: any UTF-8 text goes in and comes back unchanged."""
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
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD_TOKEN,
        eos_token=EOS_TOKEN,
        extra_special_tokens=list(ROLE_TOKENS),
        model_max_length=CONTEXT_LENGTH,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def write_random_base(tokenizer: PreTrainedTokenizerFast, seed: int, directory: Path) -> None:
    """Write a Llama with random weights: 4 layers of width 128, embeddings tied; fp32 it stays below 4 MB."""
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
    """Shows the lines of a run as a bar, a falling loss and one line an evaluation; keeps what the card needs."""

    progress: Progress
    validated: run_events.Validated | None = None
    started: run_events.Started | None = None
    result: run_events.Result | None = None
    task: Any = None
    mean_train_loss: float | None = None
    """Running mean of the training loss over some fifty lines of the run."""

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
                f"epoch {metrics.epoch:g}: training loss {self.mean_train_loss:.3f}, held-out stories {metrics.valid_loss:.3f}"
            )

    def summarize(self, minutes: float) -> starter_card.TrainingSummary:
        """For the card, when all is done."""
        assert self.validated
        assert self.started
        assert self.result
        assert self.mean_train_loss is not None
        return starter_card.TrainingSummary(self.validated, self.started, self.result, self.mean_train_loss, minutes)


def train(folder: Path, console: Console) -> TrainingDisplay:
    """Validate and train what lies in ``folder``."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[loss]}"), console=console) as progress:
        watcher = TrainingDisplay(progress)
        run.validate(folder, watcher)
        run.train(folder, watcher)
    return watcher


def generate_answers(directory: Path, questions: list[str], temperature: float) -> list[str]:
    """The model's answers; temperature 0 takes the likeliest token every time."""
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
    parser.add_argument("--stories", type=Path, required=True, help="TinyStories text, <|endoftext|> between stories")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=None, help="CPU threads; torch chooses by default")
    arguments = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as place:
        base, folder = Path(place) / "base", Path(place) / "run"
        folder.mkdir()
        prepare(folder, base, arguments.stories, arguments.seed, arguments.threads)
        started = time.monotonic()
        watcher = train(folder, console)
        minutes = (time.monotonic() - started) / 60
        arguments.output.mkdir(parents=True, exist_ok=True)
        for name in MODEL_FILES:
            shutil.copyfile(folder / "result" / name, arguments.output / name)
    answers = {t: generate_answers(arguments.output, list(starter_card.QUESTIONS), t) for t in (0.0, 0.7)}
    card = starter_card.render_card(watcher.summarize(minutes), answers)
    (arguments.output / "README.md").write_text(card, encoding="utf-8")
    console.print(card)


if __name__ == "__main__":
    main()
