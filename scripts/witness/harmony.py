"""Ids, renderings and parses of openai-harmony 0.0.8 -> goldens/text/{tokenizer,harmony-render,harmony-parse}.json.

The package's compiled core is called directly, with the JSON text that a golden records. It needs no network: the
vocabulary file is given.
"""

import argparse
import json
import os
import pathlib
import shutil
import tempfile

from golden_io import sha256_hex, write_golden

VOCAB_NAME = "o200k_base.tiktoken"
VOCAB_SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
TEXT_TOKENS, VOCABULARY = 199_998, 201_088
UPSTREAM = "PyPI openai-harmony 0.0.8"

# Specification section 5.5: the default system message dated 2025-06-28, and a question.
SECTION_5_PROMPT = (
    "200006 17360 200008 3575 553 17554 162016 11 261 4410 6439 2359 22203 656 7788 17527 558 87447 100594 25 220 1323 19 12 "
    "3218 198 6576 3521 25 220 1323 20 12 3218 12 2029 279 30377 289 25 14093 279 2 13888 18403 25 8450 11 49159 11 1721 13 "
    "21030 2804 413 7360 395 1753 3176 13 200007 200006 1428 200008 4827 382 220 17 659 220 17 30 200007 200006 173781"
)

RENDER_ERRORS = {
    "invalid conversation JSON": "json",
    "Tools should have a name!": "tool-without-name",
    "SystemContent may only appear": "system-content-misplaced",
    "DeveloperContent may only appear": "developer-content-misplaced",
}
PARSE_ERRORS = {
    "Unexpected token": "unexpected-token",
    "Unexpected EOS": "end-in-header",
    "could not decode header": "header-undecodable",
    "channel marker present": "channel-missing",
    "message header did not contain a role": "role-missing",
    "Unknown role": "role-unknown",
    "unexpected tokens remaining": "header-leftover",
}


def load_encoding(vocab):
    """The upstream encoding, from the vocabulary file; its checks against the specification."""
    assert sha256_hex(pathlib.Path(vocab).read_bytes()) == VOCAB_SHA256
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(vocab, pathlib.Path(folder) / VOCAB_NAME)
        os.environ["TIKTOKEN_ENCODINGS_BASE"] = folder
        from openai_harmony import load_harmony_encoding

        return load_harmony_encoding("HarmonyGptOss")


def joined(ids):
    """Ids as one string."""
    return " ".join(map(str, ids))


def kind_of(error, kinds):
    """Our name of an upstream error."""
    found = [kind for start, kind in kinds.items() if str(error).startswith(start)]
    assert len(found) == 1, error
    return found[0]


def special_names(core):
    """Names of the special tokens that have one; the others are `<|reserved_ID|>`."""
    names = {id: bytes(core.decode_bytes([id])).decode() for id in range(TEXT_TOKENS, VOCABULARY)}
    return {id: name for id, name in names.items() if name != f"<|reserved_{id}|>"}


def decoded(core, ids):
    """Bytes of ids and their lossy text."""
    data = bytes(core.decode_bytes(list(ids)))
    return {"ids": joined(ids), "bytes": data.hex(), "text": data.decode("utf-8", errors="replace")}


def byte_ids(core, data):
    """The single-byte tokens of bytes."""
    table = {bytes(core.decode_bytes([id])): id for id in range(256)}
    return [table[bytes([byte])] for byte in data]


def tokenizer_golden(core):
    """Texts to ids and ids to texts."""
    import harmony_texts as texts
    from harmony_streams import BYTES

    everything = core.special_tokens()
    encode = [
        {"group": group, "text": text, "ids": joined(core.encode(text, []))}
        for group, members in texts.GROUPS.items()
        for text in members
    ]
    runs = [{"text": text, "times": times, "ids": joined(core.encode(text * times, []))} for text, times in texts.RUNS]
    allowing = [
        {
            "text": text,
            "allowed": allowed,
            "ids": joined(core.encode(text, everything if allowed is None else list(allowed))),
        }
        for text, allowed in texts.ALLOWING
    ]
    stress = byte_ids(core, texts.STRESS.encode()) + core.encode(texts.STRESS, [])
    named = [id for id in special_names(core)]
    streams = [stress, named, *(byte_ids(core, data) for data in BYTES.values())]
    # A tail, then a token that does not continue it: every text token whose bytes are not UTF-8, among the first 20 000.
    broken = [id for id in range(256, 20_000) if not is_utf8(bytes(core.decode_bytes([id])))]
    streams += [broken[:400], broken[::-7][:300]]
    assert len(encode) + len(runs) >= 300
    decode = [decoded(core, ids) for ids in streams]
    return {"encode": encode, "runs": runs, "allowing": allowing, "decode": decode, "specials": special_names(core)}


