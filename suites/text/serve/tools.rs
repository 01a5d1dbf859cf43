//! Calls that must come, calls and answers that follow a schema, and what is said of schemas that cannot be enforced.
//!
//! The model's weights are random: left to itself it would write no JSON in a lifetime.

use gptoss::generate::tokenizer::{Tokenizer, special};
use serde_json::{Value, json};

use super::{Reply, chat, post};
use crate::constraint::demand_valid;

const PATH: &str = "/v1/chat/completions";
/// `hello`.
const HELLO: u32 = 24_912;

/// Few answers: what a model that knows nothing finishes in few tokens.
fn cities() -> Value {
    json!({"type": "object", "properties": {"city": {"enum": ["Oslo", "Paris"]}, "days": {"enum": [1, 2, 3]}},
        "required": ["city", "days"], "additionalProperties": false})
}

fn function(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name, "description": "Tells it.", "parameters": cities()}})
}

fn ids(text: &str) -> Vec<u32> {
    Tokenizer::o200k_harmony().encode_with_all_specials(text).expect("ids")
}

/// A bias towards tokens of these texts, each one token.
fn bias(texts: &[&str]) -> Value {
    let one = |text: &&str| match ids(text)[..] {
        [id] => (id.to_string(), json!(100)),
        _ => panic!("`{text}` is not one token"),
    };
    texts.iter().map(one).collect()
}

/// What JSON of [`cities`] has between its values: a model that knows nothing would fill its budget with blanks.
const COMPACT: [&str; 5] = ["{\"", "\":\"", "\",\"", "\":", "}"];
/// A bias towards the headers of calls.
const CALLS: [&str; 3] = ["<|channel|>", "comment", " to"];

fn chunks(reply: &Reply) -> Vec<Value> {
    let data: Vec<&str> = reply.data().collect();
    data.iter().filter(|data| **data != "[DONE]").map(|data| serde_json::from_str(data).expect("JSON")).collect()
}

fn demand_city(text: &Value) {
    demand_valid(&cities().to_string(), text.as_str().expect("text"));
}

