"""The official client of OpenAI, unchanged, speaks to a member's own daemon."""

from __future__ import annotations

import httpx
import openai
import pytest

from tests.api.fakenode import BIG_MODEL, MODEL, ROUTE, WORDS, Daemon, raw

QUESTION = [{"role": "user", "content": "Why do bees matter?"}]


@pytest.fixture
def client(daemon: Daemon):
    transport = httpx.HTTPTransport(uds=str(daemon.home.socket), verify=False)
    with openai.OpenAI(
        api_key="none",
        base_url="http://permesh/v1",
        max_retries=0,
        timeout=10,
        http_client=httpx.Client(transport=transport),
    ) as client:
        yield client


def ask(client: openai.OpenAI, **more):
    return client.chat.completions.create(model=MODEL, messages=QUESTION, **more)


def test_models_are_those_that_can_be_asked(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL, BIG_MODEL]
    assert client.models.retrieve(BIG_MODEL).owned_by == "permesh"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("nowhere")
    assert caught.value.code == "model_not_found"


def test_a_whole_answer_has_usage_and_its_route(client: openai.OpenAI) -> None:
    answer = ask(client)
    assert answer.choices[0].message.content == "".join(WORDS)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens == 7
    assert answer.usage.completion_tokens == 5
    assert answer.usage.total_tokens == 12
    assert answer.permesh == ROUTE.model_dump()


def test_a_streamed_answer_comes_word_by_word(client: openai.OpenAI) -> None:
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert [text for text in texts if text] == list(WORDS)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len({chunk.id for chunk in chunks}) == 1
    *_, last, usage = chunks
    assert last.choices[0].finish_reason == "stop"
    assert last.permesh == ROUTE.model_dump()
    assert usage.choices == []
    assert usage.usage.total_tokens == 12


def test_a_stream_without_usage_ends_with_the_finish_reason(client: openai.OpenAI) -> None:
    chunks = list(ask(client, stream=True, max_tokens=2))
    assert chunks[-1].choices[0].finish_reason == "length"
    assert all(chunk.usage is None for chunk in chunks)


def test_every_parameter_reaches_the_node(client: openai.OpenAI, daemon: Daemon) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": parts},
            {"role": "assistant", "content": "three"},
            {"role": "user", "content": "four"},
        ],
        max_tokens=9,
        max_completion_tokens=3,
        temperature=0.7,
        top_p=0.9,
        seed=-5,
        stop=["\n", "END"],
        user="me",
        n=1,
        extra_body={"permesh_route": "mesh"},
    )  # fmt: skip
    asked = daemon.node.asked[-1]
    assert [(message.role, message.content) for message in asked.messages] == [
        ("system", "Be brief."), ("user", "one\ntwo"), ("assistant", "three"), ("user", "four"),
    ]  # fmt: skip
    assert (asked.max_tokens, asked.temperature, asked.top_p) == (3, 0.7, 0.9)
    assert (asked.seed, asked.stop, asked.route) == (-5, ("\n", "END"), "mesh")


def test_what_is_not_said_is_greedy_and_unlimited(client: openai.OpenAI, daemon: Daemon) -> None:
    ask(client, stop="END")
    asked = daemon.node.asked[-1]
    assert (asked.max_tokens, asked.temperature, asked.top_p, asked.seed) == (0, 0.0, 1.0, None)
    assert (asked.stop, asked.route) == (("END",), "auto")


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"extra_body": {"top_k": 40}}, "top_k"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(client, extra, param) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, **extra)
    assert caught.value.code == "unsupported_parameter"
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        ({"temperature": 2.5}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"seed": "many"}, "seed"),
        ({"extra_body": {"permesh_route": "moon"}}, "permesh_route"),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(client, extra, param) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, **extra)
    assert caught.value.code == "request.invalid"
    assert caught.value.param.startswith(param)


def test_an_image_is_refused(client: openai.OpenAI) -> None:
    image = [{"type": "image_url", "image_url": {"url": "data:,"}}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": image}])
    assert caught.value.code == "unsupported_parameter"


@pytest.mark.parametrize("stream", [True, False])
def test_an_unknown_model_is_not_found_before_anything_streams(client, stream) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-9", messages=QUESTION, stream=stream)
    assert caught.value.code == "model_not_found"
    assert caught.value.param == "model"
    assert "permesh model fetch" in caught.value.message


def test_a_stage_lost_in_mid_answer_is_an_api_error(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "break"}], stream=True
    )
    heard = []
    with pytest.raises(openai.APIError) as caught:
        heard.extend(chunk.choices[0].delta.content for chunk in stream)
    assert heard == ["", "Bees ", "carry "]
    assert caught.value.code == "stage.lost"
    assert caught.value.message == "AGT-0002 went away. Ask again."


def test_a_stage_lost_in_a_whole_answer_is_a_server_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "break"}])
    assert caught.value.code == "stage.lost"


def test_a_reader_that_leaves_ends_the_answer_at_once(
    client: openai.OpenAI, daemon: Daemon
) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "endless"}], stream=True
    )
    next(stream)
    assert daemon.node.answering == 1
    stream.close()
    daemon.run(daemon.node.until, lambda: daemon.node.answering == 0)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_gives_up_waiting_ends_the_answer(daemon: Daemon, stream: bool) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "silence"}], "stream": stream}
    with raw(daemon) as http:
        http.get("/v1/models")  # the first request of all takes longer
        with pytest.raises(httpx.ReadTimeout):
            http.post("/v1/chat/completions", json=body, timeout=1)
    assert len(daemon.node.asked) == 1
    daemon.run(daemon.node.until, lambda: daemon.node.answering == 0)