def is_utf8(data):
    """Whether bytes are text."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def render(core, conversation, mode):
    """Ids of a conversation in a mode of harmony_conversations."""
    kind, _, keep = mode.partition("+")
    config = {"auto_drop_analysis": keep != "keep"}
    if kind.startswith("completion:"):
        return core.render_conversation_for_completion(conversation, kind.partition(":")[2], config)
    calls = {"plain": core.render_conversation, "training": core.render_conversation_for_training}
    return calls[kind](conversation, config)


def render_golden(core):
    """Conversations to ids, and refusals."""
    import harmony_conversations as conversations

    rendered = {}
    for name, (conversation, modes) in conversations.cases().items():
        ids = {mode: joined(render(core, conversation, mode)) for mode in modes}
        rendered[name] = {"conversation": conversation, "renders": ids}
    assert len(rendered) >= 60
    assert rendered["default-system"]["renders"]["completion:assistant"] == SECTION_5_PROMPT
    refused = {}
    for name, conversation in conversations.REFUSED.items():
        try:
            render(core, conversation, "plain")
        except Exception as error:
            refused[name] = {
                "conversation": conversation,
                "error": kind_of(error, RENDER_ERRORS),
                "upstream": str(error),
            }
    assert refused.keys() == conversations.REFUSED.keys()
    return {"rendered": rendered, "refused": refused}


def part_ids(core, part):
    """Ids of a part of a stream."""
    if isinstance(part, int):
        return [part]
    if isinstance(part, str):
        return core.encode(part, core.special_tokens())
    return core.encode(part["plain"], []) if "plain" in part else byte_ids(core, bytes.fromhex(part["bytes"]))


def state_of(parser, core):
    """State, role, channel, recipient, content type, delta, current content, completed messages; as one line."""
    state = [
        json.loads(parser.state)["state"],
        parser.current_role,
        parser.current_channel,
        parser.current_recipient,
        parser.current_content_type,
        parser.last_content_delta,
        parser.current_content,
        len(json.loads(parser.messages)),
    ]
    return json.dumps(state, ensure_ascii=False)


def parse(core, role, ids, *, strict, stepwise=False):
    """What upstream makes of a stream: messages, where it stopped and why, the state after each token."""
    from openai_harmony.openai_harmony import PyStreamableParser

    parser = PyStreamableParser(core, role, strict)
    states, outcome = [state_of(parser, core)], {}
    try:
        for position, id in enumerate(ids):
            parser.process(id)
            states.append(state_of(parser, core))
        position = len(ids)
        parser.process_eos()
    except Exception as error:
        outcome = {"error": kind_of(error, PARSE_ERRORS), "position": position, "upstream": str(error)}
    outcome["messages"] = json.dumps({"messages": json.loads(parser.messages)}, ensure_ascii=False)
    return outcome | ({"states": states} if stepwise else {})


def words_of(parts):
    """Words of a stream's texts, without control tokens and what a header takes apart."""
    texts = " ".join(part for part in parts if isinstance(part, str))
    for mark in ("<|", "|>"):
        texts = texts.replace(mark, " | ")
    pieces = texts.split(" | ")[::2]
    return [word.removeprefix("to=") for piece in pieces for word in piece.replace(":", " ").split()]


def is_whole(outcome, words):
    """Whether upstream's lenient mode kept every word, and took every control token for what it is."""
    messages = json.loads(outcome["messages"])["messages"]
    values = [value for message in messages for key, value in message.items() if key != "content_type"]
    kept = all(word in outcome["messages"] or word.startswith("{") for word in words)
    return "error" not in outcome and kept and not any("<|" in value for value in values)


def parse_golden(core):
    """Streams to messages: strict, and upstream's own lenient mode where it keeps everything."""
    import harmony_streams as streams

    everything = streams.WELL_FORMED | streams.MALFORMED
    head, tail = "<|channel|>final<|message|>", "<|end|>"
    everything |= {name: ("assistant", [head, {"bytes": data.hex()}, tail]) for name, data in streams.BYTES.items()}
    golden = {}
    for name, (role, parts) in everything.items():
        ids = [id for part in parts for id in part_ids(core, part)]
        strict = parse(core, role, ids, strict=True, stepwise=name in streams.STEPWISE)
        lenient = parse(core, role, ids, strict=False)
        words = words_of(parts)
        lenient["whole"] = is_whole(lenient, words)
        golden[name] = {"role": role, "ids": joined(ids), "strict": strict, "lenient": lenient, "words": words}
    assert len(golden) >= 40
    return golden


def main():
    """Run upstream on every case and write the goldens."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocab", required=True, help=VOCAB_NAME)
    core = load_encoding(parser.parse_args().vocab)._inner
    goldens = {
        "tokenizer": (
            tokenizer_golden,
            "Ids of texts and bytes of ids by openai-harmony's own BPE and vocabulary file.",
        ),
        "harmony-render": (render_golden, "Conversations rendered by openai-harmony's compiled core."),
        "harmony-parse": (parse_golden, "Token streams parsed by openai-harmony's compiled core."),
    }
    for name, (collect, source) in goldens.items():
        write_golden(
            f"text/{name}",
            collect(core),
            producer="harmony.py",
            source=source,
            packages=("openai-harmony", "pydantic"),
            upstream=UPSTREAM,
            arguments="--vocab VOCAB",
        )


if __name__ == "__main__":
    main()
