//! Lines of gdb's machine interface, as far as they are needed: result records, values, stack frames.
//!
//! Source: the gdb manual, "GDB/MI Output Syntax".

/// What gdb answers to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Number the command was given.
    pub(crate) token: u64,
    /// Whether it was done.
    pub(crate) done: bool,
    rest: String,
}

/// A line as a result record; `None` when it is another kind of line.
pub(crate) fn answer(line: &str) -> Option<Answer> {
    let (token, record) = line.split_once('^')?;
    let token = token.parse().ok()?;
    let (class, rest) = record.split_once(',').unwrap_or((record, ""));
    let done = matches!(class.trim_end(), "done" | "running" | "connected" | "exit");
    Some(Answer { token, done, rest: rest.to_owned() })
}

impl Answer {
    /// The first string of that name.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        texts(&self.rest, name).next()
    }

    /// The number a call gave back.
    pub(crate) fn value(&self) -> Option<u64> {
        let text = self.text("value")?;
        let number = text.split_whitespace().next()?;
        number.parse().ok().or_else(|| number.parse::<i64>().ok().map(i64::cast_unsigned))
    }

    /// Level of the frame that stands for what called the function, in a list of frames.
    pub(crate) fn dummy_frame(&self) -> Option<u64> {
        let levels = texts(&self.rest, "level");
        let names = self.rest.match_indices("frame={").map(|(at, _)| {
            let frame = &self.rest[at..];
            let frame = &frame[..frame[1..].find("frame={").map_or(frame.len(), |end| end + 1)];
            texts(frame, "func").next()
        });
        let mut frames = levels.zip(names);
        let dummy = frames.find(|(_, name)| name.as_deref() == Some("<function called from gdb>"))?;
        dummy.0.parse().ok()
    }
}

/// All strings of that name, in order.
fn texts<'a>(record: &'a str, name: &str) -> impl Iterator<Item = String> + 'a {
    let key = format!("{name}=\"");
    let starts: Vec<usize> = record.match_indices(&key).map(|(at, key)| at + key.len()).collect();
    starts.into_iter().map(move |at| unquoted(&record[at..]))
}

/// A C string up to its closing quote.
fn unquoted(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => match chars.next() {
                Some('n') => plain.push('\n'),
                Some('t') => plain.push('\t'),
                Some(other) => plain.push(other),
                None => break,
            },
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_results_are_answers() {
        for line in ["(gdb) ", "~\"5^done\"", "*stopped,reason=\"x\"", "=thread-created,id=\"1\"", "&\"a\"", ""] {
            assert_eq!(answer(line), None, "{line}");
        }
        assert!(answer("4^done").unwrap().done);
        assert!(answer("12^exit").unwrap().done);
    }

    #[test]
    fn values_are_numbers_of_either_sign() {
        assert_eq!(answer("5^done,value=\"1\"").unwrap().value(), Some(1));
        assert_eq!(answer("5^done,value=\"-1\"").unwrap().value(), Some(u64::MAX));
        assert_eq!(answer("5^done,value=\"140737488347136\"").unwrap().value(), Some(140_737_488_347_136));
        assert_eq!(answer("5^done,value=\"<optimized out>\"").unwrap().value(), None);
    }

    #[test]
    fn an_error_says_why() {
        let answer = answer("6^error,msg=\"ptrace: \\\"no\\\".\\nNot permitted.\"").unwrap();
        assert!(!answer.done);
        assert_eq!(answer.text("msg").unwrap(), "ptrace: \"no\".\nNot permitted.");
    }

    #[test]
    fn the_frame_that_called_is_found_where_others_have_no_name() {
        let list = "7^done,stack=[frame={level=\"0\",addr=\"0x7f\"},frame={level=\"1\",addr=\"0x7e\",func=\"malloc_trim\"},\
                    frame={level=\"2\",addr=\"0x7ffe\",func=\"<function called from gdb>\"},frame={level=\"3\",addr=\"0x1\",\
                    func=\"main\"}]";
        assert_eq!(answer(list).unwrap().dummy_frame(), Some(2));
        assert_eq!(answer("7^done,stack=[frame={level=\"0\",addr=\"0x7f\"}]").unwrap().dummy_frame(), None);
    }
}
