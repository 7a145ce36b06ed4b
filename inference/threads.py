"""Threads of the engine, in one pool per kind of blocking work."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields

from storage.threads import ThreadPool

FETCH_THREADS = 4
"""Models that are fetched at the same time: they wait for the blob store."""
LOAD_THREADS = 2
"""Models that are loaded at the same time: each needs memory for its weights twice."""


def _count_compute_threads() -> int:
    return max(2, os.cpu_count() or 1)


@dataclass(frozen=True)
class ThreadPools:
    """Work of one kind waits only for work of the same kind.

    A chat on a loaded model needs a thread of ``tokenize``, so that models that are slow to fetch,
    verify or load do not delay it.
    """

    tokenize: ThreadPool = field(default_factory=lambda: ThreadPool("tokenize", _count_compute_threads()))
    """Prompts: templates, tokens, grammars."""
    forward: ThreadPool = field(default_factory=lambda: ThreadPool("forward", _count_compute_threads()))
    """Forward passes outside of the scheduler: predictions, embeddings, logprobs of prompts."""
    fetch: ThreadPool = field(default_factory=lambda: ThreadPool("fetch", FETCH_THREADS))
    """Download and verification of results."""
    load: ThreadPool = field(default_factory=lambda: ThreadPool("load", LOAD_THREADS))
    """Loading and unloading of weights, and work on local files that belongs to it."""
    export: ThreadPool = field(default_factory=lambda: ThreadPool("export", 1))
    """Merge and upload of weights."""

    def close(self) -> None:
        for pool in fields(self):
            getattr(self, pool.name).close()
