"""Implementation of each command."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from luthier._display import Quiet, choose_display, format_sparkline
from luthier._sync.client import Luthier
from luthier._sync.job import Job
from luthier.cli.output import Output


def upload_file(client: Luthier, args: Namespace, out: Output) -> None:
    progress = out.create_progress_callback(args.path.name)
    file = client.files.upload(args.path, args.purpose, expires_after=args.expires_after, progress=progress)
    out.print_item(file, file.id)


def list_files(client: Luthier, args: Namespace, out: Output) -> None:
    out.print_table(islice(client.files.list(purpose=args.purpose), args.limit), ("id", "bytes", "purpose", "filename"))


def download_file(client: Luthier, args: Namespace, out: Output) -> None:
    path = client.files.download(args.file, args.path)
    out.print_item({"path": str(path)}, str(path))


def delete_file(client: Luthier, args: Namespace, out: Output) -> None:
    client.files.delete(args.file)
    out.print_item({"id": args.file, "deleted": True}, f"{args.file} deleted")


def create_job(client: Luthier, args: Namespace, out: Output) -> None:
    names = ("model", "task", "suffix", "seed", "from_checkpoint")
    fields: dict[str, Any] = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    for name in ("training_file", "validation_file"):
        if getattr(args, name) is not None:
            fields[name] = _resolve_file(client, getattr(args, name), out)
    if args.update is not None:
        fields["update"] = _parse_update(args.update)
    if args.set:
        method = args.method or "supervised"
        fields["method"] = {"type": method, method: {"hyperparameters": dict(args.set)}}
    elif args.method:
        fields["method"] = {"type": args.method}
    if args.metadata:
        fields["metadata"] = {name: str(value) for name, value in args.metadata}
    if args.no_start:
        fields["auto_start"] = False
    job = client.jobs.create(**fields)
    if args.watch:
        _wait_for_job(job, out)
    else:
        out.print_item(job, job.id)


def list_jobs(client: Luthier, args: Namespace, out: Output) -> None:
    out.print_table(islice(client.jobs.list(), args.limit), ("id", "state", "model", "task", "fine_tuned_model"))


def show_job(client: Luthier, args: Namespace, out: Output) -> None:
    job = client.jobs.retrieve(args.job)
    fields = {name: value for name, value in job.to_dict().items() if value is not None}
    out.print_item(job, "\n".join(f"{name}: {value}" for name, value in fields.items()))


def watch_job(client: Luthier, args: Namespace, out: Output) -> None:
    _wait_for_job(client.jobs.retrieve(args.job), out)


def build_job_action(action: str) -> Callable[[Luthier, Namespace, Output], None]:
    """Build a command that calls an action of a job."""

    def run(client: Luthier, args: Namespace, out: Output) -> None:
        job: Job = getattr(client.jobs, action)(args.job)
        out.print_item(job, f"{job.id} {job.state}")

    return run


def show_job_logs(client: Luthier, args: Namespace, out: Output) -> None:
    newest = list(islice(client.jobs.events(args.job), args.limit))
    for event in reversed(newest):
        out.print_item(event, f"{event.created_at} {event.level:5} {event.message}")


def show_job_metrics(client: Luthier, args: Namespace, out: Output) -> None:
    losses = []
    for metrics in client.jobs.stream_metrics(args.job):
        text = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items() if isinstance(value, int | float))
        out.print_item(metrics, text)
        if metrics.get("train_loss") is not None:
            losses.append(metrics["train_loss"])
    if losses and not out.as_json:
        print(f"loss {losses[0]:.3f} {format_sparkline(losses)} {losses[-1]:.3f}")


def list_job_checkpoints(client: Luthier, args: Namespace, out: Output) -> None:
    out.print_table(client.jobs.checkpoints(args.job), ("id", "step_number", "fine_tuned_model_checkpoint"))


def list_models(client: Luthier, args: Namespace, out: Output) -> None:
    out.print_table(client.models.list(), ("id", "tasks", "base_model", "update", "available"))


def download_model(client: Luthier, args: Namespace, out: Output) -> None:
    path = client.models.download(args.model, args.path, args.variant)
    out.print_item({"path": str(path)}, str(path))


def delete_model(client: Luthier, args: Namespace, out: Output) -> None:
    client.models.delete(args.model)
    out.print_item({"id": args.model, "deleted": True}, f"{args.model} deleted")


def chat(client: Luthier, args: Namespace, out: Output) -> None:
    history: list[dict[str, str]] = [{"role": "system", "content": args.system}] if args.system else []
    names = ("temperature", "max_tokens")
    options = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    for prompt in [" ".join(args.message)] if args.message else _read_messages():
        history.append({"role": "user", "content": prompt})
        if out.as_json:
            completion = client.chat(args.model, history, **options)
            out.print_item(completion, "")
            history.append({"role": "assistant", "content": completion.choices[0].message.content or ""})
            continue
        answer = ""
        for text in client.chat_stream(args.model, history, **options):
            answer += text
            print(text, end="", flush=True)
        print()
        history.append({"role": "assistant", "content": answer})


def predict(client: Luthier, args: Namespace, out: Output) -> None:
    inputs = args.input or [line.rstrip("\n") for line in sys.stdin]
    predictions = client.predict(args.model, inputs, top_k=args.top_k)
    for text, prediction in zip(inputs, predictions, strict=True):
        fields = {name: value for name, value in prediction.items() if name != "index"}
        out.print_item(prediction, f"{text}\t{json.dumps(fields, ensure_ascii=False)}")


def _wait_for_job(job: Job, out: Output) -> None:
    job.wait(display=Quiet() if out.as_json else choose_display())
    out.print_item(job, f"{job.id} {job.status}: {job.fine_tuned_model}")


def _resolve_file(client: Luthier, id_or_path: str, out: Output) -> str:
    """Return the id of a file given by id or by a local path, which is uploaded."""
    path = Path(id_or_path)
    return (
        client.files.upload(path, progress=out.create_progress_callback(path.name)).id if path.exists() else id_or_path
    )


def _parse_update(text: str) -> dict[str, Any]:
    """Parse an update: a type such as ``lora``, or a JSON object."""
    update: dict[str, Any] = json.loads(text) if text.startswith("{") else {"type": text}
    return update


def _read_messages() -> Iterator[str]:
    """Yield non-empty lines of stdin, with a prompt on a terminal."""
    while True:
        if sys.stdin.isatty():
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


def parse_pair(text: str) -> tuple[str, Any]:
    """Parse ``name=value``. The value is parsed as JSON if possible. Raises ``ValueError``."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ValueError(text)
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
