//! The schema of `--json` on file, `tests/commands/events.schema.json`, and the events as they are: the same names,
//! fields and values. serde says what it knows of; `tests/commands/schema.rs` checks what is printed.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::*;

/// The schema on file.
struct Schema(Value);

impl Schema {
    fn on_file() -> Self {
        Self(serde_json::from_str(include_str!("../../tests/commands/events.schema.json")).unwrap())
    }

    /// Every event with its fields.
    fn events(&self) -> &Map<String, Value> {
        self.0["events"].as_object().unwrap()
    }

    /// Some values of a type; the first has everything that it may have.
    fn values(&self, kind: &Value) -> Vec<Value> {
        match kind {
            Value::Array(words) => words.clone(),
            Value::Object(fields) => self.objects(fields),
            Value::String(name) => match name.strip_suffix("|null") {
                Some(kind) => self.values(&json!(kind)).into_iter().chain([Value::Null]).collect(),
                None => self.plain(name),
            },
            other => panic!("{other} is no type"),
        }
    }

    fn plain(&self, name: &str) -> Vec<Value> {
        match name {
            "name" => vec![json!("bob")],
            "names" => vec![json!(["bob", "carol"]), json!(["bob"])],
            "text" => vec![json!("Gr\u{fc}\u{df}e")],
            "file" => vec![json!("a file.txt")],
            "key" | "digest" | "fingerprint" => vec![json!("0a".repeat(32))],
            "id" => vec![json!("0a".repeat(16))],
            "number" => vec![json!(7), json!(0)],
            "bool" => vec![json!(true), json!(false)],
            "true" => vec![json!(true)],
            "labels" => vec![json!({"town": "Oxford"}), json!({})],
            "address" => vec![json!("192.0.2.1:4433"), json!("[2001:db8::1]:4433")],
            "ip" => vec![json!("192.0.2.1")],
            other => self.values(self.0["types"].get(other).unwrap_or_else(|| panic!("there is no type {other:?}"))),
        }
    }

    /// Objects: with all fields, each with each of its values, and without each that may be missing.
    fn objects(&self, fields: &Map<String, Value>) -> Vec<Value> {
        let full: Map<String, Value> =
            fields.iter().map(|(name, kind)| (bare(name).to_owned(), self.values(kind)[0].clone())).collect();
        let mut objects = vec![Value::Object(full.clone())];
        for (name, kind) in fields {
            for value in self.values(kind) {
                let mut object = full.clone();
                object.insert(bare(name).to_owned(), value);
                objects.push(Value::Object(object));
            }
            if may_be_missing(name) {
                let mut object = full.clone();
                object.remove(bare(name));
                objects.push(Value::Object(object));
            }
        }
        objects
    }
}

/// The name of a field without the mark of one that may be missing.
fn bare(name: &str) -> &str {
    name.trim_end_matches('?')
}

fn may_be_missing(name: &str) -> bool {
    name.ends_with('?')
}

fn read(event: &str, object: &Value) -> serde_json::Result<Event> {
    let mut object = object.clone();
    object["event"] = json!(event);
    serde_json::from_value(object)
}

/// The words that serde would have taken where it found another one.
fn expected_words(error: &serde_json::Error) -> BTreeSet<String> {
    let text = error.to_string();
    let (_, expected) = text.split_once("expected").unwrap_or_else(|| panic!("{text}"));
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Where in an object a word of a list stands, and the list.
fn lists(schema: &Schema, at: &str, kind: &Value, found: &mut Vec<(String, BTreeSet<String>)>) {
    match kind {
        Value::Array(words) => {
            found.push((at.to_owned(), words.iter().map(|word| word.as_str().unwrap().to_owned()).collect()));
        }
        Value::Object(fields) => {
            for (name, kind) in fields {
                lists(schema, &format!("{at}/{}", bare(name)), kind, found);
            }
        }
        Value::String(name) => {
            if let Some(kind) = schema.0["types"].get(name) {
                lists(schema, at, kind, found);
            }
        }
        other => panic!("{other} is no type"),
    }
}

#[test]
fn every_event_is_in_the_schema_and_nothing_else() {
    let known = expected_words(&read("?", &json!({})).unwrap_err());
    assert!(known.contains("logged_in") && known.contains("failed"), "{known:?}");
    let on_file: BTreeSet<String> = Schema::on_file().events().keys().cloned().collect();
    assert_eq!(on_file, known, "tests/commands/events.schema.json is not what events are");
}

#[test]
fn what_the_schema_says_is_read_and_written_the_same() {
    let schema = Schema::on_file();
    for (event, fields) in schema.events() {
        for object in schema.values(fields) {
            let read = read(event, &object).unwrap_or_else(|error| panic!("{event} {object}: {error}"));
            let mut expected = object;
            expected["event"] = json!(event);
            assert_eq!(serde_json::to_value(&read).unwrap(), expected);
        }
    }
}

#[test]
fn what_the_schema_wants_is_wanted() {
    let schema = Schema::on_file();
    for (event, fields) in schema.events() {
        let full = schema.values(fields).swap_remove(0);
        for (name, kind) in fields.as_object().unwrap() {
            let mut object = full.clone();
            object.as_object_mut().unwrap().remove(bare(name));
            let may_be_null = kind.as_str().is_some_and(|kind| kind.ends_with("|null"));
            assert_eq!(read(event, &object).is_ok(), may_be_missing(name) || may_be_null, "{event}: {name}");
        }
    }
}

#[test]
fn the_schema_lists_every_word_that_may_stand_in_a_field() {
    let schema = Schema::on_file();
    let mut count = 0;
    for (event, fields) in schema.events() {
        let mut found = Vec::new();
        lists(&schema, "", fields, &mut found);
        for (at, words) in found {
            let mut object = schema.values(fields).swap_remove(0);
            *object.pointer_mut(&at).unwrap() = json!("?");
            assert_eq!(expected_words(&read(event, &object).unwrap_err()), words, "{event}{at}");
            count += 1;
        }
    }
    assert!(count > 20, "only {count} lists were looked at");
}

/// serde does not tell of a field that may be missing, and a test may never see it: the source says how many there are.
#[test]
fn no_field_that_may_be_missing_is_missing_in_the_schema() {
    let source =
        [include_str!("event.rs"), include_str!("rows.rs"), include_str!("path.rs"), include_str!("failure.rs")];
    let in_source: usize = source.iter().map(|text| text.matches("skip_serializing_if").count()).sum();
    let schema = Schema::on_file();
    let objects = schema.events().values().chain(schema.0["types"].as_object().unwrap().values());
    let fields = objects.filter_map(Value::as_object).flat_map(Map::keys);
    assert_eq!(fields.filter(|name| may_be_missing(name)).count(), in_source);
}
