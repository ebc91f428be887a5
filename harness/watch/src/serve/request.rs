//! The head of a request, read, and the head of its answer, written. No I/O.
//!
//! Source: RFC 9112 sections 3 (request line) and 6.3 (how a body is announced), RFC 9110 sections 9 and 15.

/// Longest head of a request, bytes.
pub(crate) const HEAD_BYTES: usize = 8 << 10;
/// What a page of figures is.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// An answer with words of our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Status.
    pub(crate) status: u16,
    /// Text.
    pub(crate) text: &'static str,
}

impl Answer {
    pub(crate) const INDEX: Answer = Answer { status: 200, text: "fragbench export: the figures are at /metrics\n" };
    pub(crate) const BAD: Answer = Answer { status: 400, text: "this is no request of HTTP/1.1: GET /metrics is\n" };
    pub(crate) const NOT_HERE: Answer = Answer { status: 404, text: "not here; the figures are at /metrics\n" };
    pub(crate) const METHOD: Answer = Answer { status: 405, text: "figures are only read: GET /metrics\n" };
    pub(crate) const LATE: Answer = Answer { status: 408, text: "the request was not finished in time\n" };
    pub(crate) const BODY: Answer = Answer { status: 413, text: "a request here has no body: GET /metrics\n" };
    pub(crate) const LONG: Answer = Answer { status: 431, text: "the head of a request is at most 8 KiB here\n" };
    pub(crate) const FAILED: Answer =
        Answer { status: 500, text: "the figures could not be taken; what fragbench export prints says why\n" };
    pub(crate) const BUSY: Answer = Answer { status: 503, text: "too many connections; ask again\n" };
    pub(crate) const VERSION: Answer = Answer { status: 505, text: "HTTP/1.1 or HTTP/1.0 is spoken here\n" };

    fn reason(self) -> &'static str {
        match self.status {
            200 => "OK",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            413 => "Content Too Large",
            431 => "Request Header Fields Too Large",
            500 => "Internal Server Error",
            503 => "Service Unavailable",
            _ => "HTTP Version Not Supported",
        }
    }

    /// Its head.
    pub(crate) fn head(self) -> String {
        let more = match self.status {
            405 => "Allow: GET, HEAD\r\n",
            503 => "Retry-After: 1\r\n",
            _ => "",
        };
        head(self.status, self.reason(), "text/plain; charset=utf-8", self.text.len(), more)
    }
}

/// The head of the answer with figures of so many bytes.
pub(crate) fn page_head(bytes: usize) -> String {
    head(200, "OK", CONTENT_TYPE, bytes, "")
}

fn head(status: u16, reason: &str, kind: &str, bytes: usize, more: &str) -> String {
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {bytes}\r\n{more}Connection: close\r\n\r\n"
    )
}

/// What has come of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Its head has not ended.
    Unfinished,
    /// For the figures; `head_only` when without them (HEAD).
    Page {
        /// HEAD.
        head_only: bool,
    },
    /// For something that is answered at once.
    Other {
        /// The answer.
        answer: Answer,
        /// HEAD.
        head_only: bool,
    },
}

