//! `/v1/responses`: items, typed events, what is kept, and what is refused.

use gptoss::generate::tokenizer::special;
use serde_json::{Value, json};

use super::{Reply, chat, post, reply, send};

const PATH: &str = "/v1/responses";

/// A request whose answer is text: the model's first token opens a message, the others are words.
fn ask(more: Value) -> Value {
    let bias = json!({ special::MESSAGE.to_string(): 100, "24912": 100 });
    let mut body = json!({"model": "tiny", "input": "Hello", "max_output_tokens": 8, "seed": 3, "logit_bias": bias});
    body.as_object_mut().expect("an object").extend(more.as_object().expect("fields").clone());
    body
}

fn function() -> Value {
    json!({"type": "function", "name": "get_time", "description": "Tells it.", "parameters": {"type": "object"}})
}

/// What makes the model call: a bias towards `<|channel|>`, `comment`, ` to`, and room for a header.
fn calling(more: Value) -> Value {
    let bias = json!({"200005": 100, "12606": 100, "316": 100});
    let mut fields = json!({"tools": [function()], "logit_bias": bias, "max_output_tokens": 24});
    fields.as_object_mut().expect("an object").extend(more.as_object().expect("fields").clone());
    fields
}

fn call(method: &str, path: &str) -> Reply {
    reply(send(method, path, "secret", ""))
}

/// The events of a stream; each one's name is its type, and they are numbered.
fn events(reply: &Reply) -> Vec<Value> {
    let events: Vec<Value> = reply.data().map(|data| serde_json::from_str(data).expect("JSON")).collect();
    let names: Vec<&str> = reply.body.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    for (index, (event, name)) in events.iter().zip(&names).enumerate() {
        assert_eq!((&event["type"], &event["sequence_number"]), (&json!(name), &json!(index)));
    }
    assert_eq!(events.len(), names.len());
    events
}

/// An output without its ids, which are new each time.
fn nameless(output: &Value) -> Value {
    let mut output = output.clone();
    for item in output.as_array_mut().expect("items") {
        let item = item.as_object_mut().expect("an item");
        assert!(item.remove("id").is_some());
        item.remove("call_id");
    }
    output
}

#[test]
fn a_stream_of_events_builds_the_response_that_is_given_whole() {
    let forced = calling(json!({"tool_choice": {"type": "function", "name": "get_time"}}));
    for (fields, tokens) in [(json!({}), 8), (forced, 24)] {
        let whole = post(PATH, &ask(fields.clone())).json();
        assert_eq!((&whole["object"], &whole["status"]), (&json!("response"), &json!("incomplete")), "{whole}");
        assert_eq!(whole["incomplete_details"]["reason"], "max_output_tokens");
        let mut streamed = ask(fields);
        streamed["stream"] = true.into();
        let events = events(&post(PATH, &streamed));
        let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
        assert_eq!(kinds[..3], ["response.created", "response.in_progress", "response.output_item.added"]);
        let last = events.last().expect("events");
        assert_eq!(last["type"], "response.incomplete");
        assert_eq!(nameless(&last["response"]["output"]), nameless(&whole["output"]));
        assert_eq!(last["response"]["usage"]["output_tokens"], tokens);
        // Every item as its events tell it.
        for (index, item) in last["response"]["output"].as_array().expect("items").iter().enumerate() {
            let of_item = || events.iter().filter(|event| event["output_index"] == index);
            let deltas: String = of_item().filter_map(|event| event["delta"].as_str()).collect();
            let text = item["content"][0]["text"].as_str().or(item["arguments"].as_str());
            assert_eq!(Some(deltas.as_str()), text, "{item}");
            let done: Vec<&Value> = of_item().filter(|event| event["type"] == "response.output_item.done").collect();
            assert_eq!((done.len(), &done[0]["item"]), (1, item));
        }
    }
}

#[test]
fn a_response_says_what_a_chat_says() {
    let bias = ask(json!({}))["logit_bias"].clone();
    let said = post("/v1/chat/completions", &chat(json!({"max_tokens": 8, "seed": 3, "logit_bias": bias}))).json();
    let found = post(PATH, &ask(json!({}))).json();
    let item = &found["output"][0];
    let text = item["content"][0]["text"].as_str().expect("text");
    match item["type"].as_str() {
        Some("message") => assert_eq!(said["choices"][0]["message"]["content"], text),
        _ => assert_eq!(said["choices"][0]["message"]["reasoning_content"], text),
    }
    assert_eq!(found["usage"]["input_tokens"], said["usage"]["prompt_tokens"]);
}

