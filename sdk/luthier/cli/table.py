"""Table of commands and their options, read by the parser, the completion and the documentation."""

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
    """Argument for ``argparse``."""

    name: str
    help: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class Command:
    """Command, its handler and its options."""

    name: str
    help: str
    run: CommandHandler
    options: tuple[Option, ...] = ()


def option(name: str, help: str, **settings: Any) -> Option:
    return Option(name, help, settings)


JOB_ARGUMENT = option("job", "id of a job")
FILE_ARGUMENT = option("file", "id of a file")
MODEL_ARGUMENT = option("model", "id of a model")
LIMIT_OPTION = option("--limit", "maximum number of results", type=int, default=20, metavar="N")
PURPOSES = ["fine-tune", "batch", "assistants", "vision", "user_data", "evals"]

COMMANDS = (
    Command(
        "files upload",
        "Upload a file. A large file is sent in parts.",
        commands.upload_file,
        (
            option("path", "path of the file", type=Path),
            option("--purpose", "purpose of the file", choices=PURPOSES, default="fine-tune"),
            option("--expires-after", "time until the server deletes the file", type=int, metavar="SECONDS"),
        ),
    ),
    Command(
        "files list",
        "List the project's files, newest first.",
        commands.list_files,
        (option("--purpose", "list only files with this purpose", choices=PURPOSES), LIMIT_OPTION),
    ),
    Command(
        "files download",
        "Download a file and verify its bytes.",
        commands.download_file,
        (FILE_ARGUMENT, option("path", "target file or folder", type=Path)),
    ),
    Command("files delete", "Delete a file.", commands.delete_file, (FILE_ARGUMENT,)),
    Command(
        "jobs create",
        "Create a job that trains a model.",
        commands.create_job,
        (
            option("--model", "base model, or a fine-tuned model to continue from"),
            option("--training-file", "rows to train on: a file id, or a path to upload"),
            option("--validation-file", "rows for validation metrics: a file id, or a path to upload"),
            option("--task", "task to train (default: the base model's first task)"),
            option("--update", "parameters to train: `lora`, `full`, `head`, or a JSON object"),
            option("--method", "training method", choices=["supervised", "dpo"]),
            option(
                "--set",
                "hyperparameter, such as `n_epochs=3`; may be repeated",
                type=commands.parse_pair,
                action="append",
                metavar="N=V",
            ),
            option("--suffix", "part of the fine-tuned model's name"),
            option("--seed", "seed; the same seed, data and machine give the same model", type=int),
            option(
                "--metadata",
                "your own key-value pair, to find the job by; may be repeated",
                type=commands.parse_pair,
                action="append",
                metavar="N=V",
            ),
            option("--from-checkpoint", "checkpoint to continue from: `JOB[:STEP]`", metavar="CHECKPOINT"),
            option("--no-start", "validate the rows, then wait for `luthier jobs start`", action="store_true"),
            option("--watch", "show progress until the job ends", action="store_true"),
        ),
    ),
    Command("jobs list", "List the project's jobs, newest first.", commands.list_jobs, (LIMIT_OPTION,)),
    Command("jobs show", "Show all fields of a job.", commands.show_job, (JOB_ARGUMENT,)),
    Command("jobs watch", "Show the progress of a job until it ends.", commands.watch_job, (JOB_ARGUMENT,)),
    Command("jobs cancel", "Cancel a job.", commands.build_job_action("cancel"), (JOB_ARGUMENT,)),
    Command(
        "jobs pause",
        "Pause a job. A running job saves a checkpoint first.",
        commands.build_job_action("pause"),
        (JOB_ARGUMENT,),
    ),
    Command("jobs resume", "Resume a paused job.", commands.build_job_action("resume"), (JOB_ARGUMENT,)),
    Command(
        "jobs start", "Start a job created with `--no-start`.", commands.build_job_action("start"), (JOB_ARGUMENT,)
    ),
    Command(
        "jobs logs",
        "Show a job's events, newest last.",
        commands.show_job_logs,
        (JOB_ARGUMENT, option("--limit", "maximum number of events", type=int, default=100, metavar="N")),
    ),
    Command(
        "jobs metrics",
        "Stream a job's metrics until it ends, then show a sparkline of the loss.",
        commands.show_job_metrics,
        (JOB_ARGUMENT,),
    ),
    Command(
        "jobs checkpoints",
        "List a job's checkpoints. Each is a model that can be used in requests.",
        commands.list_job_checkpoints,
        (JOB_ARGUMENT,),
    ),
    Command("models list", "List base models and the project's fine-tuned models.", commands.list_models),
    Command(
        "models download",
        "Download a model's weights and verify them.",
        commands.download_model,
        (
            MODEL_ARGUMENT,
            option("path", "target file or folder (default: the current folder)", type=Path, nargs="?", default=Path()),
            option(
                "--variant",
                "adapter alone, or merged into the base model",
                choices=["adapter", "merged"],
                default="adapter",
            ),
        ),
    ),
    Command("models delete", "Delete a fine-tuned model and its weights.", commands.delete_model, (MODEL_ARGUMENT,)),
    Command(
        "chat",
        "Chat with a model: one message, or one per line from standard input.",
        commands.chat,
        (
            MODEL_ARGUMENT,
            option("message", "message to send", nargs="*"),
            option("--system", "system message", metavar="TEXT"),
            option("--temperature", "sampling temperature; 0 always gives the same answer", type=float, metavar="T"),
            option("--max-tokens", "maximum number of tokens in the answer", type=int, metavar="N"),
        ),
    ),
    Command(
        "predict",
        "Get predictions, for example from a classifier, for texts or for lines from standard input.",
        commands.predict,
        (
            MODEL_ARGUMENT,
            option("input", "text to predict on", nargs="*"),
            option("--top-k", "number of labels with scores", type=int, metavar="N"),
        ),
    ),
)
