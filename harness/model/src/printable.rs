//! Text that others wrote (names of processes and threads, of functions, texts of traces and results) made fit to be
//! printed: nothing in it moves a cursor, forges a line, or turns the order of what is read.
//!
//! Source: ECMA-48 (control functions, of which C1 has one-byte forms), Unicode Standard Annex 9 (directional formatting;
//! "Trojan Source", CVE-2021-42574), proc_pid_comm(5): a name is bytes, of any encoding or none.

use std::borrow::Cow;

/// A name or a string of others as one line of text: controls and directional formatting become what JSON writes for
/// them (`\n`, `\u001b`), everything else stays.
pub fn printable(text: &str) -> Cow<'_, str> {
    harmless(text, |_| false)
}

/// Text of many lines and of many origins, as printed to a terminal: line ends and tabs stay, and so do colours (SGR,
/// `ESC [ … m`) when they are ours to give. What becomes of JSON here is JSON of the same meaning.
pub fn printable_lines(text: &str, colours: bool) -> Cow<'_, str> {
    let mut colour_ends = 0;
    let mut at = 0;
    harmless(text, |c| {
        if c == '\u{1b}' && colours {
            colour_ends = colour_ends.max(at + colour_length(&text[at..]));
        }
        let stays = matches!(c, '\n' | '\t') || at < colour_ends;
        at += c.len_utf8();
        stays
    })
}

/// Bytes that are to be text: what is not UTF-8 becomes `\xNN`, so that two names that differ stay different.
pub fn text_of(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// `stays` is asked for every character.
fn harmless(text: &str, mut stays: impl FnMut(char) -> bool) -> Cow<'_, str> {
    let mut kept: Vec<bool> = Vec::new();
    let mut clean = true;
    for c in text.chars() {
        let keep = stays(c) || !acts(c);
        clean &= keep;
        kept.push(keep);
    }
    if clean {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for (c, keep) in text.chars().zip(kept) {
        match c {
            _ if keep => out.push(c),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // All of them are in the basic plane: JSON's form is whole.
            c => out.push_str(&format!("\\u{:04x}", u32::from(c))),
        }
    }
    Cow::Owned(out)
}

/// Whether a character does something to a terminal, or to the order in which a line is read.
fn acts(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// Bytes of a sequence that sets colours, at the start of a text; 0 when it is another. Concealing (8) is none of ours.
fn colour_length(text: &str) -> usize {
    let Some(parameters) = text.strip_prefix("\u{1b}[") else { return 0 };
    let Some(end) = parameters.find(|c: char| !c.is_ascii_digit() && c != ';') else { return 0 };
    let conceals = parameters[..end].split(';').any(|parameter| parameter.trim_start_matches('0') == "8");
    let extended = parameters.starts_with("38;") || parameters.starts_with("48;");
    if parameters[end..].starts_with('m') && (!conceals || extended) { end + 3 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_is_shown_and_the_rest_stays() {
        for (text, shown) in [
            ("mariadbd", "mariadbd"),
            ("Käse 漢字 👩‍💻 é", "Käse 漢字 👩‍💻 é"),
            ("\u{1b}[2J\u{1b}]0;owned\u{7}x", "\\u001b[2J\\u001b]0;owned\\u0007x"),
            ("a\nfragbench: all is well\r\t", "a\\nfragbench: all is well\\r\\t"),
            ("\u{9b}31m\u{7f}\0", "\\u009b31m\\u007f\\u0000"),
            ("a\u{202e}b\u{2066}c\u{2028}", "a\\u202eb\\u2066c\\u2028"),
        ] {
            assert_eq!(printable(text), shown);
            assert_eq!(printable(&printable(text)), shown, "shown twice is shown once");
        }
    }

    #[test]
    fn lines_and_our_colours_stay() {
        let table = "head\n\u{1b}[38;5;10m1 MiB\u{1b}[39m\t\u{1b}[1mx\u{1b}[0m\n";
        assert_eq!(printable_lines(table, true), table);
        assert!(!printable_lines(table, false).contains('\u{1b}'));
        for hostile in
            ["\u{1b}[2J", "\u{1b}[8mhidden", "\u{1b}[1;8m", "\u{1b}]8;;http://x\u{7}", "\u{1b}[1", "\u{1b}", "\u{9b}1m"]
        {
            let shown = printable_lines(hostile, true);
            assert!(!shown.chars().any(acts), "{hostile:?} gave {shown:?}");
        }
    }

    #[test]
    fn json_stays_the_same_json() {
        let value = serde_json::json!({"name": "a\u{1b}[2J\n\u{9b}\u{202e}\u{7f}\"", "b\u{85}": [1]});
        let text = serde_json::to_string_pretty(&value).unwrap();
        let shown = printable_lines(&text, true);
        assert!(!shown.contains(['\u{9b}', '\u{202e}', '\u{7f}', '\u{85}', '\u{1b}']));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }

    #[test]
    fn names_are_bytes() {
        assert_eq!(text_of(b"caf\xe9 ok"), "caf\\xe9 ok");
        assert_eq!(text_of("fünfzehn-bytes-".as_bytes()), "fünfzehn-bytes-");
        // The kernel cuts a name after 15 bytes, in the middle of a letter too.
        assert_eq!(text_of(&"vierzehnzeichä".as_bytes()[..14]), "vierzehnzeich\\xc3");
        assert_ne!(text_of(b"\xe9"), text_of(b"\xe8"));
    }
}
