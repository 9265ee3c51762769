//! Configurations in YAML, as far as signers write them: maps, lists and scalars. Aliases, tags and several documents are refused, so
//! that a file is never more than it looks.

use serde_json::{Map, Value};
use std::io::Read;
use std::path::Path;
use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::scanner::TScalarStyle;

use super::error::MigrateError;

/// Longest file, in bytes. A configuration of a hundred chains has 20,000.
const FILE_MAX: u64 = 256 * 1024;

/// How deep tables may stand in each other. Those of signers stand in four.
const DEPTH_MAX: usize = 16;

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<Value, MigrateError> {
    let mut text = String::new();
    let opened = std::fs::File::open(path).and_then(|file| match file.metadata()?.is_file() {
        true => file.take(FILE_MAX + 1).read_to_string(&mut text),
        false => Err(std::io::Error::other("it is no regular file")),
    });
    opened.map_err(|error| MigrateError::input(path, error.to_string()))?;
    if text.len() as u64 > FILE_MAX {
        return Err(MigrateError::input(path, format!("longer than {FILE_MAX} bytes")));
    }
    parse(&text).map_err(|what| MigrateError::input(path, what))
}

/// A table or list that is not finished.
enum Open {
    List(Vec<Value>),
    /// With the key whose value comes next.
    Table(Map<String, Value>, Option<String>),
}

fn parse(text: &str) -> Result<Value, String> {
    let mut parser = Parser::new_from_str(text);
    let mut stack: Vec<Open> = Vec::new();
    let mut whole = None;
    loop {
        let (event, mark) = parser.next_token().map_err(|error| {
            // Its own words may quote the file.
            format!("not YAML at line {}", error.marker().line())
        })?;
        let refuse = |what: &str| Err(format!("{what} at line {}", mark.line()));
        let value = match event {
            Event::StreamEnd => return Ok(whole.unwrap_or(Value::Null)),
            Event::Alias(_) => return refuse("an alias"),
            Event::Scalar(_, _, _, Some(_)) | Event::SequenceStart(_, Some(_)) | Event::MappingStart(_, Some(_)) => {
                return refuse("a tag");
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if stack.len() >= DEPTH_MAX => {
                return refuse("too deep a table");
            }
            Event::SequenceStart(..) => {
                stack.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                stack.push(Open::Table(Map::new(), None));
                continue;
            }
            Event::Scalar(text, style, ..) => match stack.last_mut() {
                Some(Open::Table(_, key @ None)) => {
                    *key = Some(text);
                    continue;
                }
                _ => scalar(text, style),
            },
            Event::SequenceEnd | Event::MappingEnd => match stack.pop() {
                Some(Open::List(list)) => Value::Array(list),
                Some(Open::Table(table, _)) => Value::Object(table),
                None => return refuse("an end without a beginning"),
            },
            _ => continue,
        };
        match stack.last_mut() {
            Some(Open::List(list)) => list.push(value),
            Some(Open::Table(table, key)) => match key.take() {
                Some(key) if table.contains_key(&key) => return refuse("a key that is there twice"),
                Some(key) => drop(table.insert(key, value)),
                None => return refuse("a key that is no word"),
            },
            None if whole.is_some() => return refuse("a second document"),
            None => whole = Some(value),
        }
    }
}

fn scalar(text: String, style: TScalarStyle) -> Value {
    match (style, text.as_str()) {
        (TScalarStyle::Plain, "" | "~" | "null") => Value::Null,
        (TScalarStyle::Plain, "true") => true.into(),
        (TScalarStyle::Plain, "false") => false.into(),
        (TScalarStyle::Plain, number) if number.parse::<i64>().is_ok_and(|n| n.to_string() == number) => {
            number.parse::<i64>().unwrap_or_default().into()
        }
        _ => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::parse;
    use serde_json::json;

    #[test]
    fn what_signers_write_is_read() {
        let text = "# c\nsignMode: threshold\nthresholdMode:\n  threshold: 2\n  cosigners:\n  - shardID: 3\n    p2pAddr: tcp://127.0.0.1:2224\n\
                    chainNodes:\n- privValAddr: tcp://127.0.0.1:1234\ndebugAddr: \"\"\nids: [a-1, '2']\nx: ~\n";
        let expected = json!({
            "signMode": "threshold",
            "thresholdMode": { "threshold": 2, "cosigners": [{ "shardID": 3, "p2pAddr": "tcp://127.0.0.1:2224" }] },
            "chainNodes": [{ "privValAddr": "tcp://127.0.0.1:1234" }], "debugAddr": "", "ids": ["a-1", "2"], "x": null,
        });
        assert_eq!(parse(text).unwrap(), expected);
        assert_eq!(parse("").unwrap(), json!(null));
    }

    #[test]
    fn what_is_more_than_it_looks_is_refused() {
        let bomb = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n";
        let (deep, deeper) = ("[".repeat(20), "[".repeat(50_000));
        for (text, what) in [
            (bomb, "an alias"),
            ("a: !!binary x\n", "a tag"),
            ("a: 1\n---\nb: 2\n", "a second document"),
            ("a: 1\na: 2\n", "there twice"),
            ("? [a]\n: b\n", "no word"),
            (deep.as_str(), "too deep"),
            (deeper.as_str(), "line 1"),
            ("a: [b\n", "not YAML"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
    }
}