/// Reads what has come.
pub(crate) fn read(bytes: &[u8]) -> Asked {
    let refuse = |answer| Asked::Other { answer, head_only: false };
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if bytes.len() >= HEAD_BYTES { refuse(Answer::LONG) } else { Asked::Unfinished };
    };
    let Ok(head) = std::str::from_utf8(&bytes[..end]) else { return refuse(Answer::BAD) };
    let mut lines = head.split("\r\n");
    let line: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, version] = line[..] else { return refuse(Answer::BAD) };
    match version {
        "HTTP/1.1" | "HTTP/1.0" => {}
        _ if version.starts_with("HTTP/") => return refuse(Answer::VERSION),
        _ => return refuse(Answer::BAD),
    }
    let mut hosts = 0;
    for field in lines {
        // A name that ends in a space, or a line that goes on, is how requests are smuggled (RFC 9112, 5.1 and 5.2).
        let Some((name, value)) = field.split_once(':') else { return refuse(Answer::BAD) };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic()) {
            return refuse(Answer::BAD);
        }
        match name.to_ascii_lowercase().as_str() {
            "host" => hosts += 1,
            "transfer-encoding" => return refuse(Answer::BODY),
            "content-length" if value.trim() != "0" => return refuse(Answer::BODY),
            _ => {}
        }
    }
    if hosts > 1 || (hosts == 0 && version == "HTTP/1.1") {
        return refuse(Answer::BAD);
    }
    let head_only = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return refuse(Answer::METHOD),
    };
    // A client may name the whole address (RFC 9112, 3.2.2).
    let path = target.strip_prefix("http://").map_or(target, |rest| rest.find('/').map_or("/", |at| &rest[at..]));
    match path.split('?').next().unwrap_or_default() {
        "/metrics" => Asked::Page { head_only },
        "/" => Asked::Other { answer: Answer::INDEX, head_only },
        _ => Asked::Other { answer: Answer::NOT_HERE, head_only },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_told_by_its_head() {
        let other = |answer| Asked::Other { answer, head_only: false };
        let host = "Host: h\r\n";
        for (text, asked) in [
            (format!("GET /metrics HTTP/1.1\r\n{host}\r\n"), Asked::Page { head_only: false }),
            (
                format!("GET /metrics?x=1 HTTP/1.1\r\n{host}Accept: a/b;q=1, */*\r\n\r\n"),
                Asked::Page { head_only: false },
            ),
            ("GET /metrics HTTP/1.0\r\n\r\n".into(), Asked::Page { head_only: false }),
            (format!("GET http://h:1/metrics HTTP/1.1\r\n{host}\r\n"), Asked::Page { head_only: false }),
            (format!("HEAD /metrics HTTP/1.1\r\n{host}\r\n"), Asked::Page { head_only: true }),
            (format!("HEAD / HTTP/1.1\r\n{host}\r\n"), Asked::Other { answer: Answer::INDEX, head_only: true }),
            (format!("GET /metrics/x HTTP/1.1\r\n{host}\r\n"), other(Answer::NOT_HERE)),
            (format!("GET //metrics HTTP/1.1\r\n{host}\r\n"), other(Answer::NOT_HERE)),
            (format!("DELETE /metrics HTTP/1.1\r\n{host}\r\n"), other(Answer::METHOD)),
            (format!("GET /metrics HTTP/1.1\r\n{host}Content-Length: 0\r\n\r\n"), Asked::Page { head_only: false }),
            (format!("GET /metrics HTTP/1.1\r\n{host}Content-Length: 99999999999\r\n\r\n"), other(Answer::BODY)),
            (format!("GET /metrics HTTP/1.1\r\n{host}content-length: -1\r\n\r\n"), other(Answer::BODY)),
            (format!("GET /metrics HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n"), other(Answer::BODY)),
            (format!("GET /metrics HTTP/1.1\r\n{host}Content-Length : 5\r\n\r\n"), other(Answer::BAD)),
            (format!("GET /metrics HTTP/1.1\r\n{host} folded: x\r\n\r\n"), other(Answer::BAD)),
            (format!("GET /metrics HTTP/1.1\r\n{host}{host}\r\n"), other(Answer::BAD)),
            ("GET /metrics HTTP/1.1\r\n\r\n".into(), other(Answer::BAD)),
            (format!("GET /metrics HTTP/2.0\r\n{host}\r\n"), other(Answer::VERSION)),
            ("\x16\x03\x01\x02 hello\r\n\r\n".into(), other(Answer::BAD)),
            ("\r\n\r\n".into(), other(Answer::BAD)),
            (format!("GET /metrics HTTP/1.1\r\n{host}"), Asked::Unfinished),
            (String::new(), Asked::Unfinished),
            ("x".repeat(HEAD_BYTES), other(Answer::LONG)),
        ] {
            assert_eq!(read(text.as_bytes()), asked, "{text:?}");
        }
        assert_eq!(read(b"GET /\xff HTTP/1.1\r\n\r\n"), other(Answer::BAD));
    }

    #[test]
    fn an_answer_says_how_long_it_is_and_what_would_be_right() {
        assert!(Answer::METHOD.head().contains("\r\nAllow: GET, HEAD\r\n"));
        assert!(Answer::BUSY.head().contains("\r\nRetry-After: 1\r\n"));
        assert!(page_head(7).contains("\r\nContent-Length: 7\r\n") && page_head(7).ends_with("\r\n\r\n"));
    }
}
