"""Token streams for the parser's golden, as text with control tokens by name; `plain` text holds none.

A stream is (role or None, parts); a part is text in which every special token counts, a `plain` one, or an id.
"""

CALL = "<|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>"


def plain(text):
    """A part in which nothing is special."""
    return {"plain": text}


WELL_FORMED = {
    "empty": (None, []),
    "empty-after-prompt": ("assistant", ["<|channel|>final<|message|><|return|>"]),
    "answer": ("assistant", ["<|channel|>final<|message|>4<|return|>"]),
    "thought-and-answer": (
        "assistant",
        [
            "<|channel|>analysis<|message|>2 + 2 is 4.<|end|><|start|>assistant<|channel|>final<|message|>It is 4.<|return|>"
        ],
    ),
    "call": (
        "assistant",
        ['<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"x": 1}<|call|>'],
    ),
    "call-recipient-in-role": (
        "assistant",
        [" to=functions.get_weather<|channel|>commentary <|constrain|>json<|message|>{}<|call|>"],
    ),
    "call-without-blank": ("assistant", ["<|channel|>commentary to=functions.f<|constrain|>json<|message|>{}<|call|>"]),
    "call-code": ("assistant", ["<|channel|>analysis to=python code<|message|>print(1)<|call|>"]),
    "lone-word": ("assistant", ["<|channel|>analysis code<|message|>x<|end|>"]),
    "lone-constrain": ("assistant", ["<|channel|>final <|constrain|>json<|message|>{}<|return|>"]),
    "whole-conversation": (
        None,
        [
            "<|start|>system<|message|>You are.<|end|><|start|>developer<|message|># Instructions<|end|><|start|>user<|message|>Hi<|end|>"
            "<|start|>assistant<|channel|>analysis<|message|>Greet.<|end|>" + CALL + "{}<|call|>"
            "<|start|>functions.f to=assistant<|channel|>commentary<|message|>1<|end|><|start|>assistant<|channel|>final<|message|>Hi!<|return|>"
        ],
    ),
    "tool-reply": (None, ["<|start|>functions.f to=assistant<|channel|>commentary<|message|>1<|end|>"]),
    "tool-by-role": (None, ["<|start|>tool to=assistant<|message|>1<|end|>"]),
    "tool-next": ("tool", [" to=assistant<|channel|>commentary<|message|>1<|end|>"]),
    "tool-twice": (None, ["<|start|>functions.f tool to=assistant<|message|>1<|end|>"]),
    "recipient-only-role": (None, ["<|start|>to=functions.f<|message|>1<|end|>"]),
    "role-repeated": ("assistant", ["assistant<|channel|>final<|message|>x<|return|>"]),
    "role-with-blanks": (None, ["<|start|>  user \n<|message|>x<|end|>"]),
    "unfinished": ("assistant", ["<|channel|>final<|message|>It is"]),
    "unfinished-empty": ("assistant", ["<|channel|>final<|message|>"]),
    "call-ends-answer": ("assistant", ["<|channel|>final<|message|>x<|call|>"]),
    "controls-in-content": (
        "assistant",
        [
            "<|channel|>final<|message|>a<|channel|>b<|message|>c<|start|>d<|constrain|>e<|endoftext|>f<|reserved_200013|><|end|>"
        ],
    ),
    "spelled-controls": ("assistant", ["<|channel|>final<|message|>", plain("a<|end|>b<|start|>c"), "<|end|>"]),
    "spelled-channel": ("assistant", [plain("<|channel|>final"), "<|message|>x<|end|>"]),
    "spelled-constrain": ("assistant", [plain(" to=f<|constrain|>json"), "<|message|>x<|end|>"]),
    "two-channels": ("assistant", ["<|channel|>analysis<|channel|>final<|message|>x<|end|>"]),
    "channel-blank-channel": ("assistant", ["<|channel|>analysis <|channel|>final<|message|>x<|end|>"]),
    "end-in-header": (
        "assistant",
        ["<|channel|>analysis<|end|><|start|>assistant<|channel|>final<|message|>x<|return|>"],
    ),
    "start-in-header": (None, ["<|start|>user<|start|>assistant to=x<|message|>y<|end|>"]),
    "channel-with-constrain": ("assistant", ["<|channel|>commentary<|constrain|>json<|message|>{}<|call|>"]),
    "two-constrains": ("assistant", ["<|channel|>commentary to=f <|constrain|>json<|constrain|><|message|>{}<|call|>"]),
    "nbsp-in-header": ("assistant", ["<|channel|>final\u00a0x<|message|>y<|end|>"]),
    "emoji": ("assistant", ["<|channel|>final<|message|>a😀👨‍👩‍👧‍👦ก็ไ𐍈 é中\u0301<|return|>"]),
    "two-whole-stops": (None, ["<|start|>user<|message|>a<|end|><|start|>user<|message|>b<|end|>"]),
}

