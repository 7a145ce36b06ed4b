"""The model card of ``starter``, filled in with what its training measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

from training.run_events import Result, Started, Validated

QUESTIONS = (
    "What is your name?",
    "Hello!",
    "What does a cow say?",
    "I am scared of the dark.",
    "Can I have a banana?",
    "Tell me a story about a dog.",
    "Tell me a story about Lily and a boat.",
    "What is the capital of Sweden?",
)

_CARD = """\
# starter

A chat model of {parameters:,} parameters that Luthier trains itself and ships with, so that a fresh clone can
fine-tune and serve something without reaching a model hub. It speaks the English of stories for three-year-olds. It is
there to be tuned in seconds and to show that tuning worked; it is of no use as an assistant.

| | |
|---|---|
| architecture | Llama: 4 layers, width 128, 4 heads, feed-forward 256, tied embeddings |
| parameters | {parameters:,}, fp32 |
| tokenizer | byte-level BPE, 2,048 tokens; any UTF-8 text goes through it unchanged |
| context | 512 tokens |
| turns | `<\\|system\\|>`, `<\\|user\\|>` or `<\\|assistant\\|>`, the text, `<\\|end\\|>` |

## Training

From random weights, with this repository's own training code (task `chat`, update `full`):

    python -m examples.train_starter --stories tinystories_sample.txt --threads {threads}

{rows:,} conversations, {tokens:,} tokens an epoch, {epochs} epochs, {steps:,} steps of {batch} conversations, AdamW at
a peak rate of {rate:g}, {minutes:.0f} minutes on a machine with two cores that was doing other things too.

| | loss a token (nats) | perplexity |
|---|---|---|
| training, running mean at the end | {train_loss:.3f} | {train_perplexity:.1f} |
| validation: {validation_rows} stories that training never saw | {valid_loss:.3f} | {valid_perplexity:.1f} |

Only the assistant's words count in these figures. The first counts the small talk too, which every epoch repeats; the
second does not.

## Data

- Conversations that `examples/starter_data.py` derives from the first 2 MiB of **TinyStories** (Ronen Eldan and Yuanzhi
  Li, 2023), about two thousand short stories written by GPT-3.5 and GPT-4, licence **CDLA-Sharing-1.0**. One story is
  one conversation: a request for it, its beginning, what happened next, how it ends; questions that its people ask each
  other are conversations too. The stories are not part of this repository.
- Small talk written for this project: `examples/data/starter_talk.jsonl`.

By our reading that licence puts no terms on what is computed from the data ("Results"), such as these weights; they are
under the repository's licence.

## What it can and cannot do

It greets, names itself, answers the simple questions of the small talk in words close to those it was trained on, and
begins stories about a child or an animal in sentences that are mostly grammatical; who or what was asked for is in
most of them, not in all. By LoRA it learns a new name, a tone or a fixed form of answer from some tens to hundreds of
rows within a minute on a CPU, the form sooner than the sense.

It knows nothing of the world, cannot reason or count, and answers a question outside its small world with something
from inside it or with made-up words. A story loses its thread, and at times its hero, after a few sentences. It knows
English only. It was not made safe in any way beyond the mildness of its data: do not put it before users.

## Answers as they come

Temperature 0, the likeliest token every time:

{greedy}

Temperature 0.7:

{sampled}
"""


@dataclass(frozen=True)
class TrainingSummary:
    """What a training run said about itself."""

    validated: Validated
    started: Started
    result: Result
    train_loss: float
    """Running mean at the end."""
    minutes: float


def render_card(summary: TrainingSummary, answers: dict[float, list[str]]) -> str:
    """The card. ``answers`` are those to ``QUESTIONS`` at temperatures 0 and 0.7."""
    validated, started, result = summary.validated, summary.started, summary.result
    valid_loss = result.metrics["valid_loss"]
    assert valid_loss is not None
    return _CARD.format(
        parameters=started.total_parameters,
        threads=started.threads,
        rows=validated.rows,
        validation_rows=validated.validation_rows,
        tokens=validated.tokens,
        epochs=validated.hyperparameters["n_epochs"],
        batch=validated.hyperparameters["batch_size"],
        rate=validated.hyperparameters["learning_rate"],
        steps=validated.total_steps,
        minutes=summary.minutes,
        train_loss=summary.train_loss,
        train_perplexity=math.exp(summary.train_loss),
        valid_loss=valid_loss,
        valid_perplexity=math.exp(valid_loss),
        greedy=_render_conversation(answers[0.0]),
        sampled=_render_conversation(answers[0.7]),
    )


def _render_conversation(answers: list[str]) -> str:
    """One quoted paragraph a question."""
    pairs = zip(QUESTIONS, answers, strict=True)
    return "\n>\n".join(f"> **{question}**\\\n> {' '.join(answer.split())}" for question, answer in pairs)
