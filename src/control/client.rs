// SPDX-License-Identifier: GPL-2.0-or-later
//! The command line's side of the control socket.

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::lines::Lines;
use super::status::{SetPortGroup, Status, StatusRequest};

/// Bytes of a response: a status with many thousands of sessions.
const RESPONSE_MAX: usize = 256 << 20;

/// How long the daemon may take.
const TIME: Duration = Duration::from_secs(10);

/// Asks the daemon at `socket` for its status. Errors are for people.
pub fn status(socket: &Path, wanted: StatusRequest) -> Result<Status, String> {
    let result = call(socket, "status", json!(wanted))?;
    serde_json::from_value(result)
        .map_err(|e| format!("the daemon at {} speaks another version: {e}", socket.display()))
}

/// Asks the daemon at `socket` for another state of a target port group. Errors are for people.
pub fn set_port_group(socket: &Path, wanted: &SetPortGroup) -> Result<(), String> {
    call(socket, "set_port_group", json!(wanted)).map(|_| ())
}

/// Calls a method.
pub(crate) fn call(socket: &Path, method: &str, params: Value) -> Result<Value, String> {
    let stream = UnixStream::connect(socket).map_err(|e| unreachable(socket, &e))?;
    let mut lines = Lines::new(stream, RESPONSE_MAX);
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    // A daemon that refuses us may have closed already; its reason can still be read.
    let sent = lines.send(&request.to_string(), TIME);
    let place = socket.display();
    let response = match lines.receive(TIME) {
        Ok(Some(response)) => response,
        Ok(None) => return Err(format!("the daemon at {place} closed the connection")),
        Err(e) if e.kind() == ErrorKind::TimedOut => {
            return Err(format!("the daemon at {place} does not answer within {} s", TIME.as_secs()));
        }
        Err(e) => return Err(format!("the daemon at {place}: {}", sent.err().unwrap_or(e))),
    };
    let mut response: Value = serde_json::from_slice(&response)
        .map_err(|e| format!("the program that listens at {place} does not speak JSON-RPC: {e}"))?;
    match (response["result"].take(), &response["error"]["message"]) {
        (result, Value::Null) => Ok(result),
        (_, message) => Err(format!("the daemon at {place}: {}", message.as_str().unwrap_or_default())),
    }
}

fn unreachable(socket: &Path, e: &io::Error) -> String {
    let place = socket.display();
    match e.kind() {
        ErrorKind::NotFound => format!(
            "no daemon at {place}: is ptgt running? If its configuration names another control_socket, \
             give that with --socket or the configuration with --config"
        ),
        ErrorKind::ConnectionRefused => {
            format!("no daemon at {place}: the socket is left from a daemon that died")
        }
        ErrorKind::PermissionDenied => {
            format!("{place}: permission denied: be root or the user of the daemon")
        }
        _ => format!("{place}: {e}"),
    }
}