#[test]
fn a_conversation_goes_on_from_a_stored_response() {
    let forced = calling(json!({"tool_choice": "required", "instructions": "Be brief."}));
    let first = post(PATH, &ask(forced)).json();
    let (id, called) = (first["id"].as_str().expect("an id"), &first["output"][0]);
    assert_eq!((&called["type"], &called["name"]), (&json!("function_call"), &json!("get_time")), "{first}");
    let output = json!([{"type": "function_call_output", "call_id": called["call_id"], "output": "12:00"}]);
    let second = post(PATH, &ask(json!({"previous_response_id": id, "input": output}))).json();
    assert_eq!(second["previous_response_id"], id, "{second}");

    // The same conversation sent whole has the same prompt; the first one's instructions are not part of it.
    let whole = json!([{"role": "user", "content": "Hello"}, called, output[0]]);
    let same = post(PATH, &ask(json!({"input": whole, "store": false}))).json();
    assert_eq!(same["usage"]["input_tokens"], second["usage"]["input_tokens"], "{same}");
    let counted = post("/v1/responses/input_tokens", &ask(json!({"input": whole}))).json();
    assert_eq!(counted, json!({"object": "response.input_tokens", "input_tokens": same["usage"]["input_tokens"]}));

    let at = |id: &str, rest: &str| format!("{PATH}/{id}{rest}");
    assert_eq!(call("GET", &at(id, "")).json(), first);
    let items = call("GET", &at(second["id"].as_str().expect("an id"), "/input_items?order=asc&limit=1")).json();
    assert_eq!((&items["data"][0]["output"], &items["has_more"]), (&json!("12:00"), &json!(false)), "{items}");
    assert_eq!(call("GET", &at(same["id"].as_str().expect("an id"), "")).status, 404, "it was not to be stored");
    assert_eq!(call("POST", &at(id, "/cancel")).status, 400);
    assert_eq!(call("DELETE", &at(id, "")).json()["deleted"], true);
    assert_eq!((call("GET", &at(id, "")).status, call("DELETE", &at(id, "")).status), (404, 404));
    let gone = post(PATH, &ask(json!({"previous_response_id": id})));
    assert_eq!((gone.status, &gone.json()["error"]["code"]), (400, &json!("previous_response_not_found")));
}

#[test]
fn a_response_follows_its_format() {
    let schema = json!({"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"],
        "additionalProperties": false});
    let format = json!({"format": {"type": "json_schema", "name": "verdict", "strict": true, "schema": schema}});
    // `<|channel|>` and `final`.
    let bias = json!({"200005": 100, "17196": 100});
    let found = post(PATH, &ask(json!({"text": format, "logit_bias": bias, "max_output_tokens": 24}))).json();
    assert_eq!(found["status"], "completed", "{found}");
    let text = found["output"][0]["content"][0]["text"].as_str().expect("text");
    crate::constraint::demand_valid(&schema.to_string(), text);
    assert_eq!(found["text"]["format"]["strict"], true);
}

#[test]
fn what_is_not_served_is_refused_with_its_name() {
    let cases = [
        (json!({"input": []}), "input"),
        (json!({"input": [{"role": "robot", "content": "x"}]}), "input[0].role"),
        (json!({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}), "input[0].content"),
        (json!({"input": [{"type": "web_search_call"}]}), "input[0].type"),
        (json!({"input": [{"type": "function_call", "name": "f"}]}), "input[0].call_id"),
        (json!({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}), "input"),
        (json!({"input": [{"type": "reasoning", "encrypted_content": "x"}]}), "input[0].encrypted_content"),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
        (json!({"tools": [{"type": "function", "name": "a b"}]}), "tools[0].name"),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (json!({"reasoning": {"effort": "huge"}}), "reasoning.effort"),
        (json!({"reasoning": {"summary": "auto"}}), "reasoning.summary"),
        (json!({"text": {"format": {"type": "yaml"}}}), "text.format"),
        (json!({"text": {"format": {"type": "json_schema", "name": "x"}}}), "text.format"),
        (
            json!({"text": {"format": {"type": "json_schema", "name": "x", "schema": {"not": {}}}}}),
            "text.format.schema",
        ),
        (
            json!({"tools": [{"type": "function", "name": "f", "strict": true, "parameters": {"not": {}}}]}),
            "tools[0].parameters",
        ),
        (json!({"background": true}), "background"),
        (json!({"truncation": "auto"}), "truncation"),
        (json!({"include": ["reasoning.encrypted_content"]}), "include"),
        (json!({"conversation": "c"}), "conversation"),
        (json!({"max_tokens": 5}), "max_tokens"),
        (json!({"nonsense": 1}), "nonsense"),
        (json!({"metadata": {"a": 1}}), "metadata"),
        (json!({"max_output_tokens": "many"}), "max_output_tokens"),
        (json!({"input": "word ".repeat(3000)}), "input"),
    ];
    for (fields, param) in cases {
        let reply = post(PATH, &ask(fields.clone()));
        let error = reply.json()["error"].clone();
        assert_eq!((reply.status, &error["param"]), (400, &json!(param)), "{fields}: {}", reply.body);
        assert_eq!(error["type"], "invalid_request_error");
    }
    for query in ["limit=0", "order=up", "after=nothing", "what=1"] {
        let id = post(PATH, &ask(json!({"max_output_tokens": 1}))).json()["id"].as_str().expect("an id").to_string();
        assert_eq!(call("GET", &format!("{PATH}/{id}/input_items?{query}")).status, 400, "{query}");
    }
}
