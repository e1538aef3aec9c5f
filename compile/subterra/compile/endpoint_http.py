"""One server, asked over HTTP: with pauses when it is busy, within limits, and nobody else.

Goes in: a URL, a key, a body. Comes out: the answer's bytes. A busy or failing server (429, 5xx, no
answer) is asked again after a pause; a redirect is not followed, since it may lead to a host that
nobody agreed to. The key is in no error. Does not know what is asked.

    >>> Server("http://127.0.0.1:8080/v1/chat/completions").post(b"{}")
"""

import ipaddress
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, HTTPMessage
from typing import IO
from urllib.parse import SplitResult, urlsplit

from subterra.runtime.errors import TeacherError, UsageError

TRIES = 5
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds; each pause is twice the one before, or what the server asks for."""
MAX_REPLY_BYTES = 4 << 20
"""A reply of ten lines has a few KiB."""
TOLD_CHARACTERS = 200
"""Of a server's own words in an error."""
URL_HINT = "--url http://127.0.0.1:8080/v1"
HINTS = {
    401: "set the variable that --key-env names to a valid key",
    403: "set the variable that --key-env names to a key that may use this model",
    404: "check --url, which often ends in /v1, and --model",
}
"""Next step by status."""

Pause = Callable[[float], None]


class RefusedError(Exception):
    """The server answered that it will not do this; asking again would not help."""

    def __init__(self, host: str, status: int, said: str) -> None:
        super().__init__(f"{host} answers {status} {said}".rstrip())
        self.status, self.said = status, said

    def hint(self) -> str:
        """Say what to do next."""
        if self.status < 400:
            return "give the address that it redirects to as --url, if you trust that host"
        return HINTS.get(self.status, "check --url and --model")


class Server:
    """Where requests go."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout: float = 120.0,
        pause: Pause = time.sleep,
    ) -> None:
        """Prepare; nothing is sent yet.

        Raises:
            UsageError: the URL is none that may be asked, or the key would be readable on the way.
        """
        parts = _checked(url)
        self.url, self.host = url, parts.hostname or ""
        here = _is_loopback(self.host)
        self.private = parts.scheme == "https" or here
        """Nobody on the way can read what is asked."""
        if key is not None and not self.private:
            raise UsageError(
                f"the key would go to {self.host} unencrypted", hint="give an https:// address"
            )
        self._key, self._timeout, self._pause = key, timeout, pause
        proxies = [urllib.request.ProxyHandler({})] if here else []
        self._opener = urllib.request.build_opener(_NoRedirect, *proxies)

    def post(self, body: bytes) -> bytes:
        """Send a JSON body, again if need be; return the answer.

        Raises:
            RefusedError: the server will not do this.
            TeacherError: it failed `TRIES` times, is not who it says, or answers without end.
        """
        wait, what = FIRST_PAUSE, ""
        for left in reversed(range(TRIES)):
            asked = 0.0
            try:
                return self._sent(body)
            except urllib.error.HTTPError as error:
                with error:
                    said = self._told(error)
                if error.code != 429 and error.code < 500:
                    raise RefusedError(self.host, error.code, said) from None
                asked = _seconds(error.headers.get("Retry-After"))
                what = f"{self.host} answers {error.code} {said}".rstrip()
            except (OSError, HTTPException) as error:
                reason = getattr(error, "reason", error)
                said = self._clean(str(reason)) or type(error).__name__
                what = f"{self.host} is out of reach: {said}"
                if isinstance(reason, ssl.SSLCertVerificationError):
                    break
            if left:
                self._pause(min(max(wait, asked), LONGEST_PAUSE))
                wait *= 2
        raise TeacherError(what, hint="check --url and the server")

    def _sent(self, body: bytes) -> bytes:
        request = urllib.request.Request(self.url, data=body, method="POST")  # noqa: S310 - checked
        request.add_header("Content-Type", "application/json")
        request.add_header("User-Agent", "subterra")
        if self._key is not None:
            request.add_header("Authorization", f"Bearer {self._key}")
        until = time.monotonic() + self._timeout
        answer = bytearray()
        with self._opener.open(request, timeout=self._timeout) as response:
            while part := response.read1(1 << 16):
                answer += part
                if time.monotonic() > until:
                    raise TimeoutError(f"no whole answer within {self._timeout:g} s")
                if len(answer) > MAX_REPLY_BYTES:
                    raise TeacherError(
                        f"{self.host} answers with more than {MAX_REPLY_BYTES >> 20} MiB",
                        hint="check --url: it should name an OpenAI-compatible server",
                    )
        return bytes(answer)

    def _told(self, error: urllib.error.HTTPError) -> str:
        """Give a server's own words."""
        try:
            raw = error.read(MAX_REPLY_BYTES).decode("utf-8", "replace")
            document = json.loads(raw)
        except (OSError, HTTPException):
            return ""
        except (ValueError, RecursionError):
            return self._clean(raw)
        inner = document.get("error", document) if isinstance(document, dict) else document
        return self._clean(str(inner.get("message", inner) if isinstance(inner, dict) else inner))

    def _clean(self, text: str) -> str:
        """Put a server's words on one short line, without the key that some echo."""
        if self._key:
            text = text.replace(self._key, "[key]")
        plain = "".join(c if c.isprintable() else " " for c in text)
        return " ".join(plain.split())[:TOLD_CHARACTERS]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        """Make no request; the answer is then an error."""


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        wrong = not parts.hostname or parts.scheme not in ("http", "https") or parts.port == 0
    except ValueError as error:
        raise UsageError(f"--url {url!r} is no address: {error}", hint=URL_HINT) from None
    if parts.username is not None or parts.password is not None:
        raise UsageError("--url holds a user or a key", hint=f"{URL_HINT} --key-env VARIABLE")
    if parts.query or parts.fragment:
        raise UsageError("--url holds a query or fragment", hint=f"{URL_HINT} --key-env VARIABLE")
    if wrong or not url.isascii() or not url.isprintable() or " " in url:
        raise UsageError(f"--url {url!r} is no http:// or https:// address", hint=URL_HINT)
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _seconds(text: str | None) -> float:
    """Read `Retry-After` in seconds; a date counts as no wish."""
    return float(text) if text and text.isascii() and text.isdigit() else 0.0
