"""The teacher `endpoint` against a server that behaves, and one that does not."""

import itertools
import json
import socket
import time
import urllib.request
from typing import Any

import pytest

from subterra.compile import endpoint_http
from subterra.compile.endpoint_http import LONGEST_PAUSE, TRIES
from subterra.compile.teacher_endpoint import EndpointTeacher
from subterra.compile.teachers import Reply
from subterra.runtime.errors import TeacherError, UsageError

KEY = "sk-secret-1234567890"


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def teacher(fake_server: Any, pauses: list[float]) -> EndpointTeacher:
    return EndpointTeacher(fake_server.url, "big", key=KEY, timeout=5, pause=pauses.append)


def test_a_request_is_a_chat_completion_with_the_key_in_its_header(
    teacher: EndpointTeacher, fake_server: Any
) -> None:
    fake_server.says("1. works")
    assert teacher.write("Be brief.", "Ten, please.", seed=5, lines=9) == Reply("1. works")
    (request,), (headers,) = fake_server.requests, fake_server.headers
    assert request["path"] == "/v1/chat/completions"
    assert (request["model"], request["seed"], request["temperature"]) == ("big", 5, 0.9)
    assert [message["role"] for message in request["messages"]] == ["system", "user"]
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert KEY not in json.dumps(request)
    assert teacher.host == "127.0.0.1"


def test_without_a_key_no_header_names_one(fake_server: Any) -> None:
    fake_server.says("1. works")
    EndpointTeacher(fake_server.url + "/chat/completions", "big").write("", "", seed=0, lines=9)
    assert fake_server.requests[0]["path"] == "/v1/chat/completions"
    assert "Authorization" not in fake_server.headers[0]


def test_a_reply_that_was_cut_says_so(teacher: EndpointTeacher, fake_server: Any) -> None:
    fake_server.says("1. wor", finish="length")
    assert teacher.write("", "", seed=0, lines=9).cut


def test_a_busy_server_is_asked_again_after_the_pause_it_wants(
    teacher: EndpointTeacher, fake_server: Any, pauses: list[float]
) -> None:
    fake_server.fails(429, **{"Retry-After": "7"})
    fake_server.fails(503, **{"Retry-After": "100000"})
    fake_server.fails(429, **{"Retry-After": "Sun, 22 Nov 2026 00:00:00 GMT"})
    fake_server.says("1. works")
    assert teacher.write("", "", seed=0, lines=9).text == "1. works"
    assert pauses == [7, LONGEST_PAUSE, 4]


def test_a_failing_server_is_given_up_after_some_tries(
    teacher: EndpointTeacher, fake_server: Any, pauses: list[float]
) -> None:
    fake_server.fails(500, "the engine\n\x1b[31mis on fire " + "x" * 1000)
    with pytest.raises(TeacherError, match=r"127\.0\.0\.1 answers 500 .*on fire") as caught:
        teacher.write("", "", seed=0, lines=9)
    assert len(fake_server.requests) == TRIES
    assert pauses == [1, 2, 4, 8]
    assert len(str(caught.value)) < 300
    assert "\x1b" not in str(caught.value)


