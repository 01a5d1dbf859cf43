//! A JSON schema as the TypeScript type that the model reads.
//!
//! The rules are openai-harmony's, down to their oddities: text in comments is not escaped and a second line of it is
//! no comment; `anyOf`, `$ref` and `enum` without `"type": "string"` are `any`; every alternative of a `oneOf` starts a
//! line.

use super::json::Json;

/// The type that `schema` describes; its lines after the first are indented by `indent`.
pub(super) fn type_of(schema: &Json, indent: &str) -> String {
    if let Some(alternatives) = schema.array("oneOf") {
        return alternatives.iter().map(|one| alternative(one, indent)).collect();
    }
    if let Some(types) = schema.array("type") {
        let names: Vec<&str> = types.iter().filter_map(Json::as_str).map(scalar_name).collect();
        if !names.is_empty() {
            return names.join(" | ");
        }
    }
    match schema.text("type") {
        Some("object") => object(schema, indent),
        Some("array") => {
            schema.get("items").map_or("Array<any>".into(), |items| format!("{}[]", type_of(items, indent)))
        }
        Some("string") => string(schema),
        Some(name @ ("number" | "integer" | "boolean")) => scalar_name(name).into(),
        _ => "any".into(),
    }
}

fn scalar_name(name: &str) -> &str {
    if name == "integer" { "number" } else { name }
}

fn string(schema: &Json) -> String {
    let values = schema.array("enum").unwrap_or_default();
    let quoted: Vec<String> = values.iter().filter_map(Json::as_str).map(|value| format!("\"{value}\"")).collect();
    if quoted.is_empty() { "string".into() } else { quoted.join(" | ") }
}

/// `type_of`, and `null` if the schema says so and its type does not.
fn nullable_type_of(schema: &Json, indent: &str) -> String {
    let name = type_of(schema, indent);
    if schema.is_true("nullable") && !name.contains("null") { format!("{name} | null") } else { name }
}

/// One of a `oneOf` that is no property: a line of its own, ending in what there is to say of it.
fn alternative(schema: &Json, indent: &str) -> String {
    let default = schema.get("default").map(|value| match value.as_str() {
        Some(text) if !is_enum(schema) => format!("default: \"{text}\""),
        _ => format!("default: {value}"),
    });
    let comment = trailing(schema.text("description"), default);
    format!("\n{indent} | {}{comment}", nullable_type_of(schema, &format!("{indent}   ")))
}

fn object(schema: &Json, indent: &str) -> String {
    let mut out = schema.text("description").map(|text| format!("{indent}// {text}\n")).unwrap_or_default();
    out.push_str("{\n");
    let required = schema.array("required").unwrap_or_default();
    if let Some(Json::Object(properties)) = schema.get("properties") {
        for (name, schema) in properties {
            let is_required = required.iter().any(|required| required.as_str() == Some(name));
            let name = format!("{name}{}", if is_required { "" } else { "?" });
            out.push_str(&property(&name, schema, indent));
        }
    }
    out + indent + "}"
}

/// A property's comments, name, type and default.
fn property(name: &str, schema: &Json, indent: &str) -> String {
    let mut out = schema.text("title").map(|title| format!("{indent}// {title}\n{indent}//\n")).unwrap_or_default();
    let has_one_of = schema.get("oneOf").is_some();
    if let Some(text) = schema.text("description").filter(|_| !has_one_of) {
        out.push_str(&format!("{indent}// {text}\n"));
    }
    out.push_str(&examples(schema, indent));
    if let Some(alternatives) = schema.array("oneOf") {
        return out + &one_of_property(name, schema, alternatives, indent);
    }
    let name_of_type = nullable_type_of(schema, &format!("{indent}    "));
    let default = default_text(schema).filter(|_| !has_one_of);
    let comment = trailing(None, default);
    out + &format!("{indent}{name}: {name_of_type},{comment}\n")
}

fn examples(schema: &Json, indent: &str) -> String {
    let values = schema.array("examples").unwrap_or_default();
    let lines = values.iter().filter_map(Json::as_str).map(|example| format!("{indent}// - \"{example}\"\n"));
    let heading = (!values.is_empty()).then(|| format!("{indent}// Examples:\n"));
    heading.into_iter().chain(lines).collect()
}

/// A property with alternatives: its description, unless the first alternative repeats it, stands above and replaces
/// the first one's own.
fn one_of_property(name: &str, schema: &Json, alternatives: &[Json], indent: &str) -> String {
    let description = schema.text("description");
    let first = alternatives.first().and_then(|one| one.text("description"));
    let above = description.filter(|text| Some(*text) != first);
    let above_lines = above.map(|text| format!("{indent}// {text}\n"));
    let default = default_text(schema).map(|text| format!("{indent}// {text}\n"));
    let mut out = above_lines.unwrap_or_default() + &default.unwrap_or_default() + &format!("{indent}{name}:\n");
    for (index, one) in alternatives.iter().enumerate() {
        let is_said = index == 0 && above.is_some();
        let own = one.text("description").filter(|text| !is_said && Some(*text) != description);
        let comment = trailing(own, default_text(one));
        out.push_str(&format!("{indent} | {}{comment}\n", nullable_type_of(one, &format!("{indent}   "))));
    }
    out + &format!("{indent},\n")
}

/// `default: …`: strings in quotes, unless they are one of an enum.
fn default_text(schema: &Json) -> Option<String> {
    let value = schema.get("default")?;
    Some(match value.as_str() {
        Some(text) if is_enum(schema) => format!("default: {text}"),
        Some(text) => format!("default: \"{text}\""),
        None => format!("default: {value}"),
    })
}

fn is_enum(schema: &Json) -> bool {
    schema.array("enum").is_some_and(|values| !values.is_empty())
}

fn trailing(description: Option<&str>, default: Option<String>) -> String {
    let parts: Vec<String> = description.map(String::from).into_iter().chain(default).collect();
    if parts.is_empty() { String::new() } else { format!(" // {}", parts.join(" ")) }
}
