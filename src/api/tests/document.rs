//! The document describes what is served, and what is served is as described.

use std::collections::BTreeSet;

use super::super::routes::ROUTES;
use super::*;

async fn document(door: &Running) -> Json {
    json(door.get("/v1/openapi.json").await).await.1
}

#[tokio::test]
async fn the_document_has_the_routes_and_the_methods_and_nothing_else() {
    let door = Running::start(Script::default(), Limits::default()).await;
    let document = document(&door).await;
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().expect("paths");
    let described: BTreeSet<_> = paths.keys().map(String::as_str).collect();
    let served: BTreeSet<_> = ROUTES.iter().map(|route| route.path).collect();
    assert_eq!(described, served);
    for (path, item) in paths {
        let unknown = door.client.patch(door.url(path)).send().await;
        let unknown = unknown.expect("the door answers");
        let allowed = unknown.headers()["allow"]
            .to_str()
            .expect("text")
            .to_lowercase();
        let allowed: BTreeSet<_> = allowed.split(',').filter(|m| *m != "head").collect();
        let methods: BTreeSet<_> = item.as_object().expect("methods").keys().collect();
        let methods: BTreeSet<_> = methods.into_iter().map(String::as_str).collect();
        assert_eq!(allowed, methods, "{path}");
    }
}

#[tokio::test]
async fn every_parameter_of_a_path_is_described_and_every_reference_leads_somewhere() {
    let door = Running::start(Script::default(), Limits::default()).await;
    let document = document(&door).await;
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("methods") {
            let parameters = operation["parameters"].as_array().expect("a list");
            for name in path.split('{').skip(1) {
                let name = name.split('}').next().expect("the text before");
                let named = |p: &&Json| p["name"] == name && p["in"] == "path";
                assert!(
                    parameters.iter().any(|p| named(&p)),
                    "{method} {path}: {name}"
                );
            }
            let responses = operation["responses"].as_object().expect("responses");
            assert!(responses.contains_key("200"), "{method} {path}");
        }
    }
    references(&document, &document);
}

fn references(document: &Json, at: &Json) {
    match at {
        Json::Object(fields) => {
            if let Some(Json::String(to)) = fields.get("$ref") {
                let pointer = to.strip_prefix('#').expect("references stay inside");
                assert!(document.pointer(pointer).is_some(), "{to} leads nowhere");
            }
            fields
                .values()
                .for_each(|field| references(document, field));
        }
        Json::Array(items) => items.iter().for_each(|item| references(document, item)),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

#[tokio::test]
async fn described_parameters_are_taken() {
    let door = Running::start(Script::default(), Limits::default()).await;
    let document = document(&door).await;
    for route in &ROUTES {
        let Some(parameters) = document["paths"][route.path]["get"]["parameters"].as_array() else {
            continue;
        };
        let path = filled(route.path);
        for parameter in parameters.iter().filter(|p| p["in"] == "query") {
            let name = parameter["name"].as_str().expect("a name");
            let value = parameter["schema"].get("default").cloned();
            let value = value.unwrap_or(json!(0)).to_string();
            let query = format!("{path}?{name}={}", value.trim_matches('"'));
            assert_eq!(door.get(&query).await.status(), 200, "{query}");
        }
    }
}

fn filled(path: &str) -> String {
    path.replace("{client}", &secret().public().to_string())
        .replace("{sequence}", "1")
        .replace("{height}", "7")
        .replace("{key}", "a")
}

#[tokio::test]
async fn answers_have_the_fields_that_the_document_names() {
    let door = Running::start(Script::default(), Limits::default()).await;
    let document = document(&door).await;
    let client = secret().public();
    for (path, schema) in [
        ("/v1/status".to_owned(), "Status"),
        ("/v1/blocks/7".to_owned(), "Block"),
        (
            format!("/v1/transactions/{client}/1?proof=true"),
            "Transaction",
        ),
        ("/v1/kv/a?certified=true".to_owned(), "Value"),
        ("/v1/membership?history=true".to_owned(), "Membership"),
        ("/v1/faults".to_owned(), "Faults"),
        ("/v1/views".to_owned(), "Views"),
        ("/v1/checkpoints".to_owned(), "Checkpoints"),
        ("/v1/checkpoints/7".to_owned(), "Snapshot"),
        ("/readyz?verbose".to_owned(), "Readiness"),
        ("/v1/nothing".to_owned(), "Problem"),
    ] {
        let (_, body) = json(door.get(&path).await).await;
        fits(
            &document,
            &document["components"]["schemas"][schema],
            &body,
            &path,
        );
    }
    let body = codec::encode(&group(&[1, 2], 10));
    let (_, body) = json(door.post("/v1/transactions", OCTETS, body).await).await;
    let schemas = &document["components"]["schemas"];
    fits(&document, &schemas["Answers"], &body, "a group");
    fits(
        &document,
        &schemas["Submitted"],
        &body["transactions"][0],
        "a transaction",
    );
}

/// Whether `value` has every field that `schema` requires and none that it does not name.
pub(super) fn fits(document: &Json, schema: &Json, value: &Json, at: &str) {
    if let Some(to) = schema.get("$ref").and_then(Json::as_str) {
        let schema = document
            .pointer(&to[1..])
            .expect("references lead somewhere");
        return fits(document, schema, value, at);
    }
    if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
        return values
            .iter()
            .for_each(|value| fits(document, items, value, at));
    }
    let (Some(named), Some(fields)) = (schema.get("properties"), value.as_object()) else {
        return;
    };
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().expect("names are text");
        assert!(fields.contains_key(name), "{at}: no field {name}");
    }
    for (name, field) in fields {
        let schema = named.get(name);
        let schema = schema.unwrap_or_else(|| panic!("{at}: {name} is not described"));
        fits(document, schema, field, &format!("{at}.{name}"));
    }
}