def test_a_dead_server_is_out_of_reach(pauses: list[float]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    teacher = EndpointTeacher(f"http://127.0.0.1:{port}/v1", "big", pause=pauses.append)
    with pytest.raises(TeacherError, match=r"127\.0\.0\.1 is out of reach: .*refused"):
        teacher.write("", "", seed=0, lines=9)
    assert len(pauses) == TRIES - 1


def test_a_server_that_hangs_up_is_out_of_reach(
    teacher: EndpointTeacher, fake_server: Any, pauses: list[float]
) -> None:
    fake_server.fails(200, "short", **{"Content-Length": "4000"})
    with pytest.raises(TeacherError, match=r"out of reach|no chat completion"):
        teacher.write("", "", seed=0, lines=9)


def test_a_server_that_answers_drop_by_drop_is_cut_off(
    teacher: EndpointTeacher, fake_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(0, 6)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    fake_server.says("1. works")
    with pytest.raises(TeacherError, match="no whole answer within 5 s"):
        teacher.write("", "", seed=0, lines=9)


@pytest.mark.parametrize(
    ("status", "hint"), [(401, "--key-env"), (403, "--key-env"), (404, "--url"), (418, "--model")]
)
def test_a_refusal_is_final_and_hides_the_key(
    teacher: EndpointTeacher, fake_server: Any, status: int, hint: str
) -> None:
    fake_server.fails(status, json.dumps({"error": {"message": f"Incorrect key {KEY}."}}))
    with pytest.raises(TeacherError) as caught:
        teacher.write("", "", seed=0, lines=9)
    assert len(fake_server.requests) == 1
    assert str(caught.value) == f"127.0.0.1 answers {status} Incorrect key [key]."
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "body", ['{"error": "no"}', '{"message": "no"}', "no", '{"error": {"message": "no"}}']
)
def test_a_servers_own_words_are_told_in_every_common_form(
    teacher: EndpointTeacher, fake_server: Any, body: str
) -> None:
    fake_server.fails(400, body)
    with pytest.raises(TeacherError, match=r"answers 400 no$"):
        teacher.write("", "", seed=0, lines=9)


def test_a_parameter_that_a_server_does_not_take_is_left_out_from_then_on(
    teacher: EndpointTeacher, fake_server: Any
) -> None:
    fake_server.fails(400, "Unsupported parameter: 'max_tokens'")
    fake_server.fails(422, "temperature is fixed for this model")
    fake_server.says("1. one", "1. two")
    assert teacher.write("", "", seed=0, lines=9).text == "1. one"
    assert teacher.write("", "", seed=1, lines=9).text == "1. two"
    assert len(fake_server.requests) == 4
    assert {"max_tokens", "temperature"}.isdisjoint(fake_server.requests[-1])
    assert fake_server.requests[-1]["seed"] == 1


def test_a_redirect_is_not_followed(teacher: EndpointTeacher, fake_server: Any) -> None:
    for status in (301, 302, 307, 308):
        fake_server.answers.clear()
        fake_server.fails(status, Location="http://elsewhere.invalid/v1/chat/completions")
        with pytest.raises(TeacherError, match=f"answers {status}") as caught:
            teacher.write("", "", seed=0, lines=9)
        assert "trust that host" in caught.value.hint


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<html>hello</html>",
        "[]",
        "{}",
        '{"choices": []}',
        '{"choices": [{"message": {}}]}',
        '{"choices": [{"message": {"content": ["1. works"]}}]}',
        '{"choices": ["1. works"]}',
        "[" * 100_000,
    ],
)
def test_nonsense_is_no_chat_completion(
    teacher: EndpointTeacher, fake_server: Any, body: str
) -> None:
    fake_server.fails(200, body)
    with pytest.raises(TeacherError, match="no chat completion"):
        teacher.write("", "", seed=0, lines=9)


def test_an_empty_message_is_an_empty_reply(teacher: EndpointTeacher, fake_server: Any) -> None:
    fake_server.fails(200, '{"choices": [{"message": {"content": null}}]}')
    assert teacher.write("", "", seed=0, lines=9) == Reply("")


def test_an_endless_answer_is_refused(
    teacher: EndpointTeacher, fake_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_http, "MAX_REPLY_BYTES", 100)
    fake_server.says("1. works " * 100)
    with pytest.raises(TeacherError, match="more than"):
        teacher.write("", "", seed=0, lines=9)


@pytest.mark.parametrize(
    "url",
    [
        "models.example/v1",
        "file:///etc/passwd",
        "ftp://models.example",
        "http://",
        "http://models.example:0/v1",
        "http://models.example:99999/v1",
        "http://[::1/v1",
        "https://models.example/a b",
        "https://mödels.example/v1",
        "https://models.example/v1\n",
        "https://me:key@models.example/v1",
        "https://models.example/v1?key=abc",
        "https://models.example/v1#abc",
    ],
)
def test_an_address_that_may_not_be_asked_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        EndpointTeacher(url, "big")


def test_a_key_goes_to_another_machine_only_encrypted() -> None:
    with pytest.raises(UsageError, match="unencrypted"):
        EndpointTeacher("http://models.example/v1", "big", key=KEY)
    assert not EndpointTeacher("http://models.example/v1", "big").server.private
    for url in ("https://models.example/v1", "http://localhost/v1", "http://[::1]:8080/v1"):
        assert EndpointTeacher(url, "big", key=KEY).server.private


def test_this_machine_is_asked_without_a_proxy(
    fake_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert urllib.request.getproxies()["http"]
    fake_server.says("1. works")
    start = time.monotonic()
    assert EndpointTeacher(fake_server.url, "big").write("", "", seed=0, lines=9).text == "1. works"
    assert time.monotonic() - start < 5
