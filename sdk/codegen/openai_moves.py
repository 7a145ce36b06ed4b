"""``docs/moving-from-openai.md``: the difference between two programs that both run."""

from __future__ import annotations

import difflib

from codegen.paths import REPOSITORY

BEFORE = REPOSITORY / "examples" / "moving" / "with_openai.py"
AFTER = REPOSITORY / "examples" / "moving" / "with_luthier.py"

_PAGE = """# Moving from OpenAI

Written by `make sdk`. A test runs both programs below against the API.

## Change nothing but the address

`examples/moving/with_openai.py` uploads a file, trains on it, waits and asks. It runs against OpenAI, and without a
change of a letter against Luthier:

```sh
export OPENAI_BASE_URL=http://127.0.0.1:8000/v1
export OPENAI_API_KEY=sk-luthier-…
python -m examples.moving.with_openai starter rows.jsonl "How are you?"
```

Where a program names the address itself: `OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="sk-luthier-…")`. The
operator may give base models the names that a program asks for, as aliases in `models.toml`. What Luthier has beyond
OpenAI goes into `extra_body={{"update": {{"type": "full"}}}}`; see [the wire](wire.md).

## What differs

- `status` has OpenAI's six words; a paused job is `queued`, and its `state` says `paused`.
- Files are checked when a job reads them; a job whose rows are wrong ends `failed`, its error naming the line.
- A field that neither documents is a 400 that names it; so is one whose effect would be missed.
- The limits are the operator's.

## Or take Luthier's client

It finds the server, uploads, repeats what failed, and waits:

```diff
{diff}```

Names for names:

| `openai` | `luthier` |
|---|---|
| `client.files.create(file=…, purpose="fine-tune")` | `client.files.upload(path)` |
| `client.uploads.upload_file_chunked(…)` | the same `client.files.upload(path)` |
| `client.fine_tuning.jobs.create(…, extra_body={{…}})` | `client.jobs.create(…)` with every field by its name |
| a loop around `jobs.retrieve` | `job.wait()` |
| `client.fine_tuning.jobs.list_events(id)` | `job.events()` |
| `client.fine_tuning.jobs.checkpoints.list(id)` | `job.checkpoints()` |
| `client.chat.completions.create(model=…, messages=…)` | `client.chat(model, messages)` |
| `client.embeddings.create(…)` | `client.embed(model, texts)` |
| `openai.BadRequestError` and its siblings | `luthier.BadRequestError` and its siblings, see [errors](errors.md) |
"""


def moving_page() -> str:
    before, after = (path.read_text().splitlines(keepends=True) for path in (BEFORE, AFTER))
    return _PAGE.format(diff="".join(difflib.unified_diff(before, after, BEFORE.name, AFTER.name)))
