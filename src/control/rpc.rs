// SPDX-License-Identifier: GPL-2.0-or-later
//! JSON-RPC 2.0, the daemon's side: one request to one response. Batches are not served: a client may send one request
//! after the other.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::output;
use super::status::{ApplyRequest, MediumRequest, SetPortGroup, StatusRequest, StatusSource};

/// Why a request is not served: code and message of an error object (JSON-RPC 2.0, 5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure(i32, String);

impl Failure {
    fn new(code: i32, message: impl Into<String>) -> Self {
        Self(code, message.into())
    }

    fn parse(why: &serde_json::Error) -> Self {
        Self::new(-32700, format!("parse error: {why}"))
    }

    fn invalid(why: &str) -> Self {
        Self::new(-32600, format!("invalid request: {why}"))
    }

    /// The daemon does not talk to this client (now).
    pub(super) fn refused(why: impl Into<String>) -> Self {
        Self::new(-32000, why)
    }

    /// A line that is longer than is read.
    pub(super) fn too_long(max: usize) -> Self {
        Self::invalid(&format!("it is longer than {max} bytes"))
    }

    /// The response that says so.
    pub(super) fn response(&self, id: &Value) -> String {
        let Self(code, message) = self;
        output::json(
            &json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } }),
            false,
        )
    }
}

/// The response to a request; `None` to a notification.
pub(crate) fn answer(line: &[u8], source: &dyn StatusSource) -> Option<String> {
    let request: Value = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(e) => return Some(Failure::parse(&e).response(&Value::Null)),
    };
    let id = request.get("id");
    let usable = matches!(id, None | Some(Value::Null | Value::String(_) | Value::Number(_)));
    let known_id = id.filter(|_| usable).unwrap_or(&Value::Null);
    match well_formed(&request).filter(|_| usable) {
        None => {
            let why =
                Failure::invalid("one object with \"jsonrpc\": \"2.0\", \"method\" and \"id\" is expected");
            Some(why.response(known_id))
        }
        Some(method) => {
            let result = call(method, request.get("params"), source);
            id?;
            Some(match result {
                Ok(result) => {
                    output::json(&json!({ "jsonrpc": "2.0", "id": known_id, "result": result }), false)
                }
                Err(failure) => failure.response(known_id),
            })
        }
    }
}

/// The method that a request names.
fn well_formed(request: &Value) -> Option<&str> {
    let version = request.get("jsonrpc")?.as_str()?;
    let method = request.get("method")?.as_str()?;
    let params = request.get("params");
    let structured = params.is_none_or(|params| params.is_array() || params.is_object());
    (version == "2.0" && structured).then_some(method)
}

fn call(method: &str, params: Option<&Value>, source: &dyn StatusSource) -> Result<Value, Failure> {
    match method {
        "status" => {
            let wanted: StatusRequest =
                parameters(params, "status takes sessions, true or false, or nothing")?;
            Ok(json!(source.status(wanted)))
        }
        "version" => {
            let Nothing {} = parameters(params, "version takes none")?;
            Ok(json!(env!("CARGO_PKG_VERSION")))
        }
        "set_port_group" => {
            let takes = "set_port_group takes group and state, and disk if it is for one disk only";
            let wanted: SetPortGroup = parameters(params, takes)?;
            source.set_port_group(&wanted).map(|()| json!({})).map_err(Failure::refused)
        }
        // Operators have no command for these yet.
        "apply" if cfg!(any(test, feature = "sim")) => {
            let wanted: ApplyRequest = parameters(params, "apply takes path")?;
            source.apply(&wanted).map(|()| json!({})).map_err(Failure::refused)
        }
        "change_medium" if cfg!(any(test, feature = "sim")) => {
            let takes = "change_medium takes unit, and image or force";
            let wanted: MediumRequest = parameters(params, takes)?;
            source.change_medium(&wanted).map(|()| json!({})).map_err(Failure::refused)
        }
        _ => {
            let methods = "status, version, set_port_group";
            Err(Failure::new(-32601, format!("there is no method {method:?}: {methods}")))
        }
    }
}

