//! Calls that must come, and answers of a format.

use gptoss::generate::tokenizer::{Tokenizer, special};
use serde_json::{Value, json};

use super::{Reply, chat, post};

const PATH: &str = "/v1/chat/completions";

fn function(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name, "description": "Tells it.", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]
    }}})
}

fn ids(text: &str) -> Vec<u32> {
    Tokenizer::o200k_harmony().encode_with_all_specials(text).expect("ids")
}

fn chunks(reply: &Reply) -> Vec<Value> {
    let data: Vec<&str> = reply.data().collect();
    data.iter().filter(|data| **data != "[DONE]").map(|data| serde_json::from_str(data).expect("JSON")).collect()
}

#[test]
fn a_function_that_is_named_is_called() {
    let fields = json!({
        "tools": [function("get_time"), function("get_weather")],
        "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
    });
    let whole = post(PATH, &chat(fields.clone())).json();
    let message = &whole["choices"][0]["message"];
    let call = &message["tool_calls"][0];
    assert_eq!((&call["type"], &call["function"]["name"]), (&json!("function"), &json!("get_weather")), "{whole}");
    assert!(call["function"]["arguments"].as_str().is_some_and(|text| !text.is_empty()), "{whole}");
    assert_eq!((&message["content"], &whole["choices"][0]["finish_reason"]), (&Value::Null, &json!("length")));

    let mut streamed = chat(fields.clone());
    streamed["stream"] = true.into();
    let (mut names, mut arguments) = (Vec::new(), String::new());
    for chunk in chunks(&post(PATH, &streamed)) {
        let call = &chunk["choices"][0]["delta"]["tool_calls"][0]["function"];
        names.extend(call["name"].as_str().map(String::from));
        arguments += call["arguments"].as_str().unwrap_or_default();
    }
    assert_eq!((names, json!(arguments)), (vec!["get_weather".into()], call["function"]["arguments"].clone()));

    // A model that ends at once has called all the same.
    let mut silent = chat(fields);
    silent["logit_bias"] = json!({ special::CALL.to_string(): 100 });
    let silent = post(PATH, &silent).json();
    let choice = &silent["choices"][0];
    assert_eq!(choice["message"]["tool_calls"][0]["function"], json!({"name": "get_weather", "arguments": ""}));
    assert_eq!(choice["finish_reason"], "tool_calls", "{silent}");
}

#[test]
fn of_several_functions_the_model_chooses_one() {
    let apart = ["get_time", "get_weather"];
    // One name begins with the other.
    let nested = ["get_weather", "get_weather_now"];
    for (names, likely, chosen) in [
        (apart, "_time", "get_time"),
        (apart, "_weather", "get_weather"),
        (nested, "_now", "get_weather_now"),
        (nested, " ", "get_weather"),
    ] {
        let likely = ids(likely);
        assert_eq!(likely.len(), 1, "one token decides");
        let fields = json!({
            "tools": names.map(function), "tool_choice": "required", "parallel_tool_calls": false,
            "logit_bias": { likely[0].to_string(): 100 },
        });
        let found = post(PATH, &chat(fields)).json();
        let calls = &found["choices"][0]["message"]["tool_calls"];
        assert_eq!(
            (&calls[0]["function"]["name"], calls.as_array().map(Vec::len)),
            (&json!(chosen), Some(1)),
            "{found}"
        );
    }
}

#[test]
fn functions_that_must_not_be_called_are_not_told() {
    let tokens = |fields: Value| post(PATH, &chat(fields)).json()["usage"]["prompt_tokens"].clone();
    let tools = json!([function("get_time")]);
    assert_eq!(tokens(json!({"tools": tools, "tool_choice": "none"})), tokens(json!({})));
    assert_ne!(tokens(json!({"tools": tools})), tokens(json!({})));
}

#[test]
fn wrong_functions_and_formats_are_named() {
    let cases = [
        (json!({"tool_choice": "required"}), "tool_choice"),
        (json!({"tools": [function("f")], "tool_choice": "always"}), "tool_choice"),
        (
            json!({"tools": [function("f")], "tool_choice": {"type": "function", "function": {"name": "g"}}}),
            "tool_choice",
        ),
        (json!({"tools": [function("f"), function("f")]}), "tools[1]"),
        (json!({"tools": [function("a <|call|>")]}), "tools[0].function.name"),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
        (json!({"tools": [{"type": "function"}]}), "tools[0].function"),
        (json!({"functions": []}), "functions"),
        (json!({"response_format": {"type": "yaml"}}), "response_format"),
        (json!({"response_format": {"type": "json_schema"}}), "response_format"),
        (json!({"response_format": {"type": "json_schema", "json_schema": {"name": "a b"}}}), "response_format"),
    ];
    for (fields, param) in cases {
        let reply = post(PATH, &chat(fields.clone()));
        assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!(param)), "{fields}: {}", reply.body);
    }
}

/// The example of OpenAI's guide to Harmony ("Structured output"); its tokens are counted.
#[test]
fn a_format_is_told_as_harmony_documents_it() {
    let schema = r#"{"properties":{"items":{"type":"array","description":"entries on the shopping list","items":{"type":"string"}}},"type":"object"}"#;
    let system = "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n\
        Knowledge cutoff: 2024-06\n\nReasoning: medium\n\n\
        # Valid channels: analysis, commentary, final. Channel must be included for every message.<|end|>";
    let user = "<|start|>user<|message|>I need to buy coffee, soda and eggs<|end|><|start|>assistant";
    for (instructions, before) in [
        (Some("You are a helpful shopping assistant."), "# Instructions\n\nYou are a helpful shopping assistant.\n\n"),
        (None, ""),
    ] {
        let developer =
            format!("<|start|>developer<|message|>{before}# Response Formats\n\n## shopping_list\n\n{schema}<|end|>");
        let system_message = instructions.map(|text| json!({"role": "system", "content": text}));
        let user_message = json!({"role": "user", "content": "I need to buy coffee, soda and eggs"});
        let messages: Vec<Value> = system_message.into_iter().chain([user_message]).collect();
        let named = json!({"name": "shopping_list", "strict": true, "schema": "SCHEMA"});
        let body =
            chat(json!({"messages": messages, "response_format": {"type": "json_schema", "json_schema": named}}));
        // serde_json's objects sort their keys; the schema's own order counts.
        let body = body.to_string().replace("\"SCHEMA\"", schema);
        let found = super::reply(super::send("POST", PATH, "secret", &body)).json();
        assert_eq!(found["usage"]["prompt_tokens"], ids(&format!("{system}{developer}{user}")).len(), "{found}");
    }
}

#[test]
fn what_a_malformed_answer_leaves_is_told_with_a_warning() {
    let mut body = chat(json!({"logit_bias": { special::RETURN.to_string(): 100 }}));
    let whole = post(PATH, &body).json();
    let choice = &whole["choices"][0];
    assert_eq!((&choice["finish_reason"], &choice["warnings"][0]["code"]), (&json!("stop"), &json!("message-missing")));
    body["stream"] = true.into();
    let last = chunks(&post(PATH, &body)).pop().expect("chunks");
    assert_eq!(last["choices"][0]["warnings"], choice["warnings"], "{last}");
    // Without a header at all, which is how a random model writes, the words are the answer.
    let words = post(PATH, &chat(json!({}))).json();
    assert!(words["choices"][0]["message"]["content"].as_str().is_some_and(|text| !text.is_empty()), "{words}");
}
