//! What the API reference says a request may hold, and what is refused, are the same.
//!
//! The proto files say it for readers; the domain refuses. Here every rule of the document is broken once.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use crate::support::{
    gateway::{ADMIN, Answer, TestHouse},
    stage::Stage,
};

/// Fits no pattern: a zero byte, a slash, a space, a backslash and dots.
const FITS_NOTHING: &str = "\0/ \\/..";
/// As many rules as there are at least; fewer means that this test has lost sight of them.
const RULES_MIN: usize = 80;

#[tokio::test]
async fn what_the_api_reference_does_not_allow_is_refused_and_its_words_are_taken() {
    let stage = Stage::set().await;
    let document = stage.house.ask("", "GET", "/openapi.json").send().await.expect(200);
    let mut rules: Vec<Tried> = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (verb, operation) in item.as_object().unwrap() {
            let operation =
                Operation { document: &document, stage: &stage, path, verb: verb.to_uppercase(), it: operation };
            rules.extend(operation.break_parameters().await);
            rules.extend(operation.break_body().await);
            operation.take_words().await;
        }
    }
    assert!(rules.len() >= RULES_MIN, "only {} rules were found", rules.len());
    let taken: Vec<String> = rules.into_iter().filter_map(Result::err).collect();
    assert!(taken.is_empty(), "these were taken:\n{}", taken.join("\n"));

    let house = &stage.house;
    let refused = |answer: Answer| assert_eq!(answer.status, 422, "{answer:?}");
    let both = json!({"tenant_id": "acme", "role": "admin", "permissions": ["logs:read"]});
    refused(house.ask(ADMIN, "POST", "/api/v1/keys").json(&both).await);
    refused(house.ask(ADMIN, "POST", "/api/v1/instances").json(&json!({"agent_type": ""})).await);
    stage.house.close().await;
}

#[tokio::test]
async fn what_is_shown_alone_cannot_be_set_and_what_null_takes_away_is_gone() {
    let house = TestHouse::start().await;
    let document = house.ask("", "GET", "/openapi.json").send().await.expect(200);
    let schemas = &document["components"]["schemas"];
    let (shown, patch) = (&schemas["podium.v1.Config"], &schemas["podium.v1.ConfigPatch.given"]);
    let (config, secrets) = ("/api/v1/config", "/api/v1/secrets/echo?mode=merge");
    let put = async |path: &str, body: &Value| house.ask(ADMIN, "PUT", path).json(body).await;

    // A configuration that was read is a change that says the same.
    let mut shown_alone = Vec::new();
    for (name, member) in shown["properties"].as_object().unwrap() {
        let given = &patch["properties"][name];
        assert!(given.is_object(), "{name} is shown, and is no member of a change");
        assert_eq!(given["readOnly"], member["readOnly"], "{name}");
        if given["readOnly"] == true {
            shown_alone.push(name.as_str());
        }
    }
    assert_eq!(shown_alone, ["version", "updated_at", "updated_by", "environment", "models", "models_status"]);
    for name in shown_alone {
        let other = if name == "models" { json!([{}]) } else { json!("another") };
        assert_eq!(put(config, &json!({name: other})).await.refusal(), (422, "read_only_field".to_owned()), "{name}");
        put(config, &json!({name: null})).await.expect(200);
    }
    assert_eq!(schemas["podium.v1.EnsemblePatch.given"]["properties"]["url"]["readOnly"], true);
    let elsewhere = json!({"ensemble": {"url": "http://elsewhere.example"}});
    assert_eq!(put(config, &elsewhere).await.refusal(), (422, "read_only_field".to_owned()));

    let may_be_null = |shape: &Value| shape["type"].as_array().or(shape["anyOf"].as_array()).unwrap().len() == 2;
    for (name, value) in [("features", json!(true)), ("agent_types", json!({"model": "m"}))] {
        assert!(may_be_null(&resolved(&document, &patch["properties"][name])["additionalProperties"]), "{name}");
        assert_eq!(put(config, &json!({name: {"x": value}})).await.expect(200)[name], json!({"x": value}));
        assert_eq!(put(config, &json!({name: {"x": null}})).await.expect(200)[name], json!({}));
    }
    let body = &document["paths"]["/api/v1/secrets/{agent_type}"]["put"]["requestBody"];
    let [full, flat] = &body["content"]["application/json"]["schema"]["anyOf"].as_array().unwrap()[..] else {
        panic!()
    };
    assert!(may_be_null(&flat["additionalProperties"]) && full["properties"]["mode"].is_object(), "{full}");
    assert_eq!(put(secrets, &json!({"A": "1", "B": "2"})).await.expect(200)["names"], json!(["A", "B"]));
    assert_eq!(put(secrets, &json!({"A": null})).await.expect(200)["names"], json!(["B"]));
    house.close().await;
}

