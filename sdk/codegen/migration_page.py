"""Migration guide ``docs/moving-from-openai.md``, with the diff between two programs that a test
runs.
"""

from __future__ import annotations

import difflib

from codegen.paths import REPOSITORY

OPENAI_PROGRAM = REPOSITORY / "examples" / "moving" / "with_openai.py"
LUTHIER_PROGRAM = REPOSITORY / "examples" / "moving" / "with_luthier.py"

_PAGE = """# Moving from OpenAI

Written by `make sdk`. A test runs both programs on this page against the API.

## Change the base URL

`examples/moving/with_openai.py` uploads a file, trains on it, waits, and calls the model. The same
program runs against OpenAI and against Luthier:

```sh
export OPENAI_BASE_URL=http://127.0.0.1:8000/v1
export OPENAI_API_KEY=sk-luthier-…
python -m examples.moving.with_openai starter rows.jsonl "How are you?"
```

- A program can also set both in code: `OpenAI(base_url="http://127.0.0.1:8000/v1",
  api_key="sk-luthier-…")`.
- The operator can give base models the names that a program uses, as aliases in `models.toml`.
- Luthier's own fields go into `extra_body={{"update": {{"type": "full"}}}}`. See
  [Additions to OpenAI's API](wire.md).

## Differences

- `status` has OpenAI's six words. A paused job has the `status` `queued` and the `state` `paused`.
- Files are validated when a job reads them. A job with invalid rows ends `failed`, and its error
  names the line.
- A field that neither OpenAI nor Luthier documents is a 400 that names it. So is a documented field
  that Luthier does not support, if ignoring it would change the result.
- The operator sets the limits.

## Use Luthier's client

Luthier's client finds the server, uploads the file, retries failed requests, and waits for the job:

```diff
{diff}```

| `openai` | `luthier` |
|---|---|
| `client.files.create(file=…, purpose="fine-tune")` | `client.files.upload(path)` |
| `client.uploads.upload_file_chunked(…)` | the same `client.files.upload(path)` |
| `client.fine_tuning.jobs.create(…, extra_body={{…}})` | `client.jobs.create(…)`; every field is a parameter |
| a loop around `jobs.retrieve` | `job.wait()` |
| `client.fine_tuning.jobs.list_events(id)` | `job.events()` |
| `client.fine_tuning.jobs.checkpoints.list(id)` | `job.checkpoints()` |
| `client.chat.completions.create(model=…, messages=…)` | `client.chat(model, messages)` |
| `client.embeddings.create(…)` | `client.embed(model, texts)` |
| `openai.BadRequestError` and its siblings | `luthier.BadRequestError` and its siblings; see [Errors](errors.md) |
"""


def render_migration_page() -> str:
    before, after = (path.read_text().splitlines(keepends=True) for path in (OPENAI_PROGRAM, LUTHIER_PROGRAM))
    return _PAGE.format(diff="".join(difflib.unified_diff(before, after, OPENAI_PROGRAM.name, LUTHIER_PROGRAM.name)))
