"""Every command: its words, its options. The parser, the completion and the documentation read this."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier._sync.client import Luthier
from luthier.cli import commands
from luthier.cli.output import Output

CommandHandler = Callable[[Luthier, Namespace, Output], None]


@dataclass(frozen=True)
class Option:
    """An argument as ``argparse`` takes it."""

    name: str
    help: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class Command:
    name: str
    help: str
    run: CommandHandler
    options: tuple[Option, ...] = ()


def option(name: str, help: str, **settings: Any) -> Option:
    return Option(name, help, settings)


JOB_ARGUMENT = option("job", "id of a job")
FILE_ARGUMENT = option("file", "id of a file")
MODEL_ARGUMENT = option("model", "id of a model")
LIMIT_OPTION = option("--limit", "at most so many", type=int, default=20, metavar="N")
PURPOSES = ["fine-tune", "batch", "assistants", "vision", "user_data", "evals"]

COMMANDS = (
    Command(
        "files upload",
        "Upload a file; a large one in parts.",
        commands.upload_file,
        (
            option("path", "the file", type=Path),
            option("--purpose", "what it is for", choices=PURPOSES, default="fine-tune"),
            option("--expires-after", "how long it lives", type=int, metavar="SECONDS"),
        ),
    ),
    Command(
        "files list",
        "The project's files, the newest first.",
        commands.list_files,
        (option("--purpose", "only those for this", choices=PURPOSES), LIMIT_OPTION),
    ),
    Command(
        "files download",
        "Write a file's bytes, checked, to a path.",
        commands.download_file,
        (FILE_ARGUMENT, option("path", "a file or a folder", type=Path)),
    ),
    Command("files delete", "Delete a file.", commands.delete_file, (FILE_ARGUMENT,)),
    Command(
        "jobs create",
        "Train a model.",
        commands.create_job,
        (
            option("--model", "a base model, or a tuned one to go on from"),
            option("--training-file", "id of a file, or a path, which is uploaded first"),
            option("--validation-file", "rows to measure on; an id or a path"),
            option("--task", "what is learned; the base's first task by default"),
            option("--update", "lora, full, head, or a JSON object"),
            option("--method", "how to train", choices=["supervised", "dpo"]),
            option(
                "--set",
                "a hyperparameter, as n_epochs=3; many times",
                type=commands.parse_pair,
                action="append",
                metavar="N=V",
            ),
            option("--suffix", "part of the model's name"),
            option("--seed", "the same seed, data and machine give the same model", type=int),
            option(
                "--metadata",
                "yours to find the job by; many times",
                type=commands.parse_pair,
                action="append",
                metavar="N=V",
            ),
            option("--from-checkpoint", "JOB[:STEP] to go on from", metavar="CHECKPOINT"),
            option("--no-start", "validate the rows, then wait for `jobs start`", action="store_true"),
            option("--watch", "follow it to its end", action="store_true"),
        ),
    ),
    Command("jobs list", "The project's jobs, the newest first.", commands.list_jobs, (LIMIT_OPTION,)),
    Command("jobs show", "Everything about a job.", commands.show_job, (JOB_ARGUMENT,)),
    Command("jobs watch", "Follow a job to its end.", commands.watch_job, (JOB_ARGUMENT,)),
    Command("jobs cancel", "Cancel a job.", commands.build_job_action("cancel"), (JOB_ARGUMENT,)),
    Command("jobs pause", "Have a job save where it is and wait.", commands.build_job_action("pause"), (JOB_ARGUMENT,)),
    Command("jobs resume", "Let a paused job go on.", commands.build_job_action("resume"), (JOB_ARGUMENT,)),
    Command("jobs start", "Start a job made with --no-start.", commands.build_job_action("start"), (JOB_ARGUMENT,)),
    Command(
        "jobs logs",
        "What happened to a job, the newest last.",
        commands.show_job_logs,
        (JOB_ARGUMENT, option("--limit", "only the last so many", type=int, default=100, metavar="N")),
    ),
    Command(
        "jobs metrics",
        "What is measured, while it is, and the line of the loss.",
        commands.show_job_metrics,
        (JOB_ARGUMENT,),
    ),
    Command(
        "jobs checkpoints", "A job's checkpoints; each is a model.", commands.list_job_checkpoints, (JOB_ARGUMENT,)
    ),
    Command("models list", "Base models and the project's own.", commands.list_models),
    Command(
        "models download",
        "Write a model's weights, checked, to a path.",
        commands.download_model,
        (
            MODEL_ARGUMENT,
            option("path", "a file or a folder", type=Path, nargs="?", default=Path()),
            option(
                "--variant", "the trained part alone, or the whole", choices=["adapter", "merged"], default="adapter"
            ),
        ),
    ),
    Command("models delete", "Delete a finished model and its weights.", commands.delete_model, (MODEL_ARGUMENT,)),
    Command(
        "chat",
        "Talk to a model: one message, or line by line from standard input.",
        commands.chat,
        (
            MODEL_ARGUMENT,
            option("message", "what to say", nargs="*"),
            option("--system", "what the model is told first", metavar="TEXT"),
            option("--temperature", "0 answers the same every time", type=float, metavar="T"),
            option("--max-tokens", "the longest answer", type=int, metavar="N"),
        ),
    ),
    Command(
        "predict",
        "Ask a classifier and the like: texts, or a text a line from standard input.",
        commands.predict,
        (
            MODEL_ARGUMENT,
            option("input", "a text", nargs="*"),
            option("--top-k", "how many labels' scores", type=int, metavar="N"),
        ),
    ),
)