# Content of raw bytes: the single-byte tokens of each, one by one.
BYTES = {
    "invalid-bytes": b"a\xff\xfeb",
    "lone-continuation": b"\x80x\xbf",
    "cut-emoji-then-text": b"\xf0\x9f\x98x",
    "cut-emoji-at-end": b"ok\xf0\x9f\x98",
    "overlong": b"\xc0\xaf\xe0\x80\xafz",
    "surrogate": b"\xed\xa0\x80\xed\xb0\x80.",
    "beyond-unicode": b"\xf4\x90\x80\x80!",
    "emoji-by-bytes": "😀é".encode(),
}

MALFORMED = {
    "text-before-start": (None, ["Hello<|start|>user<|message|>x<|end|>"]),
    "return-after-end": (None, ["<|start|>assistant<|channel|>final<|message|>x<|end|><|return|>"]),
    "text-after-end": ("assistant", ["<|channel|>analysis<|message|>x<|end|>Hello"]),
    "end-of-stream-in-header": ("assistant", ["<|channel|>analysis"]),
    "end-of-stream-before-header": ("assistant", []),
    "end-of-stream-after-start": (None, ["<|start|>user<|message|>x<|end|><|start|>"]),
    "completion-prompt": (None, ["<|start|>user<|message|>x<|end|><|start|>assistant"]),
    "channel-without-name": ("assistant", ["<|channel|><|message|>x<|end|>"]),
    "channel-blank": ("assistant", ["<|channel|> final<|message|>x<|end|>"]),
    "role-missing": (None, ["<|start|><|channel|>final<|message|>x<|end|>"]),
    "role-unknown": (None, ["<|start|>robot<|channel|>final<|message|>x<|end|>"]),
    "role-capital": (None, ["<|start|>User<|message|>x<|end|>"]),
    "role-named": (None, ["<|start|>user:alice<|message|>x<|end|>"]),
    "header-leftover": (
        "assistant",
        ["<|channel|>commentary to=functions.f <|constrain|>json extra<|message|>{}<|call|>"],
    ),
    "header-prose": ("assistant", ["<|channel|>analysis We need to think first.<|message|>So we did.<|end|>"]),
    "header-prose-later-message": (
        "assistant",
        ["<|channel|>analysis We need to think.<|end|><|start|>assistant<|channel|>final<|message|>Answer.<|return|>"],
    ),
    "message-missing": ("assistant", ["<|channel|>final Here is the answer<|end|>"]),
    "message-missing-recipient": ("assistant", ['<|channel|>commentary to=functions.f {"a": 1}<|call|>']),
    "message-missing-role": (None, ["<|start|>assistant<|channel|>final Lost text<|end|>"]),
    "message-missing-text": ("assistant", ["Just text<|end|>"]),
    "message-missing-twice": (
        "assistant",
        ["<|channel|>analysis One<|end|><|start|>assistant<|channel|>final Two<|return|>"],
    ),
    "bare-stop": ("assistant", ["<|end|>"]),
    "channel-then-stop": ("assistant", ["<|channel|>final<|return|>"]),
    "start-missing": (
        "assistant",
        ["<|channel|>analysis<|message|>x<|end|>assistant<|channel|>final<|message|>y<|return|>"],
    ),
    "channel-after-end": (
        "assistant",
        ["<|channel|>analysis<|message|>x<|end|><|channel|>final<|message|>y<|return|>"],
    ),
    "end-missing": (
        "assistant",
        ["<|channel|>analysis<|message|>x<|start|>assistant<|channel|>final<|message|>y<|return|>"],
    ),
    "bytes-in-header": ("assistant", ["<|channel|>final", {"bytes": "ff"}, "<|message|>x<|end|>"]),
    "unknown-id-in-content": ("assistant", ["<|channel|>final<|message|>a", 4_000_000_000, "b<|end|>"]),
    "unknown-id-in-header": ("assistant", ["<|channel|>final", 250_000, "<|message|>x<|end|>"]),
    "unknown-id-first": (None, [250_000]),
    "endoftext-after-return": ("assistant", ["<|channel|>final<|message|>x<|return|><|endoftext|>"]),
    "message-after-end": (None, ["<|start|>user<|message|>x<|end|><|message|>y<|end|>"]),
    "second-message-bad": (None, ["<|start|>user<|message|>x<|end|><|start|>robot<|message|>y<|end|>"]),
}

# Streams whose state after each token is recorded.
STEPWISE = (
    "thought-and-answer",
    "call",
    "call-recipient-in-role",
    "tool-reply",
    "emoji",
    "controls-in-content",
    "unfinished",
    "role-repeated",
    "unknown-id-in-content",
    *BYTES,
)
