//! Tools as the model is told of them: namespaces of functions, each a TypeScript type.
//!
//! ```text
//! ## functions
//!
//! namespace functions {
//!
//! // Gets the current weather.
//! type get_weather = (_: {
//! city: string,
//! }) => any;
//!
//! } // namespace functions
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::json::Json;
use super::typescript::type_of;

/// What a group of tools can do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ToolNamespace {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// None at all means that the tool takes plain text, like `python`.
    pub tools: Vec<Tool>,
}

/// One function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Tool {
    pub name: String,
    pub description: String,
    /// A JSON schema of its one argument.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Json>,
}

impl ToolNamespace {
    /// The browser that gpt-oss was trained with.
    pub fn browser() -> Self {
        built_in(include_str!("browser.json"))
    }

    /// The Python notebook that gpt-oss was trained with.
    pub fn python() -> Self {
        built_in(include_str!("python.json"))
    }

    /// Its lines of the tools section.
    fn section(&self) -> String {
        let mut lines = vec![format!("## {}\n", self.name)];
        let comment = if self.tools.is_empty() { "" } else { "// " };
        let description = self.description.as_deref().unwrap_or_default();
        lines.extend(description.lines().map(|line| format!("{comment}{line}")));
        if !self.tools.is_empty() {
            lines.push(format!("namespace {} {{\n", self.name));
            lines.extend(self.tools.iter().flat_map(Tool::lines));
            lines.push(format!("}} // namespace {}", self.name));
        }
        lines.join("\n")
    }
}

impl Tool {
    fn lines(&self) -> impl Iterator<Item = String> {
        let argument = self.parameters.as_ref().map(|schema| format!("_: {}", type_of(schema, "")));
        let declaration = format!("type {} = ({}) => any;\n", self.name, argument.unwrap_or_default());
        self.description.lines().map(|line| format!("// {line}")).chain([declaration])
    }
}

/// The tools section: every namespace, in the order of its key.
pub(super) fn section(namespaces: &BTreeMap<String, ToolNamespace>) -> String {
    let sections = namespaces.values().map(ToolNamespace::section);
    ["# Tools".to_string()].into_iter().chain(sections).collect::<Vec<_>>().join("\n\n")
}

fn built_in(json: &str) -> ToolNamespace {
    serde_json::from_str(json).expect("the tool's description is compiled in")
}
