//! Every answer over REST is as the API reference describes it: its status, its headers, its members.

use http::{HeaderMap, header};
use portico::schema::{Access, Method};
use serde_json::Value;

use super::matrix::{caller, prepare, staged};
use crate::support::{
    doors::{Call, Door, Told},
    ensemble::Ensemble,
    example,
    gateway::{ADMIN, TestHouse},
    stage::Stage,
};

/// Headers that say how the content is carried, and those for caches, proxies and browsers.
const OF_THE_EXCHANGE: [&str; 8] = [
    "cache-control",
    "connection",
    "content-length",
    "content-security-policy",
    "content-type",
    "x-accel-buffering",
    "x-content-type-options",
    "vary",
];

#[tokio::test]
async fn every_answer_is_as_the_api_reference_describes_it() {
    // With limits, since answers tell of them.
    let url = Ensemble::start().await.url();
    let stage = Stage::set_in(TestHouse::with(&[("PORTICO_ENSEMBLE_URL", &url)]).await).await;
    prepare(&stage).await;
    let document = Document(stage.house.ask("", "GET", "/openapi.json").send().await.expect(200));
    let mut wrong = Vec::new();
    for method in example::podium() {
        let doors = Door::of(method).into_iter().filter(|door| matches!(door, Door::Rest | Door::Events | Door::Lines));
        for (at, door) in doors.enumerate() {
            let request = staged(&stage, method, at, &example::of(method).request).await;
            for key in [caller(&stage, method), ""] {
                let call = Call { method, messages: vec![request.clone()], key, answers_max: 1 };
                let told = door.call(&stage.house, &call).await;
                let is_let_in = !key.is_empty() || method.access == Access::Public;
                assert_eq!(told.status.is_success(), is_let_in, "{}: {}", method.path, told.text);
                let problems = document.problems(method, door, &told);
                wrong.extend(problems.into_iter().map(|problem| format!("{} by {door:?}: {problem}", method.path)));
                document.spares_as_described(&stage.house, door, &call, &told).await;
            }
        }
    }
    let plain = stage.house.ask(ADMIN, "GET", "/agent/echo-1").send().await;
    let response = document.response("podium_v1_Attach", plain.status.as_u16());
    wrong.extend(document.headers(response, &plain.headers));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    stage.house.close().await;
}

