"""OpenAI's Python client against the server at OPENAI_BASE_URL: every answer validated against the client's own types.

The model is synthetic and its words are noise.  `logit_bias` makes it write Harmony: among a few tokens that all weigh
the same, the seed decides, and a seed whose answer begins as it should is looked for.
"""

import asyncio
import json
import time
import typing
import urllib.request

import openai
import pydantic

MODEL = "tiny"
# Harmony's control tokens, and words.
CHANNEL, MESSAGE, CALL = 200005, 200008, 200012
# `analysis`, `final`, `hello`, and what calls begin with: `comment`, ` to`.
ANALYSIS, FINAL, HELLO, COMMENT, TO = 35644, 17196, 24912, 12606, 316
# Few answers, so that a model that knows nothing finishes one.
FUNCTION = {
    "name": "get_weather",
    "description": "Tells the weather.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Oslo", "Paris"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


class Visit(pydantic.BaseModel):
    """What an answer must be."""

    city: typing.Literal["Oslo", "Paris"]
    days: typing.Literal[1, 2, 3]


# Few tokens to draw from: the last bits of the logits, which differ with what else runs, then choose nothing.
FEW = {"top_k": 8}
ASKED = [{"role": "user", "content": "Hello"}]

# Strict: an answer that is not of the declared types raises.
client = openai.OpenAI(_strict_response_validation=True, max_retries=0, timeout=120)
# Its type of a text completion demands a reason to finish in every chunk; OpenAI's own chunks have none but the last.
lenient = openai.OpenAI(max_retries=0, timeout=120)


def bias(*tokens):
    return {str(token): 100 for token in tokens}


def chat(**more):
    return client.chat.completions.create(model=MODEL, messages=more.pop("messages", ASKED), **more)


def expect(condition, what):
    if not condition:
        raise AssertionError(what)


def raised(kind, ask):
    try:
        ask()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def seed_for(is_right, **fields):
    """The first seed with which the model's answer is as wanted."""
    for seed in range(100):
        if is_right(chat(seed=seed, **fields)):
            return seed
    raise AssertionError("no seed gives such an answer")


def is_plain(answer):
    """Whether it is a message with words in it, and no words in its header."""
    choice = answer.choices[0]
    codes = [warning["code"] for warning in getattr(choice, "warnings", [])]
    return "hello" in (choice.message.content or "") and "call-not-allowed" not in codes


def models():
    expect([model.id for model in client.models.list()] == [MODEL], "one model is listed")
    expect(client.models.retrieve(MODEL).object == "model", "it can be retrieved")


def chats():
    fields = dict(max_tokens=12, logit_bias=bias(MESSAGE, HELLO))
    fields["seed"] = seed_for(is_plain, **fields)
    whole = chat(logprobs=True, top_logprobs=2, **fields)
    choice, usage = whole.choices[0], whole.usage
    expect(choice.finish_reason == "length" and usage.completion_tokens == 12, whole)
    expect(usage.total_tokens == usage.prompt_tokens + 12, usage)
    expect(all(len(entry.top_logprobs) == 2 for entry in choice.logprobs.content), choice.logprobs)
    chunks = list(chat(stream=True, stream_options={"include_usage": True}, **fields))
    deltas = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    expect(sum(map(bool, deltas)) > 1, "text comes piece by piece")
    expect("".join(deltas) == choice.message.content, "the stream says what the whole says")
    expect(chunks[-1].usage.completion_tokens == 12, chunks[-1])
    stopped = chat(stop=["hello"], **fields).choices[0]
    expect("hello" not in stopped.message.content and stopped.finish_reason == "stop", stopped)


def reasoning():
    # Warm enough that the model does not say one word for ever.
    fields = dict(max_tokens=12, temperature=2, logit_bias=bias(CHANNEL, ANALYSIS, MESSAGE))
    fields["seed"] = seed_for(lambda answer: answer.usage.completion_tokens_details.reasoning_tokens > 1, **fields)
    whole = chat(**fields)
    chunks = list(chat(stream=True, **fields))
    thoughts = [getattr(chunk.choices[0].delta, "reasoning_content", None) for chunk in chunks]
    thought = "".join(filter(None, thoughts))
    expect(thought and thought == whole.choices[0].message.reasoning_content, thoughts)
    # The same question to the other API has the same prompt, and so the same answer.
    extra = {"seed": fields["seed"], "logit_bias": fields["logit_bias"]}
    response = client.responses.create(
        model=MODEL, input="Hello", max_output_tokens=12, temperature=2, extra_body=extra
    )
    items = [item for item in response.output if item.type == "reasoning"]
    expect("".join(part.text for item in items for part in item.content) == thought, response)
    expect(response.usage.output_tokens_details.reasoning_tokens > 1, response.usage)
    kinds = [
        event.type
        for event in client.responses.create(
            model=MODEL, input="Hello", max_output_tokens=12, temperature=2, stream=True, extra_body=extra
        )
    ]
    expect("response.reasoning_text.delta" in kinds and "response.reasoning_text.done" in kinds, kinds)


def tools():
    fields = dict(
        tools=[{"type": "function", "function": FUNCTION}],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        parallel_tool_calls=False,
        seed=1,
        max_tokens=250,
        logit_bias=bias(CHANNEL, COMMENT, TO),
        extra_body=FEW,
    )
    choice = chat(**fields).choices[0]
    whole, call = choice.message, choice.message.tool_calls[0]
    expect(call.function.name == "get_weather" and choice.finish_reason == "tool_calls", choice)
    expect(json.loads(call.function.arguments)["city"] in ("Oslo", "Paris"), call)
    name, arguments = "", ""
    for chunk in chat(stream=True, **fields):
        for delta in chunk.choices[0].delta.tool_calls or []:
            name += delta.function.name or ""
            arguments += delta.function.arguments or ""
    expect((name, arguments) == ("get_weather", call.function.arguments), (name, arguments))
    hasty = chat(**{**fields, "tool_choice": "required", "logit_bias": bias(CHANNEL, COMMENT, TO, CALL)}).choices[0]
    expect(hasty.finish_reason == "tool_calls" and "city" in hasty.message.tool_calls[0].function.arguments, hasty)
    reply = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
    answered = chat(messages=[*ASKED, whole.model_dump(exclude_none=True), reply], tools=fields["tools"], max_tokens=4)
    expect(answered.choices[0].finish_reason == "length", answered)


def formats():
    """What the client's own helpers make of types: an answer of a type, a call of a strict function."""
    answering = dict(model=MODEL, seed=1, max_tokens=250, logit_bias=bias(CHANNEL, FINAL), extra_body=FEW)
    answer = client.chat.completions.parse(messages=ASKED, response_format=Visit, **answering).choices[0]
    expect(isinstance(answer.message.parsed, Visit) and answer.finish_reason == "stop", answer)
    calling = {**answering, "logit_bias": bias(CHANNEL, COMMENT, TO)}
    tool = openai.pydantic_function_tool(Visit)
    called = client.chat.completions.parse(messages=ASKED, tools=[tool], **calling).choices[0].message
    expect(isinstance(called.tool_calls[0].function.parsed_arguments, Visit), called)
    thing = client.chat.completions.create(messages=ASKED, response_format={"type": "json_object"}, **answering)
    expect(thing.choices[0].message.content.startswith("{"), thing)
    extra = {"seed": 1, "logit_bias": bias(CHANNEL, FINAL), **FEW}
    response = client.responses.parse(
        model=MODEL, input="Hello", text_format=Visit, max_output_tokens=250, extra_body=extra
    )
    expect(isinstance(response.output_parsed, Visit) and response.status == "completed", response)
    schema = {"name": "list", "schema": {"type": "array", "uniqueItems": True}}
    wrong = {"type": "json_schema", "json_schema": schema}
    refused = raised(openai.BadRequestError, lambda: chat(response_format=wrong))
    expect(refused.param == "response_format.json_schema.schema" and "uniqueItems" in refused.message, refused)


def completions():
    fields = dict(model=MODEL, prompt="Once upon", max_tokens=6, seed=2, extra_body=FEW)
    whole = client.completions.create(**fields)
    expect(whole.choices[0].finish_reason == "length" and whole.usage.completion_tokens == 6, whole)
    chunks = lenient.completions.create(stream=True, **fields)
    expect("".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text, whole)


def responses():
    extra = {"seed": 5, "logit_bias": bias(MESSAGE, HELLO)}
    first = client.responses.create(
        model=MODEL, input="Hello", instructions="Be brief.", max_output_tokens=8, metadata={"who": "check"}, extra_body=extra
    )
    expect(first.status == "incomplete" and first.incomplete_details.reason == "max_output_tokens", first)
    expect(first.metadata == {"who": "check"} and first.usage.output_tokens == 8, first)
    with client.responses.stream(
        model=MODEL, input="Hello", instructions="Be brief.", max_output_tokens=8, extra_body=extra
    ) as stream:
        kinds = [event.type for event in stream]
    expect(kinds[0] == "response.created" and kinds[-1] == "response.incomplete", kinds)
    expect("response.output_text.delta" in kinds, kinds)

    tool = {"type": "function", "strict": False, **FUNCTION}
    forced = dict(model=MODEL, tools=[tool], tool_choice={"type": "function", "name": "get_weather"}, max_output_tokens=250)
    calling = {"seed": 1, "logit_bias": bias(CHANNEL, COMMENT, TO), **FEW}
    called = client.responses.create(input="Weather?", extra_body=calling, **forced)
    call = called.output[0]
    expect(call.type == "function_call" and call.name == "get_weather", called)
    events = list(client.responses.create(input="Weather?", stream=True, extra_body=calling, **forced))
    arguments = "".join(e.delta for e in events if e.type == "response.function_call_arguments.delta")
    expect(arguments == call.arguments == events[-1].response.output[0].arguments, events[-1])
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    second = client.responses.create(
        model=MODEL, previous_response_id=called.id, input=[output], max_output_tokens=4, extra_body=extra
    )
    expect(second.previous_response_id == called.id, second)
    whole = client.responses.create(
        model=MODEL, input=[{"role": "user", "content": "Weather?"}, call.model_dump(exclude_none=True), output],
        max_output_tokens=4, store=False, extra_body=extra,
    )
    expect(whole.usage.input_tokens == second.usage.input_tokens, "a stored conversation is the conversation")
    expect(client.responses.retrieve(called.id).output == called.output, "a response is kept")
    listed = list(client.responses.input_items.list(second.id))
    expect([item.type for item in listed] == ["function_call_output"], listed)
    counted = client.responses.input_tokens.count(model=MODEL, input="Weather?")
    expect(counted.input_tokens > 0, counted)
    client.responses.delete(called.id)
    raised(openai.NotFoundError, lambda: client.responses.retrieve(called.id))


def errors():
    missing = raised(openai.NotFoundError, lambda: client.chat.completions.create(model="other", messages=ASKED))
    expect((missing.code, missing.param) == ("model_not_found", "model"), missing)
    hot = raised(openai.BadRequestError, lambda: chat(temperature=9))
    expect(hot.param == "temperature" and hot.type == "invalid_request_error", hot)
    long = raised(openai.BadRequestError, lambda: chat(messages=[{"role": "user", "content": "word " * 3000}]))
    expect(long.code == "context_length_exceeded", long)
    refused = raised(openai.BadRequestError, lambda: client.responses.create(model=MODEL, input="x", background=True))
    expect(refused.param == "background", refused)
    stranger = client.with_options(api_key="wrong")
    expect(raised(openai.AuthenticationError, stranger.models.list).code == "invalid_api_key", "a wrong key is told")


async def together():
    """Several streams at once, each as if alone."""
    fields = dict(model=MODEL, messages=ASKED, max_tokens=10, logit_bias=bias(MESSAGE, HELLO))
    alone = [chat(seed=seed, **{k: fields[k] for k in ("max_tokens", "logit_bias")}) for seed in range(6)]
    async with openai.AsyncOpenAI(_strict_response_validation=True, max_retries=0, timeout=120) as many:

        async def said(seed):
            stream = await many.chat.completions.create(seed=seed, stream=True, **fields)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        found = await asyncio.gather(*map(said, range(6)))
    expect(found == [one.choices[0].message.content for one in alone], (found, alone))


def aborts():
    for stream in [
        chat(stream=True, max_tokens=256, logit_bias=bias(HELLO, MESSAGE)),
        client.responses.create(model=MODEL, input="Hello", stream=True, max_output_tokens=256),
    ]:
        next(iter(stream))
        stream.close()
    health = str(client.base_url).replace("/v1/", "/health")
    end = time.monotonic() + 60
    while True:
        engine = json.load(urllib.request.urlopen(health))["engine"]
        if engine["active"] == engine["queued"] == 0:
            return
        expect(time.monotonic() < end, f"sequences stay behind: {engine}")
        time.sleep(0.05)


def main():
    checks = [models, chats, reasoning, tools, formats, completions, responses, errors, lambda: asyncio.run(together()), aborts]
    for check in checks:
        check()
    print(f"openai {openai.__version__} (Python): {len(checks)} groups of checks pass")


main()
