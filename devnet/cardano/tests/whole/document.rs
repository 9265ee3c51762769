//! The OpenAPI document that ships in mithril-common: its routes, its statuses, and a judge of bodies by its schemas.
//!
//! The judge knows the words that the document uses and stops at any other: a schema that it does not understand is never a
//! schema that everything fits.

use serde_json::{Map, Value};
use std::collections::BTreeSet;
use yaml_rust2::{Yaml, YamlLoader};

const TEXT: &str = include_str!("../../../../duty/aggregator/testdata/openapi-0.1.71.yaml");
const METHODS: [&str; 5] = ["get", "post", "put", "delete", "patch"];
/// Words of a schema that say nothing of what fits it. (`format` is one here: the document's formats are hints.)
const HINTS: [&str; 6] = ["description", "example", "examples", "format", "deprecated", "title"];

/// The document.
pub(crate) struct Document(Value);

/// What the document says of one status: a schema of the body, or that there is none.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) path: String,
    pub(crate) method: String,
    pub(crate) status: String,
    pub(crate) schema: Option<Value>,
}

impl Document {
    pub(crate) fn load() -> Document {
        let yaml = YamlLoader::load_from_str(TEXT).unwrap();
        Document(json(yaml.first().unwrap()))
    }

    pub(crate) fn version(&self) -> &str {
        self.0.pointer("/info/version").unwrap().as_str().unwrap()
    }

    /// Every route with every status.
    pub(crate) fn answers(&self) -> Vec<Answer> {
        let mut answers = Vec::new();
        for (path, item) in object(self.0.get("paths").unwrap()) {
            for (method, operation) in object(item) {
                assert!(METHODS.contains(&method.as_str()), "{path}: {method}");
                for (status, reply) in object(operation.get("responses").unwrap()) {
                    let content = reply.get("content").map(object);
                    let schema = content.map(|content| {
                        assert_eq!(content.len(), 1, "{path}");
                        content.get("application/json").unwrap().get("schema").unwrap().clone()
                    });
                    let (path, method, status) = (path.clone(), method.clone(), status.clone());
                    answers.push(Answer { path, method, status, schema });
                }
            }
        }
        answers
    }

    /// What the document says of a request: the operation's answer to this status, or its default one.
    pub(crate) fn answer(&self, method: &str, target: &str, status: u16) -> Answer {
        let path = target.split('?').next().unwrap();
        let of_path = |answer: &Answer| answer.method == method && fits(&answer.path, path);
        let mut answers: Vec<_> = self.answers().into_iter().filter(of_path).collect();
        // `/certificate/genesis` is nobody's hash: names go before parameters.
        let parameters = |answer: &Answer| answer.path.matches('{').count();
        let least = answers.iter().map(parameters).min();
        answers.retain(|answer| Some(parameters(answer)) == least);
        let find = |status: &str| answers.iter().find(|answer| answer.status == status).cloned();
        find(&status.to_string()).or_else(|| find("default")).unwrap_or_else(|| panic!("{method} {target}: {status}"))
    }

    /// The schema of what is sent.
    pub(crate) fn request(&self, path: &str) -> Option<&Value> {
        let operation = object(self.0.get("paths").unwrap()).get(path).unwrap().get("post").unwrap();
        operation.pointer("/requestBody/content/application~1json/schema")
    }

    /// Whether a value fits a schema.
    pub(crate) fn judge(&self, schema: &Value, value: &Value) -> Result<(), String> {
        for (word, said) in object(schema) {
            let verdict = match word.as_str() {
                "$ref" => self.judge(self.resolve(said.as_str().unwrap()), value),
                "type" => is_of(said.as_str().unwrap(), value),
                "required" => has_all(said, value),
                "properties" => self.properties(said, value),
                "additionalProperties" => self.additional(said, schema, value),
                "items" => self.each(said, value),
                "minItems" => at_least(said, value),
                "enum" => said.as_array().unwrap().contains(value).then_some(()).ok_or("not one of them".to_owned()),
                "const" => (said == value).then_some(()).ok_or("not that".to_owned()),
                "pattern" => panic!("patterns are of parameters only: {said}"),
                "allOf" => said.as_array().unwrap().iter().try_for_each(|one| self.judge(one, value)),
                "oneOf" => self.one_of(said, value),
                hint if HINTS.contains(&hint) => Ok(()),
                unknown => panic!("the judge does not know `{unknown}`"),
            };
            verdict.map_err(|why| format!("{word}: {why}"))?;
        }
        Ok(())
    }

    pub(crate) fn resolve(&self, reference: &str) -> &Value {
        self.0.pointer(reference.strip_prefix('#').unwrap()).unwrap_or_else(|| panic!("{reference}"))
    }

    fn properties(&self, said: &Value, value: &Value) -> Result<(), String> {
        let Some(fields) = value.as_object() else { return Ok(()) };
        object(said).iter().try_for_each(|(name, schema)| match fields.get(name) {
            Some(field) => self.judge(schema, field).map_err(|why| format!("{name}: {why}")),
            None => Ok(()),
        })
    }

