"""The teacher `endpoint`: an OpenAI-compatible server.

Goes in: a base URL, a model's name, a key (from the environment, never from the command line or a
file). Comes out: a `Teacher`. What is asked leaves this machine, to the one host of the URL. Does
not know what it asks.

    >>> teacher = EndpointTeacher("http://127.0.0.1:8080/v1", "qwen2.5-7b-instruct")
"""

import json
import time

from subterra.compile.endpoint_http import Pause, RefusedError, Server
from subterra.compile.teachers import Kind, Reply
from subterra.runtime.errors import TeacherError

PATH = "/chat/completions"
REPLY_TOKENS = 1500
REFUSED_PARAMETER = (400, 422)
"""Statuses with which servers refuse a parameter that they do not take."""


class EndpointTeacher:
    """Writes by asking a server."""

    kind: Kind = "endpoint"

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: str | None = None,
        temperature: float = 0.9,
        timeout: float = 120.0,
        pause: Pause = time.sleep,
    ) -> None:
        """Prepare; nothing is sent yet.

        Raises:
            UsageError: see `endpoint_http.Server`.
        """
        address = url.rstrip("/").removesuffix(PATH) + PATH
        self.server = Server(address, key=key, timeout=timeout, pause=pause)
        self.model, self.host = model, self.server.host
        self._optional: dict[str, object] = {
            "temperature": temperature,
            "seed": 0,
            "max_tokens": REPLY_TOKENS,
        }

    def write(self, system: str, request: str, *, seed: int, lines: int) -> Reply:
        """Answer a request; see `teachers.Teacher.write`.

        The server ends its reply itself. An optional parameter that it does not take is left out
        from then on.
        """
        messages = [{"role": "system", "content": system}, {"role": "user", "content": request}]
        while True:
            if "seed" in self._optional:
                self._optional["seed"] = seed
            body = {"model": self.model, "messages": messages, **self._optional}
            try:
                return _reply(self.server.post(json.dumps(body).encode()), self.server.url)
            except RefusedError as error:
                told = error.said if error.status in REFUSED_PARAMETER else ""
                unknown = [name for name in self._optional if name in told]
                if not unknown:
                    raise TeacherError(str(error), hint=error.hint()) from None
                del self._optional[unknown[0]]

    def close(self) -> None:
        """Do nothing: each request has a connection of its own."""


def _reply(data: bytes, url: str) -> Reply:
    """Read the text of a chat completion.

    Raises:
        TeacherError: the answer is no chat completion.
    """
    try:
        choice = json.loads(data)["choices"][0]
        text, reason = choice["message"]["content"], choice.get("finish_reason")
        if not isinstance(text, str | None):
            raise TypeError(type(text))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise TeacherError(
            f"what {url} answers is no chat completion",
            hint="check --url: it should name an OpenAI-compatible server, as in .../v1",
        ) from None
    return Reply(text or "", cut=reason == "length")
