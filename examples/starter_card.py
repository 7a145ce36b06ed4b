"""Model card of ``starter``, filled in with the metrics of its training run."""

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

A chat model with {parameters:,} parameters. Luthier trains it with its own code and includes it, so that a fresh
clone can fine-tune and serve a model without a model hub. It writes the English of stories for
three-year-olds. Its purpose is to be fine-tuned in seconds and to show that fine-tuning worked. It is
not useful as an assistant.

| | |
|---|---|
| architecture | Llama: 4 layers, width 128, 4 heads, feed-forward 256, tied embeddings |
| parameters | {parameters:,}, fp32 |
| tokenizer | byte-level BPE, 2,048 tokens; it restores any UTF-8 text unchanged |
| context | 512 tokens |
| turns | `<\\|system\\|>`, `<\\|user\\|>` or `<\\|assistant\\|>`, the text, `<\\|end\\|>` |

## Training

The model is trained from random weights with the training code of this repository (task `chat`,
update `full`):

    python -m examples.train_starter --stories tinystories_sample.txt --threads {threads}

{rows:,} conversations, {tokens:,} tokens per epoch, {epochs} epochs, {steps:,} steps of {batch} conversations, AdamW at
a peak rate of {rate:g}, {minutes:.0f} minutes on a machine with two cores that also ran other work.

| | loss per token (nats) | perplexity |
|---|---|---|
| training, running mean at the end | {train_loss:.3f} | {train_perplexity:.1f} |
| validation: {validation_rows} stories that training never saw | {valid_loss:.3f} | {valid_perplexity:.1f} |

Only the assistant's tokens count. The training loss includes the small talk, which every epoch
repeats; the validation loss does not.

## Data

- Conversations that `examples/starter_data.py` derives from the first 2 MiB of **TinyStories** (Ronen
  Eldan and Yuanzhi Li, 2023): about two thousand short stories written by GPT-3.5 and GPT-4, license
  **CDLA-Sharing-1.0**. One story becomes one conversation: a request for it, its beginning, what
  happened next, and how it ends. Questions between its characters become conversations too. The
  stories are not part of this repository.
- Small talk written for this project: `examples/data/starter_talk.jsonl`.

By our reading, that license puts no terms on what is computed from the data ("Results"), such as
these weights. The weights are under the repository's license.

## Capabilities and limits

- It greets, gives its name, and answers the simple questions of the small talk in words close to its
  training data.
- It starts stories about a child or an animal in mostly grammatical sentences. Most of them include
  the requested subject, but not all.
- With LoRA it learns a new name, a tone or a fixed form of answer from tens to hundreds of rows
  within a minute on a CPU. It learns the form sooner than the meaning.
- It has no knowledge of the world and cannot reason or count. It answers questions outside its
  training data with text from it or with made-up words.
- A story loses its thread, and sometimes its main character, after a few sentences.
- It knows English only.
- It has no safety training beyond its mild data. Do not offer it to users.

## Sample answers

Temperature 0, always the most likely token:

{greedy}

Temperature 0.7:

{sampled}
"""


@dataclass(frozen=True)
class TrainingSummary:
    """Events and metrics of a training run."""

    validated: Validated
    started: Started
    result: Result
    train_loss: float
    """Running mean at the end of training."""
    minutes: float


def render_card(summary: TrainingSummary, answers: dict[float, list[str]]) -> str:
    """Render the card. ``answers`` are the answers to ``QUESTIONS`` by temperature, 0 and 0.7."""
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
    """Render one quoted paragraph per question."""
    pairs = zip(QUESTIONS, answers, strict=True)
    return "\n>\n".join(f"> **{question}**\\\n> {' '.join(answer.split())}" for question, answer in pairs)
