// SPDX-License-Identifier: GPL-2.0-or-later
//! Good and bad clients at a real socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::sync::mpsc;

use super::*;
use crate::control::client;
use crate::control::status::tests::sample;
use crate::control::status::{ApplyRequest, MediumRequest, SetPortGroup, Status, StatusRequest};

struct Sample;

impl StatusSource for Sample {
    fn status(&self, _: StatusRequest) -> Status {
        sample()
    }

    fn set_port_group(&self, _: &SetPortGroup) -> Result<(), String> {
        Ok(())
    }

    fn apply(&self, _: &ApplyRequest) -> Result<(), String> {
        Ok(())
    }

    fn change_medium(&self, _: &MediumRequest) -> Result<(), String> {
        Ok(())
    }
}

/// A directory that goes away.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ptgt-{}-{test}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> PathBuf {
        self.0.join("run/control.sock")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

fn start(path: &Path) -> Server {
    Socket::bind(path).unwrap().serve(Arc::new(Sample)).unwrap()
}

const VERSION: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"version\"}\n";

fn response(stream: &UnixStream) -> Value {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

#[test]
fn the_status_comes_through_and_the_socket_goes() {
    let directory = Directory::new("status");
    let path = directory.socket();
    let server = start(&path);
    assert_eq!(client::status(&path, StatusRequest::default()).unwrap(), sample());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    drop(server);
    assert!(!path.exists());
    let error = client::status(&path, StatusRequest::default()).unwrap_err();
    assert!(error.contains("is ptgt running?"), "{error}");
}

#[test]
fn a_socket_has_one_daemon() {
    let directory = Directory::new("one");
    let path = directory.socket();
    let server = start(&path);
    let error = Socket::bind(&path).err().unwrap();
    assert!(error.contains("another daemon uses it"), "{error}");
    assert_eq!(
        client::status(&path, StatusRequest::default()).unwrap(),
        sample(),
        "the first one is not disturbed"
    );
    drop(server);
    drop(Socket::bind(&path).unwrap());
}

#[test]
fn what_a_dead_daemon_left_is_replaced_and_nothing_else() {
    let directory = Directory::new("stale");
    let path = directory.socket();
    fs::create_dir(path.parent().unwrap()).unwrap();
    drop(UnixListener::bind(&path).unwrap());
    let error = client::status(&path, StatusRequest::default()).unwrap_err();
    assert!(error.contains("a daemon that died"), "{error}");
    drop(start(&path));
    fs::write(&path, "precious").unwrap();
    let error = Socket::bind(&path).err().unwrap();
    assert!(error.contains("something else"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn requests_in_pieces_and_in_one_piece() {
    let directory = Directory::new("pieces");
    let path = directory.socket();
    let _server = start(&path);
    let mut stream = UnixStream::connect(&path).unwrap();
    for byte in VERSION {
        stream.write_all(&[*byte]).unwrap();
    }
    stream.write_all(&[VERSION, b"nonsense\n", VERSION].concat()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let answers: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), 4);
    assert_eq!(answers[2]["error"]["code"], -32700);
    assert_eq!((&answers[0], &answers[1]), (&answers[1], &answers[3]));
}

#[test]
fn a_line_without_end_is_refused() {
    let directory = Directory::new("long");
    let path = directory.socket();
    let _server = start(&path);
    let stream = UnixStream::connect(&path).unwrap();
    let mut writer = stream.try_clone().unwrap();
    // The daemon stops reading, so this ends with an error.
    let flood = std::thread::spawn(move || (0..1000).try_for_each(|_| writer.write_all(&[b' '; 4096])));
    let answer = response(&stream);
    assert_eq!(answer["error"]["code"], -32600);
    assert!(flood.join().unwrap().is_err());
}

#[test]
fn too_many_clients_are_told_and_leave_room_when_they_go() {
    let directory = Directory::new("many");
    let path = directory.socket();
    let _server = start(&path);
    let mut all: Vec<UnixStream> = (0..CLIENTS_MAX).map(|_| UnixStream::connect(&path).unwrap()).collect();
    let error = client::status(&path, StatusRequest::default()).unwrap_err();
    assert!(error.contains("which is the limit"), "{error}");
    // Those who only hold the place with half a line do not hold up one who asks.
    for stream in &mut all[1..] {
        stream.write_all(b"{").unwrap();
    }
    all[0].write_all(VERSION).unwrap();
    assert_eq!(response(&all[0])["id"], 1);
    drop(all);
    let mut tries = 0;
    while client::status(&path, StatusRequest::default()).is_err() {
        tries += 1;
        assert!(tries < 1000, "places become free");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_silent_client_does_not_hold_up_the_end() {
    let directory = Directory::new("end");
    let path = directory.socket();
    let server = start(&path);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(VERSION).unwrap();
    response(&stream);
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || {
        drop(server);
        _ = done.send(());
    });
    ended.recv_timeout(CLIENT_TIME / 2).expect("the server ends before the client's time is over");
    assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0);
}

#[test]
fn a_client_that_dawdles_is_given_up() {
    let (mut slow, ours) = UnixStream::pair().unwrap();
    let time = Duration::from_millis(100);
    let trickle = std::thread::spawn(move || {
        while slow.write_all(b"x").is_ok() {
            std::thread::sleep(time / 10);
        }
    });
    let mut lines = Lines::new(ours, REQUEST_MAX);
    assert_eq!(lines.receive(time).unwrap_err().kind(), ErrorKind::TimedOut, "though it sends all the time");
    // And so is one that does not take its answer.
    let answer = "y".repeat(8 << 20);
    assert_eq!(lines.send(&answer, time).unwrap_err().kind(), ErrorKind::TimedOut);
    drop(lines);
    trickle.join().unwrap();
}