/// The examples of the reference are what its schemas allow.
#[tokio::test]
async fn every_example_of_the_api_reference_fits_its_schema() {
    let house = TestHouse::start().await;
    let document = Document(house.ask("", "GET", "/openapi.json").send().await.expect(200));
    let mut wrong = Vec::new();
    document.walk(&document.0, "", &mut |at, it| {
        if let (Some(schema), Some(example)) = (it.get("schema"), it.get("example")) {
            document.fits(schema, example, at, &mut wrong);
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

struct Document(Value);

impl Document {
    /// What is not as it is described.
    fn problems(&self, method: &Method, door: Door, told: &Told) -> Vec<String> {
        let response = self.response(&id(method), told.status.as_u16());
        let mut wrong = self.headers(response, &told.headers);
        let media_type = match door {
            _ if !told.status.is_success() => "application/json",
            Door::Lines => "application/x-ndjson",
            _ => "application/json",
        };
        let content = &response["content"][media_type];
        // Of a stream one message; events are text, and a download is what it is.
        let text = if door == Door::Lines { told.text.lines().next() } else { Some(told.text.as_str()) };
        let json = text.and_then(|text| serde_json::from_str(text).ok());
        if let (Some(schema), Some(json)) = (content.get("schema"), json) {
            self.fits(schema, &json, "", &mut wrong);
        } else if door != Door::Events && response.get("content").is_some() && method.rest.raw.is_none() {
            wrong.push(format!("{} has no content like {}", told.status, told.text));
        }
        wrong
    }

    /// Who has an answer with a tag is told so exactly where that is described.
    async fn spares_as_described(&self, house: &TestHouse, door: Door, call: &Call<'_>, told: &Told) {
        let Some(tag) = told.headers.get(header::ETAG) else { return };
        let mut request = door.request(call);
        request.headers_mut().insert(header::IF_NONE_MATCH, tag.clone());
        let status = house.call(request).await.status().as_u16();
        let id = id(call.method);
        assert_eq!(status == 304, self.operation(&id)["responses"].get("304").is_some(), "{id}: {status}");
        if status == 304 {
            assert!(self.operation(&id)["parameters"].to_string().contains("If-None-Match"), "{id}");
        }
    }

    fn operation(&self, id: &str) -> &Value {
        let items = self.0["paths"].as_object().unwrap().values();
        items.flat_map(|item| item.as_object().unwrap().values()).find(|it| it["operationId"] == id).unwrap()
    }

    fn response(&self, id: &str, status: u16) -> &Value {
        let responses = self.operation(id)["responses"].as_object().unwrap();
        self.resolved(responses.get(&status.to_string()).unwrap_or_else(|| panic!("{id}: {status} is not described")))
    }

    /// Headers that an answer has and should not, or should have and has not.
    fn headers(&self, response: &Value, headers: &HeaderMap) -> Vec<String> {
        let described = response["headers"].as_object().unwrap();
        let known = |name: &str| described.keys().any(|it| it.eq_ignore_ascii_case(name));
        let unknown = headers.keys().map(|name| name.as_str());
        let unknown = unknown.filter(|name| !OF_THE_EXCHANGE.contains(name) && !known(name));
        let missing = described
            .iter()
            .filter(|(name, header)| self.resolved(header)["required"] == true && !headers.contains_key(name.as_str()));
        let unknown = unknown.map(|name| format!("the header {name} is not described"));
        unknown.chain(missing.map(|(name, _)| format!("the header {name} is missing"))).collect()
    }

    /// Notes where a value is not what a schema allows: types, members, words.
    fn fits(&self, schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
        let schema = self.resolved(schema);
        if let Some(forms) = schema["anyOf"].as_array() {
            let fits = |form: &Value| {
                let mut wrong = Vec::new();
                self.fits(form, value, at, &mut wrong);
                wrong.is_empty()
            };
            if !forms.iter().any(fits) {
                wrong.push(format!("{at} fits none of its forms: {value}"));
            }
        }
        let is = |kind: &Value| match kind.as_str().unwrap() {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "string" => value.is_string(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("{other} is no type"),
        };
        let fits = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().any(is),
            Value::Null => true,
            kind => is(kind),
        };
        if !fits || schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
            wrong.push(format!("{at} is {value}"));
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if value.is_object() && value.get(name).is_none() {
                wrong.push(format!("{at}.{name} is missing"));
            }
        }
        for (name, member) in value.as_object().into_iter().flatten() {
            let at = format!("{at}.{name}");
            match (schema["properties"].get(name), &schema["additionalProperties"]) {
                (Some(described), _) => self.fits(described, member, &at, wrong),
                (None, free @ Value::Object(_)) => self.fits(free, member, &at, wrong),
                (None, Value::Bool(true)) => {}
                // What narrows another schema, or names no member, lets others be there.
                (None, _) if schema.get("type").is_none() || schema.get("properties").is_none() => {}
                (None, _) => wrong.push(format!("{at} is not described")),
            }
        }
        for element in value.as_array().into_iter().flatten() {
            self.fits(&schema["items"], element, &format!("{at}[]"), wrong);
        }
    }

    fn resolved<'d>(&'d self, value: &'d Value) -> &'d Value {
        let reference = value["$ref"].as_str();
        reference.map_or(value, |reference| self.0.pointer(reference.trim_start_matches('#')).unwrap())
    }

    fn walk<'d>(&self, value: &'d Value, at: &str, each: &mut impl FnMut(&str, &'d Value)) {
        each(at, value);
        match value {
            Value::Object(members) => {
                members.iter().for_each(|(name, member)| self.walk(member, &format!("{at}/{name}"), each));
            }
            Value::Array(elements) => elements.iter().for_each(|element| self.walk(element, at, each)),
            _ => {}
        }
    }
}

fn id(method: &Method) -> String {
    format!("podium_v1_{}", method.name)
}