    fn additional(&self, said: &Value, schema: &Value, value: &Value) -> Result<(), String> {
        let Some(fields) = value.as_object() else { return Ok(()) };
        let none = Map::new();
        let known = schema.get("properties").map_or(&none, object);
        fields.iter().filter(|(name, _)| !known.contains_key(*name)).try_for_each(|(name, field)| match said {
            Value::Bool(true) => Ok(()),
            Value::Bool(false) => Err(format!("{name} is not in the document")),
            schema => self.judge(schema, field),
        })
    }

    fn each(&self, said: &Value, value: &Value) -> Result<(), String> {
        value.as_array().into_iter().flatten().try_for_each(|item| self.judge(said, item))
    }

    fn one_of(&self, said: &Value, value: &Value) -> Result<(), String> {
        let fitting = said.as_array().unwrap().iter().filter(|one| self.judge(one, value).is_ok()).count();
        (fitting == 1).then_some(()).ok_or(format!("{fitting} fit"))
    }
}

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap_or_else(|| panic!("not an object: {value}"))
}

fn is_of(said: &str, value: &Value) -> Result<(), String> {
    let is = match said {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        unknown => panic!("the judge does not know the type `{unknown}`"),
    };
    is.then_some(()).ok_or_else(|| format!("{value} is no {said}"))
}

fn has_all(said: &Value, value: &Value) -> Result<(), String> {
    let Some(fields) = value.as_object() else { return Ok(()) };
    let missing = said.as_array().unwrap().iter().find(|name| !fields.contains_key(name.as_str().unwrap()));
    missing.map_or(Ok(()), |name| Err(format!("{name} is missing")))
}

fn at_least(said: &Value, value: &Value) -> Result<(), String> {
    let Some(items) = value.as_array() else { return Ok(()) };
    (items.len() as u64 >= said.as_u64().unwrap()).then_some(()).ok_or("too few".to_owned())
}

fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len() && template.iter().zip(&path).all(|(said, is)| said.starts_with('{') || said == is)
}

fn json(yaml: &Yaml) -> Value {
    match yaml {
        Yaml::Real(text) => text.parse::<f64>().unwrap().into(),
        Yaml::Integer(number) => (*number).into(),
        Yaml::String(text) => text.clone().into(),
        Yaml::Boolean(is) => (*is).into(),
        Yaml::Array(items) => items.iter().map(json).collect(),
        Yaml::Hash(fields) => {
            let name = |key: &Yaml| match json(key) {
                Value::String(name) => name,
                other => other.to_string(),
            };
            Value::Object(fields.iter().map(|(key, value)| (name(key), json(value))).collect())
        }
        Yaml::Null => Value::Null,
        other => panic!("{other:?}"),
    }
}

/// Everything that is one change away from a value and that a strict schema refuses: a field gone, one more, one of another type.
fn spoiled(value: &Value) -> Vec<Value> {
    let Some(fields) = value.as_object() else { return Vec::new() };
    let mut all = Vec::new();
    for name in fields.keys() {
        let mut less = fields.clone();
        less.remove(name);
        let mut other = fields.clone();
        other.insert(name.clone(), Value::Array(vec![Value::Null]));
        all.extend([Value::Object(less), Value::Object(other)]);
    }
    let mut more = fields.clone();
    more.insert("unheard_of".to_owned(), Value::Null);
    all.push(Value::Object(more));
    all
}

#[test]
fn the_judge_refuses_what_does_not_fit() {
    let document = Document::load();
    let schema = |name: &str| document.resolve(&format!("#/components/schemas/{name}")).clone();
    let examples = [
        ("Error", serde_json::json!({"message": "no"})),
        ("CardanoDatabaseDigestListItemMessage", serde_json::json!({"immutable_file_name": "0.chunk", "digest": "ab"})),
        (
            "CardanoTransactionProofV2Message",
            serde_json::json!({"certificate_hash": "a", "certified_transactions": null,
                "non_certified_transactions": ["b"], "latest_block_number": 1, "security_parameter": 2}),
        ),
        (
            "CardanoBlockProofMessage",
            serde_json::json!({"certificate_hash": "a", "certified_blocks": {"items": [], "proof": "x"},
                "non_certified_blocks": [], "latest_block_number": 1, "security_parameter": 2}),
        ),
    ];
    for (name, example) in examples {
        assert_eq!(document.judge(&schema(name), &example), Ok(()), "{name}");
        for wrong in spoiled(&example) {
            assert!(document.judge(&schema(name), &wrong).is_err(), "{name}: {wrong}");
        }
    }
    // The document's own examples fit its schemas, so the judge is not too strict either.
    let mut judged = BTreeSet::new();
    for (name, schema) in object(document.0.pointer("/components/schemas").unwrap()) {
        for example in schema.get("examples").and_then(Value::as_array).into_iter().flatten() {
            if document.judge(schema, example) == Ok(()) {
                judged.insert(name.as_str());
            } else {
                println!("{name}: {:?}", document.judge(schema, example));
            }
        }
    }
    assert!(judged.len() > 20, "{judged:?}");
}
