//! Clients of every kind, harmless ones and others, against a server of this process.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::AtomicUsize;

use super::request::HEAD_BYTES;
use super::*;

const HOST: &str = "Host: here\r\n";

/// Serves `page` while `clients` runs, under these bounds.
fn with_server(limits: Limits, page: impl FnMut() -> String + Send, clients: impl FnOnce(SocketAddr)) {
    let server = Server::bind(([127, 0, 0, 1], 0).into(), limits).unwrap();
    let stop = AtomicBool::new(false);
    let address = server.address().unwrap();
    /// Ends the server whether the clients succeed or not.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| server.serve(&stop, page, |_| {}));
        let stopped = Stop(&stop);
        clients(address);
        drop(stopped);
        serving.join().unwrap().unwrap();
    });
}

fn few() -> Limits {
    Limits { connections: 16, time: Duration::from_millis(300) }
}

/// Patient enough for a busy machine.
fn patient() -> Limits {
    Limits { connections: 16, time: Duration::from_secs(60) }
}

/// All that a server says to this.
fn told(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    // A server that has refused already may not take the rest.
    let _ = stream.write_all(text.as_bytes());
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn scrape(address: SocketAddr) -> String {
    told(address, &format!("GET /metrics HTTP/1.1\r\n{HOST}\r\n"))
}

#[test]
fn each_request_gets_its_answer() {
    with_server(
        patient(),
        || "figures\n".into(),
        |at| {
            let page = scrape(at);
            assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.ends_with("\r\n\r\nfigures\n"), "{page}");
            assert!(page.contains("application/openmetrics-text"), "{page}");
            let head = told(at, &format!("HEAD /metrics HTTP/1.1\r\n{HOST}\r\n"));
            assert!(head.contains("Content-Length: 8\r\n") && head.ends_with("\r\n\r\n"), "{head}");
            for (request, status) in [
                (format!("GET /x HTTP/1.1\r\n{HOST}\r\n"), 404),
                (format!("POST /metrics HTTP/1.1\r\n{HOST}\r\n"), 405),
                (format!("GET /metrics HTTP/1.1\r\n{HOST}Content-Length: 99999999999\r\n\r\nand so on"), 413),
                (format!("POST /metrics HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\nffffffff\r\n"), 413),
                (format!("GET / HTTP/1.1\r\n{HOST}X: {}\r\n\r\n", "x".repeat(HEAD_BYTES)), 431),
                ("what?\r\n\r\n".to_owned(), 400),
            ] {
                let answer = told(at, &request);
                assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer}");
            }
            // A refused client that goes on sending still reads why.
            let body = "x".repeat(100 << 10);
            let answer = told(at, &format!("PUT /metrics HTTP/1.1\r\n{HOST}Content-Length: 102400\r\n\r\n{body}"));
            assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
            // A request may come in pieces.
            let mut slow = TcpStream::connect(at).unwrap();
            for piece in ["GET /met", "rics HTTP/1.1\r", "\nHost: x\r\n\r", "\n"] {
                slow.write_all(piece.as_bytes()).unwrap();
                slow.flush().unwrap();
                assert!(scrape(at).starts_with("HTTP/1.1 200"), "others are answered in between");
            }
            let mut answer = String::new();
            slow.read_to_string(&mut answer).unwrap();
            assert!(answer.ends_with("figures\n"), "{answer}");
        },
    );
}

#[test]
fn a_request_that_is_not_finished_ends_by_itself() {
    with_server(
        few(),
        || "figures\n".into(),
        |at| {
            let answer = told(at, "GET /metrics HT");
            assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
            assert_eq!(told(at, ""), "", "who says nothing gets no answer");
            // One byte now and then does not buy time.
            let mut drop_by_drop = TcpStream::connect(at).unwrap();
            drop_by_drop.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            let mut answer = Vec::new();
            let mut piece = [0; 512];
            while !answer.starts_with(b"HTTP/1.1 408 ") {
                if drop_by_drop.write_all(b"G").is_err() {
                    break;
                }
                if let Ok(n) = drop_by_drop.read(&mut piece) {
                    assert!(n > 0, "closed without a word");
                    answer.extend(&piece[..n]);
                }
            }
            assert!(scrape(at).ends_with("figures\n"));
        },
    );
}