/// What came of breaking a rule.
type Tried = Result<(), String>;

struct Operation<'a> {
    document: &'a Value,
    stage: &'a Stage,
    path: &'a str,
    verb: String,
    it: &'a Value,
}

impl Operation<'_> {
    async fn break_parameters(&self) -> Vec<Tried> {
        let mut rules = Vec::new();
        for parameter in self.it["parameters"].as_array().unwrap() {
            let (name, place) = (parameter["name"].as_str().unwrap(), parameter["in"].as_str().unwrap());
            let wrongs = wrong(self.document, &parameter["schema"]);
            for wrong in wrongs.iter().filter_map(plain).filter(|wrong| !wrong.is_empty()) {
                let answer = match place {
                    "path" => self.ask(&self.filled(Some((name, &wrong)))).await,
                    "query" => self.ask(&format!("{}?{name}={}", self.filled(None), encoded(&wrong))).await,
                    _ => continue,
                };
                rules.push(self.refused(&answer, name, &wrong));
            }
        }
        rules
    }

    async fn break_body(&self) -> Vec<Tried> {
        let content = &self.it["requestBody"]["content"];
        if let Some(form) = content.get("multipart/form-data") {
            return self.break_form(&form["schema"]).await;
        }
        let Some(content) = content.get("application/json") else { return Vec::new() };
        let schema = resolved(self.document, &content["schema"]);
        // A body of two forms: what breaks the first one may be the second.
        let forms = schema.get("anyOf").filter(|_| schema["type"].is_null());
        let required = schema["required"].as_array().filter(|_| forms.is_none());
        let schema = forms.map_or(schema, |forms| &forms[0]);
        let mut example = content["example"].as_object().cloned().unwrap_or_default();
        if let Some(deployment_id) = example.get_mut("deployment_id") {
            *deployment_id = self.stage.deployment_id.as_str().into();
        }
        let mut bodies: Vec<Map<String, Value>> = Vec::new();
        for name in required.into_iter().flatten() {
            let mut without = example.clone();
            without.remove(name.as_str().unwrap());
            bodies.push(without);
        }
        for wrong in wrong(self.document, schema) {
            let mut with = example.clone();
            with.extend(wrong.as_object().cloned().unwrap_or_default());
            bodies.push(with);
        }
        let mut rules = Vec::new();
        for body in bodies {
            let body = Value::from(body);
            let answer = self.house().ask(ADMIN, &self.verb, &self.filled(None)).json(&body).await;
            rules.push(self.refused(&answer, "body", &body.to_string()));
        }
        rules
    }

    async fn break_form(&self, schema: &Value) -> Vec<Tried> {
        let mut rules = Vec::new();
        for (name, property) in schema["properties"].as_object().unwrap() {
            for wrong in wrong(self.document, property).iter().filter_map(plain) {
                let mut form = String::new();
                for (field, fine) in [("agent_type", "echo"), ("version", "9.9.9"), ("file", "x")] {
                    let value = if field == name { &wrong } else { fine };
                    form += &format!("--b\r\nContent-Disposition: form-data; name=\"{field}\"\r\n\r\n{value}\r\n");
                }
                form += "--b--\r\n";
                let asking = self.house().ask(ADMIN, &self.verb, &self.filled(None));
                let answer = asking.bytes("multipart/form-data; boundary=b", form).await;
                rules.push(self.refused(&answer, name, &wrong));
            }
        }
        rules
    }

    /// Every word that a parameter may be is taken.
    async fn take_words(&self) {
        // A followed log does not end.
        let parameters = self.it["parameters"].as_array().unwrap().iter().filter(|_| !self.path.ends_with(":follow"));
        for parameter in parameters.filter(|it| it["in"] == "query") {
            let name = parameter["name"].as_str().unwrap();
            for word in parameter["schema"]["enum"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                let path = format!("{}?{name}={}", self.filled(None), encoded(word));
                let content = &self.it["requestBody"]["content"]["application/json"];
                let asking = self.house().ask(ADMIN, &self.verb, &path);
                let answer =
                    if content.is_null() { asking.send().await } else { asking.json(&content["example"]).await };
                assert_eq!(answer.status, 200, "{} {path}: {answer:?}", self.verb);
            }
        }
    }

    /// The path with parameters that are fine, but for this one.
    fn filled(&self, but: Option<(&str, &str)>) -> String {
        let fine = [
            ("instance_id", "echo-1"),
            ("deployment_id", &self.stage.deployment_id),
            ("agent_type", "echo"),
            ("key_id", "key_none"),
            ("path", "notes.txt"),
        ];
        fine.iter().fold(self.path.to_owned(), |path, (name, value)| {
            let value = but.filter(|(wanted, _)| wanted == name).map_or(*value, |(_, value)| value);
            path.replace(&format!("{{{name}}}"), &encoded(value))
        })
    }

    async fn ask(&self, path: &str) -> Answer {
        let asking = self.house().ask(ADMIN, &self.verb, path);
        let content = &self.it["requestBody"]["content"];
        match (content.get("application/json"), content.get("application/octet-stream")) {
            (Some(json), _) => asking.json(&json["example"]).await,
            (_, Some(_)) => asking.bytes("application/octet-stream", "x").await,
            _ => asking.send().await,
        }
    }

    fn house(&self) -> &TestHouse {
        &self.stage.house
    }

    fn refused(&self, answer: &Answer, name: &str, wrong: &str) -> Tried {
        match answer.status.as_u16() {
            400 | 422 => Ok(()),
            // Who comes without a handshake is told that alone; `podium::websocket` says the same in one.
            426 => Ok(()),
            status => Err(format!("{} {}: {name} {wrong:?}: {status}", self.verb, self.path)),
        }
    }
}

