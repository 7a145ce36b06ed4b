"""Registry of the tasks that models are trained for and serve.

A task is one file here and one line in ``TASKS``. The import does not load torch.
"""

from __future__ import annotations

from collections.abc import Mapping

from training.tasks.base import AnyTask
from training.tasks.chat import Chat
from training.tasks.completion import Completion
from training.tasks.embedding import Embedding
from training.tasks.image_classification import ImageClassification
from training.tasks.preference import ChatPreference
from training.tasks.question_answering import QuestionAnswering
from training.tasks.seq2seq import Seq2Seq
from training.tasks.text_classification import TextClassification
from training.tasks.text_regression import TextRegression
from training.tasks.token_classification import TokenClassification

TASKS: dict[str, AnyTask] = {
    task.name: task
    for task in (
        Chat(),
        Completion(),
        Seq2Seq(),
        TextClassification(),
        TextRegression(),
        TokenClassification(),
        QuestionAnswering(),
        Embedding(),
        ImageClassification(),
    )
}

TASKS_BY_METHOD: Mapping[str, Mapping[str, AnyTask]] = {"supervised": TASKS, "dpo": {Chat.name: ChatPreference()}}
"""Method -> task name -> task that trains it. Every method results in a model of that task."""