#[test]
fn many_scrapes_at_once_are_all_answered() {
    let made = AtomicUsize::new(0);
    let page = || {
        made.fetch_add(1, Ordering::Relaxed);
        "x".repeat(64 << 10)
    };
    with_server(patient(), page, |at| {
        std::thread::scope(|scope| {
            let scrapes: Vec<_> = (0..200).map(|_| scope.spawn(move || scrape(at))).collect();
            for scrape in scrapes {
                let answer = scrape.join().unwrap();
                assert!(answer.starts_with("HTTP/1.1 200 ") && answer.len() > 64 << 10, "{} bytes", answer.len());
            }
        });
    });
    assert!(made.load(Ordering::Relaxed) <= 200);
}

#[test]
fn half_open_connections_do_not_keep_scrapes_out() {
    with_server(
        patient(),
        || "figures\n".into(),
        |at| {
            // Ten times as many as there are places; they stay open, and the time of each is a minute.
            let silent: Vec<TcpStream> = (0..160).map(|_| TcpStream::connect(at).unwrap()).collect();
            let begun: Vec<TcpStream> = (0..40)
                .map(|_| {
                    let mut stream = TcpStream::connect(at).unwrap();
                    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost").unwrap();
                    stream
                })
                .collect();
            for _ in 0..5 {
                let answer = scrape(at);
                assert!(answer.ends_with("figures\n"), "{answer}");
            }
            drop((silent, begun));
        },
    );
}

#[test]
fn who_does_not_take_its_answer_stops_nobody() {
    with_server(
        few(),
        || "x".repeat(32 << 20),
        |at| {
            let mut deaf = TcpStream::connect(at).unwrap();
            write!(deaf, "GET /metrics HTTP/1.1\r\n{HOST}\r\n").unwrap();
            assert!(told(at, &format!("GET /x HTTP/1.1\r\n{HOST}\r\n")).starts_with("HTTP/1.1 404"));
            // Its connection is cut: reading ends, short of the whole.
            let mut one = [0];
            deaf.read_exact(&mut one).unwrap();
            // Whoever comes after it has run out of time after it.
            assert!(told(at, "GET").starts_with("HTTP/1.1 408 "));
            let mut rest = Vec::new();
            let _ = deaf.read_to_end(&mut rest);
            assert!(rest.len() < 32 << 20);
        },
    );
}

#[test]
fn a_page_that_takes_long_or_fails_costs_no_other_answer() {
    let (go_on, wait) = mpsc::channel::<bool>();
    let (begun, has_begun) = mpsc::channel();
    let page = move || {
        begun.send(()).unwrap();
        assert!(wait.recv().unwrap(), "this page fails");
        "figures\n".to_owned()
    };
    with_server(few(), page, |at| {
        std::thread::scope(|scope| {
            let first = scope.spawn(move || scrape(at));
            has_begun.recv().unwrap();
            // Longer than any client's time: the clock does not run while it is the server that takes long.
            assert!(told(at, "GET").starts_with("HTTP/1.1 408 "));
            assert!(told(at, &format!("GET / HTTP/1.1\r\n{HOST}\r\n")).starts_with("HTTP/1.1 200 "));
            go_on.send(true).unwrap();
            assert!(first.join().unwrap().ends_with("figures\n"));

            let second = scope.spawn(move || scrape(at));
            has_begun.recv().unwrap();
            go_on.send(false).unwrap();
            assert!(second.join().unwrap().starts_with("HTTP/1.1 500 "));

            let third = scope.spawn(move || scrape(at));
            has_begun.recv().unwrap();
            go_on.send(true).unwrap();
            assert!(third.join().unwrap().ends_with("figures\n"));
        });
    });
}