#[test]
fn a_function_that_is_named_is_called() {
    let fields = json!({
        "tools": [function("get_time"), function("get_weather")],
        "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
        "max_tokens": 40, "logit_bias": bias(&[&CALLS[..], &COMPACT].concat()),
    });
    let whole = post(PATH, &chat(fields.clone())).json();
    let message = &whole["choices"][0]["message"];
    let call = &message["tool_calls"][0];
    assert_eq!((&call["type"], &call["function"]["name"]), (&json!("function"), &json!("get_weather")), "{whole}");
    demand_city(&call["function"]["arguments"]);
    assert_eq!((&message["content"], &whole["choices"][0]["finish_reason"]), (&Value::Null, &json!("tool_calls")));
    assert_eq!(whole["choices"][0].get("warnings"), None, "{whole}");

    let mut streamed = chat(fields.clone());
    streamed["stream"] = true.into();
    let (mut names, mut arguments) = (Vec::new(), String::new());
    for chunk in chunks(&post(PATH, &streamed)) {
        let call = &chunk["choices"][0]["delta"]["tool_calls"][0]["function"];
        names.extend(call["name"].as_str().map(String::from));
        arguments += call["arguments"].as_str().unwrap_or_default();
    }
    assert_eq!((names, json!(arguments)), (vec!["get_weather".into()], call["function"]["arguments"].clone()));

    // A model that wants to be done must have said everything, and the budget cuts it off.
    let mut hasty = chat(fields);
    hasty["logit_bias"] = bias(&[&CALLS[..], &COMPACT, &["<|call|>", "<|return|>", "<|end|>"]].concat());
    let found = post(PATH, &hasty).json();
    demand_city(&found["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]);
    hasty["max_tokens"] = 14.into();
    let cut = post(PATH, &hasty).json();
    assert_eq!(cut["choices"][0]["finish_reason"], "length", "{cut}");
}

#[test]
fn a_call_that_must_come_may_come_after_a_thought() {
    let words = [&CALLS[..], &COMPACT, &["analysis", "hello", "<|end|>"]].concat();
    let fields = json!({
        "tools": [function("get_time")], "tool_choice": "required", "max_tokens": 64, "logit_bias": bias(&words),
    });
    let thinks = |seed: &u64| {
        let mut body = chat(fields.clone());
        body["seed"] = json!(seed);
        let choice = post(PATH, &body).json()["choices"][0].clone();
        let thought = choice["message"]["reasoning_content"].as_str().unwrap_or_default().to_string();
        let calls = choice["message"]["tool_calls"].clone();
        assert!(thought.is_empty() || thought.contains("hello"), "{choice}");
        assert!(choice["finish_reason"] != "stop", "{choice}");
        if choice["finish_reason"] == "tool_calls" {
            demand_city(&calls[0]["function"]["arguments"]);
        }
        !thought.is_empty() && choice["finish_reason"] == "tool_calls"
    };
    assert!((0..40).any(|seed| thinks(&seed)), "no seed thinks before it calls");
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
        let fields = json!({
            "tools": names.map(function), "tool_choice": "required", "parallel_tool_calls": false,
            "max_tokens": 40, "logit_bias": bias(&[&CALLS[..], &[likely]].concat()),
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
fn an_answer_follows_its_format() {
    let schema = json!({"type": "json_schema", "json_schema": {"name": "city", "strict": true, "schema": cities()}});
    let fields = json!({"response_format": schema, "max_tokens": 40, "logit_bias": bias(&[&["<|channel|>", "final"][..], &COMPACT].concat())});
    for seed in 0..6 {
        let mut body = chat(fields.clone());
        body["seed"] = seed.into();
        let whole = post(PATH, &body).json();
        let choice = &whole["choices"][0];
        demand_city(&choice["message"]["content"]);
        assert_eq!((&choice["finish_reason"], choice.get("warnings")), (&json!("stop"), None), "{whole}");
        body["stream"] = true.into();
        let deltas = chunks(&post(PATH, &body));
        let said: String = deltas.iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(choice["message"]["content"], said);
    }
    // Whatever the model would rather say, what it draws is drawn from what is left, and its probability is the model's.
    let mut body = chat(fields);
    body["logit_bias"] = bias(&[&["<|channel|>", "final", "hello", "<|return|>"][..], &COMPACT].concat());
    body["logprobs"] = true.into();
    body["top_logprobs"] = 3.into();
    let choice = post(PATH, &body).json()["choices"][0].clone();
    demand_city(&choice["message"]["content"]);
    let entries = choice["logprobs"]["content"].as_array().expect("log-probabilities").clone();
    let is_number = |entry: &Value| entry["logprob"].as_f64().is_some_and(|logprob| logprob < 0.0);
    let all = |entry: &Value| {
        is_number(entry) && entry["top_logprobs"].as_array().is_some_and(|top| top.iter().all(is_number))
    };
    assert!(!entries.is_empty() && entries.iter().all(all), "{entries:?}");
}

#[test]
fn an_answer_that_must_be_an_object_is_one() {
    // As soon as it may, it ends.
    let likely = ["<|channel|>", "final", "{}", "}", "<|return|>"];
    let fields = json!({"response_format": {"type": "json_object"}, "max_tokens": 40, "logit_bias": bias(&likely)});
    let choice = post(PATH, &chat(fields)).json()["choices"][0].clone();
    assert_eq!((&choice["message"]["content"], &choice["finish_reason"]), (&json!("{}"), &json!("stop")), "{choice}");
}

#[test]
fn strict_functions_are_called_by_their_schema_and_others_as_the_model_likes() {
    let mut strict = function("get_time");
    strict["function"]["strict"] = true.into();
    let ask = |tool: &Value, likely: &[&str]| {
        let bias = bias(&[&CALLS[..], &COMPACT, likely].concat());
        post(PATH, &chat(json!({"tools": [tool], "max_tokens": 40, "logit_bias": bias}))).json()["choices"][0].clone()
    };
    let called = ask(&strict, &["hello"]);
    demand_city(&called["message"]["tool_calls"][0]["function"]["arguments"]);
    assert_eq!(called["finish_reason"], "tool_calls", "{called}");
    // The last word is the model's own.
    let words = chat(json!({
        "tools": [strict], "max_tokens": 12, "logit_bias": { "17196": 100, HELLO.to_string(): 100 },
    }));
    let said = (0..20).map(|seed| {
        let mut body = words.clone();
        body["seed"] = seed.into();
        post(PATH, &body).json()["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_string()
    });
    assert!(said.into_iter().any(|text| text.contains("hello")), "no seed answers in words");
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
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"not": {}}}}}),
            "response_format.json_schema.schema",
        ),
        (
            json!({"tools": [function("f"), {"type": "function", "function": {"name": "g", "strict": true,
                "parameters": {"type": "array", "uniqueItems": true}}}]}),
            "tools[1].function.parameters",
        ),
    ];
    for (fields, param) in cases {
        let reply = post(PATH, &chat(fields.clone()));
        assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!(param)), "{fields}: {}", reply.body);
    }
    // Of a function that must be called and is not strict, as much as can be enforced.
    let loose = json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object", "not": {}}}});
    let likely = bias(&[&CALLS[..], &["{}", "}"]].concat());
    let fields = json!({"tools": [loose], "tool_choice": "required", "max_tokens": 40, "logit_bias": likely});
    let choice = post(PATH, &chat(fields)).json()["choices"][0].clone();
    assert_eq!(choice["message"]["tool_calls"][0]["function"]["arguments"], "{}", "{choice}");
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