/// Values that a schema does not allow, one for each of its rules.
fn wrong(document: &Value, schema: &Value) -> Vec<Value> {
    let schema = resolved(document, schema);
    let mut wrongs = Vec::new();
    if schema.get("enum").is_some() {
        wrongs.push(json!("no such word"));
    }
    if schema.get("pattern").is_some() {
        wrongs.push(json!(FITS_NOTHING));
    }
    if schema.get("minLength").is_some() {
        wrongs.push(json!(""));
    }
    if let Some(length) = schema["maxLength"].as_u64() {
        wrongs.push(json!("1".repeat(usize::try_from(length).unwrap() + 1)));
    }
    // Beyond the widest types there is no number to write.
    if let Some(minimum) = schema["minimum"].as_i64().filter(|minimum| *minimum > i64::MIN) {
        wrongs.push(json!(minimum - 1));
    }
    if let Some(maximum) = schema["maximum"].as_u64().filter(|maximum| *maximum < u64::MAX) {
        // From 2^53 on the next number of a Struct is the one after the next.
        wrongs.push(json!(maximum + 1 + (maximum >> 53)));
    }
    if schema["additionalProperties"] == false {
        wrongs.push(json!({"no such member": 1}));
    }
    let (members, values) = (&schema["properties"], &schema["additionalProperties"]);
    let names = &schema["propertyNames"];
    if names.get("pattern").is_some() {
        let value = wrong_free(document, values);
        wrongs.push(json!({FITS_NOTHING: value}));
    }
    for name in names["not"]["enum"].as_array().into_iter().flatten() {
        wrongs.push(json!({name.as_str().unwrap(): "x"}));
    }
    for (name, member) in members.as_object().into_iter().flatten() {
        wrongs.extend(wrong(document, member).into_iter().map(|wrong| json!({name: wrong})));
    }
    if values.is_object() {
        wrongs.extend(wrong(document, values).into_iter().map(|wrong| json!({"A": wrong})));
    }
    if schema.get("items").is_some() {
        wrongs.extend(wrong(document, &schema["items"]).into_iter().map(|wrong| json!([wrong])));
    }
    wrongs
}

/// Some value that a schema allows: nothing but the name is to be wrong.
fn wrong_free(document: &Value, schema: &Value) -> Value {
    let kind = &resolved(document, schema)["type"];
    let is_text = *kind == "string" || kind.as_array().is_some_and(|kinds| kinds.contains(&json!("string")));
    if is_text { json!("x") } else { json!({}) }
}

/// A schema behind its references, without the null that it may be besides.
fn resolved<'d>(document: &'d Value, schema: &'d Value) -> &'d Value {
    if let Some(reference) = schema["$ref"].as_str() {
        return resolved(document, document.pointer(reference.trim_start_matches('#')).unwrap());
    }
    match schema["anyOf"].as_array() {
        Some(forms) if forms.last() == Some(&json!({"type": "null"})) => resolved(document, &forms[0]),
        _ => schema,
    }
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
