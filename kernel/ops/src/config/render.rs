//! Findings as text for people and as JSON for programs.
//!
//! ```text
//! error[CONFIG-0003]: unknown key `stat_file` in [[chain]]
//!  --> tmkms.toml:3:1
//!   |
//! 3 | stat_file = "state.json"
//!   | ^^^^^^^^^
//!   hint: did you mean `state_file`?
//! ```

use super::diagnostic::{Diagnostic, Diagnostics, Severity};
use super::place::Place;
use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
const BLUE: Style = AnsiColor::Blue.on_default().bold();
const CYAN: Style = AnsiColor::Cyan.on_default().bold();

impl Diagnostics {
    /// The findings and a summary line, without colour.
    pub fn to_text(&self) -> String {
        anstream::adapter::strip_str(&self.to_styled_text()).to_string()
    }

    /// The findings and a summary line, with ANSI colours.
    pub fn to_styled_text(&self) -> String {
        let mut text = String::new();
        for item in self.sorted() {
            text.push_str(&styled(&item));
            text.push('\n');
        }
        if self.left_out() > 0 {
            text.push_str(&format!("… and {} more\n", self.left_out()));
        }
        let (style, word) = if self.has_errors() { (RED, "error:") } else { (YELLOW, "warning:") };
        if !self.is_empty() {
            text.push_str(&format!("{style}{word}{style:#} {}\n", self.summary()));
        }
        text
    }

    /// The findings as one JSON object.
    pub fn to_json(&self) -> Value {
        let items: Vec<Value> = self.sorted().iter().map(value).collect();
        json!({ "schema": 1, "errors": self.errors(), "warnings": self.warnings(), "diagnostics": items })
    }
}

fn styled(item: &Diagnostic) -> String {
    let style = match item.severity {
        Severity::Error => RED,
        Severity::Warning => YELLOW,
    };
    let related = item.related.iter().map(|(place, _)| place.line());
    let gutter = related.chain([item.place.line()]).max().unwrap_or(0).to_string().len();
    let mut text = format!("{style}{}[{}]:{style:#} {}\n", item.severity, item.code, item.message);
    text.push_str(&snippet(&item.place, "-->", '^', style, gutter, ""));
    for (place, what) in &item.related {
        text.push_str(&snippet(place, ":::", '-', BLUE, gutter, what));
    }
    if let Some(hint) = &item.hint {
        text.push_str(&format!("{CYAN}  hint:{CYAN:#} {hint}\n"));
    }
    text
}

fn snippet(place: &Place, arrow: &str, mark: char, style: Style, gutter: usize, what: &str) -> String {
    let pad = " ".repeat(gutter);
    let mut text = format!("{pad}{BLUE}{arrow}{BLUE:#} {place}\n");
    if place.line() == 0 {
        if !what.is_empty() {
            text.push_str(&format!("{pad} {BLUE}={BLUE:#} {what}\n"));
        }
        return text;
    }
    // Tabs stay tabs, so that the marks stand under what they mark.
    let before = place.shown().chars().take(place.column().saturating_sub(1));
    let indent: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let room = place.shown().chars().count().saturating_sub(indent.chars().count()).max(1);
    let marks = mark.to_string().repeat(place.width().min(room));
    let note = if what.is_empty() { String::new() } else { format!(" {what}") };
    text.push_str(&format!("{pad} {BLUE}|{BLUE:#}\n"));
    let shown = if place.shown().is_empty() { String::new() } else { format!(" {}", place.shown()) };
    text.push_str(&format!("{BLUE}{:>gutter$} |{BLUE:#}{shown}\n", place.line()));
    text.push_str(&format!("{pad} {BLUE}|{BLUE:#} {indent}{style}{marks}{note}{style:#}\n"));
    text
}

fn value(item: &Diagnostic) -> Value {
    let related: Vec<Value> = item
        .related
        .iter()
        .map(|(place, what)| {
            let mut value = position(place);
            if let Some(object) = value.as_object_mut() {
                object.insert("message".to_owned(), json!(what));
            }
            value
        })
        .collect();
    let mut value = json!({
        "code": item.code.id, "severity": item.severity.to_string(), "message": item.message,
    });
    if let (Some(object), Some(at)) = (value.as_object_mut(), position(&item.place).as_object()) {
        object.extend(at.clone());
        object.insert("snippet".to_owned(), json!(item.place.shown()));
        object.insert("related".to_owned(), json!(related));
        object.insert("hint".to_owned(), json!(item.hint));
    }
    value
}

fn position(place: &Place) -> Value {
    let number = |n: usize| if place.line() == 0 { Value::Null } else { json!(n) };
    json!({
        "path": place.path().display().to_string(), "line": number(place.line()),
        "column": number(place.column()), "width": number(place.width()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::codes;
    use super::super::place::Source;
    use super::*;

    fn found() -> Diagnostics {
        let source =
            Source::new("tmkms.toml", "[[chain]]\nid = \"a\"\n\tstat_file = \"x\"\n[[validator]]\nchain_id = \"b\"\n");
        let found = Diagnostics::new();
        found.push(
            Diagnostic::error(&codes::UNKNOWN_KEY, &source.place(20..29), "unknown key `stat_file` in [[chain]]")
                .hint("did you mean `state_file`?"),
        );
        found.push(
            Diagnostic::error(&codes::NOT_A_CHOICE, &source.place(61..64), "no chain `b`")
                .related(&source.place(15..18), "the only chain is this one"),
        );
        found.push(Diagnostic::warning(&codes::UNREADABLE, &Place::file("x.json".as_ref()), "cannot read x.json"));
        found
    }

    #[test]
    fn the_text_form_is_frozen() {
        let golden = "\
error[CONFIG-0003]: unknown key `stat_file` in [[chain]]
 --> tmkms.toml:3:2
  |
3 | \tstat_file = \"x\"
  | \t^^^^^^^^^
  hint: did you mean `state_file`?

error[CONFIG-0007]: no chain `b`
 --> tmkms.toml:5:12
  |
5 | chain_id = \"b\"
  |            ^^^
 ::: tmkms.toml:2:6
  |
2 | id = \"a\"
  |      --- the only chain is this one

warning[CONFIG-0001]: cannot read x.json
 --> x.json

error: 2 errors and 1 warning in the configuration
";
        assert_eq!(found().to_text(), golden);
    }

    #[test]
    fn the_json_form_is_frozen() {
        let value = found().to_json();
        let golden = json!({
            "code": "CONFIG-0007", "severity": "error", "message": "no chain `b`", "path": "tmkms.toml", "line": 5,
            "column": 12, "width": 3, "snippet": "chain_id = \"b\"",
            "related": [{"path": "tmkms.toml", "line": 2, "column": 6, "width": 3, "message": "the only chain is this one"}],
            "hint": null,
        });
        assert_eq!(value["diagnostics"][1], golden);
        assert_eq!((&value["errors"], &value["warnings"]), (&json!(2), &json!(1)));
        assert_eq!(value["diagnostics"][2]["line"], Value::Null);
    }
}