/// No parameters.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// The parameters by their names; `takes` says which there are.
fn parameters<P: DeserializeOwned>(params: Option<&Value>, takes: &str) -> Result<P, Failure> {
    let named = match params {
        None => json!({}),
        Some(Value::Array(list)) if list.is_empty() => json!({}),
        Some(named @ Value::Object(_)) => named.clone(),
        Some(_) => return Err(Failure::new(-32602, format!("invalid params: give them by name: {takes}"))),
    };
    serde_json::from_value(named).map_err(|e| Failure::new(-32602, format!("invalid params: {e}: {takes}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::status::tests::sample;
    use super::super::status::{Status, StatusSource};
    use super::*;
    use crate::wire::tests::is_clean;

    struct Sample;

    impl StatusSource for Sample {
        fn status(&self, wanted: StatusRequest) -> Status {
            let mut status = sample();
            status.fabrics.retain(|key, _| key != "sessions" || wanted.sessions);
            status
        }

        fn set_port_group(&self, wanted: &SetPortGroup) -> Result<(), String> {
            if wanted.disk.as_deref() == Some("d") { Ok(()) } else { Err("no such disk".into()) }
        }

        fn apply(&self, wanted: &ApplyRequest) -> Result<(), String> {
            if wanted.path.ends_with("good") { Ok(()) } else { Err("no such file".into()) }
        }

        fn change_medium(&self, wanted: &MediumRequest) -> Result<(), String> {
            if wanted.unit == "t" { Ok(()) } else { Err("no such unit".into()) }
        }
    }

    fn ask(line: &str) -> Option<Value> {
        answer(line.as_bytes(), &Sample).map(|text| serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn methods_answer() {
        let version = ask(r#"{"jsonrpc":"2.0","id":"a","method":"version"}"#);
        assert_eq!(version, Some(json!({"jsonrpc":"2.0","id":"a","result":env!("CARGO_PKG_VERSION")})));
        let group = r#"{"jsonrpc":"2.0","id":2,"method":"set_port_group","params":{"group":"1","state":"x","disk":"d"}}"#;
        assert_eq!(ask(group).unwrap()["result"], json!({}));
        let status = ask(r#"{"jsonrpc":"2.0","id":7,"method":"status","params":{}}"#).unwrap();
        assert_eq!(status["id"], 7);
        assert_eq!(serde_json::from_value::<Status>(status["result"].clone()).unwrap(), sample());
    }

    #[test]
    fn what_cannot_be_served_is_told_why() {
        let cases = [
            ("", -32700, Value::Null),
            ("{", -32700, Value::Null),
            ("\u{0}\u{1}", -32700, Value::Null),
            ("[]", -32600, Value::Null),
            (r#"[{"jsonrpc":"2.0","id":1,"method":"version"}]"#, -32600, Value::Null),
            (r#"{"id":1,"method":"version"}"#, -32600, json!(1)),
            (r#"{"jsonrpc":"1.0","id":1,"method":"version"}"#, -32600, json!(1)),
            (r#"{"jsonrpc":"2.0","id":1,"method":5}"#, -32600, json!(1)),
            (r#"{"jsonrpc":"2.0","id":{},"method":"version"}"#, -32600, Value::Null),
            (r#"{"jsonrpc":"2.0","id":1,"method":"set_port_group"}"#, -32602, json!(1)),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"set_port_group","params":{"group":"1"}}"#,
                -32602,
                json!(1),
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"set_port_group","params":{"group":"1","state":"x"}}"#,
                -32000,
                json!(1),
            ),
            (r#"{"jsonrpc":"2.0","id":1,"method":"version","params":3}"#, -32600, json!(1)),
            (r#"{"jsonrpc":"2.0","id":1,"method":"reboot"}"#, -32601, json!(1)),
            (r#"{"jsonrpc":"2.0","id":1,"method":"status","params":["x"]}"#, -32602, json!(1)),
        ];
        for (line, code, id) in cases {
            let response = ask(line).unwrap();
            assert_eq!(response["error"]["code"], code, "{line}");
            assert_eq!(response["id"], id, "{line}");
            assert!(response.get("result").is_none(), "{line}");
        }
    }

    #[test]
    fn sessions_come_unless_they_are_not_wanted() {
        let told = |params: &str| {
            let request = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"status"{params}}}"#);
            !ask(&request).unwrap()["result"]["sessions"].is_null()
        };
        assert_eq!(["", r#","params":[]"#, r#","params":{"sessions":true}"#].map(told), [true; 3]);
        assert!(!told(r#","params":{"sessions":false}"#));
    }

    /// What a method takes is said by each that takes something, whatever it was given.
    #[test]
    fn wrong_parameters_get_a_sentence() {
        for (method, takes) in [("status", "sessions, true or false"), ("set_port_group", "group and state")]
        {
            for params in ["[1]", r#"{"nonsense":1}"#] {
                let request = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{params}}}"#);
                let message = ask(&request).unwrap()["error"]["message"].to_string();
                assert!(message.contains(&format!("{method} takes {takes}")), "{message}");
            }
        }
        let message =
            ask(r#"{"jsonrpc":"2.0","id":7,"method":"set_port_group"}"#).unwrap()["error"]["message"]
                .to_string();
        assert!(message.contains("missing field `group`: set_port_group takes group and state"), "{message}");
    }

    #[test]
    fn notifications_are_not_answered() {
        assert_eq!(ask(r#"{"jsonrpc":"2.0","method":"version"}"#), None);
        assert_eq!(ask(r#"{"jsonrpc":"2.0","method":"nonsense"}"#), None);
    }

    proptest! {
        /// Whatever comes in, what goes out is a response of one line.
        #[test]
        fn no_request_makes_the_daemon_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..64),
            at in any::<prop::sample::Index>(),
        ) {
            let mut line = br#"{"jsonrpc":"2.0","id":1,"method":"status","params":[]}"#.to_vec();
            let at = at.index(line.len());
            line.splice(at..(at + 3).min(line.len()), bytes.iter().copied());
            for line in [&line, &bytes] {
                if let Some(text) = answer(line, &Sample) {
                    prop_assert!(!text.contains('\n') && is_clean(text.as_bytes()));
                    let response: Value = serde_json::from_str(&text).unwrap();
                    prop_assert!(response["result"].is_null() != response["error"].is_null());
                }
            }
        }
    }
}
