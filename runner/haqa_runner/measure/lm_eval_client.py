"""lm-eval's client of an OpenAI-compatible engine, with an eye on prompts that are too long for it.

Imported where tasks are evaluated and nowhere else: importing lm-eval takes as long as many a load test.
"""

from __future__ import annotations

from typing import Any

from lm_eval.models.openai_completions import LocalCompletionsAPI

from haqa_runner.measure.cut_prompts import CutPrompts


class WatchfulCompletions(LocalCompletionsAPI):  # type: ignore[misc, unused-ignore]
    """`local-completions`; `cut_prompts` says afterwards what was cut."""

    def __init__(self, *, max_length: int, **options: Any) -> None:
        super().__init__(max_length=max_length, **options)
        self.cut_prompts = CutPrompts(max_length)

    def loglikelihood(self, requests: Any, **options: Any) -> Any:
        for request in requests:
            context, continuation = request.args
            self._note(request, context + continuation, self.max_length)
        return super().loglikelihood(requests, **options)

    def generate_until(self, requests: Any, **options: Any) -> Any:
        for request in requests:
            context, settings = request.args
            self._note(request, context, self.max_length - settings.get("max_gen_toks", self._max_gen_toks))
        return super().generate_until(requests, **options)

    def _note(self, request: Any, prompt: str, room: int) -> None:
        self.cut_prompts.asked(request.task_name, request.doc_id, prompt, room, self._count)

    def _count(self, text: str) -> int:
        return len(self.tok_encode(text))
